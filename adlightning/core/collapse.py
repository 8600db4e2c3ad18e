"""Training that went wrong: losses and scores that are not finite, and scores that are all the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_COLLAPSED = 1e-2  # share of its first size at which a sphere counts as a point
_KEPT = "The checkpoint of the last good epoch is kept."


class TrainingCollapse(RuntimeError):
    """Training that produced NaN, infinity or constant scores; the message names the epoch and the likely cause."""


def likely_cause(by_gradient: bool, unscaled: bool) -> str:
    """What numbers that are not finite come from.

    Args:
        by_gradient: whether weights are trained, by steps of a learning rate.
        unscaled: whether features are taken as they are.
    """
    causes = ["a learning rate that is too high"] if by_gradient else []
    if unscaled:
        causes.append("raw features on very different scales (preprocessing: standardize)")
    return f"Likely cause: {', or '.join(causes or ['hyper-parameters that do not fit the scale of the data'])}."


def check_loss(mean: float, epoch: int, cause: str) -> None:
    """Raise :class:`TrainingCollapse` when an epoch's mean loss is not finite."""
    if not math.isfinite(mean):
        raise TrainingCollapse(f"epoch {epoch}: the training loss is {mean}. {cause} {_KEPT}")


def check_weights(weights: Iterable[Tensor], epoch: int, cause: str) -> None:
    """Raise :class:`TrainingCollapse` when weights, to which something is about to be fitted, are not all finite."""
    bad = sum(1 for weight in weights if not bool(weight.isfinite().all()))
    if bad:
        raise TrainingCollapse(f"epoch {epoch}: {bad} weight tensors hold NaN or infinity. {cause} {_KEPT}")


def check_finite(scores: NDArray[np.float64], epoch: int, cause: str) -> None:
    """Raise :class:`TrainingCollapse` when scores (N,) are not all finite."""
    bad = int((~(np.abs(scores) < np.finfo(np.float32).max)).sum())  # what overflowed is the largest number
    if bad:
        raise TrainingCollapse(f"epoch {epoch}: {bad} of {len(scores)} scores are NaN or infinite. {cause}")


def is_constant(scores: NDArray[np.float64], floor: float) -> bool:
    """Whether several scores (N,) differ by no more than `floor`."""
    return len(scores) > 1 and float(np.ptp(scores)) <= floor


def constant_scores(scores: NDArray[np.float64], epoch: int, why: str) -> TrainingCollapse:
    """The error for scores (N,) that are all the same."""
    return TrainingCollapse(f"epoch {epoch}: all {len(scores)} scores are the same ({scores[0]:.6g}). {why}")


def sphere_collapse(before: float, after: float) -> str | None:
    """In words, that a hypersphere collapsed; None where it did not.

    Args:
        before: mean squared norm of the training samples' representations when the centre was set.
        after: the same when training ended.
    """
    if not after <= _COLLAPSED * before:
        return None
    return (
        f"hypersphere collapse: representations and centre shrank to a point, their mean squared norm to "
        f"{after / before:.1e} of what it was, since the centre is trained as well (learn_center)"
    )


@torch.no_grad()
def why_constant(
    raw: Callable[[], Iterable[Tensor]], preprocess: Callable[[Tensor], Tensor], name: str, by_gradient: bool
) -> str:
    """What is the same: the samples, what a preprocessing makes of them, or the scores alone.

    Args:
        raw: gives a fresh pass over raw training samples each time it is called.
        preprocess: what is done to them.
        name: of the preprocessing.
        by_gradient: as in :func:`likely_cause`.
    """
    if are_equal(raw()):
        return "So are the training samples (known anomalies apart): there is nothing to learn from them."
    if are_equal(preprocess(x) for x in raw()):
        return f"The training samples differ, and preprocessing={name} makes all of them the same: choose another."
    causes = "too high a learning rate or weight decay" if by_gradient else "hyper-parameters that do not fit the data"
    return f"The training samples differ: the detector maps every input to one point. Likely cause: {causes}."


def are_equal(batches: Iterable[Tensor]) -> bool:
    """Whether all samples of these batches (B, ...) are equal; looks no further than the first that differs."""
    first: Tensor | None = None
    for batch in batches:
        if len(batch):
            first = batch[:1] if first is None else first
            if not bool((batch == first).all()):
                return False
    return True
