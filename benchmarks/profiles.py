"""Where a step goes: CPU milliseconds under the Trainer and in a bare loop of the same arithmetic, and a profile of it.

    OMP_NUM_THREADS=1 python benchmarks/profiles.py [--only deep_sad/mnist] [--rounds 3] [--steps 8] [--functions 8]

A case is an experiment that `adlightning fit` runs, with its callbacks, its CSV logger and no progress bar, as where no
terminal is. Its data are noise of the right shape. Three figures come from the very same fit, in turns, the least of
each counts:

- a step under the Trainer: from the end of a step to the end of the next, batch, hooks and loggers among it;
- a bare step: the next batch of the same loader, `training_step`, `backward`, the optimiser, and nothing else. Methods
  that step by hand get torch's own optimisers and `backward` in the place of Lightning's, so they are bare as well;
- between epochs: what the last step of an epoch and the first of the next take beyond a step: validation, checkpoint,
  files.

Steps of batches that are not whole, as an epoch's last, do not count.

A profile of as many steps follows, whose Python counts for more than it costs, for a profiler is slow with small calls.
Its shares are by whose code took the time; what is built into Python counts for its caller. `scores` profiles
`anomaly_score` of a batch, and `table` whole fits of 300 rows, once everything is imported.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import io
import itertools
import logging
import os
import pstats
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from memory_format import Done, parsed
from starts import fit as arguments_of_table, write_tables

from adlightning.__main__ import main as adlightning
from adlightning.cli import registry
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector

_IMAGES = "--data.source=memory_format.RandomImages"
_MNIST, _CIFAR10 = ([_IMAGES, f"--data.source.shape={shape}"] for shape in ("[1,28,28]", "[3,32,32]"))
_MANY = "--data.source.n=20000"
_TABLE = ["--data.source=AnomalyFile", "--data.source.path=table.npz"]
_NO_PHASE = "--model.pretraining.epochs=0"
STEPS = {
    "deep_sad/mnist": [*_MNIST, _MANY, _NO_PHASE],
    "deep_sad/cifar10": [*_CIFAR10, _MANY, _NO_PHASE],
    "deep_sad/thyroid": [*_TABLE, _NO_PHASE],
    "drocc/cifar10": [*_CIFAR10, "--data.batch_size=32", "--model.ascent.steps=5", "--model.warm_up_epochs=0"],
    "drocc/thyroid": [*_TABLE, "--model.warm_up_epochs=0"],
    "density_ratio/cifar10": [*_CIFAR10, "--data.batch_size=32"],
    "geometric_transforms/cifar10": [*_CIFAR10, "--data.batch_size=4"],
    "ama/mnist": [*_MNIST, "--data.batch_size=10", "--model.critic_turns.steps=1"],
    "adgan/mnist": [*_MNIST, "--data.batch_size=16", "--model.critic_turns.bursts=false"],
}
"""Experiments, and what is smaller than in the paper: batches and inner steps that would take many seconds."""

SCORES = {"adgan/mnist": 4}
"""Experiments, and how many samples are scored."""

TABLES = ("deep_sad", "drocc")

Key = tuple[str, int, str]
OWNERS = ("torch", "torch's Python", "adlightning", "Lightning", "the rest")


class Shares(NamedTuple):
    """Of a profile's seconds, by owner, and the functions that took most of what is not torch's arithmetic."""

    by_owner: dict[str, float]
    functions: list[tuple[str, float]]

    def line(self) -> str:
        """In per cent."""
        return ", ".join(f"{owner} {100 * share:.1f} %" for owner, share in self.by_owner.items())


def owner_of(key: Key) -> str:
    """Whose function it is, by its file; what is built in and not torch's is nobody's: ''."""
    file, _, name = key
    path = file.replace(os.sep, "/")
    if file == "~":
        of_torch = any(word in name for word in ("torch", "Tensor", "run_backward"))
        return "torch" if of_torch else ""
    packages = {"/adlightning/": "adlightning", "/torch/": "torch's Python", "/torchvision/": "torch's Python"}
    packages |= {"/pytorch_lightning/": "Lightning", "/lightning_fabric/": "Lightning", "/torchmetrics/": "Lightning"}
    return next((owner for place, owner in packages.items() if place in path), "the rest")


def shares(profile: cProfile.Profile) -> Shares:
    """What a profile says, as shares of all its seconds."""
    by_owner, by_function = Counter[str](), Counter[str]()
    functions: dict[Key, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for key, (_, _, own, _, callers) in functions.items():
        if owner := owner_of(key):
            by_owner[owner] += own
            if owner != "torch":
                by_function[f"{owner}: {Path(key[0]).name}:{key[2]}"] += own
            continue
        for caller, (_, _, of_caller, _) in callers.items():
            by_owner[owner := owner_of(caller) or "the rest"] += of_caller
            by_function[f"{owner}: {Path(caller[0]).name}:{caller[2]}"] += of_caller
    total = sum(by_owner.values())
    top = [(name, seconds / total) for name, seconds in by_function.most_common()]
    return Shares({owner: by_owner[owner] / total for owner in OWNERS}, top)


class Measured(pl.Callback):
    """Times steps of a fit and bare ones in turns, profiles some, and ends the fit."""

    last: ClassVar[Measured]

    def __init__(self, steps: int, rounds: int) -> None:
        self.steps, self.rounds = steps, rounds
        self.under_trainer, self.bare, self.between = list[float](), list[float](), list[float]()
        self.shares: Shares | None = None
        self._profile = cProfile.Profile(time.process_time)
        self._ended: float | None = None
        self._taken, self._crosses = 0, False
        Measured.last = self

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """An epoch lies between the step before and the next."""
        self._crosses = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a step; after each round of them, take bare ones."""
        now = time.process_time()
        self._profile.disable()
        assert isinstance(pl_module, AnomalyDetector)
        if self._ended is not None and is_whole(batch, pl_module):
            (self.between if self._crosses else self.under_trainer).append(now - self._ended)
            self._taken += not self._crosses
        self._crosses, self._ended = False, None
        if self._taken < self.steps:
            self._go_on(trainer)
            return
        self._taken, self.rounds = 0, self.rounds - 1
        if self.rounds >= 0:
            self.bare += bare_steps(pl_module, trainer, self.steps)
            self._go_on(trainer)
            return
        self.under_trainer = self.under_trainer[: -self.steps]
        self.shares = shares(self._profile)
        raise Done

    def _go_on(self, trainer: pl.Trainer) -> None:
        self._ended = time.process_time()
        if self.rounds == 0 and not trainer.is_last_batch:
            self._profile.enable()


def is_whole(batch: TrainBatch, detector: AnomalyDetector) -> bool:
    """Whether it has as many samples as a batch may have."""
    return len(batch.index) >= detector.data.batch_size


@contextlib.contextmanager
def without_lightning(detector: AnomalyDetector, trainer: pl.Trainer) -> Iterator[None]:
    """Within it a training step that steps by hand does so with torch's optimisers and `backward`."""
    own: dict[str, Any] = {"optimizers": lambda: trainer.optimizers, "manual_backward": torch.Tensor.backward}
    vars(detector).update(own)  # they come before the class's
    hook, detector._current_fx_name = detector._current_fx_name, "training_step"
    try:
        yield
    finally:
        for name in own:
            del vars(detector)[name]
        detector._current_fx_name = hook


def bare_steps(detector: AnomalyDetector, trainer: pl.Trainer, steps: int) -> list[float]:
    """CPU seconds of steps of a loop over the loader, with the detector's own `training_step` and optimisers."""
    loader = trainer.train_dataloader
    assert loader is not None
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    found = []
    with without_lightning(detector, trainer):
        next(batches)  # an epoch's order is drawn with its first
        for number in range(steps):
            started = time.process_time()
            batch = next(batches)
            result: Any = detector.training_step(batch, number)
            if detector.automatic_optimization:
                (optimizer,) = trainer.optimizers
                optimizer.zero_grad()
                (result if isinstance(result, torch.Tensor) else result["loss"]).backward()
                optimizer.step()
            if is_whole(batch, detector):
                found.append(time.process_time() - started)
    return found


def of_steps(name: str, options: argparse.Namespace) -> Measured:
    """What the steps of an experiment take."""
    given = [f"+={Measured.__module__}.Measured", f".steps={options.steps}", f".rounds={options.rounds}"]
    callback = [f"--trainer.callbacks{option}" for option in given]
    command = ["fit", "--config", name, *STEPS[name], "--import=memory_format"]
    with in_new_folder(), contextlib.suppress(Done):
        rng = np.random.default_rng(0)
        np.savez("table.npz", X=rng.normal(size=(3772, 6)), y=np.arange(3772) % 40 == 0)  # of thyroid's size
        with quiet() as said:
            code = adlightning([*command, *callback, "--trainer.accelerator=cpu", "--run_dir=run"])
        raise SystemExit(f"{name} ended with {code}: {said.getvalue()[-1000:]}")
    return Measured.last


@contextlib.contextmanager
def in_new_folder() -> Iterator[None]:
    """Within it the working directory is a new one, removed after it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Within it nothing is shown; gives what was to be."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


def profiled(work: Callable[[], object], rounds: int) -> tuple[float, Shares]:
    """The fewest CPU seconds of a call after the first, and the profile of one more."""
    found = []
    for _ in range(rounds + 1):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    profile = cProfile.Profile(time.process_time)
    profile.runcall(work)
    return min(found[1:]), shares(profile)


def of_scores(name: str, rounds: int) -> tuple[float, Shares]:
    """What the scores of a batch take, by a detector whose weights are those it begins with."""
    pl.seed_everything(0, verbose=False)
    detector, data = parsed(name)
    data.setup("fit")
    detector.configure_for(data.input_spec)
    x = data.train_images(np.arange(SCORES[name]))
    detector.preprocess.fitted.fill_(True)
    return profiled(lambda: detector.anomaly_score(x), rounds)


def of_table(method: str, rounds: int) -> tuple[float, Shares]:
    """What a fit of 300 rows takes, with its test and pictures."""
    numbers = itertools.count()
    with in_new_folder():
        write_tables(Path())

        def fit() -> None:
            with quiet():
                assert adlightning(arguments_of_table(Path(), method, f"{next(numbers)}")) == 0

        return profiled(fit, rounds)


def show(found: Shares, functions: int) -> None:
    """Shares of a profile, and the functions that took most."""
    print(f"  {found.line()}")
    for function, share in found.functions[:functions]:
        print(f"    {100 * share:.1f} % {function}", flush=True)


def main() -> None:
    """A few lines a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--functions", type=int, default=8, help="that took most of what is not arithmetic")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    registry.import_all()
    for name in STEPS:
        if options.only not in name:
            continue
        found = of_steps(name, options)
        trainer, bare = min(found.under_trainer), min(found.bare)
        between = f"{1000 * (min(found.between) - trainer):.1f} ms" if found.between else "not reached"
        print(
            f"{name}: {1000 * trainer:.2f} ms a step under the Trainer, {1000 * bare:.2f} ms bare, "
            f"{trainer / bare:.3f} times; between epochs {between}"
        )
        assert found.shares is not None
        show(found.shares, options.functions)
    cases = {f"scores of {name}, {n} samples": partial(of_scores, name) for name, n in SCORES.items()}
    cases |= {f"fit of {name}/table, 300 rows": partial(of_table, name) for name in TABLES}
    for title, case in cases.items():
        if options.only not in title:
            continue
        seconds, of_case = case(options.rounds)
        print(f"{title}: {1000 * seconds:.1f} ms")
        show(of_case, options.functions)


if __name__ == "__main__":
    main()
