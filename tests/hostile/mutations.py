"""Checkpoints with one value changed, for every method: scored with and gone on from, and what came of it.

`python mutations.py 10000`, with the project, `tests` and `tests/hostile` on PYTHONPATH, tries that many and lists the
faults: errors that are no message, what is written or removed outside the run folder, and what has no end.
"""

from __future__ import annotations

import contextlib
import copy
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hostile_cases import ODD_VALUES
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from short_fits import BY_EPOCHS, METHODS, config_of, options_of
from torch import Tensor

from adlightning.callbacks.checkpoint_places import place_checkpoints
from adlightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from adlightning.checkpoints.loading import load_detector, read_checkpoint
from adlightning.checkpoints.writing import AtomicCheckpointIO
from adlightning.cli.trainer_verbs import run
from adlightning.core.collapse import TrainingCollapse
from adlightning.core.faults import TrainingFault

CASES = [*BY_EPOCHS, *(f"{name}/digits" for name in METHODS if not any(c.startswith(f"{name}/") for c in BY_EPOCHS))]
SLOW = ("adgan", "anogan", "geometric_transforms", "isolation_forest", "gmm")
"""Whose scores take seconds: of most mutations only the first batch is trained."""

MESSAGES = (ValueError, OSError, TrainingCollapse, TrainingFault, MisconfigurationException)
SECONDS = 120
METRIC = "val/score_mean"

Place = tuple[Any, ...]


class Enough(Exception):
    """A batch was trained."""


class FirstBatch(pl.Callback):
    """Ends a fit after one batch."""

    def on_train_batch_end(self, *_: Any) -> None:
        raise Enough


class Bench:
    """A method's checkpoint, and what it is scored with and gone on with.

    Args:
        case: of `CASES`.
        folder: for everything that is written.
    """

    def __init__(self, case: str, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.victim = folder / "victim"
        (self.victim / "checkpoints").mkdir(parents=True)
        for name in ("file.ckpt", "last.ckpt", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
            (self.victim / name).write_text("precious")
        first = folder / "first"
        options = [*options_of(case, 1, 2), "--data.validation_fraction=0.1", "--test_after_fit=false"]
        options += ["--trainer.accelerator=cpu", "--trainer.logger=false", f"--run_dir={folder / 'parsed'}"]
        cli = run("fit", ["fit", "--config", str(config_of(case)), *options][1:])
        self.detector, self.data = cli.model, cli.datamodule
        self.epochs = int(cli.trainer.max_epochs or 0)
        self._fit(first, None, whole=True)
        self.file = first / "checkpoints" / "last.ckpt"
        self.content = read_checkpoint(self.file)
        n = min(3, len(self.data.split.train))
        self.samples = next(iter(self.data.train_dataloader())).x[:n].cpu()

    def _fit(self, run_dir: Path, checkpoint: Path | None, whole: bool) -> None:
        folder = run_dir / "checkpoints"
        callbacks: list[pl.Callback] = [LastCheckpoint(folder), BestCheckpoint(folder, METRIC, "min"), Timer()]
        callbacks += [EarlyStopping(METRIC, strict=False, patience=9), ModelCheckpoint(filename="{epoch}")]
        callbacks += [] if whole else [FirstBatch()]
        place_checkpoints(callbacks, run_dir)
        trainer = pl.Trainer(
            max_epochs=self.epochs + (checkpoint is not None),
            limit_train_batches=2,
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=run_dir,
        )
        trainer.strategy.checkpoint_io = AtomicCheckpointIO(run_dir)
        detector = type(self.detector)(**self.detector.arguments)
        with contextlib.suppress(Enough):
            trainer.fit(detector, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)

    def places(self) -> list[Place]:
        """Paths to everything inside the checkpoint."""
        return list(_places(self.content))

    def fault(self, place: Place, change: Any, draw: random.Random) -> tuple[str, str | None]:
        """What came of one change, and the fault where it was one."""
        run_dir = self.folder / "run"
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        for old in (run_dir / "checkpoints").iterdir():
            old.unlink()
        own = draw.random() < 0.5
        file = (run_dir / "checkpoints" / "last.ckpt") if own else self.folder / "changed.ckpt"
        torch.save(_changed(self.content, place, change, self.victim), file)
        if own:
            for other in ("best.ckpt", "epoch=0.ckpt"):
                (run_dir / "checkpoints" / other).write_bytes(b"x")
        before = self._outside()
        slow = self.case.startswith(SLOW)
        whole = draw.random() < (0.02 if slow else 0.3)
        outcomes = []
        for name in ("score", "fit"):
            try:
                with _limited(SECONDS):
                    if name == "score":
                        self._score(file, place)
                    else:
                        self._go_on(run_dir, file, whole)
                outcomes.append(f"{name}: works")
            except MESSAGES as error:
                said = str(error)
                if not said:
                    return name, f"{name}: {error!r} says nothing"
                if type(error) is ValueError and file.name not in said:
                    outcomes.append(f"{name}: message without the file")
                    return outcomes[-1], f"{name}: {said[:300]}"
                outcomes.append(f"{name}: message")
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                return f"{name}: {type(error).__name__}", (
                    f"{name}: {type(error).__name__}: {str(error)[:200]} at {Path(where.filename).name}:{where.lineno}"
                )
        if self._outside() != before:
            return "outside", "something outside the run folder was written or removed"
        return ", ".join(outcomes), None

    def _score(self, file: Path, place: Place) -> None:
        detector = load_detector(file)
        if "hyperparameters" not in place and not self.case.startswith(SLOW[:1]):  # a search of 2**31 steps has no end
            try:
                detector.score(self.samples)
            except ValueError as error:
                raise ValueError(f"{file.name}: {error}") from error  # of the samples, as much as of the file

    def _go_on(self, run_dir: Path, file: Path, whole: bool) -> None:
        saved = read_checkpoint(file)["adlightning"]
        if saved["hyperparameters"] != self.content["adlightning"]["hyperparameters"]:
            raise ValueError(f"{file.name}: a fit goes on with what it began with")  # as the command line says
        self._fit(run_dir, file, whole)

    def _outside(self) -> dict[str, str | None]:
        inside = self.folder / "run"
        return {
            str(path): path.read_text(errors="replace")[:20] if path.is_file() and self.victim in path.parents else None
            for path in self.folder.rglob("*")
            if inside not in path.parents
        }


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("no end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    except TimeoutError as error:
        raise RuntimeError("no end") from error  # an OSError would pass for a message
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _places(value: Any, above: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    else:
        return
    for key, inner in items:
        yield (*above, key)
        yield from _places(inner, (*above, key))


CHANGES = [
    *("missing", "more", "nested", "negative", "huge", "nan", "infinite", "shape", "type", "spread", "alias", "text"),
    *("local", "file", "memory", "parent", "absolute", "link", "zero", "one more", "dtype", "twice"),
    *(("odd", i) for i in range(len(ODD_VALUES))),
]


def _changed(content: Any, place: Place, change: Any, victim: Path) -> Any:
    """The content with one place changed; what is not on the way is shared."""
    if not place:
        return content
    key, *rest = place
    if isinstance(content, dict):
        copied: Any = dict(content)
    else:
        copied = list(content)
    if rest:
        copied[key] = _changed(content[key], tuple(rest), change, victim)
    elif change == "missing":
        del copied[key]
    elif change == "more":
        if isinstance(copied, dict):
            copied["unknown"] = copy.deepcopy(content[key])
        else:
            copied.append(copy.deepcopy(content[key]))
    elif change == "twice" and isinstance(copied, dict):
        copied[f"{key}x" if isinstance(key, str) else 10**6] = copied.pop(key)
    else:
        copied[key] = _other(content[key], change, victim)
    return tuple(copied) if isinstance(content, tuple) else copied


def _other(value: Any, change: Any, victim: Path) -> Any:
    if isinstance(change, tuple):
        return copy.deepcopy(ODD_VALUES[change[1]])
    paths = {
        "local": f"local://{victim}",
        "file": f"file://{victim}/file.ckpt",
        "memory": "memory://x/last.ckpt",
        "parent": f"../../{victim.name}/last.ckpt",
        "absolute": f"{victim}/checkpoints/best.ckpt",
        "link": f"{victim}/last.ckpt",
        "text": "x",
    }
    if change in paths:
        return paths[change]
    if change == "nested":
        return [[value]]
    if isinstance(value, Tensor):
        return _other_tensor(value, change)
    if isinstance(value, bool):
        return int(value) if change == "type" else not value
    if isinstance(value, (int, float)):
        numbers: dict[str, Any] = {
            "negative": -value - 1,
            "huge": 10**15,
            "nan": float("nan"),
            "infinite": float("inf"),
            "zero": 0,
        }
        numbers |= {"one more": value + 1, "type": str(value), "shape": [value], "dtype": torch.tensor(float(value))}
        return numbers.get(change, float(value) * 1e300)
    if isinstance(value, str):
        return {"zero": "", "one more": value + "x", "type": value.encode(), "nan": float("nan")}.get(change, 1)
    if isinstance(value, (list, tuple)):
        others = {"zero": type(value)(), "twice": type(value)([*value, *value]), "type": dict(enumerate(value))}
        return others.get(change, list(value)[:-1])
    if isinstance(value, dict):
        return {"zero": {}, "type": list(value.items()), "twice": {**value, "y": 1}}.get(change, {1: value})
    return {"zero": 0, "nan": float("nan"), "negative": -1, "type": torch.tensor(1.0)}.get(change, 1)


def _other_tensor(value: Tensor, change: str) -> Any:
    real = value.is_floating_point()
    filled = {"nan": float("nan"), "infinite": float("inf"), "huge": 1e38, "negative": -1.0}
    filled |= {"zero": 0.0, "one more": 1.0}
    if change in filled:
        if real or change in ("zero", "one more", "negative"):
            return torch.full_like(value, int(filled[change]) if not real else filled[change])
        return value.double() * float("nan")
    if change == "shape":
        return value.reshape(-1)[:1] if value.dim() else value.reshape(1)
    if change == "spread":
        return torch.zeros((), dtype=value.dtype).expand(value.shape)
    if change == "dtype":
        return value.to(torch.float64 if real and value.dtype != torch.float64 else torch.complex64)
    if change == "type":
        return value.tolist()
    if change == "alias":
        return torch.nn.Parameter(value.float()) if real else value.t() if value.dim() == 2 else value
    return value.reshape(1, *value.shape)


def tried(case: str, folder: Path, n: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How often what came of `n` changes of a method's checkpoint, and the faults in words."""
    draw = random.Random(f"{case} {seed}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench = Bench(case, folder)
        places = bench.places()
        sections: dict[Any, list[Place]] = {}
        for place in places:
            sections.setdefault(place[0], []).append(place)
        outcomes: Counter[str] = Counter()
        faults = []
        order = draw.sample(places, len(places))
        for i in range(n):
            # half over all places in turn, half over the parts alike: weights are most of the places
            place = order[i % len(order)] if i % 2 else draw.choice(sections[draw.choice(list(sections))])
            change = draw.choice(CHANGES)
            outcome, fault = bench.fault(place, change, draw)
            outcomes[outcome] += 1
            if fault is not None:
                shown = ".".join(map(str, place))[-120:]
                odd = f" {ODD_VALUES[change[1]]!r:.40}" if isinstance(change, tuple) else ""
                faults.append(f"{case} {shown} {change}{odd}: {fault}")
    return outcomes, faults


def main() -> None:
    """So many changes, as many of each method, and what came of them."""
    import logging
    import tempfile

    n, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    only = sys.argv[3:] or CASES
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    total: Counter[str] = Counter()
    for case in only:
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            outcomes, faults = tried(case, Path(folder), -(-n // len(only)), seed)
        total += outcomes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{case}: {sum(outcomes.values())} in {time.monotonic() - started:.0f} s, peak {peak} MiB", flush=True)
        print(*(f"  FAULT {fault}" for fault in faults), sep="\n", flush=True)
    print(f"{sum(total.values())} changes, seed {seed}, process {os.getpid()}:", dict(total.most_common()))


if __name__ == "__main__":
    main()
