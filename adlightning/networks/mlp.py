"""Multi-layer perceptrons for tables, and the layers that they share with the convolutional networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

Output = Literal["sigmoid", "tanh", "linear"]

BATCH_NORM_EPS = 1e-4  # of the released Deep SAD and DROCC code, in every network there


class MLPEncoder(nn.Module):
    """Features (B, D), or series (B, T, D), flattened, to codes (B, rep_dim), unbounded.

    Layers of Linear, BatchNorm, leaky ReLU, then a bare Linear. Without `bias` there is no bias and no affine BatchNorm
    anywhere, so that the encoder can serve Deep SVDD and Deep SAD. Deep SAD, Appendix D: arrhythmia is
    `dense=(128, 64)`, `rep_dim=32`. DROCC, Appendix E.1: one layer, `dense=()`, `rep_dim=128`, with biases.

    Args:
        shape: (D,) or (T, D) of a sample.
        dense: units of each layer before the code; may be empty.
        rep_dim: size of the code.
        leakiness: slope of the leaky ReLU below zero: 0.1 in the paper, 0.01 in the released code.
        bias: linear layers have biases and BatchNorms are affine.

    Raises:
        ValueError: a size below 1, or a leakiness outside [0, 1).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dense: Sequence[int] = (),
        rep_dim: int = 32,
        leakiness: float = 0.1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if len(shape) != 2:
            require_samples_of(1, "tables (D,) and series (T, D)", shape, "MLPEncoder")
        n_features = math.prod(shape)
        _check(n_features, dense, rep_dim, leakiness)
        self.shape = shape
        self._mirrored = partial(MLPDecoder, n_features, dense, rep_dim, leakiness)
        self.net = nn.Sequential(
            *dense_layers((n_features, *dense), leakiness, bias),
            nn.Linear((n_features, *dense)[-1], rep_dim, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, rep_dim) of samples (B, D) or (B, T, D)."""
        codes: Tensor = self.net(x.flatten(1))
        return codes

    def mirrored(self, output: Output) -> nn.Module:
        """A decoder (B, rep_dim) to (B, D) or (B, T, D) of the same sizes, without biases."""
        decoder = self._mirrored(output)
        return decoder if len(self.shape) == 1 else nn.Sequential(decoder, nn.Unflatten(1, self.shape))


class MLPDecoder(nn.Module):
    """Codes (B, rep_dim) to features (B, n_features): :class:`MLPEncoder` mirrored, with an output activation.

    Args:
        n_features: features of a sample.
        hidden: units of the *encoder's* layers, in the encoder's order.
        rep_dim: size of the code.
        leakiness: slope of the leaky ReLU below zero.
        output: `sigmoid` for samples in [0, 1], `tanh` for [-1, 1], `linear` for unbounded ones.

    Raises:
        ValueError: a size below 1, a leakiness outside [0, 1), or an unknown output.
    """

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        rep_dim: int,
        leakiness: float = 0.1,
        output: Output = "linear",
    ) -> None:
        super().__init__()
        _check(n_features, hidden, rep_dim, leakiness)
        widths = (rep_dim, *reversed(hidden))
        self.net = nn.Sequential(
            *dense_layers(widths, leakiness, bias=False),
            nn.Linear(widths[-1], n_features, bias=False),
            output_activation(output),
        )

    def forward(self, code: Tensor) -> Tensor:
        """Samples (B, n_features) from codes (B, rep_dim)."""
        x: Tensor = self.net(code)
        return x


class PlainMLP(nn.Module):
    """Samples (B, ...), flattened, to outputs (B, n_outputs): linear layers with biases, ReLU and dropout between them.

    No BatchNorm: for density ratios, and whatever else must not see a batch.

    Args:
        shape: of a sample.
        n_outputs: outputs; null for as many as the detector needs, 1 on its own.
        dense: units of each hidden layer; may be empty.
        dropout: rate after each hidden layer, in [0, 1).

    Raises:
        ValueError: a size below 1, or a rate outside its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_outputs: int | None = None,
        dense: Sequence[int] = (128, 128),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        n_outputs = 1 if n_outputs is None else n_outputs
        for name, sizes in (("shape", shape), ("n_outputs", (n_outputs,)), ("dense", dense)):
            check_positive(name, sizes)
        check_dropout(dropout)
        widths = (math.prod(shape), *dense)
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(dropout)]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, n_outputs) of samples (B, ...)."""
        outputs: Tensor = self.net(x)
        return outputs


def dense_layers(widths: Sequence[int], leakiness: float, bias: bool) -> list[nn.Module]:
    """Linear, BatchNorm, leaky ReLU, from each width to the next; with biases and an affine part, or without both."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [
            nn.Linear(n_in, n_out, bias=bias),
            nn.BatchNorm1d(n_out, eps=BATCH_NORM_EPS, affine=bias),
            nn.LeakyReLU(leakiness),
        ]
    return layers


def output_activation(output: Output) -> nn.Module:
    """The last layer of a decoder. Raises ValueError for an unknown name."""
    activations: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "linear": nn.Identity}
    if output not in activations:
        raise ValueError(f"output must be one of {', '.join(activations)}, got {output!r}")
    return activations[output]()


def require_samples_of(dimensions: int, kind: str, shape: Sequence[int], network: str) -> None:
    """Raise ValueError unless samples have as many dimensions as a network takes."""
    if len(shape) != dimensions:
        raise ValueError(f"{network} takes {kind}, the data have samples of shape {tuple(shape)}")


def check_positive(name: str, values: Sequence[int]) -> None:
    """Raise ValueError unless every one of the sizes is at least 1."""
    if any(value < 1 for value in values):
        shown = values[0] if len(values) == 1 else tuple(values)
        raise ValueError(f"{name} must be at least 1, got {shown}")


def check_dropout(dropout: float) -> None:
    """Raise ValueError unless the rate lies in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")


def check_leakiness(leakiness: float) -> None:
    """Raise ValueError unless the slope lies in [0, 1)."""
    if not 0 <= leakiness < 1:
        raise ValueError(f"leakiness must lie in [0, 1), got {leakiness}")


def _check(n_features: int, hidden: Sequence[int], rep_dim: int, leakiness: float) -> None:
    check_positive("n_features", (n_features,))
    check_positive("hidden", hidden)
    check_positive("rep_dim", (rep_dim,))
    check_leakiness(leakiness)
