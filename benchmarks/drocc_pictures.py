"""DROCC's Figures 2 and 4: what is normal, what is not and what is close, of MNIST's half zeros and of the sphere.

    python benchmarks/drocc_pictures.py half_zeros docs/results/drocc_figure2.png
    python benchmarks/drocc_pictures.py sphere docs/results/drocc_figure4.png

Figure 1a, negatives around the sine wave, is `plots/negatives.png` of a fit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from adlightning.callbacks.plots import COLOURS, ShownImage, image_rows, titled_figure
from adlightning.data.limited_negatives import LimitedNegatives, MaskedNormals
from adlightning.data.sources import MNIST, Sphere
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

_SHOWN = 10


def half_zeros(path: Path, root: str = "data") -> Path:
    """Figure 2: test zeros, test ones, and zeros with half of their pixels black, ten of each."""
    masked = MaskedNormals()
    data = LimitedNegatives(MNIST(root=root), masked, normal_class=0, far_classes=[1], seed=0)
    data.setup("test")
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    index, labels = data.split.test, data.split.test_labels
    close = index >= data.n_official_test
    kinds = {
        "positives: zeros": (COLOURS[NORMAL], labels == NORMAL),
        "negatives: ones": (COLOURS[ANOMALY], (labels == ANOMALY) & ~close),
        "close negatives: half zeros": (COLOURS[NO_LABEL], close),
    }
    rows = []
    for colour, of_kind in kinds.values():
        images = x[torch.from_numpy(index[of_kind][:_SHOWN])].numpy()
        rows.append([ShownImage(image, "", colour) for image in images])
    title = "Limited negatives on MNIST: half zeros are met in the test alone"
    return image_rows(path, rows, {words: colour for words, (colour, _) in kinds.items()}, title)


def sphere(path: Path, radius: float = 1.2) -> Path:
    """Figure 4: normal points within the unit ball (a), anomalies on a sphere around it (b)."""
    samples = Sphere(radius=radius, n_test=512).load("test")
    assert isinstance(samples.x, Tensor)
    points, labels = samples.x.numpy(), samples.y
    title = f"Normal points within the unit ball; anomalies on the sphere of radius {radius:g}"
    with titled_figure(path, (10, 5), title) as figure:
        for number, shown in enumerate(([NORMAL], [NORMAL, ANOMALY]), 1):
            axes = figure.add_subplot(1, 2, number, projection="3d")
            for label in shown:
                words = "normal" if label == NORMAL else "anomaly"
                x, y, z = points[labels == label].T
                axes.scatter(x, y, z, s=6, color=COLOURS[label], label=words)
            axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1), zticks=(-1, 0, 1), aspect="equal")
            axes.legend(loc="upper left")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", choices=("half_zeros", "sphere"))
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    draw = half_zeros if arguments.figure == "half_zeros" else sphere
    print(draw(arguments.path))
