"""Photographs of parts with small defects, drawn here, and which method finds and shows them.

    python benchmarks/industrial.py --out docs/results/photographs/industrial.csv
    python benchmarks/industrial.py --methods pca,patch_knn --kinds scratch --seeds 1
    python benchmarks/industrial.py --out docs/results/photographs/industrial.csv --page docs/choose.md

Normal images are a woven texture, or a plate with four screws; no two are alike in phase, light and noise. The texture
lies in nearly the same place in each image, but for the kinds `any phase`. Kinds are parted by `;`. Defects are
scratches, blobs and turned pieces of the texture, and a missing or a moved screw of the plate. A row is one fit by the
method's configuration for a folder of images: AUROC of the images by its own score and by three reductions of its maps,
AUROC of pixels, AUPRO, CPU seconds, and the memory that the fit took beyond what the program has at its start. What is
there already is not run again. `--page` writes the means between two marks of a page.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

import adlightning as ad
from adlightning.benchmark.worker import reset_peak_memory
from adlightning.core.pixel_metrics import pixel_metrics

BEGIN, END = "<!-- industrial -->", "<!-- end of industrial -->"

SIZE = 128
N_TRAIN, N_TEST = 160, 40
"""Normal images to train on; normal and anomalous ones to test with, each."""

Drawn = tuple[NDArray[np.float64], NDArray[np.bool_]]
_Y, _X = np.mgrid[:SIZE, :SIZE] / SIZE


def weave(rng: np.random.Generator, anywhere: bool = False) -> NDArray[np.float64]:
    """A woven texture (SIZE, SIZE), with its own pitch, phase, light and noise; `anywhere` gives it any phase."""
    pitch, phase = rng.normal(0, 0.05, 2), rng.uniform(0, 2 * np.pi, 2) if anywhere else rng.normal(0, 0.1, 2)
    x: NDArray[np.float64] = 110 + 50 * np.sin(2 * np.pi * (6 + pitch[0]) * _X + phase[0])
    x = x + 40 * np.cos(2 * np.pi * (4 + pitch[1]) * _Y + phase[1]) + rng.normal(0, 15) * (_X - 0.5)
    return x + rng.normal(0, 8, x.shape)


def plate(rng: np.random.Generator, missing: int | None = None, moved: int | None = None) -> Drawn:
    """A plate with four screws, and where one is missing or moved."""
    x, where = 150 + rng.normal(0, 10) * (_Y - 0.5) + rng.normal(0, 6, (SIZE, SIZE)), np.zeros((SIZE, SIZE), dtype=bool)
    for i, (row, column) in enumerate([(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]):
        at = np.array([row, column]) + rng.normal(0, 0.004, 2)
        shift = rng.uniform(-1, 1, 2) * 0.02
        inside = np.hypot(_Y - at[0], _X - at[1]) < 0.07
        if i == moved:
            at = at + np.sign(shift) * 0.06
            where |= inside | (np.hypot(_Y - at[0], _X - at[1]) < 0.07)
            inside = np.hypot(_Y - at[0], _X - at[1]) < 0.07
        if i == missing:
            where |= inside
            continue
        x = np.where(inside, 70 + 30 * np.cos(40 * np.hypot(_Y - at[0], _X - at[1])) + rng.normal(0, 6, x.shape), x)
    return x, where


def scratched(rng: np.random.Generator, anywhere: bool = False) -> Drawn:
    """A texture with a bright line of one to two pixels, 12 to 30 long."""
    x, where = weave(rng, anywhere), np.zeros((SIZE, SIZE), dtype=bool)
    start, angle, length = rng.uniform(20, 100, 2), rng.uniform(0, np.pi), rng.uniform(12, 30)
    for step in np.linspace(0, length, 80):
        row, column = (start + step * np.array([np.sin(angle), np.cos(angle)])).astype(int)
        if 0 <= row < SIZE - 1 and 0 <= column < SIZE - 1:
            where[row : row + 2, column : column + 2] = True
    return np.where(where, x + 60, x), where


def turned(rng: np.random.Generator) -> Drawn:
    """A texture of which a disc of 7 to 11 pixels' radius is turned by a right angle: no value in it is odd."""
    center, radius = rng.uniform(24, 104, 2), rng.uniform(7, 11)
    where = np.hypot(_Y * SIZE - center[0], _X * SIZE - center[1]) < radius
    x, half = weave(rng), 12
    rows, columns = (slice(int(at) - half, int(at) + half) for at in center)
    patch = x[rows, columns].copy()
    x[rows, columns] = np.where(where[rows, columns], np.rot90(patch), patch)
    return x, where


def blotted(rng: np.random.Generator, anywhere: bool = False) -> Drawn:
    """A texture with a stain that dims a disc of 3 to 7 pixels' radius by a third."""
    center, radius = rng.uniform(20, 108, 2), rng.uniform(3, 7)
    where = np.hypot(_Y * SIZE - center[0], _X * SIZE - center[1]) < radius
    x = weave(rng, anywhere)
    return np.where(where, 0.65 * x, x), where


KINDS: dict[
    str, tuple[Callable[[np.random.Generator], NDArray[np.float64]], Callable[[np.random.Generator], Drawn]]
] = {
    "scratch": (weave, scratched),
    "blob": (weave, blotted),
    "turned": (weave, turned),
    "missing": (lambda rng: plate(rng)[0], lambda rng: plate(rng, missing=int(rng.integers(4)))),
    "moved": (lambda rng: plate(rng)[0], lambda rng: plate(rng, moved=int(rng.integers(4)))),
    "scratch, any phase": (lambda rng: weave(rng, True), lambda rng: scratched(rng, True)),
    "blob, any phase": (lambda rng: weave(rng, True), lambda rng: blotted(rng, True)),
}
"""By the defect: what draws a normal image, and what draws one with the defect."""

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "nearest_neighbor": ("nearest_neighbor/folder", {}),
    "kde": ("kde/folder", {}),
    "pca": ("pca/folder", {}),
    "patch_knn": ("patch_knn/folder", {}),
    "patch_knn_untrained": (
        "patch_knn/folder",
        {
            "model.features.class_path": "BackbonePatches",
            "model.features.init_args": {"name": "resnet18", "layers": ["layer1", "layer2"], "weights": None},
        },
    ),
    "autoencoder": ("autoencoder/folder", {"trainer.max_epochs": 50}),  # a third of its epochs, which take ten minutes
    "deep_svdd": ("deep_svdd/folder", {"trainer.max_epochs": 100, "model.pretraining.epochs": 50}),  # of these too
    "fcdd": ("fcdd/folder", {}),
    "fcdd_alone": ("fcdd/folder", {"data.synthetic_anomalies": None}),
}
"""By name: an experiment, and what is set otherwise."""

REDUCTIONS: dict[str, ad.Reduction] = {
    "mean": ad.MeanOfMap(),
    "maximum": ad.MaximumOfMap(),
    "top_share": ad.TopShare(),
}

COLUMNS = ("kind", "method", "seed", "auroc", *REDUCTIONS, "pixel_auroc", "aupro", "cpu_seconds", "memory_mb")


def as_images(drawn: list[NDArray[np.float64]]) -> NDArray[np.uint8]:
    """Images (N, 1, SIZE, SIZE), uint8."""
    return np.stack(drawn).clip(0, 255).astype(np.uint8)[:, None]


def measure(kind: str, method: str, seed: int) -> dict[str, Any]:
    """A row: one fit and its test."""
    rng, (normal, defect) = np.random.default_rng(seed), KINDS[kind]
    train, good = ([normal(rng) for _ in range(n)] for n in (N_TRAIN, N_TEST))
    bad = [defect(rng) for _ in range(N_TEST)]
    test, labels = as_images([*good, *(image for image, _ in bad)]), [0] * N_TEST + [1] * N_TEST
    masks = np.concatenate([np.zeros((N_TEST, SIZE, SIZE), dtype=bool), np.stack([where for _, where in bad])])
    name, overrides = METHODS[method]
    with TemporaryDirectory() as folder:
        write(Path(folder, "train/normal"), as_images(train))
        write(Path(folder, "test/normal"), test[:N_TEST])
        write(Path(folder, "test/anomaly"), test[N_TEST:])
        experiment = ad.experiment(name, overrides | {"data.root": folder})
        reset_peak_memory()
        before, began = peak_mb(), time.process_time()
        epochs = experiment.trainer["max_epochs"]
        run = ad.fit(experiment.detector, experiment.data, epochs, seed=seed, progress=False)
    row: dict[str, Any] = {"kind": kind, "method": method, "seed": seed, "auroc": run.metrics["auroc"]}
    row |= {"cpu_seconds": round(time.process_time() - began, 1), "memory_mb": round(peak_mb() - before)}
    if run.detector.gives_maps:
        maps = run.detector.heatmaps(test)
        row |= {name: roc_auc_score(labels, each.reduce(torch.from_numpy(maps))) for name, each in REDUCTIONS.items()}
        row |= pixel_metrics(maps, masks)
    values = [row.get(key, "") for key in COLUMNS]
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in zip(COLUMNS, values, strict=True)}


def write(folder: Path, images: NDArray[np.uint8]) -> None:
    """Images as PNG files."""
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{i:03d}.png")


def peak_mb() -> float:
    """Most memory that this process held since :func:`reset_peak_memory`, MiB; only Linux says so."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def page(rows: list[dict[str, Any]]) -> str:
    """The means of all seeds as Markdown."""
    frame = pd.DataFrame(rows).replace("", np.nan)
    frame = frame.astype({name: float for name in COLUMNS if name not in ("kind", "method")})
    kinds, lines = list(KINDS), []
    lines.append("| method | " + " | ".join(kinds) + " | least | pixel AUROC | AUPRO | CPU s | MiB | seeds |")
    lines.append("| --- " * (len(kinds) + 7) + "|")
    for method in METHODS:
        own = frame[frame.method == method]
        for score in ("auroc", *REDUCTIONS):
            if own.empty or own[score].isna().all():
                continue
            means = own.groupby("kind")[score].mean().reindex(kinds)
            words = [method, *(f"{100 * value:.1f}" if value == value else "" for value in [*means, means.min()])]
            if score == "auroc":
                others = [own[name].mean() for name in ("pixel_auroc", "aupro")]
                words += [f"{100 * value:.1f}" if value == value else "" for value in others]
                words += [f"{own[name].mean():.3g}" for name in ("cpu_seconds", "memory_mb")]
                words.append(str(own.groupby("kind").seed.nunique().min()))
            else:
                words[0] += f", {score.replace('_', ' ')} of its map"
                words += [""] * 5
            lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, and write rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="CSV of rows; what it has is not run again")
    parser.add_argument("--kinds", default=";".join(KINDS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="page between whose marks the means are written; nothing is run")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if given.out and given.out.exists():
        with given.out.open(newline="") as file:
            rows = list(csv.DictReader(file))
    if given.page:
        text = given.page.read_text(encoding="utf-8")
        (head, _, rest), (_, _, tail) = text.partition(BEGIN), text.partition(END)
        assert rest
        given.page.write_text(f"{head}{BEGIN}\n{page(rows)}\n{END}{tail}", encoding="utf-8")
        return
    done = {(row["kind"], row["method"], str(row["seed"])) for row in rows}
    for seed in range(given.seeds):
        for kind in given.kinds.split(";"):
            for method in given.methods.split(","):
                if (kind, method, str(seed)) in done:
                    continue
                with get_context("fork").Pool(1) as pool:  # what one fit holds is not counted for the next
                    rows.append(pool.apply(measure, (kind, method, seed)))
                print(*rows[-1].values(), flush=True)
                if given.out:
                    with given.out.open("w", newline="") as file:
                        writer = csv.DictWriter(file, COLUMNS)
                        writer.writeheader()
                        writer.writerows(rows)


if __name__ == "__main__":
    main()
