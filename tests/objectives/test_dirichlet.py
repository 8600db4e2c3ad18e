"""The Dirichlet fit against known Dirichlets and scipy's likelihood, and GEOM's normality score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from adlightning.objectives.dirichlet import (
    dirichlet_from_means,
    dirichlet_normality,
    fit_dirichlet,
    inverse_digamma,
)

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
    assert torch.isfinite(dirichlet_normality(torch.stack([p, p], dim=1), alpha.float())).all()


def test_normality_by_hand() -> None:
    alpha = torch.tensor([[2.0, 1.0], [1.0, 4.0]])
    p = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]])
    # t = 0: 1 log p_0; t = 1: 3 log p_1; their mean
    expected = torch.tensor([0.5, 0.25]).log() / 2 + 3 * torch.tensor([0.5, 0.5]).log() / 2
    torch.testing.assert_close(dirichlet_normality(p, alpha), expected)


def test_samples_like_the_fitted_ones_look_more_normal(samples: Tensor) -> None:
    alpha = fit_dirichlet(samples[1:3])
    like = samples[1:3, :200].transpose(0, 1)
    scores, strange = dirichlet_normality(like, alpha), dirichlet_normality(like.flip(2), alpha)
    assert scores.mean() > strange.mean()
    torch.testing.assert_close(dirichlet_normality(like[3:4], alpha), scores[3:4])


@pytest.mark.parametrize("shape", [(5, 3), (2, 0, 3), (2, 5, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"probabilities must be \(T, N, K\) with .*, got the shape \("):
        fit_dirichlet(torch.ones(shape))
