"""TensorFlow's layers against loops over the definition of 'SAME', and the networks that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from adlightning.networks.alad import ALADEncoder, ALADGenerator, ImagePairDiscriminator, JointDiscriminator
from adlightning.networks.fence_gan import FenceDiscriminator, FenceGenerator
from adlightning.networks.tensorflow_layers import SameConv2d, SameConvTranspose2d, same_padding

Array = NDArray[np.float64]


def numbers(weight: torch.Tensor | None) -> Array:
    assert weight is not None
    return weight.detach().double().numpy()


def first_tap(side: int, kernel_size: int, stride: int) -> int:
    """Where the kernel begins for the first output: 'SAME' gives ceil(side / stride), and an odd zero goes after."""
    total = max((int(np.ceil(side / stride)) - 1) * stride + kernel_size - side, 0)
    return -(total // 2)


def same_convolution(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Of one sample (C, H, W), by weights (C', C, k, k)."""
    k, (height, width) = weight.shape[-1], x.shape[1:]
    out = np.zeros((len(weight), -(-height // stride), -(-width // stride))) + bias[:, None, None]
    for i, j in np.ndindex(*out.shape[1:]):
        for a, b in np.ndindex(k, k):
            row, column = stride * i + a + first_tap(height, k, stride), stride * j + b + first_tap(width, k, stride)
            if 0 <= row < height and 0 <= column < width:
                out[:, i, j] += weight[:, :, a, b] @ x[:, row, column]
    return out


def same_transpose(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Of one sample (C, h, w), by weights (C, C', k, k): what lies where the convolution of the result would look."""
    k, height, width = weight.shape[-1], stride * x.shape[1], stride * x.shape[2]
    out = np.zeros((weight.shape[1], height, width)) + bias[:, None, None]
    for i, j in np.ndindex(*x.shape[1:]):
        for a, b in np.ndindex(k, k):
            row, column = stride * i + a + first_tap(height, k, stride), stride * j + b + first_tap(width, k, stride)
            if 0 <= row < height and 0 <= column < width:
                out[:, row, column] += x[:, i, j] @ weight[:, :, a, b]
    return out


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x)


def normalised(x: Array, norm: nn.Module) -> Array:
    """BatchNorm of one sample by the running statistics, with Keras' epsilon."""
    assert isinstance(norm, nn.BatchNorm2d)
    scale, shift, mean, variance = map(numbers, (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    y: Array = (x - mean[:, None, None]) / np.sqrt(variance + 1e-3)[:, None, None] * scale[:, None, None]
    return y + shift[:, None, None]


def drawn_anew_(network: nn.Module) -> Any:
    """The network with weights and statistics of every size, biases too, in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]:
            tensor.copy_(0.5 * torch.rand_like(tensor) + 0.01)
    return network.eval()


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_five_by_five_kernels_of_stride_two_pad_one_before_and_two_after_an_even_side() -> None:
    assert [same_padding(side, 5, 2) for side in (2, 8, 32)] == [(1, 2)] * 3
    assert [same_padding(side, 5, 2) for side in (5, 7)] == [(2, 2)] * 2
    assert same_padding(8, 4, 2) == (1, 1)
    assert same_padding(8, 3, 1) == (1, 1)
    assert same_padding(8, 1, 2) == (0, 0)


@pytest.mark.parametrize("shape", [(3, 8, 6), (2, 7, 4), (1, 2, 5)])
@pytest.mark.parametrize(("kernel_size", "stride"), [(5, 2), (4, 2), (3, 1)])
def test_a_convolution_is_that_of_a_plain_loop(shape: tuple[int, int, int], kernel_size: int, stride: int) -> None:
    torch.manual_seed(0)
    layer, x = SameConv2d(shape[0], 4, kernel_size, stride), torch.randn(2, *shape)
    by_hand = [same_convolution(numbers(one), numbers(layer.weight), numbers(layer.bias), stride) for one in x]
    np.testing.assert_allclose(numbers(layer(x)), np.stack(by_hand), atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 3), (2, 1, 2)])
@pytest.mark.parametrize(("kernel_size", "stride"), [(5, 2), (4, 2), (3, 1)])
def test_a_transposed_convolution_is_that_of_a_plain_loop_and_the_convolutions_transpose(
    shape: tuple[int, int, int], kernel_size: int, stride: int
) -> None:
    torch.manual_seed(0)
    layer, x = SameConvTranspose2d(shape[0], 4, kernel_size, stride), torch.randn(2, *shape)
    y = layer(x)
    by_hand = [same_transpose(numbers(one), numbers(layer.weight), numbers(layer.bias), stride) for one in x]
    np.testing.assert_allclose(numbers(y), np.stack(by_hand), atol=1e-5)
    convolution = SameConv2d(4, shape[0], kernel_size, stride)
    convolution.weight, other = layer.weight, torch.randn_like(y)
    for module in (layer, convolution):
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    torch.testing.assert_close((layer(x) * other).sum(), (x * convolution(other)).sum())


# ---- networks --------------------------------------------------------------------------------------------------------


def test_fence_gans_discriminator_by_hand() -> None:
    network, x = drawn_anew_(FenceDiscriminator((1, 8, 8), "conv", width=2)), torch.randn(1, 8, 8)
    first, norm, _, second, _, _, _, last = network.layers
    assert isinstance(norm, nn.BatchNorm2d)
    h = leaky(normalised(same_convolution(numbers(x), numbers(first.weight), numbers(first.bias), 2), norm))
    h = leaky(same_convolution(h, numbers(second.weight), numbers(second.bias), 2))
    logit = numbers(last.weight)[0] @ h.flatten() + numbers(last.bias)
    np.testing.assert_allclose(numbers(network(x[None])), logit, rtol=1e-5)


def test_fence_gans_generator_by_hand() -> None:
    network, z = drawn_anew_(FenceGenerator(3, (1, 8, 8), "linear", "conv", width=2)), torch.randn(3)
    linear, _, norm, _, first, other_norm, _, second, _ = network.layers
    h = (numbers(linear.weight) @ numbers(z) + numbers(linear.bias)).reshape(4, 2, 2)
    for of_batch, layer in ((norm, first), (other_norm, second)):
        h = same_transpose(leaky(normalised(h, of_batch)), numbers(layer.weight), numbers(layer.bias), 2)
    np.testing.assert_allclose(numbers(network(z[None]))[0], h, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [8, 10])  # 10: its half is odd
def test_alads_discriminator_of_image_pairs_by_hand(side: int) -> None:
    network = drawn_anew_(ImagePairDiscriminator((2, side, side), width=4))
    x, other = torch.randn(2, side, side), torch.randn(2, side, side)
    h = numbers(torch.cat([x, other], dim=1))
    for layer in (network.convolutions[0], network.convolutions[3]):
        h = leaky(same_convolution(h, numbers(layer.weight), numbers(layer.bias), 2))
    np.testing.assert_allclose(numbers(network.features(x[None], other[None]))[0], h.flatten(), rtol=1e-5)


def test_batch_norms_have_keras_constants_and_only_the_first_convolution_of_d_xz_a_bias() -> None:
    shape = (3, 32, 32)
    joint = JointDiscriminator(shape, 5, width=4)
    networks = [ALADEncoder(shape, 5, 4), ALADGenerator(5, shape, width=4), joint]
    networks += [FenceGenerator(5, shape, network=kind, width=2, hidden=6) for kind in ("dense", "conv")]
    networks += [FenceDiscriminator(shape, "conv", width=2)]
    for network in networks:
        norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        assert norms
        assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    convolutions = [m for m in joint.image.modules() if isinstance(m, nn.Conv2d)]
    assert [layer.bias is not None for layer in convolutions] == [True, False, False]
