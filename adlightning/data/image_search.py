"""Images below a folder: what is taken for one, and what is left out, so that nothing is left out without a word."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from adlightning.core.contracts import SourceError
from adlightning.data.image_headers import FORMATS, image_name, is_image

IMAGE_SUFFIXES = frozenset(
    (
        *(".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg"),
        *(".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
    )
)
"""Suffixes, in lower case, of files that must be images; of other suffixes the content decides."""

_HARMLESS = {".ds_store", "thumbs.db", "desktop.ini"}  # what file browsers leave behind
_SHOWN = 3


@dataclass
class LeftOut:
    """What a search did not take.

    Args:
        others: files that are no images, or of a format that is not read.
        hidden: hidden images, and hidden folders.
        unread: what lies where no image is looked for, and folders without images.
    """

    others: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)

    def words(self, root: Path) -> str:
        """What is left out, by number and name; empty for nothing."""
        others, hidden, unread = (list(dict.fromkeys(paths)) for paths in (self.others, self.hidden, self.unread))
        suffixes = Counter(path.suffix.lower() or "without suffix" for path in others)
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common())
        parts = [f"other formats than {', '.join(FORMATS)}: {len(others)} ({kinds})"] if others else []
        for what, paths in (("hidden", hidden), ("empty or beside train and test", unread)):
            names = [image_name(path, root) for path in paths[:_SHOWN]] + ["..."] * (len(paths) > _SHOWN)
            parts += [f"{what}: {len(paths)} ({', '.join(names)})"] if paths else []
        return "; ".join(parts)

    def warn(self, root: Path) -> None:
        """Say what is left out, once."""
        from pytorch_lightning.utilities import rank_zero_warn  # takes seconds, and a look at a folder warns of nothing

        if words := self.words(root):
            rank_zero_warn(f"{root}: left out: {words}")

    def none(self, root: Path, where: Path) -> str:
        """That there are no images, and what there is instead."""
        words = self.words(root)
        return f"{where} has no images" + (f"; left out: {words}" if words else "")


def find_images(folder: Path, left_out: LeftOut | None = None) -> list[Path]:
    """Image files below a folder, sorted by path; hidden ones left out, links followed.

    Args:
        folder: where to look.
        left_out: gets what is not taken.

    Raises:
        SourceError: a folder that cannot be read, or a link to nothing.
    """
    found: list[Path] = []
    left = LeftOut() if left_out is None else left_out
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above would be walked in circles
            folders[:] = []
            continue
        seen.add(real)
        left.hidden += [Path(parent, name) for name in sorted(folders) if name.startswith(".")]
        # sorted, since of two links to a folder the first counts
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(parent, name) for name in sorted(files)):
            if takes(path, left):
                found.append(path)
    return sorted(found)


def takes(path: Path, left_out: LeftOut) -> bool:
    """Whether a file is taken for an image; else it is noted. Raises SourceError for a link to nothing."""
    hidden = path.name.startswith(".")
    if path.name.lower() in _HARMLESS:
        return False
    if not hidden and path.is_symlink() and not path.exists():
        raise SourceError(f"{path} is a link to {os.readlink(path)}, which is not there")
    if path.suffix.lower() in IMAGE_SUFFIXES or is_image(path):
        if hidden:
            left_out.hidden.append(path)
        return not hidden
    if not hidden:
        left_out.others.append(path)
    return False


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be read: {error.strerror}") from error
