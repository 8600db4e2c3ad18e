from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import rotate

from adlightning.data.sources import Augmented, Digits, ImageFolder, Npz
from adlightning.data.sources.base import Part, Samples
from adlightning.testing import Stripes


class OneImage(Stripes):
    """The same image 200 times: a bright bar a quarter from the left, within a bright circle."""

    def load(self, part: Part) -> Samples:
        rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
        image = 100.0 * ((rows - 16) ** 2 + (columns - 16) ** 2 < 200)
        image[10:23, 8:10] = 250
        x = image.to(torch.uint8).expand(200, 1, 33, 33).contiguous()
        return Samples(x, np.zeros(200, dtype=np.int64), tuple(f"{part}/{i}" for i in range(200)))


def images(samples: Samples) -> Tensor:
    assert isinstance(samples.x, Tensor)
    return samples.x


def test_each_image_is_flipped_or_not_and_rotated_by_its_own_angle() -> None:
    before, after = images(OneImage().load("train")), images(Augmented(OneImage(), degrees=30).load("train"))
    assert after.dtype == torch.uint8
    assert after.shape == before.shape
    # the best of all angles and both orientations gives back each image, up to its angle's distance from a whole one
    candidates = torch.stack(
        [
            rotate(start, angle, interpolation=InterpolationMode.BILINEAR)
            for start in (before[0], before[0].flip(-1))
            for angle in range(-45, 46)
        ]
    )
    errors = (after[:, None].float() - candidates.float()).abs().mean(dim=(2, 3, 4))
    best, error = errors.argmin(dim=1), errors.min(dim=1).values
    flipped, angles = (best >= 91).numpy(), (best % 91).numpy() - 45
    assert error.max() < 2
    assert 70 < flipped.sum() < 130
    assert np.abs(angles).max() <= 30
    assert angles.min() < -25
    assert angles.max() > 25
    assert abs(angles.mean()) < 4


def test_corners_that_the_rotation_opens_are_black() -> None:
    class White(OneImage):
        def load(self, part: Part) -> Samples:
            samples = super().load(part)
            return Samples(torch.full_like(images(samples), 255), samples.y, samples.names)

    after = images(Augmented(White()).load("train")).float()
    assert (after[:, :, 16, 16] == 255).all()
    assert after[:, :, 0, 0].median() < 128


def test_flips_alone_and_nothing_at_all() -> None:
    before = images(Digits().load("test"))
    after = images(Augmented(Digits(), degrees=0).load("test"))
    same, mirrored = ((after == x).flatten(1).all(dim=1) for x in (before, before.flip(-1)))
    assert (same | mirrored).all()
    assert 0.4 < mirrored.float().mean() < 0.6
    assert torch.equal(images(Augmented(Digits(), flip=False, degrees=0).load("test")), before)


def test_draws_are_those_of_the_seed_and_differ_between_parts() -> None:
    def load(seed: int, part: Part) -> Tensor:
        return images(Augmented(OneImage(), seed=seed).load(part))

    assert torch.equal(load(3, "train"), load(3, "train"))
    assert not torch.equal(load(3, "train"), load(4, "train"))
    assert not torch.equal(load(3, "train"), load(3, "test"))


def test_labels_names_and_description_are_those_of_the_source() -> None:
    source = Augmented(Stripes())
    before, after = Stripes().load("test"), source.load("test")
    assert np.array_equal(before.y, after.y)
    assert before.names == after.names
    assert source.classes == ("left", "middle", "right")
    assert source.input_spec() == Stripes().input_spec()
    assert source.name == "stripes (augmented)"


def test_lazy_images_are_changed_alike_when_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)).save(tmp_path / part / "a" / f"{i}.png")
    source = Augmented(ImageFolder(str(tmp_path), memory_budget_mb=0))
    lazy, whole = source.load("train"), Augmented(ImageFolder(str(tmp_path))).load("train")
    assert not isinstance(lazy.x, Tensor)
    assert source.classes == ("a",)  # known only when it was loaded
    assert torch.equal(torch.stack([lazy.x[i] for i in range(len(lazy.x))]), images(whole))


def test_only_images_are_augmented(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", train_features=np.zeros((4, 3)), train_labels=np.arange(4) % 2)
    with pytest.raises(ValueError, match="source must hold images to be augmented, got 3 features"):
        Augmented(Npz(str(tmp_path / "t.npz"))).load("train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degrees": -1}, r"degrees must lie in \[0, 180\], got -1"),
        ({"degrees": 181}, r"degrees must lie in \[0, 180\], got 181"),
        ({"seed": -1}, "seed must not be negative, got -1"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmented(Digits(), **arguments)  # type: ignore[arg-type]
