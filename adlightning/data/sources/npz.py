"""Arrays in an .npz file by MedMNIST's key names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import ZipFile

import numpy as np
import torch
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec, Kind, SourceError
from adlightning.core.features import as_features
from adlightning.data.sources.base import ClassSource, Part, Samples
from adlightning.files.archives import Member, plain_members
from adlightning.files.arrays import read_array
from adlightning.files.disk import user_path
from adlightning.files.unpacking import require_unpacked_size

Content = Literal["images", "features"]

_NAME = 64  # bytes that the name of a sample or a class takes, at least


class Npz(ClassSource):
    """An .npz file in MedMNIST's convention: `train_images`, `train_labels`, `test_images`, `test_labels`.

    Images are uint8 (N, H, W) or (N, H, W, C) with C from 1 to 4, and become (N, C, H, W). In place of images there
    may be `train_features`, `test_features`: numbers (N, D) for a table or (N, T, D) for series. Labels
    are integers, booleans or strings, (N,) or (N, 1), and need not be 0..K-1. A file may lack one of the two parts;
    other keys (`val_*`) are not read.

    With an optional array `classes` of K names, labels are integers and index it. Without it, the classes are the
    sorted labels of the training part, then those that only the test part has, named by their values.

    Args:
        path: the .npz file.
    """

    def __init__(self, path: str) -> None:
        self.path = user_path(path)
        self.name = self.path.stem
        self.classes = ()
        self._loaded: dict[Part, Samples] = {}

    def input_spec(self) -> InputSpec:
        """Kind and shape of the training samples, or of the test samples where there are no others."""
        content, parts = contents(self.path)
        shape = tuple(self.load(parts[0]).x[0].shape)
        kind: Kind = "image" if content == "images" else "table" if len(shape) == 1 else "series"
        return InputSpec(kind, shape, self.name)

    def load(self, part: Part) -> Samples:
        """One part; names are `train/0`, `train/1`, ...

        Raises:
            SourceError: the file is missing, truncated or holds pickled objects; a key is missing; an array is of the
                wrong type or shape, empty, not finite, or as long as its labels are not.
        """
        if part not in self._loaded:
            x, labels = read_part(self.path, part)
            for other, samples in self._loaded.items():
                if x.shape[1:] != samples.x[0].shape:
                    shapes = f"{tuple(x.shape[1:])} and {tuple(samples.x[0].shape)}"
                    raise SourceError(f"{self.path}: {part} and {other} samples differ in shape: {shapes}")
            names = tuple(f"{part}/{i}" for i in range(len(x)))
            self._loaded[part] = Samples(x, self._class_indices(labels), names)
        return self._loaded[part]

    def _class_indices(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        stored = read_arrays(self.path, ["classes"])
        if "classes" in stored:
            names = stored["classes"]
            if names.ndim != 1 or names.dtype.kind != "U":
                shown = f"{names.dtype} of shape {names.shape}"
                raise SourceError(f"{self.path}: classes must be an array (K,) of strings, got {shown}")
            self.classes = tuple(str(name) for name in names)
            return checked_indices(self.path, labels, len(names))
        _, parts = contents(self.path)
        labels_of = {p: np.unique(read_labels(self.path, p)).tolist() for p in parts}
        values = list(dict.fromkeys(value for p in parts for value in labels_of[p]))
        self.classes = tuple(str(value) for value in values)
        if len(set(self.classes)) < len(values):
            raise SourceError(f"{self.path}: train_labels and test_labels differ in type")
        position = {value: i for i, value in enumerate(values)}
        unique, inverse = np.unique(labels, return_inverse=True)
        indices: NDArray[np.int64] = np.array([position[value] for value in unique.tolist()], dtype=np.int64)[inverse]
        return indices


def checked_indices(path: Path, labels: NDArray[Any], n_classes: int) -> NDArray[np.int64]:
    """Labels that are class indices already, as int64. Raises SourceError when one lies outside 0..n_classes-1."""
    if labels.dtype.kind not in "iub":
        raise SourceError(f"{path}: labels must be integers that index the {n_classes} classes, got {labels.dtype}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= n_classes:
        raise SourceError(f"{path}: labels must lie in 0..{n_classes - 1}, got {low if low < 0 else high}")
    return labels.astype(np.int64)


def read_part(path: Path, part: Part) -> tuple[Tensor, NDArray[Any]]:
    """One part of an .npz: uint8 images (N, C, H, W) or features (N, D) or (N, T, D), and raw labels (N,).

    Raises:
        SourceError: see :meth:`Npz.load`.
    """
    content, parts = contents(path)
    key = f"{part}_{content}"
    if part not in parts:
        raise SourceError(f"{path} has no {key}; it holds {', '.join(stored_keys(path))}")
    array = read_arrays(path, [key])[key]
    labels = read_labels(path, part)
    x = (_images if content == "images" else _features)(path, key, array)
    if len(x) != len(labels):
        raise SourceError(f"{path}: {key} and {part}_labels differ in length: {len(x)} and {len(labels)}")
    return x, labels


def contents(path: Path) -> tuple[Content, list[Part]]:
    """Whether an .npz holds images or features, and which parts, training first. Raises SourceError when neither."""
    keys = stored_keys(path)
    found: list[tuple[Content, list[Part]]] = []
    for content in get_args(Content):
        parts = [part for part in get_args(Part) if f"{part}_{content}" in keys]
        if parts:
            found.append((content, parts))
    if not found:
        wanted = "train_images or test_images (or train_features, test_features)"
        raise SourceError(f"{path} has no {wanted}; it holds {', '.join(keys) or 'nothing'}")
    if len(found) > 1:
        raise SourceError(f"{path} holds images and features; only one of them is a sample: {', '.join(keys)}")
    return found[0]


def read_labels(path: Path, part: Part) -> NDArray[Any]:
    """Raw labels (N,) of a part: integers, booleans or strings. Raises SourceError."""
    key = f"{part}_labels"
    stored = read_arrays(path, [key])
    if key not in stored:
        raise SourceError(f"{path} has no {key}; it holds {', '.join(stored_keys(path))}")
    labels = stored[key]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise SourceError(f"{path}: {key} must be (N,) or (N, 1), got {labels.shape}")
    if labels.dtype.kind not in "iubU":
        raise SourceError(f"{path}: {key} must be integers, booleans or strings, got {labels.dtype}")
    if len(labels) == 0:
        raise SourceError(f"{path}: {key} is empty")
    return labels


def _images(path: Path, key: str, array: NDArray[Any]) -> Tensor:
    if array.dtype != np.uint8:
        raise SourceError(f"{path}: {key} must be uint8, got {array.dtype}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or not 1 <= array.shape[3] <= 4 or 0 in array.shape:
        raise SourceError(f"{path}: {key} must be (N, H, W) or (N, H, W, C) with C from 1 to 4, got {array.shape}")
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def _features(path: Path, key: str, array: NDArray[Any]) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise SourceError(f"{path}: {key} must be numbers, got {array.dtype}")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise SourceError(f"{path}: {key} must be (N, D) or (N, T, D), got {array.shape}")
    return as_features(array, f"{path}: {key}")


def stored_keys(path: Path) -> list[str]:
    """Names of the arrays of an .npz. Raises SourceError."""
    with _opened(path) as (_, members):
        return list(members)


def read_arrays(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Those of the named arrays that an .npz holds. Pickled objects are refused.

    Raises:
        SourceError: the file is missing or damaged, an array holds pickled objects or claims what it has not, or all of
            them take more memory than they may (see :mod:`adlightning.files.unpacking`).
    """
    arrays = {}
    with _opened(path) as (archive, members):
        wanted = {key: members[key] for key in keys if key in members}
        _require_size(path, sum(member.size for member in wanted.values()))
        for key, member in wanted.items():
            try:
                with archive.open(member.name) as file:
                    arrays[key] = read_array(file, member.size)
            except Exception as error:  # a broken zip raises any of a dozen types
                raise SourceError(f"{path}: {key} cannot be read: {error}") from error
    rows = sum(len(array) for array in arrays.values() if array.ndim)
    texts = sum(array.size for array in arrays.values() if array.dtype.kind in "US")
    _require_size(path, sum(array.nbytes for array in arrays.values()) + _NAME * (rows + texts))
    return arrays


def _require_size(path: Path, n_bytes: int) -> None:
    try:
        require_unpacked_size(path, n_bytes)
    except ValueError as error:
        raise SourceError(str(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ZipFile, dict[str, Member]]]:
    """An .npz and its members by the names of their arrays. Raises SourceError when there is none at `path`."""
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    with path.open("rb") as file:
        if file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX:
            raise SourceError(f"{path} is a single array, not an .npz")
        try:
            members = plain_members(file)
            archive = ZipFile(file)
        except Exception as error:  # as above
            raise SourceError(f"{path} is no readable .npz: {error}") from error
        named = {member.name.removesuffix(".npy"): member for member in members}
        if len(named) < len(members):
            raise SourceError(f"{path} is no readable .npz: two of its arrays have one name")
        yield archive, named
