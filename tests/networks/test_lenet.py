from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks import (
    LeNetDecoder,
    LeNetEncoder,
    glorot_uniform_,
    require_collapse_free,
    reset_parameters_,
)
from adlightning.networks.lenet import channels_for

MNIST = ((1, 28, 28), (8, 4), (), 32)
FASHION_PAPER = ((1, 28, 28), (16, 32), (64,), 32)
FASHION_CODE = ((1, 28, 28), (16, 32), (128,), 64)
CIFAR = ((3, 32, 32), (32, 64, 128), (), 128)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def weights(module: nn.Module, kind: type[nn.Module]) -> list[Tensor]:
    return [layer.get_parameter("weight") for layer in module.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("sizes", "encoder", "decoder"),
    [
        # 5x5 kernels and matrices counted by hand from the papers' and the code's layer widths
        (MNIST, 200 + 800 + 4 * 49 * 32, 200 + 800 + 200),
        (FASHION_PAPER, 400 + 12800 + 32 * 49 * 64 + 64 * 32, 32 * 64 + 4 * 32 * 25 + 12800 + 400),
        (FASHION_CODE, 400 + 12800 + 32 * 49 * 128 + 128 * 64, 64 * 128 + 8 * 32 * 25 + 12800 + 400),
        (CIFAR, 2400 + 51200 + 204800 + 128 * 16 * 128, 8 * 128 * 25 + 204800 + 51200 + 2400),
    ],
)
def test_published_sizes(
    sizes: tuple[tuple[int, int, int], tuple[int, ...], tuple[int, ...], int], encoder: int, decoder: int
) -> None:
    assert parameters(LeNetEncoder(*sizes)) == encoder
    assert parameters(LeNetDecoder(*sizes)) == decoder


def test_encoder_by_hand() -> None:
    encoder = LeNetEncoder((1, 3, 2), (1,), (), 1, leakiness=0.1).eval()
    kernel = torch.zeros(1, 1, 5, 5)
    kernel[0, 0, 2, 2] = 1.0
    encoder.load_state_dict({"conv.0.weight": kernel, "dense.0.weight": torch.tensor([[3.0]])}, strict=False)
    positive = torch.tensor([[[[1.0, -2.0], [-4.0, 5.0], [9.0, 9.0]]]])  # the odd last row is dropped by pooling
    negative = torch.tensor([[[[-1.0, -2.0], [-4.0, -5.0], [9.0, 9.0]]]])
    norm = math.sqrt(1 + 1e-4)
    assert encoder(positive).item() == pytest.approx(3 * 5 / norm, rel=1e-6)
    assert encoder(negative).item() == pytest.approx(3 * -0.1 / norm, rel=1e-6)


def released_decoder(sizes: str, code: Tensor, dense: list[Tensor], deconv: list[Tensor]) -> Tensor:
    """Forward passes of the released networks (mnist_LeNet, fmnist_LeNet, cifar10_LeNet), in training mode."""

    def norm(x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, training=True, eps=1e-4)

    def up(x: Tensor) -> Tensor:
        return F.interpolate(F.leaky_relu(x, 0.1), scale_factor=2)

    x = norm(code @ dense[0].T) if dense else code
    x = x.view(len(x), -1, 4, 4)
    if sizes == "cifar":
        x = F.conv_transpose2d(F.leaky_relu(x, 0.1), deconv[0], padding=2)
        for weight in deconv[1:]:
            x = F.conv_transpose2d(up(norm(x)), weight, padding=2)
        return torch.sigmoid(x)
    x = F.conv_transpose2d(up(x), deconv[0], padding=2)
    x = F.conv_transpose2d(up(norm(x)), deconv[1], padding=3)
    return torch.sigmoid(F.conv_transpose2d(up(norm(x)), deconv[2], padding=2))


@pytest.mark.parametrize(("name", "sizes"), [("mnist", MNIST), ("mnist", FASHION_CODE), ("cifar", CIFAR)])
def test_decoder_is_the_released_one(
    name: str, sizes: tuple[tuple[int, int, int], tuple[int, ...], tuple[int, ...], int]
) -> None:
    torch.manual_seed(0)
    decoder = LeNetDecoder(*sizes, leakiness=0.1, output="sigmoid")
    code = torch.randn(4, sizes[3])
    expected = released_decoder(name, code, weights(decoder, nn.Linear), weights(decoder, nn.ConvTranspose2d))
    torch.testing.assert_close(decoder(code), expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    height=st.integers(8, 70),
    width=st.integers(8, 70),
    channels=st.integers(1, 3),
    conv=st.sampled_from([(2,), (3, 2), (2, 3, 4)]),
    dense=st.sampled_from([(), (144,), (144, 8)]),
)
def test_decoder_gives_back_the_shape(
    height: int, width: int, channels: int, conv: tuple[int, ...], dense: tuple[int, ...]
) -> None:
    sizes = ((channels, height, width), conv, dense, 144)  # every grid of up to 4x4 cells divides 144
    x = torch.rand(2, channels, height, width)
    code = LeNetEncoder(*sizes)(x)
    assert code.shape == (2, 144)
    assert LeNetDecoder(*sizes)(code).shape == x.shape


def test_small_images_use_a_smaller_grid() -> None:
    decoder = LeNetDecoder((1, 8, 8), (8, 4), (), 4)  # maps of 2x2, so a code of 4 is enough
    assert [tuple(w.shape[:2]) for w in weights(decoder, nn.ConvTranspose2d)] == [(1, 4), (4, 8), (8, 1)]
    assert decoder(torch.randn(3, 4)).shape == (3, 1, 8, 8)


@pytest.mark.parametrize(("output", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1)])
def test_output_ranges(output: str, low: float, high: float) -> None:
    torch.manual_seed(0)
    decoder = LeNetDecoder((1, 8, 8), (4,), (), 16, output=output)  # type: ignore[arg-type]
    for weight in weights(decoder, nn.ConvTranspose2d):
        weight.data.mul_(50)
    x = decoder(torch.randn(64, 16))
    assert low <= x.min() < low + 0.01
    assert high - 0.01 < x.max() <= high
    linear = LeNetDecoder((1, 8, 8), (4,), (), 16, output="linear")
    linear.load_state_dict(decoder.state_dict())
    assert linear(torch.randn(64, 16)).abs().max() > 1


def test_zero_input_maps_to_zero_without_biases() -> None:
    encoder = LeNetEncoder((3, 16, 16), (4, 4), (8,), 5).eval()
    assert torch.equal(encoder(torch.zeros(2, 3, 16, 16)), torch.zeros(2, 5))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((1, 7, 28), (8, 4, 2), (), 16), "conv_channels: 3 conv modules .* at least 8 pixels, got .* 1x7x28"),
        (((1, 28, 28), (), (), 16), "conv_channels must name at least one"),
        (((1, 28, 28), (8, 0), (), 16), r"conv_channels must be at least 1, got \(8, 0\)"),
        (((1, 28, 28), (8,), (0,), 16), "dense must be at least 1, got 0"),
        (((1, 28, 28), (8,), (), 0), "rep_dim must be at least 1, got 0"),
        (((0, 28, 28), (8,), (), 16), r"shape must be at least 1, got \(0, 28, 28\)"),
    ],
)
@pytest.mark.parametrize("network", [LeNetEncoder, LeNetDecoder])
def test_refused_sizes(
    network: type[LeNetEncoder | LeNetDecoder],
    sizes: tuple[tuple[int, int, int], tuple[int, ...], tuple[int, ...], int],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        network(*sizes)


def test_code_must_fill_the_grid() -> None:
    with pytest.raises(ValueError, match=r"rep_dim must be a multiple of 16, .* 4x4 grid, got 30"):
        LeNetDecoder((1, 28, 28), (8, 4), (), 30)
    with pytest.raises(ValueError, match=r"the first of dense must be a multiple of 16, .* got 60"):
        LeNetDecoder((1, 28, 28), (8, 4), (60, 32), 32)
    with pytest.raises(ValueError, match=r"rep_dim must be a multiple of 8, .* 4x2 grid, got 12"):
        LeNetDecoder((1, 20, 8), (8, 4), (), 12)


def test_refused_leakiness_and_output() -> None:
    with pytest.raises(ValueError, match=r"leakiness must lie in \[0, 1\), got 1.5"):
        LeNetEncoder((1, 8, 8), (4,), (), 16, leakiness=1.5)
    with pytest.raises(ValueError, match="output must be one of sigmoid, tanh, linear, got 'relu'"):
        LeNetDecoder((1, 8, 8), (4,), (), 16, output="relu")  # type: ignore[arg-type]


# ---- initialisation --------------------------------------------------------------------------------------------------


def test_glorot_bounds() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(30, 70), nn.Conv2d(3, 5, 4), nn.ConvTranspose2d(6, 2, 3))
    glorot_uniform_(module)
    fans = [30 + 70, (3 + 5) * 16, (6 + 2) * 9]
    for layer, fan in zip(module, fans, strict=True):
        bound = math.sqrt(6 / fan)
        largest = layer.get_parameter("weight").abs().max().item()
        assert 0.9 * bound < largest <= bound
        assert not layer.get_parameter("bias").any()


def test_glorot_leaves_normalisation_alone() -> None:
    norm = nn.BatchNorm1d(3)
    nn.init.constant_(norm.bias, 2.0)
    glorot_uniform_(nn.Sequential(norm))
    assert torch.equal(norm.bias.data, torch.full((3,), 2.0))


def test_reset_restores_the_start() -> None:
    torch.manual_seed(3)
    encoder = LeNetEncoder((1, 8, 8), (4,), (8,), 16)
    start = {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder(torch.randn(8, 1, 8, 8))
    glorot_uniform_(encoder)
    assert not torch.equal(encoder.state_dict()["conv.1.running_mean"], start["conv.1.running_mean"])
    torch.manual_seed(3)
    reset_parameters_(encoder)
    assert all(torch.equal(v, start[k]) for k, v in encoder.state_dict().items())


def test_reset_refuses_what_it_cannot_reset_and_leaves_the_rest() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

    module = nn.Sequential(nn.Linear(2, 2), Scale())
    before = module[0].get_parameter("weight").clone()
    with pytest.raises(ValueError, match=r"1 \(Scale\) has none"):
        reset_parameters_(module)
    assert torch.equal(module[0].get_parameter("weight"), before)


@pytest.mark.parametrize(
    ("layer", "fault"),
    [
        (nn.Linear(2, 2), "has a bias"),
        (nn.Conv2d(1, 1, 3), "has a bias"),
        (nn.LSTM(2, 2), "has a bias"),
        (nn.LayerNorm(2), "normalises each sample by itself"),
        (nn.BatchNorm1d(2), "is affine"),
        (nn.Sigmoid(), "bounded"),
        (nn.Tanh(), "bounded"),
        (nn.Hardtanh(), "bounded"),
        (nn.ReLU6(), "bounded"),
        (nn.Hardsigmoid(), "bounded"),
        (nn.Softsign(), "bounded"),
        (nn.ELU(), "bounded"),
    ],
)
def test_collapsible_networks_are_refused(layer: nn.Module, fault: str) -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Sequential(nn.ReLU(), layer))
    with pytest.raises(ValueError, match=rf"1\.1 \({type(layer).__name__}\).*{fault}"):
        require_collapse_free(module)


def test_encoders_cannot_collapse_but_bounded_decoders_are_refused() -> None:
    require_collapse_free(LeNetEncoder(*FASHION_CODE))
    require_collapse_free(LeNetDecoder(*CIFAR, output="linear"))
    with pytest.raises(ValueError, match="Sigmoid"):
        require_collapse_free(LeNetDecoder(*CIFAR, output="sigmoid"))


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((1, 28, 28), (32, 64, 128)),
        ((3, 64, 64), (32, 64, 128)),
        ((3, 65, 40), (16, 32, 64, 128)),
        ((3, 256, 171), (8, 16, 32, 64, 128)),
        ((1, 1024, 1024), (8, 8, 8, 16, 32, 64, 128)),
        ((1, 4, 128), (64, 128)),
    ],
)
def test_modules_are_chosen_by_the_size_of_the_images(shape: tuple[int, int, int], channels: tuple[int, ...]) -> None:
    assert channels_for(shape) == channels
    encoder = LeNetEncoder(shape, conv_channels=None, rep_dim=128).eval()
    assert [conv.out_channels for conv in encoder.modules() if isinstance(conv, nn.Conv2d)] == list(channels)
    codes = encoder(torch.zeros(1, *shape))
    assert codes.shape == (1, 128)
    assert encoder.mirrored("sigmoid").eval()(codes).shape == (1, *shape)
