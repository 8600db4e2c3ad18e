"""PixelCNN++: what a pixel sees, probabilities that sum to 1, the mixture by hand, samples, refusals."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from adlightning.networks import PixelCNNPP
from adlightning.networks.density import Sampling, bits_per_dimension, build_density
from adlightning.networks.logistic_mixture import (
    MIN_LOG_SCALE,
    Mixture,
    conditional_means,
    draw,
    log_probability,
    mixture_of,
    n_parameters,
    nearest_level,
)

SMALL: dict[str, Any] = {"blocks": 1, "filters": 4, "components": 2}
ALL_LEVELS = torch.arange(256) / 127.5 - 1


def mixture(channels: int, components: int = 3, n: int = 1, seed: int = 0) -> Mixture:
    drawn = torch.Generator().manual_seed(seed)
    said = 2 * torch.randn(n, n_parameters(channels, components), generator=drawn, dtype=torch.float64)
    return mixture_of(said, channels)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# ---- the mixture ----------------------------------------------------------------------------------------------------


def test_one_logistic_has_the_probabilities_of_its_intervals() -> None:
    mean, scale = 0.1, 0.2
    means, log_scales = torch.tensor([[[mean]]]), torch.tensor([[[math.log(scale)]]])
    one = Mixture(torch.zeros(1, 1), means, log_scales, torch.zeros(1, 1, 0))

    def cdf(level: float) -> float:
        return sigmoid((level / 127.5 - 1 - mean) / scale)

    by_hand = {0: cdf(0.5), 100: cdf(100.5) - cdf(99.5), 255: 1 - cdf(254.5)}
    for level, probability in by_hand.items():
        given = log_probability(one, torch.tensor([[level / 127.5 - 1]]))
        assert given.exp().item() == pytest.approx(probability, rel=1e-4)


def test_components_are_weighted_and_a_later_channel_follows_the_earlier_ones() -> None:
    # two components with weights 1/4 and 3/4; channels 2, with coefficients 0.5 and -0.25 of the first in the second
    logits = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    means = torch.tensor([[[0.0, 0.2], [-0.4, 0.1]]], dtype=torch.float64)
    log_scales = torch.full((1, 2, 2), math.log(0.1), dtype=torch.float64)
    coefficients = torch.tensor([[[0.5], [-0.25]]], dtype=torch.float64)
    x = torch.tensor([[155, 102]], dtype=torch.float64) / 127.5 - 1
    first, second = x[0].tolist()

    def of(value: float, mean: float) -> float:
        return sigmoid((value + 1 / 255 - mean) / 0.1) - sigmoid((value - 1 / 255 - mean) / 0.1)

    by_hand = 0.25 * of(first, 0.0) * of(second, 0.2 + 0.5 * first) + 0.75 * of(first, -0.4) * of(
        second, 0.1 - 0.25 * first
    )
    given = log_probability(Mixture(logits, means, log_scales, coefficients), x)
    assert given.item() == pytest.approx(math.log(by_hand), rel=1e-9)


@pytest.mark.parametrize("log_scale", [MIN_LOG_SCALE, -2.0, 3.0])
def test_probabilities_of_a_channel_sum_to_one(log_scale: float) -> None:
    of = mixture(1)._replace(log_scales=torch.full((1, 3, 1), log_scale, dtype=torch.float64))
    many = Mixture(*(part.expand(256, *part.shape[1:]) for part in of))
    total = log_probability(many, ALL_LEVELS.double()[:, None]).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-6)


def test_probabilities_of_a_pixel_of_two_channels_sum_to_one() -> None:
    values = torch.cartesian_prod(ALL_LEVELS.double(), ALL_LEVELS.double())
    many = Mixture(*(part.expand(len(values), *part.shape[1:]) for part in mixture(2)))
    assert log_probability(many, values).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_of_three_channels_the_third_follows_both() -> None:
    of = mixture(3, components=1)
    x = torch.tensor([[0.2, -0.6, 0.9]], dtype=torch.float64)
    c = of.coefficients[0, 0]
    wanted = of.means[0, 0] + torch.stack([c[0] * 0, c[0] * 0.2, c[1] * 0.2 + c[2] * -0.6])
    assert torch.allclose(conditional_means(of, x)[0, 0], wanted)


def test_what_is_out_of_reach_has_a_finite_logarithm_and_gradient() -> None:
    parameters = torch.tensor([[0.0, 50.0, -20.0]], requires_grad=True)  # one narrow component, far away
    log_p = log_probability(mixture_of(parameters, 1), torch.tensor([[-0.5]]))
    log_p.sum().backward()
    assert torch.isfinite(log_p).all()
    assert parameters.grad is not None
    assert torch.isfinite(parameters.grad).all()


def test_draws_are_levels_as_often_as_they_are_probable() -> None:
    of = mixture(1, seed=3)
    n = 20_000
    many = Mixture(*(part.expand(n, *part.shape[1:]) for part in of))
    drawn = draw(many, torch.Generator().manual_seed(0))
    levels = ((drawn[:, 0] + 1) * 127.5).round().long()
    assert torch.allclose(drawn[:, 0], ALL_LEVELS.double()[levels], atol=1e-6)
    each = Mixture(*(part.expand(256, *part.shape[1:]) for part in of))
    probable = log_probability(each, ALL_LEVELS.double()[:, None]).exp()
    often = torch.bincount(levels, minlength=256) / n
    for below in (1, 64, 128, 192, 255):
        assert often[:below].sum().item() == pytest.approx(probable[:below].sum().item(), abs=0.015)


def test_nearest_level() -> None:
    assert torch.allclose(
        nearest_level(torch.tensor([-3.0, 0.001, 0.9999, 7.0])), torch.tensor([-1, 1 / 255, 1, 1]), atol=1e-6
    )


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "levels", "receptive_field"), [((3, 5, 4), 1, (3, 3)), ((1, 7, 5), 3, (3, 3)), ((2, 5, 6), 2, (4, 5))]
)
def test_a_pixel_is_told_from_those_before_it_and_from_all_of_them(
    shape: tuple[int, int, int], levels: int, receptive_field: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    of = {**SMALL, "blocks": 4 if levels == 1 else 2}
    net = PixelCNNPP(shape, levels=levels, receptive_field=receptive_field, **of).double()
    x = torch.rand(1, *shape, dtype=torch.float64).requires_grad_()
    said = net.parameters_of(x)[0].sum(dim=0).flatten()
    for place, of_pixel in enumerate(said):
        (gradient,) = torch.autograd.grad(of_pixel, x, retain_graph=True, allow_unused=True)
        seen = gradient[0].abs().sum(dim=0).flatten() > 0
        assert not seen[place:].any()
        assert seen[:place].all()


def test_probabilities_of_a_toy_of_two_by_two_pixels_sum_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all images of four values a channel: a distribution over images, not over pixels alone."""
    from adlightning.networks import logistic_mixture

    monkeypatch.setattr(logistic_mixture, "HALF", 1 / 3)
    torch.manual_seed(0)
    net = PixelCNNPP((1, 2, 2), **SMALL).double()
    images = torch.tensor(list(itertools.product(range(4), repeat=4)), dtype=torch.float64).view(-1, 1, 2, 2) / 3
    x = 2 * images - 1
    of = mixture_of(net.parameters_of(x), 1)
    total = log_probability(of, x).sum(dim=(1, 2)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 16, 16), (1, 8, 8), (3, 9, 5), (1, 1, 1)])
@pytest.mark.parametrize("levels", [1, 3])
def test_takes_images_of_any_size(shape: tuple[int, int, int], levels: int) -> None:
    x = torch.randint(256, (2, *shape)) / 255
    with torch.no_grad():
        log_p = PixelCNNPP(shape, levels=levels, **SMALL)(x)
    assert log_p.shape == (2,)
    assert log_p.isfinite().all()
    assert (bits_per_dimension(log_p, shape) > 0).all()


def test_begins_as_the_same_function_with_and_without_weight_norm() -> None:
    x = torch.rand(2, 1, 6, 6)
    said = []
    for norm in (True, False):
        torch.manual_seed(0)
        said.append(PixelCNNPP((1, 6, 6), weight_norm=norm, **SMALL)(x))
    assert torch.allclose(said[0], said[1], rtol=1e-5)


def test_dropout_is_of_training_alone() -> None:
    torch.manual_seed(0)
    net, x = PixelCNNPP((1, 6, 6), dropout=0.5, **SMALL), torch.rand(2, 1, 6, 6)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_samples_are_images_and_the_same_by_the_generator() -> None:
    torch.manual_seed(0)
    net = PixelCNNPP((3, 4, 5), **SMALL)
    assert isinstance(net, Sampling)
    first, again, other = (net.sample(3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == (3, 3, 4, 5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.allclose(first * 255, (first * 255).round(), atol=1e-3)
    assert 0 <= first.min() <= first.max() <= 1


def test_samples_follow_the_model() -> None:
    """A model that says white after black and black after white draws stripes."""
    net = PixelCNNPP((1, 1, 6), **SMALL)

    def stripes(x: Tensor) -> Tensor:
        before = torch.cat([torch.ones_like(x[..., :1]), x[..., :-1]], dim=3)
        return torch.cat([torch.zeros_like(x), -before, torch.full_like(x, -7)], dim=1)

    net.parameters_of = stripes  # type: ignore[method-assign]
    drawn = net.sample(2, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn, torch.tensor([0.0, 1, 0, 1, 0, 1]).expand(2, 1, 1, 6), atol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels must be"),
        ({"filters": 0}, "filters must be"),
        ({"receptive_field": (2, 3)}, r"receptive_field must be .* got \[2, 3\]"),
        ({"receptive_field": (3, 4)}, "columns odd"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelCNNPP((1, 8, 8), **options)


def test_a_density_is_made_for_images_alone() -> None:
    with pytest.raises(ValueError, match=r"takes images \(C, H, W\), the data have samples of shape \(5,\)"):
        build_density(PixelCNNPP, (5,))
