"""What label words mean, found or said."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from adlightning.core.contracts import SourceError
from adlightning.data.label_words import Meanings
from adlightning.data.sources.table import Table


def table(folder: Path, column: str, labels: list[str], **arguments: str) -> Table:
    path = folder / "t.csv"
    path.write_text(f"a,{column}\n" + "".join(f"{i}.5,{label}\n" for i, label in enumerate(labels)))
    return Table(str(path), label_column=column, **arguments)  # type: ignore[arg-type]  # of labels alone


def labels(source: Table) -> list[int]:
    samples = source.load("train")
    assert samples is not None
    return [int(label) for label in samples.y]


@pytest.mark.parametrize(
    ("normal", "anomalous"),
    [
        ("ok", "defect"),
        ("OK", "NOK"),
        ("Normal ", "ABNORMAL"),
        ("good", "bad"),
        (" benign", "Malignant"),
        ("pass", "fail"),
        ("inlier", "outlier"),
        ("legit", "fraud"),
        ("normal", "attack"),
        ("OK", "Alarm"),
        ("OK", "NG"),
        ("i.O.", "n.i.O."),
    ],
)
def test_pairs_of_words_are_found_and_said(tmp_path: Path, normal: str, anomalous: str) -> None:
    source = table(tmp_path, "y", [normal, anomalous, ""])
    with pytest.warns(UserWarning, match=rf"taken by their words: '{normal}' as normal, '{anomalous}' as anomalies"):
        assert labels(source) == [0, 1, -1]


def test_the_documented_words_need_no_saying(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert labels(table(tmp_path, "y", ["normal", "Anomaly", "0", "TRUE", "NA"])) == [0, 1, 0, 1, -1]


@pytest.mark.parametrize("column", ["is_anomaly", "fraud", "Defect", "hasFault", "attack_label", "outliers"])
def test_yes_means_what_the_name_of_its_column_says(tmp_path: Path, column: str) -> None:
    with pytest.warns(UserWarning, match="'yes' as anomalies"):
        assert labels(table(tmp_path, column, ["no", "yes"])) == [0, 1]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("y", ["no", "yes"]),
        ("is_normal", ["0", "1"]),
        ("OK", ["false", "true"]),
        ("passed", ["yes", "no"]),
        ("y", ["negative", "positive"]),
        ("y", ["-1", "1"]),
        ("y", ["1", "2"]),
    ],
)
def test_what_may_mean_either_is_named_with_what_to_say(tmp_path: Path, column: str, values: list[str]) -> None:
    with pytest.raises(SourceError, match=r"say which is normal, normal_label=.*, and every other is an anomaly"):
        labels(table(tmp_path, column, values))
    assert labels(table(tmp_path, column, values, normal_label=values[0])) == [0, 1]
    assert labels(table(tmp_path, column, values, anomaly_label=values[0].upper())) == [1, 0]


def test_of_several_kinds_one_is_said_to_be_normal(tmp_path: Path) -> None:
    kinds = ["ok", "scratch", "dent", ""]
    with pytest.raises(SourceError, match=r"holds 'scratch' in row 1; allowed .* normal_label='ok'"):
        labels(table(tmp_path, "y", kinds))
    assert labels(table(tmp_path, "y", kinds, normal_label=" OK")) == [0, 1, 1, -1]
    with pytest.raises(SourceError, match="both given there is no other label"):
        labels(table(tmp_path, "y", kinds, normal_label="ok", anomaly_label="dent"))


def test_numbers_with_a_gap_are_the_same_labels(tmp_path: Path) -> None:
    assert labels(table(tmp_path, "y", ["1.0", "2.0", ""], normal_label="1")) == [0, 1, -1]


def test_a_label_that_is_in_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"normal_label: .*t\.csv has no 'fine' in 'y'; it holds 'ok', 'defect'"):
        table(tmp_path, "y", ["ok", "defect"], normal_label="fine").load("train")
    test = tmp_path / "test.csv"
    test.write_text("a,y\n1.5,fine\n2.5,defect\n")
    source = table(tmp_path, "y", ["", ""])
    source = Table(str(source.path), test_path=str(test), label_column="y", normal_label="fine")
    assert labels(source) == [-1, -1]


def test_labels_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must differ, got 'ok' for both"):
        Meanings("y", "ok", " OK ")
    with pytest.raises(ValueError, match="normal_label must be a label, got 'NaN'"):
        Meanings("y", "NaN")
    with pytest.raises(ValueError, match="labels of label_column, which must be given"):
        Table("t.csv", normal_label="ok")
