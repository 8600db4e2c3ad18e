"""WAIC: its formula by hand, members that train as if alone, turns, critics that become classifiers, densities."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from gan_cases import (
    OWN_OPTIMIZERS,
    OWN_SCHEDULE,
    OwnCritic,
    OwnGenerator,
    images,
    own_parts_train_score_and_are_resumed as trained_and_resumed,
    stripes,
)
from torch import Tensor, nn
from torch.optim import SGD, Adam

from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ranking_metrics
from adlightning.methods import WAIC, DensityWAIC
from adlightning.methods.adgan import CriticTurns
from adlightning.methods.parts import densities
from adlightning.methods.parts.adversarial import GradientPenalty, WeightClipping
from adlightning.methods.waic import waic
from adlightning.networks.gan import DCGANCritic, DCGANGenerator
from adlightning.networks.glow import Glow
from adlightning.networks.vae_density import VAEDensity
from adlightning.preprocessing import SymmetricRange, UnitRange

SMALL: dict[str, Any] = {
    "n_members": 3,
    "generator": partial(DCGANGenerator, width=4),
    "critic": partial(DCGANCritic, width=4),
    "latent_dim": 8,
    "critic_turns": CriticTurns(steps=2, bursts=False),
    "critic_optimizer": partial(Adam, lr=1e-3, betas=(0.0, 0.9)),
    "generator_optimizer": partial(Adam, lr=1e-3, betas=(0.0, 0.9)),
    "preprocessing": SymmetricRange,
}


def built(cls: type[WAIC | DensityWAIC] = WAIC, **options: Any) -> Any:
    torch.manual_seed(0)
    detector = cls(**options)
    detector.configure_for(InputSpec("image", (1, 16, 16)))
    return detector.eval()


class Hidden(OwnCritic):
    """A hidden layer, without BatchNorm."""

    def __init__(self, shape: tuple[int, ...], batch_norm: bool) -> None:
        super().__init__(shape)


# ---- the formula -----------------------------------------------------------------------------------------------------


def test_waic_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, -3.0], [3.0, 2.0, 0.0], [8.0, 2.0, 3.0]])
    # means 4, 2, 0; squared differences 9 + 1 + 16, 0, 9 + 0 + 9, over 3 members
    torch.testing.assert_close(waic(values), torch.tensor([4 - 26 / 3, 2.0, -6.0]))


def test_waic_keeps_its_digits_where_log_probabilities_are_large() -> None:
    values = torch.tensor([-20001.0, -20000.0, -19999.0])[:, None]
    assert waic(values).item() == pytest.approx(-20000 - 2 / 3, abs=2e-3)


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_a_score_is_variance_less_mean(spread: float) -> None:
    detector, x = built(**{**SMALL, "n_members": 2, "critic": Hidden}), images(3)
    for critic, value in zip(detector.critics, (1 + spread, 1 - spread), strict=True):
        nn.init.zeros_(critic.last.weight)
        nn.init.constant_(critic.last.bias, value)
    torch.testing.assert_close(detector.anomaly_score(x), torch.full((3,), spread**2 - 1))


# ---- critics ---------------------------------------------------------------------------------------------------------


def test_members_start_and_draw_apart() -> None:
    detector = built(**SMALL)
    for networks in (detector.critics, detector.generators):
        first, second, third = (torch.cat([w.flatten() for w in member.parameters()]) for member in networks)
        assert not torch.allclose(first, second)
        assert not torch.allclose(second, third)
    copied = copy.deepcopy(detector.generators[0])
    detector.generators = nn.ModuleList([copied, copied])
    one, other = detector.fakes(4)
    assert not torch.allclose(one, other)


class Linear(nn.Module):
    """D(x) = w . x, with w = 0 at the start."""

    def __init__(self, shape: tuple[int, ...], batch_norm: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(math.prod(shape)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


def one_step(make_trainer: MakeTrainer, **options: Any) -> tuple[Any, Tensor]:
    """A detector of two members after one batch, and the images of the batch, prepared; it generates -1 and 0.5."""

    class Known(WAIC):
        def fakes(self, n: int) -> list[Tensor]:
            return [torch.full((n, 1, 16, 16), value) for value in (-1.0, 0.5)]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen = self.preprocess(batch.x)
            return super().training_step(batch, batch_idx)

    given = {**SMALL, "n_members": 2, "critic": Linear, "critic_optimizer": partial(SGD, lr=0.1), **options}
    torch.manual_seed(0)
    detector = Known(**given)
    make_trainer(max_epochs=1, limit_train_batches=1).fit(detector, datamodule=stripes())
    return detector, detector.seen


def test_each_critic_takes_the_step_that_it_would_take_alone(make_trainer: MakeTrainer) -> None:
    """Down the mean of D(G(z)) - D(x), whose gradient is the difference of the means; clipped."""
    detector, real = one_step(make_trainer, lipschitz=WeightClipping(bound=0.12))
    for critic, fake in zip(detector.critics, (-1.0, 0.5), strict=True):
        by_hand = -0.1 * (fake - real.flatten(1).mean(dim=0))
        torch.testing.assert_close(critic.weight.detach(), by_hand.clamp(-0.12, 0.12))


def test_after_their_epochs_as_critics_they_are_classifiers(make_trainer: MakeTrainer) -> None:
    """Of D = 0 the cross-entropy is log 2, and its gradient half the mean of fakes less that of the data, halved."""
    detector, real = one_step(make_trainer, lipschitz=WeightClipping(bound=0.12))
    loss = detector._classifier_step
    detector.players.minimise = lambda total, *_: total.backward()
    for critic in detector.critics:
        nn.init.zeros_(critic.weight)
        critic.weight.grad = None
    made = loss(real)
    assert made["loss"].item() == pytest.approx(math.log(2))
    for critic, fake in zip(detector.critics, (-1.0, 0.5), strict=True):
        torch.testing.assert_close(critic.weight.grad, (fake - real.flatten(1).mean(dim=0)) / 4)


class Moves(pl.Callback):
    """Whether critics and generators moved in each step."""

    def __init__(self) -> None:
        self.moved: list[tuple[bool, bool]] = []

    def _weights(self, module: Any) -> list[Tensor]:
        networks = (module.critics, module.generators)
        return [torch.cat([w.detach().flatten() for w in members.parameters()]) for members in networks]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.before = self._weights(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *rest: Any) -> None:
        critics, generators = (
            not torch.equal(*pair) for pair in zip(self.before, self._weights(pl_module), strict=True)
        )
        self.moved.append((critics, generators))


def test_generators_move_in_their_turn_and_stay_once_critics_are_classifiers(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    detector, watch = WAIC(**{**SMALL, "wgan_epochs": 1}), Moves()
    make_trainer(max_epochs=2, callbacks=[watch]).fit(detector, datamodule=stripes())
    assert watch.moved == [(True, False), (True, True), (True, False), *[(True, False)] * 3]
    assert detector.steps_taken.tolist() == [1, 1]
    assert detector.ready_to_score()


def test_a_fit_that_ends_before_its_critics_are_classifiers_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"max_epochs counts the first phase and must exceed model\.wgan_epochs=2"):
        make_trainer(max_epochs=2).fit(WAIC(**{**SMALL, "wgan_epochs": 2}), datamodule=stripes())


def test_networks_optimisers_and_a_schedule_of_ones_own_train_score_and_are_resumed_to_the_bit(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        **SMALL,
        "generator": partial(OwnGenerator, hidden=12),
        "critic": Hidden,
        "critic_optimizer": OWN_OPTIMIZERS["AdamW"],
        "generator_optimizer": OWN_OPTIMIZERS["SGD"],
        "lr_scheduler": OWN_SCHEDULE,
    }
    first = {"critics": 2e-3, "generators": 1e-2}
    trained_and_resumed(make_trainer, tmp_path, lambda: WAIC(**options), first)


def test_generated_images_are_of_each_member_alike() -> None:
    detector = built(**SMALL)
    made = detector.generated(7)
    assert made.shape == (7, 1, 16, 16)
    assert torch.equal(made, detector.generated(7))
    assert made.abs().max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_members": 1}, "n_members must be at least 2, got 1"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"wgan_epochs": -1}, "wgan_epochs must not be negative, got -1"),
        ({"lipschitz": GradientPenalty(weight=0.0)}, "lipschitz.weight must be positive, got 0"),
        ({"critic": SGD}, "critic must be a subclass of Module"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WAIC(**{**SMALL, **options})


# ---- densities -------------------------------------------------------------------------------------------------------

FLOW: dict[str, Any] = {"n_members": 2, "density": partial(Glow, steps=1, width=8), "optimizer": partial(Adam, lr=5e-3)}
VAES: dict[str, Any] = {
    "n_members": 2,
    "density": partial(VAEDensity, latent_dim=4, width=8, samples=2),
    "optimizer": partial(Adam, lr=2e-2),
}


def test_a_score_of_densities_is_variance_less_mean_of_their_nats() -> None:
    detector, x = built(DensityWAIC, **FLOW), images(4)
    first, second = (member(x.float() / 255) for member in detector.members)
    assert not torch.allclose(first, second)
    expected = ((first - second) / 2).square() - (first + second) / 2
    torch.testing.assert_close(detector.anomaly_score(x), expected)


@pytest.mark.parametrize(("cls", "options"), [(WAIC, SMALL), (DensityWAIC, FLOW), (DensityWAIC, VAES)])
def test_a_fit_ranks_stripes(make_trainer: MakeTrainer, cls: Any, options: dict[str, Any]) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = cls(**options), stripes()
    trainer = make_trainer(max_epochs=5)
    trainer.fit(detector, datamodule=data)
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"]
    assert ranking_metrics(tested.scores, tested.labels)["auroc"] > 0.9
    assert detector.generated(5).shape == (5, 1, 16, 16)


class Unseen(nn.Module):
    """A density that draws nothing."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.level - x.flatten(1).sum(dim=1)


def test_a_density_that_draws_nothing_has_no_picture() -> None:
    """A run that is trained and tested must not end with an error for want of one."""
    detector = cast(DensityWAIC, built(DensityWAIC, density=Unseen, preprocessing=partial(UnitRange, resize=8)))
    assert detector.generated(7).shape == (0, 1, 8, 8)


def test_a_density_that_draws_slowly_draws_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densities, "MANY_PASSES", 0)
    small = partial(Glow, levels=1, steps=1, width=4)
    detector = cast(DensityWAIC, built(DensityWAIC, density=small, preprocessing=partial(UnitRange, resize=8)))
    assert len(detector.generated(60)) == 50  # ten of each member


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_members": 1}, "n_members must be at least 2, got 1"),
        ({"preprocessing": SymmetricRange}, "preprocessing must be UnitRange, .* got SymmetricRange"),
        ({"density": partial(Glow, levels=5)}, "levels must be at most 4 for images of 16x16"),
        ({"preprocessing": partial(UnitRange, resize=7)}, "sides are even, got 7x7"),
    ],
)
def test_what_densities_do_not_take_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(DensityWAIC, **{**FLOW, **options})
