"""Where a score becomes an alarm. A sample is called an anomaly when its score is strictly above the threshold."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.parts import Part
from adlightning.core.rules import Rule, between, finite
from adlightning.labels import ANOMALY, NORMAL


class ThresholdRule(Part):
    """What a threshold is fitted by: a frozen dataclass of plain values with :meth:`fit`.

    A rule of one's own:

        @dataclass(frozen=True)
        class Largest(ThresholdRule):
            def fit(self, scores, labels):
                return float(scores.max())
    """

    uses_held_out: ClassVar[bool] = True
    """Whether held-out samples are taken, where there are any, rather than the training samples."""

    is_given: ClassVar[bool] = False
    """Whether the threshold does not depend on scores."""

    @abstractmethod
    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        """The threshold on finite scores (N,) with labels (N,) in {0, 1, -1 not labelled}, None for none labelled.

        Raises:
            ValueError: no score is left to take it from.
        """


@dataclass(frozen=True)
class NormalQuantile(ThresholdRule):
    """A quantile of the scores of samples labelled normal or, where none is, of those not labelled anomalies.

    0.95 gives alarm on about 5 % of normal samples. Of held-out samples; of training samples when nothing is held out.

    Args:
        quantile: in (0, 1); quantiles interpolate linearly.
    """

    quantile: float = 0.95

    argument_rules: ClassVar[Mapping[str, Rule]] = {"quantile": between(0, 1)}

    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        """The quantile. Raises ValueError where every sample is labelled an anomaly."""
        if labels is not None:
            scores = scores[labels == NORMAL] if (labels == NORMAL).any() else scores[labels != ANOMALY]
        return _quantile(self, scores, self.quantile, "samples not labelled anomalies")


@dataclass(frozen=True)
class Contamination(ThresholdRule):
    """The threshold above which an expected share of the training samples lies that are not known anomalies.

    Args:
        share: in (0, 0.5].
    """

    share: float = 0.1

    argument_rules: ClassVar[Mapping[str, Rule]] = {"share": between(0, 0.5, "right")}
    uses_held_out: ClassVar[bool] = False

    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        """The quantile of all scores that leaves this share above it. Raises ValueError where there is no score."""
        return _quantile(self, scores, 1 - self.share, "samples")


@dataclass(frozen=True)
class FixedThreshold(ThresholdRule):
    """A threshold that is given, whatever the scores.

    Args:
        value: finite.
    """

    value: float = 0.0

    argument_rules: ClassVar[Mapping[str, Rule]] = {"value": finite}
    is_given: ClassVar[bool] = True

    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        """The value."""
        return float(self.value)


def fit_threshold(
    rule: ThresholdRule, scores: NDArray[Any] | Tensor, labels: NDArray[Any] | Tensor | None = None
) -> float:
    """The threshold that a rule gives on scores.

    Args:
        rule: what it is fitted by.
        scores: (N,), on the CPU.
        labels: (N,), 0 normal, 1 anomaly, -1 not labelled; None for none labelled.

    Raises:
        ValueError: scores that are not finite, labels of another shape, no score left to take it from, or a rule that
            gives no number.
    """
    s = scores.detach().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, dtype=np.float64)
    if s.ndim != 1:
        raise ValueError(f"scores must have shape (N,), got {s.shape}")
    y = None if labels is None else np.asarray(labels)
    if y is not None and y.shape != s.shape:
        raise ValueError(f"labels must have the shape of scores, {s.shape}, got {y.shape}")
    if n_wrong := int(np.sum(~np.isfinite(s))) if not rule.is_given else 0:
        raise ValueError(f"scores must be finite, {n_wrong} of {len(s)} are not")
    given = rule.fit(s, y)
    if not isinstance(given, (int, float, np.number)) or math.isnan(given):
        raise ValueError(f"threshold: {type(rule).__name__}.fit must give a number, got {given!r}")
    return float(given)


def _quantile(rule: ThresholdRule, scores: NDArray[np.float64], share: float, which: str) -> float:
    if not len(scores):
        raise ValueError(f"threshold={type(rule).__name__} needs scores of {which}, there are none")
    return float(np.quantile(scores, share))
