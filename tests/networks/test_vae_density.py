"""A VAE as a density: levels that sum to 1, both bounds by hand, scores of an image alone, samples."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from adlightning.networks.density import Sampling
from adlightning.networks.dgm import kl_from_standard
from adlightning.networks.vae_density import VAEDensity, log_probability_of_level


@pytest.mark.parametrize("scale", [1e-3, 0.05, 3.0])
@pytest.mark.parametrize("mean", [0.0, 0.4, 1.0])
def test_the_probabilities_of_all_levels_sum_to_one(mean: float, scale: float) -> None:
    levels = torch.arange(256, dtype=torch.float64) / 255
    given = torch.full_like(levels, mean)
    log_probabilities = log_probability_of_level(levels, given, torch.tensor(math.log(scale), dtype=torch.float64))
    assert log_probabilities.exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert log_probabilities.isfinite().all()


def test_a_level_by_hand() -> None:
    """Level 1 of mean 0 and scale 1 / 255: s(3 / 2) - s(1 / 2); level 0: s(1 / 2)."""
    value = log_probability_of_level(torch.tensor([1 / 255, 0.0]), torch.zeros(2), torch.tensor(-math.log(255)))
    s = [1 / (1 + math.exp(-a)) for a in (1.5, 0.5)]
    torch.testing.assert_close(value, torch.tensor([math.log(s[0] - s[1]), math.log(s[1])]), rtol=1e-5, atol=1e-6)


def small(samples: int = 3) -> VAEDensity:
    torch.manual_seed(0)
    return VAEDensity((1, 8, 8), latent_dim=3, width=4, samples=samples).eval()


def test_the_bound_of_a_score_is_iwaes() -> None:
    model, x = small(), torch.rand(4, 1, 8, 8)
    mean, scale = model.posterior(x)
    q, prior = Normal(mean, scale), Normal(0.0, 1.0)
    weights = []
    for draw in model.draws:
        z = mean + scale * draw
        weights.append(model.log_likelihood(x, z) + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1))
    log_weights = torch.stack(weights)
    largest = log_weights.amax(dim=0)
    expected = largest + (log_weights - largest).exp().mean(dim=0).log()
    assert (expected > log_weights.mean(dim=0)).all()  # Jensen: tighter than by one draw
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(model(x)[2:3], model(x[2:3]), rtol=1e-5, atol=1e-3)


def test_the_bound_in_training_is_the_elbo_by_one_sample() -> None:
    model, x = small().train(), torch.rand(4, 1, 8, 8)
    torch.manual_seed(1)
    value = model(x)
    torch.manual_seed(1)
    mean, scale = model.posterior(x)
    expected = model.log_likelihood(x, mean + scale * torch.randn_like(mean)) - kl_from_standard(mean, scale)
    torch.testing.assert_close(value, expected)


def test_samples_are_images_of_256_values_and_the_generators() -> None:
    model = small()
    assert isinstance(model, Sampling)
    drawn = [model.sample(4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert drawn[0].shape == (4, 1, 8, 8)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    torch.testing.assert_close(255 * drawn[0], (255 * drawn[0]).round(), rtol=0, atol=1e-4)
    assert drawn[0].min() >= 0
    assert drawn[0].max() <= 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="latent_dim must be at least 1, got 0"):
        VAEDensity((1, 8, 8), latent_dim=0)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        VAEDensity((1, 8, 8), samples=0)
