"""Training that went wrong: losses and scores that are not finite, and scores that are all the same."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CAUSE = (
    "Likely cause: a learning rate that is too high, or raw features on very different scales without `standardize`."
)
_KEPT = "The checkpoint of the last good epoch is kept."


class TrainingCollapse(RuntimeError):
    """Training that produced NaN, infinity or constant scores; the message names the epoch and the likely cause."""


def check_loss(mean: float, epoch: int) -> None:
    """Raise :class:`TrainingCollapse` when an epoch's mean loss is not finite."""
    if not math.isfinite(mean):
        raise TrainingCollapse(f"epoch {epoch}: the training loss is {mean}. {CAUSE} {_KEPT}")


def check_weights(weights: Iterable[Tensor], epoch: int) -> None:
    """Raise :class:`TrainingCollapse` when weights, to which something is about to be fitted, are not all finite."""
    bad = sum(1 for weight in weights if not bool(weight.isfinite().all()))
    if bad:
        raise TrainingCollapse(f"epoch {epoch}: {bad} weight tensors hold NaN or infinity. {CAUSE} {_KEPT}")


def check_finite(scores: NDArray[np.float64], epoch: int) -> None:
    """Raise :class:`TrainingCollapse` when scores (N,) are not all finite."""
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise TrainingCollapse(f"epoch {epoch}: {bad} of {len(scores)} scores are NaN or infinite. {CAUSE}")


def is_constant(scores: NDArray[np.float64], floor: float) -> bool:
    """Whether several scores (N,) differ by no more than `floor`."""
    return len(scores) > 1 and float(np.ptp(scores)) <= floor


def constant_scores(scores: NDArray[np.float64], epoch: int) -> TrainingCollapse:
    """The error for scores (N,) that are all the same."""
    return TrainingCollapse(
        f"epoch {epoch}: all {len(scores)} scores are the same ({scores[0]:.6g}): the detector maps every input to one "
        "point. Likely cause: too high a learning rate or weight decay, or constant training data."
    )
