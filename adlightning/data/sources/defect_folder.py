"""Images of good parts and of defects by kind, with masks: the layout of MVTec AD, VisA and BTAD."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.data.image_headers import image_name
from adlightning.data.masks import GOOD, MASKS, faults_of, find_masks, in_one_line, read_mask
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.sources.image_folder import Labelled, _FolderSource
from adlightning.data.sources.images import ImageFiles
from adlightning.labels import ANOMALY, NORMAL


class DefectFolder(_FolderSource, AnomalySource):
    """Images of MVTec AD's layout: `root/train/good`, `root/test/good`, a folder `root/test/<defect>` for each kind of
    defect, and masks in `root/ground_truth/<defect>`. As uint8 (N, C, H, W).

    `good` may be called `ok` or `normal`. The mask of `test/dent/3.png` is `ground_truth/dent/3_mask.png`, or `3.png`
    there; any value but 0 is a defect. Without a folder `ground_truth` there are no masks.

    Args:
        root: the folder.
        resize: `[height, width]` or one side for both, in pixels; `auto` takes images of one size of at most 256
            pixels a side as they are, and brings others to the median size, shrunk to 256; null takes images as they
            are, all of one size.
        channels: 1 or 3 converts every image; `auto` makes grey and colour ones colour; null takes them all alike.
        masks: false leaves `ground_truth` unread.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, others decoded when asked for.
    """

    def __init__(
        self,
        root: str,
        resize: tuple[int, int] | int | Literal["auto"] | None = None,
        channels: Literal[1, 3, "auto"] | None = None,
        masks: bool = True,
        memory_budget_mb: int = 2048,
    ) -> None:
        super().__init__(root, resize, channels, memory_budget_mb)
        self.reads_masks = masks

    def load(self, part: Part) -> Samples | None:
        """One part, None for a test part when there is no folder `test`; names are paths relative to `root`.

        Raises:
            SourceError: no good training images, defects among them, a test folder without images, mixed sizes or
                channels, a file that cannot be decoded, or masks that do not fit their images.
        """
        self._require_masks()
        return self._samples(part) if self._files[part] else None

    def labels(self, part: Part) -> NDArray[np.int64]:
        """Of the images of a part, 0 or 1."""
        return np.array([label for _, label in self._files[part]], dtype=np.int64)

    def names(self, part: Part) -> tuple[str, ...]:
        """Of the images of a part: paths relative to `root`."""
        return tuple(image_name(path, self.root) for path, _ in self._files[part])

    def defects(self, part: Part) -> list[str]:
        """The kind of defect of each image of a part: the name of its folder, empty for good ones."""
        kinds = [path.relative_to(self.root).parts[1] for path, _ in self._files[part]]
        return ["" if kind in GOOD else kind for kind in kinds]

    def images(self, part: Part) -> ImageFiles:
        """The images of a part, of any size. Raises SourceError as :meth:`load` does of masks."""
        self._require_masks()
        return ImageFiles([path for path, _ in self._files[part]], self.resize, self.channels, self.reading)

    @property
    def has_masks(self) -> bool:
        """Whether defective test images have masks."""
        return bool(self._found[0])

    def mask(self, place: int) -> NDArray[np.bool_] | None:
        """Where a test image is defective, (H, W) at the size of its file; None for a good one."""
        mask = self._found[0].get(self._files["test"][place][0])
        return None if mask is None else read_mask(mask)

    @cached_property
    def _found(self) -> tuple[dict[Path, Path], list[str]]:
        """The mask of each defective test image, and what is wrong with masks."""
        if not self.reads_masks:
            return {}, []
        found, problems = find_masks(self.root, [path for path, _ in self._files["test"]])
        return found, problems + faults_of(found, self.root)

    def _require_masks(self) -> None:
        if problems := self._found[1]:
            raise SourceError(f"{self.root}: {in_one_line(problems)}: masks=false leaves {MASKS} unread")

    def _look_beside_parts(self) -> None:
        super()._look_beside_parts()
        self._left_out.unread = [path for path in self._left_out.unread if path != self.root / MASKS]
        for path in sorted(self.root.iterdir()):
            if path.is_dir() and path.name.lower() == MASKS and path.name != MASKS:
                raise SourceError(f"{path} is not read: rename it to {MASKS}, in small letters")

    def _scan(self, part: Part) -> Labelled:
        folders = self._subfolders(part)
        for folder in folders:
            if (lower := folder.name.lower()) in GOOD and folder.name != lower:
                raise SourceError(f"{folder} is not read: rename it to {lower}, in small letters")
        defects = [folder.name for folder in folders if folder.name not in GOOD]
        if part == "train" and defects:
            raise SourceError(
                f"{self.root / part} has the folders {', '.join(defects)}: only good images are trained on, in "
                f"{' or '.join(GOOD)}; defects lie in {self.root / 'test'}"
            )
        files = [
            (path, NORMAL if folder.name in GOOD else ANOMALY) for folder in folders for path in self._images_in(folder)
        ]
        if not files and (part == "train" or (self.root / part).is_dir()):
            none = self._left_out.none(self.root, self.root / part)
            raise SourceError(f"{none}; good ones lie in {self.root / part / GOOD[0]}")
        return files
