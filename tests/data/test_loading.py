"""Batches: every sample where it should go, the same order for the same seed and epoch, on every rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from adlightning.core.contracts import EvalBatch, TrainBatch
from adlightning.data import loading
from adlightning.data.loading import IndexBatches, PairedBatches, TensorLoader, lazy_loader, resident_columns

SIZES = {"n": st.integers(1, 60), "batch_size": st.integers(1, 17), "world_size": st.integers(1, 5)}


@settings(deadline=None)
@given(**SIZES)
def test_evaluation_gives_each_position_to_exactly_one_rank(n: int, batch_size: int, world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        order = IndexBatches(n, batch_size, rank=rank, world_size=world_size)
        batches = list(order)
        assert len(batches) == len(order) >= 1
        positions = [int(i) for batch in batches for i in batch]
        if rank < n:
            seen += positions
        else:
            assert positions == [0]  # a rank without one takes part all the same
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize(("n", "world_size"), [(2, 2), (3, 2), (2, 5), (4, 3)])
def test_no_rank_trains_on_one_sample_alone(n: int, world_size: int) -> None:
    orders = [IndexBatches(n, 8, shuffle=True, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(batch) for order in orders for batch in order} == {2}
    assert {int(i) for order in orders for batch in order for i in batch} == set(range(n))


@settings(deadline=None)
@given(**SIZES, drop_last=st.booleans())
def test_training_gives_every_rank_equally_many_batches(
    n: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    lengths = set()
    for rank in range(world_size):
        order = IndexBatches(n, batch_size, shuffle=True, drop_last=drop_last, seed=1, rank=rank, world_size=world_size)
        batches = list(order)
        assert len(batches) == len(order) >= 1
        lengths.add(tuple(len(batch) for batch in batches))
        if drop_last and len(batches) > 1:
            assert all(len(batch) == batch_size for batch in batches)
    assert len(lengths) == 1


def _order(seed: int, epoch: int) -> list[int]:
    order = IndexBatches(50, 8, shuffle=True, seed=seed)
    order.set_epoch(epoch)
    return torch.cat(list(order)).tolist()


def test_order_depends_on_seed_and_epoch_only() -> None:
    assert _order(3, 5) == _order(3, 5)
    assert _order(3, 5) != _order(3, 6)
    assert _order(3, 5) != _order(4, 5)
    assert sorted(_order(3, 5)) == list(range(50))


def test_an_epoch_of_several_passes_takes_every_position_so_often() -> None:
    order = IndexBatches(10, 8, shuffle=True, seed=1, passes=3)
    batches = list(order)
    assert len(batches) == len(order) == 4
    taken = torch.cat(batches).tolist()
    assert sorted(taken) == sorted([*range(10)] * 3)
    assert taken[:10] != taken[10:20] != taken[20:]  # shuffled together, not pass by pass
    assert sorted(taken[:10]) != list(range(10))


@settings(deadline=None)
@given(**SIZES, m=st.integers(1, 60), drop_last=st.booleans(), epoch=st.integers(0, 3))
def test_two_streams_side_by_side(
    n: int, m: int, batch_size: int, world_size: int, drop_last: bool, epoch: int
) -> None:
    first, second = torch.arange(n) * 2, 1001 + torch.arange(m) * 2
    seen: dict[str, list[int]] = {"first": [], "second": []}
    shapes = set()
    for rank in range(world_size):
        options = {"drop_last": drop_last, "seed": 3, "rank": rank, "world_size": world_size}
        order = PairedBatches(first, second, batch_size, **options)  # type: ignore[arg-type]
        alone = IndexBatches(n, batch_size, shuffle=True, **options)  # type: ignore[arg-type]
        order.sampler.set_epoch(epoch)
        alone.set_epoch(epoch)
        batches, expected = list(order), list(alone)
        assert len(batches) == len(order) == len(expected)
        for batch, positions in zip(batches, expected, strict=True):
            assert batch[: len(positions)].tolist() == first[positions].tolist()  # as without the second stream
            assert len(batch) == len(positions) + batch_size
        seen["second"] += [int(i) for b, p in zip(batches, expected, strict=True) for i in b[len(p) :]]
        shapes.add(tuple(len(batch) for batch in batches))
    assert len(shapes) == 1
    # over all ranks each of the second stream is taken equally often, give or take the last turn
    counts = [seen["second"].count(i) for i in second.tolist()]
    assert max(counts) - min(counts) <= 1
    assert set(seen["second"]) <= set(second.tolist())


def test_the_second_stream_is_shuffled_on_its_own_and_anew() -> None:
    def second(seed: int, epoch: int) -> list[int]:
        order = PairedBatches(torch.arange(40), torch.arange(40), 40, seed=seed)
        order.sampler.set_epoch(epoch)
        (batch,) = order
        assert batch[:40].tolist() != batch[40:].tolist()
        return batch[40:].tolist()

    assert second(0, 0) == second(0, 0)
    assert second(0, 0) != second(0, 1)
    assert second(0, 0) != second(1, 0)


def test_a_last_batch_is_dropped_unless_it_is_the_only_one() -> None:
    assert [len(b) for b in IndexBatches(10, 4, shuffle=True, drop_last=True)] == [4, 4]
    assert [len(b) for b in IndexBatches(3, 4, shuffle=True, drop_last=True)] == [3]


class Decoded:
    """Images made when asked for."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Tensor:
        return torch.full((1, 2, 2), index, dtype=torch.uint8)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_lazy_images_and_tensors_give_the_same_batches(num_workers: int) -> None:
    images, cpu = Decoded(), torch.device("cpu")
    tensor = torch.stack([images[i] for i in range(20)])
    rows, labels = torch.tensor([3, 7, 7, 19, 0]), torch.tensor([0, 1, 1, -1, 0])
    lazy = list(lazy_loader(images, rows, labels, IndexBatches(5, 2), EvalBatch, cpu, num_workers))
    columns = resident_columns(tensor, rows, labels, EvalBatch, cpu, budget_mb=1, dtype=tensor.dtype)
    resident = list(TensorLoader(columns, IndexBatches(5, 2), cpu))
    assert len(lazy) == len(resident) == 3
    for a, b in zip(lazy, resident, strict=True):
        assert isinstance(a, EvalBatch)
        assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))
    assert torch.cat([b.index for b in lazy]).tolist() == rows.tolist()
    assert lazy[1].x[:, 0, 0, 0].tolist() == [7, 19]


@pytest.mark.parametrize(("budget", "home"), [(1, "cpu"), (8, "meta")])
def test_data_over_the_device_budget_stay_in_host_memory_and_arrive(budget: int, home: str) -> None:
    x = torch.zeros(3, 1, 1024, 1024, dtype=torch.uint8)
    device = torch.device("meta")  # stands for any other device
    labels = torch.zeros(3, dtype=torch.long)
    columns = resident_columns(x, torch.arange(3), labels, TrainBatch, device, budget, x.dtype)
    assert columns.x.device.type == home
    if home == "cpu":
        batches = list(TensorLoader(columns, IndexBatches(3, 2), device))
        assert [tuple(b.x.shape) for b in batches] == [(2, 1, 1024, 1024), (1, 1, 1024, 1024)]
        assert all(b.x.device.type == "meta" for b in batches)


def test_a_last_training_batch_of_one_is_left_out_as_batchnorm_cannot_take_it() -> None:
    assert [len(b) for b in IndexBatches(9, 4, shuffle=True)] == [4, 4]
    assert [len(b) for b in IndexBatches(9, 4)] == [4, 4, 1]


def test_many_samples_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    x, rows, labels = torch.arange(20.0).view(10, 2), torch.tensor([7, 1, 3, 9, 2]), torch.arange(5)
    order, cpu = IndexBatches(5, 2, shuffle=True), torch.device("cpu")
    kinds = []
    for most in (0, 2**28):
        monkeypatch.setattr(loading, "NO_COPY", most)
        columns = resident_columns(x, rows, labels, TrainBatch, cpu, 1, x.dtype)
        kinds.append((isinstance(columns.x, torch.Tensor), list(TensorLoader(columns, order, cpu))))
    (shared, batches), (copied, expected) = kinds
    assert (shared, copied) == (False, True)
    for batch, other in zip(batches, expected, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch, other, strict=True))
