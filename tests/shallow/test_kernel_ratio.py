"""Kernel density ratio: KLIEP against general solvers and its conditions, uLSIF against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, minimize
from scipy.stats import norm
from shallow_cases import fit, make, raw_test_input, table, table_for
from sklearn.model_selection import KFold
from torch import Tensor

from adlightning.core.contracts import InputSpec
from adlightning.core.thresholds import Contamination
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.unlabelled import InductiveLabelled, TransductiveLabelled
from adlightning.preprocessing import Identity
from adlightning.shallow import kernel
from adlightning.shallow.kernel import KernelRatio
from adlightning.shallow.ratio_fits import Distances, held_out_score, kliep, left_out_losses, mixture_weights, ulsif
from adlightning.testing import Blobs

Floats = NDArray[np.float64]


def problem(n: int = 40, m: int = 50, size: int = 6, scale: float = 2.0) -> Distances:
    """Normal samples, wider unlabelled ones, the first few normals as centers."""
    rng = np.random.default_rng(0)
    normal, unlabelled = rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) * scale
    return Distances(*(((x[:, None] - normal[:size]) ** 2).sum(axis=2) for x in (normal, unlabelled)))


class Gaussians(AnomalySource):
    """N(0, 1) in training, an even mixture of it with N(6, 1) in the test."""

    name = "gaussians"

    def input_spec(self) -> InputSpec:
        return InputSpec("table", (1,))

    def load(self, part: Part) -> Samples:
        n = 2000
        rng, y = np.random.default_rng(len(part)), np.repeat([0, 1], [n, n * (part == "test")])
        x = (rng.normal(size=len(y)) + 6 * y).astype(np.float32)[:, None]
        return Samples(torch.from_numpy(x), y, tuple(str(i) for i in range(len(y))))


# ---- KLIEP -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([[1, 0], [1, 0], [0, 1]], [2 / 3, 1 / 3]),  # shares of the samples
        ([[2, 1]], [1, 0]),  # all on the larger one
        # d/dw of 2 log(w + (1 - w) / 2) + log(w / 4 + 1 - w): 2 (1 - 3 w / 4) = 3 (1 + w) / 4 at w = 5 / 9
        ([[1, 0.5], [1, 0.5], [0.25, 1]], [5 / 9, 4 / 9]),
        ([[1e-3, 1]] * 5, [0, 1]),
        ([[1.0]], [1]),
    ],
)
def test_weights_worked_by_hand(p: list[list[float]], expected: list[float]) -> None:
    w = mixture_weights(np.array(p, dtype=np.float64))
    np.testing.assert_allclose(w, expected, atol=1e-7)
    assert ((w == 0) == (np.array(expected) == 0)).all()  # zeros are exact


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
def test_kliep_is_what_a_general_solver_finds(bandwidth: float) -> None:
    normal, unlabelled = problem().kernels(bandwidth)
    mean = unlabelled.mean(axis=0)

    def loss(a: Floats) -> float:
        return float(-np.log(normal @ a).mean())

    found = minimize(
        loss,
        np.ones(6) / mean.sum(),
        method="SLSQP",
        bounds=Bounds(np.zeros(6), np.full(6, np.inf)),
        constraints=LinearConstraint(mean, 1, 1),
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    a = np.exp(kliep(*problem().log_kernels(bandwidth)))
    np.testing.assert_allclose(normal @ a, normal @ found.x, rtol=1e-4)
    assert np.log(normal @ a).mean() >= -found.fun - 1e-8


def test_kliep_is_the_best_of_a_grid() -> None:
    distances = problem(size=2)
    normal, unlabelled = distances.kernels(0.8)
    first = np.linspace(0, 1, 100_001) / unlabelled[:, 0].mean()
    second = (1 - first * unlabelled[:, 0].mean()) / unlabelled[:, 1].mean()
    objective = np.log(np.outer(normal[:, 0], first) + np.outer(normal[:, 1], second)).mean(axis=0)
    best = int(objective.argmax())
    assert 0 < best < 100_000
    a = np.exp(kliep(*distances.log_kernels(0.8)))
    np.testing.assert_allclose(a, [first[best], second[best]], rtol=1e-3)


@pytest.mark.parametrize("bandwidth", [0.05, 0.3, 1.0, 4.0, 100.0])
def test_kliep_satisfies_the_conditions_of_optimality(bandwidth: float) -> None:
    distances = problem(n=200, m=300, size=100)
    normal, unlabelled = distances.log_kernels(bandwidth)
    log_a = kliep(normal, unlabelled)
    log_r = np.logaddexp.reduce(log_a + normal, axis=1)
    mean = np.exp(np.logaddexp.reduce(log_a + unlabelled, axis=1)).mean()
    assert mean == pytest.approx(1, abs=1e-9)
    # with the multiplier 1 of the constraint: mean_n K_l / r is mean_u K_l where a_l > 0, and at most that elsewhere
    log_mean = np.logaddexp.reduce(unlabelled, axis=0) - np.log(300)
    slope = np.exp(normal - log_r[:, None] - log_mean).mean(axis=0)
    active = np.isfinite(log_a)
    assert active.any()
    assert slope.max() <= 1 + 1e-8
    share = np.exp(log_a + log_mean)  # adds up to 1, and so does share * slope: what has a share has slope 1
    assert (share * slope).sum() == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(slope[share > 1e-3], 1, atol=1e-4)
    if bandwidth == 4.0:
        assert 0 < active.sum() < 100


def test_kliep_does_not_mind_kernels_that_underflow() -> None:
    distances = problem()
    far = Distances(distances.normal, distances.unlabelled + 1e6)
    # a constant factor on the unlabelled kernels is one on the ratio: exp(1e6 / 2)
    near, shifted = kliep(*distances.log_kernels(1.0)), kliep(*far.log_kernels(1.0))
    np.testing.assert_allclose(shifted, near + 5e5, rtol=1e-9)


@pytest.mark.parametrize("both", [False, True])
def test_the_held_out_score_is_that_of_each_fold_alone(both: bool) -> None:
    distances, split = problem(), KFold(4, shuffle=True, random_state=3)
    normal, unlabelled = distances.kernels(0.7)
    scores = []
    for (train, held_out), (kept, left) in zip(split.split(normal), split.split(unlabelled), strict=True):
        a = np.exp(kliep(np.log(normal[train]), np.log(unlabelled[kept] if both else unlabelled)))
        scores.append(np.log(normal[held_out] @ a).mean() - (np.log((unlabelled[left] @ a).mean()) if both else 0))
    assert held_out_score(distances, 0.7, 4, 3, both) == pytest.approx(np.mean(scores))


def test_only_held_out_unlabelled_samples_bound_the_score_of_narrow_kernels() -> None:
    rng = np.random.default_rng(0)
    normal, unlabelled = rng.normal(size=(80, 10)) * 0.5, rng.normal(size=(80, 10))
    distances = Distances(*(((x[:, None] - normal) ** 2).sum(axis=2) for x in (normal, unlabelled)))
    bandwidths = [0.03, 0.1, 1.0, 3.0]
    paper, bounded = ([held_out_score(distances, h, 5, 0, both) for h in bandwidths] for both in (False, True))
    truth = 10 * (np.log(2) + 0.25 / 2 - 0.5)  # the divergence of the two Gaussians
    assert np.argmax(paper) == 0
    assert paper[0] > 10 * truth
    assert np.argmax(bounded) == 2
    assert truth / 4 < bounded[2] < truth


# ---- uLSIF -----------------------------------------------------------------------------------------------------------


def test_ulsif_worked_by_hand() -> None:
    # H = (1 + 4) / 2, h = 3: a = 3 / (2.5 + 0.5)
    assert ulsif(np.array([[2.0], [4.0]]), np.array([[1.0], [2.0]]), 0.5) == pytest.approx([1.0])
    # H + I = [[2, 1], [1, 2]], h = (3, 0): (2, -1), and the negative one becomes 0
    a = ulsif(np.array([[3.0, 0.0]]), np.array([[1.0, 1.0]]), 1.0)
    np.testing.assert_allclose(a, [2.0, 0.0])


@pytest.mark.parametrize(("n", "m"), [(12, 17), (17, 12), (2, 2)])
def test_leaving_one_out_in_closed_form_is_leaving_one_out(n: int, m: int) -> None:
    normal, unlabelled = problem(n, m, size=min(n, 5)).kernels(1.0)
    regularizations = [0.01, 0.3, 10.0]
    expected = []
    for regularization in regularizations:
        losses = []
        for i in range(min(n, m)):
            a = ulsif(np.delete(normal, i, axis=0), np.delete(unlabelled, i, axis=0), regularization)
            losses.append((unlabelled[i] @ a) ** 2 / 2 - normal[i] @ a)
        expected.append(np.mean(losses))
    np.testing.assert_allclose(left_out_losses(normal, unlabelled, regularizations), expected)


# ---- the ratio -------------------------------------------------------------------------------------------------------


def test_the_ratio_is_a_sum_of_kernels_in_any_block_and_exact_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(size=5)
    ratio = KernelRatio(rng.normal(size=(5, 3)), np.log(a), 0.7, None)
    x = rng.normal(size=(40, 3))
    whole = ratio.log_ratio(x)
    kernels = [[np.exp(-((p - c) ** 2).sum() / (2 * 0.7**2)) for c in ratio.centers] for p in x]
    np.testing.assert_allclose(np.exp(whole), np.array(kernels) @ a)
    monkeypatch.setattr(kernel, "BLOCK", 12)
    np.testing.assert_allclose(ratio.log_ratio(x), whole)
    assert ratio.log_ratio(np.empty((0, 3))).shape == (0,)
    far = KernelRatio(np.array([[0.0], [2.0]]), np.log([3.0, 0.5]), 1.0, None).log_ratio(np.array([[1000.0]]))[0]
    assert far == pytest.approx(-(998**2) / 2 + np.log(0.5), rel=1e-12)


def test_the_median_counts_no_center_with_itself() -> None:
    x = np.array([[0.0], [3.0], [7.0]])
    distances = (x - x.T) ** 2
    assert Distances(distances, distances).median() == 4
    assert Distances(np.zeros((3, 2)), distances).median() == 1


@pytest.mark.parametrize("name", ["kernel_kliep", "kernel_ulsif"])
def test_the_ratio_of_two_gaussians_is_found(make_trainer: MakeTrainer, name: str) -> None:
    data = InductiveLabelled(source=Gaussians(), labelled_anomaly_ratio=0.0, seed=0)
    detector = make(name, preprocessing=Identity)
    fit(make_trainer, detector, data)
    x = np.array([-1.0, 0.0, 1.0])
    true = norm.pdf(x) / (norm.pdf(x) / 2 + norm.pdf(x, loc=6) / 2)
    found = np.exp(-detector.anomaly_score(torch.from_numpy(x).float()[:, None]).numpy())
    np.testing.assert_allclose(found, true, rtol=0.2)
    assert np.exp(-detector.anomaly_score(torch.tensor([[6.0]])).item()) < 0.05


# ---- detectors -------------------------------------------------------------------------------------------------------


def parts(detector: Any, data: Any) -> tuple[Floats, Floats]:
    """Preprocessed known normals and unlabelled samples."""
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    kinds = (data.split.train[data.split.known == kind] for kind in (1, 0))
    normal, unlabelled = (detector.preprocess(x[torch.from_numpy(rows)]).double().numpy() for rows in kinds)
    return normal, unlabelled


def among(rows: Floats, others: Floats) -> NDArray[np.bool_]:
    return np.array([(row == others).all(axis=1).any() for row in rows])


@pytest.mark.parametrize("name", ["kernel_kliep", "kernel_ulsif"])
def test_with_all_normals_as_centers_the_scores_are_those_of_the_formula(make_trainer: MakeTrainer, name: str) -> None:
    options = {"regularization": 0.2} if name == "kernel_ulsif" else {}
    detector, data = make(name, n_centers=10_000, bandwidth=1.3, **options), table_for(name)
    fit(make_trainer, detector, data)
    normal, unlabelled = parts(detector, data)
    kernels = [np.exp(-((x[:, None] - normal) ** 2).sum(axis=2) / (2 * 1.3**2)) for x in (normal, unlabelled)]
    a = np.exp(kliep(*map(np.log, kernels))) if name == "kernel_kliep" else ulsif(kernels[0], kernels[1], 0.2)
    x = raw_test_input(data)
    test = detector.preprocess(x).double().numpy()
    expected = np.exp(-((test[:, None] - normal) ** 2).sum(axis=2) / (2 * 1.3**2)) @ a
    np.testing.assert_allclose(detector.anomaly_score(x), -np.log(expected), rtol=1e-3, atol=1e-3)
    assert len(detector.estimator.centers) == (a > 0).sum() < len(normal)
    assert detector.training_record["chosen"] == {"bandwidth": 1.3, **options}


@pytest.mark.parametrize("name", ["kernel_kliep", "kernel_ulsif"])
def test_centers_are_some_known_normals_by_the_seed(make_trainer: MakeTrainer, name: str) -> None:
    centers = []
    for seed in (0, 0, 1):
        # the same training samples for any seed: the source has a test part, and nothing is held out
        data = TransductiveLabelled(source=Gaussians(), validation_fraction=0.0, seed=seed)
        detector = make(name, n_centers=7, bandwidth=0.3, preprocessing=Identity)
        fit(make_trainer, detector, data)
        normal, unlabelled = parts(detector, data)
        assert 0 < len(detector.estimator.centers) <= 7
        assert among(detector.estimator.centers, normal).all()
        assert not among(detector.estimator.centers, unlabelled).any()
        centers.append(detector.estimator.centers)
    assert np.array_equal(centers[0], centers[1])
    assert not among(centers[2], centers[0]).any()


@pytest.mark.parametrize(("both", "expected"), [(False, 0), (True, 1)])
def test_the_bandwidth_of_kliep_has_the_best_held_out_score(
    make_trainer: MakeTrainer, both: bool, expected: int
) -> None:
    factors = [0.05, 1.0, 50.0]
    options: dict[str, Any] = {"bandwidth_factors": factors, "hold_out_unlabelled": both}
    detector, data = make("kernel_kliep", n_centers=10_000, **options), table_for("kernel_kliep")
    fit(make_trainer, detector, data)
    normal, unlabelled = parts(detector, data)
    rng = np.random.default_rng(1)  # other folds: the choice between such factors does not hang on them
    distances = Distances(*(((rng.permutation(x)[:, None] - normal) ** 2).sum(axis=2) for x in (normal, unlabelled)))
    bandwidths = [factor * distances.median() for factor in factors]
    assert np.argmax([held_out_score(distances, h, 5, 0, both) for h in bandwidths]) == expected
    assert detector.training_record["chosen"] == {"bandwidth": pytest.approx(bandwidths[expected])}


def test_bandwidth_and_lambda_of_ulsif_have_the_least_left_out_loss(make_trainer: MakeTrainer) -> None:
    options: dict[str, Any] = {"bandwidth_factors": [0.05, 1.0, 50.0], "regularizations": [1e-3, 0.1, 1e3]}
    detector, data = make("kernel_ulsif", n_centers=10_000, **options), table_for("kernel_ulsif")
    fit(make_trainer, detector, data)
    normal, unlabelled = parts(detector, data)
    rng = np.random.default_rng(1)
    distances = Distances(*(((rng.permutation(x)[:, None] - normal) ** 2).sum(axis=2) for x in (normal, unlabelled)))
    bandwidths = [factor * distances.median() for factor in options["bandwidth_factors"]]
    losses = np.array([left_out_losses(*distances.kernels(h), options["regularizations"]) for h in bandwidths])
    row, column = np.unravel_index(losses.argmin(), losses.shape)
    expected = {
        "bandwidth": pytest.approx(bandwidths[int(row)]),
        "regularization": options["regularizations"][int(column)],
    }
    assert detector.training_record["chosen"] == expected


@pytest.mark.parametrize("name", ["kernel_kliep", "kernel_ulsif"])
def test_without_held_out_samples_the_threshold_is_that_of_known_normals(make_trainer: MakeTrainer, name: str) -> None:
    detector, data = make(name), table_for(name, validation_fraction=0.0)
    fit(make_trainer, detector, data)
    assert detector.training_record["threshold_from"] == "training"
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    normal = x[torch.from_numpy(data.split.train[data.split.known == 1])]
    assert (detector.anomaly_score(normal) > detector.threshold).float().mean() == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("name", ["kernel_kliep", "kernel_ulsif"])
def test_normals_that_are_all_alike_have_one_finite_score(make_trainer: MakeTrainer, name: str) -> None:
    class Constant(Blobs):
        def load(self, part: Part) -> Samples | None:
            samples = super().load(part)
            if samples is None:
                return None
            assert isinstance(samples.x, Tensor)
            x = torch.where(torch.from_numpy(samples.y)[:, None] == 0, torch.zeros(6), samples.x)
            return Samples(x, samples.y, samples.names)

    data = InductiveLabelled(source=Constant(), labelled_anomaly_ratio=0.0, batch_size=32, seed=0)
    detector = make(name, threshold=Contamination(share=0.1))
    fit(make_trainer, detector, data)
    scores, labels = detector.anomaly_score(raw_test_input(data)), torch.from_numpy(data.split.test_labels)
    assert torch.isfinite(scores).all()
    assert (scores[labels == 0] == scores[labels == 0][0]).all()
    assert scores[labels == 1].min() > scores[labels == 0].max()


@pytest.mark.parametrize("name", ["kernel_kliep", "kernel_ulsif"])
def test_data_without_both_kinds_are_refused(make_trainer: MakeTrainer, name: str) -> None:
    with pytest.raises(ValueError, match="needs known normals and unlabelled samples to train on"):
        fit(make_trainer, make(name), table())


def test_the_only_sample_of_a_kind_is_not_left_out(make_trainer: MakeTrainer) -> None:
    class OneUnlabelled(Blobs):
        def load(self, part: Part) -> Samples | None:
            samples = super().load(part)
            if samples is None:
                return None
            y = samples.y.copy()
            y[0] = -1
            return Samples(samples.x, y, samples.names)

    def data() -> AnomalyLabelled:
        return AnomalyLabelled(OneUnlabelled(), batch_size=32, seed=0)

    with pytest.raises(ValueError, match=r"bandwidth must be given, with regularization, unless there are two samples"):
        fit(make_trainer, make("kernel_ulsif"), data())
    fit(make_trainer, make("kernel_ulsif", bandwidth=1.0, regularization=1.0), data())
    fit(make_trainer, make("kernel_kliep"), data())
