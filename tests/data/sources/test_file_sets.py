from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import datasets

from adlightning.data.sources import GTSRB, CelebA, Omniglot, SourceError
from adlightning.data.sources.base import Samples


def save(path: Path, value: int, size: tuple[int, int] = (6, 8), mode: str = "RGB") -> None:
    """An image of (H, W) = `size`, in one grey value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size[::-1], value).convert(mode).save(path)


def tensor(samples: Samples) -> torch.Tensor:
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.dtype == torch.uint8
    return samples.x


@pytest.fixture
def omniglot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Omniglot, "sizes", {"train": 2, "test": 3})
    for name, value in {
        "images_background/Greek/character01/0001_01.png": 255,
        "images_background/Latin/character01/0002_01.png": 0,
        "images_evaluation/Angelic/character02/0003_01.png": 255,
        "images_evaluation/Angelic/character01/0004_01.png": 0,
        "images_evaluation/Tibetan/character01/0005_01.png": 255,
    }.items():
        save(tmp_path / "omniglot-py" / name, value, size=(105, 105), mode="1")
    return tmp_path


def test_omniglots_classes_are_the_alphabets_of_both_parts(omniglot: Path) -> None:
    source = Omniglot(root=str(omniglot))
    train, test = source.load("train"), source.load("test")
    assert source.classes == ("Greek", "Latin", "Angelic", "Tibetan")
    assert (train.y.tolist(), test.y.tolist()) == ([0, 1], [2, 2, 3])
    assert tensor(test).shape == (3, 1, 105, 105)
    assert tensor(test)[:, 0, 0, 0].tolist() == [0, 255, 255]
    assert test.names[0] == "omniglot-py/images_evaluation/Angelic/character01/0004_01.png"
    assert source.input_spec().shape == (1, 105, 105)


def test_omniglot_can_be_resized_and_inverted(omniglot: Path) -> None:
    source = Omniglot(root=str(omniglot), resize=28, invert=True)
    assert source.input_spec().shape == (1, 28, 28)
    assert tensor(source.load("test"))[:, 0, 0, 0].tolist() == [255, 0, 0]


def test_an_omniglot_that_lacks_images_is_refused(omniglot: Path) -> None:
    (omniglot / "omniglot-py/images_evaluation/Tibetan/character01/0005_01.png").unlink()
    with pytest.raises(SourceError, match=r"images_evaluation must hold 3 images, it holds 2"):
        Omniglot(root=str(omniglot)).load("test")


def write_gtsrb(root: Path) -> None:
    for name, value, size in (("00000/1", 10, (20, 15)), ("00042/1", 20, (30, 40))):
        save(root / f"gtsrb/GTSRB/Training/{name}.ppm", value, size)
    for name, value in (("00000", 30), ("00001", 40)):
        save(root / f"gtsrb/GTSRB/Final_Test/Images/{name}.ppm", value, (17, 19))
    rows = "Filename;Width;ClassId\n00001.ppm;19;16\n00000.ppm;19;1\n"
    (root / "gtsrb/GT-final_test.csv").write_text(rows)


def test_traffic_signs_of_any_size_are_resized(tmp_path: Path) -> None:
    write_gtsrb(tmp_path)
    source = GTSRB(root=str(tmp_path))
    train, test = source.load("train"), source.load("test")
    assert tensor(train).shape == (2, 3, 32, 32)
    assert (train.y.tolist(), test.y.tolist()) == ([0, 42], [16, 1])
    assert tensor(test)[:, 0, 0, 0].tolist() == [40, 30]
    assert test.names[0] == "gtsrb/GTSRB/Final_Test/Images/00001.ppm"
    assert GTSRB(resize=(24, 48)).input_spec().shape == (3, 24, 48)


@pytest.mark.parametrize("content", ["Filename;Width\n00000.ppm;19\n", "Filename;ClassId\n00000.ppm;43\n"])
def test_a_faulty_list_of_traffic_signs_is_refused(tmp_path: Path, content: str) -> None:
    write_gtsrb(tmp_path)
    (tmp_path / "gtsrb/GT-final_test.csv").write_text(content)
    with pytest.raises(SourceError, match=r"GTSRB: .*GT-final_test.csv is not as it should be"):
        GTSRB(root=str(tmp_path)).load("test")


def test_a_traffic_sign_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_gtsrb(tmp_path)
    (tmp_path / "gtsrb/GTSRB/Final_Test/Images/00000.ppm").unlink()
    with pytest.raises(SourceError, match=r"00000\.ppm"):
        GTSRB(root=str(tmp_path)).load("test")


def write_celeba(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        save(root / f"celeba/img_align_celeba/{i}.jpg", 20 * i, (218, 178))
    lists = {
        "list_eval_partition.txt": "".join(f"{i}.jpg {part}\n" for i, part in enumerate((0, 2, 1, 2, 0))),
        "identity_CelebA.txt": "".join(f"{i}.jpg 7\n" for i in range(5)),
        "list_bbox_celeba.txt": "5\nid x\n" + "".join(f"{i}.jpg 1\n" for i in range(5)),
        "list_landmarks_align_celeba.txt": "5\nx\n" + "".join(f"{i}.jpg 1\n" for i in range(5)),
        "list_attr_celeba.txt": "5\nSmiling\n" + "".join(f"{i}.jpg -1\n" for i in range(5)),
    }
    for name, text in lists.items():
        (root / "celeba" / name).write_text(text)
    monkeypatch.setattr(datasets.CelebA, "file_list", [("", None, name) for name in lists])


def test_faces_of_the_test_part_are_decoded_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_celeba(tmp_path, monkeypatch)
    samples = CelebA(root=str(tmp_path), memory_budget_mb=0).load("test")
    assert samples.names == ("celeba/img_align_celeba/1.jpg", "celeba/img_align_celeba/3.jpg")
    assert not isinstance(samples.x, torch.Tensor)
    assert samples.x[1].shape == (3, 218, 178)
    assert samples.x[1].unique().tolist() == [60]
    assert tensor(CelebA(root=str(tmp_path), resize=16).load("train")).shape == (2, 3, 16, 16)


def test_lists_of_faces_that_are_not_the_official_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_celeba(tmp_path, monkeypatch)
    monkeypatch.undo()
    with pytest.raises(SourceError, match=r"CelebA: the lists in .*celeba cannot be read: .*corrupted"):
        CelebA(root=str(tmp_path)).load("test")


@pytest.mark.parametrize("kind", [Omniglot, GTSRB, CelebA])
def test_what_is_missing_is_named_with_both_ways_out(tmp_path: Path, kind: type[Any]) -> None:
    with pytest.raises(SourceError, match=r"there is no .*; set download=true \(root .*\), or put the files there"):
        kind(root=str(tmp_path)).load("test")


@pytest.mark.parametrize("kind", [Omniglot, GTSRB, CelebA])
def test_downloads_are_asked_for_and_say_why_they_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    def fail(self: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(getattr(datasets, kind.__name__), "download", fail)
    kind(root=str(tmp_path)).prepare()
    with pytest.raises(SourceError, match=rf"{kind.name} could not be downloaded to .*: no route to host"):
        kind(root=str(tmp_path), download=True).prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": 0}, "resize must be one or two positive numbers, got 0"),
        ({"memory_budget_mb": -1}, "memory_budget_mb must not be negative, got -1"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CelebA(**arguments)
