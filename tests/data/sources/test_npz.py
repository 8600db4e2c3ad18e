from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from adlightning.data.sources import Npz, SourceError
from adlightning.data.sources.base import Part

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def write(path: Path, **arrays: Any) -> str:
    file = path / "set.npz"
    np.savez(file, **arrays)
    return str(file)


def both(x: Any, content: str = "images", labels: Any = (0, 1, 0)) -> dict[str, Any]:
    return {f"train_{content}": x, "train_labels": labels, f"test_{content}": x, "test_labels": labels}


def test_grey_images_get_a_channel(tmp_path: Path) -> None:
    source = Npz(write(tmp_path, **both(IMAGES, labels=[[0], [1], [0]])))
    samples = source.load("train")
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.dtype == torch.uint8
    np.testing.assert_array_equal(samples.x.numpy(), IMAGES[:, None])
    assert samples.y.tolist() == [0, 1, 0]
    assert samples.names == ("train/0", "train/1", "train/2")
    assert source.input_spec().kind == "image"
    assert source.input_spec().shape == (1, 4, 5)


def test_channels_go_first(tmp_path: Path) -> None:
    x = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    samples = Npz(write(tmp_path, **both(x))).load("test")
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.shape == (3, 3, 4, 5)
    assert samples.x[2, 1, 3, 4] == x[2, 3, 4, 1]


@pytest.mark.parametrize(("shape", "kind"), [((3, 7), "table"), ((3, 7, 2), "series")])
def test_features_are_a_table_or_series(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    x = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    source = Npz(write(tmp_path, **both(x, "features")))
    samples = source.load("train")
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.dtype == torch.float64
    np.testing.assert_allclose(samples.x.numpy(), x, rtol=1e-6)
    assert (source.input_spec().kind, source.input_spec().shape) == (kind, shape[1:])


@pytest.mark.parametrize("first", ["train", "test"])
def test_classes_are_training_labels_then_those_of_the_test_part_only(tmp_path: Path, first: Part) -> None:
    arrays = both(IMAGES)
    arrays |= {"train_labels": [30, 7, 30], "test_labels": [5, 30, 99]}
    source = Npz(write(tmp_path, **arrays))
    source.load(first)  # the order of loading must not matter
    assert source.load("train").y.tolist() == [1, 0, 1]
    assert source.load("test").y.tolist() == [2, 1, 3]
    assert source.classes == ("7", "30", "5", "99")


@settings(max_examples=25, deadline=None)
@given(labels=st.lists(st.integers(-5, 300), min_size=3, max_size=3))
def test_every_class_name_is_the_stored_label(tmp_path_factory: pytest.TempPathFactory, labels: list[int]) -> None:
    source = Npz(write(tmp_path_factory.mktemp("npz"), train_images=IMAGES, train_labels=labels))
    samples = source.load("train")
    assert [source.classes[i] for i in samples.y] == [str(label) for label in labels]


def test_stored_class_names_are_indexed_by_label(tmp_path: Path) -> None:
    source = Npz(write(tmp_path, **both(IMAGES, labels=[2, 0, 2]), classes=["cat", "dog", "eel"]))
    assert source.load("train").y.tolist() == [2, 0, 2]
    assert source.classes == ("cat", "dog", "eel")


def test_text_labels_are_classes(tmp_path: Path) -> None:
    source = Npz(write(tmp_path, **both(IMAGES, labels=["ok", "crack", "ok"])))
    assert source.load("train").y.tolist() == [1, 0, 1]
    assert source.classes == ("crack", "ok")


def test_a_file_of_test_images_only_has_no_training_part(tmp_path: Path) -> None:
    source = Npz(write(tmp_path, test_images=IMAGES, test_labels=[1, 1, 1], val_images=IMAGES))
    assert source.load("test").y.tolist() == [0, 0, 0]
    assert source.input_spec().shape == (1, 4, 5)
    with pytest.raises(SourceError, match="no train_images; it holds test_images, test_labels, val_images"):
        source.load("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": IMAGES.astype(np.float32)}, "train_images must be uint8, got float32"),
        ({"train_images": IMAGES[0]}, r"train_images must be \(N, H, W\).*got \(4, 5\)"),
        ({"train_images": np.zeros((3, 3, 8, 8), np.uint8)}, r"C from 1 to 4, got \(3, 3, 8, 8\)"),
        ({"train_images": IMAGES[:2]}, "train_images and train_labels differ in length: 2 and 3"),
        ({"train_images": IMAGES[:0], "train_labels": np.zeros(0, int)}, "train_labels is empty"),
        ({"train_labels": [0.5, 1, 0]}, "train_labels must be integers, booleans or strings, got float64"),
        ({"train_labels": np.eye(3, dtype=int)}, r"train_labels must be \(N,\) or \(N, 1\), got \(3, 3\)"),
        (
            {"train_labels": np.array([0, "a", None], dtype=object)},
            "train_labels cannot be read: it holds object of shape",
        ),
        ({"train_features": np.ones((3, 2))}, "holds images and features"),
        ({"classes": ["a"]}, r"labels must lie in 0..0, got 1"),
    ],
)
def test_wrong_arrays_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        Npz(write(tmp_path, **{**both(IMAGES), **change})).load("train")
    assert "set.npz" in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_features_must_be_finite_as_float32(tmp_path: Path, bad: float) -> None:
    x = np.ones((3, 2))
    x[1, 0] = bad
    with pytest.raises(SourceError, match=r"train_features holds .* at row 1, column 0; features must be finite"):
        Npz(write(tmp_path, **both(x, "features"))).load("train")


def test_parts_of_different_shapes_are_refused(tmp_path: Path) -> None:
    source = Npz(write(tmp_path, **{**both(IMAGES), "test_images": np.zeros((3, 4, 6), np.uint8)}))
    source.load("train")
    with pytest.raises(SourceError, match=r"differ in shape: \(1, 4, 6\) and \(1, 4, 5\)"):
        source.load("test")


def test_a_missing_label_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no train_labels; it holds train_images, labels"):
        Npz(write(tmp_path, train_images=IMAGES, labels=[0, 1, 2])).load("train")


def test_other_keys_only(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no train_images or test_images .* it holds x"):
        Npz(write(tmp_path, x=IMAGES)).load("train")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = Npz(str(tmp_path / "none.npz"))
    with pytest.raises(SourceError, match=r"there is no file .*none\.npz"):
        source.load("train")


@pytest.mark.parametrize("keep", [0, 10, 300, -40])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    file = Path(write(tmp_path, **both(IMAGES)))
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(SourceError, match="no readable"):
        Npz(str(file)).load("train")


def test_a_damaged_array_is_refused(tmp_path: Path) -> None:
    file = Path(write(tmp_path, **both(IMAGES)))
    data = bytearray(file.read_bytes())
    at = data.index(IMAGES.tobytes())
    data[at] ^= 255
    file.write_bytes(data)
    with pytest.raises(SourceError, match="train_images cannot be read: Bad CRC"):
        Npz(str(file)).load("train")


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(SourceError, match="single array"):
        Npz(str(tmp_path / "one.npy")).load("train")
