"""Skip-GANomaly: losses and score by hand, the U-Net, both players, scores without company, a checkpoint, refusals."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from gan_cases import (
    OWN_OPTIMIZERS,
    OWN_SCHEDULE,
    OwnCritic,
    adam,
    images,
    own_parts_train_score_and_are_resumed,
    stripes,
)
from torch import Tensor, nn

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.methods import SkipGANomaly
from adlightning.methods.skip_ganomaly import contextual_loss, latent_loss, skip_ganomaly_score
from adlightning.networks.unet import FeatureDiscriminator, UNet
from adlightning.preprocessing import SymmetricRange

SMALL: dict[str, Any] = {
    "generator": partial(UNet, width=4),
    "discriminator": partial(FeatureDiscriminator, n_features=6, width=4),
    "generator_optimizer": adam(1e-3),
    "discriminator_optimizer": adam(1e-3),
    "preprocessing": SymmetricRange,
}


def built(**options: Any) -> SkipGANomaly:
    torch.manual_seed(0)
    detector = SkipGANomaly(**{**SMALL, **options})
    detector.configure_for(InputSpec("image", (1, 16, 16)))
    for module in detector.modules():  # statistics of networks that were trained
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_(0, 0.1)
    return detector.eval()


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_networks_fit_images_of_each_size(shape: tuple[int, int, int]) -> None:
    made = UNet(shape, width=2)(torch.rand(3, *shape))
    assert made.shape == (3, *shape)
    assert made.abs().max() <= 1
    logits, features = FeatureDiscriminator(shape, n_features=5, width=2)(made)
    assert logits.shape == (3,)
    assert features.shape == (3, 5)


def test_unet_has_the_released_sizes_at_32_pixels() -> None:
    network = UNet((3, 32, 32))

    def layers(blocks: nn.ModuleList) -> list[list[int]]:
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        return [[m.in_channels, m.out_channels] for block in blocks for m in block.modules() if isinstance(m, kinds)]

    downs = layers(network.downs)
    assert downs == [[3, 64], [64, 128], [128, 256], [256, 512], [512, 512]]
    ups = layers(network.ups)
    assert ups == [[128, 3], [256, 64], [512, 128], [1024, 256], [512, 512]]
    normed = [sum(isinstance(m, nn.BatchNorm2d) for m in block.modules()) for block in network.downs]
    assert normed == [0, 1, 1, 1, 0]
    assert [sum(isinstance(m, nn.BatchNorm2d) for m in block.modules()) for block in network.ups] == [0, 1, 1, 1, 1]


def test_skips_carry_the_maps_of_the_same_side() -> None:
    torch.manual_seed(0)
    network = UNet((1, 16, 16), width=2).eval()
    with torch.no_grad():
        network.get_parameter("ups.1.1.weight").zero_()  # nothing from below the first map
    x = torch.rand(2, 1, 16, 16)
    below = torch.zeros(2, 2, 8, 8)
    expected = network.ups[0](torch.cat([network.downs[0](x), below], dim=1))
    torch.testing.assert_close(network(x), expected)


def test_sides_that_four_does_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="side that 4 divides, got 10"):
        UNet((1, 10, 10))


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_losses_and_score_by_hand() -> None:
    x, made = torch.tensor([[1.0, -1.0], [0.0, 0.5]]), torch.tensor([[0.5, 0.0], [0.0, 0.5]])
    features, made_features = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, -1.0]])
    assert contextual_loss(x, made).item() == pytest.approx(1.5 / 4)
    assert latent_loss(features, made_features).item() == pytest.approx((4 + 1 + 4) / 4)
    squared = skip_ganomaly_score(x, made, features, made_features, 0.9, "squared")
    assert squared.tolist() == pytest.approx([0.9 * (0.25 + 1) / 2 + 0.1 * 2.5, 0.1 * 2])
    absolute = skip_ganomaly_score(x, made, features, made_features, 0.5, "absolute")
    assert absolute.tolist() == pytest.approx([0.5 * 0.75 + 0.5 * 2.5, 0.5 * 2])


# ---- training --------------------------------------------------------------------------------------------------------


def fitted(make_trainer: MakeTrainer, epochs: int = 1, **options: Any) -> tuple[SkipGANomaly, dict[str, Tensor]]:
    """A detector after so many epochs, and its weights before."""
    pl.seed_everything(0, verbose=False)
    detector, data = SkipGANomaly(**{**SMALL, **options}), stripes()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    before: dict[str, Tensor] = copy.deepcopy(dict(detector.named_parameters()))
    make_trainer(max_epochs=epochs).fit(detector, datamodule=data)
    return detector, before


def test_a_batch_moves_all_weights_of_both_players(make_trainer: MakeTrainer) -> None:
    detector, before = fitted(make_trainer)
    assert all(not torch.equal(before[name], weight) for name, weight in detector.named_parameters())
    assert len(detector.curves.rows) == 3


def test_each_weight_of_the_loss_counts(make_trainer: MakeTrainer) -> None:
    def weights(**options: Any) -> tuple[Tensor, Tensor]:
        detector, _ = fitted(make_trainer, **options)
        of_discriminator = detector.get_parameter("discriminator.features.weight")
        return detector.get_parameter("generator.downs.0.0.weight"), of_discriminator

    reference = weights()
    for option in ({"adversarial_weight": 0.0}, {"contextual_weight": 0.0}, {"latent_weight": 0.0}):
        assert not torch.equal(weights(**option)[0], reference[0])
    assert not torch.equal(weights(discriminator_latent=True)[1], reference[1])


def test_fit_ranks_noise_and_its_checkpoint_is_whole(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = SkipGANomaly(**SMALL), stripes(validation_fraction=0.2)
    trainer = make_trainer(max_epochs=30)
    trainer.fit(detector, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"]
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    loaded = load_detector(tmp_path / "last.ckpt")
    torch.testing.assert_close(loaded.anomaly_score(x), torch.from_numpy(tested.scores).float(), rtol=1e-4, atol=1e-6)
    assert loaded.anomaly_score(images(30)).min() > loaded.anomaly_score(x[:30]).max()
    assert math.isfinite(detector.threshold.item())


# ---- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", ["squared", "absolute"])
def test_scores_do_not_depend_on_batch_or_company(residual: Any) -> None:
    detector, x = built(residual=residual, reconstruction_share=0.3), images(7)
    whole = detector.anomaly_score(x)
    prepared = x.float() / 127.5 - 1
    made = detector.generator(prepared)
    features, made_features = detector.discriminator(prepared)[1], detector.discriminator(made)[1]
    torch.testing.assert_close(whole, skip_ganomaly_score(prepared, made, features, made_features, 0.3, residual))
    order = torch.tensor([4, 2, 6, 0])
    torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(detector.anomaly_score(x[3:4]), whole[3:4], rtol=1e-5, atol=1e-6)
    assert whole.std() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversarial_weight": -1.0}, "adversarial_weight must not be negative, got -1"),
        ({"contextual_weight": math.inf}, "contextual_weight must not be negative, got inf"),
        ({"latent_weight": -1.0}, "latent_weight must not be negative, got -1"),
        ({"reconstruction_share": 1.5}, r"reconstruction_share must lie in \[0, 1\], got 1.5"),
        ({"residual": "cubic"}, "residual must be one of squared, absolute, got 'cubic'"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive and finite, or null for no bound, got 0"),
        ({"discriminator": nn.ReLU()}, r"discriminator must be a subclass of Module, .* got ReLU\(\)"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SkipGANomaly(**{**SMALL, **options})


# ---- parts of one's own ----------------------------------------------------------------------------------------------


class OwnReproducer(nn.Module):
    """A bottleneck of all pixels."""

    def __init__(self, shape: tuple[int, ...], output: str, hidden: int = 8) -> None:
        super().__init__()
        assert output == "tanh"
        n = math.prod(shape)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, n), nn.Tanh(), nn.Unflatten(1, shape)
        )

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.layers(x)
        return images


class OwnDiscriminator(OwnCritic):
    """Logits and features."""

    def forward(self, *x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        features = self.features(*x)
        return self.last(features).flatten(), features


def test_networks_optimisers_and_a_schedule_of_ones_own_train_score_and_are_resumed_to_the_bit(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "generator": partial(OwnReproducer, hidden=6),
        "discriminator": OwnDiscriminator,
        "generator_optimizer": OWN_OPTIMIZERS["AdamW"],
        "discriminator_optimizer": OWN_OPTIMIZERS["SGD"],
        "lr_scheduler": OWN_SCHEDULE,
        "preprocessing": SymmetricRange,
    }
    first = {"generator": 2e-3, "discriminator": 1e-2}
    own_parts_train_score_and_are_resumed(make_trainer, tmp_path, lambda: SkipGANomaly(**options), first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator": partial(FeatureDiscriminator, n_features=0)}, "n_features must be at least 1, got 0"),
        ({"discriminator": partial(FeatureDiscriminator, width=0)}, "width must be at least 1, got 0"),
        ({"generator": partial(UNet, width=0)}, "width must be at least 1, got 0"),
        (
            {"discriminator": OwnCritic},
            r"discriminator must give \(B,\) and \(B, n\) for \(B, 1, 16, 16\), OwnCritic gives \(B,\)",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(**options)
