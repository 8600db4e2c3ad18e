"""Rows as the report reads them; and rows made up around the published values, for the other tests of the report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from adlightning.published import AVERAGE, layout, metrics, published
from adlightning.report.runs import runs_frame, setting_values

Row = dict[str, Any]
CLASSIC = "gamma_l=0.01;gamma_p=0;k_l=1"


def row(**changes: Any) -> Row:
    """A finished run of Deep SAD on cardio; `value` is its AUROC."""
    base: Row = {
        **{"key": "k", "status": "done", "error": "", "paper": "deep_sad", "table": "6", "dataset": "cardio"},
        **{"setting": CLASSIC, "normal": "", "labelled": "", "method": "deep_sad", "variant": "", "seed": 0},
        **{"metrics": {"auroc": changes.pop("value", 0.9)}, "selection": "none", "protocol": "clean"},
        **{"seconds": {"fit": 2.0, "test": 0.5, "total": 3.0}, "peak_memory_mb": 100.0, "n_train": 10, "n_test": 5},
        **{"code": "abcd", "device": "cpu", "finished": "2030-01-01T00:00:00"},
    }
    return base | changes


def rows_like(name: str, seeds: int = 3, classes: int = 2, noise: float = 0.01) -> list[Row]:
    """Runs of every cell of a published table around its mean; those of an average over classes for a few of them."""
    rng = np.random.default_rng(0)
    table, rows = layout(name), []
    pools = {r.normal for r in table.rows} == {AVERAGE}
    for cell in published(table.paper, table.table).to_dict("records"):
        if cell["normal"] == AVERAGE and not pools:
            continue
        column = next(c for c in table.columns if c.takes(str(cell["method"]), str(cell["variant"])))
        place = {str(key): cell[key] for key in ("paper", "table", "dataset", "setting", "method")}
        measured = metrics()[str(cell["metric"])].measured.removeprefix("metrics.")
        for normal in [str(n) for n in range(classes)] if pools else [str(cell["normal"])]:
            for seed in range(seeds):
                for number, variant in enumerate(column.best_of or [str(cell["variant"])]):
                    value = float(np.clip(cell["mean"] + rng.normal(0, noise) - 0.01 * number, 0, 1))
                    own = {"variant": variant, "normal": normal, "seed": seed, "metrics": {measured: value}}
                    rows.append(row(**place) | own)
    return rows


def test_nested_values_become_columns() -> None:
    frame = runs_frame([row(value=0.8)])
    assert frame.loc[0, "metrics.auroc"] == 0.8
    assert frame.loc[0, "seconds.fit"] == 2.0
    assert frame.loc[0, "peak_memory_mb"] == 100.0


def test_numbers_from_a_csv_are_text_and_may_be_missing() -> None:
    frame = runs_frame([row(seed="4", peak_memory_mb="", metrics={"auroc": "0.5"}), row(seed=1)])
    first = frame[frame["seed"] == 4].iloc[0]
    assert first["metrics.auroc"] == 0.5
    assert math.isnan(first["peak_memory_mb"])


def test_a_run_done_twice_counts_once_and_the_latest_is_kept() -> None:
    old, new = row(value=0.1, finished="2030-01-01", code="old"), row(value=0.2, finished="2030-01-02", code="new")
    frame = runs_frame([new, old, row(value=0.3, seed=1)])
    assert frame["metrics.auroc"].tolist() == [0.2, 0.3]
    assert frame["older"].tolist() == [1, 0]


def test_a_failure_that_was_repeated_is_forgotten() -> None:
    failed = row(status="failed", error="boom", metrics={}, selection="", protocol="", finished="2030-01-09")
    assert runs_frame([failed, row()])["status"].tolist() == ["done"]
    assert runs_frame([failed])["status"].tolist() == ["failed"]


def test_runs_chosen_in_another_way_are_other_runs() -> None:
    assert len(runs_frame([row(), row(selection="val")])) == 2


def test_control_characters_of_messages_and_labels_are_spaces() -> None:
    label = "a\x1b[1;31mred\x1b]\x00b\x9bc\u202ed\ud800"
    frame = runs_frame([row(status="failed", error="one\r\n\ttwo\x07", variant=label, metrics={})])
    assert frame.loc[0, "error"] == "one \n\ttwo "
    assert frame.loc[0, "variant"] == "a red ] b c d "


def test_no_rows_are_an_empty_table() -> None:
    assert runs_frame([]).empty


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "running"}, "row 0 .* status done or failed, got 'running'"),
        ({"method": ""}, "row 0 .* lacks method"),
        ({"seed": "two"}, "row 0 .*: seed must be a number, got 'two'"),
        ({"metrics": {"auroc": "high"}}, "metrics.auroc must be a number, got 'high'"),
    ],
)
def test_bad_rows_are_refused(changes: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runs_frame([row(**changes)])


def test_numbers_of_a_setting() -> None:
    assert setting_values("gamma_l=0.01;k_l=1;ood=svhn;augmented") == {"gamma_l": 0.01, "k_l": 1.0}
    assert setting_values("") == {}
