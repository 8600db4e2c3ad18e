"""Batches: tensors in memory, on the training device where they fit, or DataLoader workers for lazy images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adlightning.core.contracts import EvalBatch, TrainBatch
from adlightning.data.sources.base import LazyImages

Batch = TypeVar("Batch", bound=TrainBatch | EvalBatch)
Order: TypeAlias = "IndexBatches | PairedBatches"
NO_COPY = 2**26
"""Bytes of samples in host memory from which on they are not copied."""

_FEWEST = 2  # samples of a rank in training: one alone cannot be normalised


class IndexBatches:
    """The order of an epoch: tensors of positions 0..n-1, in batches, for one rank.

    Shuffled orders depend on seed and epoch only, so a resumed run sees what an undisturbed one would. When
    training, every rank gets equally many batches, of two positions or more (the last ones wrap around); when
    evaluating, every position goes to exactly one rank and ranks may differ in length. A rank that is left without one
    evaluates the first position once more: all ranks take part in gathering.

    Args:
        n: number of positions.
        batch_size: positions a batch, per rank.
        shuffle: a new order each epoch; False keeps the order of the positions.
        drop_last: leave out a last batch that is not full (kept when it is the only one); one of a single sample is
            always left out of training.
        seed: with the epoch, the seed of the shuffled order.
        rank: this process among `world_size`.
        world_size: number of processes that share the positions.
        passes: how often an epoch takes each position, all times shuffled together.
        renewed: a new order each epoch; False takes that of the first one again and again.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        passes: int = 1,
        renewed: bool = True,
    ) -> None:
        self.n, self.batch_size, self.shuffle, self.drop_last = n, batch_size, shuffle, drop_last
        self.passes = passes
        self.renewed = renewed
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    @property
    def sampler(self) -> IndexBatches:
        """Itself: the attribute on which Lightning calls `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls it before each."""
        self.epoch = epoch if self.renewed else 0

    def _share(self) -> int:
        total = self.n * self.passes
        if not self.shuffle:
            return len(range(self.rank, total, self.world_size)) or min(total, 1)
        alone = self.world_size == 1
        return total if alone else max(_FEWEST, -(-total // self.world_size))

    def __len__(self) -> int:
        share = self._share()
        full, rest = divmod(share, self.batch_size)
        drop = self.drop_last or (self.shuffle and rest == 1)  # a batch of one cannot be normalised
        return full + int(rest > 0 and not (drop and full > 0))

    def __iter__(self) -> Iterator[Tensor]:
        return self.on(torch.device("cpu"))

    def on(self, device: torch.device) -> Iterator[Tensor]:
        """The epoch's batches of positions, moved to a device as a whole and not batch by batch."""
        if self.shuffle:
            order = torch.randperm(self.n * self.passes, generator=_generator(self.seed, self.epoch))
            wanted = self._share() * self.world_size
            order = order.repeat(-(-wanted // max(len(order), 1)))[:wanted]  # wraps around
        else:
            order = torch.arange(self.n * self.passes)
        first = self.rank if self.rank < len(order) else 0  # without one of its own
        batches = (order % self.n)[first :: self.world_size][: self._share()].to(device).split(self.batch_size)
        return iter(batches[: len(self)])


class PairedBatches:
    """The order of an epoch over two streams: every batch has positions of the first, then `batch_size` of the second.

    An epoch is one pass over the first stream, in the order of :class:`IndexBatches`; the second one is shuffled on its
    own, anew in each epoch, and begins again where it ends sooner. Both depend on seed and epoch only.

    Args:
        first: positions (N,) of the first stream.
        second: positions (M,) of the second stream, M at least 1.
        batch_size, drop_last, seed, rank, world_size, renewed: as in :class:`IndexBatches`; a first stream's last batch
            that is not full is paired with a full one of the second.
    """

    def __init__(
        self,
        first: Tensor,
        second: Tensor,
        batch_size: int,
        *,
        drop_last: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        renewed: bool = True,
    ) -> None:
        self.order = IndexBatches(
            len(first),
            batch_size,
            shuffle=True,
            drop_last=drop_last,
            seed=seed,
            rank=rank,
            world_size=world_size,
            renewed=renewed,
        )
        self.first, self.second = first, second

    @property
    def sampler(self) -> IndexBatches:
        """The attribute on which Lightning calls `set_epoch`."""
        return self.order

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Tensor]:
        return self.on(torch.device("cpu"))

    def on(self, device: torch.device) -> Iterator[Tensor]:
        """The epoch's batches of positions, moved to a device as a whole and not batch by batch."""
        order, n = self.order, len(self.second)
        wanted = len(order) * order.batch_size * order.world_size
        generator = _generator(order.seed, order.epoch, stream=1)
        turns = [self.second[torch.randperm(n, generator=generator)] for _ in range(-(-wanted // n))]
        second = torch.cat(turns)[order.rank : wanted : order.world_size].to(device).split(order.batch_size)
        first = self.first.to(device)
        return (torch.cat([first[positions], other]) for positions, other in zip(order.on(device), second, strict=True))


def _generator(seed: int, epoch: int, stream: int = 0) -> torch.Generator:
    """Of a stream of an epoch; on the host: the same order on every device. It looks at 32 bits of a seed."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch + stream * 500_000) % 2**32)


class TensorLoader(Generic[Batch]):
    """Batches by indexing tensors that lie in memory, on any device: no worker, no per-sample Python.

    Args:
        columns: the whole data as one batch: raw samples, labels (or what is known of them) and indices.
        order: positions of each batch.
        device: where batches go; columns already there are only indexed.
    """

    def __init__(self, columns: Batch, order: Order, device: torch.device) -> None:
        self.columns, self.order, self.device = columns, order, device
        self.batch_sampler = order  # where Lightning looks for the epoch

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        make = type(self.columns)
        for positions in self.order.on(self.columns.x.device):
            x, second, index = (column[positions].to(self.device) for column in self.columns)
            yield make(x, second, index)


class AsItIs(Generic[Batch]):
    """Batches of a loader that Lightning leaves alone: for prediction it would put another order into a DataLoader.

    Args:
        loader: any of the loaders here.
    """

    def __init__(self, loader: TensorLoader[Batch] | DataLoader[Batch]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


class _LazyBatches(Dataset[Batch]):
    """Whole batches of lazily decoded images, so that a worker collates what it decodes."""

    def __init__(self, images: LazyImages, rows: Tensor, labels: Tensor, index: Tensor, make: type[Batch]) -> None:
        self.images, self.rows, self.labels, self.index, self.make = images, rows, labels, index, make

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch:
        raise TypeError("only whole batches are read: use __getitems__")

    def __getitems__(self, positions: Tensor) -> Batch:
        x = torch.stack([self.images[int(row)] for row in self.rows[positions]])
        return self.make(x, self.labels[positions], self.index[positions])


def _as_it_is(batch: Batch) -> Batch:
    return batch


def lazy_loader(
    images: LazyImages,
    rows: Tensor,
    labels: Tensor,
    order: Order,
    make: type[Batch],
    device: torch.device,
    num_workers: int,
) -> DataLoader[Batch]:
    """Batches of `images[rows]` with their labels, decoded by `num_workers` processes."""
    return DataLoader(
        _LazyBatches(images, rows, labels, rows, make),
        batch_sampler=order,  # type: ignore[arg-type]  # yields tensors of positions, which __getitems__ takes
        collate_fn=_as_it_is,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=device.type == "cuda",
    )


class _RowsOf:
    """Rows of a tensor in host memory, taken when they are asked for: a large table has no room for a copy."""

    def __init__(self, x: Tensor, rows: Tensor) -> None:
        self.x, self.rows, self.device = x, rows, x.device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: Tensor) -> Tensor:
        return self.x[self.rows[positions]]


def resident_columns(
    x: Tensor, rows: Tensor, labels: Tensor, make: type[Batch], device: torch.device, budget_mb: int, dtype: torch.dtype
) -> Batch:
    """`x[rows]` of a type, labels and `rows` as one batch: on the device up to `budget_mb` MiB, else in host memory.

    There, many rows of the type that is wanted are not copied.
    """
    n_bytes = len(rows) * x[0].numel() * dtype.itemsize if len(x) else 0
    home = device if n_bytes <= budget_mb * 2**20 else x.device
    if home == x.device and x.dtype == dtype and n_bytes > NO_COPY:
        return make(cast("Tensor", _RowsOf(x, rows)), labels.to(home), rows.to(home))
    used = x[rows].to(dtype)
    return make(used.to(home), labels.to(home), rows.to(home))
