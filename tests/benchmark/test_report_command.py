"""The report verb and its pictures: files written, arguments refused, nothing heavy imported."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from test_report_rows import Row, row, rows_like

from adlightning.cli.report import FORMATS, run
from adlightning.report.compare import Comparison, compare
from adlightning.report.figures import pictures
from adlightning.report.runs import runs_frame


@pytest.fixture(scope="module")
def rows_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    datasets = ("cardio", "thyroid")
    rows = [r for r in rows_like("deep_sad_table6", seeds=2) if r["dataset"] in datasets]
    rows.append(row(status="failed", error="boom", seed=9, metrics={}))
    pd.json_normalize(rows).to_csv(path, index=False)
    return path


# ---- the verb --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_written_whole(
    kind: str, rows_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"report.{kind}"
    run([str(rows_csv), "--format", kind, "--out", str(out)])
    assert capsys.readouterr().out == f"report: {out}\n"
    text = out.read_text(encoding="utf-8")
    assert "0.988" in text if kind == "csv" else "98.8" in text
    assert "boom" in text
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_markdown_pictures_are_there(rows_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    run([str(rows_csv), "--format", "markdown", "--out", str(out)])
    linked = re.findall(r"!\[.*\]\((.*)\)", out.read_text(encoding="utf-8"))
    assert {path.name for path in tmp_path.glob("report_*.png")} == set(linked)
    assert {"report_deep_sad_table6_boxes.png", "report_deep_sad_table6_published.png"} <= set(linked)
    assert all(matplotlib.image.imread(tmp_path / name).ndim == 3 for name in linked)


def test_html_on_standard_output_has_its_pictures(rows_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([str(rows_csv), "--format", "html"])
    text = capsys.readouterr().out
    assert text.startswith("<!DOCTYPE html>")
    assert text.count('src="data:image/png;base64,iVBOR') == 3


def test_html_on_a_terminal_wants_a_file(rows_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(ValueError, match="out must be given for html"):
        run([str(rows_csv), "--format", "html"])


def test_published_numbers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--table", "drocc_table2", "--table", "adgan_text"])
    shown = capsys.readouterr().out
    assert "0.78±0.03" in shown
    assert "0.641" in shown
    assert "published numbers alone" in shown


def test_several_results_are_one_report(rows_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = tmp_path / "more.csv"
    pd.json_normalize([row(seed=50), row(paper="drocc", table="2", method="drocc", dataset="thyroid")]).to_csv(more)
    run([str(rows_csv), str(more), "--format", "csv", "--table", "deep_sad_table6"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 54
    (cell,) = [line for line in lines if ",cardio," in line and ",deep_sad,," in line]
    assert cell.split(",")[10] == "3"  # two seeds and one more


def test_another_metric_never_stands_beside_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_like("drocc_table2")
    for r in rows:
        r["metrics"]["f1_drocc_release"] = r["metrics"]["f1_at_contamination"] / 2
    pd.json_normalize(rows).to_csv(tmp_path / "rows.csv", index=False)
    run([str(tmp_path / "rows.csv"), "--metric", "f1_drocc_release"])
    shown = capsys.readouterr().out
    assert "F1 of normals, as in DROCC's code" in shown
    assert "0.39±0.00" in shown  # half of the published 0.78
    assert "0.78±0.03" not in shown
    run([str(tmp_path / "rows.csv"), "--metric", "f1_drocc_release", "--format", "csv"])
    cells = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(cells["metric"]) == {"f1_drocc_release"}
    assert cells["published_mean"].isna().all()
    run([str(tmp_path / "rows.csv")])
    assert "0.78±0.03" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "results or --table must be given; published tables are density_ratio_table1"),
        (["--table", "deep_sad_table1"], "table must be one of .*, got deep_sad_table1"),
        (["--table", "drocc_text", "--format", "pdf"], "invalid choice: 'pdf'"),
        (["--table", "drocc_text", "--out", "no/such/folder.csv"], "out: there is no folder"),
        (["no_such_folder"], "no_such_folder"),
        (["--table", "drocc_table2", "--metric", "f1_drocc_release"], "RESULTS must be given with --metric f1_drocc"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(arguments)


def test_nothing_is_overwritten(rows_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    picture = tmp_path / "report_deep_sad_table6_boxes.png"
    for there in (out, picture):
        there.write_text("mine")
        with pytest.raises(ValueError, match=f"out: .*{there.name} exists already"):
            run([str(rows_csv), "--format", "markdown", "--out", str(out)])
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
        there.unlink()


def test_neither_torch_nor_matplotlib_is_imported_for_a_table() -> None:
    code = (
        "import sys; from adlightning.cli.report import run; run(['--table', 'drocc_text']); "
        "print([m for m in ('torch', 'pytorch_lightning', 'sklearn', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


# ---- pictures --------------------------------------------------------------------------------------------------------


def drawn(rows: list[Row]) -> dict[str, bytes]:
    (comparison,) = compare(runs_frame(rows), [])
    return {p.name.removeprefix(f"{comparison.layout.id}_"): p.png for p in pictures(comparison)}


def comparison_of(name: str) -> Comparison:
    return compare(runs_frame([]), [name])[0]


def test_a_varying_setting_has_all_pictures() -> None:
    rows = [r for r in rows_like("deep_sad_table3", seeds=1) if r["dataset"] == "cifar10"]
    found = drawn(rows)
    assert list(found) == ["curves", "best_two", "boxes"]  # an average of ten is not compared with fewer classes
    assert all(png.startswith(b"\x89PNG") for png in found.values())


def test_the_same_rows_are_the_same_pictures() -> None:
    rows = rows_like("drocc_table6", seeds=1)
    assert drawn(rows)["curves"] == drawn(list(reversed(rows)))["curves"]
    changed = [rows[0] | {"metrics": {"auroc": 0.1}}, *rows[1:]]
    assert drawn(rows)["curves"] != drawn(changed)["curves"]


def test_single_runs_have_no_boxes_and_one_method_no_second_best() -> None:
    assert list(drawn([row()])) == ["published"]


def test_curves_need_a_setting_of_numbers() -> None:
    assert [p.name for p in pictures(comparison_of("drocc_table7"))] == ["drocc_table7_curves"]
    assert [p.name for p in pictures(comparison_of("drocc_figure7"))] == ["drocc_figure7_curves"]  # by class
    assert pictures(comparison_of("ama_table1")) == []
    assert pictures(comparison_of("deep_sad_table6")) == []
