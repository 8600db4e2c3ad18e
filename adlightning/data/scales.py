"""What training samples say of their own scale: whether they differ, where float32 is too coarse, values far out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.collapse import are_equal
from adlightning.core.contracts import InputSpec
from adlightning.core.messages import quoted
from adlightning.data.composition import Split
from adlightning.data.sources.base import LazyImages, Samples
from adlightning.labels import ANOMALY
from adlightning.preprocessing.features import FARTHEST

FAR_FROM_ZERO = 2.0**10
"""Deviations from zero up to which float32 holds a feature, to 2**-14 of a deviation; beyond, float64 centres it."""

WHOLE = 2.0**24
"""Whole numbers up to here are float32 numbers."""

SMALLEST = float(torch.finfo(torch.float32).tiny)
"""Differences below are rounded to few digits, or to none."""

_COLUMNS, _VALUES = 64, 2**24  # at a time, in float64, at most
_ROWS = 1024

Rows = NDArray[np.int64]


def offsets_of(x: Tensor) -> tuple[float, ...]:
    """What to subtract from each value of training samples (N, ...), in float64, before float32 takes them; flat.

    Zero for features that float32 can hold; empty when it can hold all of them. The medians, so that all that matters
    is left of what is near them.
    """
    if x.dtype != torch.float64 or not len(x):
        return ()
    offsets = torch.cat([_offsets(part) for part in x.flatten(1).split(_columns_for(len(x)), dim=1)])
    return tuple(offsets.tolist()) if bool(offsets.any()) else ()


def _offsets(x: Tensor) -> Tensor:
    from_first = x - x[:1]
    deviation, mean = from_first.std(dim=0, correction=0), x[0] + from_first.mean(dim=0)
    # of a feature that does not vary here any change counts
    far = mean.abs() > torch.where(deviation > 0, FAR_FROM_ZERO * deviation, WHOLE)
    offsets = torch.zeros_like(mean)
    offsets[far] = x[:, far].median(dim=0).values
    return offsets


def require_differences(samples: Samples, rows: Rows, fitted: Rows, split: Split, spec: InputSpec) -> None:
    """Refuse training data that are all the same, or seem so beside one value; warn of features that do not vary.

    Args:
        samples: the training part.
        rows: what is trained on.
        fitted: what a preprocessing is fitted to.
        split: who is held out.
        spec: for the names of features.

    Raises:
        ValueError: naming the data, or the row and column of the value.
    """
    if all_the_same(samples.x, rows):
        raise ValueError(f"all {len(rows)} training samples are the same: there is nothing to learn from {spec}")
    if spec.kind == "image" or not isinstance(samples.x, Tensor) or not len(fitted):
        return
    held_out = split.validation[split.validation_labels != ANOMALY]
    require_no_extremes(samples, fitted, np.concatenate([rows, held_out]), spec)
    if spec.features and (constant := constant_among(samples.x, fitted)):
        names = quoted(list(dict.fromkeys(spec.features[i % len(spec.features)] for i in constant)))
        warnings.warn(f"{spec.description}: features vary, but in no training row: {names}", stacklevel=2)


def require_no_extremes(samples: Samples, reference: Rows, rows: Rows, spec: InputSpec) -> None:
    """Refuse values beside which all others of their feature would become one number, and features of such values.

    Those are a value of :data:`FARTHEST` or more that lies as many times further from the median than most values do,
    and features whose values differ by less than :data:`SMALLEST`.

    Args:
        samples: the training part.
        reference: rows that say what is usual: those that a preprocessing is fitted to.
        rows: rows that are looked at: those that training and threshold take.
        spec: for the names of features.

    Raises:
        ValueError: there is such a value; the message names row and column, or the column.
    """
    x = samples.x
    assert isinstance(x, Tensor)
    _require_no_vanishing(x, reference, spec)
    low, high = (float(value) for value in x.aminmax())
    if max(-low, high) < FARTHEST:  # nearly always
        return
    flat, width = x.flatten(1), _columns_for(len(x))
    for start in range(0, flat.shape[1], width):
        part = flat[:, start : start + width].double()
        usual, looked_at = part[reference], part[rows]
        middle = usual.median(dim=0).values
        distances = (usual - middle).abs()
        farthest, positions = (looked_at - middle).abs().max(dim=0)
        small = ((distances > 0) & (distances < farthest / FARTHEST)).sum(dim=0)
        extreme = (farthest >= FARTHEST) & (small > 0) & (2 * small >= (distances > 0).sum(dim=0))
        if bool(extreme.any()):
            column = int(extreme.nonzero()[0])
            row = int(rows[int(positions[column])])
            where = f"{spec.description}: column {feature_name(spec, start + column)} has {part[row, column]:g} in "
            raise ValueError(
                f"{where}{row_name(samples, row)}, more than {FARTHEST:g} times as far out as most training values: "
                f"beside it float32 cannot tell the others apart. Mend or leave out that row (a mark for a missing "
                f"value?), or give the column in logarithms"
            )


def _require_no_vanishing(x: Tensor, rows: Rows, spec: InputSpec) -> None:
    flat, width = x.flatten(1), _columns_for(len(rows))
    for start in range(0, flat.shape[1], width):
        part = flat[:, start : start + width][rows]
        low, high = part.aminmax(dim=0)
        vanishing = (high > low) & (high - low < SMALLEST)
        if bool(vanishing.any()):
            column = int(vanishing.nonzero()[0])
            raise ValueError(
                f"{spec.description}: column {feature_name(spec, start + column)} lies between {low[column]:.9g} and "
                f"{high[column]:.9g}: float32 has no such small differences. Multiply it by a constant, or give it in "
                f"logarithms"
            )


def _columns_for(n: int) -> int:
    """Columns of so many rows at a time."""
    return max(1, min(_COLUMNS, _VALUES // max(n, 1)))


def constant_among(x: Tensor, rows: Rows) -> list[int]:
    """Features (of a flat sample) that vary in samples (N, ...) and not among these rows."""
    flat, varies = x.flatten(1), torch.zeros(x[0].numel(), dtype=torch.bool)
    for part in torch.from_numpy(rows).split(_ROWS):
        varies |= (flat[part] != flat[rows[0]]).any(dim=0)
    candidates = (~varies).nonzero().flatten()
    return [int(i) for i in candidates if bool((flat[:, i] != flat[0, i]).any())]


def all_the_same(x: Tensor | LazyImages, rows: Rows) -> bool:
    """Whether all these samples are equal; looks no further than the first that differs."""
    return are_equal(_parts(x, rows))


def _parts(x: Tensor | LazyImages, rows: Rows) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x[rows[:2]]  # nearly always enough
        yield from (x[part] for part in torch.from_numpy(rows).split(_ROWS))
    else:
        yield from (x[int(row)][None] for row in rows)


def feature_name(spec: InputSpec, index: int) -> str:
    """A feature of a flat sample in words: `'length'`, `3`, or, of a series, `2 at step 7`."""
    name = repr(spec.features[index % spec.shape[-1]]) if spec.features else str(index % spec.shape[-1])
    return name if len(spec.shape) == 1 else f"{name} at step {index // spec.shape[1]}"


def row_name(samples: Samples, row: int) -> str:
    """A sample in words: `row 7`, with its name where that says more."""
    name = samples.names[row]
    return f"row {row}" if name == str(row) else f"row {row} ({name!r})"
