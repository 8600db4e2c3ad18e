"""Glow: exact inverse and determinant, a density that integrates to 1, the first batch, images that fit, samples."""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from adlightning.networks.density import Sampling, bits_per_dimension, build_density
from adlightning.networks.flow import LOG_SCALE_FACTOR, ActNorm, FlowStep, Level
from adlightning.networks.glow import Glow

WAYS = [{"coupling": "affine", "lu": True}, {"coupling": "affine", "lu": False}, {"coupling": "additive", "lu": True}]


def glow(shape: tuple[int, ...] = (1, 8, 8), **options: Any) -> Glow:
    """Of random weights everywhere, in float64."""
    torch.manual_seed(0)
    model = Glow(shape, **{"steps": 2, "width": 6, **options}).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def of_only(model: Glow) -> Level:
    """Its only level."""
    (level,) = model.levels
    return cast(Level, level)


def continuous(n: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(n, *shape, dtype=torch.float64) - 0.5


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 8)])
def test_decode_is_the_exact_inverse_of_encode(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    model, x = glow(shape, **options), continuous(3, shape)
    latents, _ = model.encode(x)
    assert sum(eps[0].numel() for eps in latents) == math.prod(shape)
    torch.testing.assert_close(model.decode(latents), x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("options", WAYS)
def test_the_determinant_is_that_of_the_full_jacobian(options: dict[str, Any]) -> None:
    shape = (2, 4, 4)
    model, x = glow(shape, levels=2, **options), continuous(2, shape)

    def flat(sample: Tensor) -> Tensor:
        return torch.cat([eps.flatten() for eps in model.encode(sample[None])[0]])

    jacobians = [torch.autograd.functional.jacobian(flat, sample).reshape(32, 32) for sample in x]
    expected = torch.stack([torch.linalg.slogdet(jacobian)[1] for jacobian in jacobians])
    torch.testing.assert_close(model.encode(x)[1], expected, rtol=0, atol=1e-8)


def test_the_density_integrates_to_one() -> None:
    model = glow((1, 2, 2), width=4, steps=1, levels=1)
    with torch.no_grad():
        of_only(model).prior.log_scale.fill_(-math.log(3) / LOG_SCALE_FACTOR)
        axis = torch.linspace(-3, 3, 17, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis, axis, axis).reshape(-1, 1, 2, 2)
        total = model.log_density(grid).exp().sum() * (axis[1] - axis[0]) ** 4
    assert total.item() == pytest.approx(1, abs=0.01)


def test_the_probability_is_of_images_of_256_values() -> None:
    """An identity with a standard normal prior: each value has the density of (k + 1/2) / 256 - 1/2, over 256."""
    model = Glow((1, 2, 2), levels=1, steps=1, width=4).eval()
    step = cast(FlowStep, of_only(model).steps[0])
    with torch.no_grad():
        step.mixing.permutation.copy_(torch.eye(4))
        for triangle in (step.mixing.lower, step.mixing.upper, step.mixing.log_diagonal):
            triangle.zero_()
        step.mixing.signs.fill_(1)
        cast(Tensor, step.coupling.last.convolution.bias)[2:] = (
            100.0  # the scales of an affine coupling: sigmoid(102) is 1
        )
    levels = torch.tensor([0, 100, 200, 255])
    by_hand = sum(
        -0.5 * math.log(2 * math.pi) - ((k + 0.5) / 256 - 0.5) ** 2 / 2 - math.log(256) for k in levels.tolist()
    )
    value = model((levels / 255).reshape(1, 1, 2, 2))
    assert value.item() == pytest.approx(by_hand, rel=1e-6)
    assert bits_per_dimension(value, (1, 2, 2)).item() == pytest.approx(-by_hand / (4 * math.log(2)), rel=1e-6)


def test_the_first_training_batch_starts_the_normalisation_and_no_later_one() -> None:
    norm = ActNorm(3)
    x = 5 * torch.randn(20, 3, 4, 4) + torch.tensor([1.0, -2.0, 30.0])[:, None, None]
    torch.testing.assert_close(norm.eval()(x)[0], x)
    y, log_determinant = norm.train()(x)
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(dim=(0, 2, 3), correction=0), torch.ones(3), rtol=1e-4, atol=0)
    scales = x.var(dim=(0, 2, 3), correction=0).rsqrt()
    torch.testing.assert_close(log_determinant, 16 * scales.log().sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(norm(x + 100)[0].mean(dim=(0, 2, 3)), 100 * scales, rtol=1e-4, atol=0)

    loaded = ActNorm(3)
    loaded.train()
    loaded.load_state_dict(norm.state_dict())
    torch.testing.assert_close(loaded(x + 100)[0], norm(x + 100)[0])


def test_noise_is_drawn_in_training_only_and_a_score_depends_on_its_image_alone() -> None:
    torch.manual_seed(0)
    model, x = Glow((1, 8, 8), steps=2, width=6), torch.rand(4, 1, 8, 8)
    model(x)
    assert not torch.equal(model(x), model(x))
    model.eval()
    together = model(x)
    torch.testing.assert_close(together, torch.cat([model(one[None]) for one in x]), rtol=1e-5, atol=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(x), together)


@pytest.mark.parametrize(
    ("shape", "levels"), [((1, 28, 28), 2), ((3, 32, 32), 3), ((1, 16, 16), 3), ((1, 8, 8), 2), ((1, 2, 6), 1)]
)
def test_levels_suit_the_side(shape: tuple[int, ...], levels: int) -> None:
    model = build_density(lambda given: Glow(given, steps=1, width=4), shape).eval()
    assert isinstance(model, Glow)
    assert isinstance(model, Sampling)
    assert len(model.levels) == levels
    assert model(torch.rand(2, *shape)).shape == (2,)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 7, 8), {}, "sides are even, got 7x8"),
        ((1, 28, 28), {"levels": 3}, "levels must be at most 2 for images of 28x28, whose sides are multiples of 4"),
        ((1, 8, 8), {"levels": 0}, "levels must be at least 1, got 0"),
        ((1, 8, 8), {"steps": 0}, "steps must be at least 1, got 0"),
        ((1, 8, 8), {"coupling": "cubic"}, "coupling must be affine or additive, got 'cubic'"),
    ],
)
def test_what_does_not_fit_is_refused(shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Glow(shape, **options)


def test_samples_are_images_of_256_values_and_the_generators() -> None:
    torch.manual_seed(0)
    model = Glow((3, 8, 8), steps=2, width=6)
    model(torch.rand(8, 3, 8, 8))
    drawn = [model.sample(4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert drawn[0].shape == (4, 3, 8, 8)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].min() >= 0
    assert drawn[0].max() <= 1
    torch.testing.assert_close(255 * drawn[0], (255 * drawn[0]).round(), rtol=0, atol=1e-4)


def test_maximum_likelihood_finds_what_the_data_are() -> None:
    """Images of two grey levels: a few steps, and they are likelier than others, and more than uniform ones."""
    torch.manual_seed(0)
    model = Glow((1, 4, 4), steps=2, width=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = 0.3 + 0.4 * (torch.rand(64, 1, 1, 1) > 0.5).float().expand(64, 1, 4, 4)
    for _ in range(60):
        loss = -model(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert bits_per_dimension(model(x), (1, 4, 4)).mean() < 6
        assert model(x).min() > model(torch.rand(64, 1, 4, 4)).max()


def test_a_copy_scores_alike() -> None:
    model, x = glow(), continuous(2, (1, 8, 8)) + 0.5
    torch.testing.assert_close(copy.deepcopy(model)(x), model(x))
    again = Glow((1, 8, 8), steps=2, width=6).double().eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x), model(x))
