"""What classifiers put on an encoder: linear layers that end in one logit (DROCC, Section 3 and Appendix E)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import nn

from adlightning.core.parts import Shape
from adlightning.core.rules import at_least, between, check_arguments, each
from adlightning.networks.encoders import representation_size

HeadActivation = Literal["none", "leaky_relu"]


@dataclass(frozen=True)
class Head:
    """A classifier's head: linear layers from the representation to one logit, whose meaning the method says.

    Args:
        dense: units of the hidden layers; may be empty.
        activation: what comes before each of the layers: `leaky_relu`, or `none`.
        leakiness: slope of the leaky ReLU below zero, in [0, 1); 0 is a ReLU.
        bias: whether the layers have biases.
    """

    dense: Sequence[int] = ()
    activation: HeadActivation = "none"
    leakiness: float = 0.1
    bias: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        rules = {"head.dense": each(at_least(1)), "head.leakiness": between(0, 1, "left")}
        values = {f"head.{name}": value for name, value in vars(self).items()}
        check_arguments(rules, {"head.activation": HeadActivation}, values)

    def on(self, encoder: nn.Module, shape: Shape) -> nn.Module:
        """The layers, from an encoder's representations (B, d) to logits (B, 1).

        Args:
            encoder: takes preprocessed samples.
            shape: of such a sample.

        Raises:
            ValueError: the encoder does not take such samples, or gives something else than (B, d).
        """
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((representation_size(encoder, shape), *self.dense, 1)):
            layers += [nn.LeakyReLU(self.leakiness)] if self.activation == "leaky_relu" else []
            layers.append(nn.Linear(n_in, n_out, bias=self.bias))
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)
