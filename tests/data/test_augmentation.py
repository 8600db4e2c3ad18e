"""Transforms of training batches: a draw for each sample, by the seed, and unseen by what is fitted or scored."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import kornia.augmentation as kornia
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import Adam
from torchvision import transforms as older
from torchvision.transforms import v2

from adlightning.core.contracts import EvalBatch, InputSpec, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.data.augmentation import Augmentation
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import Autoencoder, DeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks.lenet import LeNetEncoder
from adlightning.testing import Blobs, Stripes

IMAGES = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Count(nn.Module):
    """What passes through, unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return x


class Overwrite(nn.Module):
    """Noise in the place of everything."""

    def forward(self, x: Tensor) -> Tensor:
        return x.random_(0, 256) if x.dtype == torch.uint8 else x.normal_(1000, 50)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("what it needs")


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class SlowFlip(v2.RandomHorizontalFlip):  # type: ignore[misc]
    """By its class none that is done on all images at once."""


class SlowUpsideDown(v2.RandomVerticalFlip):  # type: ignore[misc]
    """As above."""


def seeded(modules: list[nn.Module], x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return Augmentation(modules)(x)


# ---- what is done to a batch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fast", "slow"),
    [(v2.RandomHorizontalFlip(p=0.3), SlowFlip(p=0.3)), (v2.RandomVerticalFlip(), SlowUpsideDown())],
)
def test_flips_of_all_images_at_once_are_those_of_each_by_itself(fast: nn.Module, slow: nn.Module) -> None:
    assert torch.equal(seeded([fast], IMAGES), seeded([slow], IMAGES))
    flipped = [not torch.equal(a, b) for a, b in zip(seeded([fast], IMAGES), IMAGES, strict=True)]
    assert any(flipped)
    assert not all(flipped)


@pytest.mark.parametrize(
    "module",
    [
        v2.RandomAffine(degrees=45),
        v2.Compose([v2.Pad(1), v2.RandomCrop(8)]),
        kornia.RandomAffine(degrees=45, p=1.0),
        kornia.RandomHorizontalFlip(),
        nn.Sequential(v2.RandomRotation(90)),
    ],
)
def test_each_sample_has_a_draw_of_its_own(module: nn.Module) -> None:
    alike = IMAGES[:1].expand(12, -1, -1, -1)
    changed = seeded([module], alike)
    assert changed.dtype == torch.uint8
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 1
    assert torch.equal(changed, seeded([module], alike))
    assert not torch.equal(changed, seeded([module], alike, seed=1))


def test_modules_of_kornia_get_floats_and_their_result_is_rounded() -> None:
    modules: list[nn.Module] = [kornia.RandomAffine(degrees=30, p=1.0), kornia.ColorJiggle(brightness=0.5)]
    torch.manual_seed(0)
    exact = modules[1](modules[0](IMAGES.float() / 255))  # nothing is rounded in between
    assert torch.equal(seeded(modules, IMAGES), (exact.clamp(0, 1) * 255).round().to(torch.uint8))


def test_every_grey_level_outlives_its_way_through_kornia() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(seeded([kornia.RandomAffine(degrees=30, p=0.0)], levels), levels)


def test_kinds_may_follow_each_other_in_any_order() -> None:
    modules = [kornia.RandomRotation(10.0), v2.RandomHorizontalFlip(), kornia.RandomInvert(), Count()]
    changed = seeded([nn.Sequential(*modules)], IMAGES)
    assert (changed.dtype, changed.shape) == (torch.uint8, IMAGES.shape)
    (seen,) = modules[-1].seen
    assert torch.equal(seen, changed)  # of the detector's own type


def test_gradients_are_taken_of_nothing() -> None:
    (changed,) = seeded([nn.Linear(3, 3)], torch.ones(1, 3))
    assert not changed.requires_grad


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([v2.RandomHorizontalFlip], r"a list of torch\.nn\.Module objects, got <class"),
        ([v2.RandomHorizontalFlip(), "kornia.augmentation.RandomAffine"], "got 'kornia.augmentation.RandomAffine'"),
        ([older.RandomHorizontalFlip()], r"give torchvision\.transforms\.v2\.RandomHorizontalFlip, not the older"),
    ],
)
def test_what_is_no_transform_is_refused_by_the_constructor(modules: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^train_transforms.*{words}"):
        OneVsAll(Stripes(), 0, train_transforms=modules)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (v2.RandomCrop(8), r"uint8 \(2, 1, 16, 16\), got uint8 \(2, 1, 8, 8\) from RandomCrop"),
        (v2.ToDtype(torch.float32, scale=True), r"got float32 \(2, 1, 16, 16\) from ToDtype"),
        (Pair(), "Pair must give a tensor"),
        (Broken(), r"cannot take uint8 \(2, 1, 16, 16\): KeyError: 'what it needs'"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_training(module: nn.Module, words: str) -> None:
    data = OneVsAll(Stripes(), 0, train_transforms=[module])
    data.setup("test")
    with pytest.raises(ValueError, match=f"^train_transforms.*{words}"):
        data.setup("fit")


@pytest.mark.parametrize("module", [v2.RandomHorizontalFlip(), kornia.RandomHorizontalFlip()])
def test_features_are_no_images(module: nn.Module) -> None:
    data = AnomalyLabelled(Blobs(), train_transforms=[module])
    with pytest.raises(ValueError, match=r"RandomHorizontalFlip takes images, the data are 6 features .* of your own"):
        data.setup("fit")


class Untrained(AnomalyDetector):
    """Takes no steps that move anything."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.idle = nn.Parameter(torch.zeros(1))

    def trains_by_gradient(self) -> bool:
        return False

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters())

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        return self.idle.sum()

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.preprocess(x).flatten(1).sum(dim=1)
        return scores


def test_transforms_that_nothing_is_trained_with_are_refused(make_trainer: MakeTrainer) -> None:
    data = OneVsAll(Stripes(), 0, train_transforms=[v2.RandomHorizontalFlip()])
    with pytest.raises(ValueError, match=r"^data\.train_transforms would change nothing: this Untrained"):
        make_trainer(max_epochs=1).fit(Untrained(), datamodule=data)


# ---- in a fit -------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """An encoder without statistics of what it has seen."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Linear(math.prod(shape), 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.weight(x.flatten(1))
        return z


def autoencoder() -> Autoencoder:
    encoder = partial(LeNetEncoder, conv_channels=[4], rep_dim=16)
    return Autoencoder(encoder=encoder, optimizer=partial(Adam, lr=1e-2), lr_scheduler=None)


def stripes(transforms: list[nn.Module] | None, **options: Any) -> OneVsAll:
    return OneVsAll(
        Stripes(), 0, batch_size=16, seed=0, validation_fraction=0.1, train_transforms=transforms, **options
    )


def fit(trainer: pl.Trainer, detector: AnomalyDetector, data: Any, seed: int = 0, **options: Any) -> dict[str, Tensor]:
    pl.seed_everything(seed, verbose=False)
    trainer.fit(detector, datamodule=data, **options)
    return {name: value.clone() for name, value in detector.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def both() -> list[nn.Module]:
    return [v2.RandomHorizontalFlip(), kornia.RandomAffine(degrees=10, p=1.0), v2.RandomRotation(5)]


def test_the_seed_says_all_and_a_fit_without_draws_is_as_one_without_transforms(make_trainer: MakeTrainer) -> None:
    plain = fit(make_trainer(), autoencoder(), stripes(None))
    changed = fit(make_trainer(), autoencoder(), stripes(both()))
    assert same(plain, fit(make_trainer(), autoencoder(), stripes([nn.Identity()])))
    assert not same(plain, changed)
    assert same(changed, fit(make_trainer(), autoencoder(), stripes(both())))
    assert not same(changed, fit(make_trainer(), autoencoder(), stripes(both()), seed=1))


def test_a_fit_goes_on_to_the_same_bits(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    keeps = make_trainer(max_epochs=4, callbacks=[every], enable_checkpointing=True)
    whole = fit(keeps, autoencoder(), stripes(both()))
    begun: dict[str, Any] = {"ckpt_path": str(tmp_path / "epoch=1.ckpt"), "weights_only": True}
    resumed = fit(make_trainer(max_epochs=4), autoencoder(), stripes(both()), **begun)
    assert same(whole, resumed)


def deep_svdd() -> DeepSVDD:
    """One whose weights do not move."""
    return DeepSVDD(
        encoder=Linear,
        pretraining=AutoencoderPretraining(epochs=0),
        optimizer=partial(Adam, lr=1e-30),
        lr_scheduler=None,
    )


@pytest.mark.parametrize("held_out", [0.0, 0.1])
@pytest.mark.parametrize("source", ["images", "features"])
def test_scores_and_whatever_is_fitted_never_see_them(make_trainer: MakeTrainer, source: str, held_out: float) -> None:
    def ended(transforms: list[nn.Module] | None) -> tuple[dict[str, Tensor], float, Tensor]:
        options: dict[str, Any] = {"batch_size": 16, "validation_fraction": held_out, "seed": 0}
        options["train_transforms"] = transforms
        data = OneVsAll(Stripes(), 0, **options) if source == "images" else AnomalyLabelled(Blobs(), **options)
        trainer, detector = make_trainer(), deep_svdd()
        state = fit(trainer, detector, data)
        loss = float(trainer.callback_metrics["train/loss"])
        x = data.train_samples.x
        assert isinstance(x, Tensor)
        trainer.test(detector, datamodule=data, verbose=False)
        scores = torch.from_numpy(detector.results["test"].scores)
        return state, loss, torch.cat([x.double().flatten(), scores.double()])

    plain, overwritten = ended(None), ended([Overwrite()])
    assert same(plain[0], overwritten[0])  # centre, moments of features, threshold
    assert plain[1] != overwritten[1]
    assert torch.equal(plain[2], overwritten[2])  # and the data are what they were


@pytest.mark.parametrize(
    ("options", "batches"),
    [({}, 6), ({"overfit_batches": 1}, 2), ({"accumulate_grad_batches": 2}, 6), ({"limit_train_batches": 2}, 4)],
)
def test_training_steps_see_them_and_nothing_else(
    make_trainer: MakeTrainer, options: dict[str, Any], batches: int
) -> None:
    count = Count()
    data = stripes([count])
    trainer, detector = make_trainer(**options), autoencoder()
    fit(trainer, detector, data)
    assert len(count.seen) == 1 + batches  # the first one tries it
    trainer.validate(detector, datamodule=data, verbose=False)
    trainer.test(detector, datamodule=data, verbose=False)
    trainer.predict(detector, datamodule=data)
    detector.score(data.train_images(data.split.train))
    assert len(count.seen) == 1 + batches


def test_only_training_batches_are_changed() -> None:
    data = stripes([v2.RandomInvert(p=1.0)])
    data.setup("fit")
    train = next(iter(data.train_dataloader()))
    changed = data.on_after_batch_transfer(train, 0)
    assert isinstance(changed, TrainBatch)
    assert torch.equal(changed.x, 255 - train.x)
    assert torch.equal(changed.index, train.index)
    held_out = next(iter(data.val_dataloader()[0]))
    assert isinstance(held_out, EvalBatch)
    assert data.on_after_batch_transfer(held_out, 0) is held_out


def test_what_is_tried_before_training_takes_no_draw() -> None:
    torch.manual_seed(3)
    Augmentation(both()).require_fits(IMAGES[:2], InputSpec("image", (3, 8, 8)))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


class Undefined(nn.Module):
    """A logarithm of what may be negative."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, torch.nan)


class Elsewhere(nn.Module):
    """Samples on another device."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to("meta")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Undefined(), "must give finite values, got others from Undefined"),
        (Elsewhere(), r"got float32 \(2, 6\) from Elsewhere, on meta and not on cpu"),
    ],
)
def test_features_stay_finite_and_where_they_are(module: nn.Module, words: str) -> None:
    with pytest.raises(ValueError, match=f"train_transforms .*{words}"):
        Augmentation([module]).require_fits(torch.zeros(2, 6), InputSpec("table", (6,)))
