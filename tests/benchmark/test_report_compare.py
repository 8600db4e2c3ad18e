"""Ours beside published: means, differences, marks, best-of columns, averages, tests; by hand on small cases."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from test_report_rows import CLASSIC, Row, row, rows_like

from adlightning.benchmark.store import read_rows
from adlightning.published import AVERAGE, layouts, published
from adlightning.report.compare import Comparison, compare, standard_error
from adlightning.report.grid import comparison_grid
from adlightning.report.runs import runs_frame

ROOT = Path(__file__).parents[2]


def compared(rows: list[Row], table: str = "deep_sad_table6") -> Comparison:
    return compare(runs_frame(rows), [table])[0]


def cell(comparison: Comparison, **place: str) -> dict[str, Any]:
    cells = comparison.cells
    for name, value in place.items():
        cells = cells[cells[name] == value]
    assert len(cells) == 1
    return {str(name): value for name, value in cells.iloc[0].items()}


def runs(values: list[float], **changes: Any) -> list[Row]:
    return [row(value=value, seed=seed, **changes) for seed, value in enumerate(values)]


CARDIO = {"dataset": "cardio", "method": "deep_sad", "variant": ""}
MNIST_3 = {"paper": "deep_sad", "table": "3", "dataset": "mnist", "setting": "gamma_l=0.05;gamma_p=0;k_l=1"}
DENSITY = {"paper": "density_ratio", "table": "1", "dataset": "cifar10", "setting": "", "method": "kliep"}


# ---- means and marks ------------------------------------------------------------------------------------------------


def test_mean_and_sample_standard_deviation() -> None:
    found = cell(compared(runs([0.90, 0.92, 0.94])), **CARDIO)
    assert found["ours_mean"] == pytest.approx(0.92)
    assert found["ours_std"] == pytest.approx(0.02)  # sqrt((0.02^2 + 0.02^2) / 2)
    assert found["ours_n"] == 3
    assert found["published_mean"] == 0.950
    assert found["difference"] == pytest.approx(-0.03)


def test_standard_error_by_hand() -> None:
    # 0.03^2 / 9 = 1e-4; 0.04^2 / 4 = 4e-4; 0.01^2 / 12 is the rounding of two digits
    assert standard_error(0.03, 9, 0.04, 4, 0.01) == pytest.approx(math.sqrt(1e-4 + 4e-4 + 1e-4 / 12))


def test_what_is_not_printed_widens_the_standard_error() -> None:
    assert standard_error(0.03, 9, 0.04, math.nan, 0.0) == pytest.approx(math.sqrt(1e-4 + 16e-4))  # one run
    assert standard_error(0.03, 9, math.nan, math.nan, 0.0) == pytest.approx(math.sqrt(1e-4 + 9e-4))  # ours for theirs
    assert standard_error(math.nan, 1, 0.04, 4, 0.0) == pytest.approx(math.sqrt(16e-4 + 4e-4))  # theirs for ours
    assert math.isnan(standard_error(math.nan, 1, math.nan, 4, 0.0))


@pytest.mark.parametrize(("mean", "outside"), [(0.930, True), (0.937, False), (0.963, False), (0.970, True)])
def test_mark_beyond_two_standard_errors(mean: float, outside: bool) -> None:
    # published 0.950 +- 0.016 of 10 runs; ours +- 0.01 of 3: se = sqrt(0.016^2 / 10 + 0.01^2 / 3) = 0.0077
    found = cell(compared(runs([mean - 0.01, mean, mean + 0.01])), **CARDIO)
    assert found["outside_2se"] is outside


def test_a_single_run_is_not_judged() -> None:
    found = cell(compared(runs([0.5])), **CARDIO)
    assert found["difference"] == pytest.approx(-0.45)
    # published 0.950 +- 0.016 of 10 runs, in place of our deviation too; the last digit is 0.001
    assert found["deviation"] == pytest.approx(-0.45 / math.sqrt(0.016**2 + 0.016**2 / 10 + 1e-6 / 12))
    assert found["outside_2se"] is None


def test_some_of_the_classes_are_not_judged_against_all() -> None:
    rows = [row(**MNIST_3, normal=normal, value=0.5 + 0.01 * int(normal)) for normal in "012"]
    found = cell(compared(rows, "deep_sad_table3"), dataset="mnist", setting=MNIST_3["setting"], method="deep_sad")
    assert found["ours_n"] == 3
    assert found["outside_2se"] is None
    assert "runs cover 3 of 10 normal classes: not compared" in found["notes"]
    assert (found["covered"], found["classes"]) == (False, "3 of 10")


def test_a_method_on_some_of_the_classes_is_not_set_beside_one_on_all() -> None:
    def of(method: str, variant: str, values: dict[int, float]) -> list[Row]:
        changes = {**MNIST_3, "setting": "gamma_l=0;gamma_p=0;k_l=0", "method": method, "variant": variant}
        return [row(**changes, normal=str(normal), value=value) for normal, value in values.items()]

    some = of("ocsvm", "raw", {1: 0.99, 2: 0.99})
    all_of_them = [*of("kde", "raw", dict.fromkeys(range(10), 0.9)), *of("cae", "", dict.fromkeys(range(10), 0.8))]
    comparison = compared([*some, *all_of_them], "deep_sad_table3")
    aside = {c["method"]: c["aside"] for c in comparison.cells.to_dict("records") if c["ours_n"]}
    assert aside == {"ocsvm": True, "kde": False, "cae": False}
    (test,) = comparison.tests.to_dict("records")
    assert (test["first_mean"], test["second_mean"]) == pytest.approx((0.9, 0.8))
    grid = comparison_grid(comparison)
    bold = [entry.text for line in grid.lines if line.kind == "ours" for entry in line.entries if entry.bold]
    assert [text.partition("±")[0] for text in bold] == ["90.0"]
    alone = compared(some, "deep_sad_table3").cells
    assert not alone.loc[alone["ours_n"] > 0, "aside"].any()


def test_all_classes_and_labelled_classes_are_one_cell() -> None:
    rows = [
        row(**MNIST_3, normal=str(normal), labelled=str(labelled), value=0.5 + 0.01 * normal)
        for normal in range(10)
        for labelled in range(10)
        if labelled != normal
    ]
    found = cell(compared(rows, "deep_sad_table3"), dataset="mnist", setting=MNIST_3["setting"], method="deep_sad")
    assert found["ours_n"] == 90
    assert found["ours_mean"] == pytest.approx(0.545)
    assert found["outside_2se"] is True


def test_training_time_is_shown_but_not_judged() -> None:
    rows = [row(**DENSITY, normal=str(n), seconds={"fit": 10.0 + n}) for n in range(10)]
    found = cell(compared(rows, "density_ratio_table2"), dataset="cifar10", method="kliep")
    assert found["ours_mean"] == pytest.approx(14.5)
    assert found["difference"] == pytest.approx(14.5 - 85.8)
    assert found["outside_2se"] is None


# ---- averages over classes ------------------------------------------------------------------------------------------


def test_average_over_classes() -> None:
    rows = [row(**DENSITY, normal=str(n), seed=s, value=0.9 + 0.005 * n + 0.01 * s) for n in range(10) for s in (-1, 1)]
    rows.append(row(**DENSITY, normal="3", seed=2, value=0.915))
    found = cell(compared(rows, "density_ratio_table1"), dataset="cifar10", method="kliep", normal=AVERAGE)
    assert found["ours_mean"] == pytest.approx(0.9225)
    assert found["ours_n"] == 2  # of the class with the fewest
    # nine classes of two runs 0.02 apart: variance 2e-4; one of three runs, 0.01 apart: 1e-4
    assert found["ours_std"] == pytest.approx(math.sqrt(9 * 2e-4 + 1e-4) / 10)
    assert found["difference"] == pytest.approx(0.9225 - 0.907)


def test_no_average_without_all_classes() -> None:
    rows = [row(**DENSITY, normal=str(n)) for n in range(9)]
    found = cell(compared(rows, "density_ratio_table1"), dataset="cifar10", method="kliep", normal=AVERAGE)
    assert math.isnan(found["ours_mean"])
    assert found["notes"] == ["no average: runs of 9 of 10 classes"]


# ---- best of several variants ---------------------------------------------------------------------------------------

SVDD = {"dataset": "cardio", "method": "deep_svdd"}


def test_best_variant_over_the_same_seeds() -> None:
    one_class = runs([0.80, 0.82, 0.99], method="deep_svdd", variant="one_class")
    soft = runs([0.84, 0.86], method="deep_svdd", variant="soft nu=0.1")
    found = cell(compared(one_class + soft), **SVDD)
    # over seeds 0 and 1 soft is better (0.85 > 0.81), although one_class has the better mean of all its runs
    assert found["chosen"] == "soft nu=0.1"
    assert found["ours_mean"] == pytest.approx(0.85)
    assert found["ours_n"] == 2
    assert found["selection"] == "oracle"
    assert any("soft nu=0.1" in note and "oracle" in note for note in found["notes"])


def test_each_cell_chooses_for_itself() -> None:
    rows = []
    for dataset, better in (("cardio", "m2"), ("thyroid", "m1+m2")):
        for variant in ("m2", "m1+m2"):
            value = 0.9 if variant == better else 0.8
            rows += runs([value] * 2, dataset=dataset, method="ss_dgm", variant=variant)
    comparison = compared(rows)
    chosen = {
        dataset: cell(comparison, dataset=dataset, method="ss_dgm")["chosen"] for dataset in ("cardio", "thyroid")
    }
    assert chosen == {"cardio": "m2", "thyroid": "m1+m2"}


def test_a_single_variant_is_no_choice() -> None:
    found = cell(compared(runs([0.8, 0.9], method="deep_svdd", variant="one_class")), **SVDD)
    assert found["selection"] == "none"
    assert found["ours_n"] == 2
    assert any("only one_class has results" in note for note in found["notes"])


def test_failures_of_variants_not_shown_are_not_the_cells() -> None:
    one_class = runs([0.80, 0.82], method="deep_svdd", variant="one_class")
    soft = runs([0.84, 0.86], method="deep_svdd", variant="soft nu=0.1")
    failed = row(status="failed", error="boom", seed=7, metrics={}, method="deep_svdd")
    failures = [failed | {"variant": "one_class"}, failed | {"variant": "one_class", "seed": 8}]
    found = cell(compared([*one_class, *soft, *failures, failed | {"variant": "soft nu=0.1"}]), **SVDD)
    assert (found["chosen"], found["ours_n"], found["n_failed"]) == ("soft nu=0.1", 2, 1)
    assert found["notes"][-2:] == ["failed: boom", "not shown: 2 failed of variant one_class: boom"]


def test_failures_beside_the_only_variant_with_results_are_told() -> None:
    failed = row(status="failed", error="boom", metrics={}, method="deep_svdd", variant="soft nu=0.1")
    found = cell(compared([*runs([0.8, 0.9], method="deep_svdd", variant="one_class"), failed]), **SVDD)
    assert (found["ours_n"], found["n_failed"]) == (2, 0)
    assert found["notes"][-1] == "not shown: 1 failed of variant soft nu=0.1: boom"
    assert cell(compared([failed]), **SVDD)["n_failed"] == 1  # nothing to show but the failure


# ---- what the paper does not print ----------------------------------------------------------------------------------


def test_another_variant_is_a_column_of_its_own() -> None:
    comparison = compared(runs([0.9, 0.91]) + runs([0.95, 0.96], variant="released", protocol="leaky"))
    extra = comparison.layout.columns[-1]
    assert (extra.heading, extra.printed) == ("Deep SAD (released)", False)
    found = cell(comparison, dataset="cardio", method="deep_sad", variant="released")
    assert math.isnan(found["published_mean"])
    assert found["protocol"] == "leaky"
    assert any(note.startswith("protocol leaky") for note in found["notes"])
    assert cell(comparison, **CARDIO)["notes"] == []


@pytest.mark.parametrize(
    ("method", "variant", "heading"),
    [
        ("ocsvm", "raw default", "OC-SVM (raw default)"),  # printed as OC-SVM Raw and OC-SVM Hybrid
        ("deep_sad", "released", "Deep SAD (released)"),
        ("lof", "raw", "LOF (raw)"),  # as another paper prints it
        ("s_score", "png", "S (png)"),  # printed as S using PixelCNN++ and FLIF
        ("typicality", "", "Typicality"),  # printed as Typicality test on Glow model
        ("density_waic", "", "DensityWAIC"),  # by its class, for no paper prints it
        ("new_method", "", "new method"),
    ],
)
def test_columns_of_ours_are_headed_as_the_paper_prints_the_method(method: str, variant: str, heading: str) -> None:
    comparison = compared(runs([0.9, 0.91], method=method, variant=variant))
    assert comparison.layout.columns[-1].heading == heading


def test_another_setting_and_data_set_are_rows_in_order() -> None:
    rows = [
        row(**MNIST_3 | {"setting": "gamma_l=0.15;gamma_p=0;k_l=1"}, normal="0"),
        row(**MNIST_3 | {"dataset": "digits"}, normal="0"),
    ]
    table = compared(rows, "deep_sad_table3").layout
    mnist = [r.setting for r in table.rows if r.dataset == "mnist"]
    assert [str(s).split(";")[0] for s in mnist][-2:] == ["gamma_l=0.15", "gamma_l=0.2"]
    assert (table.rows[-1].dataset, table.rows[-1].normal) == ("digits", AVERAGE)


def test_a_table_of_your_own_has_no_published_values() -> None:
    rows = [
        row(table="figure5", dataset="mnist", setting=f"eta={eta};gamma_l=0.05", normal=str(n))
        for eta in (1, 100, 10)
        for n in range(3)
    ]
    (comparison,) = compare(runs_frame(rows), [])
    assert comparison.layout.id == "deep_sad_figure5"
    assert comparison.layout.varies == "eta"
    assert [r.setting.partition(";")[0] for r in comparison.layout.rows if r.setting] == ["eta=1", "eta=10", "eta=100"]
    assert comparison.cells["ours_n"].tolist() == [3, 3, 3]
    assert comparison.cells["published_mean"].isna().all()


def test_a_table_of_your_own_has_the_papers_columns() -> None:
    places = [("deep_svdd", "one_class"), ("deep_svdd", "soft nu=0.1"), ("deep_sad", ""), ("gmm", "raw")]
    rows = [row(table="digits", dataset="digits", method=m, variant=v, value=0.9 - len(v) / 100) for m, v in places]
    (comparison,) = compare(runs_frame(rows), [])
    assert {column.heading for column in comparison.layout.columns} == {"Deep SVDD", "Deep SAD", "GMM (raw)"}
    assert cell(comparison, method="deep_svdd")["chosen"] == "one_class"


@pytest.mark.parametrize(
    ("titles", "heading"),
    [
        (["In miniature"], "Ours: In miniature"),
        ([""], "Ours: deep_sad, digits"),
        (["A", "B"], "Ours: deep_sad, digits"),
    ],
)
def test_a_table_of_ours_is_not_headed_as_the_papers(titles: list[str], heading: str) -> None:
    rows = [row(table="digits", dataset="digits", title=t, seed=seed) for seed, t in enumerate(titles)]
    (comparison,) = compare(runs_frame(rows), [])
    assert comparison.layout.heading == heading
    paper = layouts()["deep_sad_table6"]
    assert comparison.layout.caption.startswith("Our own table: the paper has none like it. Methods of ")
    assert paper.title in comparison.layout.caption
    assert paper.heading == f"{paper.title}: Table 6"


# ---- failures, versions, selections ---------------------------------------------------------------------------------


def test_failed_runs_are_counted_and_explained() -> None:
    failed = [row(status="failed", error="TrainingCollapse: flat\nmore", seed=seed, metrics={}) for seed in (7, 8)]
    found = cell(compared(runs([0.9, 0.92]) + failed), **CARDIO)
    assert (found["ours_n"], found["n_failed"]) == (2, 2)
    assert found["notes"] == ["failed: TrainingCollapse: flat"]


def test_a_run_without_the_metric_has_failed() -> None:
    found = cell(compared([*runs([0.9]), row(seed=5, metrics={"f1": 0.3})]), **CARDIO)
    assert (found["ours_n"], found["n_failed"]) == (1, 1)
    assert found["notes"] == ["failed: no metrics.auroc in the row"]


def test_versions_and_selections_are_told() -> None:
    rows = [row(code="aaaa"), row(code="bbbb", seed=1, selection="oracle"), row(code="bbbb", seed=2, selection="val")]
    comparison = compared(rows)
    assert any(note.startswith("runs of several versions of the code behind them: ") for note in comparison.notes)
    other = [row(code="aaaa"), row(code="bbbb", method="cae", variant="")]  # each method has its own
    assert not any("versions of the code" in note for note in compared(other).notes)
    notes = cell(comparison, **CARDIO)["notes"]
    assert any(note.startswith("selection oracle") for note in notes)
    assert any(note.startswith("runs of different selection: none, oracle, val") for note in notes)


def test_repeated_runs_are_told() -> None:
    comparison = compared([row(finished="1"), row(finished="2")])
    assert any(note.startswith("1 older results") for note in comparison.notes)


# ---- another metric than the paper's --------------------------------------------------------------------------------


def f1_runs(**metrics: float) -> list[Row]:
    return rows_like_drocc([{"f1_at_contamination": 0.7, **metrics}, {"f1_at_contamination": 0.8, **metrics}])


def rows_like_drocc(metrics: list[dict[str, float]]) -> list[Row]:
    place = {"paper": "drocc", "table": "2", "dataset": "thyroid", "setting": "", "method": "drocc"}
    return [row(**place, seed=seed, metrics=values) for seed, values in enumerate(metrics)]


def test_published_f1_is_compared_with_the_one_at_the_true_contamination_alone() -> None:
    frame = runs_frame(f1_runs(f1_drocc_release=0.5))
    place = {"dataset": "thyroid", "method": "drocc"}
    for metric in (None, "f1_at_contamination"):
        found = cell(compare(frame, ["drocc_table2"], metric)[0], **place)
        assert (found["ours_mean"], found["published_mean"]) == (pytest.approx(0.75), 0.78)
    (other,) = compare(frame, ["drocc_table2"], "f1_drocc_release")
    found = cell(other, **place)
    assert (found["ours_mean"], found["metric"]) == (0.5, "f1_drocc_release")
    assert other.cells["published_mean"].isna().all()
    assert other.cells["difference"].isna().all()
    assert any(note.startswith("left out, because it is another metric: what the paper prints") for note in other.notes)


def test_a_mixed_table_keeps_the_published_values_of_the_metric_asked_for() -> None:
    (found,) = compare(runs_frame(rows_like("drocc_text")), ["drocc_text"], "auroc")
    there = found.cells[found.cells["published_mean"].notna()]
    assert set(there["normal"]) == {"3", "8"}  # the others are recalls


def test_recall_of_the_paper_is_that_of_normals() -> None:
    place = {"setting": "anomaly=1;close_negatives=half_zeros", "normal": "0", "method": "drocc_lf"}
    values = {"recall_at_3_fpr": 0.1, "normal_recall_at_3_fpr": 0.9}
    rows = [row(paper="drocc", table="text", dataset="mnist", **place, metrics=values)]
    assert cell(compared(rows, "drocc_text"), **place)["ours_mean"] == 0.9


def test_rows_of_earlier_code_without_a_metric_are_left_out_and_counted() -> None:
    old = rows_like_drocc([{"f1_at_contamination": 0.6}])[0] | {"seed": 9}
    frame = runs_frame([*f1_runs(f1_drocc_release=0.5), old])
    (found,) = compare(frame, [], "f1_drocc_release")
    assert cell(found, method="drocc")["ours_n"] == 2
    assert cell(found, method="drocc")["n_failed"] == 0
    assert "left out: 1 runs without f1_drocc_release, of code that did not measure it" in found.notes
    assert cell(compare(frame, [])[0], dataset="thyroid", method="drocc")["ours_n"] == 3


def test_a_metric_that_is_not_there_is_refused() -> None:
    frame = runs_frame(runs([0.9]))
    with pytest.raises(ValueError, match=r"metric must be one of auroc, f1_at_contamination, .*, got f1"):
        compare(frame, [], "f1")
    with pytest.raises(ValueError, match="metric: no run of the results has f1_drocc_release"):
        compare(frame, [], "f1_drocc_release")
    with pytest.raises(ValueError, match="neither runs nor published values of f1_drocc_release for ama_table1"):
        compare(runs_frame(f1_runs(f1_drocc_release=0.5)), ["ama_table1"], "f1_drocc_release")


@pytest.mark.parametrize("file", sorted((ROOT / "docs/results").glob("*.csv")), ids=lambda file: file.stem)
def test_committed_rows_can_still_be_read(file: Path) -> None:
    frame = runs_frame(read_rows(file))
    assert (frame["status"] == "done").any()
    assert all(comparison.cells["ours_n"].sum() for comparison in compare(frame, []))


# ---- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(layouts()))
def test_every_published_value_is_in_its_table(name: str) -> None:
    cells = compared([], name).cells
    values = published(layouts()[name].paper, layouts()[name].table)
    assert sorted(cells["published_mean"]) == sorted(values["mean"])
    assert (cells["ours_n"] == 0).all()


@pytest.mark.parametrize("name", ["density_ratio_table3", "drocc_table3", "drocc_table4", "drocc_text", "ama_table3"])
def test_runs_find_their_published_cell(name: str) -> None:
    rows = rows_like(name)
    comparison = compared(rows, name)
    assert [c.printed for c in comparison.layout.columns] == [True] * len(comparison.layout.columns)
    both = comparison.cells.dropna(subset=["ours_mean", "published_mean"])
    averages = comparison.cells["normal"] == AVERAGE
    assert len(both) >= len(comparison.cells) - averages.sum()
    assert both["difference"].abs().max() < 0.05


def test_rows_without_runs_are_left_out_of_a_table_that_was_not_asked_for() -> None:
    frame = runs_frame([row(), row(dataset="thyroid", status="failed", metrics={})])
    (found,) = compare(frame, [])
    assert found.cells["dataset"].unique().tolist() == ["cardio", "thyroid"]
    assert len(found.cells) == 2 * 9  # all columns of the paper
    assert "rows without a run of ours are left out (report RESULTS --table deep_sad_table6 shows all)" in found.notes
    (whole,) = compare(frame, ["deep_sad_table6"])
    assert len(whole.cells) == 6 * 9
    assert not any("left out" in note for note in whole.notes)


def test_an_average_stays_with_any_of_its_classes() -> None:
    found = compare(runs_frame([row(**DENSITY, normal="3")]), [])[0].cells
    assert found["normal"].unique().tolist() == ["3", AVERAGE]


def test_all_tables_with_runs_are_compared_or_those_asked_for() -> None:
    frame = runs_frame([row(), row(**DENSITY, normal="0")])
    assert [c.layout.id for c in compare(frame, [])] == [
        "density_ratio_table1",
        "density_ratio_table2",
        "deep_sad_table6",
    ]
    assert [c.layout.id for c in compare(frame, ["ama_table1"])] == ["ama_table1"]
    with pytest.raises(ValueError, match=r"table must be one of .*deep_sad_table6.*, got deep_sad_table9"):
        compare(frame, ["deep_sad_table9"])


def test_classic_setting_is_the_published_one() -> None:
    assert set(published("deep_sad", "6")["setting"]) == {CLASSIC}
