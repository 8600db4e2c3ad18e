"""Folders of image files: one subfolder a class, or normal and anomaly, or images of one kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.pictures import AS_EVER, Background, ImageReading, ResizeMode
from adlightning.data.image_headers import Shape, Size, image_name
from adlightning.data.image_search import LeftOut, find_images, takes
from adlightning.data.image_sizes import choose
from adlightning.data.named_samples import OnBad
from adlightning.data.sources.base import AnomalySource, ClassSource, Part, Samples, Source
from adlightning.data.sources.images import (
    ImageFiles,
    check_uniform,
    checked_size,
    read_sizes,
    undecodable,
    within_budget,
)
from adlightning.files.disk import user_path
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

PARTS: tuple[Part, Part] = ("train", "test")
LABELS: dict[Part, dict[str, int]] = {
    "train": {"normal": NORMAL, "anomaly": ANOMALY, "unlabelled": NO_LABEL},
    "test": {"normal": NORMAL, "anomaly": ANOMALY, "close": ANOMALY},
}
"""Subfolders that a :class:`NormalAnomalyFolder` may have, and what lies in them."""

Labelled = list[tuple[Path, int]]
_SHOWN = 5


class _FolderSource(Source):
    """What both kinds of folder share: sizes, memory and names.

    Args:
        root: the folder.
        resize: `[height, width]` or one side for both, in pixels; `auto` takes images of one size of at most 256
            pixels a side as they are, and brings others to the median size, shrunk to 256; null takes images as they
            are, all of one size.
        channels: 1 or 3 converts every image; `auto` makes grey and colour ones colour; null takes them all alike.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, others decoded when asked for.
        resize_mode: `squash` resizes height and width each; `pad` keeps the aspect ratio and puts black around; `crop`
            keeps it and cuts off what stands out.
        background: under transparent pixels: `white`, `grey` or `black`; null drops the transparency.
        white: the value of 16-bit grey images, or of floats, that becomes 255; null is 65535, and refuses floats.
        on_bad: what to do with files that cannot be decoded: `refuse`, or `skip`, which decodes each once more.
    """

    def __init__(
        self,
        root: str,
        resize: tuple[int, int] | int | Literal["auto"] | None = "auto",
        channels: Literal[1, 3, "auto"] | None = "auto",
        memory_budget_mb: int = 2048,
        resize_mode: ResizeMode = "squash",
        background: Background | None = "white",
        white: float | None = None,
        on_bad: OnBad = "refuse",
    ) -> None:
        self.resize = None if resize == "auto" else checked_size(resize)
        if channels not in (None, 1, 3, "auto"):
            raise ValueError(f"channels must be 1, 3, auto or null, got {channels}")
        if on_bad not in get_args(OnBad):
            raise ValueError(f"on_bad must be one of {', '.join(get_args(OnBad))}, got {on_bad!r}")
        self.reading = ImageReading(resize_mode, background, white)
        self.on_bad = on_bad
        if memory_budget_mb < 0:
            raise ValueError(f"memory_budget_mb must not be negative, got {memory_budget_mb}")
        self.root = user_path(root)
        self.channels = None if channels == "auto" else channels
        self._chosen = (resize == "auto", channels == "auto")  # whether size and channels are chosen from the images
        self.memory_budget_mb = memory_budget_mb
        self.name = self.root.name or str(self.root)

    @abstractmethod
    def _scan(self, part: Part) -> Labelled:
        """Files of a part and their labels, in order; nothing for a part that is not there."""

    @cached_property
    def _left_out(self) -> LeftOut:
        return LeftOut()

    @cached_property
    def _files(self) -> dict[Part, Labelled]:
        files = {part: self._scan(part) for part in PARTS}
        if any(files.values()):
            self._left_out.warn(self.root)
        return files if self.on_bad == "refuse" else self._without_bad(files)

    def _without_bad(self, files: dict[Part, Labelled]) -> dict[Part, Labelled]:
        """Files that can be decoded; the others are said."""
        paths = [path for part in PARTS for path, _ in files[part]]
        bad = {paths[place]: why for place, why in undecodable(paths, self.reading).items()}
        if not bad:
            return files
        shown = "; ".join(f"{image_name(path, self.root)} {why}" for path, why in list(bad.items())[:_SHOWN])
        more = "; ..." if len(bad) > _SHOWN else ""
        if len(bad) == len(paths):
            raise SourceError(f"{self.root}: none of {len(paths)} images can be read: {shown}{more}")
        rank_zero_warn(f"{self.root}: skipped {len(bad)} of {len(paths)} images, which cannot be read: {shown}{more}")
        return {part: [(path, label) for path, label in files[part] if path not in bad] for part in PARTS}

    @cached_property
    def _decided(self) -> tuple[Shape, Size | None, Literal[1, 3] | None]:
        """The shape of all images, and to what size and channels they are brought, if to any."""
        paths = [path for part in PARTS for path, _ in self._files[part]]
        if not paths:
            raise SourceError(self._left_out.none(self.root, self.root))
        resize, channels = self.resize, self.channels
        if any(self._chosen):
            chosen = choose(*self._shapes_by_use(paths), self.reading.resize_mode)
            for why, is_chosen in zip((chosen.why_resize, chosen.why_channels), self._chosen, strict=True):
                if why and is_chosen:
                    rank_zero_warn(f"{self.root}: {why}")
            resize = chosen.resize if self._chosen[0] else resize
            channels = chosen.channels if self._chosen[1] else channels
        return check_uniform(paths, resize, channels, self.reading), resize, channels

    def _shapes_by_use(self, paths: Sequence[Path]) -> tuple[list[Shape], list[Shape]]:
        """Shapes of the images to train on, or of all where there are none, and of the others."""
        shapes, n = read_sizes(paths, self.reading), len(self._files["train"])
        return (shapes[:n], shapes[n:]) if n else (shapes, [])

    def input_spec(self) -> InputSpec:
        """The one size of all images, by their headers. Raises SourceError when there is none."""
        shape, resize, channels = self._decided
        reading = None if self.reading == AS_EVER else self.reading
        return InputSpec("image", shape, self.name, resize=resize, channels=channels, reading=reading)

    def _samples(self, part: Part) -> Samples:
        shape, resize, channels = self._decided
        paths = [path for path, _ in self._files[part]]
        y = np.array([label for _, label in self._files[part]], dtype=np.int64)
        x = within_budget(ImageFiles(paths, resize, channels, self.reading), shape, self.memory_budget_mb)
        return Samples(x, y, tuple(image_name(path, self.root) for path in paths))

    def _subfolders(self, part: Part) -> list[Path]:
        """The folders of a part; none when the part is not there. Raises SourceError when images lie beside them."""
        folder = self.root / part
        if not self.root.is_dir():
            raise SourceError(f"there is no folder {self.root}")
        if part == PARTS[0]:
            self._look_beside_parts()
        if not folder.is_dir():
            return []
        inside = sorted(folder.iterdir())
        folders = [path for path in inside if path.is_dir() and not path.name.startswith(".")]
        self._left_out.hidden += [path for path in inside if path.is_dir() and path not in folders]
        loose = [path for path in inside if not path.is_dir() and takes(path, self._left_out)]
        if loose:
            raise SourceError(f"{loose[0]} belongs to no class: images lie in subfolders of {folder}")
        return folders

    def _look_beside_parts(self) -> None:
        """Note folders and images beside the parts. Raises SourceError for a part in other letters, `Test`."""
        for path in sorted(self.root.iterdir()):
            lower = path.name.lower()
            if path.name in PARTS and not path.is_dir():
                raise SourceError(f"{path} must be a folder with one for each class")
            if path.is_dir() and lower in PARTS and path.name != lower:
                raise SourceError(f"{path} is not read: rename it to {lower}, in small letters")
            if path.is_dir() and path.name.startswith("."):
                self._left_out.hidden.append(path)
            elif path.name not in PARTS and (path.is_dir() or takes(path, LeftOut())):
                self._left_out.unread.append(path)

    def _images_in(self, folder: Path) -> list[Path]:
        """Images of a class; an empty folder is noted."""
        images = find_images(folder, self._left_out)
        if not images:
            self._left_out.unread.append(folder)
        return images


class ImageFolder(_FolderSource, ClassSource):
    """Images by class, `root/train/<class>/**` and `root/test/<class>/**`, as uint8 (N, C, H, W).

    Classes are the sorted names of the subfolders of both parts.

    Args:
        root: the folder.
        resize: `[height, width]` or one side for both, in pixels; `auto` takes images of one size of at most 256
            pixels a side as they are, and brings others to the median size, shrunk to 256; null takes images as they
            are, all of one size.
        channels: 1 or 3 converts every image; `auto` makes grey and colour ones colour; null takes them all alike.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, others decoded when asked for.
        resize_mode: `squash` resizes height and width each; `pad` keeps the aspect ratio and puts black around; `crop`
            keeps it and cuts off what stands out.
        background: under transparent pixels: `white`, `grey` or `black`; null drops the transparency.
        white: the value of 16-bit grey images, or of floats, that becomes 255; null is 65535, and refuses floats.
        on_bad: what to do with files that cannot be decoded: `refuse`, or `skip`, which decodes each once more.
    """

    classes: tuple[str, ...] = ()

    def load(self, part: Part) -> Samples:
        """One part; names are paths relative to `root`.

        Raises:
            SourceError: the part has no images, sizes or channels are mixed, or a file cannot be decoded.
        """
        if not self._files[part]:
            none = self._left_out.none(self.root, self.root / part)
            raise SourceError(f"{none}; put them into {self.root / part}/<class>/")
        return self._samples(part)

    def _scan(self, part: Part) -> Labelled:
        folders = {p: self._subfolders(p) for p in PARTS}
        self.classes = tuple(sorted({folder.name for p in PARTS for folder in folders[p]}))
        if not self.classes:
            raise SourceError(f"{self.root} has no class folders; images lie in {self.root}/train/<class>/")
        index = {name: i for i, name in enumerate(self.classes)}
        return [(path, index[folder.name]) for folder in folders[part] for path in self._images_in(folder)]


class FlatFolder(_FolderSource, ClassSource):
    """Every image of a folder and of those in it, of one kind, as uint8 (N, C, H, W); a test part alone.

    For anomalies: a folder of your own, or one of ODIN's archives (ImageNet (resize), LSUN (resize), iSUN).

    Args:
        root: the folder.
        resize: `[height, width]` or one side for both, in pixels; null takes images as they are, all of one size.
        channels: 1 or 3 converts every image; null takes them as they are, all alike.
        memory_budget_mb: images up to this many MiB decoded are held in memory, others decoded when asked for.
    """

    classes = ("image",)

    def __init__(
        self,
        root: str,
        resize: tuple[int, int] | int | None = None,
        channels: Literal[1, 3] | None = None,
        memory_budget_mb: int = 2048,
    ) -> None:
        super().__init__(root, resize, channels, memory_budget_mb)

    def load(self, part: Part) -> Samples:
        """The test part; names are paths relative to `root`.

        Raises:
            SourceError: the training part, which there is not; no images, mixed sizes or channels, or a file that
                cannot be decoded.
        """
        if part == "train":
            raise SourceError(f"{self.root} is for testing only; images to train on lie in an ImageFolder")
        if not self._files[part]:
            raise SourceError(self._left_out.none(self.root, self.root))
        return self._samples(part)

    def _scan(self, part: Part) -> Labelled:
        if not self.root.is_dir():
            raise SourceError(f"there is no folder {self.root}")
        return [(path, 0) for path in find_images(self.root, self._left_out)] if part == "test" else []


class NormalAnomalyFolder(_FolderSource, AnomalySource):
    """Images labelled by folder: `root/train/normal`, and where there are `train/anomaly`, `train/unlabelled`, and
    `test/normal`, `test/anomaly`, `test/close`; subfolders of these (kinds of defects) are searched too. As uint8
    (N, C, H, W).

    `root/test/close` holds anomalies that look much like normal images and of whose kind training has none (the close
    negatives of DROCC-LF, Goyal et al. 2020, Section 4.1): scored as anomalies, told apart by names `test/close/...`.

    Args:
        root: the folder.
        resize: `[height, width]` or one side for both, in pixels; `auto` takes images of one size of at most 256
            pixels a side as they are, and brings others to the median size, shrunk to 256; null takes images as they
            are, all of one size.
        channels: 1 or 3 converts every image; `auto` makes grey and colour ones colour; null takes them all alike.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, others decoded when asked for.
        resize_mode: `squash` resizes height and width each; `pad` keeps the aspect ratio and puts black around; `crop`
            keeps it and cuts off what stands out.
        background: under transparent pixels: `white`, `grey` or `black`; null drops the transparency.
        white: the value of 16-bit grey images, or of floats, that becomes 255; null is 65535, and refuses floats.
        on_bad: what to do with files that cannot be decoded: `refuse`, or `skip`, which decodes each once more.
    """

    def load(self, part: Part) -> Samples | None:
        """One part, None for a test part when there is no folder `test`; names are paths relative to `root`.

        Raises:
            SourceError: no normal or unlabelled training images, an unknown subfolder, a test folder without images,
                mixed sizes or channels, or a file that cannot be decoded.
        """
        return self._samples(part) if self._files[part] else None

    def _scan(self, part: Part) -> Labelled:
        labels = LABELS[part]
        folders = self._subfolders(part)
        unknown = [folder.name for folder in folders if folder.name not in labels]
        if unknown:
            raise SourceError(
                f"{self.root / part} has unknown subfolders {', '.join(unknown)}; allowed are {', '.join(labels)}"
            )
        files = [(path, labels[folder.name]) for folder in folders for path in self._images_in(folder)]
        if part == "train" and all(label == ANOMALY for _, label in files):
            none = self._left_out.none(self.root, self.root / "train" / "normal")
            raise SourceError(f"{none}; images to train on lie there or in unlabelled")
        if part == "test" and not files and (self.root / part).is_dir():
            none = self._left_out.none(self.root, self.root / part)
            raise SourceError(f"{none}; put them into normal and anomaly, or remove it")
        return files
