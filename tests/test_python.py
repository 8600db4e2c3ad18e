"""The framework from Python: public names, a fit in a line, samples in memory, experiments, detectors from files."""

from __future__ import annotations

import doctest
import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning import Callback
from torch.utils.data import DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

import adlightning as ad
from adlightning.cli.registry import DATAMODULES, DETECTORS, PARTS
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import Part, known_class
from adlightning.methods.parts.hypersphere import AutoencoderPretraining

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(80, 4))
TEST = np.concatenate([RNG.normal(size=(20, 4)), RNG.normal(size=(10, 4)) + 4])
LABELS = np.repeat([0, 1], [20, 10])
IMAGES = RNG.integers(0, 256, (24, 8, 6, 3), dtype=np.uint8)


def small() -> ad.DeepSAD:
    return ad.DeepSAD(encoder=partial(ad.MLPEncoder, dense=(8,), rep_dim=4))


def pretrained() -> ad.DeepSAD:
    return ad.DeepSAD(partial(ad.MLPEncoder, dense=(8,), rep_dim=4), pretraining=AutoencoderPretraining(epochs=150))


# ---- names ---------------------------------------------------------------------------------------------------------


def _below(cls: type[Any]) -> Iterator[type[Any]]:
    for below in cls.__subclasses__():
        yield below
        yield from _below(below)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, adlightning; print(sorted({'torch', 'numpy', 'pandas', 'pytorch_lightning'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_detector_datamodule_source_and_part_is_a_public_name() -> None:
    of_data = [(name, importlib.import_module(module)) for name, module in DATAMODULES.items()]
    packages = [importlib.import_module(name) for name in (*DETECTORS, *PARTS)]
    of_packages = [(n, p) for p in packages for n in getattr(p, "__all__", ()) if n[0].isupper()]
    # aliases of types; the decoder and the encoder that the method VAE is made of
    left_out = {
        ("Part", "adlightning.data.sources"),
        ("Output", "adlightning.preprocessing"),
        ("VAE", "adlightning.networks"),
    }
    for name, module in of_data + of_packages:
        if (name, module.__name__) not in left_out:
            assert getattr(ad, name) is getattr(module, name)
            assert name in dir(ad)
    of_methods = [part for part in _below(Part) if part.__module__.startswith("adlightning.methods.")]
    assert len(of_methods) > 10
    for part in of_methods:
        assert inspect.isabstract(part) or part.__name__ in dir(ad), part
    with pytest.raises(AttributeError, match="DeepSADD"):
        ad.DeepSADD  # type: ignore[attr-defined]  # noqa: B018


def test_no_public_name_is_that_of_a_module_whose_import_would_take_its_place() -> None:
    modules = [info.name for info in pkgutil.iter_modules(ad.__path__)]
    assert "run" in modules
    assert not set(modules) & set(dir(ad))


@pytest.mark.parametrize("module", ["run", "experiments", "data.arrays"])
def test_the_examples_of_docstrings_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"adlightning.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.filterwarnings("ignore:max_epochs=")
def test_the_examples_of_the_page_run() -> None:
    page = Path(__file__).parents[1] / "docs" / "python.md"
    found = doctest.testfile(str(page), module_relative=False)
    assert found.attempted > 20
    assert found.failed == 0


# ---- a fit ---------------------------------------------------------------------------------------------------------


def test_a_fit_gives_metrics_and_scores_and_leaves_nothing_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"max_epochs=3 is no longer than pretraining.epochs=150: .* is 1 here"):
        run = ad.fit(pretrained(), ad.Arrays(TABLE, TEST, LABELS), max_epochs=3, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert run.metrics["auroc"] > 0.95
    assert run.scores["score"].tolist() == run.detector.score(TEST).tolist()
    assert (run.scores["verdict"] == "anomaly").tolist() == run.detector.predict(TEST).tolist()
    assert run.report["selection"] == "none"
    assert "auroc" in repr(run)
    assert "<td>auroc</td>" in run._repr_html_()
    assert capsys.readouterr().out == ""
    assert logging.getLogger("pytorch_lightning").level != logging.WARNING


def test_the_plots_of_a_run_are_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    figures = ad.fit(ad.NearestNeighbor(), ad.Arrays(IMAGES, IMAGES, [0, 1] * 12), progress=False).plots()
    assert figures.keys() >= {"roc", "scores", "most_anomalous", "least_anomalous"}
    assert "NearestNeighbor on arrays: ROC curve" in figures["roc"].get_suptitle()
    assert ad.fit(ad.KDE(), ad.Arrays(TABLE), progress=False).plots().keys() == {"scores"}
    assert list(tmp_path.iterdir()) == []


def test_a_fit_with_the_same_seed_is_the_same_and_another_seed_is_not() -> None:
    def scores(seed: int) -> NDArray[np.float64]:
        data = ad.Arrays(TABLE, TEST, LABELS)
        return ad.fit(ad.IsolationForest(), data, seed=seed, progress=False).detector.score(TEST)

    assert np.array_equal(scores(1), scores(1))
    assert not np.array_equal(scores(1), scores(2))


def test_a_data_object_is_split_by_each_fit_s_own_seed_and_a_detector_is_trained_once() -> None:
    data = ad.Arrays(TABLE, TEST, LABELS)
    first, second = (ad.fit(ad.KDE(), data, seed=seed, progress=False).data.split.validation for seed in (0, 5))
    assert not np.array_equal(first, second)
    run = ad.fit(ad.KDE(), ad.Arrays(TABLE, seed=5), progress=False)
    assert np.array_equal(run.data.split.validation, second)
    with pytest.raises(ValueError, match="detector must be a new KDE, this one is trained already"):
        ad.fit(run.detector, data, progress=False)


def test_ctrl_c_is_ctrl_c() -> None:
    class Interrupt(Callback):
        """Somebody at the keyboard."""

        def on_train_batch_start(self, *arguments: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ad.fit(ad.KDE(), ad.Arrays(TABLE), callbacks=Interrupt(), progress=False)


@pytest.mark.filterwarnings("ignore:max_epochs=")
def test_weights_are_selected_by_a_validation_metric_and_the_report_says_so() -> None:
    run = ad.fit(small(), ad.Arrays(TABLE, TEST, LABELS), max_epochs=3, monitor="val/score_mean", progress=False)
    assert run.report["selection"] == "val"


def test_a_run_folder_is_left_where_one_is_asked_for_and_only_if_new(tmp_path: Path) -> None:
    data = ad.Arrays(TABLE, TEST, LABELS)
    run = ad.fit(ad.NearestNeighbor(), data, run_dir=tmp_path / "run", progress=False)
    assert {file.name for file in (tmp_path / "run").iterdir()} >= {
        "checkpoints",
        "metrics.json",
        "plots",
        "scores.csv",
    }
    assert np.array_equal(ad.load_detector(tmp_path / "run").score(TEST), run.detector.score(TEST))
    with pytest.raises(ValueError, match="is not empty and nothing is overwritten"):
        ad.fit(ad.NearestNeighbor(), data, run_dir=tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detector": "DeepSAD"}, "detector must be an AnomalyDetector, such as ad.DeepSAD"),
        ({"monitor": "val/acu"}, "monitor must be one of val/score_mean, .* got 'val/acu'"),
        ({"precison": "16"}, "have no argument precison; nearest: precision"),
        ({"data": [1, 2]}, "data must be a datamodule, such as ad.Arrays"),
        ({"max_epochs": 2.0}, r"max_epochs must be a whole number and at least 1, got 2\.0"),
        ({"max_epochs": None}, "max_epochs must be a whole number and at least 1, got None"),
        (
            {"data": DataLoader(TensorDataset(torch.ones(9, 2)), sampler=SubsetRandomSampler(range(3)))},
            "a DataLoader without a sampler of its own",
        ),
        (
            {"data": DataLoader(TensorDataset(torch.ones(9, 2)), collate_fn=lambda items: items)},
            "a DataLoader without a collate_fn of its own",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"detector": ad.KDE(), "data": ad.Arrays(TABLE), "progress": False} | arguments
    with pytest.raises(ValueError, match=message):
        ad.fit(**given)


# ---- samples in memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (TABLE, "4 features (arrays)"),
        (torch.from_numpy(TABLE), "4 features (arrays)"),
        (TABLE.reshape(40, 4, 2), "4x2 series (time x features) (arrays)"),
        (IMAGES, "3x8x6 images (arrays)"),
        (IMAGES.transpose(0, 3, 1, 2), "3x8x6 images (arrays)"),
        (IMAGES / 255, "3x8x6 images (arrays)"),
        (IMAGES[..., 0], "1x8x6 images (arrays)"),
    ],
)
def test_arrays_are_tables_series_or_images(x: NDArray[Any] | torch.Tensor, words: str) -> None:
    data = ad.Arrays(x)
    data.setup("fit")
    assert str(data.input_spec) == words


def test_a_detector_scores_images_in_any_form_alike(tmp_path: Path) -> None:
    detector = ad.fit(ad.NearestNeighbor(), ad.Arrays(IMAGES), progress=False).detector
    wanted = detector.score(IMAGES.transpose(0, 3, 1, 2))
    for x in (IMAGES, IMAGES / 255, torch.from_numpy(IMAGES)):
        assert np.array_equal(detector.score(x), wanted)
    for number in range(4):
        Image.fromarray(IMAGES[number]).save(tmp_path / f"{number}.png")
    assert np.array_equal(detector.score(tmp_path), wanted[:4])
    assert np.array_equal(detector.predict(str(tmp_path / "1.png")), detector.predict(IMAGES[1:2]))
    with pytest.raises(ValueError, match="there is no file or folder"):
        detector.score(tmp_path / "none.png")


def test_the_columns_of_a_frame_are_matched_by_name() -> None:
    frame = pd.DataFrame(TABLE, columns=list("abcd"), index=[f"row {i}" for i in range(80)])
    data = ad.Arrays(frame, frame[:5], np.zeros(5))
    run = ad.fit(ad.KDE(), data, progress=False)
    detector = run.detector
    assert run.scores["name"][0] == "row 0"
    assert np.array_equal(detector.score(frame[["d", "c", "b", "a"]]), detector.score(frame))
    with pytest.raises(ValueError, match="lacks the columns 'd'"):
        detector.score(frame[["a", "b", "c"]])


def test_what_is_known_reaches_training_and_labels_do_not() -> None:
    known = np.zeros(80)
    known[:5], known[5:8] = -1, 1
    data = ad.Arrays(TABLE, TEST, LABELS, known=known, validation_fraction=0)
    data.setup("fit")
    counts = data.counts()
    assert (counts["train"], counts["train_known_anomalies"], counts["train_known_normals"]) == (80, 5, 3)
    assert (counts["test"], counts["test_anomalies"]) == (30, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X_train": np.zeros(5)}, r"X_train must be a table \(N, D\), .* got float64 of shape \(5,\)"),
        ({"X_train": [[1, 2]]}, "X_train must be a NumPy array, a tensor or a pandas frame, got a list"),
        ({"X_train": np.zeros((4, 2), complex)}, "X_train holds complex128, numbers are needed"),
        ({"X_train": np.array([["1", "2"]])}, "X_train holds <U1, numbers are needed"),
        ({"X_train": np.full((4, 2), np.nan)}, "X_train holds nan at row 0, column 0"),
        ({"X_train": np.zeros((4, 3, 8, 3), np.uint8)}, "channels may come first or last: say channels='first'"),
        ({"X_train": np.full((4, 3, 8, 8), 7.0)}, r"images with the value 7.0: uint8 in 0..255 or floats in \[0, 1\]"),
        ({"channels": "middle"}, "channels must be first, last or None, got 'middle'"),
        ({"X_test": TEST[:, :3]}, r"X_train and X_test must hold samples of one shape, got \(4,\) and \(3,\)"),
        ({"X_test": pd.DataFrame(TEST)}, "X_test must be an array, as X_train is, got a pandas frame"),
        ({"y_test": LABELS}, "y_test needs X_test"),
        ({"X_test": TEST, "y_test": LABELS[:-1]}, r"y_test must have one number a sample, \(30,\), got \(29,\)"),
        ({"X_test": TEST, "y_test": LABELS + 1}, "y_test must be among -1, 0, 1, got .*2"),
        ({"known": np.full(80, "normal")}, "known must be among -1, 0, 1, got .*normal"),
    ],
)
def test_arrays_that_are_no_samples_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ad.Arrays(**({"X_train": TABLE} | arguments))


class Pairs(Dataset[Any]):
    """Samples with what is known of them."""

    def __len__(self) -> int:
        return len(TABLE)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float64], int]:
        return TABLE[index], -1 if index < 3 else 0


class Endless(IterableDataset[Any]):
    """A stream."""

    def __iter__(self) -> Iterator[Any]:
        yield from ()


@pytest.mark.filterwarnings("ignore:max_epochs=")
def test_a_data_set_or_a_loader_of_samples_and_what_is_known_trains() -> None:
    known = torch.tensor([-1] * 3 + [0] * 77)
    tensors = TensorDataset(torch.from_numpy(TABLE), known)
    scores = [
        ad.fit(small(), data, max_epochs=2, progress=False).detector.score(TEST)
        for data in (
            ad.Arrays(TABLE, known=known, batch_size=16, drop_last=False),
            DataLoader(tensors, batch_size=16),
            DataLoader(Pairs(), batch_size=16),
        )
    ]
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])
    with pytest.raises(ValueError, match=r"or a data set of .* with a length, .* got a Endless"):
        ad.fit(small(), Endless(), max_epochs=2, progress=False)
    with pytest.raises(ValueError, match=r"must be \(x, known\) or x, got 3 values"):
        ad.fit(small(), TensorDataset(known, known, known), max_epochs=2, progress=False)


# ---- detectors from files, experiments -----------------------------------------------------------------------------


def test_a_detector_is_saved_and_loaded_by_its_class_and_without_it(tmp_path: Path) -> None:
    run = ad.fit(ad.GMM(n_components=[2]), ad.Arrays(TABLE), progress=False)
    path = run.save(tmp_path / "gmm.ckpt")
    for loaded in (
        ad.load_detector(path),
        ad.GMM.load_from_checkpoint(path),
        ad.AnomalyDetector.load_from_checkpoint(path),
    ):
        assert loaded.arguments["n_components"] == [2]
        assert np.array_equal(loaded.score(TEST), run.detector.score(TEST))
    with pytest.raises(ValueError, match="exists already"):
        run.save(path)
    with pytest.raises(ValueError, match="is of a GMM, not a KDE"):
        ad.KDE.load_from_checkpoint(path)
    for given in ({"n_components": 3}, {"weights_only": False}):
        with pytest.raises(ValueError, match=f"takes a path and map_location, got {next(iter(given))}"):
            ad.GMM.load_from_checkpoint(path, **given)


def test_an_experiment_is_what_the_command_line_makes_of_its_config(tmp_path: Path) -> None:
    made = ad.experiment("deep_sad/digits", {"data.normal_class": 3, "model.eta": 2.0, "model.pretraining.epochs": 4})
    assert isinstance(made.detector, ad.DeepSAD)
    assert (made.detector.eta, made.detector.pretraining.epochs) == (2.0, 4)
    assert isinstance(made.data, ad.OneVsAll)
    assert made.data.normal_class == 3
    assert made.trainer == {"max_epochs": 120, "seed": 0}


def test_a_shorter_experiment_pretrains_its_share_as_on_the_command_line() -> None:
    with pytest.warns(UserWarning, match=r"pretraining.epochs=60: pretraining.epochs is 2 here"):
        made = ad.experiment("deep_sad/digits", {"trainer.max_epochs": 4})
    assert made.detector.arguments["pretraining"].epochs == 2


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("deep_sad/digit", {}, "there is no file deep_sad/digit; nearest: deep_sad/digits"),
        ("deep_sad/digits", {"trainer.max_epoch": 3}, "no argument max_epoch; nearest: max_epochs"),
        ("deep_sad/digits", {"eta": 2}, "overrides: eta must begin with model, data or trainer"),
        ("deep_sad/digits", {"model.etta": 2}, "etta"),
        ("benchmarks/deep_sad_digits", {}, "must be an experiment, with model and data"),
    ],
)
def test_experiments_that_there_are_not_are_refused(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ad.experiment(name, overrides)


def test_a_checkpoint_may_name_a_class_by_its_public_name_before_that_is_used() -> None:
    name = vars(ad).pop("DeepSAD", None)  # as in a process that has just begun
    assert known_class("class_path", "adlightning.DeepSAD", AnomalyDetector).__name__ == "DeepSAD"
    assert name in (None, ad.DeepSAD)
