"""What Deep SAD asks of a known anomaly's distance: the losses that its paper weighs (Ruff et al. 2020, Section 3.2).

The paper names them and gives no formulae but the inverse's; scales and margins are arguments because it states none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adlightning.core.parts import Part
from adlightning.core.rules import Rule, positive


@dataclass(frozen=True)
class AnomalyLoss(Part):
    """A loss of known anomalies, which falls as they move away from the centre."""

    @abstractmethod
    def __call__(self, d: Tensor) -> Tensor:
        """Losses (B,) of positive squared distances d (B,)."""


@dataclass(frozen=True)
class InverseNorm(AnomalyLoss):
    """1 / d, the paper's choice: bounded from below and smooth (equation 7)."""

    def __call__(self, d: Tensor) -> Tensor:
        """1 / d."""
        return 1 / d


@dataclass(frozen=True)
class NegativeNorm(AnomalyLoss):
    """-d: unbounded from below. In the paper training diverges with it."""

    def __call__(self, d: Tensor) -> Tensor:
        """-d."""
        return -d


@dataclass(frozen=True)
class HingeLoss(AnomalyLoss):
    """max(0, margin - d): nothing beyond the margin. The paper found it hard to optimise, and worse.

    Args:
        margin: squared distance from which on an anomaly costs nothing, positive; not stated in the paper.
    """

    margin: float = 1.0

    argument_rules: ClassVar[Mapping[str, Rule]] = {"margin": positive}

    def __call__(self, d: Tensor) -> Tensor:
        """max(0, margin - d)."""
        return (self.margin - d).clamp_min(0)


@dataclass(frozen=True)
class NegativeHampelLoss(AnomalyLoss):
    """-rho(sqrt d), rho Hampel's three-part function: quadratic to a, linear to b, flat from c on.

    It pushes an anomaly away up to the distance c and leaves it there. Paper: its scales are hard to choose, since the
    representation changes while it is learned.

    Args:
        a, b, c: distances, 0 < a < b < c; not stated in the paper.
    """

    a: float = 1.0
    b: float = 2.0
    c: float = 4.0

    argument_rules: ClassVar[Mapping[str, Rule]] = {"a": positive, "b": positive, "c": positive}

    def __post_init__(self) -> None:
        """Check the values and their order."""
        super().__post_init__()
        if not self.a < self.b < self.c:
            raise ValueError(f"a, b and c must ascend, got a={self.a}, b={self.b}, c={self.c}")

    def __call__(self, d: Tensor) -> Tensor:
        """-rho (B,): between -a (b + c - a) / 2 and 0."""
        a, b, c = self.a, self.b, self.c
        r = d.clamp_min(a * a).sqrt()  # the root is needed from a on, and has no slope at 0
        linear = a * r - a * a / 2
        bent = a * (b + c - a) / 2 - a * (c - r.clamp_max(c)).square() / (2 * (c - b))
        return -torch.where(d <= a * a, d / 2, torch.where(r <= b, linear, bent))
