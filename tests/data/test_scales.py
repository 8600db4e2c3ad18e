"""Features far from zero, values far from all others, and samples that do not differ."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from numpy.typing import NDArray
from torch.optim import Adam

from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector
from adlightning.cli.export import as_onnx, as_torch, describe, largest_deviation, trace
from adlightning.core.collapse import TrainingCollapse
from adlightning.core.contracts import InputSpec
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import PreprocessingFactory
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.own_data import TableData
from adlightning.data.scales import offsets_of
from adlightning.data.sources import Npz
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.methods import Autoencoder, DeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import GlobalContrastL1, Identity, StandardizeFeatures, StandardizeMinMax, UnitRange
from adlightning.preprocessing.features import FARTHEST, Centre
from adlightning.shallow import GMM, LOF, IsolationForest, NearestNeighbor

Values = NDArray[np.float64]
MOST = float(np.finfo(np.float32).max)


def values(n: int = 120) -> Values:
    rng = np.random.default_rng(0)
    return np.round(np.concatenate([rng.normal(size=(n, 3)), rng.normal(size=(n // 4, 3)) + 4]) * 1024)


def table(path: Path, x: Values) -> Path:
    frame = pd.DataFrame(x, columns=list("abc"))
    frame.assign(label=np.repeat([0, 1], [len(x) * 4 // 5, len(x) // 5])).to_csv(path, index=False)
    return path


def table_data(path: Path, **options: Any) -> TableData:
    return TableData(str(path), label_column="label", seed=0, **options)


def network(**options: Any) -> AnomalyDetector:
    return Autoencoder(
        encoder=partial(MLPEncoder, dense=(8,), rep_dim=2),
        **{"preprocessing": StandardizeFeatures, "optimizer": partial(Adam, lr=1e-3), **options},
    )


def scores_of(make_trainer: MakeTrainer, detector: AnomalyDetector, data: pl.LightningDataModule) -> Values:
    torch.manual_seed(0)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector, datamodule=data)
    trainer.test(detector, datamodule=data, verbose=False)
    return detector.results["test"].scores


# ---- far from zero --------------------------------------------------------------------------------------------------


OFFSET = partial(StandardizeFeatures, offset=1e-4)


@pytest.mark.parametrize("preprocessing", [StandardizeFeatures, OFFSET, StandardizeMinMax])
@pytest.mark.parametrize("offset", [1e7, 1.7e9, 1e15, 1e18])
def test_scores_do_not_depend_on_where_zero_is(
    make_trainer: MakeTrainer, tmp_path: Path, offset: float, preprocessing: PreprocessingFactory
) -> None:
    x = values() * (2.0**20 if offset == 1e18 else 1)  # float64 has steps of 128 there
    plain, moved = (
        table(tmp_path / f"{i}.csv", x + by) for i, by in enumerate((np.zeros(3), np.array([offset, -offset, 0])))
    )
    expected = scores_of(make_trainer, network(preprocessing=preprocessing), table_data(plain))
    data, detector = table_data(moved), network(preprocessing=preprocessing)
    scores = scores_of(make_trainer, detector, data)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert data.input_spec.dtype == "float64"
    np.testing.assert_allclose(
        detector.score((x + np.array([offset, -offset, 0]))[detector.results["test"].index]), scores
    )


def test_estimators_without_scaling_take_features_far_from_zero(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    plain, moved = (table(tmp_path / f"{by}.csv", values() + by) for by in (0.0, 2.0**50))
    for kind in (NearestNeighbor, IsolationForest):
        expected, scores = (
            scores_of(make_trainer, kind(preprocessing=Identity), table_data(p)) for p in (plain, moved)
        )
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_ordinary_features_are_float32_and_as_they_were() -> None:
    x = np.random.default_rng(0).normal(size=(100, 4)) * [1, 1e-2, 50, 1e30] + [0, 1, 2000, 0]
    assert offsets_of(torch.from_numpy(x)) == ()
    assert offsets_of(torch.from_numpy(x).float()) == ()
    years = torch.arange(1900.0, 2030.0, dtype=torch.float64)[:, None]
    assert offsets_of(years) == ()
    assert offsets_of(torch.tensor([[0.3, 5.0], [0.3, 6.0]], dtype=torch.float64)) == ()  # constant, and held
    assert offsets_of(years * 1e-3 + 1e9) == (1e9 + 1.964,)


@pytest.mark.usefixtures("onnx_parsed_once")
def test_a_checkpoint_scores_features_far_from_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = values() + np.array([1.7e9, 0, 1e12])
    path = table(tmp_path / "t.csv", x)
    options = [
        f"--data.path={path}",
        "--data.label_column=label",
        "--trainer.max_epochs=2",
        "--model.pretraining.epochs=1",
    ]
    quiet = ["--plots=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    run = tmp_path / "run"
    assert main(["fit", "--config=configs/deep_sad/table.yaml", *options, *quiet, f"--run_dir={run}"]) == 0
    assert main(["score", f"--ckpt_path={run}", f"--data={path}", f"--out={tmp_path / 's.csv'}", "--device=cpu"]) == 0
    tested, scored = pd.read_csv(run / "scores.csv"), pd.read_csv(tmp_path / "s.csv")
    both = tested.merge(scored, on="name")
    assert len(both) == len(tested)
    np.testing.assert_allclose(both.score_x, both.score_y, rtol=1e-5)
    detector = load_detector(run)
    np.testing.assert_allclose(detector.score(x), scored.score, rtol=1e-5)
    assert torch.allclose(detector.anomaly_score(torch.from_numpy(x)).double(), torch.tensor(scored.score), rtol=1e-5)
    described, program = describe(detector), trace(detector.requires_grad_(False))
    assert described["dtype"] == "float64"
    for exported in (as_onnx(program, described), as_torch(program, described)):
        assert largest_deviation(detector, exported.run) < 1e-5
        np.testing.assert_allclose(exported.run(torch.from_numpy(x))["scores"], scored.score, rtol=1e-4)


def test_series_far_from_zero(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = np.round(rng.normal(size=(120, 6, 2)) * 1024)
    y = np.repeat([0, 1], 60)
    expected, scores = (
        scores_of(
            make_trainer,
            NearestNeighbor(preprocessing=StandardizeFeatures),
            OneVsAll(Npz(str(path)), normal_class="0", seed=0),
        )
        for path, by in ((tmp_path / "a.npz", 0.0), (tmp_path / "b.npz", 1e12))
        if not np.savez(path, train_features=x + by, train_labels=y, test_features=x[::2] + by, test_labels=y[::2])  # type: ignore[func-returns-value]
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_whole_numbers_that_float64_does_not_keep_are_refused(tmp_path: Path) -> None:
    x = np.array([[1, 2], [3, 2**53 + 1]])
    np.savez(tmp_path / "t.npz", train_features=x, train_labels=[0, 1])
    with pytest.raises(ValueError, match="holds 9007199254740993 at row 1, column 1; whole numbers must be such"):
        Npz(str(tmp_path / "t.npz")).load("train")


def test_the_offsets_of_an_input_survive_its_description() -> None:
    spec = InputSpec("series", (2, 1), offsets=(1.7e9, 0.0))
    assert InputSpec.from_dict(spec.as_dict()) == spec
    for wrong in ([1.0], [1, 2], [float("nan"), 0.0], "ab"):
        with pytest.raises(ValueError, match="offsets of an input"):
            InputSpec.from_dict({**spec.as_dict(), "offsets": wrong})


def test_a_device_without_float64_is_named() -> None:
    def move(_: torch.Tensor) -> torch.Tensor:
        raise TypeError("MPS has no float64")

    with pytest.raises(ValueError, match=r"the device has no float64, .*accelerator=cpu"):
        Centre((1,), (1.0,))._apply(move)


# ---- far from all others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e20, -1e20, 1e38, -3e38])
@pytest.mark.parametrize("kind", [network, DeepSVDD, LOF, IsolationForest])
def test_a_value_far_out_makes_its_test_row_the_most_anomalous(
    make_trainer: MakeTrainer, tmp_path: Path, value: float, kind: Any
) -> None:
    x = values()
    test = x.copy()
    test[3, 1] = value
    data = table_data(table(tmp_path / "t.csv", x), test_path=str(table(tmp_path / "u.csv", test)))
    options = (
        {"encoder": partial(MLPEncoder, dense=(8,), rep_dim=2), "pretraining": AutoencoderPretraining(epochs=0)}
        if kind is DeepSVDD
        else {}
    )
    detector = kind(preprocessing=StandardizeFeatures, **options)
    scores = scores_of(make_trainer, detector, data)
    assert np.isfinite(scores).all()
    assert scores[3] == MOST > np.delete(scores, 3).max()
    assert detector.score(test)[3] == MOST == detector.anomaly_score(torch.from_numpy(test).float())[3]
    assert np.isfinite(detector.threshold)


@pytest.mark.parametrize("value", [1e20, -1e38])
def test_a_value_far_out_in_training_is_refused_with_row_and_column(
    make_trainer: MakeTrainer, tmp_path: Path, value: float
) -> None:
    x = values()
    x[17, 2] = value
    data = table_data(table(tmp_path / "t.csv", x), test_path=str(table(tmp_path / "u.csv", values())))
    with pytest.raises(ValueError, match=r"column 'c' has -?1e\+\d\d in row 17, more than 1e\+09 times as far out"):
        make_trainer().fit(network(), datamodule=data)


def test_known_anomalies_far_out_are_refused_where_they_are_trained_on(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    x = values()
    x[-1, 0] = 1e20
    data = table_data(table(tmp_path / "t.csv", x), test_path=str(table(tmp_path / "u.csv", x)))
    scores = scores_of(make_trainer, network(), data)  # trains on normal rows only
    assert scores[-1] == MOST
    data = table_data(tmp_path / "t.csv", test_path=str(tmp_path / "u.csv"))
    supervised = network()
    type(supervised).uses_known_anomalies, before = True, type(supervised).uses_known_anomalies
    try:
        with pytest.raises(ValueError, match=r"column 'a' has 1e\+20 in row 149"):
            make_trainer().fit(supervised, datamodule=data)
    finally:
        type(supervised).uses_known_anomalies = before


def test_heavy_tails_and_rounding_are_no_marks(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    x = np.exp(values() / 1024 * 3)  # over eight decades
    x[:, 1] = np.where(np.arange(len(x)) % 50 == 0, 1.0, 1e-17 * np.arange(len(x)))
    data = table_data(table(tmp_path / "t.csv", x))
    make_trainer(max_epochs=1).fit(network(), datamodule=data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("part", ["train", "test", "score"])
def test_what_is_no_float32_is_refused_everywhere(
    make_trainer: MakeTrainer, tmp_path: Path, value: float, part: str
) -> None:
    x, bad = values(), values()
    bad[7, 1] = value
    paths = {p: table(tmp_path / f"{p}.csv", bad if p == part else x) for p in ("train", "test")}
    data, detector = table_data(paths["train"], test_path=str(paths["test"])), network()
    if part == "score":
        scores_of(make_trainer, detector, data)
        with pytest.raises(ValueError, match="row 7"):
            detector.score(bad)
        with pytest.raises(ValueError, match=r"column 'b' has .* in row 7"):
            detector.score(pd.DataFrame(bad, columns=list("abc")))
    else:
        with pytest.raises(ValueError, match=r"column 'b' has .* in row 7; features must be finite numbers"):
            make_trainer().fit(detector, datamodule=data)


# ---- no differences -------------------------------------------------------------------------------------------------


class Given(AnomalySource):
    """The samples that it is given, unlabelled."""

    name = "given"

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x

    def input_spec(self) -> InputSpec:
        return InputSpec("image" if self.x.ndim == 4 else "table", tuple(self.x.shape[1:]))

    def load(self, part: Part) -> Samples | None:
        n = len(self.x)
        return None if part == "test" else Samples(self.x, np.full(n, -1), tuple(str(i) for i in range(n)))


def given(x: torch.Tensor) -> AnomalyLabelled:
    return AnomalyLabelled(Given(x), batch_size=8, seed=0)


@pytest.mark.parametrize("x", [torch.full((40, 1, 8, 8), 7, dtype=torch.uint8), torch.ones(40, 3)])
def test_training_samples_that_are_all_the_same_are_refused(make_trainer: MakeTrainer, x: torch.Tensor) -> None:
    detector = NearestNeighbor(preprocessing=UnitRange if x.ndim == 4 else StandardizeFeatures)
    with pytest.raises(ValueError, match="all 38 training samples are the same: there is nothing to learn") as caught:
        make_trainer().fit(detector, datamodule=given(x))
    assert "learning rate" not in str(caught.value)


def test_samples_that_a_preprocessing_makes_the_same_are_said_to_be(make_trainer: MakeTrainer) -> None:
    grey = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()
    with pytest.raises(
        TrainingCollapse, match="The training samples differ, and preprocessing=GlobalContrastL1 makes all"
    ) as caught:
        make_trainer().fit(NearestNeighbor(preprocessing=GlobalContrastL1), datamodule=given(grey))
    assert "learning rate" not in str(caught.value)


@pytest.mark.parametrize(("kind", "cause"), [(GMM, "hyper-parameters"), (Autoencoder, "learning rate")])
def test_the_cause_of_constant_scores_fits_the_method(make_trainer: MakeTrainer, kind: Any, cause: str) -> None:
    class Constant(kind):  # type: ignore[misc]
        def anomaly_score(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), device=x.device)

    options = {"encoder": partial(MLPEncoder, dense=(8,), rep_dim=2)} if kind is Autoencoder else {}
    x = torch.from_numpy(values()).float()
    with pytest.raises(TrainingCollapse, match="The training samples differ: the detector maps every") as caught:
        make_trainer().fit(Constant(preprocessing=StandardizeFeatures, **options), datamodule=given(x))
    assert cause in str(caught.value)
    assert ("learning rate" in str(caught.value)) == (cause == "learning rate")


def test_features_that_vary_in_no_training_row_are_named(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    x = values()
    x[:120, 1] = 5.0  # the normal rows
    data = table_data(table(tmp_path / "t.csv", x))
    with pytest.warns(UserWarning, match=r"t\.csv: features vary, but in no training row: 'b'"):
        make_trainer(max_epochs=1).fit(network(), datamodule=data)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*in no training row")
        make_trainer(max_epochs=1).fit(network(), datamodule=table_data(table(tmp_path / "u.csv", values())))


def test_far_is_far_in_deviations_of_training() -> None:
    assert FARTHEST**4 < MOST


# ---- values too small for float32 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-200, 1e-45])
def test_a_feature_too_small_for_float32_is_refused_before_training(tmp_path: Path, scale: float) -> None:
    path = table(tmp_path / "t.csv", values() * np.array([1, scale, 1]))
    with pytest.raises(ValueError, match=r"t\.csv: column 'b' lies between .* float32 has no such small differences"):
        table_data(path).setup("fit")


def test_small_features_score_as_others(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    scales = np.array([2.0**-100, 1, 1])
    plain, small = (table(tmp_path / f"{i}.csv", values() * by) for i, by in enumerate((np.ones(3), scales)))
    expected, scores = (scores_of(make_trainer, network(), table_data(path)) for path in (plain, small))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
