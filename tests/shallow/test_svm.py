"""The SVM and the biased SVM: by hand, as libsvm's, and on what they train."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from sklearn.svm import SVC
from torch import Tensor

from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources import Paradigms
from adlightning.preprocessing import StandardizeFeatures, UnitRange
from adlightning.shallow import SVM, BiasedSVM, ShallowDetector
from adlightning.shallow.kernel import Floats, Known
from adlightning.shallow.svm import fit_svm, minus_decision
from adlightning.testing import Stripes


def test_two_samples_by_hand() -> None:
    # k = exp(-1/2 * 4); f(0) = a (1 - k) = 1 = -f(2), so a = 1 / (1 - k), and in the middle f is 0
    machine = fit_svm(np.array([[0.0], [2.0]]), np.array([1, -1]), np.full(2, 100.0), gamma=0.5)
    a = 1 / (1 - math.exp(-2))
    at_3 = a * (math.exp(-0.5 * 9) - math.exp(-0.5))
    x = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert minus_decision(machine, x) == pytest.approx([-1, 0, 1, -at_3], abs=1e-3)


def test_costs_bound_the_coefficients_of_their_samples() -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    costs = np.where(np.arange(40) < 20, 2.0, 0.1)
    machine = fit_svm(x, np.where(np.arange(40) < 20, 1, -1), costs, gamma=1.0)
    assert machine.coefficients.max() <= 2.0 + 1e-9
    assert machine.coefficients.min() == pytest.approx(-0.1)
    assert machine.coefficients.sum() == pytest.approx(0, abs=1e-9)


def fitted(make_trainer: MakeTrainer, detector: ShallowDetector) -> tuple[Floats, Known, Tensor, Floats]:
    """Preprocessed training samples, what is known of them, scores of test samples, and those preprocessed."""
    data = AnomalyLabelled(Paradigms(n_unlabelled=60, n_test=30), validation_fraction=0.0, batch_size=64)
    make_trainer(max_epochs=1).fit(detector, datamodule=data)
    detector.eval()
    train, test = data.train_samples.x, data.test_samples.x
    assert isinstance(train, Tensor)
    assert isinstance(test, Tensor)
    rows, known = data.training_rows()
    prepared = detector.preprocess(train[torch.from_numpy(rows)]).double().numpy()
    return prepared, known, detector.anomaly_score(test), detector.preprocess(test).double().numpy()


@pytest.mark.parametrize("unlabelled", ["normal", "left_out"])
def test_svm_is_libsvms(make_trainer: MakeTrainer, unlabelled: str) -> None:
    detector = SVM(gamma=0.7, cost=2.0, unlabelled=unlabelled, preprocessing=StandardizeFeatures)  # type: ignore[arg-type]
    x, known, scores, test = fitted(make_trainer, detector)
    assert set(known.tolist()) == {-1, 0, 1}
    taken = (known != 0) | (unlabelled == "normal")
    svc = SVC(C=2.0, gamma=0.7).fit(x[taken], known[taken] >= 0)
    np.testing.assert_allclose(scores, -svc.decision_function(test), rtol=1e-4, atol=1e-4)


def test_biased_svm_is_libsvms_without_known_anomalies(make_trainer: MakeTrainer) -> None:
    detector = BiasedSVM(0.7, cost_normal=3.0, cost_unlabelled=0.2, preprocessing=StandardizeFeatures)
    x, known, scores, test = fitted(make_trainer, detector)
    assert set(known.tolist()) == {0, 1}
    svc = SVC(gamma=0.7, class_weight={1: 3.0, 0: 0.2}).fit(x, known)
    np.testing.assert_allclose(scores, -svc.decision_function(test), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(SVM, unlabelled="left_out"), "unlabelled must be normal where no sample is known to be normal"),
        (BiasedSVM, "BiasedSVM needs known normals and unlabelled samples to train on, got 0 and"),
    ],
)
def test_samples_that_are_missing_are_said(
    make_trainer: MakeTrainer, make: Callable[..., ShallowDetector], words: str
) -> None:
    data = OneVsAll(Stripes(), normal_class="left", labelled_anomaly_ratio=0.1, n_labelled_classes=1, batch_size=16)
    with pytest.raises(ValueError, match=words):
        make_trainer(max_epochs=1).fit(make(preprocessing=UnitRange), datamodule=data)
