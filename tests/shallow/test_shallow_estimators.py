"""Each estimator against values worked by hand or its library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from scipy.stats import norm, spearmanr
from shallow_cases import fit, make, raw_test_input, table
from sklearn.ensemble import IsolationForest as Forest
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.svm import OneClassSVM
from torch import Tensor

from adlightning.shallow import OCSVM, kernel
from adlightning.shallow.kde import cross_validated_bandwidth
from adlightning.shallow.kernel import GaussianKDE, KernelExpansion, TrainingSamples, row_blocks, scale_gamma
from adlightning.shallow.persistence import from_bytes, to_bytes

Fitted = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], Tensor]


def fitted(make_trainer: MakeTrainer, name: str, **options: Any) -> Fitted:
    """Preprocessed training and test samples, and the detector's scores of the latter."""
    detector, data = make(name, **options), table(labelled_anomaly_ratio=0.0)
    fit(make_trainer, detector, data)
    x, raw = data.train_samples.x, raw_test_input(data)
    assert isinstance(x, Tensor)
    train, test = (detector.preprocess(part) for part in (x[torch.from_numpy(data.split.train)], raw))
    return train.double().numpy(), test.double().numpy(), detector.anomaly_score(raw)


@pytest.mark.parametrize("resident", [0, 10_000])
@pytest.mark.parametrize("options", [{"gamma": 0.2, "nu": 0.3}, {"kernel": "linear"}, {"gamma": "scale"}])
def test_ocsvm_is_libsvms(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], resident: int
) -> None:
    monkeypatch.setattr(kernel, "MAX_RESIDENT", resident)
    train, test, scores = fitted(make_trainer, "ocsvm", **options)
    svm = OneClassSVM(**{"nu": 0.1, **options}).fit(train)
    values, rho = svm.score_samples(test), float(svm.offset_[0])
    found = -scores.double().numpy() if "kernel" in options else rho * np.exp(-scores.double().numpy())
    np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-4)
    boundary = -rho if "kernel" in options else 0
    assert np.array_equal(scores.numpy() > boundary, svm.predict(test) == -1)


def test_a_narrow_ocsvm_tells_apart_what_is_far(make_trainer: MakeTrainer) -> None:
    # the sum of kernels is below the last digit of rho for normal and anomalous samples alike
    train, test, scores = fitted(make_trainer, "ocsvm", gamma=300.0, nu=0.5)
    sums = np.exp(-300.0 * euclidean_distances(test, train, squared=True)).sum(axis=1)
    assert np.mean(sums < 1e-16) > 0.9
    assert scores.isfinite().all()
    assert len(np.unique(scores)) > 0.95 * len(scores)
    nearest = euclidean_distances(test, train).min(axis=1)
    assert spearmanr(scores, nearest).statistic > 0.99  # so narrow a kernel is a nearest neighbour


def test_a_narrow_ssad_tells_apart_what_is_far(make_trainer: MakeTrainer) -> None:
    detector, data = make("ssad", gamma=12.0), table(labelled_anomaly_ratio=0.1)
    fit(make_trainer, detector, data)
    raw = raw_test_input(data)
    machine, scores = detector.estimator, detector.anomaly_score(raw).numpy()
    f = machine(detector.preprocess(raw).double().numpy())
    visible = np.abs(f) > 1e-300
    assert np.mean(np.float32(machine.rho - f[visible]) == np.float32(machine.rho)) > 0.2  # rho would hide them
    assert np.array_equal(np.argsort(scores[visible], kind="stable"), np.argsort(-f[visible], kind="stable"))
    assert np.array_equal(scores > 0, f < machine.rho)


def test_isolation_forest_is_scikit_learns(make_trainer: MakeTrainer) -> None:
    train, test, scores = fitted(make_trainer, "isolation_forest", n_estimators=10, max_samples=50)
    forest = Forest(n_estimators=10, max_samples=50, random_state=0).fit(train)
    np.testing.assert_allclose(scores, -forest.score_samples(test), rtol=1e-6)


def test_lof_is_scikit_learns(make_trainer: MakeTrainer) -> None:
    train, test, scores = fitted(make_trainer, "lof", n_neighbors=7)
    factor = LocalOutlierFactor(n_neighbors=7, novelty=True).fit(train)
    np.testing.assert_allclose(scores, -factor.score_samples(test), rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_neighbour_is_the_kth_distance(make_trainer: MakeTrainer, k: int) -> None:
    train, test, scores = fitted(make_trainer, "nearest_neighbor", n_neighbors=k)
    distances = np.linalg.norm(test[:, None] - train[None], axis=2)
    np.testing.assert_allclose(scores, np.sort(distances, axis=1)[:, k - 1], rtol=1e-5)


def test_nearest_neighbour_can_be_the_mean_of_k_distances(make_trainer: MakeTrainer) -> None:
    train, test, scores = fitted(make_trainer, "nearest_neighbor", n_neighbors=5, aggregation="mean")
    distances = np.linalg.norm(test[:, None] - train[None], axis=2)
    np.testing.assert_allclose(scores, np.sort(distances, axis=1)[:, :5].mean(axis=1), rtol=1e-5)


def test_kde_is_the_mean_of_gaussians(make_trainer: MakeTrainer) -> None:
    train, test, scores = fitted(make_trainer, "kde", bandwidth=0.7)
    density = norm.pdf(test[:, None], loc=train[None], scale=0.7).prod(axis=2).mean(axis=1)
    near = density > 1e-200
    np.testing.assert_allclose(scores.numpy()[near], -np.log(density[near]), rtol=1e-5)


def test_kde_is_exact_far_from_all_samples() -> None:
    x = np.array([[0.0], [2.0]])
    far = GaussianKDE(x, 1.0).log_density(np.array([[1000.0]]))[0]
    assert far == pytest.approx(-(998**2) / 2 - math.log(2) - 0.5 * math.log(2 * math.pi), rel=1e-12)


def test_kde_leaves_out_each_of_its_own_samples() -> None:
    x = np.random.default_rng(0).normal(size=(12, 2))
    left_out = [GaussianKDE(np.delete(x, i, axis=0), 0.5).log_density(x[i : i + 1])[0] for i in range(12)]
    np.testing.assert_allclose(GaussianKDE(x, 0.5).left_out_log_density(), left_out)


def test_the_bandwidth_has_the_largest_held_out_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    x, bandwidths = np.random.default_rng(0).normal(size=(80, 2)), [0.05, 0.4, 3.0]
    search = GridSearchCV(KernelDensity(), {"bandwidth": bandwidths}, cv=KFold(5, shuffle=True, random_state=1)).fit(x)
    monkeypatch.setattr(kernel, "BLOCK", 100)  # many blocks
    assert cross_validated_bandwidth(x, bandwidths, 5, seed=1) == search.best_params_["bandwidth"] == 0.4


def test_the_mixture_has_the_least_bic(make_trainer: MakeTrainer) -> None:
    detector = make("gmm", n_components=[1, 2, 6])
    fit(make_trainer, detector, table(labelled_anomaly_ratio=0.0))
    assert detector.training_record["chosen"] == {"n_components": 1}  # the blob is one Gaussian


def test_an_expansion_is_the_same_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    f = KernelExpansion(rng.normal(size=(5, 3)), rng.normal(size=5), 0.1, 0.7)
    x = rng.normal(size=(40, 3))
    whole = f(x)
    pairs = list(zip(f.coefficients, f.vectors, strict=True))
    direct = [sum(c * math.exp(-0.7 * ((v - p) ** 2).sum()) for c, v in pairs) for p in x]
    np.testing.assert_allclose(whole, direct)
    monkeypatch.setattr(kernel, "BLOCK", 12)
    assert len(list(row_blocks(40, 5))) == 20
    np.testing.assert_allclose(f(x), whole)


@pytest.mark.parametrize(("degree", "coef0", "gamma"), [(20, 0.0, "scale"), (3, 1.0, 0.2)])
def test_a_polynomial_kernel_is_scikit_learns(degree: int, coef0: float, gamma: Any) -> None:
    rng = np.random.default_rng(0)
    x, others = rng.normal(size=(80, 3)), rng.normal(size=(30, 3))
    detector = OCSVM(kernel="poly", degree=degree, coef0=coef0, gamma=gamma, nu=0.2)
    ours = detector.fit_estimator(TrainingSamples(x, np.zeros(80, dtype=np.int64)))
    theirs = OneClassSVM(kernel="poly", degree=degree, coef0=coef0, gamma=gamma, nu=0.2).fit(x)
    np.testing.assert_allclose(ours.anomaly_scores(others), -theirs.score_samples(others), rtol=1e-9)
    loaded = from_bytes(to_bytes(ours), KernelExpansion, 3)
    np.testing.assert_array_equal(loaded.anomaly_scores(others), ours.anomaly_scores(others))


def test_a_polynomial_by_hand() -> None:
    # (0.5 (1 * 2 + 2 * 3) + 1)^2 = 25, and (0.5 (0 + 3) + 1)^2 = 6.25; 2 * 25 - 6.25
    f = KernelExpansion(np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([2.0, -1.0]), 0.0, 0.5, 2, 1.0)
    assert f(np.array([[2.0, 3.0]])).tolist() == [43.75]


def test_scale_is_scikit_learns_and_one_where_nothing_varies() -> None:
    x = np.array([[0.0, 2.0], [2.0, 4.0]])
    assert scale_gamma(x) == pytest.approx(1 / (2 * x.var()))
    assert scale_gamma(np.ones((3, 2))) == 1
