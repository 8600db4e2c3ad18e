"""CPU seconds an epoch: Deep SAD under the Trainer against bare tensor loops of the same arithmetic, in one process.

    OMP_NUM_THREADS=1 python benchmarks/epoch_time.py --data mnist --samples 4000 --epochs 2 --rounds 3
    OMP_NUM_THREADS=1 python benchmarks/epoch_time.py --data cifar10 --samples 600 --epochs 2 --rounds 2

The bare loops have their networks channels last, as the detector's are, or contiguous; a third one is contiguous with
its layers in the released code's order, the leaky ReLU before the pooling. The sides take turns; the ratio of their
fastest epochs is what counts. On a GPU the seconds are of the clock.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.optim import Adam

from adlightning.core.memory_format import Layout, lay_out
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources import CIFAR10, MNIST
from adlightning.methods import DeepSAD
from adlightning.methods.deep_sad import deep_sad_loss
from adlightning.methods.parts.hypersphere import AutoencoderPretraining, squared_distance
from adlightning.networks import LeNetEncoder
from adlightning.preprocessing import UnitRange

SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": {"source": MNIST, "normal_class": 3, "conv_channels": (8, 4), "rep_dim": 32},
    "cifar10": {"source": CIFAR10, "normal_class": 0, "conv_channels": (32, 64, 128), "rep_dim": 128},
}


class EpochTimes(pl.Callback):
    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: list[float] = []
        self.started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # from the end of the epoch before: what lies between epochs belongs to the framework's cost
        if not self.started:
            self.started = self.clock()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = self.clock()
        self.seconds.append(now - self.started)
        self.started = now


class Side(NamedTuple):
    """What both sides need."""

    setting: dict[str, Any]
    root: str
    samples: int
    epochs: int
    device: str

    def clock(self) -> float:
        """Seconds of the processor, or of the clock where a GPU works."""
        return time.process_time() if self.device == "cpu" else time.perf_counter()


def make(setting: dict[str, Any], root: str) -> tuple[OneVsAll, DeepSAD]:
    data = OneVsAll(setting["source"](root=root), normal_class=setting["normal_class"], validation_fraction=0.0, seed=0)
    encoder = partial(LeNetEncoder, conv_channels=setting["conv_channels"], rep_dim=setting["rep_dim"])
    model = DeepSAD(encoder, pretraining=AutoencoderPretraining(epochs=0), preprocessing=UnitRange)
    return data, model


def under_trainer(side: Side) -> list[float]:
    data, model = make(side.setting, side.root)
    times = EpochTimes(side.clock)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=side.epochs + 1,
            limit_train_batches=side.samples // 200,
            accelerator="cpu" if side.device == "cpu" else "gpu",
            devices=1,
            default_root_dir=folder,
            logger=CSVLogger(folder),
            callbacks=[times],
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(model, datamodule=data)
    return times.seconds[1:-1] or times.seconds  # the first warms up, the last also fits the threshold


def in_released_order(encoder: nn.Module) -> None:
    """The leaky ReLU before the pooling, which gives the same."""
    layers = list(encoder.get_submodule("conv"))  # type: ignore[call-overload]  # a Sequential
    for i in [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]:
        layers[i : i + 2] = layers[i + 1], layers[i]
    encoder.set_submodule("conv", nn.Sequential(*layers))


def bare_loop(side: Side, layout: Layout, released_order: bool) -> list[float]:
    device = torch.device(side.device)
    data, model = make(side.setting, side.root)
    data.setup("fit")
    model.configure_for(data.input_spec)
    if released_order:
        in_released_order(model.sphere.encoder)
    lay_out(model, layout)
    model.to(device).train()
    model.sphere.center.fill_(0.1)
    x = data.train_samples.x
    assert isinstance(x, torch.Tensor)
    x = x[torch.from_numpy(data.split.train)].to(device)
    known = torch.from_numpy(data.split.known).to(device)
    optimizer = Adam(model.parameters(), lr=1e-4, weight_decay=1e-6)
    seconds = []
    for _ in range(side.epochs + 1):
        started = side.clock()
        for rows in torch.randperm(len(x), device=device).split(200)[: min(len(x), side.samples) // 200]:
            distances = squared_distance(model.sphere.encoder(x[rows].float() / 255), model.sphere.center)
            loss = deep_sad_loss(distances, known[rows], eta=1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(side.clock() - started)
    return seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data")
    parser.add_argument("--data", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--samples", type=int, default=4000, help="of an epoch, in batches of 200")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    loops: dict[str, tuple[Layout, bool]] = {
        "channels_last": ("channels_last", False),
        "contiguous": ("contiguous", False),
        "contiguous, in the released order": ("contiguous", True),
    }
    for name in options.data:
        side = Side(SETTINGS[name], options.root, options.samples, options.epochs, options.device)
        ours: list[float] = []
        bare: dict[str, list[float]] = {loop: [] for loop in loops}
        for _ in range(options.rounds):
            for loop, seconds in bare.items():
                seconds += bare_loop(side, *loops[loop])
            ours += under_trainer(side)
        fastest = {loop: min(seconds) for loop, seconds in bare.items()}
        compared = "; ".join(f"{min(ours) / of:.3f} of {of:.3f} s of the loop {loop}" for loop, of in fastest.items())
        print(f"{name}: trainer {min(ours):.3f} s an epoch of {options.samples} samples, {compared}", flush=True)


if __name__ == "__main__":
    main()
