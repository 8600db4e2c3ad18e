"""Conformal p-values: how often a normal sample scores as high as this one, by held-out normal samples.

Held-out normals and a new normal are exchangeable, so the rank of the new one among them is uniform: its p-value is at
most `a` with probability at most `a`, for any detector and any sample size (Vovk et al. 2005; Bates et al. 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

ROUNDING = 1e-9
"""By which two numbers that are equal may miss each other: p-values meet a rate exactly as a rule, 0.01 of 99."""


def p_values(scores: ArrayLike, held_out: ArrayLike) -> NDArray[np.float64]:
    """Conformal p-values (N,) in (0, 1]: `(1 + #{held-out scores >= score}) / (n + 1)`.

    Args:
        scores: (N,), higher for more anomalous.
        held_out: (n,) scores of held-out normal samples, sorted upwards.

    Example:
        >>> p_values([0.5, 3.5], [1.0, 2.0, 3.0])
        array([1.  , 0.25])
    """
    reference = np.asarray(held_out, dtype=np.float64)
    at_least = len(reference) - np.searchsorted(reference, np.asarray(scores, dtype=np.float64), side="left")
    return np.asarray((1 + at_least) / (len(reference) + 1))


def p_values_in_a_graph(scores: Tensor, held_out: Tensor) -> Tensor:
    """The same of tensors (B,) and (n,), by operations that every exported graph has; takes B * n comparisons."""
    at_least = (held_out[None, :] >= scores[:, None]).float().sum(1)
    return (1 + at_least) / (held_out.shape[0] + 1)


def discoveries(p: ArrayLike, rate: float) -> NDArray[np.bool_]:
    """Which of the p-values (N,) Benjamini and Hochberg (1995) reject at this false discovery rate, (N,).

    The k smallest are rejected, for the largest k whose k-th is at most `rate * k / N`. Conformal p-values of one set
    of held-out samples are positively dependent, and the rate holds for them (Bates et al. 2023, Theorem 2).

    Example:
        >>> discoveries([0.01, 0.02, 0.9, 0.8], rate=0.05).tolist()
        [True, True, False, False]
    """
    values = np.asarray(p, dtype=np.float64)
    ordered = np.sort(values)
    kept = ordered <= rate * (1 + ROUNDING) * np.arange(1, len(values) + 1) / max(len(values), 1)
    return values <= (ordered[kept][-1] if kept.any() else -np.inf)
