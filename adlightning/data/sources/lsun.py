"""LSUN scenes, from their databases."""

from __future__ import annotations

import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.data.image_headers import Size
from adlightning.data.sources.base import ClassSource, LazyImages, Part, Samples
from adlightning.data.sources.images import checked_size
from adlightning.files.disk import user_path

SCENES = (
    *("bedroom", "bridge", "church_outdoor", "classroom", "conference_room"),
    *("dining_room", "kitchen", "living_room", "restaurant", "tower"),
)


class LSUN(ClassSource):
    """LSUN (Yu et al., 2015), photographs of 10 kinds of scenes, resized to uint8 (N, 3, H, W); needs the package lmdb.

    Read from `root/SCENE_train_lmdb` and, for the test, `root/SCENE_val_lmdb` with 300 images each: the labels of the
    official test part were never published. Training takes the scenes whose folder is there. torchvision's own reader
    is not used, since it unpickles a file of the working directory.

    Args:
        root: folder that holds the unpacked databases; they have to be downloaded by hand.
        scenes: names of scenes, which are the classes in this order; null takes all ten.
        resize: `[height, width]` or one side for both, in pixels.
        train_per_scene: training images of each scene, spread evenly over its database, for methods that cannot take
            millions; null takes all.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, others decoded when asked for.

    Raises:
        ValueError: an argument outside its range.
    """

    name = "LSUN"

    def __init__(
        self,
        root: str = "data/lsun",
        scenes: list[str] | None = None,
        resize: Size | int = 32,
        train_per_scene: int | None = None,
        memory_budget_mb: int = 2048,
    ) -> None:
        if unknown := sorted(set(scenes or ()) - set(SCENES)):
            raise ValueError(f"scenes must be among {', '.join(SCENES)}, got {', '.join(unknown)}")
        if train_per_scene is not None and train_per_scene < 1:
            raise ValueError(f"train_per_scene must be at least 1, or null for all, got {train_per_scene}")
        if memory_budget_mb < 0:
            raise ValueError(f"memory_budget_mb must not be negative, got {memory_budget_mb}")
        self.root = user_path(root)
        self.scenes = scenes
        self.resize = checked_size(resize)
        self.train_per_scene = train_per_scene
        self.memory_budget_mb = memory_budget_mb
        self.classes = tuple(dict.fromkeys(scenes or SCENES))

    def input_spec(self) -> InputSpec:
        """Colour images of the size to which they are resized."""
        return InputSpec("image", (3, *self._size()), self.name, resize=self.resize)

    def load(self, part: Part) -> Samples:
        """One part; names are `SCENE/` and the key in its database.

        Raises:
            SourceError: the package lmdb or a database is missing, or an image cannot be decoded.
        """
        if find_spec("lmdb") is None:
            raise SourceError("LSUN needs the package lmdb: pip install 'adlightning[lsun]'")
        folders = [self.root / f"{scene}_{'val' if part == 'test' else part}_lmdb" for scene in self.classes]
        there = [(i, folder) for i, folder in enumerate(folders) if folder.is_dir()]
        if not there or (part == "test" and len(there) < len(folders)):
            missing = ", ".join(folder.name for folder in folders if not folder.is_dir())
            raise SourceError(f"LSUN: {self.root} lacks {missing}; download and unpack them there")
        most = self.train_per_scene if part == "train" else None
        keys = [(i, folder, key) for i, folder in there for key in _evenly(_keys(folder), most)]
        images = _Photographs([(folder, key) for _, folder, key in keys], self._size())
        x: Tensor | LazyImages = images
        if len(keys) * 3 * int(np.prod(self._size())) <= self.memory_budget_mb * 2**20:
            x = torch.stack([images[i] for i in range(len(images))])
        names = tuple(f"{self.classes[i]}/{key.decode(errors='replace')}" for i, _, key in keys)
        return Samples(x, np.array([i for i, _, _ in keys], dtype=np.int64), names)

    def _size(self) -> Size:
        assert self.resize is not None  # it has no null
        return self.resize


def _open(folder: Path) -> Any:
    import lmdb

    try:
        return lmdb.open(str(folder), max_readers=1, readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise SourceError(f"LSUN: {folder} cannot be read: {error}") from error


def _keys(folder: Path) -> list[bytes]:
    with _open(folder) as database, database.begin() as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
    if not keys:
        raise SourceError(f"LSUN: {folder} holds no images")
    return keys


def _evenly(keys: list[bytes], n: int | None) -> list[bytes]:
    return keys if n is None or n >= len(keys) else [keys[i * len(keys) // n] for i in range(n)]


class _Photographs:
    """Images by folder and key, decoded when asked for; every process opens the databases for itself."""

    def __init__(self, keys: list[tuple[Path, bytes]], size: Size) -> None:
        self.keys, self.size = keys, size
        self._opened: dict[tuple[int, Path], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"keys": self.keys, "size": self.size, "_opened": {}}

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Tensor:
        folder, key = self.keys[index]
        place = (os.getpid(), folder)  # an open database is not for a process that was forked later
        if place not in self._opened:
            self._opened[place] = _open(folder)
        with self._opened[place].begin() as transaction:
            content = transaction.get(key)
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as image:
                resized = image.convert("RGB").resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        except Exception as error:  # a damaged image raises whatever its parser trips over
            raise SourceError(f"LSUN: {folder}: {key!r} cannot be read as an image: {error}") from error
        return torch.from_numpy(np.array(resized).transpose(2, 0, 1).copy())
