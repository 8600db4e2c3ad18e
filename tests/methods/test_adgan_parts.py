"""ADGAN and AnoGAN with networks, optimisers and schedules of one's own, on a table; what does not fit is refused."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.data.labelled import AnomalyLabelled
from adlightning.methods import ADGAN, AnoGAN
from adlightning.methods.adgan import CriticTurns
from adlightning.methods.parts.adversarial import GradientPenalty
from adlightning.methods.parts.inversion import LatentSearch
from adlightning.preprocessing import StandardizeFeatures
from adlightning.testing import Blobs

TWO_STEPS = {ADGAN: LatentSearch(n_steps=2), AnoGAN: LatentSearch(1, 2, 0.01, lr_weights=0)}


class Generator(nn.Module):
    """Latents (B, latent_dim) to features (B, D)."""

    def __init__(self, latent_dim: int, shape: tuple[int, ...], output: str, hidden: int = 16) -> None:
        super().__init__()
        assert output == "linear"
        self.layers = nn.Sequential(nn.Linear(latent_dim, hidden), nn.Tanh(), nn.Linear(hidden, shape[0]))

    def forward(self, z: Tensor) -> Tensor:
        """Features (B, D)."""
        made: Tensor = self.layers(z)
        return made


class Critic(nn.Module):
    """Features (B, D) to a number each."""

    def __init__(self, shape: tuple[int, ...], batch_norm: bool, hidden: int = 16) -> None:
        super().__init__()
        norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
        self.features = nn.Sequential(nn.Linear(shape[0], hidden), *norm, nn.ReLU())
        self.last = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """One number a sample, (B,)."""
        values: Tensor = self.last(self.features(x)).squeeze(1)
        return values


OWN: dict[str, Any] = {
    "latent_dim": 8,
    "critic_turns": CriticTurns(steps=1, bursts=False),
    "generator": partial(Generator, hidden=12),
    "critic": Critic,
    "lipschitz": GradientPenalty(weight=1.0),
    "critic_optimizer": partial(AdamW, lr=1e-2, weight_decay=1e-3),
    "generator_optimizer": partial(AdamW, lr=1e-2, weight_decay=1e-3),
    "lr_scheduler": partial(CosineAnnealingLR, T_max=4),
    "preprocessing": StandardizeFeatures,
}


@pytest.mark.parametrize("cls", [ADGAN, AnoGAN])
def test_networks_optimiser_and_schedule_of_ones_own_on_a_table_go_on_as_if_never_stopped(
    make_trainer: MakeTrainer, tmp_path: Path, cls: Any
) -> None:
    def fit(epochs: int, **options: Any) -> ADGAN:
        pl.seed_everything(0, verbose=False)
        detector: ADGAN = cls(**OWN, search=TWO_STEPS[cls])
        data = AnomalyLabelled(Blobs(), batch_size=50, seed=0)
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(detector, datamodule=data, **options)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        expected = 1e-2 * (1 + math.cos(math.pi * epochs / 4)) / 2
        assert [o.param_groups[0]["lr"] for o in trainer.optimizers] == [pytest.approx(expected)] * 2
        return detector

    whole = fit(3)
    fit(1)
    resumed = fit(3, ckpt_path=tmp_path / "1.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    loaded = load_detector(tmp_path / "3.ckpt")
    assert isinstance(loaded.generator, Generator)
    x = Blobs().load("train")
    assert x is not None
    assert isinstance(x.x, Tensor)
    scores = whole.score(x.x)
    torch.testing.assert_close(torch.from_numpy(loaded.score(x.x)), torch.from_numpy(scores), rtol=1e-5, atol=1e-6)


OTHER: dict[str, Any] = {"depth": 3}


class Other(Critic):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, None]


class Always(Critic):
    def __init__(self, shape: tuple[int, ...], batch_norm: bool) -> None:
        super().__init__(shape, batch_norm=True)


class Bare(nn.Linear):
    def __init__(self, shape: tuple[int, ...], batch_norm: bool) -> None:
        super().__init__(shape[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(1)


class Small(nn.Linear):
    def __init__(self, latent_dim: int, shape: tuple[int, ...], output: str) -> None:
        super().__init__(latent_dim, 3)


class Branching(Generator):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z if z.mean() > 0 else -z)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (ADGAN, {"critic": Other}, r"critic must give one number a sample, \(2,\) for 2 samples, Other gives \(2, 1\)"),
        (ADGAN, {"critic": Always}, "critic: Always has a BatchNorm, which couples samples"),
        (ADGAN, {"critic": partial(Critic, **OTHER)}, r"critic: Critic cannot be made with \(shape, batch_norm\)"),
        (
            ADGAN,
            {"generator": Small},
            r"generator must make samples of shape \(2, 6\) from 2 latents, Small makes \(2, 3\)",
        ),
        (ADGAN, {"generator": partial(Generator, **OTHER)}, r"generator: Generator cannot be made with \(latent_dim"),
        (ADGAN, {"generator": Branching}, "generator: Branching cannot be searched with its weights: .* control flow"),
        (AnoGAN, {"critic": Bare}, r"critic: Bare must have a method features\(x\)"),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_training(
    cls: type[ADGAN], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**{**OWN, **options}).configure_for(InputSpec("table", (6,)))


def test_a_generator_that_cannot_be_batched_will_do_where_latents_alone_are_searched() -> None:
    for options in ({"search": LatentSearch(lr_weights=0)}, {"score_type": "critic"}):
        ADGAN(**{**OWN, "generator": Branching}, **options).configure_for(InputSpec("table", (6,)))
