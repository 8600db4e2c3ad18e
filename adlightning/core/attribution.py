"""How much each value of a sample adds to its score, against the median of the normal training samples.

A score that is a forward pass has gradients: integrated gradients (Sundararajan et al. 2017, by captum) share the
difference between the score of a sample and the score of the median among its values, and the shares add up to it. A
score without them (a tree, a neighbour, a search) is compared with what it would be if one value were the median.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.encoding import Columns
from adlightning.core.scoring import as_written, require_scores, scoring

if TYPE_CHECKING:
    from adlightning.core.scored import ScoredModule

MOST_ROWS = 20_000
"""Training samples of which the median is taken at most, evenly spread."""

STEPS = (32, 128, 512)
"""Points of the integral, more of them until the shares add up."""

COMPLETE = 0.01
"""By which the sum of the shares may miss the difference of the scores, as a part of it."""

_ROWS = 4096
"""Samples in one forward pass at most."""

_COLUMNS = 256
"""Values that are looked at one by one at a time."""


@dataclass(frozen=True)
class Attributions:
    """What each value of each sample adds to its score.

    Args:
        values: (N, D) of tables, (N, T, D) of series, in units of the score; float64.
        baseline: the median normal sample (D,) or (T, D), raw.
        scores: (N,) of the samples.
        baseline_score: of the median.
        complete: whether `values` of a sample add up to its score less the baseline's: integrated gradients do, the
            comparison with one value exchanged does not.
    """

    values: NDArray[np.float64]
    baseline: NDArray[np.float64]
    scores: NDArray[np.float64]
    baseline_score: float
    complete: bool

    def missed(self) -> NDArray[np.float64]:
        """By how much the shares miss the difference of the scores, (N,), as a part of it."""
        difference = self.scores - self.baseline_score
        gap = np.abs(self.values.reshape(len(self.values), -1).sum(axis=1) - difference)
        return np.asarray(gap / np.maximum(np.abs(difference), np.finfo(np.float32).tiny))


def median_normal(batches: Iterable[Tensor], n: int, columns: Columns | None = None) -> Tensor:
    """The median (D,) or (T, D) of raw normal samples, value by value; of at most :data:`MOST_ROWS`, evenly spread.

    Of values that are there, and of a column of categories the most frequent one.

    Args:
        batches: raw samples (B, ...), in all about n.
        n: how many there are.
        columns: of a table whose columns are not all plain numbers.
    """
    stride, seen, kept = -(-n // MOST_ROWS) or 1, 0, []
    for x in batches:
        kept.append(x[-seen % stride :: stride].cpu())
        seen += len(x)
    values = torch.cat(kept).numpy()
    if columns is None:
        return torch.from_numpy(np.median(values, axis=0))
    fills = columns.fills or (0.0,) * values.shape[1]
    middle = []
    for j, fill in enumerate(fills):
        there = values[~np.isnan(values[:, j]), j]
        codes, counts = np.unique(there, return_counts=True)
        typical = codes[np.argmax(counts)] if columns.of(j) else np.median(there) if len(there) else fill
        middle.append(float(typical))
    return torch.tensor(middle, dtype=torch.float64).to(kept[0].dtype)


def attribute(detector: ScoredModule, batches: Iterable[Tensor]) -> Attributions:
    """What each value of raw samples adds to their scores.

    Args:
        detector: of tables or series, trained.
        batches: raw samples (B, ...), as :func:`adlightning.core.raw_input.raw_batches` gives them.

    Raises:
        ValueError: a detector of images, or one that does not know the median of its training samples; captum is
            missing.
    """
    name = type(detector).__name__
    if detector.built_for.kind == "image":
        raise ValueError(f"{name} scores images: attributions are of tables and series, heatmaps() are of images")
    baseline = detector.median_normal
    if not torch.isfinite(baseline).all():
        raise ValueError(f"{name} does not know the median of its training samples: its training has not begun")
    columns = detector.built_for.columns  # there is no way from one category to another, or from nothing to a value
    by_gradients = detector.score_needs is None and not (columns and columns.jump) and _has_gradient(detector)
    if by_gradients and find_spec("captum") is None:
        raise ValueError("integrated gradients need captum: pip install 'adlightning[explain]'")
    one = _integrated_gradients if by_gradients else _exchanged
    parts, scores = [], []
    for x in batches:
        raw = x.to(detector.device)
        scores.append(detector.scores_that_fit(raw).double().cpu().numpy())
        shares = one(detector, raw, baseline.to(raw)).double()
        parts.append(_of_far_values(detector, raw, baseline.to(raw), shares).cpu().numpy())
    nothing = np.empty((0, *detector.built_for.shape))
    return Attributions(
        np.concatenate(parts) if parts else nothing,
        baseline.double().cpu().numpy(),
        np.concatenate(scores) if scores else np.empty(0),
        float(detector.scores_that_fit(baseline.to(detector.device)[None])[0]),
        by_gradients,
    )


def _has_gradient(detector: ScoredModule) -> bool:
    x = detector.median_normal[None].to(detector.device).requires_grad_()
    with scoring(detector), torch.enable_grad():
        return bool(as_written(detector)(x).requires_grad)


def _integrated_gradients(detector: ScoredModule, x: Tensor, baseline: Tensor) -> Tensor:
    """Shares (B, ...), with more points for samples whose shares do not add up yet."""
    from captum.attr import IntegratedGradients

    def score(samples: Tensor) -> Tensor:
        return require_scores(detector, as_written(detector)(samples), samples)

    shares = torch.zeros_like(x)
    with scoring(detector), torch.enable_grad():
        difference = (score(x) - score(baseline[None])).detach()
        left = torch.arange(len(x), device=x.device)
        for steps in STEPS:
            if not len(left):
                break
            found, gap = IntegratedGradients(score).attribute(
                x[left],
                baseline[None],
                n_steps=steps,
                internal_batch_size=max(_ROWS, len(left)),
                return_convergence_delta=True,
            )
            shares[left] = found.to(shares)
            left = left[gap.abs().to(difference) > COMPLETE * difference[left].abs()]
    if len(lost := (~shares.flatten(1).isfinite().all(1)).nonzero().flatten()):  # the score overflows on the way
        shares[lost] = _exchanged(detector, x[lost], baseline).to(shares)
    return shares


@torch.no_grad()
def _of_far_values(detector: ScoredModule, x: Tensor, baseline: Tensor, shares: Tensor) -> Tensor:
    """Shares (B, ...) in which values that are too far out to be scored have all of a sample's difference alike.

    No method says anything of such a sample: it has the largest score there is, whatever its other values.
    """
    values = baseline.flatten()
    for row in detector.preprocess.is_far(x).nonzero().flatten().tolist():
        is_far = torch.zeros(len(values), dtype=torch.bool, device=x.device)
        for columns in torch.arange(len(values), device=x.device).split(_COLUMNS):
            alone = values.repeat(len(columns), 1)
            alone[torch.arange(len(columns), device=x.device), columns] = x[row].flatten()[columns]
            is_far[columns] = detector.preprocess.is_far(alone.view(-1, *baseline.shape))
        if is_far.any():
            both = detector.scores_that_fit(torch.stack([x[row], baseline])).double()
            shares[row] = (is_far * ((both[0] - both[1]) / is_far.sum())).view(baseline.shape)
    return shares


def _exchanged(detector: ScoredModule, x: Tensor, baseline: Tensor) -> Tensor:
    """By how much the score of a sample falls when one value becomes the median, (B, ...)."""
    scores, n_values = detector.scores_that_fit(x), baseline.numel()
    shares = torch.zeros(len(x), n_values, dtype=scores.dtype, device=scores.device)
    for rows, columns in _blocks(len(x), n_values):
        changed = x[rows].flatten(1)[:, None].repeat(1, len(columns), 1)
        at = torch.arange(len(columns), device=x.device)
        changed[:, at, torch.as_tensor(columns, device=x.device)] = baseline.flatten()[columns]
        again = detector.scores_that_fit(changed.view(-1, *x.shape[1:])).view(-1, len(columns))
        shares[rows, columns.start : columns.stop] = scores[rows, None] - again
    return shares.view(x.shape)


def _blocks(n: int, n_values: int) -> Iterator[tuple[slice, range]]:
    """Samples and values of which all pairs are at most :data:`_ROWS`, in turn."""
    wide = min(n_values, _ROWS)
    high = max(_ROWS // wide, 1)
    for row in range(0, n, high):
        for column in range(0, n_values, wide):
            yield slice(row, min(row + high, n)), range(column, min(column + wide, n_values))
