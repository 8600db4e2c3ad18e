"""Columns of a table fitted on training rows: what fills missing values, which categories there are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.encoding import OTHER, Columns
from adlightning.core.messages import quoted
from adlightning.data.sources.base import Samples

Rows = NDArray[np.int64]


def fit_columns(spec: InputSpec, parts: Sequence[Samples], rows: Rows) -> tuple[InputSpec, list[Samples]]:
    """An input with its columns fitted on rows of the first part, and the parts in the categories of those rows.

    Args:
        spec: with the categories of the whole source, as its columns have them.
        parts: training and test part, which may be the same; a part is changed only where it has categories.
        rows: what a preprocessing is fitted to.

    Raises:
        SourceError: a column has no value in any of the rows.
    """
    columns = spec.columns
    if columns is None:
        return spec, list(parts)
    x = parts[0].x
    assert isinstance(x, Tensor)
    kept = {
        j: sorted({int(code) for code in x[torch.from_numpy(rows), j].unique().tolist()})
        for j in range(x.shape[1])
        if columns.of(j)
    }
    changed: dict[int, Samples] = {id(part): _renumbered(part, kept, spec) for part in parts}
    categories = tuple(tuple(columns.of(j)[code] for code in kept[j]) if j in kept else () for j in range(x.shape[1]))
    columns = replace(columns, categories=categories if kept else ())
    if columns.missing != "refuse":
        columns = _with_fills(columns, x, rows, spec)
    return replace(spec, columns=columns), [changed[id(part)] for part in parts]


def _renumbered(part: Samples, kept: dict[int, list[int]], spec: InputSpec) -> Samples:
    """A part with the numbers of categories among those kept; a warning names what is left out."""
    assert spec.columns is not None
    if not kept:
        return part
    x = part.x
    assert isinstance(x, Tensor)
    x = x.clone()
    for j, codes in kept.items():
        numbers = torch.full((len(spec.columns.of(j)) + 1,), float(OTHER), dtype=x.dtype)  # the last is OTHER's
        numbers[codes] = torch.arange(len(codes), dtype=x.dtype)
        before = x[:, j].long()
        x[:, j] = numbers[before]
        if len(lost := before[(x[:, j] == OTHER) & (before != OTHER)].unique()):
            names = [spec.columns.of(j)[int(code)] for code in lost]
            warnings.warn(
                f"{spec.description}: column {spec.features[j]!r} has categories that are in no training row: "
                f"{quoted(names)}; they count as none of those that are",
                stacklevel=2,
            )
    return replace(part, x=x)


def _with_fills(columns: Columns, x: Tensor, rows: Rows, spec: InputSpec) -> Columns:
    fills, indicators = [], []
    for j in range(x.shape[1]):
        values = x[torch.from_numpy(rows), j].double().numpy()
        missing = np.isnan(values)
        if columns.of(j):
            fills.append(0.0)
            continue
        if missing.all():
            name = repr(spec.features[j]) if spec.features else j
            raise SourceError(
                f"{spec.description}: column {name} has no value in any training row: put it in drop_columns"
            )
        fills.append(float(np.median(values[~missing])))
        if missing.any() and columns.missing == "indicator":
            indicators.append(j)
    return replace(columns, fills=tuple(fills), indicators=tuple(indicators))


def complete(samples: Samples, columns: Columns | None) -> Samples:
    """Samples with missing values filled, for what looks at their scale; the same ones where none are missing."""
    if columns is None or not columns.fills:
        return samples
    assert isinstance(samples.x, Tensor)
    missing = samples.x.isnan()
    if not bool(missing.any()):
        return samples
    fills = torch.tensor(columns.fills, dtype=samples.x.dtype)
    return replace(samples, x=torch.where(missing, fills, samples.x))
