"""Windows of sensors over time: no window in two parts, scores of rows, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from refusals import is_refusal

import adlightning as ad
from adlightning.__main__ import main
from adlightning.core.contracts import SourceError
from adlightning.core.windows import rows_of_windows
from adlightning.data.sources.sensor_table import Stretch
from adlightning.data.window_splits import split_by_group, split_by_time, starts_in

COLUMNS: dict[str, Any] = {"time_column": "time", "group_column": "machine", "label_column": "label"}


def sensors(n: int = 300, machines: int = 3, shift: float = 3.0) -> pd.DataFrame:
    """Sine waves of two sensors of each machine, with an event of ten rows in each third of the rows."""
    rng = np.random.default_rng(0)
    frames = []
    for machine in range(machines):
        t = np.arange(n)
        x = np.stack([np.sin(t / 5 + machine), np.cos(t / 5 + machine)], axis=1) + 0.1 * rng.normal(size=(n, 2))
        label = np.zeros(n, dtype=np.int64)
        for third in range(3):
            label[third * n // 3 + 60 : third * n // 3 + 70] = 1
        x[:, 0] += shift * label
        frame = pd.DataFrame(x, columns=["a", "b"]).assign(label=label, machine=f"m{machine}")
        frame.insert(0, "time", pd.date_range("2026-01-01", periods=n, freq="min").strftime("%Y-%m-%dT%H:%M:%S"))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def windows(frame: pd.DataFrame, **arguments: Any) -> ad.Windows:
    data = ad.Windows.from_frame(frame, **{**COLUMNS, "length": 16, "seed": 0, **arguments})
    data.setup("fit")
    return data


# ---- splits ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    length=st.integers(2, 12),
    stride=st.integers(1, 15),
    test=st.floats(0.05, 0.9),
    validation=st.floats(0.0, 0.9),
    by_group=st.booleans(),
    seed=st.integers(0, 20),
)
def test_no_window_is_in_two_parts_or_groups(
    sizes: list[int], length: int, stride: int, test: float, validation: float, by_group: bool, seed: int
) -> None:
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    groups = [Stretch(str(i), int(bounds[i]), int(bounds[i + 1])) for i in range(len(sizes))]
    if by_group:
        try:
            split = split_by_group(groups, [i % 2 == 1 for i in range(len(sizes))], test, validation, seed)
        except ValueError:  # no group is left to train on
            return
        assert {stretch.group for stretch in split.test}.isdisjoint(s.group for s in split.train + split.validation)
    else:
        split = split_by_time(groups, test, validation)
    starts = [starts_in(parts, length, stride) for parts in (split.train, split.validation, split.test)]
    rows = [set(rows_of_windows(part, length).tolist()) for part in starts]
    assert rows[0].isdisjoint(rows[1])
    assert rows[0].isdisjoint(rows[2])
    assert rows[1].isdisjoint(rows[2])
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    for part in starts:
        assert (group_of[part] == group_of[part + length - 1]).all()
    assert sum(map(len, split.train + split.validation + split.test)) == sum(sizes)


def test_a_split_by_time_trains_on_what_was_before() -> None:
    data = windows(sensors())
    table = data.tables["train"]
    parts = (data.split.train, data.split.validation, data.split.test)
    of = [pd.Series(table.times[rows_of_windows(part, 16)]) for part in parts]
    machine = [pd.Series(np.array(table.columns["group"])[table.rows[rows_of_windows(p, 16)]]) for p in parts]
    last = [time.groupby(name.to_numpy()).max() for time, name in zip(of, machine, strict=True)]
    first = [time.groupby(name.to_numpy()).min() for time, name in zip(of, machine, strict=True)]
    assert (last[0] < first[1]).all()
    assert (last[1] < first[2]).all()
    assert data.counts()["train_known_anomalies"] > 0


def test_normalisation_knows_training_rows_alone() -> None:
    frame = sensors(shift=0.0)
    frame.loc[frame.groupby("machine").cumcount() >= 180, ["a", "b"]] += 1000  # what is tested
    data = windows(frame)
    scaling = ad.StandardizeSeries((16, 2))
    scaling.fit(lambda: (batch.x for batch in data.fitting_batches(torch.device("cpu"))))
    x = data.train_samples.x[torch.from_numpy(data.split.train)].double()  # type: ignore[index]
    assert scaling.shift == pytest.approx(x.mean(dim=(0, 1)).expand(16, 2).numpy(), abs=1e-5)
    assert scaling(x.float()).std(dim=(0, 1), correction=0).tolist() == pytest.approx([1, 1], abs=1e-4)


def test_labels_of_windows() -> None:
    label = ["0"] * 10 + ["1"] + ["0"] * 5 + [""] + ["0"] * 10
    frame = pd.DataFrame({"a": np.arange(27.0), "label": label})
    data = windows(frame, time_column=None, group_column=None, length=4, stride=1, validation_fraction=0)
    kinds = data.train_samples.y.tolist()
    assert kinds == [0] * 7 + [1] * 4 + [0] * 2 + [-1] * 4 + [0] * 7
    by_start = dict(zip(data.split.train.tolist(), data.split.known.tolist(), strict=True))
    assert by_start[0] == 1
    assert by_start[8] == -1
    assert by_start[12] == 1


def test_rows_of_groups_may_lie_in_any_order() -> None:
    frame = sensors()
    by_time = frame.sort_values(["time", "machine"], ignore_index=True)
    one, other = windows(frame), windows(by_time)
    assert torch.equal(one.tables["train"].values, other.tables["train"].values)
    assert by_time["a"][other.tables["train"].rows[5]] == frame["a"][5]


# ---- a fit, and scores of rows --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run() -> ad.Run:
    data = ad.Windows.from_frame(sensors(), **COLUMNS, length=16)
    return ad.fit(ad.NearestNeighbor(preprocessing=ad.StandardizeSeries), data, max_epochs=1)


def test_metrics_and_scores_are_of_rows(run: ad.Run) -> None:
    scores = run.scores
    assert scores.columns.tolist() == [
        "index",
        "name",
        "group",
        "time",
        "label",
        "score",
        "p_value",
        "verdict",
        "test_set",
    ]
    assert len(scores) == 3 * 120
    assert scores["label"].sum() == 3 * 10
    assert run.metrics["auroc"] > 0.9
    ranges = run.report["test_sets"]["test"]["range_metrics"]
    assert ranges["buffer"] == 16
    assert ranges["vus_roc"] > 0.9
    assert 0.3 < ranges["vus_pr"] <= 1
    assert run.report["threshold"]["fitted_on"] == "validation"
    assert {"events", "roc", "scores"} <= set(run.plots())


def test_a_frame_is_scored_row_by_row_in_its_own_order(run: ad.Run) -> None:
    frame = sensors().drop(columns="label")
    scores = run.detector.score(frame)
    assert scores.shape == (len(frame),)
    order = np.random.default_rng(0).permutation(3)
    blocks = [frame[frame["machine"] == f"m{i}"] for i in order]
    moved = run.detector.score(pd.concat(blocks, ignore_index=True))
    expected = np.concatenate([scores[frame["machine"] == f"m{i}"] for i in order])
    assert np.array_equal(moved, expected)
    alone = run.detector.score(blocks[0].drop(columns=["machine", "time"]))  # one machine, whose name is not needed
    assert np.array_equal(alone, moved[:300])
    assert run.detector.score(np.zeros((4, 16, 2), dtype=np.float32)).shape == (4,)


def test_the_largest_score_of_a_row_is_not_below_the_mean() -> None:
    frame = sensors()
    fitted = [
        ad.fit(
            ad.NearestNeighbor(preprocessing=ad.StandardizeSeries),
            ad.Windows.from_frame(frame, **COLUMNS, length=16, row_score=how),
            max_epochs=1,
        )
        for how in ("mean", "max")
    ]
    mean, largest = (each.scores["score"].to_numpy() for each in fitted)
    assert (largest >= mean - 1e-9).all()
    assert largest.max() > mean.max()
    assert fitted[1].detector.threshold > fitted[0].detector.threshold


def test_the_command_line_scores_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = sensors()
    frame.to_csv(tmp_path / "sensors.csv", index=False)
    config = str(Path(__file__).parents[2] / "configs/nearest_neighbor/windows.yaml")
    options = [f"--data.{name}={value}" for name, value in COLUMNS.items()]
    options += [f"--data.path={tmp_path / 'sensors.csv'}", "--data.length=16", "--trainer.accelerator=cpu"]
    options += ["--trainer.enable_progress_bar=false", f"--run_dir={tmp_path / 'run'}"]
    assert main(["fit", "--config", config, *options]) == 0
    report = json.loads((tmp_path / "run/metrics.json").read_text())
    assert report["test_sets"]["test"]["range_metrics"]["vus_roc"] > 0.9
    assert "VUS-PR" in capsys.readouterr().out
    assert (tmp_path / "run/plots/events.png").is_file()
    interleaved = frame.drop(columns="label").sort_values("time", kind="stable")
    interleaved.to_parquet(tmp_path / "new.parquet", index=False)
    out = tmp_path / "scores.csv"
    score = ["score", "--ckpt_path", str(tmp_path / "run"), "--data", str(tmp_path / "new.parquet"), "--out", str(out)]
    assert main([*score, "--plots"]) == 0
    scored = pd.read_csv(out)
    assert scored.columns.tolist() == ["name", "group", "time", "score", "p_value", "verdict"]
    assert scored["time"].tolist() == interleaved["time"].tolist()
    assert (tmp_path / "scores_plots/events.png").is_file()
    tested = pd.read_csv(tmp_path / "run/scores.csv").merge(scored, on=["group", "time"], suffixes=("", "_again"))
    assert len(tested) == 3 * 120
    assert (tested["score"] == tested["score_again"])[tested["index"] % 300 >= 200].all()
    frame.head(9).to_csv(tmp_path / "short.csv", index=False)
    score = ["score", "--ckpt_path", str(tmp_path / "run"), "--data", str(tmp_path / "short.csv")]
    capsys.readouterr()
    code = main([*score, "--out", str(tmp_path / "x.csv")])
    is_refusal(capsys, code, "the series has 9 rows, the detector takes windows of 16")


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_times_that_do_not_go_up() -> None:
    frame = sensors(40, 1).drop(columns="machine")
    swapped = frame.iloc[[0, 1, 2, 4, 3, *range(5, 40)]].reset_index(drop=True)
    after = r"must go up .* '2026-01-01T00:03:00' in row 4 comes after '2026-01-01T00:04:00' in row 3: sort the rows"
    with pytest.raises(SourceError, match=after):
        windows(swapped, group_column=None)
    with pytest.raises(SourceError, match=r"comes again after row 0.* name their column as group_column"):
        windows(sensors(40, 2).sort_values("time", ignore_index=True).drop(columns="machine"), group_column=None)
    with pytest.raises(SourceError, match=r"time_column 'time' holds 'noon' in row 2; times must be numbers, or dates"):
        windows(frame.assign(time=frame["time"].where(frame.index != 2, "noon")), group_column=None)


def test_gaps_in_time_are_said() -> None:
    frame = sensors(80, 1).drop(columns="machine").drop(index=[20, 21, 22, 50, 51])
    with pytest.warns(UserWarning, match=r"2 of 74 steps of 'time' are longer than 2 times the usual one \(60\)"):
        windows(frame.reset_index(drop=True), group_column=None, length=4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 500}, r"length=500 is more than the 162 rows of the longest training stretch: give a smaller"),
        ({"length": 40}, r"length=40 is more than the 18 rows of the longest held-out stretch"),
        ({"length": 1}, "length must be at least 2 rows, got 1"),
        ({"stride": 0}, "stride of windows must be a whole number and at least 1, got 0"),
        ({"row_score": "median"}, "row_score must be one of mean, max, got 'median'"),
        ({"split": "rows"}, "split must be one of time, group, got 'rows'"),
        ({"split": "group", "group_column": None}, "split=group needs a group_column"),
        ({"split": "group", "test_fraction": 0.9}, "split=group must leave a group to train on"),
        ({"test_fraction": 1.0}, r"test_fraction must lie in \(0, 1\), got 1.0"),
        ({"time_column": "when"}, r"time_column: the frame has no column 'when'; it has 'time', 'a'"),
        ({"time_column": "machine"}, "must differ, got 'machine', 'machine', 'label'"),
        ({"label_column": None}, "has a column 'label': name it as label_column or in drop_columns"),
        ({"drop_columns": ["a", "b"]}, "has no feature columns"),
        ({"vus_buffer": -1}, "vus_buffer must not be negative, got -1"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        windows(sensors(), **arguments)


def test_groups_shorter_than_a_window_are_left_out_and_said() -> None:
    frame = pd.concat([sensors(), sensors(12, 1).assign(machine="tiny")], ignore_index=True)
    with pytest.warns(UserWarning, match=r"1 of 4 training stretches are shorter than a window of 16 rows .* 'tiny'"):
        windows(frame)


def test_without_labels_nothing_is_tested_and_far_times_are_centred() -> None:
    frame = sensors().drop(columns="label").assign(clock=lambda f: 1.7e9 + np.arange(len(f)) % 300)
    data = windows(frame, label_column=None)
    assert data.test_names == []
    assert data.input_spec.dtype == "float64"
    assert len(data.input_spec.offsets) == 16 * 3
    assert set(np.round(data.input_spec.offsets, -3)) == {0.0, 1.7e9}
