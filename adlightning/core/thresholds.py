"""Where a score becomes an alarm. A sample is called an anomaly when its score is strictly above the threshold."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import ANOMALY, NORMAL

Rule = Literal["normal_quantile", "contamination", "fixed"]


def validate_rule(rule: Rule, value: float) -> None:
    """Refuse a rule that does not exist or a value outside its range, with a ValueError.

    The ranges: `normal_quantile` in (0, 1), `contamination` in (0, 0.5], `fixed` any finite number.
    """
    if rule not in get_args(Rule):
        raise ValueError(f"threshold_rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    if rule == "normal_quantile" and not 0 < value < 1:
        raise ValueError(f"threshold_value must lie in (0, 1) for threshold_rule=normal_quantile, got {value}")
    if rule == "contamination" and not 0 < value <= 0.5:
        raise ValueError(f"threshold_value must lie in (0, 0.5] for threshold_rule=contamination, got {value}")
    if rule == "fixed" and not math.isfinite(value):
        raise ValueError(f"threshold_value must be finite for threshold_rule=fixed, got {value}")


def fit_threshold(
    scores: NDArray[Any] | Tensor,
    labels: NDArray[Any] | Tensor | None = None,
    rule: Rule = "normal_quantile",
    value: float = 0.95,
) -> float:
    """The threshold that a rule gives on held-out scores.

    - `normal_quantile`: the `value` quantile of the scores of samples labelled normal or, where none is, of those not
      labelled anomalies; 0.95 gives alarm on about 5 % of normal samples.
    - `contamination`: the `1 - value` quantile of all scores; about the share `value` of them is above it.
    - `fixed`: `value` itself, whatever the scores.

    `scores` (N,) must be finite, `labels` (N,) are 0, 1 or -1 (not labelled), None for none labelled; both on the CPU.
    Quantiles interpolate linearly. Raises ValueError for bad arguments and when no score is left to take a quantile of.
    """
    validate_rule(rule, value)
    if rule == "fixed":
        return float(value)
    s = scores.detach().double().numpy() if isinstance(scores, Tensor) else np.asarray(scores, dtype=np.float64)
    if s.ndim != 1:
        raise ValueError(f"scores must have shape (N,), got {s.shape}")
    if n_wrong := int(np.sum(~np.isfinite(s))):
        raise ValueError(f"scores must be finite, {n_wrong} of {len(s)} are not")
    if rule == "normal_quantile" and labels is not None:
        y = np.asarray(labels)
        if y.shape != s.shape:
            raise ValueError(f"labels must have the shape of scores, {s.shape}, got {y.shape}")
        s = s[y == NORMAL] if (y == NORMAL).any() else s[y != ANOMALY]
    if not len(s):
        which = "samples not labelled anomalies" if rule == "normal_quantile" else "samples"
        raise ValueError(f"threshold_rule={rule} needs scores of {which}, there are none")
    return float(np.quantile(s, value if rule == "normal_quantile" else 1 - value))
