"""What every shallow detector promises, on every kind of features."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from shallow_cases import DETECTORS, FEATURES, auroc_on_test, fit, make, raw_test_input, table, table_for

from adlightning.callbacks.checkpoints import LastCheckpoint
from adlightning.checkpoints.loading import load_detector
from adlightning.core.parts import described
from adlightning.preprocessing import GlobalContrastL1, StandardizeFeatures
from adlightning.shallow import (
    GMM,
    KDE,
    LOF,
    OCSVM,
    IsolationForest,
    KernelKLIEP,
    KernelULSIF,
    NearestNeighbor,
    ShallowDetector,
)
from adlightning.shallow.features import BackboneFeatures, PCAFeatures

UNSUPERVISED = [name for name, (cls, _) in DETECTORS.items() if not cls.uses_known_anomalies]
OTHER_KERNELS = ("linear_ocsvm", "polynomial_ocsvm")
QUICK = [("ocsvm", "pca"), ("nearest_neighbor", "pca"), ("kde", "autoencoder"), ("ssad", "autoencoder")]
EVERY_CASE = [
    pytest.param(name, features, marks=[] if features == "raw" or (name, features) in QUICK else [pytest.mark.slow])
    for name in DETECTORS
    if name not in OTHER_KERNELS
    for features in FEATURES
]
LEAVES_OUT = ["kde", "lof", "nearest_neighbor"]


@pytest.mark.parametrize(("name", "features"), EVERY_CASE)
def test_anomalies_score_higher_without_company_and_after_a_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, features: str
) -> None:
    detector, data = make(name, **FEATURES[features]), table_for(name)
    trainer = fit(make_trainer, detector, data, epochs=15)
    assert auroc_on_test(trainer, detector, data) > 0.9
    x = raw_test_input(data)
    whole = detector.anomaly_score(x)
    assert whole.shape == (len(x),)
    assert whole.dtype == torch.float32
    single = torch.cat([detector.anomaly_score(x[i : i + 1]) for i in range(len(x))])
    order = torch.randperm(len(x))
    torch.testing.assert_close(single, whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-4, atol=1e-5)
    path = tmp_path / "detector.ckpt"
    trainer.save_checkpoint(path)
    loaded = load_detector(path)
    assert type(loaded) is type(detector)
    assert described(loaded.arguments) == described(detector.arguments)
    assert loaded.training_record["chosen"] == detector.training_record["chosen"]
    assert torch.equal(loaded.anomaly_score(x), whole)
    assert loaded.threshold == detector.threshold
    assert torch.isfinite(loaded.threshold)


@pytest.mark.parametrize("features", list(FEATURES))
def test_same_seed_same_scores(make_trainer: MakeTrainer, features: str) -> None:
    scores = []
    for _ in range(2):
        pl.seed_everything(0, verbose=False)
        detector, data = make("isolation_forest", **FEATURES[features]), table()
        fit(make_trainer, detector, data)
        scores.append(detector.anomaly_score(raw_test_input(data)))
    assert torch.equal(scores[0], scores[1])


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_known_anomalies_never_reach_an_unsupervised_detector(make_trainer: MakeTrainer, name: str) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    class Watched(DETECTORS[name][0]):  # type: ignore[misc]
        def fit_estimator(self, samples: Any, **choice: Any) -> Any:
            seen.append(samples.known)
            return super().fit_estimator(samples, **choice)

    detector, data = Watched(preprocessing=StandardizeFeatures, **DETECTORS[name][1]), table_for(name)
    fit(make_trainer, detector, data)
    assert (data.split.known == -1).sum() > 0
    assert [len(known) for known in seen] == [(data.split.known != -1).sum()]
    assert set(seen[0]) == ({0, 1} if Watched.needs_unlabelled else {0})


def test_known_anomalies_do_not_reach_the_autoencoder_of_an_unsupervised_detector(make_trainer: MakeTrainer) -> None:
    codes = []
    for ratio in (0.0, 0.1):
        detector, data = make("ocsvm", **FEATURES["autoencoder"]), table(labelled_anomaly_ratio=ratio)
        fit(make_trainer, detector, data)
        codes.append(torch.from_numpy(detector.represent(raw_test_input(data)[:5])))
    assert torch.equal(codes[0], codes[1])


def test_the_autoencoder_is_trained_before_the_estimator_is_fitted(make_trainer: MakeTrainer) -> None:
    scores = []
    for epochs in (1, 20):
        detector, data = make("gmm", **FEATURES["autoencoder"]), table()
        trainer = fit(make_trainer, detector, data, epochs=epochs)
        scores.append(float(trainer.callback_metrics["train/loss"]))
        assert detector.training_record["chosen"] != {}
    assert scores[1] < 0.7 * scores[0]


@pytest.mark.parametrize("features", ["raw", "autoencoder"])
def test_last_checkpoint_and_automatic_test_agree(make_trainer: MakeTrainer, tmp_path: Path, features: str) -> None:
    for fraction in (0.0, 0.1):
        folder = tmp_path / str(fraction)
        detector, data = make("kde", **FEATURES[features]), table(validation_fraction=fraction)
        options: dict[str, Any] = {"callbacks": [LastCheckpoint(folder)], "enable_checkpointing": True}
        trainer = fit(make_trainer, detector, data, **options)
        trainer.test(detector, datamodule=data, verbose=False)
        loaded, again = load_detector(folder / "last.ckpt"), make_trainer()
        again.test(loaded, datamodule=table(validation_fraction=fraction), verbose=False)
        assert np.array_equal(loaded.results["test"].scores, detector.results["test"].scores)
        assert torch.isfinite(loaded.threshold)
        assert loaded.threshold == detector.threshold


@pytest.mark.parametrize("features", ["raw", "autoencoder"])
def test_a_resumed_fit_ends_where_an_undisturbed_one_does(
    make_trainer: MakeTrainer, tmp_path: Path, features: str
) -> None:
    def fitted(epochs: int, **options: Any) -> tuple[ShallowDetector, torch.Tensor]:
        pl.seed_everything(0, verbose=False)
        detector, data = make("gmm", **FEATURES[features]), table()
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(detector, datamodule=data, **options)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return detector.eval(), detector.anomaly_score(raw_test_input(data))

    fitted(2)
    undisturbed, expected = fitted(5)
    resumed, scores = fitted(5, ckpt_path=tmp_path / "2.ckpt", weights_only=True)
    assert torch.equal(scores, expected)
    assert resumed.threshold == undisturbed.threshold


class _StopAfter(pl.Callback):
    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.batches


@pytest.mark.parametrize(
    "options",
    [
        {"callbacks": [_StopAfter(1)]},
        {"callbacks": [_StopAfter(3)]},
        {"max_steps": 2, "max_epochs": -1},
        {"limit_train_batches": 1},
        {"check_val_every_n_epoch": 2},
        {"fast_dev_run": True},
    ],
)
@pytest.mark.parametrize("features", ["raw", "autoencoder"])
def test_however_training_ends_the_detector_is_whole(
    make_trainer: MakeTrainer, features: str, options: dict[str, Any]
) -> None:
    detector, data = make("ocsvm", **FEATURES[features]), table()
    trainer = make_trainer(**{"max_epochs": 3, **options})
    trainer.fit(detector, datamodule=data)
    detector.eval()
    assert detector.ready_to_score()
    assert torch.isfinite(detector.threshold)
    assert torch.isfinite(detector.anomaly_score(raw_test_input(data))).all()


def test_untrained_features_end_the_fit_after_one_quiet_epoch(make_trainer: MakeTrainer) -> None:
    detector, data = make("nearest_neighbor"), table()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = fit(make_trainer, detector, data, epochs=50)
    assert trainer.current_epoch == 1
    said = [str(w.message) for w in caught if "workers" not in str(w.message) and "LeafSpec" not in str(w.message)]
    assert [text for text in said if "logging interval" not in text] == []


@pytest.mark.parametrize("name", LEAVES_OUT)
def test_without_held_out_samples_the_threshold_leaves_out_each_training_sample(
    make_trainer: MakeTrainer, name: str
) -> None:
    detector, data = make(name), table(validation_fraction=0.0)
    fit(make_trainer, detector, data)
    assert detector.training_record["threshold_from"] == "training"
    normal = raw_test_input(data)[torch.from_numpy(data.split.test_labels == 0)]
    alarms = (detector.anomaly_score(normal) > detector.threshold).float().mean()
    assert 0 < alarms < 0.25


def test_an_estimator_that_is_not_fitted_does_not_score() -> None:
    data = table()
    data.setup("fit")
    detector = make("ocsvm")
    detector.configure_for(data.input_spec)
    with pytest.raises(ValueError, match=r"OCSVM cannot score yet: .* not fitted"):
        detector.anomaly_score(raw_test_input(data))


@pytest.mark.parametrize("features", ["raw", "autoencoder"])
def test_reduced_precision_does_not_reach_the_scores(make_trainer: MakeTrainer, features: str) -> None:
    detector, data = make("kde", **FEATURES[features]), table()
    trainer = fit(make_trainer, detector, data, precision="bf16-mixed")
    trainer.test(detector, datamodule=data, verbose=False)
    scored = detector.results["test"]
    full = detector.anomaly_score(raw_test_input(data)).double().numpy()
    np.testing.assert_allclose(scored.scores, full[np.argsort(data.split.test)], rtol=1e-5)


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (OCSVM, {"nu": 0}, r"nu must lie in \(0, 1\), got 0"),
        (OCSVM, {"nu": 1.0}, r"nu must lie in \(0, 1\), got 1.0"),  # then no sample is on the boundary: no rho
        (OCSVM, {"gamma": -1.0}, "gamma must be positive and finite, or scale or narrow, got -1.0"),
        (OCSVM, {"degree": 0}, "degree must be at least 1, got 0"),
        (OCSVM, {"coef0": -1.0}, "coef0 must not be negative, got -1.0"),
        (OCSVM, {"gammas": []}, r"gammas must hold at least 1, and each be positive and finite, got \[\]"),
        (OCSVM, {"nus": [0.5, 2]}, r"nus must hold at least 1, and each lie in \(0, 1\), got \[0.5, 2\]"),
        (IsolationForest, {"n_estimators": 0}, "n_estimators must be at least 1, got 0"),
        (IsolationForest, {"max_samples": 1}, "max_samples must be at least 2, got 1"),
        (KDE, {"bandwidth": 0.0}, "bandwidth must be positive and finite, or null for .*, got 0.0"),
        (KDE, {"bandwidths": [-1]}, r"bandwidths must hold at least 1, and each be positive and finite, got \[-1\]"),
        (KDE, {"cv_folds": 1}, "cv_folds must be at least 2, got 1"),
        (GMM, {"n_components": [0]}, r"n_components must hold at least 1, and each be positive and finite, got \[0\]"),
        (LOF, {"n_neighbors": 0}, "n_neighbors must be at least 1, got 0"),
        (NearestNeighbor, {"n_neighbors": 0}, "n_neighbors must be at least 1, got 0"),
        (KernelKLIEP, {"n_centers": 0}, "n_centers must be at least 1, got 0"),
        (KernelKLIEP, {"bandwidth": 0.0}, "bandwidth must be positive and finite, or null for .*, got 0.0"),
        (KernelKLIEP, {"bandwidth_factors": []}, r"bandwidth_factors must hold at least 1, .* got \[\]"),
        (KernelKLIEP, {"bandwidth_factors": [1, 0]}, r"bandwidth_factors must .* each be positive .* got \[1, 0\]"),
        (KernelKLIEP, {"cv_folds": 1}, "cv_folds must be at least 2, got 1"),
        (KernelULSIF, {"regularization": 0.0}, "regularization must be positive and finite, or null for .*, got 0.0"),
        (KernelULSIF, {"regularizations": [-1]}, r"regularizations must .* each be positive .* got \[-1\]"),
        (KDE, {"selection": "test"}, "selection must be one of none, oracle, got 'test'"),
        (OCSVM, {"kernel": "cubic"}, "kernel must be one of rbf, linear, poly, got 'cubic'"),
        (
            KDE,
            {"features": PCAFeatures([3, 2])},
            r"features.components must be one number unless selection is oracle, got \[2, 3\]",
        ),
        (
            KDE,
            {"features": BackboneFeatures(), "preprocessing": GlobalContrastL1},
            "preprocessing must be UnitRange with features: BackboneFeatures, got GlobalContrastL1",
        ),
    ],
)
def test_bad_arguments_are_refused(cls: type[ShallowDetector], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("kde", {"cv_folds": 1000}, r"cv_folds must be at most \d+, the number of training samples, got 1000"),
        ("gmm", {"n_components": [1000]}, r"n_components must be at most \d+, the number of training samples"),
        ("lof", {"n_neighbors": 1000}, r"n_neighbors must be at most \d+, the other training samples, got 1000"),
        ("nearest_neighbor", {"n_neighbors": 1000}, "n_neighbors must be at most"),
        ("ssad", {"kappa": 1000.0}, r"kappa must be at most \d+ for \d+ labelled samples, got 1000"),
        ("ssad", {"eta_unlabelled": 1e-3}, "eta_unlabelled and eta_labelled must add up to at least 1 .* got 0.1"),
        ("kde", {"features": PCAFeatures(7)}, "features.components must be at most 6, the number of features"),
        ("kde", {"selection": "oracle"}, "selection must be none: KDE has nothing to choose here, got oracle"),
        ("kernel_kliep", {"cv_folds": 1000}, r"cv_folds must be at most \d+, the number of known normals, got 1000"),
        (
            "kernel_kliep",
            {"cv_folds": 100, "hold_out_unlabelled": True},
            "cv_folds must be at most 96, the number of unlabelled samples, got 100",
        ),
    ],
)
def test_what_the_data_do_not_allow_is_refused_before_training(
    make_trainer: MakeTrainer, name: str, arguments: dict[str, Any], message: str
) -> None:
    detector = make(name, **arguments)
    with pytest.raises(ValueError, match=message):
        fit(make_trainer, detector, table_for(name))
    assert not detector.ready_to_score()
