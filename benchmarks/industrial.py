"""Photographs of parts with small defects, drawn here, and which method finds and shows them.

    python benchmarks/industrial.py --out docs/results/industrial.csv
    python benchmarks/industrial.py --methods pca_max,patch_knn --kinds scratch --seeds 1

Normal images are a woven texture, or a plate with four screws; no two are alike in phase, light and noise. Defects are
scratches and blobs of the texture, and a missing or a moved screw of the plate. A row is one fit: AUROC of the images,
AUROC of the pixels of anomalous ones where the method has maps, seconds. What is there already is not run again.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import adlightning as ad

SIZE = 128
N_TRAIN, N_TEST = 160, 40
"""Normal images to train on; normal and anomalous ones to test with, each."""

Drawn = tuple[NDArray[np.float64], NDArray[np.bool_]]
_Y, _X = np.mgrid[:SIZE, :SIZE] / SIZE


def weave(rng: np.random.Generator) -> NDArray[np.float64]:
    """A woven texture (SIZE, SIZE), with its own pitch, phase, light and noise."""
    pitch, phase = rng.normal(0, 0.05, 2), rng.normal(0, 0.1, 2)
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


def scratched(rng: np.random.Generator) -> Drawn:
    """A texture with a bright line of one to two pixels, 12 to 30 long."""
    x, where = weave(rng), np.zeros((SIZE, SIZE), dtype=bool)
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


def blotted(rng: np.random.Generator) -> Drawn:
    """A texture with a stain that dims a disc of 3 to 7 pixels' radius by a third."""
    center, radius = rng.uniform(20, 108, 2), rng.uniform(3, 7)
    where = np.hypot(_Y * SIZE - center[0], _X * SIZE - center[1]) < radius
    x = weave(rng)
    return np.where(where, 0.65 * x, x), where


KINDS: dict[
    str, tuple[Callable[[np.random.Generator], NDArray[np.float64]], Callable[[np.random.Generator], Drawn]]
] = {
    "scratch": (weave, scratched),
    "blob": (weave, blotted),
    "turned": (weave, turned),
    "missing": (lambda rng: plate(rng)[0], lambda rng: plate(rng, missing=int(rng.integers(4)))),
    "moved": (lambda rng: plate(rng)[0], lambda rng: plate(rng, moved=int(rng.integers(4)))),
}
"""By the defect: what draws a normal image, and what draws one with the defect."""

METHODS: dict[str, tuple[Callable[[], ad.AnomalyDetector], int]] = {
    "nearest_neighbor": (ad.NearestNeighbor, 1),
    "pca": (ad.PCA, 1),
    "pca_max": (partial(ad.PCA, reduction=ad.MaximumOfMap()), 1),
    "pca_top": (partial(ad.PCA, reduction=ad.TopShare(0.01)), 1),
    "patch_knn": (ad.PatchKNN, 1),
    "autoencoder": (ad.Autoencoder, 60),
    "deep_svdd": (ad.DeepSVDD, 60),
    "kde": (ad.KDE, 1),
}
"""By name: what makes the detector, and its epochs."""

COLUMNS = ("kind", "method", "seed", "auroc", "pixel_auroc", "seconds")


def as_images(drawn: list[NDArray[np.float64]]) -> NDArray[np.uint8]:
    """Images (N, 1, SIZE, SIZE), uint8."""
    return np.stack(drawn).clip(0, 255).astype(np.uint8)[:, None]


def measure(kind: str, method: str, seed: int) -> dict[str, Any]:
    """A row: one fit and its test."""
    rng, (normal, defect) = np.random.default_rng(seed), KINDS[kind]
    train, good = ([normal(rng) for _ in range(n)] for n in (N_TRAIN, N_TEST))
    bad = [defect(rng) for _ in range(N_TEST)]
    test = as_images([*good, *(image for image, _ in bad)])
    data = ad.Arrays(as_images(train), test, [0] * N_TEST + [1] * N_TEST, batch_size=32)
    make, epochs = METHODS[method]
    began = time.perf_counter()
    run = ad.fit(make(), data, epochs, seed=seed, progress=False)
    row = {"kind": kind, "method": method, "seed": seed, "auroc": round(run.metrics["auroc"], 4), "pixel_auroc": ""}
    if run.detector.gives_maps:
        maps, where = run.detector.heatmaps(test[N_TEST:]), np.stack([where for _, where in bad])
        row["pixel_auroc"] = round(float(roc_auc_score(where.ravel(), maps.ravel())), 4)
    return row | {"seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    """Run what is missing, and write rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="CSV of rows; what it has is not run again")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if given.out and given.out.exists():
        with given.out.open(newline="") as file:
            rows = list(csv.DictReader(file))
    done = {(row["kind"], row["method"], str(row["seed"])) for row in rows}
    for seed in range(given.seeds):
        for kind in given.kinds.split(","):
            for method in given.methods.split(","):
                if (kind, method, str(seed)) in done:
                    continue
                rows.append(measure(kind, method, seed))
                print(*rows[-1].values(), flush=True)
                if given.out:
                    with given.out.open("w", newline="") as file:
                        writer = csv.DictWriter(file, COLUMNS)
                        writer.writeheader()
                        writer.writerows(rows)


if __name__ == "__main__":
    main()
