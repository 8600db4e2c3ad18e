"""What the tests of the generative detectors share: a toy split, images of noise, a fit by its seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.checkpoints.loading import load_detector
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import described
from adlightning.data.one_vs_all import OneVsAll
from adlightning.testing import Stripes


def stripes(**options: Any) -> OneVsAll:
    """Left bars are normal; nothing is held out unless asked for."""
    return OneVsAll(Stripes(), 0, **{"batch_size": 20, "seed": 0, "validation_fraction": 0.0, **options})


def trained_(network: nn.Module) -> nn.Module:
    """Statistics and weights of a DCGAN's generator as if it were trained, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
    return network


def images(n: int, seed: int = 0) -> Tensor:
    """Noise (n, 1, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 1, 16, 16), generator=generator, dtype=torch.uint8)


def scores_of_a_fit(
    make_trainer: MakeTrainer, cls: type[AnomalyDetector], options: dict[str, Any], seed: int, epochs: int = 2
) -> Tensor:
    """Scores (5,) of the same noise after a fit with this seed."""
    pl.seed_everything(seed, verbose=False)
    detector = cls(**options)
    make_trainer(max_epochs=epochs).fit(detector, datamodule=stripes())
    with torch.no_grad():
        return detector.eval().anomaly_score(images(5))


def adam(lr: float) -> partial[Adam]:
    """Adam as these papers have it, with another learning rate."""
    return partial(Adam, lr=lr, betas=(0.5, 0.999))


class OwnEncoder(nn.Module):
    """A linear map of all pixels."""

    def __init__(self, shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(shape), latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        latents: Tensor = self.linear(x.flatten(1))
        return latents


class OwnGenerator(nn.Module):
    """A linear map to all pixels, after a frozen layer."""

    def __init__(self, latent_dim: int, shape: tuple[int, ...], output: str, hidden: int = 8) -> None:
        super().__init__()
        self.shape, self.output = shape, output
        self.frozen = nn.Linear(latent_dim, hidden).requires_grad_(False)
        self.linear = nn.Linear(hidden, math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        assert self.output == "tanh"
        images: Tensor = self.linear(self.frozen(z)).tanh().unflatten(1, self.shape)
        return images


class OwnCritic(nn.Module):
    """A hidden layer, whose units are the features, on what it is given side by side; one number a sample."""

    def __init__(self, shape: tuple[int, ...], inputs: int = 1) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(inputs * math.prod(shape), 10), nn.Linear(10, 1)

    def features(self, *x: Tensor) -> Tensor:
        features: Tensor = self.hidden(torch.cat([part.flatten(1) for part in x], dim=1)).relu()
        return features

    def forward(self, *x: Tensor) -> Tensor:
        values: Tensor = self.last(self.features(*x))
        return values.flatten()


class Columns(OwnCritic):
    """The same, but (B, 1)."""

    def forward(self, *x: Tensor) -> Tensor:
        values: Tensor = self.last(self.features(*x))
        return values


OWN_SCHEDULE = partial(CosineAnnealingLR, T_max=4)
OWN_OPTIMIZERS: dict[str, Any] = {
    "AdamW": partial(AdamW, lr=2e-3),
    "SGD": partial(SGD, lr=1e-2, momentum=0.5),
}


class Rates(pl.Callback):
    """Learning rates of the players, by name, at the start of each epoch."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
        self.rates.append(dict(zip(pl_module.players.networks, rates, strict=True)))


def own_parts_train_score_and_are_resumed(
    make_trainer: MakeTrainer, folder: Path, make: Callable[[], AnomalyDetector], first: dict[str, float]
) -> AnomalyDetector:
    """A detector after four epochs with a cosine schedule over them: resumed after two, and loaded, it is the same.

    Args:
        make_trainer: the fixture.
        folder: for checkpoints.
        make: a detector with networks and optimisers of one's own.
        first: learning rates by player.
    """

    def fit(epochs: int, **more: Any) -> tuple[AnomalyDetector, list[dict[str, float]]]:
        pl.seed_everything(0, verbose=False)
        rates, detector = Rates(), make()
        trainer = make_trainer(max_epochs=epochs, callbacks=[rates])
        trainer.fit(detector, datamodule=stripes(validation_fraction=0.2), **more)
        trainer.save_checkpoint(folder / f"{epochs}.ckpt")
        return detector, rates.rates

    whole, rates = fit(4)
    for epoch, seen in enumerate(rates):
        share = (1 + math.cos(math.pi * epoch / 4)) / 2
        assert seen == pytest.approx({name: share * lr for name, lr in first.items()})
    fit(2)
    resumed, later = fit(4, ckpt_path=folder / "2.ckpt")
    assert later == rates[2:]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    loaded = load_detector(folder / "4.ckpt")
    assert torch.equal(loaded.anomaly_score(images(5)), whole.anomaly_score(images(5)))
    assert described(loaded.arguments) == described(whole.arguments)
    return whole
