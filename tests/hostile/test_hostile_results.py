"""Hostile rows of results: what they say stays text in every format of a report."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hostile_cases import ODD_VALUES, drawn, put, works_or_is_refused
from hypothesis import given, strategies as st
from refusals import refused

from adlightning.__main__ import main
from adlightning.benchmark.store import read_rows
from adlightning.report.runs import runs_frame

TEXT = [
    "dataset",
    "setting",
    "normal",
    "method",
    "variant",
    "error",
    "selection",
    "protocol",
    "code",
    "device",
    "title",
]
LABELS = {"paper": "mine", "table": "t", "dataset": "cardio", "setting": "", "normal": "", "labelled": ""}
ROW = {**LABELS, "method": "deep_sad", "variant": "", "seed": "0", "status": "done", "error": "", "code": "0" * 8}
ROW |= {"title": "", "selection": "none", "protocol": "clean", "device": "cpu", "finished": "2026-01-01"}
ROW |= {"metrics.auroc": "0.9", "seconds.total": "1", "peak_memory_mb": "100"}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    target = io.StringIO(newline="")
    writer = csv.DictWriter(target, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(target.getvalue().encode("utf-8", "surrogatepass"))
    return path


MARKUP = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "'\"><svg onload=alert(1)>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "latex": "\\input{/etc/passwd}\\write18{touch was_run}",
    "comment": "x\n\\input{/etc/passwd}",
    "returns": "x\r\\input{/etc/passwd}\u2028\\input{y}",
    "markdown": "[a](javascript:alert(1)) ![b](http://x/y.png) <b>",
    "cell": "a | b |\n| c | d |",
    "terminal": "\x1b[31m\x1b]0;owned\x07 [red]x[/red] \u202e",
    "path": "../../x",
}


@pytest.mark.parametrize("kind", MARKUP)
@pytest.mark.parametrize("form", ["html", "latex", "markdown", "rich"])
def test_text_of_rows_stays_text(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, kind: str) -> None:
    text = MARKUP[kind]
    rows = [{**ROW, **dict.fromkeys(TEXT, text), "paper": text, "table": text, "seed": str(seed)} for seed in (0, 1)]
    rows += [{**rows[0], "seed": "2", "status": "failed"}]
    path = write(tmp_path / "r.csv", rows)
    assert main(["report", str(path), "--format", form]) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown.replace("\r\n", "\n"))
    if form == "html":
        assert not re.search(r"<(script|svg|b>|img src=x)", shown)
        assert "{{ 7 * 7 }}" in shown or kind != "template"
    elif form == "latex":
        lines = [line for line in shown.splitlines() if not line.startswith("%")]
        assert not any(re.search(r"\\(input|write)", line) for line in lines)
    elif form == "markdown":
        assert not re.search(r"(?<!\\)\]\(|(?<!\\)<(script|img|b>|svg)", shown)
        if kind == "cell":
            assert "\n| c" not in shown
    assert [file.name for file in tmp_path.iterdir()] == ["r.csv"]


@pytest.mark.parametrize("name", ["../../x", "x) [a](http://b", "a/b", "x" * 300])
def test_pictures_stay_beside_their_report(tmp_path: Path, name: str) -> None:
    rows = [
        {**ROW, "paper": name, "method": m, "seed": str(s), "metrics.auroc": f"0.{s + 5}"}
        for m in "ab"
        for s in range(4)
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/out").mkdir()
    path = write(tmp_path / "r.csv", rows)
    assert main(["report", str(path), "--format=markdown", f"--out={tmp_path / 'in/out/r.md'}"]) == 0
    inside = {file.name for file in (tmp_path / "in/out").iterdir()}
    assert len(inside) > 1
    assert {file.name for file in tmp_path.iterdir()} | {file.name for file in (tmp_path / "in").iterdir()} == {
        *("in", "r.csv", "out")
    }
    links = re.findall(r"!\[.*?\]\((.*?)\)\n", (tmp_path / "in/out/r.md").read_text())
    assert set(links) == inside - {"r.md"}


CELLS = ["", "nan", "inf", "-1", "1e308", "1e999", "9" * 400, "x", "x" * 3000, "\x00", "é", "True", "{}", "[]", "a\nb"]


@drawn(30)
@given(data=st.data())
def test_rows_of_any_cells(tmp_path: Path, data: st.DataObject) -> None:
    rows: list[dict[str, Any]] = [
        {**ROW, "seed": str(seed), "method": m} for seed in range(2) for m in ("a", "deep_sad")
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.sampled_from(rows))
        row[data.draw(st.sampled_from(sorted(ROW)))] = data.draw(st.sampled_from(CELLS))
    path = write(tmp_path / "r.csv", rows)
    works_or_is_refused(lambda: runs_frame(read_rows(path)))


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"seed": "9" * 400}, "seed must be a number"),  # OverflowError
        ({"metrics.auroc": "9" * 400}, "metrics.auroc must be a number"),
        ({"seconds.total": "inf"}, "seconds.total must lie within"),
        ({"metrics.auroc": "1e308"}, "metrics.auroc must lie within"),
        ({"metrics.auroc": "x" * 5000}, "metrics.auroc must be a number"),
        ({"metrics": "0.5"}, "the columns metrics and metrics.auroc exclude each other"),  # TypeError
        ({"status": "odd"}, "status done or failed"),
        ({"seed": "nan"}, "seed must be a whole number"),  # TypeError
    ],
)
def test_cells_that_are_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cells: dict[str, str], words: str
) -> None:
    path = write(tmp_path / "r.csv", [{**({"metrics": ""} if "metrics" in cells else {}), **ROW, **cells}])
    refused(capsys, ["report", str(path)], words)


@pytest.mark.filterwarnings("ignore:.*is damaged and left out")
@drawn(30)
@given(data=st.data())
def test_results_folders_of_any_values(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "cells").mkdir(exist_ok=True)
    odd = [value for value in ODD_VALUES if not isinstance(value, bytes)] + [{"auroc": "x"}, {"auroc": [1]}, {"m": {}}]
    row: dict[str, Any] = {"status": "done", "code": "0" * 8, "finished": "2026", "metrics": {"auroc": 0.5}}
    entry: dict[str, Any] = {
        "labels": {**LABELS, "method": "a", "variant": "", "seed": 0},
        "config_hash": "0",
        "title": "",
    }
    for _ in range(data.draw(st.integers(1, 2))):
        where = data.draw(st.sampled_from([row, entry, entry["labels"]])) or row
        if isinstance(where, dict):
            name = data.draw(st.sampled_from([*sorted(map(str, where)), "test_sets", "seconds", "error"]))
            put(where, (name,), data.draw(st.sampled_from(odd)))
    (tmp_path / "cells/0-00000000.json").write_text(json.dumps(row))
    (tmp_path / "cells/0-00000001.json").write_text(json.dumps({**ROW, "finished": data.draw(st.sampled_from(odd))}))
    (tmp_path / "manifest.json").write_text(json.dumps([entry]))
    works_or_is_refused(lambda: runs_frame(read_rows(tmp_path)))


@pytest.mark.filterwarnings("ignore:.*is damaged and left out")
@pytest.mark.parametrize(
    "content", ["[", "[]", "1", "[" * 100_000, '{"status": 1}', "\ufeff", "null", '{"test_sets": []}']
)
def test_damaged_results_folders(tmp_path: Path, content: str) -> None:
    entry = {"labels": {**LABELS, "method": "a", "variant": "", "seed": 0}, "config_hash": "0", "title": ""}
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/0-00000000.json").write_text(content)
    (tmp_path / "manifest.json").write_text(json.dumps([entry]))
    assert read_rows(tmp_path) == []
    (tmp_path / "manifest.json").write_text(content)
    works_or_is_refused(lambda: read_rows(tmp_path))


@pytest.mark.parametrize("value", [None, {"a": 1}, [1], "x"])
def test_a_place_in_the_table_cannot_stand_for_a_result(tmp_path: Path, value: Any) -> None:
    labels = {**LABELS, "method": "a", "variant": "", "seed": 0, "test_sets": value, "status": value}  # AttributeError
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells/0-00000000.json").write_text(json.dumps({"status": "done", "code": "0", "finished": "2026"}))
    (tmp_path / "manifest.json").write_text(json.dumps([{"labels": labels, "config_hash": "0", "title": ""}]))
    assert [row["status"] for row in read_rows(tmp_path)] == ["done"]
