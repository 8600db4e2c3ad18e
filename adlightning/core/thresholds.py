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

from adlightning.core.conformal import ROUNDING, discoveries, p_values
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

    of_normals: ClassVar[bool] = False
    """Whether scores of held-out normal samples are all that it takes: a trained detector keeps them, and may then be
    given this rule in place of its own."""

    @abstractmethod
    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        """The threshold on finite scores (N,) with labels (N,) in {0, 1, -1 not labelled}, None for none labelled.

        Raises:
            ValueError: no score is left to take it from.
        """

    def refusal(self, held_out: int) -> str | None:
        """Why this many held-out normal samples are too few for it, in words; None where they are not."""
        return None

    def doubt(self, held_out: int) -> str | None:
        """Why a threshold by this many held-out normal samples is a rough one, in words; None where it is not."""
        return None

    def over(self, scores: NDArray[np.float64], held_out: NDArray[np.float64], fitted: float) -> float:
        """The threshold for samples that are judged together, such as the rows of a file: the fitted one.

        Args:
            scores: (N,) of these samples.
            held_out: (n,) scores of held-out normal samples, sorted upwards.
            fitted: the detector's threshold.
        """
        return fitted

    def warning_over(self, n: int, held_out: int) -> str | None:
        """What keeps alarms from n samples that are judged together, in words; None for nothing."""
        return None


@dataclass(frozen=True)
class NormalQuantile(ThresholdRule):
    """A quantile of the scores of samples labelled normal or, where none is, of those not labelled anomalies.

    0.95 gives alarm on about 5 % of normal samples. Of held-out samples; of training samples when nothing is held out.

    Args:
        quantile: in (0, 1); quantiles interpolate linearly.
    """

    quantile: float = 0.95

    argument_rules: ClassVar[Mapping[str, Rule]] = {"quantile": between(0, 1)}
    of_normals: ClassVar[bool] = True

    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        """The quantile. Raises ValueError where every sample is labelled an anomaly."""
        return _quantile(self, normal_scores(scores, labels), self.quantile, "samples not labelled anomalies")

    def doubt(self, held_out: int) -> str | None:
        """Of n scores the k-th from below lies above a share k / (n + 1) of new ones, on average over draws."""
        above = 1 - ((held_out - 1) * self.quantile + 1) / (held_out + 1)
        if held_out < 1 or above <= 2 * (1 - self.quantile):
            return None
        samples = "1 held-out normal sample" if held_out == 1 else f"{held_out} held-out normal samples"
        return (
            f"the threshold is by {samples}: about {above:.0%} of new normal ones lie above it, where "
            f"{1 - self.quantile:.2g} is meant: hold out more (data.validation_fraction)"
        )


@dataclass(frozen=True)
class FalsePositiveRate(ThresholdRule):
    """The lowest threshold that a new normal sample exceeds with at most this probability, of held-out normal samples.

    An alarm is a conformal p-value of at most `rate` (Vovk et al. 2005). Where :class:`NormalQuantile` aims at a rate,
    this keeps it, for any number of held-out samples. It needs `1 / rate - 1` of them: 99 for 0.01.

    Args:
        rate: in (0, 1).
    """

    rate: float = 0.01

    argument_rules: ClassVar[Mapping[str, Rule]] = {"rate": between(0, 1)}
    of_normals: ClassVar[bool] = True

    def refusal(self, held_out: int) -> str | None:
        """Held-out samples must be as many as their smallest p-value, `1 / (n + 1)`, needs to be at most the rate."""
        if (needed := math.ceil(1 / self.rate - ROUNDING) - 1) <= held_out:
            return None
        rate = f"a rate of {math.ceil(1000 / (held_out + 1)) / 1000:g} or more" if held_out else "another rule"
        return (
            f"threshold={type(self).__name__} with rate={self.rate:g} needs at least {needed} held-out normal samples, "
            f"there are {held_out}: hold out more (data.validation_fraction), or take {rate}"
        )

    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        """The k-th largest score of the n normals, for k the whole part of `rate * (n + 1)`.

        Raises:
            ValueError: they are too few.
        """
        normal = normal_scores(scores, labels)
        if reason := self.refusal(len(normal)):
            raise ValueError(reason)
        allowed = math.floor(self.rate * (len(normal) + 1) + ROUNDING)
        return float(np.sort(normal)[max(len(normal) - allowed, 0)])


@dataclass(frozen=True)
class FalseDiscoveryRate(FalsePositiveRate):
    """Of the alarms over a file, or a test set, at most this share is expected to be false.

    The conformal p-values of the samples that are judged together go through Benjamini and Hochberg's procedure: the
    more anomalies a file has, the lower its threshold. For one sample alone it is :class:`FalsePositiveRate`. Samples
    are assumed to be drawn independently of each other.

    Args:
        rate: in (0, 1).
    """

    rate: float = 0.05

    def over(self, scores: NDArray[np.float64], held_out: NDArray[np.float64], fitted: float) -> float:
        """The held-out score that all discoveries exceed; infinite for none."""
        found = discoveries(p_values(scores, held_out), self.rate)
        if not found.any():
            return math.inf
        return float(held_out[np.searchsorted(held_out, scores[found].min(), side="left") - 1])

    def warning_over(self, n: int, held_out: int) -> str | None:
        """So few held-out samples that a lone anomaly among n would go unnoticed."""
        if (together := math.ceil(n / (self.rate * (held_out + 1)) - ROUNDING)) <= 1:
            return None
        return (
            f"{type(self).__name__} with rate={self.rate:g} over {n} samples gives alarm only where {together} or more "
            f"exceed all {held_out} held-out normal samples: {math.ceil(n / self.rate)} would show a lone one"
        )


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


def normal_scores(scores: NDArray[np.float64], labels: NDArray[Any] | None) -> NDArray[np.float64]:
    """Scores of samples labelled normal or, where none is, of those not labelled anomalies."""
    if labels is None:
        return scores
    kept: NDArray[np.float64] = scores[labels == NORMAL] if (labels == NORMAL).any() else scores[labels != ANOMALY]
    return kept


def _quantile(rule: ThresholdRule, scores: NDArray[np.float64], share: float, which: str) -> float:
    if not len(scores):
        raise ValueError(f"threshold={type(rule).__name__} needs scores of {which}, there are none")
    return float(np.quantile(scores, share))
