"""ALAD: losses by hand, networks, players, averages of the weights, scores without company, a checkpoint, refusals."""

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
    Columns,
    OwnCritic,
    OwnEncoder,
    OwnGenerator,
    adam,
    images,
    own_parts_train_score_and_are_resumed,
    stripes,
)
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ranking_metrics
from adlightning.methods import ALAD
from adlightning.methods.alad import discriminator_loss, encoder_generator_loss, follow_
from adlightning.networks.alad import (
    ALADEncoder,
    ALADGenerator,
    ImagePairDiscriminator,
    JointDiscriminator,
    LatentPairDiscriminator,
)
from adlightning.preprocessing import SymmetricRange


def networks(width: int, pairing: Any = "height") -> dict[str, Any]:
    """Networks of this width."""
    return {
        "encoder": partial(ALADEncoder, width=width),
        "generator": partial(ALADGenerator, width=width),
        "joint_discriminator": partial(JointDiscriminator, width=width, latent_units=5, joint_units=7),
        "image_discriminator": partial(ImagePairDiscriminator, width=width, pairing=pairing),
    }


def adams(lr: float) -> dict[str, Any]:
    """Optimisers of both groups of players."""
    return {"discriminator_optimizer": adam(lr), "generator_optimizer": adam(lr)}


SMALL: dict[str, Any] = {
    "latent_dim": 6,
    **networks(4),
    "ema_decay": 0.5,
    **adams(1e-3),
    "preprocessing": SymmetricRange,
}
SCORES = ["features", "absolute", "euclidean", "logit"]


def built(**options: Any) -> ALAD:
    torch.manual_seed(0)
    detector = ALAD(**{**SMALL, **options})
    detector.configure_for(InputSpec("image", (1, 16, 16)))
    for module in detector.modules():  # statistics of networks that were trained
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_(0, 0.1)
    return detector.eval()


def logit(p: float) -> float:
    return math.log(p / (1 - p))


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairing", ["height", "channels"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_discriminators_take_images_of_each_size(shape: tuple[int, int, int], pairing: Any) -> None:
    x, z = torch.rand(3, *shape), torch.rand(3, 6)
    assert JointDiscriminator(shape, 6, 2, 5, 7)(x, z).shape == (3,)
    pairs = ImagePairDiscriminator(shape, 4, pairing)
    assert pairs(x, x).shape == (3,)
    assert pairs.features(x, x).shape == (3, pairs.last.in_features)
    assert LatentPairDiscriminator(6)(z, z).shape == (3,)


def test_discriminators_have_the_released_sizes() -> None:
    shape = (3, 32, 32)
    joint = JointDiscriminator(shape, 100)
    assert [m.weight.shape[0] for m in joint.image.modules() if isinstance(m, nn.Conv2d)] == [128, 256, 512]
    assert [tuple(weight.shape) for name, weight in joint.named_parameters() if name.startswith(("joint", "last"))] == [
        *((1024, 512 * 16 + 512), (1024,), (1, 1024), (1,)),
    ]
    assert ImagePairDiscriminator(shape).last.in_features == 128 * 16 * 8
    assert ImagePairDiscriminator(shape, pairing="channels").last.in_features == 128 * 8 * 8


def test_spectra_are_normalised_but_for_the_last_layers() -> None:
    detector = built()
    for network in (detector.encoder, *detector.discriminators.values()):
        layers = {name: m for name, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
        assert {name for name, layer in layers.items() if not is_parametrized(layer)} == {"last"}
    assert not any(is_parametrized(m) for m in detector.generator.modules())
    assert not any(is_parametrized(m) for m in built(spectral_norm=False).modules())
    convolution = detector.image_pairs.convolutions[0]
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


# ---- losses and averages ---------------------------------------------------------------------------------------------


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([logit(0.8), logit(0.5)]), torch.tensor([logit(0.1), logit(0.5)])
    by_hand = -(math.log(0.8) + math.log(0.5)) / 2 - (math.log(0.9) + math.log(0.5)) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(by_hand)
    turned = -(math.log(0.2) + math.log(0.5)) / 2 - (math.log(0.1) + math.log(0.5)) / 2
    assert encoder_generator_loss(real, fake).item() == pytest.approx(turned)
    cycles = [torch.tensor([logit(0.3)]), torch.tensor([logit(0.6)])]
    expected = turned - math.log(0.3) - math.log(0.6)
    assert encoder_generator_loss(real, fake, *cycles).item() == pytest.approx(expected)


def test_averages_follow_weights_and_copy_buffers() -> None:
    average, network = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(network.weight, 3.0)
    assert network.running_mean is not None
    assert average.running_mean is not None
    network.running_mean.fill_(7.0)
    follow_(average, network, 0.75)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean.tolist() == [7, 7]
    assert network.weight.tolist() == [3, 3]


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_discriminator", [LatentPairDiscriminator, None])
def test_a_batch_moves_all_weights_and_the_averages_lag(make_trainer: MakeTrainer, latent_discriminator: Any) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = ALAD(**SMALL, latent_discriminator=latent_discriminator), stripes()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    assert len(detector.players.networks) == (5 if latent_discriminator else 4)
    before = copy.deepcopy(dict(detector.named_parameters()))
    make_trainer(max_epochs=1, limit_train_batches=1).fit(detector, datamodule=data)
    now = dict(detector.named_parameters())
    players = tuple(detector.players.networks)
    assert all(not torch.equal(before[name], weight) for name, weight in now.items() if name.startswith(players))
    for average, network in zip(detector.averages, ("encoder", "generator", "image_pairs"), strict=True):
        for name, mean in average.named_parameters():
            halfway = (before[f"{network}.{name}"] + now[f"{network}.{name}"]) / 2
            torch.testing.assert_close(mean, halfway)


def test_fit_ranks_stripes_by_every_score_and_its_checkpoint_is_whole(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    pl.seed_everything(0, verbose=False)
    options = {**SMALL, **networks(16), "ema_decay": 0.9, **adams(2e-3), "spectral_norm": False}  # which takes longer
    detector, data = ALAD(**options), stripes(validation_fraction=0.2)
    trainer = make_trainer(max_epochs=60)
    trainer.fit(detector, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"]
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    loaded = load_detector(tmp_path / "last.ckpt")
    assert isinstance(loaded, ALAD)
    torch.testing.assert_close(loaded.anomaly_score(x), torch.from_numpy(tested.scores).float(), rtol=1e-4, atol=1e-5)
    assert math.isfinite(detector.threshold.item())
    for score in SCORES:
        loaded.score_type = score  # type: ignore[assignment]
        scores = loaded.anomaly_score(x).detach().double().numpy()
        assert ranking_metrics(scores, tested.labels)["auroc"] > 0.9, score


# ---- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_scores_are_what_their_names_say(ema_decay: float) -> None:
    detector, x = built(ema_decay=ema_decay), images(4)
    encoder, generator, pairs = detector.averages if ema_decay else detector.scoring()
    assert isinstance(pairs, ImagePairDiscriminator)
    prepared = x.float() / 127.5 - 1
    rebuilt = generator(encoder(prepared))
    residual = (prepared - rebuilt).flatten(1)
    expected = {
        "features": (pairs.features(prepared, prepared) - pairs.features(prepared, rebuilt)).abs().sum(dim=1),
        "absolute": residual.abs().sum(dim=1),
        "euclidean": residual.norm(dim=1),
        "logit": -pairs(prepared, rebuilt),
    }
    for score, values in expected.items():
        detector.score_type = score  # type: ignore[assignment]
        torch.testing.assert_close(detector.anomaly_score(x), values)


@pytest.mark.parametrize("score", SCORES)
def test_scores_do_not_depend_on_batch_or_company(score: Any) -> None:
    detector, x = built(score_type=score), images(7)
    whole = detector.anomaly_score(x)
    order = torch.tensor([4, 2, 6, 0])
    torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(detector.anomaly_score(x[3:4]), whole[3:4], rtol=1e-4, atol=1e-6)
    assert whole.std() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\), got 1"),
        ({"score_type": "energy"}, "score_type must be one of features, absolute, euclidean, logit, got 'energy'"),
        ({"max_gradient_norm": -1.0}, "max_gradient_norm must be positive and finite, or null for no bound, got -1"),
        ({"encoder": "ALADEncoder"}, "encoder must be a subclass of Module, .* got 'ALADEncoder'"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALAD(**{**SMALL, **options})


# ---- parts of one's own ----------------------------------------------------------------------------------------------


class OwnJoint(OwnCritic):
    """Of an image and a latent."""

    def __init__(self, shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__((math.prod(shape) + latent_dim,))


class OwnLatentPairs(OwnCritic):
    """Of two latents."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__((2 * latent_dim,))


class Featureless(OwnCritic):
    """Without what a score by features needs."""

    features = None  # type: ignore[assignment]

    def forward(self, *x: Tensor) -> Tensor:
        values: Tensor = self.last(self.hidden(torch.cat([part.flatten(1) for part in x], dim=1)))
        return values.flatten()


OWN: dict[str, Any] = {
    "encoder": OwnEncoder,
    "generator": partial(OwnGenerator, hidden=12),
    "joint_discriminator": OwnJoint,
    "image_discriminator": partial(OwnCritic, inputs=2),
    "latent_discriminator": OwnLatentPairs,
}


def test_networks_optimisers_and_a_schedule_of_ones_own_train_score_and_are_resumed_to_the_bit(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    optimizers = {"discriminator_optimizer": OWN_OPTIMIZERS["SGD"], "generator_optimizer": OWN_OPTIMIZERS["AdamW"]}
    options = {**SMALL, **OWN, **optimizers, "lr_scheduler": OWN_SCHEDULE}
    discriminators = dict.fromkeys(("joint", "image_pairs", "latent_pairs"), 1e-2)
    first = {"encoder": 2e-3, "generator": 2e-3, **discriminators}
    whole = own_parts_train_score_and_are_resumed(make_trainer, tmp_path, lambda: ALAD(**options), first)
    assert is_parametrized(whole.get_submodule("joint.hidden"))
    assert not is_parametrized(whole.get_submodule("joint.last"))


def test_networks_of_ones_own_start_as_they_are() -> None:
    torch.manual_seed(0)
    detector = ALAD(**{**SMALL, **OWN, "spectral_norm": False})
    detector.configure_for(InputSpec("image", (1, 16, 16)))
    assert all(weight.std() > 0.02 for weight in detector.image_pairs.parameters() if weight.numel() > 1)
    assert built().generator.get_parameter("layers.0.weight").std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": partial(ALADEncoder, width=0)}, "width must be at least 1, got 0"),
        (
            {"joint_discriminator": partial(JointDiscriminator, latent_units=0)},
            "latent_units must be at least 1, got 0",
        ),
        ({"joint_discriminator": partial(JointDiscriminator, joint_units=0)}, "joint_units must be at least 1, got 0"),
        ({"image_discriminator": partial(ImagePairDiscriminator, width=0)}, "width must be at least 1, got 0"),
        (networks(4, pairing="width"), "pairing must be one of height, channels, got 'width'"),
        (
            {"image_discriminator": partial(Featureless, inputs=2)},
            r"image_discriminator must have a method features that gives \(B, n\)",
        ),
        (
            {"image_discriminator": partial(Columns, inputs=2)},
            r"image_discriminator must give \(B,\) for \(B, 1, 16, 16\) and \(B, 1, 16, 16\), Columns gives \(B, 1\)",
        ),
        ({"latent_discriminator": OwnEncoder}, "latent_discriminator cannot be made for 6: "),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(**options)


def test_other_scores_need_no_features() -> None:
    options: dict[str, Any] = {"image_discriminator": partial(Featureless, inputs=2), "score_type": "logit"}
    assert built(**options).anomaly_score(images(3)).shape == (3,)
