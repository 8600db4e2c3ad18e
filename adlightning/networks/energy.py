"""Networks that give each sample an energy (Zhai et al., ICML 2016): dense, convolutional and recurrent.

E(x) = 1/2 ||x - b'||^2 - sum_j h_j(x), with h the last of several layers whose activation is the softplus. No layer
couples samples. Sizes are ours: the paper's were not at hand. Weights start by Glorot's rule, since h's curvature adds
up over units: with the framework's start x - dE/dx of a few features is many times as long as x.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.initialisation import glorot_uniform_
from adlightning.networks.lstm import hidden_states
from adlightning.networks.mlp import check_positive, require_samples_of

Cell = Literal["lstm", "rnn"]

KERNEL_SIZE = 5


def energy_of(x: Tensor, visible_bias: Tensor, hidden: Tensor) -> Tensor:
    """1/2 ||x - b'||^2 - sum_j h_j (B,) of samples (B, ...), their b', and the last layer's units (B, ...)."""
    return (x - visible_bias).square().flatten(1).sum(dim=1) / 2 - hidden.flatten(1).sum(dim=1)


class DenseEnergy(nn.Module):
    """Rows (B, D) to energies (B,): the fully connected energy.

    Args:
        shape: (D,) of a sample.
        hidden: units of each layer, at least one.

    Raises:
        ValueError: samples of another kind, no layer, or a size below 1.
    """

    def __init__(self, shape: tuple[int, ...], hidden: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        require_samples_of(1, "tables (D,)", shape, "DenseEnergy")
        _check_layers("hidden", hidden)
        self.visible_bias = nn.Parameter(torch.zeros(shape))
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((shape[0], *hidden)):
            layers += [nn.Linear(n_in, n_out), nn.Softplus()]
        self.layers = nn.Sequential(*layers)
        glorot_uniform_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Energies (B,)."""
        return energy_of(x, self.visible_bias, self.layers(x))


class ConvolutionalEnergy(nn.Module):
    """Images (B, C, H, W) to energies (B,): 5x5 convolutions, each with a 2x2 max-pooling, and a dense layer.

    Args:
        shape: (C, H, W) of an image.
        channels: of each convolution, at least one.
        hidden: units of the dense layer.

    Raises:
        ValueError: samples of another kind, images too small for the number of poolings, or a size below 1.
    """

    def __init__(self, shape: tuple[int, ...], channels: Sequence[int] = (32, 64), hidden: int = 128) -> None:
        super().__init__()
        require_samples_of(3, "images (C, H, W)", shape, "ConvolutionalEnergy")
        _check_layers("channels", channels)
        check_positive("hidden", (hidden,))
        height, width = (side >> len(channels) for side in shape[1:])
        if not (height and width):
            raise ValueError(
                f"channels: {len(channels)} poolings need sides of at least {2 ** len(channels)} pixels, got images of "
                f"shape {shape}"
            )
        self.visible_bias = nn.Parameter(torch.zeros(shape))
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((shape[0], *channels)):
            layers += [nn.Conv2d(n_in, n_out, KERNEL_SIZE, padding=KERNEL_SIZE // 2), nn.Softplus(), nn.MaxPool2d(2)]
        last = nn.Linear(channels[-1] * height * width, hidden)
        self.layers = nn.Sequential(*layers, nn.Flatten(), last, nn.Softplus())
        glorot_uniform_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Energies (B,)."""
        return energy_of(x, self.visible_bias, self.layers(x))


class RecurrentEnergy(nn.Module):
    """Series (B, T, D) of any length to energies (B,): a sum over steps, whose biases the steps before them give.

    The biases of step t come from the state s of a recurrent network after step t - 1, which is 0 before the first:

        E(x) = sum_t 1/2 ||x_t - b'_t||^2 - sum_j h_tj      h_t = softplus(W x_t + b_t), and so on by layers
        b'_t = b' + U' s_(t-1)      b_t = b + U s_(t-1)      s_t = f(x_t, s_(t-1))

    With `through_time` this is the energy of the whole series. Without it each step's part is that of
    p(x_t | x_1, ..., x_(t-1)): the past is given, and the gradient does not run through the states. A part then has a
    constant that depends on the past and that training leaves open, so the sum is no score: `reconstruction` is.

    Args:
        shape: (T, D) of a series.
        hidden: units of each layer, at least one.
        state_dim: size of the state.
        cell: what f is: an LSTM, as DROCC has in all its networks for series, or a layer with tanh.
        through_time: the gradient of the energy runs through the states.

    Raises:
        ValueError: samples of another kind, no layer, a size below 1, or an unknown cell.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: Sequence[int] = (128,),
        state_dim: int = 128,
        cell: Cell = "lstm",
        through_time: bool = True,
    ) -> None:
        super().__init__()
        require_samples_of(2, "series (T, D)", shape, "RecurrentEnergy")
        check_positive("shape", shape)
        _check_layers("hidden", hidden)
        check_positive("state_dim", (state_dim,))
        if cell not in get_args(Cell):
            raise ValueError(f"cell must be one of {', '.join(get_args(Cell))}, got {cell!r}")
        self.through_time = through_time
        recurrent = nn.LSTM if cell == "lstm" else nn.RNN
        self.recurrent = recurrent(shape[1], state_dim, batch_first=True)
        self.visible_bias = nn.Linear(state_dim, shape[1])
        sizes = list(pairwise((shape[1], *hidden)))
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in sizes)
        self.hidden_biases = nn.ModuleList(nn.Linear(state_dim, n_out, bias=False) for _, n_out in sizes)
        glorot_uniform_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Energies (B,)."""
        states = self.states(x)
        before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
        hidden = x
        for layer, bias in zip(self.layers, self.hidden_biases, strict=True):
            hidden = F.softplus(layer(hidden) + bias(before))
        return energy_of(x, self.visible_bias(before), hidden)

    def states(self, x: Tensor) -> Tensor:
        """The states (B, T, state_dim) after each step."""
        if not self.through_time:
            x = x.detach()
        # cuDNN's recurrent layers have no second derivative, and in eval mode no first one
        without_cudnn = self.through_time and x.is_cuda
        with torch.backends.cudnn.flags(enabled=False) if without_cudnn else nullcontext():
            return hidden_states(self.recurrent, x)


def _check_layers(name: str, sizes: Sequence[int]) -> None:
    if not sizes:
        raise ValueError(f"{name} must name at least one layer, got none")
    check_positive(name, sizes)
