"""Deep SAD's Figure 1 (Ruff et al. 2020): training data and the decisions of five paradigms on them, as one picture.

    python benchmarks/deep_sad_figure1.py                    # runs/deep_sad_figure1, docs/results/deep_sad_figure1.png

Each panel is an ordinary fit of `configs/METHOD/paradigms.yaml`. One that is in the folder already is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from adlightning.__main__ import main as adlightning
from adlightning.callbacks.plots import titled_figure
from adlightning.checkpoints.loading import load_detector
from adlightning.core.metrics import ranking_metrics
from adlightning.core.scoring import score_batches
from adlightning.data.sources import Paradigms, Samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
PANELS = {
    "ocsvm": "(b) unsupervised: OC-SVM",
    "svm": "(c) supervised classifier: SVM",
    "ss_dgm": "(d) semi-supervised classifier: SS-DGM",
    "biased_svm": "(e) semi-supervised LPUE: biased SVM",
    "deep_sad": "(f) semi-supervised AD: Deep SAD",
}
COLOURS = {"unlabelled": "#8C8C8C", "normal": "#0072B2", "known": "#E69F00", "novel": "#CC3311"}  # after the paper's
WORDS = {
    "unlabelled": "unlabelled",
    "normal": "known normal, normal at test",
    "known": "known anomaly, of the known kind at test",
    "novel": "novel anomaly",
}
LIMITS = (-2.0, 2.0)


def main() -> None:
    """Fit what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/deep_sad_figure1", help="folder of the fits")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/deep_sad_figure1.png", help="the picture")
    options = parser.parse_args()
    detectors = {method: fitted(method, options.runs / method) for method in PANELS}
    train, test = Paradigms().load("train"), Paradigms().load("test")
    with titled_figure(options.out, (11.0, 8.0), "Deep SAD, Figure 1: paradigms and novel anomalies") as figure:
        panels = figure.subplots(2, 3).flatten()
        handles = draw_points(panels[0], train)
        panels[0].set_title("(a) training data")
        for panel, (method, title) in zip(panels[1:], PANELS.items(), strict=True):
            draw_plane(panel, detectors[method])
            draw_points(panel, test)
            panel.set_title(f"{title}\n{areas(detectors[method], test)}")
        for panel in panels:
            panel.set(xlim=LIMITS, ylim=LIMITS, xticks=[], yticks=[], aspect="equal")
        shown = {**handles, "novel": panels[1].collections[-1]}
        figure.legend(list(shown.values()), [WORDS[kind] for kind in shown], loc="outside lower center", ncols=4)
    reduce_colours(options.out)


def reduce_colours(picture: Path) -> None:
    """A quarter of the bytes: planes of smooth colours are large, and the repository keeps the picture."""
    with Image.open(picture) as opened:
        reduced = opened.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    reduced.save(picture, optimize=True)


def fitted(method: str, folder: Path) -> Any:
    """The detector of a config's fit, which is run where its folder is not there."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if not checkpoint.exists():
        config = ROOT / "configs" / method / "paradigms.yaml"
        code = adlightning(["fit", "--config", str(config), "--run_dir", str(folder)])
        if code:
            raise SystemExit(code)
    return load_detector(checkpoint)


def kinds(samples: Samples) -> NDArray[np.str_]:
    """What each sample is, by its name."""
    return np.array([name.split("/")[1] for name in samples.names])


def areas(detector: Any, test: Samples) -> str:
    """AUROC of normals against each kind of test anomaly, in words."""
    assert isinstance(test.x, torch.Tensor)
    scores, of = score_batches(detector, test.x.split(1000)), kinds(test)
    found = []
    for kind in ("known", "novel"):
        rows = (of == "normal") | (of == kind)
        found.append(f"{kind} {100 * ranking_metrics(scores[rows], test.y[rows])['auroc']:.1f}")
    return f"AUROC: {', '.join(found)}"


def draw_plane(panel: Axes, detector: Any) -> None:
    """Scores, by rank, in shades of blue to red, and the threshold."""
    ticks = np.linspace(*LIMITS, 200)
    points = torch.from_numpy(np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2).astype(np.float32))
    scores = score_batches(detector, points.split(10_000)).reshape(len(ticks), len(ticks))
    threshold = float(detector.threshold)
    ranks = np.searchsorted(np.sort(scores, axis=None), scores) / scores.size
    panel.imshow(ranks, origin="lower", extent=(*LIMITS, *LIMITS), cmap="RdBu_r", alpha=0.6, interpolation="bilinear")
    if scores.min() < threshold < scores.max():
        panel.contour(ticks, ticks, scores, levels=[threshold], colors="black", linewidths=1.6, linestyles="solid")


def draw_points(panel: Axes, samples: Samples) -> dict[str, Any]:
    """Samples in the colour of their kind; what the legend shows of them."""
    of, x = kinds(samples), np.asarray(samples.x)
    handles = {}
    for kind, colour in COLOURS.items():
        if (rows := of == kind).any():
            size = 10 if kind == "unlabelled" or rows.sum() > 50 else 34
            style: dict[str, Any] = {"s": size, "color": colour, "edgecolors": "black", "linewidths": 0.4}
            handles[kind] = panel.scatter(x[rows, 0], x[rows, 1], **style)
    return handles


if __name__ == "__main__":
    main()
