"""Small scratches in large images: resized, in tiles, and as they are.

    python benchmarks/tiles.py --out docs/results/photographs/tiles.csv

Images of a woven texture, 512 x 512, drawn here; scratches are of one to two pixels, 12 to 30 long. They lie in a
folder of MVTec AD's layout, with masks. A row is one fit of PatchKNN and its test: AUROC of the images, AUROC of the
pixels and AUPRO at the size of the masks, and CPU seconds.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import adlightning as ad

SIZE = 512
N_TRAIN, N_TEST = 40, 15
"""Good images to train on; good and scratched ones to test with, each."""

HOW: dict[str, dict[str, Any]] = {
    "resized to 128": {"resize": 128},
    "resized to 256": {"resize": 256},
    "tiles of 128": {"tile": 128, "overlap": 16},
    "whole": {"resize": None},
}
"""By name: arguments of the datamodule."""

COLUMNS = ("images", "seed", "auroc", "pixel_auroc", "aupro", "cpu_seconds")
_Y, _X = np.mgrid[:SIZE, :SIZE] / SIZE


def weave(rng: np.random.Generator) -> NDArray[np.float64]:
    """A woven texture (SIZE, SIZE), with its own pitch, phase, light and noise."""
    pitch, phase = rng.normal(0, 0.05, 2), rng.normal(0, 0.1, 2)
    x: NDArray[np.float64] = 110 + 50 * np.sin(2 * np.pi * (24 + pitch[0]) * _X + phase[0])
    x = x + 40 * np.cos(2 * np.pi * (16 + pitch[1]) * _Y + phase[1]) + rng.normal(0, 15) * (_X - 0.5)
    return x + rng.normal(0, 8, x.shape)


def scratch(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Where a bright line lies, (SIZE, SIZE)."""
    where = np.zeros((SIZE, SIZE), dtype=bool)
    start, angle, length = rng.uniform(40, SIZE - 40, 2), rng.uniform(0, np.pi), rng.uniform(12, 30)
    for step in np.linspace(0, length, 80):
        row, column = (start + step * np.array([np.sin(angle), np.cos(angle)])).astype(int)
        where[row : row + 2, column : column + 2] = True
    return where


def draw(root: Path, seed: int) -> None:
    """Write the folder."""
    rng = np.random.default_rng(seed)

    def save(x: NDArray[Any], name: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.clip(0, 255).astype(np.uint8)).save(root / name)

    for i in range(N_TRAIN):
        save(weave(rng), f"train/good/{i:03}.png")
    for i in range(N_TEST):
        save(weave(rng), f"test/good/{i:03}.png")
        where = scratch(rng)
        save(np.where(where, 60, 0) + weave(rng), f"test/scratch/{i:03}.png")
        save(where * 255, f"ground_truth/scratch/{i:03}_mask.png")


def measure(root: Path, how: str, seed: int) -> dict[str, Any]:
    """A row: one fit and its test."""
    began = time.process_time()
    run = ad.fit(ad.PatchKNN(), ad.MVTecLayout(str(root), **HOW[how]), 1, seed=seed, progress=False)
    test = run.report["test_sets"]["test"]
    values = {"auroc": run.metrics["auroc"], **test["pixel_metrics"]}
    rounded = {name: round(values[name], 4) for name in ("auroc", "pixel_auroc", "aupro")}
    return {"images": how, "seed": seed, **rounded, "cpu_seconds": round(time.process_time() - began, 1)}


def main() -> None:
    """Measure, and write rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="CSV of rows, written anew")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as folder:
                draw(Path(folder), seed)
                for how in HOW:
                    row = measure(Path(folder), how, seed)
                    writer.writerow(row)
                    file.flush()
                    print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
