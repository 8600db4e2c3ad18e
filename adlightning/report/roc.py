"""ROC curves averaged over the classes of a table: ADGAN, Figure 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adlightning.published import dataset_heading
from adlightning.report.compare import Comparison
from adlightning.report.drawing import COLOURS, Picture, draw

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = np.linspace(0, 1, 501)
"""False positive rates at which curves are averaged."""
_DASHES = ("-", "--", ":")
_MANY = 6  # methods in a panel: bands of more would hide each other


class RunCurve(NamedTuple):
    """True positive rates (len(GRID),) of a run, and the area under its whole curve."""

    rates: NDArray[np.float64]
    area: float


def curve_of(scores: ArrayLike, labels: ArrayLike) -> RunCurve:
    """One run's curve: straight between its points, and where it rises at one rate, at its top there.

    Args:
        scores: finite, (N,).
        labels: 0 normal, 1 anomaly, (N,), both of them there.
    """
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(labels, scores)
    return RunCurve(np.interp(GRID, fpr, tpr), float(np.trapezoid(tpr, fpr)))


def averaged_roc(comparison: Comparison) -> Picture | None:
    """Mean over the normal classes of their ROC curves with a band of one standard deviation, where there are scores.

    Vertical: at each false positive rate the true positive rates are averaged. A class with several runs counts once,
    by the mean of their curves. A panel a data set and setting.

    Raises:
        ValueError: a file of scores that cannot be read.
    """
    layout, runs = comparison.layout, comparison.runs
    if "scores" not in runs:
        return None
    runs = runs[(runs["status"] == "done") & (runs["scores"] != "")]
    curves = {i: curve for i, run in runs.iterrows() if (curve := _read(run)) is not None}
    if not curves:
        return None
    runs = runs.loc[list(curves)]
    panels = [(row.dataset, row.setting or "") for row in (layout.rows[i] for i in runs["row"])]
    shown = [key for key in dict.fromkeys((row.dataset, row.setting or "") for row in layout.rows) if key in panels]
    columns = [j for j in range(len(layout.columns)) if (runs["column"] == j).any()]

    def paint(figure: Figure, axes: list[Axes]) -> None:
        for panel, key in zip(axes, shown, strict=False):
            here = runs[[own == key for own in panels]]
            panel.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
            for number, j in enumerate(columns):
                of_column = here[here["column"] == j]
                if len(of_column):
                    groups = [[curves[i] for i in group.index] for _, group in of_column.groupby("normal")]
                    _line(panel, groups, layout.columns[j].heading, number, len(columns) <= _MANY)
            panel.set(xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
            panel.set_title(" ".join([dataset_heading(key[0]), *key[1].split(";")]).strip())
            panel.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8)
            panel.set(xlabel="false positive rate", ylabel="true positive rate")
        for panel in axes[len(shown) :]:
            panel.set_visible(False)

    n_columns = min(2, len(shown))
    n_rows = -(-len(shown) // n_columns)
    caption = f"ROC curves, averaged over {_counted(runs)} at each false positive rate"
    caption += ", beside the mean AUROC in %"
    caption += "; bands: one standard deviation between classes." if len(columns) <= _MANY else "."
    size = (6.6 * n_columns, 3.6 * n_rows + 0.6)
    png = draw(size, (n_rows, n_columns), f"{layout.heading}: ROC", paint)
    return Picture(f"{layout.id}_roc", caption, png)


def _line(panel: Axes, classes: list[list[RunCurve]], heading: str, number: int, banded: bool) -> None:
    """The mean over classes of the means over their runs, from the corner on; between it and one deviation a band."""
    rates = np.stack([np.mean([run.rates for run in runs], axis=0) for runs in classes])
    area = np.mean([np.mean([run.area for run in runs]) for runs in classes])
    mean, colour = rates.mean(axis=0), COLOURS[number % len(COLOURS)]
    dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
    label = f"{heading}: {100 * area:.1f}"
    panel.plot([0, *GRID], [0, *mean], color=colour, linestyle=dashes, linewidth=1.5, label=label, clip_on=False)
    if banded and len(rates) > 1:
        std = rates.std(axis=0, ddof=1)
        low, high = (mean - std).clip(0, 1), (mean + std).clip(0, 1)
        panel.fill_between(GRID, low, high, color=colour, alpha=0.1, linewidth=0)


def _read(run: pd.Series) -> RunCurve | None:
    """A run's curve; None where its file is gone, or its scores have none."""
    import pandas as pd

    path = Path(str(run["scores"]))
    if not path.is_file():
        return None
    try:
        scored = pd.read_csv(path, usecols=["label", "score", "test_set"])
        scored = scored[scored["label"].notna()]
        if run["test_set"]:
            scored = scored[scored["test_set"].astype(str) == run["test_set"]]
        scores, labels = scored["score"].to_numpy(np.float64), scored["label"].to_numpy(np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(f"results: {path} cannot be read: {error}") from error
    if not np.isfinite(scores).all() or set(labels.tolist()) != {0, 1}:
        return None
    return curve_of(scores, labels)


def _counted(runs: pd.DataFrame) -> str:
    n = runs["normal"].nunique()
    return f"{n} normal classes" if n > 1 else f"{len(runs)} runs" if len(runs) > 1 else "one run"
