"""The page of a sweep: its trials, the best so far, and which option mattered."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from adlightning.report.drawing import Picture, draw
from adlightning.report.grid import Entry, Grid, Line
from adlightning.report.page import Section, html_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna.study import Study
    from optuna.trial import FrozenTrial

WORDS = {"COMPLETE": "done", "PRUNED": "stopped early", "FAIL": "failed"}
"""How a trial ended, by Optuna's names."""

_BLUE, _GREY, _RED = "#4477AA", "#999999", "#CC3311"


def sweep_page(
    study: Study, trials: Sequence[FrozenTrial], best: FrozenTrial | None, metric: str, facts: list[tuple[str, str]]
) -> str:
    """One HTML page that needs nothing beside itself.

    Args:
        study: Optuna's, for the importance.
        trials: that ended.
        best: of them.
        metric: what it is best by.
        facts: name and text, for the head of the page.
    """
    options = list(dict.fromkeys(key for trial in trials for key in trial.params))
    lines = []
    for trial in trials:
        shown = [
            _number(trial.value) + _steps(trial),
            f"{trial.duration.total_seconds():.1f}" if trial.duration else "",
        ]
        shown += [_number(trial.params.get(key)) for key in options]
        entries = tuple(Entry(text, bold=trial is best) for text in shown)
        what = trial.user_attrs.get("error", WORDS[trial.state.name])
        lines.append(Line("", (Entry(str(trial.number)), Entry(what[:60])), entries))
    headings = tuple(map(Entry, (metric, "seconds", *options)))
    remark = f"{metric} of a trial is its best epoch's, on held-out training samples; in brackets after how many values"
    remarks = (f"{remark} a trial was stopped.", "No trial looked at test data.")
    grid = Grid("trials", "Trials", "", ("trial", ""), headings, tuple(lines), remarks=remarks)
    pictures = [_history(trials, best, metric), *filter(None, [_importance(study, metric)])]
    return html_page(f"Sweep: {dict(facts)['sweep']}", facts, [Section(grid, [], pictures)] if lines else [])


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _steps(trial: FrozenTrial) -> str:
    return f" ({trial.last_step})" if trial.state.name == "PRUNED" else ""


def _history(trials: Sequence[FrozenTrial], best: FrozenTrial | None, metric: str) -> Picture:
    def paint(figure: Figure, axes: list[Axes]) -> None:
        (panel,) = axes
        for name, colour, marker in (("COMPLETE", _BLUE, "o"), ("PRUNED", _GREY, "x")):
            if of := [trial for trial in trials if trial.state.name == name and trial.value is not None]:
                y = [cast(float, trial.value) for trial in of]
                panel.scatter([trial.number for trial in of], y, color=colour, marker=marker, label=WORDS[name])
        if best is not None:
            ring: dict[str, Any] = {"s": 120, "facecolors": "none", "edgecolors": _RED, "label": "best"}
            panel.scatter([best.number], [cast(float, best.value)], **ring)
        panel.set(xlabel="trial", ylabel=metric)
        panel.locator_params(axis="x", integer=True)
        figure.legend(loc="outside lower center", ncols=3)

    caption = f"{metric} of each trial in order; those stopped early with what they had reached."
    return Picture("history", caption, draw((7.4, 3.8), (1, 1), "History", paint))


def _importance(study: Study, metric: str) -> Picture | None:
    """Which options explain the differences among finished trials; None with too few, or none that differ."""
    import optuna

    try:
        with warnings.catch_warnings(action="ignore"):
            found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):
        return None
    if not found:
        return None

    def paint(figure: Figure, axes: list[Axes]) -> None:
        (panel,) = axes
        panel.barh(list(found)[::-1], list(found.values())[::-1], color=_BLUE)
        panel.set(xlabel="share", xlim=(0, 1))

    how = "PED-ANOVA (Watanabe et al. 2023), over trials that were done. With few trials it says little."
    png = draw((7.4, 1.2 + 0.45 * len(found)), (1, 1), f"Importance for {metric}", paint)
    return Picture("importance", f"Share of each option in what tells good trials from others: {how}", png)
