"""The networks of DAGMM (Zong et al., ICLR 2018, Section 4.3): tanh between linear layers, with biases throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from adlightning.networks.mlp import Output, check_dropout, check_positive, output_activation, require_samples_of


class DAGMMEncoder(nn.Module):
    """Features (B, D) to codes (B, rep_dim), unbounded: DAGMM's compression network, half of it.

    Linear layers with biases, a tanh after each but the last. The paper's sizes: arrhythmia `dense=(10,)`, `rep_dim=2`;
    thyroid `dense=(12, 4)`, `rep_dim=1`; KDDCUP `dense=(60, 30, 10)`, `rep_dim=1`.

    Args:
        shape: (D,) of a sample.
        dense: units of each layer before the code; may be empty.
        rep_dim: size of the code.

    Raises:
        ValueError: a size below 1, or samples that are no tables.
    """

    def __init__(self, shape: tuple[int, ...], dense: Sequence[int] = (10,), rep_dim: int = 2) -> None:
        super().__init__()
        require_samples_of(1, "tables (D,)", shape, "DAGMMEncoder")
        self._mirrored = partial(DAGMMDecoder, shape[0], dense, rep_dim)
        self.net = nn.Sequential(*_tanh_layers((shape[0], *dense, rep_dim)))

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, rep_dim) of samples (B, D)."""
        codes: Tensor = self.net(x)
        return codes

    def mirrored(self, output: Output) -> DAGMMDecoder:
        """A decoder (B, rep_dim) to (B, D) of the same sizes."""
        return self._mirrored(output)


class DAGMMDecoder(nn.Module):
    """Codes (B, rep_dim) to features (B, n_features): :class:`DAGMMEncoder` mirrored, with an output activation.

    Args:
        n_features: features of a sample.
        dense: units of the *encoder's* layers, in the encoder's order.
        rep_dim: size of the code.
        output: `linear` for unbounded samples, as in the paper; `sigmoid` for [0, 1], `tanh` for [-1, 1].

    Raises:
        ValueError: a size below 1, or an unknown output.
    """

    def __init__(self, n_features: int, dense: Sequence[int], rep_dim: int, output: Output = "linear") -> None:
        super().__init__()
        layers = _tanh_layers((rep_dim, *reversed(dense), n_features))
        self.net = nn.Sequential(*layers, output_activation(output))

    def forward(self, code: Tensor) -> Tensor:
        """Samples (B, n_features) from codes (B, rep_dim)."""
        x: Tensor = self.net(code)
        return x


class EstimationNetwork(nn.Module):
    """Features (B, d) of a sample's code and error to logits (B, n_outputs) of the mixture's components.

    Linear layers with biases; a tanh and dropout after each but the last. The softmax is the detector's.

    Args:
        shape: (d,) of the features.
        n_outputs: number of components; null for as many as the detector needs, 2 on its own.
        dense: units of each hidden layer; may be empty.
        dropout: rate after each hidden layer, in [0, 1).

    Raises:
        ValueError: a size below 1, or a rate outside its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        n_outputs: int | None = None,
        dense: Sequence[int] = (10,),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_dropout(dropout)
        widths = (math.prod(shape), *dense, 2 if n_outputs is None else n_outputs)
        self.net = nn.Sequential(*_tanh_layers(widths, dropout))

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, n_outputs) of features (B, d)."""
        logits: Tensor = self.net(z)
        return logits


def _tanh_layers(widths: Sequence[int], dropout: float = 0.0) -> list[nn.Module]:
    """Linear layers from each width to the next; a tanh, and dropout where there is any, after each but the last."""
    check_positive("widths", widths)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.Tanh(), *([nn.Dropout(dropout)] if dropout else [])]
    while not isinstance(layers[-1], nn.Linear):
        layers.pop()
    return layers
