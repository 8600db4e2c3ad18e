"""How DROCC searches its negatives: the arguments of gradient ascent (Goyal et al. 2020, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from torch import nn

from adlightning.core.rules import Rule, at_least, check_arguments, positive

AscentBatchNorm = Literal["eval", "train", "frozen"]
ProjectEvery = int | Literal["end"]
StepUnit = Literal["absolute", "radius"]


@dataclass(frozen=True)
class Ascent:
    """Normalised gradient ascent from noise to the most normal-looking points of a shell.

    Args:
        steps: m: 50 in the released code, 40 in its older version for images.
        step_size: length of each step, eta.
        project_every: steps between projections onto the shell: 10 in the released code (5 in that of DROCC-LF, 20 in
            the older one), 1 in the paper's Algorithm 1, `end` (once, after the last step) in the older code for
            images.
        batch_norm: BatchNorm during ascent: `eval` (running statistics), `train` (the released code: those of the
            adversarial batch, which also move the running ones), or `frozen` (the older code: running statistics from
            each epoch's first ascent on, in all of the epoch's further training).
        step_unit: of `step_size`: `absolute`, as in the paper and the released code, or `radius`, the shell's inner
            radius, so that one value serves data of any scale and dimension.
    """

    steps: int = 50
    step_size: float = 0.01
    project_every: ProjectEvery = 10
    batch_norm: AscentBatchNorm = "eval"
    step_unit: StepUnit = "absolute"

    def __post_init__(self) -> None:
        """Check the values."""
        every = Rule(lambda n: n == "end" or (not isinstance(n, str) and n >= 1), "be at least 1, or end")
        rules = {"ascent.steps": at_least(1), "ascent.step_size": positive, "ascent.project_every": every}
        values = {f"ascent.{name}": value for name, value in vars(self).items()}
        check_arguments(rules, {"ascent.batch_norm": AscentBatchNorm, "ascent.step_unit": StepUnit}, values)

    def step_length(self, radius: float) -> float:
        """Length of a step in a shell of this inner radius."""
        return self.step_size * radius if self.step_unit == "radius" else self.step_size


@contextmanager
def frozen_weights(module: nn.Module) -> Iterator[None]:
    """No gradients for weights: a compiled backward pass would compute them whether or not anyone asks."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
