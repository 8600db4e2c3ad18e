from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from adlightning.data.sources import GaussianNoise, SourceError, UniformNoise
from adlightning.data.sources.noise import Noise


def images(noise: Noise, n: int | None = None) -> torch.Tensor:
    x = noise.load("test").x
    return torch.stack([x[i] for i in range(n or len(x))])


@pytest.mark.parametrize("kind", [UniformNoise, GaussianNoise])
def test_noise_is_a_test_part_of_bytes_that_the_seed_decides(kind: type[Noise]) -> None:
    noise = kind(n=5, shape=(3, 4, 6))
    x = images(noise)
    assert x.shape == (5, 3, 4, 6)
    assert x.dtype == torch.uint8
    assert noise.input_spec().shape == (3, 4, 6)
    assert noise.load("test").names == tuple(f"test/{i}" for i in range(5))
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # must have no influence
    assert torch.equal(images(kind(n=9, shape=(3, 4, 6)), 5), x)
    assert not torch.equal(images(kind(n=5, shape=(3, 4, 6), seed=1)), x)
    assert len(x.flatten(1).unique(dim=0)) == 5
    with pytest.raises(SourceError, match=r"noise is for testing only, it has no training part"):
        noise.load("train")


def test_uniform_noise_takes_every_value_alike() -> None:
    counts = torch.bincount(images(UniformNoise(n=20, shape=(1, 64, 64))).flatten().long(), minlength=256)
    assert len(counts) == 256
    assert (counts - 320).abs().max() < 5 * 320**0.5


@pytest.mark.parametrize("std", [255.0, 30.0])
def test_gaussian_noise_is_clipped_normal(std: float) -> None:
    x = images(GaussianNoise(n=20, std=std, shape=(1, 64, 64))).float()
    clipped = norm.cdf((0.5 - 127.5) / std)
    assert (x == 0).float().mean().item() == pytest.approx(clipped, abs=0.01)
    assert (x == 255).float().mean().item() == pytest.approx(clipped, abs=0.01)
    assert x.mean().item() == pytest.approx(127.5, abs=2)
    inside = x[(x > 90) & (x < 165)]  # about one standard deviation of the narrow one
    assert len(inside) / x.numel() == pytest.approx(norm.cdf(37.5 / std) - norm.cdf(-37.5 / std), abs=0.01)


def test_noise_takes_a_shape_that_it_lacks() -> None:
    noise = UniformNoise(n=2)
    with pytest.raises(ValueError, match="shape must be given where there are no normal images"):
        noise.input_spec()
    assert images(noise.of_shape((1, 5, 5))).shape == (2, 1, 5, 5)
    assert noise.shape is None
    assert UniformNoise(shape=(3, 2, 2)).of_shape((1, 5, 5)).input_spec().shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"shape": (3, 0, 2)}, r"shape must be three positive numbers, .*, got \[3, 0, 2\]"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"std": 0.0}, "std must be positive, got 0.0"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianNoise(**arguments)
