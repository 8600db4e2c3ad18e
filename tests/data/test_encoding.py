"""Missing values, categories and dates of tables: fitted on training rows, in the checkpoint, applied when scoring."""

from __future__ import annotations

import io
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import adlightning as ad
from adlightning.cli.explain import explain, in_words
from adlightning.core.attribution import Attributions
from adlightning.core.contracts import InputSpec
from adlightning.core.encoding import Columns
from adlightning.core.prepared import prepared_for
from adlightning.data.own_samples import read_samples
from adlightning.data.sources import SourceError, Table
from adlightning.sklearn import Detector

CSV = """a,colour,when,b,label
1.5,red,2026-01-01,yes,0
,blue,2026-01-02 12:30:00,no,0
2.5,red,2026-01-03T00:00:00Z,yes,0
4.0,,2026-01-04T02:00:00+02:00,no,0
"""
DAY = 86_400
START = 1_767_225_600.0  # 2026-01-01
OPTIONS: dict[str, Any] = {"missing": "indicator", "categorical": "one_hot", "dates": "seconds"}


def write(path: Path, text: str = CSV, name: str = "t.csv") -> str:
    (path / name).write_text(text)
    return str(path / name)


def frame_of(n: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.normal(size=n), "colour": rng.choice(["red", "blue", "green"], n)})
    frame["b"] = rng.normal(size=n)
    frame.loc[rng.random(n) < 0.2, "a"] = np.nan
    frame["when"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 1000, n), "h")
    return frame


def set_up(data: Any) -> Any:
    data.setup("fit")
    return data


# ---- what is made of a table -----------------------------------------------------------------------------------------


def test_columns_by_hand(tmp_path: Path) -> None:
    data = set_up(
        ad.TableData(write(tmp_path), label_column="label", test_path=write(tmp_path), validation_fraction=0, **OPTIONS)
    )
    spec = data.input_spec
    assert spec.features == ("a", "colour", "when", "b")
    assert spec.columns == Columns(
        "indicator",
        "one_hot",
        ("when",),
        ((), ("", "blue", "red"), (), ("no", "yes")),
        (2.5, 0.0, spec.columns.fills[2], 0.0),
        (0,),
    )
    raw = [
        [1.5, 2, START, 1],
        [np.nan, 1, START + 1.5 * DAY + 1800, 0],
        [2.5, 2, START + 2 * DAY, 1],
        [4, 0, START + 3 * DAY, 0],
    ]
    np.testing.assert_array_equal(data.train_samples.x, raw)
    made = prepared_for(spec, ad.Identity)(data.train_samples.x)
    middle = spec.offsets[2]
    assert middle in (raw[1][2], raw[2][2])
    days = [float(np.float32(row[2] - middle)) for row in raw]
    assert made.tolist() == [
        [1.5, days[0], 0, 0, 1, 0, 1, 0],
        [2.5, days[1], 0, 1, 0, 1, 0, 1],
        [2.5, days[2], 0, 0, 1, 0, 1, 0],
        [4.0, days[3], 1, 0, 0, 1, 0, 0],
    ]
    assert InputSpec.from_dict(spec.as_dict()) == spec


def test_ordinal_keeps_the_number_and_median_makes_no_feature(tmp_path: Path) -> None:
    options: dict[str, Any] = {"missing": "median", "categorical": "ordinal", "dates": "seconds"}
    data = set_up(ad.TableData(write(tmp_path), drop_columns=["when", "label"], validation_fraction=0, **options))
    made = prepared_for(data.input_spec, ad.Identity)(data.train_samples.x.float())
    assert made.tolist() == [[1.5, 2, 1], [2.5, 1, 0], [2.5, 2, 1], [4, 0, 0]]


def test_all_is_fitted_on_training_rows() -> None:
    """Neither test rows nor known anomalies say what the median is, or which categories there are."""
    train = pd.DataFrame({"a": [1.0, 2.0, np.nan, 3.0, 99.0], "c": ["x", "y", "x", "y", "odd"]})
    test = pd.DataFrame({"a": [50.0, np.nan], "c": ["new", "y"]})
    with pytest.warns(UserWarning, match="column 'c' has categories that are in no training row: 'odd'"):
        data = set_up(
            ad.Arrays(
                train, test, known=[0, 0, 0, 0, -1], missing="median", categorical="one_hot", validation_fraction=0
            )
        )
    assert data.input_spec.columns == Columns("median", "one_hot", (), ((), ("x", "y")), (2.0, 0.0), ())
    made = prepared_for(data.input_spec, ad.Identity)
    assert made(data.test_samples.x).tolist() == [[50, 0, 0], [2, 0, 1]]
    assert made(data.train_samples.x)[-1].tolist() == [99, 0, 0]


def test_a_column_without_values_in_training_is_refused() -> None:
    train = pd.DataFrame({"a": [np.nan, np.nan, np.nan, 1.0], "b": [1.0, 2.0, 3.0, 4.0]})
    data = ad.Arrays(train, known=[0, 0, 0, -1], missing="median", validation_fraction=0)
    with pytest.raises(SourceError, match="column 'a' has no value in any training row"):
        data.setup("fit")


# ---- from fit to score -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [ad.NearestNeighbor, partial(ad.DeepSVDD, pretraining=ad.AutoencoderPretraining(epochs=1))]
)
def test_a_checkpoint_scores_frames_files_and_arrays_alike(tmp_path: Path, method: Any) -> None:
    train, new = frame_of(), frame_of(20, seed=1)
    run = ad.fit(method(), ad.Arrays(train, new, **OPTIONS), max_epochs=2, progress=False)
    detector = ad.load_detector(run.save(tmp_path / "d.ckpt"))
    assert detector.input_spec == run.detector.input_spec
    scores = detector.score(new)
    np.testing.assert_array_equal(scores, run.scores["score"])
    new.to_csv(tmp_path / "new.csv", index=False)
    new[["when", "b", "colour", "a"]].to_parquet(tmp_path / "new.parquet")
    for name in ("new.csv", "new.parquet"):
        np.testing.assert_array_equal(detector.score(tmp_path / name), scores)
    raw = read_samples(tmp_path / "new.csv", detector.built_for).x
    assert isinstance(raw, torch.Tensor)
    assert raw.dtype == torch.float64  # of dates
    np.testing.assert_array_equal(detector.score(raw.numpy()), scores)


def test_a_category_that_training_had_not_is_none_of_its_own(tmp_path: Path) -> None:
    train = frame_of()[["a", "colour", "b"]]
    run = ad.fit(ad.NearestNeighbor(), ad.Arrays(train, missing="median", categorical="one_hot"), 1, progress=False)
    other = train.head(3).assign(colour=["pink", "", "red"])
    with pytest.warns(UserWarning, match="column 'colour' has categories that were in no training row: '', 'pink'"):
        scores = run.detector.score(other)
    assert np.isfinite(scores).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.detector.score(train)


def test_arrays_and_scikit_learn_take_nan() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[::7, 1] = np.nan
    full = np.where(np.isnan(x), np.nanmedian(x, axis=0), x)
    given = Detector("NearestNeighbor", missing="median", validation_fraction=0, random_state=0).fit(x)
    filled = Detector("NearestNeighbor", validation_fraction=0, random_state=0).fit(full)
    np.testing.assert_allclose(given.anomaly_score(x), filled.anomaly_score(full), rtol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        Detector("NearestNeighbor").fit(x)
    with pytest.raises(ValueError, match="missing='median' fills NaN in a table"):
        ad.Arrays(x)


def test_a_graph_takes_nan_and_numbers_of_categories(tmp_path: Path) -> None:
    from adlightning.cli.export import describe, trace

    train = frame_of()[["a", "colour", "b"]]
    options = {**OPTIONS, "dates": "refuse"}
    run = ad.fit(
        ad.DeepSVDD(pretraining=ad.AutoencoderPretraining(epochs=1)), ad.Arrays(train, **options), 2, progress=False
    )
    detector = ad.load_detector(run.save(tmp_path / "d.ckpt"))
    about = describe(detector)
    names = about["columns"]["categories"][1]
    x = np.stack([train["a"], train["colour"].map(names.index), train["b"]], axis=1).astype(about["dtype"])
    scores = trace(detector).module()(torch.from_numpy(x))["scores"].detach().numpy()
    np.testing.assert_allclose(scores, detector.score(train), rtol=1e-5)


def test_a_score_is_explained_by_categories_and_gaps(tmp_path: Path) -> None:
    train = pd.DataFrame(
        {"a": np.arange(40.0) % 4, "colour": ["red", "blue", "red", "red"] * 10, "b": np.arange(40) % 5}
    )
    train.loc[::8, "a"] = np.nan
    options = {**OPTIONS, "validation_fraction": 0}
    run = ad.fit(ad.NearestNeighbor(), ad.Arrays(train, **options), 1, progress=False)
    assert run.detector.median_normal.tolist() == [2.0, 1.0, 2.0]  # blue is 0, red is 1
    run.save(tmp_path / "d.ckpt")
    other = pd.DataFrame({"a": [30.0, np.nan], "colour": ["red", "pink"], "b": [2, 2]})
    other.to_csv(tmp_path / "new.csv", index=False)
    with pytest.warns(UserWarning, match="pink"):
        explain(str(tmp_path / "d.ckpt"), str(tmp_path / "new.csv"), str(tmp_path / "why.csv"))
    because = pd.read_csv(tmp_path / "why.csv")["because"]
    assert because[0].startswith("a = 30 (normally 2): +")
    assert "colour = another (normally 'red'): +" in because[1]
    found = Attributions(np.array([[3.0, 1.0]]), np.array([0.0, 2.0]), np.array([4.0]), 0.0, complete=False)
    columns = Columns("median", "one_hot", (), (("blue", "red"), ()), (0.0, 2.0))
    assert in_words(found, [[1.0, np.nan]], "ca", 0, columns) == (
        "c = 'red' (normally 'blue'): +3; a = missing (normally 2): +1"
    )


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "column 'a' has no value (or NaN) in row 1; features must be finite numbers; missing=median fills such"),
        (
            {"missing": "median"},
            "'colour' is not numeric, it holds 'red' in row 0: encode it as numbers, say categorical=one_hot",
        ),
        (
            {"missing": "median", "categorical": "one_hot"},
            "a date is no number, seconds since a day are, say dates=seconds",
        ),
        (
            {"categorical": "ordinal", "dates": "seconds", "drop_columns": ["label", "a"]},
            "column 'colour' has no value in row 3; with missing=median",
        ),
    ],
)
def test_what_refuses_names_the_option(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    options = {"drop_columns": ["label"], **options}
    with pytest.raises(SourceError) as caught:
        Table(write(tmp_path), **options).load("train")
    assert words in str(caught.value)


def test_options_outside_their_range() -> None:
    for name in ("missing", "categorical", "dates"):
        with pytest.raises(ValueError, match=f"{name} must be one of refuse, .*, got 'x'"):
            Table("t.csv", **{name: "x"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing is for tables, X_train holds series samples"):
        ad.Arrays(np.zeros((3, 4, 2)), missing="median")
    with pytest.raises(ValueError, match="categorical and dates are for pandas frames"):
        ad.Arrays(np.zeros((3, 4)), categorical="one_hot")


def test_names_and_wrong_dates_are_no_categories(tmp_path: Path) -> None:
    ids = "".join(f"{i},id{i},0{i % 9 + 1}/01/2026\n" for i in range(60))
    path = write(tmp_path, "a,id,day\n" + ids)
    with pytest.raises(SourceError, match="column 'id' has 60 different texts in 60 rows: if it names the rows"):
        Table(path, categorical="one_hot", drop_columns=["day"]).load("train")
    with pytest.raises(SourceError, match="column 'day' is not numeric"):
        Table(path, dates="seconds", drop_columns=["id"]).load("train")


def test_a_detector_that_takes_no_missing_values_says_so(tmp_path: Path) -> None:
    train = frame_of()[["b", "colour"]]
    run = ad.fit(ad.NearestNeighbor(), ad.Arrays(train, categorical="one_hot"), 1, progress=False)
    for other, words in (
        (train.assign(b=np.nan), "column 'b' has no value .* the detector was trained without missing values"),
        (train.assign(colour=None), "column 'colour' has no value in row 0; the detector was trained without"),
        (
            train.assign(b="x"),
            "column 'b' is not numeric, it holds 'x' in row 0: .*; the detector was trained on numbers",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            run.detector.score(other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("missing", "x"),
        ("missing", 1),
        ("fills", [float("nan"), 1.0]),
        ("fills", [1.0]),
        ("indicators", [2]),
        ("indicators", [0, 0]),
        ("categories", [["a"]]),
        ("categories", [[1], []]),
        ("categories", "ab"),
        ("dates", "a"),
    ],
)
def test_columns_that_training_does_not_leave_are_refused(name: str, value: Any) -> None:
    spec = InputSpec("table", (2,), features=("a", "b"), columns=Columns("median", fills=(1.0, 2.0)))
    saved = spec.as_dict()
    assert InputSpec.from_dict(saved) == spec
    saved["columns"][name] = value
    with pytest.raises(ValueError, match="columns of an input"):
        InputSpec.from_dict(saved)
    for wrong in ({}, [1], {**spec.as_dict()["columns"], "more": 1}):
        with pytest.raises(ValueError, match="columns of an input"):
            InputSpec.from_dict({**spec.as_dict(), "columns": wrong})


def test_other_categories_are_refused_by_a_test() -> None:
    mine = InputSpec("table", (1,), features=("a",), columns=Columns("refuse", "one_hot", (), (("x", "y"),)))
    assert mine.refusal(mine) is None
    other = InputSpec("table", (1,), features=("a",), columns=Columns("refuse", "one_hot", (), (("x", "z"),)))
    plain = InputSpec("table", (1,), features=("a",))
    filled = InputSpec("table", (1,), features=("a",), columns=Columns("median", fills=(1.0,)))
    assert "other categories or dates" in str(mine.refusal(other))
    assert "other categories or dates" in str(mine.refusal(plain))
    assert "other categories or dates" in str(plain.refusal(other))
    assert plain.refusal(filled) is None
    assert filled.refusal(plain) is None


def test_what_a_csv_writes_of_a_frame_is_the_same_table(tmp_path: Path) -> None:
    frame = frame_of()
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    sources: list[Any] = [Table(str(tmp_path / name), **OPTIONS) for name in ("t.csv", "t.parquet")]
    sources += [ad.Arrays(x, **OPTIONS).source for x in (frame, again)]
    made = [source.load("train").x for source in sources]
    for x in made[1:]:
        np.testing.assert_array_equal(x, made[0])
