"""Data sets and loaders of torch, as samples in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from adlightning.data.arrays import Arrays


def arrays_of(data: DataLoader[Any] | Dataset[Any]) -> Arrays:
    """Items of a data set as samples in memory; batches are then ours, of the loader's size.

    Args:
        data: a data set, or a loader of one, whose items are `(x, known)` or `x`.

    Raises:
        ValueError: another object, one without a length, items of another form, or a loader whose own sampling or
            collation would be lost.
    """
    loader = data if isinstance(data, DataLoader) else None
    if loader is not None:
        _require_plain(loader)
    dataset = loader.dataset if loader is not None else data
    if not isinstance(dataset, Dataset) or isinstance(dataset, IterableDataset):
        raise ValueError(
            "data must be a datamodule, such as ad.Arrays(X), or a data set of (x, known) with a length, or a "
            f"DataLoader of one, got a {type(dataset).__name__}"
        )
    if isinstance(dataset, TensorDataset):
        columns = list(dataset.tensors)
    else:
        items = [dataset[i] for i in range(len(dataset))]  # type: ignore[arg-type]  # those with a length have one
        rows = [item if isinstance(item, (tuple, list)) else (item,) for item in items]
        columns = [torch.stack([torch.as_tensor(value) for value in column]) for column in zip(*rows, strict=True)]
    if len(columns) not in (1, 2):
        raise ValueError(f"items of the data set must be (x, known) or x, got {len(columns)} values")
    options: dict[str, Any] = {}
    if loader is not None and loader.batch_size is not None:
        options = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
    return Arrays(columns[0], known=columns[1] if len(columns) == 2 else None, name="data set", **options)


def _require_plain(loader: DataLoader[Any]) -> None:
    """Refuse a loader whose own sampling or collation would be lost."""
    sampled = type(loader.sampler) not in (SequentialSampler, RandomSampler) or type(loader.batch_sampler) not in (
        BatchSampler,
        type(None),
    )
    if sampled and not isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            "data must be a DataLoader without a sampler of its own: take a Subset of the data set instead"
        )
    if loader.collate_fn is not default_collate and loader.batch_size is not None:
        raise ValueError("data must be a DataLoader without a collate_fn of its own: let the data set give (x, known)")
