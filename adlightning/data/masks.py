"""Masks of defects beside the images that they are of: which belongs to which, and what is wrong. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.data.image_headers import image_name, opened_image, read_size

GOOD = ("good", "ok", "normal")
"""Names of a folder of normal images: MVTec AD's and VisA's, BTAD's, and `FolderData`'s."""

MASKS = "ground_truth"
SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
"""Of masks, in lower case: formats that keep every pixel."""

_THREADS = min(16, os.cpu_count() or 1)
_SHOWN = 5


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask (H, W), true where a pixel has any value but 0. Raises SourceError as `decode` does."""
    with opened_image(path) as (image, turn):
        image = image if turn is None else image.transpose(turn)
        image = image.convert("RGBA") if image.mode == "P" else image
        values = np.asarray(image if image.mode in ("1", "L") else image.convert("RGB"))
    return np.asarray(values > 0 if values.ndim == 2 else (values > 0).any(axis=2))


def find_masks(root: Path, images: Sequence[Path]) -> tuple[dict[Path, Path], list[str]]:
    """The mask of each defective test image, and in words what is missing or too many.

    Args:
        root: the folder, with `test` and `ground_truth`; without the latter there are no masks, and nothing is wrong.
        images: the test images, good ones too. `test/dent/3.jpg` has `ground_truth/dent/3_mask.png` or `.../3.png`.
    """
    folder = root / MASKS
    if not folder.is_dir():
        return {}, []
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    left = {path for path in files if path.suffix.lower() in SUFFIXES}
    problems = [
        f"{image_name(path, root)} is no mask: masks are {', '.join(SUFFIXES)}, which keep every pixel"
        for path in files
        if path not in left and path.suffix.lower() in (".jpg", ".jpeg", ".gif", ".webp")
    ]
    by_stem = {path.relative_to(folder).with_suffix(""): path for path in sorted(left, reverse=True)}
    found: dict[Path, Path] = {}
    for image in images:
        below = image.relative_to(root / "test")
        stem = below.with_suffix("")
        mask = by_stem.get(stem.with_name(f"{stem.name}_mask")) or by_stem.get(stem)
        if below.parts[0] in GOOD:
            continue
        if mask is None:
            name = f"{MASKS}/{stem.as_posix()}_mask.png"
            problems.append(f"{image_name(image, root)} has no mask, {name} or {stem.name}.png")
        else:
            found[image] = mask
    for path in sorted(left - set(found.values())):
        is_good = path.relative_to(folder).parts[0] in GOOD
        why = "is of a good image, which has no defect" if is_good else "has no image in test"
        problems.append(f"{image_name(path, root)} {why}")
    return found, problems


def faults_of(masks: Mapping[Path, Path], root: Path) -> list[str]:
    """In words, which masks cannot be read, are of another size than their image, or show no defect."""

    def fault(pair: tuple[Path, Path]) -> str | None:
        image, mask = pair
        try:
            size, (_, *wanted) = list(_size_of(mask)), read_size(image)
            if size != wanted:
                sizes = f"{size[0]}x{size[1]} (height x width), {image_name(image, root)} is {wanted[0]}x{wanted[1]}"
                return f"{image_name(mask, root)} is {sizes}"
            return None if read_mask(mask).any() else f"{image_name(mask, root)} is 0 everywhere and shows no defect"
        except SourceError as error:
            return str(error)

    with ThreadPoolExecutor(_THREADS) as pool:
        return [words for words in pool.map(fault, masks.items()) if words is not None]


def _size_of(mask: Path) -> tuple[int, int]:
    _, height, width = read_size(mask)
    return height, width


def in_one_line(problems: Iterable[str]) -> str:
    """The first problems, and how many there are."""
    listed = list(problems)
    n = "1 problem" if len(listed) == 1 else f"{len(listed)} problems"
    more = "; ..." if len(listed) > _SHOWN else ""
    return f"{n} with masks: {'; '.join(listed[:_SHOWN])}{more}"
