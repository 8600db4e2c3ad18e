"""Fence GAN: losses by hand, phases and players, its networks, scores and their sign, a checkpoint, refusals."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from gan_cases import (
    OWN_OPTIMIZERS,
    OWN_SCHEDULE,
    Columns,
    OwnCritic,
    OwnEncoder,
    OwnGenerator,
    Rates,
    adam,
    images,
    own_parts_train_score_and_are_resumed,
    stripes,
)
from torch import Tensor, nn

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ranking_metrics
from adlightning.methods import FenceGAN
from adlightning.methods.fence_gan import dispersion, encirclement_loss
from adlightning.methods.parts.adversarial import fake_loss, real_loss
from adlightning.networks.fence_gan import FenceDiscriminator, FenceGenerator, maps
from adlightning.preprocessing import SymmetricRange


def networks(network: str = "dense", width: int = 4, hidden: int = 16) -> dict[str, Any]:
    """Both networks of these sizes."""
    sizes: dict[str, Any] = {"network": network, "width": width, "hidden": hidden}
    return {"generator": partial(FenceGenerator, **sizes), "discriminator": partial(FenceDiscriminator, **sizes)}


SMALL: dict[str, Any] = {
    "latent_dim": 8,
    **networks(),
    "pretrain_epochs": 1,
    "discriminator_optimizer": adam(1e-3),
    "generator_optimizer": adam(1e-3),
    "preprocessing": SymmetricRange,
}


def built(**options: Any) -> FenceGAN:
    torch.manual_seed(0)
    detector = FenceGAN(**{**SMALL, **options})
    detector.configure_for(InputSpec("image", (1, 16, 16)))
    return detector.eval()


def logit(p: float) -> float:
    return math.log(p / (1 - p))


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_networks_fit_images_of_each_size(shape: tuple[int, int, int], network: Any) -> None:
    generator = FenceGenerator(5, shape, network=network, width=2, hidden=6)
    discriminator = FenceDiscriminator(shape, network, width=2, hidden=6)
    made = generator(torch.randn(3, 5))
    assert made.shape == (3, *shape)
    assert made.abs().max() <= 1
    assert discriminator(made).shape == (3,)


def test_networks_have_the_released_sizes() -> None:
    def sizes(network: nn.Module) -> list[tuple[int, ...]]:
        kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
        return [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, kinds)]

    assert sizes(FenceGenerator(200, (1, 28, 28))) == [
        *((1024, 200), (128 * 49, 1024), (128, 64, 4, 4), (64, 1, 4, 4)),
    ]
    assert sizes(FenceDiscriminator((1, 28, 28))) == [(64, 1, 4, 4), (64, 64, 4, 4), (1024, 64 * 49), (1, 1024)]
    assert sizes(FenceGenerator(256, (3, 32, 32), network="conv", width=32)) == [
        *((1024, 256), (256, 128, 5, 5), (128, 64, 5, 5), (64, 32, 5, 5), (32, 3, 5, 5)),
    ]
    assert sizes(FenceDiscriminator((3, 32, 32), "conv", width=32)) == [
        *((32, 3, 5, 5), (64, 32, 5, 5), (128, 64, 5, 5), (256, 128, 5, 5), (1, 1024)),
    ]


def test_other_sides_and_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="side that 4 divides for network: dense, got 10"):
        maps(10, "dense")
    with pytest.raises(ValueError, match="side of 4 to 7 times a power of 2"):
        maps(18, "conv")
    with pytest.raises(ValueError, match="network must be one of dense, conv, got 'mlp'"):
        maps(16, "mlp")  # type: ignore[arg-type]


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_losses_by_hand() -> None:
    logits = torch.tensor([logit(0.8), logit(0.5)])
    assert real_loss(logits).item() == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert fake_loss(logits).item() == pytest.approx(-(math.log(0.2) + math.log(0.5)) / 2)
    by_hand = -(0.1 * math.log(0.8) + 0.9 * math.log(0.2) + math.log(0.5)) / 2
    assert encirclement_loss(logits, 0.1).item() == pytest.approx(by_hand)
    assert encirclement_loss(logits, 0.1, "log_distance").item() == pytest.approx((math.log(0.7) + math.log(0.4)) / 2)


@pytest.mark.parametrize("form", ["cross_entropy", "log_distance"])
def test_encirclement_is_least_at_alpha(form: Any) -> None:
    losses = {p: encirclement_loss(torch.tensor([logit(p)]), 0.3, form).item() for p in (0.1, 0.29, 0.3, 0.31, 0.9)}
    assert min(losses, key=losses.__getitem__) == 0.3
    assert losses[0.1] > losses[0.29]
    assert losses[0.9] > losses[0.31]


def test_dispersion_by_hand() -> None:
    made = torch.tensor([[[3.0, 4.0]], [[-3.0, -4.0]], [[0.0, 0.0]]], requires_grad=True)
    assert dispersion(made).item() == pytest.approx(10 / 3)
    dispersion(torch.zeros(1, 2, 2, requires_grad=True)).backward()
    dispersion(made).backward()
    assert made.grad is not None
    # d/dx_i of the mean distance is (u_i - mean of u) / 3, with u_i the direction of x_i from the centre
    torch.testing.assert_close(made.grad, torch.tensor([[[0.6, 0.8]], [[-0.6, -0.8]], [[0.0, 0.0]]]) / 3)


# ---- training --------------------------------------------------------------------------------------------------------


class Watch(pl.Callback):
    """Which player's weights each batch moved."""

    def __init__(self) -> None:
        self.moved: list[tuple[bool, bool]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        self.before = copy.deepcopy([module.discriminator.state_dict(), module.generator.state_dict()])

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        now = [module.discriminator.state_dict(), module.generator.state_dict()]
        moved = [
            all(not torch.equal(after[key], old[key]) for key in old if key.endswith("weight"))
            for old, after in zip(self.before, now, strict=True)
        ]
        self.moved.append((moved[0], moved[1]))


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("separate_steps", [True, False])
def test_the_discriminator_is_trained_alone_first(
    make_trainer: MakeTrainer, network: Any, separate_steps: bool
) -> None:
    torch.manual_seed(0)
    detector, watch = FenceGAN(**{**SMALL, **networks(network)}, separate_steps=separate_steps), Watch()
    trainer = make_trainer(max_epochs=2, callbacks=[watch])
    trainer.fit(detector, datamodule=stripes())
    assert watch.moved == [(True, False)] * 3 + [(True, True)] * 3
    assert trainer.global_step == (6 + 3 if not separate_steps else 12 + 3)
    assert [optimizer.param_groups[0]["betas"] for optimizer in trainer.optimizers] == [(0.5, 0.999)] * 2
    assert len(detector.curves.rows) == 3


def test_running_statistics_of_the_discriminator_move_in_its_own_step_alone(make_trainer: MakeTrainer) -> None:
    """After one batch: 0.99 (0.99 start + 0.01 of the normals) + 0.01 of the generated, and nothing of G's step."""
    pl.seed_everything(0, verbose=False)
    detector, data = FenceGAN(**{**SMALL, **networks("conv"), "pretrain_epochs": 0}), stripes()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    norm = next(module for module in detector.discriminator.modules() if isinstance(module, nn.BatchNorm2d))
    seen, used = [], []

    def keep(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if norm.training:
            seen.append(inputs[0].detach().double().numpy())
            used.append(output.detach().double().numpy())

    norm.register_forward_hook(keep)
    make_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(detector, datamodule=data)
    assert len(seen) == 3  # normals, generated ones, and generated ones again in the generator's step
    means = [x.mean(axis=(0, 2, 3)) for x in seen]
    variances = [x.var(axis=(0, 2, 3), ddof=1) for x in seen]
    mean = 0.99 * (0.01 * means[0]) + 0.01 * means[1]
    variance = 0.99 * (0.99 * 1 + 0.01 * variances[0]) + 0.01 * variances[1]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-5)
    assert norm.num_batches_tracked is not None
    assert norm.num_batches_tracked.item() == 2
    assert norm.track_running_stats
    # the generator's step was normalised by its own batch: scale 1 and shift 0 are as after one step of 1e-3
    x = seen[2]
    by_batch = (x - means[2][:, None, None]) / np.sqrt(x.var(axis=(0, 2, 3)) + 1e-3)[:, None, None]
    np.testing.assert_allclose(used[2], by_batch, atol=0.01)


def test_each_player_has_its_learning_rate() -> None:
    optimizers, _ = built(discriminator_optimizer=adam(1e-3), generator_optimizer=adam(2e-3)).configure_optimizers()
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [1e-3, 2e-3]


@pytest.mark.parametrize("network", ["dense", "conv"])
def test_fit_ranks_stripes_and_its_checkpoint_is_whole(make_trainer: MakeTrainer, tmp_path: Path, network: Any) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = FenceGAN(**{**SMALL, **networks(network)}, gamma=0.5), stripes(validation_fraction=0.2)
    trainer = make_trainer(max_epochs=30)
    trainer.fit(detector, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"]
    assert ranking_metrics(tested.scores, tested.labels)["auroc"] > 0.9
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    loaded = load_detector(tmp_path / "last.ckpt")
    torch.testing.assert_close(loaded.anomaly_score(x), torch.from_numpy(tested.scores).float(), rtol=1e-4, atol=1e-5)
    assert math.isfinite(detector.threshold.item())


def test_a_fit_within_the_first_phase_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"max_epochs counts the first phase and must exceed model\.pretrain_epochs=2"):
        make_trainer(max_epochs=2).fit(FenceGAN(**{**SMALL, "pretrain_epochs": 2}), datamodule=stripes())


# ---- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["dense", "conv"])
def test_scores_are_negative_logits_and_do_not_depend_on_company(network: Any) -> None:
    detector, x = built(**networks(network), pretrain_epochs=0), images(7)
    whole = detector.anomaly_score(x)
    torch.testing.assert_close(whole, -detector.discriminator(x.float() / 127.5 - 1))
    order = torch.tensor([4, 2, 6, 0])
    torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(detector.anomaly_score(x[3:4]), whole[3:4], rtol=1e-4, atol=1e-7)
    assert whole.std() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"alpha": 1.0}, r"alpha must lie in \(0, 1\), got 1"),
        ({"beta": -1.0}, "beta must not be negative, got -1"),
        ({"gamma": math.inf}, "gamma must not be negative, got inf"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive and finite, or null for no bound, got 0"),
        ({"generator_optimizer": FenceGenerator}, "generator_optimizer must be a subclass of Optimizer"),
        ({"pretrain_epochs": -1}, "pretrain_epochs must not be negative, got -1"),
        ({"encirclement": "square"}, "encirclement must be one of cross_entropy, log_distance, got 'square'"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FenceGAN(**{**SMALL, **options})


# ---- parts of one's own ----------------------------------------------------------------------------------------------


def test_networks_optimisers_and_a_schedule_of_ones_own_train_score_and_are_resumed_to_the_bit(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        **SMALL,
        "generator": partial(OwnGenerator, hidden=12),
        "discriminator": OwnCritic,
        "discriminator_optimizer": OWN_OPTIMIZERS["AdamW"],
        "generator_optimizer": OWN_OPTIMIZERS["SGD"],
        "lr_scheduler": OWN_SCHEDULE,
        "pretrain_epochs": 0,
    }
    first = {"discriminator": 2e-3, "generator": 1e-2}
    own_parts_train_score_and_are_resumed(make_trainer, tmp_path, lambda: FenceGAN(**options), first)


def test_schedules_begin_with_a_players_first_epoch(make_trainer: MakeTrainer) -> None:
    rates = Rates()
    halved = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    detector = FenceGAN(**{**SMALL, "pretrain_epochs": 2}, lr_scheduler=halved)
    make_trainer(max_epochs=4, callbacks=[rates]).fit(detector, datamodule=stripes())
    assert [seen["discriminator"] for seen in rates.rates] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    assert [seen["generator"] for seen in rates.rates] == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (networks(width=0), "width must be at least 1, got 0"),
        (networks(hidden=0), "hidden must be at least 1, got 0"),
        (networks("mlp"), "network must be one of dense, conv, got 'mlp'"),
        ({"generator": OwnEncoder}, "generator cannot be made for 8, "),
        ({"discriminator": Columns}, r"discriminator must give \(B,\) for \(B, 1, 16, 16\), Columns gives \(B, 1\)"),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(**options)
