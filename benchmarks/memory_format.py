"""A training step of each convolutional network of the papers, channels last against contiguous, in CPU seconds.

    OMP_NUM_THREADS=1 python benchmarks/memory_format.py [--only deep_sad/mnist] [--rounds 3] [--steps 4]

A case is an experiment's detector under the Trainer, on random images of its data's shape and with its batch size, or a
smaller one where a step would take minutes. Both formats take turns; the fastest step of each counts, forward, backward
and optimiser.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import time
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
import yaml

from adlightning.callbacks.networks import MemoryFormat
from adlightning.cli import registry
from adlightning.cli.parser import AnomalyParser
from adlightning.cli.parsing import PARSER_MODE
from adlightning.core.contracts import InputSpec
from adlightning.core.detector import AnomalyDetector
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import ClassSource, Part, Samples

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}

Side = Literal["contiguous", "channels_last", "auto"]


class Case(NamedTuple):
    """Options of an experiment that takes no first phase, and its batch size where it is not the paper's."""

    batch: int | None = None
    options: tuple[str, ...] = ()


_NO_PHASE = ("--model.pretraining.epochs=0",)
CASES = {
    "deep_sad/mnist": Case(None, _NO_PHASE),
    "deep_sad/fashion_mnist": Case(None, _NO_PHASE),
    "deep_sad/cifar10": Case(None, _NO_PHASE),
    "deep_sad/mnist pretraining": Case(),
    "deep_sad/fashion_mnist pretraining": Case(),
    "deep_sad/cifar10 pretraining": Case(100),
    "dcae/mnist": Case(),
    "dcae/cifar10": Case(100),
    "vae/mnist": Case(),
    "drocc/cifar10": Case(32, ("--model.ascent.steps=5",)),
    "density_ratio/cifar10": Case(32),
    "geometric_transforms/cifar10": Case(4),
    "ama/mnist": Case(10),
    "ama/cifar10": Case(10),
    "adgan/mnist": Case(16),
    "adgan/cifar10": Case(16),
    "anogan/mnist": Case(16),
    "alad/mnist": Case(),
    "alad/cifar10": Case(),
    "skip_ganomaly/mnist": Case(16),
    "fence_gan/mnist": Case(32),
    "dsebm/mnist": Case(32),
    "ss_dgm/mnist": Case(32),
    "deep_sad/cifar10 resnet18": Case(
        32,
        (
            *_NO_PHASE,
            "--model.encoder=TorchvisionEncoder",
            "--model.encoder.name=resnet18",
            "--model.encoder.strip_biases=true",
        ),
    ),
}


class RandomImages(ClassSource):
    """Images of noise, of ten classes."""

    classes = tuple("abcdefghij")
    name = "noise"

    def __init__(self, shape: tuple[int, int, int], n: int = 4000) -> None:
        self.shape, self.n = shape, n

    def input_spec(self) -> InputSpec:
        """Of the shape."""
        return InputSpec("image", self.shape)

    def load(self, part: Part) -> Samples:
        """As many of each class; by default as a batch of any case takes."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(0, 256, (self.n, *self.shape), generator=generator, dtype=torch.uint8)
        return Samples(x, np.arange(len(x)) % 10, [str(i) for i in range(len(x))])


class Done(Exception):
    """Enough steps were taken."""


class StepTimes(pl.Callback):
    """CPU seconds of each step."""

    def __init__(self, steps: int) -> None:
        self.steps, self.seconds, self.started = steps, list[float](), 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin."""
        self.started = time.process_time()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End a step; the last ends the fit, for what comes after it is no step."""
        self.seconds.append(time.process_time() - self.started)
        if len(self.seconds) > self.steps:
            raise Done


def parsed(name: str) -> tuple[AnomalyDetector, AnomalyDataModule]:
    """The detector of a case, and its data on random images."""
    config = yaml.safe_load((ROOT / f"configs/{name.partition(' ')[0]}.yaml").read_text())
    parser = AnomalyParser(exit_on_error=False, parser_mode=PARSER_MODE)
    for part, cls in (("model", AnomalyDetector), ("data", AnomalyDataModule)):
        parser.add_lightning_class_args(cls, part, subclass_mode=True)
    written = {part: yaml.safe_dump(config[part], default_flow_style=True, width=10**6) for part in ("model", "data")}
    case = CASES[name]
    options = [*case.options, *([f"--data.batch_size={case.batch}"] if case.batch else [])]
    made = parser.instantiate(parser.parse_args([*(f"--{part}={text}" for part, text in written.items()), *options]))
    made.data.source = RandomImages(SHAPES[name.partition(" ")[0].split("/")[1]])
    return made.model, made.data


def seconds(name: str, memory_format: Side, steps: int) -> float:
    """CPU seconds of the fastest step but the first."""
    pl.seed_everything(0, verbose=False)
    model, data = parsed(name)
    times = StepTimes(steps)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1000,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[times, *([] if memory_format == "auto" else [MemoryFormat(memory_format)])],
    )
    with contextlib.suppress(Done):
        trainer.fit(model, datamodule=data)
    del trainer, model, data
    gc.collect()  # networks are in circles
    return min(times.seconds[1:])


def main() -> None:
    """A line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    registry.import_all()
    print("case,batch,contiguous_ms,channels_last_ms,ratio,auto_ms", flush=True)
    for name, case in CASES.items():
        if options.only not in name:
            continue
        found: dict[Side, list[float]] = {
            "contiguous": [],
            "channels_last": [],
            "auto": [],
        }
        for _ in range(options.rounds):
            for memory_format, all_ in found.items():
                all_.append(seconds(name, memory_format, options.steps))
        contiguous, last, auto = (1000 * min(all_) for all_ in found.values())
        batch = case.batch or parsed(name)[1].batch_size
        print(f"{name},{batch},{contiguous:.1f},{last:.1f},{last / contiguous:.3f},{auto:.1f}", flush=True)


if __name__ == "__main__":
    main()
