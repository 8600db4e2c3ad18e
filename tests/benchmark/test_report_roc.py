"""ROC curves averaged over classes: of one run by hand, of which runs, and what a missing or broken file does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report_rows import Row, row

from adlightning.cli.report import run
from adlightning.report import roc
from adlightning.report.compare import compare
from adlightning.report.roc import GRID, averaged_roc, curve_of
from adlightning.report.runs import runs_frame

LABELS = [0, 0, 1, 1]


def at(rate: float) -> int:
    return int(np.argmin(np.abs(GRID - rate)))


def test_a_curve_by_hand() -> None:
    curve = curve_of([0.1, 0.4, 0.35, 0.8], LABELS)  # 0.8 first, then a false alarm, then the other anomaly
    assert curve.area == pytest.approx(0.75)
    assert [curve.rates[at(rate)] for rate in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0.5, 0.5, 1, 1, 1])
    tied = curve_of([1.0, 1.0, 1.0, 1.0], LABELS)
    assert tied.area == pytest.approx(0.5)
    assert tied.rates[at(0.3)] == pytest.approx(0.3)


def table(tmp_path: Path, of: dict[str, list[float]]) -> list[Row]:
    """A row a class, with its scores."""
    rows = []
    for normal, scores in of.items():
        path = tmp_path / f"{normal}.csv"
        frame = pd.DataFrame({"label": LABELS, "score": scores, "test_set": "test"})
        pd.concat([frame, frame.tail(1).assign(label=np.nan, score=9.0)]).to_csv(path, index=False)
        rows.append(row(paper="adgan", table="own", dataset="digits", normal=normal) | {"scores": str(path)})
    return rows


def lines(monkeypatch: pytest.MonkeyPatch, rows: list[Row]) -> list[tuple[Any, ...]]:
    drawn: list[tuple[Any, ...]] = []
    monkeypatch.setattr(roc, "_line", lambda *given: drawn.append(given))
    (comparison,) = compare(runs_frame(rows), [])
    picture = averaged_roc(comparison)
    assert (picture is None) == (not drawn)
    return drawn


def test_each_class_counts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = table(tmp_path, {"0": [0.1, 0.4, 0.35, 0.8], "1": [0.1, 0.2, 0.3, 0.4]})
    rows.append(rows[0] | {"seed": 1})
    ((_, classes, *_),) = lines(monkeypatch, rows)
    assert [[round(run.area, 4) for run in runs] for runs in classes] == [[0.75, 0.75], [1.0]]


def test_rows_without_scores_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = table(tmp_path, {"0": [0.1, 0.4, 0.35, 0.8], "1": [0.1, np.inf, 0.3, 0.4]})
    rows.append(rows[0] | {"normal": "2", "scores": str(tmp_path / "gone.csv")})
    ((_, classes, *_),) = lines(monkeypatch, rows)
    assert len(classes) == 1
    assert lines(monkeypatch, rows[1:]) == []


def test_scores_of_a_test_set_are_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (own,) = table(tmp_path, {"0": [0.1, 0.4, 0.35, 0.8]})
    ((_, ((found,),), *_),) = lines(monkeypatch, [own | {"test_set": "test", "setting": "ood=test"}])
    assert found.area == pytest.approx(0.75)
    assert lines(monkeypatch, [own | {"test_set": "other", "setting": "ood=other"}]) == []


def test_a_file_that_holds_no_scores_is_refused(tmp_path: Path) -> None:
    rows = table(tmp_path, {"0": [0.1, 0.4, 0.35, 0.8]})
    (tmp_path / "0.csv").write_text("label,score,test_set\n0,1,test\nx,2,test\n")
    (comparison,) = compare(runs_frame(rows), [])
    with pytest.raises(ValueError, match=r"0\.csv cannot be read"):
        averaged_roc(comparison)


def test_the_mean_and_its_band_are_drawn(tmp_path: Path) -> None:
    rows = table(tmp_path, {"0": [0.1, 0.4, 0.35, 0.8], "1": [0.1, 0.2, 0.3, 0.4]})
    pd.json_normalize(rows).to_csv(tmp_path / "rows.csv", index=False)
    run([str(tmp_path / "rows.csv"), "--format", "markdown", "--out", str(tmp_path / "r.md")])
    assert "averaged over 2 normal classes" in (tmp_path / "r.md").read_text()
    assert (tmp_path / "r_adgan_own_roc.png").stat().st_size > 1000
