"""`report --ranks`: methods ranked over cells, with the tests of all pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare, wilcoxon

from adlightning.__main__ import main
from adlightning.report.ranks import holm, rank_methods
from adlightning.report.runs import runs_frame

METHODS = {"kde": 0.0, "deep_svdd": 0.04, "goad": -0.2}


def rows(n_cells: int = 12, seeds: int = 2) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            **{"paper": "own", "table": "grid", "dataset": f"set{cell % 3}", "normal": str(cell), "method": method},
            **{"status": "done", "seed": seed, "metrics": {"auroc": 0.8 + better + 0.05 * rng.random()}},
        }
        for cell in range(n_cells)
        for method, better in METHODS.items()
        for seed in range(seeds)
    ]


def write(path: Path, given: list[dict[str, Any]]) -> Path:
    flat = [{**row, "metrics.auroc": row["metrics"]["auroc"]} for row in given]
    pd.DataFrame(flat).drop(columns="metrics").to_csv(path, index=False)
    return path


def test_ranks_and_tests_are_those_of_scipy() -> None:
    runs = runs_frame(rows())
    ranking = rank_methods(runs, "auroc")
    means = runs.groupby(["dataset", "normal", "method"])["metrics.auroc"].mean().unstack()
    assert ranking.methods == ["deep_svdd", "kde", "goad"]
    assert ranking.ranks.mean()["goad"] == 3
    assert ranking.ranks.mean().to_dict() == pytest.approx(means.rank(axis=1, ascending=False).mean().to_dict())
    assert ranking.friedman == pytest.approx(friedmanchisquare(*means.to_numpy().T).pvalue)
    found = {(pair.first, pair.second): pair.p for pair in ranking.pairs}
    for (one, other), p in found.items():
        assert p == pytest.approx(wilcoxon(means[one], means[other]).pvalue)
    assert [pair.adjusted for pair in ranking.pairs] == pytest.approx(holm(list(found.values())))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_neighbours_that_do_not_differ_are_one_group() -> None:
    few = rank_methods(runs_frame(rows(n_cells=4)), "auroc")
    assert few.groups() == [(0, 2)]  # four cells tell nothing apart
    many = rank_methods(runs_frame(rows(n_cells=30)), "auroc")
    assert many.groups() == []


def test_a_metric_where_less_is_better_ranks_the_other_way() -> None:
    given = [row | {"metrics": {"fpr_at_95_tpr": row["metrics"]["auroc"]}} for row in rows()]
    assert rank_methods(runs_frame(given), "fpr_at_95_tpr").methods == ["goad", "kde", "deep_svdd"]


def test_incomplete_and_oracle_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [row for row in rows() if not (row["method"] == "goad" and row["normal"] in ("3", "4"))]
    given += [row | {"method": "ocsvm", "selection": "oracle"} for row in rows() if row["method"] == "kde"]
    path = write(tmp_path / "rows.csv", given)
    assert main(["report", str(path), "--ranks"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out: ocsvm, which was chosen on test data (oracle)" in said
    assert "left out: goad, which lacks 2 of 12 cells" in said
    assert "methods: 2 ranked, 2 left out" in said


def test_what_cannot_be_ranked_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.csv", [row for row in rows() if row["method"] == "kde"])
    assert main(["report", str(path), "--ranks"]) == 2
    assert "two methods with the same two cells or more to rank, there are 1 methods" in capsys.readouterr().err
    assert main(["report", "--ranks", "--table", "deep_sad_table6"]) == 2
    assert "results must be given to rank the methods of" in capsys.readouterr().err
    assert main(["report", str(path), "--ranks", "--metric", "speed"]) == 2
    assert "metric: no run has speed" in capsys.readouterr().err


def test_every_format_has_the_ranks_and_the_diagram(tmp_path: Path) -> None:
    given = rows()
    one, other = write(tmp_path / "a.csv", given[:36]), write(tmp_path / "b.csv", given[36:])
    for kind, suffix in {"html": "html", "markdown": "md", "latex": "tex", "csv": "csv", "rich": "txt"}.items():
        arguments = ["report", str(one), str(other), "--ranks", "--format", kind]
        assert main([*arguments, "--out", str(tmp_path / f"{kind}.{suffix}")]) == 0
    assert "data:image/png;base64," in (tmp_path / "html.html").read_text()
    assert "![Mean ranks" in (tmp_path / "markdown.md").read_text()
    assert (tmp_path / "markdown_ranks.png").stat().st_size > 5000
    assert r"\includegraphics[width=\linewidth]{latex_ranks.png}" in (tmp_path / "latex.tex").read_text()
    assert (tmp_path / "latex_ranks.png").exists()
    table = pd.read_csv(tmp_path / "csv.csv")
    assert len(table) == 12
    assert table["deep_svdd"].mean() < table["kde"].mean() < table["goad"].mean()
    for name in ("html.html", "markdown.md", "latex.tex", "rich.txt"):
        text = (tmp_path / name).read_text().replace("\\", "")
        assert "deep_svdd" in text
        assert "Holm" in text
