"""The Dirichlet fit against known Dirichlets and scipy's likelihood, and GEOM's normality score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from adlightning.methods.geometric_transforms.detector import dirichlet_normality, log_probabilities
from adlightning.methods.geometric_transforms.dirichlet import dirichlet_from_means, fit_dirichlet, inverse_digamma

TRUE = np.array([[0.3, 0.7, 2.0], [5.0, 1.0, 1.0], [20.0, 30.0, 50.0], [0.05, 0.1, 8.0]])


@pytest.fixture(scope="module")
def samples() -> Tensor:
    """4000 samples of each Dirichlet, (4, 4000, 3)."""
    rng = np.random.default_rng(0)
    drawn = np.stack([stats.dirichlet.rvs(alpha, size=4000, random_state=rng) for alpha in TRUE])
    return torch.from_numpy(drawn)


@pytest.fixture(scope="module")
def fitted(samples: Tensor) -> Tensor:
    return fit_dirichlet(samples)


def likelihood(alpha: Tensor, p: Tensor) -> float:
    safe = p.numpy().clip(1e-38)
    return float(stats.dirichlet.logpdf((safe / safe.sum(1, keepdims=True)).T, alpha.numpy()).mean())


def test_known_concentrations_are_found(fitted: Tensor) -> None:
    assert fitted.shape == (4, 3)
    np.testing.assert_allclose(fitted.numpy(), TRUE, rtol=0.08)


@pytest.mark.parametrize("t", range(len(TRUE)))
def test_scipys_likelihood_is_highest_there(samples: Tensor, fitted: Tensor, t: int) -> None:
    best = likelihood(fitted[t], samples[t])
    for k in range(3):
        for factor in (0.98, 1.02):
            beside = fitted[t].clone()
            beside[k] *= factor
            assert likelihood(beside, samples[t]) < best
    assert best >= likelihood(torch.from_numpy(TRUE[t]), samples[t])


def test_sets_are_fitted_each_on_its_own(samples: Tensor, fitted: Tensor) -> None:
    for t in range(len(TRUE)):
        torch.testing.assert_close(fit_dirichlet(samples[t : t + 1])[0], fitted[t], rtol=1e-12, atol=0)


def test_the_fixed_point_has_converged(samples: Tensor, fitted: Tensor) -> None:
    # the likelihood's gradient: digamma(sum alpha) - digamma(alpha_k) + mean log p_k
    gradient = torch.digamma(fitted.sum(1, keepdim=True)) - torch.digamma(fitted) + samples.log().mean(1)
    assert gradient[:3].abs().max() < 1e-7


def test_means_are_all_that_it_needs(samples: Tensor, fitted: Tensor) -> None:
    p = samples[:3]
    assert torch.equal(dirichlet_from_means(p.mean(1), p.log().mean(1)), fitted[:3])


def test_inverse_digamma_is_inverse() -> None:
    x = torch.tensor([1e-3, 0.1, 0.5, 1.0, 3.0, 100.0, 1e6]).double()
    torch.testing.assert_close(inverse_digamma(torch.digamma(x)), x, rtol=1e-9, atol=0)


def test_saturated_outputs_give_finite_concentrations_and_scores() -> None:
    p = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]])
    alike = torch.tensor([[0.5, 0.25, 0.25]]).expand(3, 3)
    alpha = fit_dirichlet(torch.stack([p, alike]))
    assert torch.isfinite(alpha).all()
    assert (alpha > 0).all()
    log_p = log_probabilities(torch.tensor([[[200.0, 0.0, -200.0], [0.0, 0.0, 0.0]]]))
    assert torch.isfinite(dirichlet_normality(log_p, alpha, log_p[0])).all()


def test_normality_by_hand() -> None:
    alpha = torch.tensor([[2.0, 1.0], [1.0, 4.0]])
    p = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]])
    mean_log = torch.tensor([[-1.0, -9.0], [-9.0, -2.0]])
    # t = 0: 1 (log p_0 + 1); t = 1: 3 (log p_1 + 2); their mean
    expected = (torch.tensor([0.5, 0.25]).log() + 1) / 2 + 3 * (torch.tensor([0.5, 0.5]).log() + 2) / 2
    torch.testing.assert_close(dirichlet_normality(p.log(), alpha, mean_log), expected)


def test_log_probabilities_by_hand() -> None:
    logits = torch.tensor([[math.log(3), 0.0], [300.0, 0.0]])
    log_p = log_probabilities(logits)
    assert log_p.dtype == torch.float64
    assert log_p[0].tolist() == pytest.approx([math.log(0.75), math.log(0.25)], rel=1e-6)
    assert log_p[1].tolist() == pytest.approx([0, math.log(torch.finfo(torch.float32).tiny)])


def test_outputs_that_hardly_vary_are_told_apart() -> None:
    logits = torch.randn(200, 3, 72, generator=torch.Generator().manual_seed(0)) * 1e-4  # float32, as a network's
    log_p = log_probabilities(logits)
    alpha = fit_dirichlet(log_p.exp().transpose(0, 1))
    assert alpha.min() > 1e5
    mean_log = log_p.mean(dim=0)
    exact = ((alpha - 1) * (log_p - mean_log)).sum(dim=2).mean(dim=1)
    # as stored: what is fitted is a float32 buffer
    stored = dirichlet_normality(log_p, alpha.float().double(), mean_log.float().double()).float().double()
    assert torch.corrcoef(torch.stack([exact, stored]))[0, 1] > 0.9999


def test_samples_like_the_fitted_ones_look_more_normal(samples: Tensor) -> None:
    alpha, mean_log = fit_dirichlet(samples[1:3]), samples[1:3].log().mean(dim=1)
    like = samples[1:3, :200].transpose(0, 1).log()
    scores = dirichlet_normality(like, alpha, mean_log)
    assert scores.mean() > dirichlet_normality(like.flip(2), alpha, mean_log).mean()
    torch.testing.assert_close(dirichlet_normality(like[3:4], alpha, mean_log), scores[3:4])


@pytest.mark.parametrize("shape", [(5, 3), (2, 0, 3), (2, 5, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"probabilities must be \(T, N, K\) with .*, got the shape \("):
        fit_dirichlet(torch.ones(shape))
