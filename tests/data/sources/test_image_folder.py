from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from adlightning.data.sources import FlatFolder, ImageFolder, NormalAnomalyFolder, SourceError
from adlightning.data.sources.base import Part


def make(root: Path, *names: str, size: tuple[int, int] = (4, 6), mode: str = "L") -> str:
    """Images whose grey value is their position among `names`."""
    for value, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size[::-1], value).convert(mode).save(path)
    return str(root)


# ---- by class -------------------------------------------------------------------------------------------------------


def test_classes_are_the_subfolders_of_both_parts(tmp_path: Path) -> None:
    root = make(tmp_path, "train/dog/1.png", "train/ant/x/2.png", "train/ant/1.png", "test/cat/1.png", "test/dog/1.png")
    source = ImageFolder(root)
    train, test = source.load("train"), source.load("test")
    assert source.classes == ("ant", "cat", "dog")
    assert train.names == ("train/ant/1.png", "train/ant/x/2.png", "train/dog/1.png")
    assert train.y.tolist() == [0, 0, 2]
    assert isinstance(train.x, torch.Tensor)
    assert train.x[:, 0, 0, 0].tolist() == [2, 1, 0]
    assert test.y.tolist() == [1, 2]
    assert source.input_spec().shape == (1, 4, 6)


def test_parts_beyond_the_budget_are_decoded_when_asked_for(tmp_path: Path) -> None:
    # decoded, 3 * 600 * 600 bytes are just more than 1 MiB, and 2 * 600 * 600 less
    root = make(
        tmp_path, "train/a/1.png", "train/a/2.png", "train/b/3.png", "test/a/1.png", "test/b/2.png", size=(600, 600)
    )
    source = ImageFolder(root, resize=None, memory_budget_mb=1)
    train, test = source.load("train"), source.load("test")
    assert not isinstance(train.x, torch.Tensor)
    assert isinstance(test.x, torch.Tensor)
    assert len(train.x) == 3
    assert train.x[2].unique().tolist() == [2]
    assert torch.equal(train.x[1], test.x[0] - 2)


def test_resize_and_channels_reach_samples_and_description(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.png", "test/a/1.png")
    make(tmp_path, "train/a/2.png", size=(9, 9), mode="RGB")
    source = ImageFolder(str(tmp_path), resize=5, channels=3)
    samples = source.load("train")
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.shape == (2, 3, 5, 5)
    spec = source.input_spec()
    assert (spec.shape, spec.resize, spec.channels) == ((3, 5, 5), (5, 5), 3)
    assert ImageFolder(str(tmp_path), resize=(2, 3), channels=1).input_spec().shape == (1, 2, 3)


def test_sizes_are_compared_across_parts(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.png")
    make(tmp_path, "test/a/2.png", size=(6, 4))
    with pytest.raises(SourceError, match=r"train/a/1\.png is 4x6, .*test/a/2\.png is 6x4"):
        ImageFolder(str(tmp_path), resize=None).load("train")


def test_a_part_without_images_is_named(tmp_path: Path) -> None:
    source = ImageFolder(make(tmp_path, "train/a/1.png"))
    assert len(source.load("train").x) == 1
    with pytest.raises(SourceError, match="test has no images"):
        source.load("test")


def test_images_beside_the_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"train/2\.png belongs to no class"):
        ImageFolder(make(tmp_path, "train/a/1.png", "train/2.png")).load("train")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no folder .*nowhere"):
        ImageFolder(str(tmp_path / "nowhere")).load("train")


def test_a_folder_without_classes_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no class folders; images lie in .*/train/<class>/"):
        ImageFolder(str(tmp_path)).input_spec()


def test_class_folders_without_images_are_said(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(SourceError, match="has no images"):
        ImageFolder(str(tmp_path)).input_spec()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize": 0}, "resize must be .* got 0"),
        ({"resize": (4, -1)}, r"resize must be .* got \(4, -1\)"),
        ({"channels": 2}, "channels must be 1, 3, auto or null, got 2"),
        ({"memory_budget_mb": -1}, "memory_budget_mb must not be negative, got -1"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], message: str) -> None:
    for kind in (ImageFolder, NormalAnomalyFolder):
        with pytest.raises(ValueError, match=message):
            kind("anywhere", **arguments)


# ---- normal and anomaly ---------------------------------------------------------------------------------------------


def load(source: NormalAnomalyFolder, part: Part) -> dict[str, int]:
    samples = source.load(part)
    assert samples is not None
    return dict(zip(samples.names, samples.y.tolist(), strict=True))


def test_folders_say_the_labels(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        "train/normal/1.png",
        "train/anomaly/scratch/1.png",
        "train/unlabelled/1.png",
        "test/normal/1.png",
        "test/anomaly/hole/1.png",
        "test/anomaly/scratch/1.png",
        "test/close/near/1.png",
    )
    source = NormalAnomalyFolder(root)
    assert load(source, "train") == {
        "train/anomaly/scratch/1.png": 1,
        "train/normal/1.png": 0,
        "train/unlabelled/1.png": -1,
    }
    assert load(source, "test") == {
        "test/anomaly/hole/1.png": 1,
        "test/anomaly/scratch/1.png": 1,
        "test/close/near/1.png": 1,
        "test/normal/1.png": 0,
    }


def test_without_a_test_folder_there_is_no_test_part(tmp_path: Path) -> None:
    source = NormalAnomalyFolder(make(tmp_path, "train/normal/1.png"))
    assert source.load("test") is None
    assert source.input_spec().shape == (1, 4, 6)


def test_unlabelled_images_are_enough_to_train_on(tmp_path: Path) -> None:
    source = NormalAnomalyFolder(make(tmp_path, "train/unlabelled/1.png", "train/anomaly/1.png"))
    assert load(source, "train") == {"train/anomaly/1.png": 1, "train/unlabelled/1.png": -1}


@pytest.mark.parametrize(
    "names", [["train/anomaly/1.png"], ["test/normal/1.png"], ["train/normal/notes.txt.png/a.png"]]
)
def test_training_needs_normal_or_unlabelled_images(tmp_path: Path, names: list[str]) -> None:
    root = make(tmp_path, *names)
    if names[0].startswith("train/normal"):
        (tmp_path / names[0]).unlink()
    with pytest.raises(SourceError, match=r"train/normal has no images.*; images to train on lie there"):
        NormalAnomalyFolder(root).load("train")


@pytest.mark.parametrize(
    ("part", "allowed"), [("train", "normal, anomaly, unlabelled"), ("test", "normal, anomaly, close")]
)
def test_unknown_folders_are_named_with_those_allowed(tmp_path: Path, part: str, allowed: str) -> None:
    root = make(tmp_path, "train/normal/1.png", f"{part}/good/1.png", f"{part}/.hidden/1.png")
    with pytest.raises(SourceError, match=rf"{part} has unknown subfolders good; allowed are {allowed}$"):
        NormalAnomalyFolder(root).load("train")


def test_close_negatives_are_for_the_test_alone(tmp_path: Path) -> None:
    root = make(tmp_path, "train/normal/1.png", "train/close/1.png")
    with pytest.raises(SourceError, match=r"train has unknown subfolders close"):
        NormalAnomalyFolder(root).load("train")


def test_a_test_folder_without_images_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path, "train/normal/1.png")
    (tmp_path / "test" / "normal").mkdir(parents=True)
    with pytest.raises(SourceError, match="test has no images"):
        NormalAnomalyFolder(root).load("train")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    root = make(tmp_path, "train/normal/1.png", "train/normal/2.png")
    (tmp_path / "train/normal/2.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"train/normal/2\.png is no image"):
        NormalAnomalyFolder(root).load("train")


def test_grey_and_colour_need_channels(tmp_path: Path) -> None:
    make(tmp_path, "train/normal/1.png")
    root = make(tmp_path, "test/normal/1.png", mode="RGB")
    with pytest.raises(SourceError, match="set channels"):
        NormalAnomalyFolder(root, channels=None).load("train")
    samples = NormalAnomalyFolder(root, channels=3).load("test")
    assert samples is not None
    assert samples.x[0].shape == (3, 4, 6)


# ---- what is left out -----------------------------------------------------------------------------------------------


def test_what_is_left_out_is_named_with_a_count(tmp_path: Path) -> None:
    root = make(tmp_path, "train/normal/1.png", "test/normal/1.png", "test/anomaly/kind/2.png", "test/anomaly/.3.png")
    make(tmp_path, "val/1.png", "beside.png", ".cache/1.png", "test/anomaly/.old/1.png")
    for name in ("test/anomaly/4.mp4", "test/anomaly/kind/5.mp4", "train/notes.txt", "test/normal/Thumbs.db"):
        (tmp_path / name).write_bytes(b"no image")
    for name in ("README.md", ".DS_Store", "test/normal/.DS_Store", "test/normal/.gitkeep"):
        (tmp_path / name).touch()
    (tmp_path / "train" / "anomaly").mkdir()
    (tmp_path / "train" / "normal" / "._1.png").write_bytes(b"a Mac's resource fork")
    with pytest.warns(UserWarning, match="left out") as warned:
        samples = NormalAnomalyFolder(root).load("test")
    assert samples is not None
    assert samples.names == ("test/anomaly/kind/2.png", "test/normal/1.png")
    assert str(warned[0].message) == (
        f"{root}: left out: other formats than BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP: 3 (2 .mp4, 1 .txt); "
        "hidden: 4 (.cache, train/normal/._1.png, test/anomaly/.old, ...); "
        "empty or beside train and test: 3 (beside.png, val, train/anomaly)"
    )


def test_nothing_is_said_where_nothing_is_left_out(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    ImageFolder(make(tmp_path, "train/a/1.png", "test/b/1.JPG", "test/b/1.gif"), channels=1).load("train")
    assert not recwarn.list


def test_an_image_is_known_by_its_content(tmp_path: Path) -> None:
    root = make(tmp_path, "train/a/1.png")
    for number, (form, name) in enumerate({"JPEG": "x.jfif", "PNG": "x", "GIF": "x.gif", "BMP": "x.image"}.items()):
        (tmp_path / "train" / str(number)).mkdir()
        Image.new("L", (6, 4), 7).save(tmp_path / "train" / str(number) / name, format=form)
    assert len(ImageFolder(root, channels=1).load("train").names) == 5


def test_only_other_formats_are_named_where_there_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "train" / "normal").mkdir(parents=True)
    (tmp_path / "train" / "normal" / "1.avif").write_bytes(b"\0\0\0 ftypavif")
    with pytest.raises(SourceError, match=r"train/normal has no images; left out: other formats.*: 1 \(1 \.avif\)"):
        NormalAnomalyFolder(str(tmp_path)).load("train")
    with pytest.raises(SourceError, match=r"has no images; left out: other formats.*: 1 \(1 \.avif\)"):
        ImageFolder(str(tmp_path)).load("train")
    with pytest.raises(SourceError, match=r"has no images; left out: other formats.*: 1 \(1 \.avif\)"):
        FlatFolder(str(tmp_path)).load("test")


@pytest.mark.parametrize("name", ["Test", "TRAIN"])
def test_a_part_in_other_letters_is_refused(tmp_path: Path, name: str) -> None:
    root = make(tmp_path, "train/normal/1.png", f"{name}/normal/1.png")
    with pytest.raises(SourceError, match=rf"{name} is not read: rename it to {name.lower()}"):
        NormalAnomalyFolder(root).load("train")


@pytest.mark.parametrize("link", ["test", "train/anomaly", "test/normal/2.png", "test/normal/more"])
def test_a_link_to_nothing_is_refused(tmp_path: Path, link: str) -> None:
    root = make(tmp_path, "train/normal/1.png", *(["test/normal/1.png"] if link != "test" else []))
    (tmp_path / link).symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match=rf"{link} (is a link to .*gone, which is not there|must be a folder)"):
        NormalAnomalyFolder(root).load("test")


# ---- of one kind ----------------------------------------------------------------------------------------------------


def test_a_flat_folder_is_a_test_part_of_all_its_images(tmp_path: Path) -> None:
    root = make(tmp_path, "b.png", "a.png", "more/c.png", mode="RGB")
    (tmp_path / "notes.txt").write_text("no image")
    source = FlatFolder(root)
    samples = source.load("test")
    assert samples.names == ("a.png", "b.png", "more/c.png")
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x[:, 0, 0, 0].tolist() == [1, 0, 2]
    assert samples.y.tolist() == [0, 0, 0]
    assert source.input_spec().shape == (3, 4, 6)
    assert FlatFolder(root, resize=5, channels=1).input_spec().shape == (1, 5, 5)
    with pytest.raises(SourceError, match="is for testing only; images to train on lie in an ImageFolder"):
        source.load("train")


def test_a_flat_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no images"):
        FlatFolder(str(tmp_path)).load("test")
    with pytest.raises(SourceError, match="there is no folder"):
        FlatFolder(str(tmp_path / "none")).load("test")
