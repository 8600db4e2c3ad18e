"""Seconds an epoch: Deep SAD under the Trainer against a bare tensor loop of the same arithmetic, in one process.

    python benchmarks/epoch_time.py --root data --data mnist cifar10 --epochs 5 --rounds 3

Both sides take turns, so that a machine whose speed drifts treats them alike; the ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.optim import Adam

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
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # from the end of the epoch before: what lies between epochs belongs to the framework's cost
        if not self.started:
            self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.started)
        self.started = now


def make(setting: dict[str, Any], root: str) -> tuple[OneVsAll, DeepSAD]:
    data = OneVsAll(setting["source"](root=root), normal_class=setting["normal_class"], validation_fraction=0.0, seed=0)
    encoder = partial(LeNetEncoder, conv_channels=setting["conv_channels"], rep_dim=setting["rep_dim"])
    model = DeepSAD(encoder, pretraining=AutoencoderPretraining(epochs=0), preprocessing=UnitRange)
    return data, model


def under_trainer(setting: dict[str, Any], root: str, epochs: int, device: str) -> list[float]:
    data, model = make(setting, root)
    times = EpochTimes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=epochs + 1,
            accelerator=device,
            devices=1,
            default_root_dir=folder,
            logger=CSVLogger(folder),
            callbacks=[times],
            num_sanity_val_steps=0,
            enable_model_summary=False,
        )
        trainer.fit(model, datamodule=data)
    return times.seconds[1:-1] or times.seconds  # the first warms up, the last also fits the threshold


def bare_loop(setting: dict[str, Any], root: str, epochs: int, device: torch.device) -> list[float]:
    data, model = make(setting, root)
    data.setup("fit")
    model.configure_for(data.input_spec)
    model.to(device).train()
    model.sphere.center.fill_(0.1)
    x = data.train_samples.x
    assert isinstance(x, torch.Tensor)
    x = x[torch.from_numpy(data.split.train)].to(device)
    known = torch.from_numpy(data.split.known).to(device)
    optimizer = Adam(model.parameters(), lr=1e-4, weight_decay=1e-6)
    seconds = []
    for _ in range(epochs + 1):
        started = time.perf_counter()
        for rows in torch.randperm(len(x), device=device).split(200)[: len(x) // 200]:
            distances = squared_distance(model.sphere.encoder(x[rows].float() / 255), model.sphere.center)
            loss = deep_sad_loss(distances, known[rows], eta=1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data")
    parser.add_argument("--data", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    device = torch.device("cuda" if options.device == "gpu" else "cpu")
    for name in options.data:
        trainer_seconds: list[float] = []
        bare_seconds: list[float] = []
        for _ in range(options.rounds):
            bare_seconds += bare_loop(SETTINGS[name], options.root, options.epochs, device)
            trainer_seconds += under_trainer(SETTINGS[name], options.root, options.epochs, options.device)
        ours, bare = statistics.median(trainer_seconds), statistics.median(bare_seconds)
        print(
            f"{name}: trainer {ours:.3f} s an epoch (min {min(trainer_seconds):.3f}), bare loop {bare:.3f} s "
            f"(min {min(bare_seconds):.3f}), ratio of medians {ours / bare:.3f}, of minima "
            f"{min(trainer_seconds) / min(bare_seconds):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
