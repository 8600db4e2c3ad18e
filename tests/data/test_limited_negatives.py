"""Limited negatives: known normals and far negatives train, close negatives are met in the test only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from PIL import Image
from torch import Tensor

from adlightning.core.contracts import InputSpec
from adlightning.data.limited_negatives import CloseNegatives, LimitedNegatives, MaskedNormals, Masking, OtherSource
from adlightning.data.sources import Digits, ImageFolder, Npz
from adlightning.data.sources.base import Part, Samples
from adlightning.methods.deep_sad import DeepSAD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.testing import Stripes


def ready(data: LimitedNegatives) -> LimitedNegatives:
    data.prepare_data()
    data.setup("test")  # to train on images that are all the same is refused
    return data


def make(source: Any = None, close: CloseNegatives | None = None, **options: Any) -> LimitedNegatives:
    return ready(LimitedNegatives(source or Stripes(), close or MaskedNormals(), **{"seed": 0, **options}))


def names_of(data: LimitedNegatives) -> list[str]:
    return [data.sample_names("test")[i] for i in data.split.test]


def close_images(data: LimitedNegatives) -> Tensor:
    images = data.test_images("test", data.split.test[data.split.test >= len(data.source.load("test").y)])
    assert images is not None
    return images


def test_training_knows_normals_and_far_negatives_and_nothing_else() -> None:
    data = make(normal_class="left", far_classes=["right"], validation_fraction=0.2, validation_anomalies=5)
    y, split = data.train_samples.y, data.split
    assert set(y[split.train[split.known == 1]]) == {0}
    assert set(y[split.train[split.known == -1]]) == {2}
    assert (split.known == 1).sum() == 48
    assert (split.known == -1).sum() == 55
    assert split.validation_labels.tolist() == [0] * 12 + [1] * 5
    assert not set(split.train) & set(split.validation)
    assert data.input_spec.description == (
        "stripes, normal class left, far right, close normals with 50 % of pixels black"
    )


def test_close_negatives_are_in_the_test_alone() -> None:
    data = make(normal_class="left", far_classes=["right"], validation_fraction=0.2)
    assert data.train_samples.names == Stripes().load("train").names
    assert not any(name.startswith("close/") for name in data.train_samples.names)
    names, labels = names_of(data), data.split.test_labels
    assert names == [f"test/{i}" for i in (*range(30), *range(60, 90))] + [f"close/test/{i}" for i in range(30)]
    assert labels.tolist() == [0] * 30 + [1] * 60
    assert data.counts() | {"test": 90, "test_anomalies": 60, "test_close": 30} == data.counts()
    batches = list(data.test_dataloader()[0])
    assert torch.cat([batch.index for batch in batches]).tolist() == data.split.test.tolist()
    assert torch.equal(torch.cat([batch.x for batch in batches])[-30:], close_images(data))


def test_all_other_classes_are_far_unless_some_are_given() -> None:
    data = make(normal_class=1)
    assert set(data.train_samples.y[data.split.train[data.split.known == -1]]) == {0, 2}
    assert (data.split.test < 90).sum() == 90


def test_each_masked_image_loses_exactly_its_share_of_pixels() -> None:
    class NoBlack(Stripes):
        def load(self, part: Part) -> Samples:
            samples = super().load(part)
            return Samples(samples.x.clamp_min(1), samples.y, samples.names)  # type: ignore[union-attr]

    before = NoBlack().load("test").x[:30]  # type: ignore[index]
    after = close_images(make(NoBlack(), MaskedNormals(0.3)))
    black = after == 0
    assert black.flatten(1).sum(dim=1).tolist() == [77] * 30  # 0.3 * 256 = 76.8
    assert torch.equal(after[~black], before[~black])
    assert 5 < black.sum(dim=0).float().mean() < 13  # of 30: other pixels in every image
    assert black.any(dim=0).all()


def test_joint_masking_draws_from_all_images_together() -> None:
    class White(Stripes):
        def load(self, part: Part) -> Samples:
            samples = super().load(part)
            return Samples(torch.full((len(samples.y), 1, 16, 16), 255).byte(), samples.y, samples.names)

    data = make(White(n_test=100), MaskedNormals(0.4, masking="joint"))
    counts = (close_images(data) == 0).flatten(1).sum(dim=1).double()
    assert counts.sum() == round(0.4 * 256 * 100)
    # hypergeometric: variance about n p (1 - p) = 61
    assert 30 < counts.var() < 120


def test_a_pixel_is_masked_in_all_channels() -> None:
    class White(Stripes):
        def input_spec(self) -> InputSpec:
            return InputSpec("image", (3, 16, 16))

        def load(self, part: Part) -> Samples:
            samples = super().load(part)
            return Samples(torch.full((len(samples.y), 3, 16, 16), 255).byte(), samples.y, samples.names)

    black = close_images(make(White())) == 0
    assert torch.equal(black.any(dim=1), black.all(dim=1))
    assert black[0, 0].sum() == 128


def test_the_samples_of_another_source_are_close_negatives(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images: dict[str, Any] = {
        f"{part}_images": rng.integers(0, 255, (5, 8, 8)).astype(np.uint8) for part in ("train", "test")
    }
    np.savez(tmp_path / "other.npz", **images, train_labels=np.arange(5), test_labels=np.arange(5))
    data = make(Digits(), OtherSource(Npz(str(tmp_path / "other.npz"))), normal_class=0, far_classes=[1])
    assert names_of(data)[-5:] == [f"close/test/{i}" for i in range(5)]
    assert close_images(data)[:, 0].numpy().tolist() == images["test_images"].tolist()
    assert set(data.test_samples.y[data.split.test[data.split.test < 596]]) == {0, 1}
    assert data.split.test_labels[-5:].tolist() == [1] * 5


def test_lazy_images_are_masked_and_joined_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train/zero", "train/one", "test/zero", "test/one"):
        (tmp_path / part).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(rng.integers(1, 255, (12, 10)).astype(np.uint8)).save(tmp_path / part / f"{i}.png")
    batches = []
    maskings: list[Masking] = ["per_image", "joint"]
    for budget in (0, 100):
        for masking in maskings:
            source = ImageFolder(str(tmp_path), memory_budget_mb=budget)
            close = MaskedNormals(masking=masking)
            data = make(source, close, normal_class="zero", validation_fraction=0.0, num_workers=0)
            assert isinstance(data.test_samples.x, Tensor) == (budget == 100)
            batches.append(next(iter(data.test_dataloader()[0])))
    lazy, whole = batches[:2], batches[2:]
    for one, other in zip(lazy, whole, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(whole[0].x, whole[1].x)


def test_the_seed_alone_decides_what_is_drawn() -> None:
    numbers: dict[str, Any] = {
        "n_train_normal": 30,
        "n_train_far": 50,
        "n_test_normal": 10,
        "n_test_far": 20,
        "n_test_close": 15,
    }

    def drawn(seed: int) -> tuple[list[int], list[int], list[int], Tensor]:
        data = make(normal_class=0, validation_fraction=0.2, validation_anomalies=4, seed=seed, **numbers)
        split = data.split
        return split.train.tolist(), split.validation.tolist(), split.test.tolist(), close_images(data)

    first = drawn(5)
    torch.manual_seed(1)
    again, other = drawn(5), drawn(6)
    assert first[:3] == again[:3]
    assert torch.equal(first[3], again[3])
    assert all(a != b for a, b in zip(first[:3], other[:3], strict=True))
    train, validation, test, close = first
    assert (len(train), len(validation), len(test), len(close)) == (24 + 46, 6 + 4, 45, 15)


def test_a_detector_is_trained_and_tested_on_it(make_trainer: MakeTrainer) -> None:
    data = LimitedNegatives(
        Digits(), MaskedNormals(), normal_class=0, far_classes=[1], seed=0, batch_size=32, validation_fraction=0.1
    )
    detector = DeepSAD(pretraining=AutoencoderPretraining(epochs=0))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    trainer.test(detector, datamodule=data, verbose=False)
    assert sorted(detector.results["test"].index.tolist()) == data.split.test.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal_class": "up"}, "normal_class: there is no class 'up'; classes are left, middle, right"),
        ({"far_classes": ["down"]}, "far_classes: there is no class 'down'"),
        ({"far_classes": [0, 1]}, "far_classes must not hold a normal class, got 0"),
        ({"n_train_far": 121}, "n_train_far=121 needs at least 121 samples to draw from, there are 120"),
        ({"n_test_close": 31}, "n_test_close=31 needs at least 31 samples to draw from, there are 30"),
    ],
)
def test_bad_settings_are_named_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_close_negatives_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"same kind and shape as the source, 1x16x16 images.*, got 1x8x8 images"):
        make(close=OtherSource(Digits()))
    arrays: dict[str, Any] = {
        f"{part}_features": np.random.default_rng(0).normal(size=(6, 3)) for part in ("train", "test")
    }
    labels: dict[str, Any] = {f"{part}_labels": np.arange(6) % 2 for part in ("train", "test")}
    np.savez(tmp_path / "table.npz", **arrays, **labels)
    with pytest.raises(ValueError, match="MaskedNormals needs images, got 3 features"):
        make(Npz(str(tmp_path / "table.npz")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_ratio": 0.0}, r"mask_ratio must lie in \(0, 1\), got 0.0"),
        ({"mask_ratio": 1.0}, r"mask_ratio must lie in \(0, 1\), got 1.0"),
        ({"masking": "batch"}, "masking must be one of per_image, joint, got 'batch'"),
    ],
)
def test_masking_is_checked_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedNormals(**arguments)
