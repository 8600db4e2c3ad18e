"""DAGMM: features, mixture, energy and loss by hand, the mixture of a whole training set, singular covariances."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.data.labelled import AnomalyLabelled
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods import DAGMM
from adlightning.methods.dagmm import (
    fit_mixture,
    inverse_factors,
    reconstruction_features,
    sample_energy,
    variance_penalty,
)
from adlightning.networks import DAGMMEncoder, EstimationNetwork
from adlightning.preprocessing import Identity
from adlightning.testing import Blobs


def built(**options: Any) -> DAGMM:
    torch.manual_seed(0)
    detector = DAGMM(**{"preprocessing": Identity, **options})
    detector.configure_for(InputSpec("table", (3,)))
    return detector


def fit(make_trainer: MakeTrainer, **options: Any) -> tuple[DAGMM, AnomalyLabelled]:
    pl.seed_everything(0, verbose=False)
    detector, data = DAGMM(**options), AnomalyLabelled(Blobs(), batch_size=64, seed=0, validation_fraction=0.0)
    make_trainer(max_epochs=2).fit(detector, datamodule=data)
    return detector, data


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_features_of_a_reconstruction_by_hand() -> None:
    x, other = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(reconstruction_features(x, other), torch.tensor([[4 / 5, 9 / 15], [0.0, 1.0]]))
    assert reconstruction_features(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_features_of_an_exact_reconstruction_have_a_gradient() -> None:
    x = torch.ones(2, 3)
    other = torch.ones(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(reconstruction_features(x, other).sum(), other)
    assert gradient.isfinite().all()


def test_the_mixture_of_a_batch_by_hand() -> None:
    mixture = fit_mixture(torch.tensor([[0.0], [4.0]]), torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    assert mixture.weights.tolist() == [0.5, 0.5]
    assert mixture.means.flatten().tolist() == [1.0, 3.0]
    assert mixture.covariances.flatten().tolist() == [3.0, 3.0]  # 3/4 * 1 + 1/4 * 9


def test_a_component_without_samples_is_finite() -> None:
    mixture = fit_mixture(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    factors = inverse_factors(mixture.covariances, 1e-6)
    energy = sample_energy(torch.tensor([[2.0]]), mixture.weights, mixture.means, factors)
    assert energy.item() == pytest.approx(math.log(2 * math.pi * 4) / 2, rel=1e-5)


def test_energy_by_hand() -> None:
    weights, means, variances = torch.tensor([0.5, 0.5]), torch.tensor([[0.0], [2.0]]), torch.tensor([1.0, 4.0])
    factors = inverse_factors(variances[:, None, None], 0.0)
    density = (0.5 + 0.5 / 2 * math.exp(-0.5)) / math.sqrt(2 * math.pi)  # at 0, half a deviation from the second
    energy = sample_energy(torch.tensor([[0.0]]), weights, means, factors)
    assert energy.item() == pytest.approx(-math.log(density))


def test_energy_is_the_negative_log_likelihood_of_torchs_mixture() -> None:
    generator = torch.Generator().manual_seed(0)
    roots, means = torch.randn(3, 4, 4, generator=generator), torch.randn(3, 4, generator=generator)
    covariances = roots @ roots.mT + 0.1 * torch.eye(4)
    weights, z = torch.tensor([0.2, 0.3, 0.5]), torch.randn(7, 4, generator=generator)
    expected = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances)).log_prob(z)
    energy = sample_energy(z, weights, means, inverse_factors(covariances, 0.0))
    torch.testing.assert_close(energy, -expected, rtol=1e-4, atol=1e-4)


def test_variance_penalty_by_hand() -> None:
    covariances = torch.stack([torch.diag(torch.tensor([1.0, 4.0])), torch.diag(torch.tensor([2.0, 5.0]))])
    assert variance_penalty(covariances, 0.0).item() == pytest.approx(1 + 1 / 4 + 1 / 2 + 1 / 5)
    assert variance_penalty(torch.zeros(1, 2, 2), 1e-3).item() == pytest.approx(2000)


def test_the_loss_of_a_batch_is_equation_7() -> None:
    detector = built(energy_weight=0.2, variance_weight=0.03, estimation=partial(EstimationNetwork, dropout=0.0))
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    step: Any = detector.training_step(TrainBatch(x, torch.zeros(9), torch.arange(9)), 0)
    code = detector.encoder(x)
    reconstruction = detector.decoder(code)
    z = torch.cat([code, reconstruction_features(x, reconstruction)], dim=1)
    mixture = fit_mixture(z, detector.estimation(z).softmax(dim=1))
    energy = sample_energy(z, mixture.weights, mixture.means, inverse_factors(mixture.covariances, 1e-6)).mean()
    error = (x - reconstruction).square().sum() / 9
    expected = error + 0.2 * energy + 0.03 * variance_penalty(mixture.covariances, 1e-6)
    torch.testing.assert_close(step["loss"], expected)
    torch.testing.assert_close(step["energy"], energy)
    torch.testing.assert_close(step["reconstruction_error"], error)


# ---- networks --------------------------------------------------------------------------------------------------------


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_networks_have_the_papers_sizes_with_tanh_between_and_linear_ends() -> None:
    encoder = DAGMMEncoder((6,), dense=(12, 4), rep_dim=1)
    decoder = encoder.mirrored("linear")
    assert shapes(encoder) == [(12, 6), (4, 12), (1, 4)]
    assert shapes(decoder) == [(4, 1), (12, 4), (6, 12)]
    assert [type(layer).__name__ for layer in encoder.net] == ["Linear", "Tanh", "Linear", "Tanh", "Linear"]
    estimation = EstimationNetwork((3,))
    assert shapes(estimation) == [(10, 3), (2, 10)]
    assert [type(layer).__name__ for layer in estimation.net] == ["Linear", "Tanh", "Dropout", "Linear"]
    assert decoder(encoder(torch.zeros(2, 6))).shape == (2, 6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DAGMMEncoder((1, 8, 8)), r"DAGMMEncoder takes tables \(D,\)"),
        (lambda: DAGMMEncoder((3,), rep_dim=0), "widths must be at least 1"),
        (lambda: EstimationNetwork((3,), dropout=1.0), r"dropout must lie in \[0, 1\), got 1.0"),
        (lambda: DAGMM(n_components=0), "n_components must be at least 1, got 0"),
        (lambda: DAGMM(jitter=0.0), "jitter must be positive and finite, got 0.0"),
        (lambda: built(estimation=partial(EstimationNetwork, n_outputs=3)), "n_outputs must be 2"),
    ],
)
def test_what_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# ---- the mixture of the training set ---------------------------------------------------------------------------------


def test_the_score_is_the_energy_under_the_mixture_of_the_whole_training_set(make_trainer: MakeTrainer) -> None:
    detector, data = fit(make_trainer)
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    with torch.no_grad():
        detector.eval()
        normal = x[torch.from_numpy(data.split.train[data.split.known != KNOWN_ANOMALY])]
        z, _ = detector.compress(detector.preprocess(normal))
        mixture = fit_mixture(z, detector.estimation(z).softmax(dim=1))
        other, _ = detector.compress(detector.preprocess(x))
    expected = sample_energy(other, *mixture[:2], inverse_factors(mixture.covariances, 1e-6))
    torch.testing.assert_close(detector.weights, mixture.weights)
    torch.testing.assert_close(detector.anomaly_score(x), expected, rtol=1e-3, atol=1e-3)
    assert detector.remarks() == []


def test_covariances_that_only_the_jitter_inverts_are_said(make_trainer: MakeTrainer) -> None:
    detector, _ = fit(make_trainer, jitter=10.0, n_components=3)
    assert detector.remarks() == ["3 of 3 covariances are singular but for model.jitter=10"]


def test_samples_that_are_all_alike_leave_the_loss_finite() -> None:
    loss: Any = built().training_step(TrainBatch(torch.ones(8, 3), torch.zeros(8), torch.arange(8)), 0)
    assert loss["loss"].isfinite()
    loss["loss"].backward()
