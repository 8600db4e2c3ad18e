"""Fits that take their steps together: one batched model of the cells of a pack, everything else as in single fits.

How it is done. The fit of each cell is the ordinary one, by the verb `fit`: configuration, seeds, split, weights,
preprocessing, run folder. Where its training loop would begin, the fit waits, and the next cell's begins within it.
When all wait, the innermost trains. In each epoch every detector's own hooks run, Lightning's and ours, so that its
draws, phases, schedule, validation and losses are those of a single fit. Only the steps between them are stacked. A
step gathers the batches of all cells by index, gives them to the stacked networks
(:mod:`adlightning.benchmark.stacked`) and adds the losses up. An optimiser of the stacked weights takes the step, which
is the same for each weight as alone. Then each fit goes on with its own weights, to threshold, test and metrics.

What is the same: every number, to the accuracy of float32. Sums are taken in another order, so not to the bit.

What is trained together must take equally many steps an epoch. Batches of different sizes (the last of an epoch) are
filled up with samples that have no weight, neither in a loss nor in a BatchNorm. Cells of a pack that take different
numbers of steps form packs of their own; one that is left over is fitted alone, as are cells whose networks or
optimiser are not known here.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop
from torch.optim.lr_scheduler import ReduceLROnPlateau

from adlightning.benchmark.packed_losses import LOSSES, PackedLosses
from adlightning.benchmark.packing import PackBroken
from adlightning.benchmark.stacked import NotStackable, Samples, Stack
from adlightning.callbacks.epochs import EpochsFile
from adlightning.callbacks.run_folder import RunFolder
from adlightning.callbacks.timing import Timing
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.training_state.callbacks import callbacks_of
from adlightning.data.loading import IndexBatches, TensorLoader
from adlightning.data.modules import AnomalyDataModule

ELEMENTWISE: tuple[type[Optimizer], ...] = (Adam, AdamW, Adamax, NAdam, RAdam, SGD, RMSprop, Adagrad)
"""Optimisers whose step for a weight depends on that weight and its gradients alone."""

MOST_BYTES = 2**31
"""Of all cells' preprocessed samples; more of them are not packed."""

_WAITING: ContextVar[PackMember | None] = ContextVar("pack_member", default=None)


@contextlib.contextmanager
def fitted_in(member: PackMember) -> Iterator[None]:
    """The fit that begins within is this member's."""
    token = _WAITING.set(member)
    try:
        yield
    finally:
        _WAITING.reset(token)


def pack_callbacks() -> list[pl.Callback]:
    """What makes the fit that begins here a member of a pack; nothing outside of packs."""
    member = _WAITING.get()
    return [] if member is None else [member]


class PackMember(pl.Callback):
    """The fit of one cell: it waits where its training loop would begin.

    Args:
        pack: what it is trained in.
        descend: begins the fits of the other cells, and trains all when they wait.
    """

    detector: AnomalyDetector
    columns: TrainBatch
    order: IndexBatches

    def __init__(self, pack: PackedFit, descend: Callable[[], None]) -> None:
        self.pack, self.descend = pack, descend
        self.waits = False
        self.alone: str | None = None
        """Why it is fitted alone, in words."""
        self.n_together = 1
        """Cells that were trained with it, itself among them."""
        self.failure: Exception | None = None
        self.share = 0.0
        """Seconds of its training: those of all that were trained together, by their number."""
        self.elsewhere = 0.0
        """Seconds that went into the other fits, and into more of the training than its share."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the place of the loop's `run`, which Lightning calls once everything is made."""
        if stage == "fit":
            self.trainer, self.loop, self._train_alone = trainer, trainer.fit_loop, trainer.fit_loop.run
            vars(trainer.fit_loop)["run"] = self._run

    def _run(self) -> None:
        self.loop.setup_data()
        self.alone = self._refusal()
        if self.alone is None:
            self.pack.members.append(self)
        self.waits = True
        began = time.perf_counter()
        self._streams = (os.dup(1), os.dup(2))
        try:
            with _random_states_kept():
                self.descend()
        finally:
            for stream in self._streams:
                os.close(stream)
        self.elsewhere = time.perf_counter() - began - self.share
        for callback in callbacks_of(self.trainer):
            if isinstance(callback, Timing):
                callback.leave_out("fit", self.elsewhere)
        if self.failure is not None:
            raise self.failure
        if self.n_together > 1:
            self.loop.on_run_end()
        else:
            self._train_alone()

    def _refusal(self) -> str | None:
        """Why this fit cannot be trained with others, as far as it can be known of it alone."""
        detector = self.trainer.lightning_module
        assert isinstance(detector, AnomalyDetector)
        self.detector = detector
        combined = self.loop._combined_loader
        loaders = [] if combined is None else combined.flattened
        if type(detector) not in LOSSES or len(loaders) != 1:
            return f"{type(detector).__name__} cannot be packed"
        loader = loaders[0]
        if not isinstance(loader, TensorLoader) or type(loader.order) is not IndexBatches:
            return "data that do not lie in memory"
        self.columns, self.order = loader.columns, loader.order
        if self.trainer.world_size != 1 or detector.is_trial or self.trainer.current_epoch:
            return "a fit on several devices, a trial, or one that goes on"
        data = detector.data
        own_batches = type(data).on_after_batch_transfer is not AnomalyDataModule.on_after_batch_transfer
        if own_batches or data.train_transforms or data.synthetic_anomalies is not None:
            return "data that change training batches"
        if list(detector.preprocess.parameters()):
            return "a preprocessing with weights"
        return self.refusal_of_optimizer()

    def refusal_of_optimizer(self) -> str | None:
        """Why the step of its optimiser cannot be taken with those of others."""
        if len(self.trainer.optimizers) != 1 or type(self.optimizer) not in ELEMENTWISE:
            return f"{type(self.optimizer).__name__} is no optimiser of single weights"
        if any(isinstance(config.scheduler, ReduceLROnPlateau) for config in self.trainer.lr_scheduler_configs):
            return "a schedule that watches a metric"
        return None

    @property
    def optimizer(self) -> Optimizer:
        """Its own optimiser, whose learning rate its schedule sets; it takes no step."""
        return self.trainer.optimizers[0]

    @property
    def likeness(self) -> tuple[Any, ...]:
        """What those that are trained together have in common."""
        shapes = tuple((name, tuple(weight.shape)) for name, weight in self.detector.named_parameters())
        of_sample = (tuple(self.columns.x[:1].shape[1:]), self.columns.x.device)
        return type(self.detector), len(self.order), self.order.batch_size, self.trainer.max_epochs, of_sample, shapes

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """What a hook of this fit prints goes to its own log; what it raises fails this fit, not the others."""
        if self.failure is not None:
            raise RuntimeError("a failed cell has no hooks")  # pragma: no cover
        sys.stdout.flush()
        sys.stderr.flush()
        innermost = os.dup(1), os.dup(2)
        for number, stream in zip((1, 2), self._streams, strict=True):
            os.dup2(stream, number)
        try:
            yield
        except Exception as error:  # as a single fit would fail; its own loop raises it
            self.failure = error
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, stream in zip((1, 2), innermost, strict=True):
                os.dup2(stream, number)
                os.close(stream)

    def begin(self, n_together: int) -> None:
        """Training begins, with others."""
        self.n_together = n_together
        for callback in callbacks_of(self.trainer):
            if isinstance(callback, RunFolder):
                callback.notes.append(f"trained with {n_together - 1} others as one batched model (--pack)")
            elif isinstance(callback, EpochsFile):
                callback.wait = math.inf  # when training ends, and not before: they are many
        self.loop.reset()
        self.loop.on_run_start()

    def begin_epoch(self) -> None:
        """Until the first step of an epoch."""
        self.loop.on_advance_start()
        self.loop.epoch_loop.reset()

    def end_epoch(self, n_steps: int, loss: Tensor, n_samples: int) -> None:
        """After the last step of an epoch: counts, schedules, validation, and the hooks of its end.

        Args:
            n_steps: that were taken.
            loss: mean over the epoch's samples.
            n_samples: how many these were.
        """
        steps = self.loop.epoch_loop
        steps.batch_progress.increment_by(n_steps, is_last_batch=True)
        steps.automatic_optimization.optim_progress.optimizer.step.increment_by(n_steps)
        steps.automatic_optimization.optim_progress.optimizer.zero_grad.increment_by(n_steps)
        steps._batches_that_stepped += n_steps - 1
        nothing = (
            self.columns.known[:0].expand(n_samples) if n_samples == 0 else self.columns.known[:1].expand(n_samples)
        )
        self.detector.on_train_batch_end({"loss": loss}, TrainBatch(nothing, nothing, nothing), n_steps - 1)
        vars(self.optimizer)["_opt_called"] = True  # for its schedule: the step was taken by the stacked one
        steps.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        assert self.loop._data_fetcher is not None
        steps.on_advance_end(self.loop._data_fetcher)
        self.loop.on_advance_end()
        self.loop.on_iteration_done()


class PackedFit:
    """Trains what waits: in packs of cells that take equally many steps."""

    def __init__(self) -> None:
        self.members: list[PackMember] = []
        self.fault: Exception | None = None

    def train(self) -> None:
        """Train all members that have others like them; the rest is marked, and trains alone."""
        groups: dict[tuple[Any, ...], list[PackMember]] = {}
        for member in self.members:
            groups.setdefault(member.likeness, []).append(member)
        for group in groups.values():
            if len(group) == 1:
                group[0].alone = "no other cell takes as many steps an epoch"
                continue
            stack = Stack(Samples(len(group)))
            try:
                together = _Together(group, stack)
            except NotStackable as reason:
                stack.part()
                for member in group:
                    member.alone = str(reason)
                continue
            began = time.perf_counter()
            try:
                together.train()
            except Exception:  # not of one cell: each is tried alone, where the same may come up again
                traceback.print_exc()
                for member in group:
                    member.failure = PackBroken("the pack broke down")
            for member in group:
                member.share = (time.perf_counter() - began) / len(group)


class _Together:
    """Members that take their steps together.

    Args:
        members: two or more, that are alike.
        stack: takes their weights.

    Raises:
        NotStackable: networks or data that cannot be stacked.
    """

    def __init__(self, members: Sequence[PackMember], stack: Stack) -> None:
        self.members, self.stack, self.samples = list(members), stack, stack.samples
        sizes = [len(member.columns.index) for member in members]
        self.x, self.known = self._data(sizes)
        self.first = torch.tensor([0, *sizes[:-1]]).cumsum(0).unsqueeze(1)  # where each member's samples begin
        self.losses: PackedLosses[AnomalyDetector] = LOSSES[type(members[0].detector)](
            [member.detector for member in members], stack
        )

    def _data(self, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """All members' preprocessed samples, and what is known of them: preprocessing takes each sample by itself."""
        parts: list[Tensor] = []
        for member, size in zip(self.members, sizes, strict=True):
            with torch.no_grad():
                for rows in torch.arange(size).split(1000):
                    raw = member.columns.x[rows].to(member.detector.device)
                    parts.append(member.detector.preprocess(raw))
                    if parts[0][0].nbytes * sum(sizes) > MOST_BYTES:
                        raise NotStackable("more samples than a pack keeps in memory")
        return torch.cat(parts), torch.cat([member.columns.known for member in self.members]).to(parts[0].device)

    @property
    def going(self) -> list[PackMember]:
        """Members that have not failed."""
        return [member for member in self.members if member.failure is None]

    def train(self) -> None:
        """All epochs; then every member has its own weights, and what its optimiser would know."""
        for member in self.going:
            with member.at_work():
                member.begin(len(self.members))
        of: Optimizer | None = None
        for epoch in range(self.members[0].trainer.max_epochs or 0):
            for member in self.going:
                with member.at_work():
                    member.begin_epoch()
            if not self.going:
                break
            lead = self.going[0].optimizer
            if lead is not of:  # the first epoch of a phase
                of, optimizer = lead, self._optimizer(lead)
            for group, own in zip(optimizer.param_groups, lead.param_groups, strict=True):
                group.update({name: value for name, value in own.items() if name != "params"})
            n_steps, means, counts = self._steps(epoch, optimizer)
            for i, member in enumerate(self.members):
                if member.failure is None:
                    with member.at_work():
                        member.end_epoch(n_steps, means[i], int(counts[i]))
        if of is not None:
            self._give_back(optimizer)
        self.stack.part()

    def _optimizer(self, lead: Optimizer) -> Optimizer:
        """The optimiser of stacked weights, made as a member's own is."""
        refusals = [reason for member in self.going if (reason := member.refusal_of_optimizer())]
        if refusals:
            raise NotStackable(refusals[0])
        at = self.going[0]
        place = self.members.index(at)
        stacked = {id(owners[place]): weight for weight, owners in self.stack.owners.items()}
        groups = [
            {**group, "params": [stacked[id(w)] for w in group["params"] if id(w) in stacked]}
            for group in lead.param_groups
        ]
        make: Callable[..., Optimizer] = type(lead)
        return make(groups)

    def _steps(self, epoch: int, optimizer: Optimizer) -> tuple[int, Tensor, Tensor]:
        """The steps of an epoch: how many, and of each member its mean loss and number of samples."""
        orders = []
        for member in self.members:
            member.order.set_epoch(epoch)
            orders.append(list(member.order.on(torch.device("cpu"))))
        n_steps = len(orders[0])
        sums = self.x.new_zeros(len(self.members), dtype=torch.float64)
        counts = torch.zeros(len(self.members), dtype=torch.int64)
        for step in range(n_steps):
            batches = [order[step] for order in orders]
            rows, n = self._gather(batches)
            x, known = self.x[rows.flatten()], self.known[rows]
            optimizer.zero_grad()
            losses = self.losses.losses(x, known, epoch)
            losses.sum().backward()
            optimizer.step()
            sums += losses.detach().double() * n.to(sums.device)
            counts += n
        return n_steps, (sums / counts.to(sums.device)).float(), counts

    def _gather(self, batches: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Rows (K, B) of all members' samples by their positions, and how many of each count (K,)."""
        n = torch.tensor([len(batch) for batch in batches])
        most = int(n.max())
        if bool((n == most).all()):
            self.samples.are(most)
            rows = torch.stack(batches)
        else:
            counts = torch.arange(most) < n.unsqueeze(1)
            self.samples.are(most, (counts / n.unsqueeze(1)).to(self.x.device))
            rows = torch.stack([torch.cat([batch, batch.new_zeros(most - len(batch))]) for batch in batches])
        return (rows + self.first).to(self.x.device), n

    def _give_back(self, optimizer: Optimizer) -> None:
        """What a member's optimiser would know of its weights, for a checkpoint that training goes on from."""
        for weight, owners in self.stack.owners.items():
            state = optimizer.state.get(weight, {})
            for place, member in enumerate(self.members):
                if state and member.failure is None:
                    own = {k: v[place].clone() if _is_stacked(v, weight) else copy_of(v) for k, v in state.items()}
                    member.optimizer.state[owners[place]] = own


def _is_stacked(value: Any, weight: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == weight.shape


def copy_of(value: Any) -> Any:
    """A tensor's copy, or the value itself."""
    return value.clone() if isinstance(value, Tensor) else value


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Random states, and the seed that data take, are after it as before: another fit sets its own."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)
        if seed is not None:
            os.environ["PL_GLOBAL_SEED"] = seed
