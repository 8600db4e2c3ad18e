"""Public sets of image files that torchvision downloads: Omniglot, GTSRB, CelebA."""

from __future__ import annotations

import csv
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor
from torchvision import datasets

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.data.image_headers import Shape, Size, image_name
from adlightning.data.image_search import find_images
from adlightning.data.sources.base import ClassSource, Part, Samples
from adlightning.data.sources.images import ImageFiles, check_uniform, checked_size, within_budget
from adlightning.files.disk import user_path

Labelled = list[tuple[Path, int]]


class _FileSet(ClassSource):
    """What the sets share: sizes, memory, downloads, and what to say when files are not there.

    Args:
        root: folder that holds the set's own folder, in torchvision's layout.
        download: get missing files from the set's official address.
        resize: `[height, width]` or one side for both, in pixels; null takes images as they are.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, others decoded when asked for.
    """

    shape: ClassVar[Shape]
    """Of the images as they are; of a set whose sizes differ, its channels count alone."""

    def __init__(
        self, root: str = "data", download: bool = False, resize: Size | int | None = None, memory_budget_mb: int = 2048
    ) -> None:
        if memory_budget_mb < 0:
            raise ValueError(f"memory_budget_mb must not be negative, got {memory_budget_mb}")
        self.root = user_path(root)
        self.download = download
        self.resize = checked_size(resize)
        self.memory_budget_mb = memory_budget_mb

    @abstractmethod
    def _home(self, part: Part) -> Path:
        """The folder or file without which a part cannot be read."""

    @abstractmethod
    def _fetch(self, part: Part) -> None:
        """Let torchvision download a part."""

    @abstractmethod
    def _listed(self, part: Part) -> Labelled:
        """Files of a part and their classes, in order."""

    def input_spec(self) -> InputSpec:
        """Images of the set's size, or of that to which they are resized."""
        return InputSpec("image", self._shape(), self.name, resize=self.resize)

    def _shape(self) -> Shape:
        return (self.shape[0], *(self.resize or self.shape[1:]))

    def prepare(self) -> None:
        """Download the set when asked to and it is missing. Raises SourceError when that fails."""
        for part in ("train", "test") if self.download else ():
            if not self._home(part).exists():
                try:
                    self._fetch(part)
                except Exception as error:  # networks fail in many ways
                    raise SourceError(f"{self.name} could not be downloaded to {self.root}: {error}") from error

    def load(self, part: Part) -> Samples:
        """One official part; names are paths relative to `root`.

        Raises:
            SourceError: files are missing, altered, or cannot be decoded; the message names one, or the folder.
        """
        home = self._home(part)
        if not home.exists():
            ways = f"set download=true (root {self.root}), or put the files there"
            raise SourceError(f"{self.name}: there is no {home}; {ways}")
        files = self._listed(part)
        if not files:
            raise SourceError(f"{self.name}: {home} has no images")
        paths = [path for path, _ in files]
        shape = check_uniform(paths, self.resize, self.shape[0])
        x = within_budget(ImageFiles(paths, self.resize, self.shape[0]), shape, self.memory_budget_mb)
        y = np.array([label for _, label in files], dtype=np.int64)
        return Samples(x, y, tuple(image_name(path, self.root) for path in paths))


class Omniglot(_FileSet):
    """Omniglot (Lake et al., 2015), uint8 (N, 1, 105, 105), black strokes on white; classes are its 50 alphabets.

    Training is the background set, 19,280 images of 30 alphabets, the test the evaluation set, 13,180 images of the 20
    others. Read from `root/omniglot-py/images_background` and `root/omniglot-py/images_evaluation`.

    Args:
        root: folder that holds the set's own folder.
        download: get missing files from the set's official address.
        resize: `[height, width]` or one side for both, in pixels; null takes images as they are.
        invert: white strokes on black, as the digits of MNIST are.
    """

    name = "Omniglot"
    shape = (1, 105, 105)
    sizes: ClassVar[dict[Part, int]] = {"train": 19_280, "test": 13_180}
    classes: tuple[str, ...] = ()

    def __init__(
        self, root: str = "data", download: bool = False, resize: Size | int | None = None, invert: bool = False
    ) -> None:
        super().__init__(root, download, resize)
        self.invert = invert

    def load(self, part: Part) -> Samples:
        """One official part; names are paths relative to `root`. Raises SourceError."""
        samples = super().load(part)
        assert isinstance(samples.x, Tensor)  # both parts fit in the budget
        return Samples(255 - samples.x, samples.y, samples.names) if self.invert else samples

    def _home(self, part: Part) -> Path:
        return self.root / "omniglot-py" / ("images_background" if part == "train" else "images_evaluation")

    def _fetch(self, part: Part) -> None:
        datasets.Omniglot(self.root, background=part == "train", download=True)

    def _listed(self, part: Part) -> Labelled:
        homes = [self._home("train"), self._home("test")]
        alphabets = [path.name for home in homes if home.is_dir() for path in sorted(home.iterdir()) if path.is_dir()]
        self.classes = tuple(dict.fromkeys(alphabets))
        index = {name: i for i, name in enumerate(self.classes)}
        home = self._home(part)
        files = [(path, index[path.relative_to(home).parts[0]]) for path in find_images(home)]
        if len(files) != self.sizes[part]:
            raise SourceError(f"Omniglot: {home} must hold {self.sizes[part]} images, it holds {len(files)}")
        return files


class GTSRB(_FileSet):
    """German traffic signs (Stallkamp et al., 2012), uint8 (N, 3, H, W), 43 classes `0` to `42`.

    Read from `root/gtsrb/GTSRB/Training/CLASS/*.ppm`, and, for the test, `root/gtsrb/GT-final_test.csv` and
    `root/gtsrb/GTSRB/Final_Test/Images`. Images are of many sizes, from 15 to 250 pixels a side.

    Args:
        root: folder that holds the set's own folder.
        download: get missing files from the set's official address.
        resize: `[height, width]` or one side for both, in pixels.
    """

    name = "GTSRB"
    shape = (3, 0, 0)
    classes = tuple(str(i) for i in range(43))

    def __init__(self, root: str = "data", download: bool = False, resize: Size | int = 32) -> None:
        super().__init__(root, download, resize)

    def _home(self, part: Part) -> Path:
        folder = self.root / "gtsrb"
        return folder / "GTSRB" / "Training" if part == "train" else folder / "GT-final_test.csv"

    def _fetch(self, part: Part) -> None:
        datasets.GTSRB(self.root, split=part, download=True)

    def _listed(self, part: Part) -> Labelled:
        home = self._home(part)
        try:
            if part == "train":
                return [(path, self._label(path.relative_to(home).parts[0])) for path in find_images(home)]
            with home.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, delimiter=";", skipinitialspace=True))
            folder = self.root / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
            return [(folder / self._file_name(row["Filename"]), self._label(row["ClassId"])) for row in rows]
        except (KeyError, ValueError, TypeError, csv.Error) as error:  # TypeError: a row shorter than the header
            raise SourceError(f"GTSRB: {home} is not as it should be: {error}") from error

    def _file_name(self, text: str) -> str:
        if text in ("", "..") or text != Path(text).name:
            raise ValueError(f"Filename must be a name without a folder, got {text!r}")
        return text

    def _label(self, text: str) -> int:
        if not 0 <= int(text) < len(self.classes):
            raise ValueError(f"classes must lie in 0..{len(self.classes) - 1}, got {text}")
        return int(text)


class CelebA(_FileSet):
    """CelebA (Liu et al., 2015), aligned and cropped faces, uint8 (N, 3, 218, 178), of one class.

    162,770 images for training and 19,962 for the test. Read from `root/celeba`, whose lists are checked by torchvision
    against their official checksums.

    Args:
        root: folder that holds the set's own folder.
        download: get missing files from the set's official address; needs the package gdown.
        resize: `[height, width]` or one side for both, in pixels; null takes images as they are.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, others decoded when asked for.
    """

    name = "CelebA"
    shape = (3, 218, 178)
    classes = ("face",)

    def _home(self, part: Part) -> Path:
        return self.root / "celeba" / "img_align_celeba"

    def _fetch(self, part: Part) -> None:
        datasets.CelebA(str(self.root), split=part, download=True)

    def _listed(self, part: Part) -> Labelled:
        try:
            names = datasets.CelebA(str(self.root), split=part).filename
        except Exception as error:  # of the parser of any of five lists
            raise SourceError(f"CelebA: the lists in {self.root / 'celeba'} cannot be read: {error}") from error
        return [(self._home(part) / name, 0) for name in names]
