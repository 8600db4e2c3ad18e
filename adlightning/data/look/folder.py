"""A look at a folder of images: sizes, channels, damaged files, class folders, and what else lies there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adlightning.core.contracts import SourceError
from adlightning.core.messages import quoted
from adlightning.data.image_headers import Shape, image_name, opened_image, read_size
from adlightning.data.image_search import LeftOut, find_images, takes
from adlightning.data.label_words import Meanings
from adlightning.data.look.findings import Look
from adlightning.labels import NORMAL

Layout = Literal["labels", "classes", "flat"]
"""`train/normal` and so on of `FolderData`; a folder a class of `ImageFolder`; all images of `FlatFolder`."""

PARTS = ("train", "test")
LABELS = {"train": ("normal", "anomaly", "unlabelled"), "test": ("normal", "anomaly", "close")}
MOST_READ = 20_000
"""Headers of so many images are read; of more, evenly spaced ones."""

_THREADS = min(16, os.cpu_count() or 1)
_LARGE = 128  # pixels a side; the networks of the configs are made for less
_SIDE = 64
_SHOWN = 5
_ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9"}  # how files begin, and what stands near their end
_TAIL = 64


@dataclass
class Images:
    """What was read of images.

    Args:
        shapes: how many there are of each shape (C, H, W).
        examples: a file of each shape.
        damaged: files that cannot be read, with the reason.
    """

    shapes: Counter[Shape] = field(default_factory=Counter)
    examples: dict[Shape, Path] = field(default_factory=dict)
    damaged: dict[Path, str] = field(default_factory=dict)


def look_at_folder(
    root: Path, layout: Layout | None = None, resize: bool = False, channels: bool = False, normal_class: bool = False
) -> Look:
    """Look at a folder of images.

    Args:
        root: the folder.
        layout: how it is read; None finds that.
        resize: whether it is said already to what size images are brought.
        channels: whether it is said already how many channels they get.
        normal_class: whether it is said already which class is normal.

    Raises:
        ValueError: there is no folder, or one that cannot be read.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    look, left_out = Look(root), LeftOut()
    layout = layout or layout_of(root)
    classes = {"all": find_images(root, left_out)} if layout == "flat" else _by_class(look, root, left_out)
    files = [file for found in classes.values() for file in found]
    if not files:
        look.faults.append(f"There are no images{_where(root, layout)}.")
    images = _read(files)
    counts = ", ".join(f"{name} {len(found):,}" for name, found in classes.items())
    look.facts = f"{len(files):,} images" + (f" ({counts})" if layout != "flat" and counts else "")
    if len(files) > MOST_READ:
        look.facts += f", of which {MOST_READ:,} were looked at"
    if layout == "labels":
        _check_labels(look, root, classes)
    elif layout == "classes":
        _decide_normal(look, root, classes, normal_class)
    _decide_shape(look, images, resize, channels)
    if images.damaged:
        shown = [f"{image_name(file, root)} ({why})" for file, why in list(images.damaged.items())[:_SHOWN]]
        shown += ["..."] if len(images.damaged) > _SHOWN else []
        n = len(images.damaged)
        what = "1 image cannot be read" if n == 1 else f"{n} images cannot be read"
        look.faults.append(f"{what}: {', '.join(shown)}. Move such files out of the folder.")
    if words := left_out.words(root):
        look.notes.append(f"left out: {words}.")
    return look


def layout_of(root: Path) -> Layout:
    """How a folder is to be read, by the names of its folders."""
    folders = {part: {path.name for path in _folders(root / part)} for part in PARTS}
    if folders["train"] | folders["test"]:
        named = folders["train"] <= set(LABELS["train"]) and folders["test"] <= set(LABELS["test"])
        return "labels" if named else "classes"
    return "labels"


def _by_class(look: Look, root: Path, left_out: LeftOut) -> dict[str, list[Path]]:
    """Images of `train/good` and so on; what lies in the wrong place is a fault."""
    for path in sorted(root.iterdir()):
        lower = path.name.lower()
        if path.is_dir() and lower in PARTS and path.name != lower:
            look.faults.append(f"{path.name} is not read: rename it to {lower}, in small letters.")
        elif path.name not in PARTS and not path.name.startswith(".") and (path.is_dir() or takes(path, LeftOut())):
            left_out.unread.append(path)
    classes = {}
    for part in PARTS:
        folder = root / part
        loose = [path for path in sorted(folder.iterdir()) if not path.is_dir()] if folder.is_dir() else []
        if images := [path for path in loose if takes(path, left_out)]:
            look.faults.append(f"{len(images)} images lie in {part} itself ({images[0].name}): each needs a folder.")
        for inside in _folders(folder):
            if found := find_images(inside, left_out):
                classes[f"{part}/{inside.name}"] = found
            else:
                left_out.unread.append(inside)
    return classes


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _where(root: Path, layout: Layout) -> str:
    if layout == "flat":
        return ""
    inside = [path.name for path in _folders(root)]
    has = f"; {root.name} has the folders {quoted(inside, 6)}" if inside else ""
    return f" in {root.name}/train/normal or {root.name}/train/<class>{has}"


def _check_labels(look: Look, root: Path, classes: dict[str, list[Path]]) -> None:
    """Names of folders as `FolderData` has them, and normal images among them."""
    for part in PARTS:
        unknown = [path.name for path in _folders(root / part) if path.name not in LABELS[part]]
        if unknown:
            look.faults.append(
                f"{part} has the folders {quoted(unknown)}: rename them to {', '.join(LABELS[part])}, or take them as "
                f"classes (--data.source=ImageFolder, docs/own_data.md)."
            )
    if classes and not {"train/normal", "train/unlabelled"} & classes.keys():
        look.faults.append("There are no images to train on in train/normal or train/unlabelled.")
    if (root / "test").is_dir() and not any(name.startswith("test/") for name in classes):
        look.faults.append("test has no images in test/normal or test/anomaly: add some, or remove test.")


def _decide_normal(look: Look, root: Path, classes: dict[str, list[Path]], said: bool) -> None:
    names = {part: [name.partition("/")[2] for name in classes if name.startswith(f"{part}/")] for part in PARTS}
    for part in PARTS:
        if classes and not names[part]:
            look.faults.append(f"{part} has no images; they lie in {root.name}/{part}/<class>.")
    if said or not names["train"]:
        return
    by_word = [name for name in names["train"] if Meanings().of(name) == NORMAL]
    normal = by_word[0] if by_word else max(names["train"], key=lambda name: len(classes[f"train/{name}"]))
    why = "by its word" if by_word else "which most images are of"
    look.decide(
        f"Folders are classes ({quoted(names['train'], 6)}): which is normal? Taken: {normal!r}, {why}; every other "
        f"is an anomaly then.",
        normal_class=normal,
    )


def _decide_shape(look: Look, images: Images, resize: bool, channels: bool) -> None:
    sizes, depths = Counter[tuple[int, int]](), Counter[int]()
    for (c, h, w), n in images.shapes.items():
        sizes[h, w] += n
        depths[c] += n
    if not sizes:
        return
    (height, width), most = sizes.most_common(1)[0]
    words = {1: "grey", 3: "colour"}
    shape = f"{height}x{width}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    look.facts += f", {shape}, {' and '.join(words[c] for c in sorted(depths))}"
    target = [height, width] if max(height, width) <= _LARGE else [_SIDE, _SIDE]
    if len(sizes) > 1 and not resize:
        smallest, largest = min(sizes), max(sizes)
        (_, h, w), other = next(found for found in images.examples.items() if found[0][1:] != (height, width))
        look.decide(
            f"Images differ in size (height x width): {most:,} are {height}x{width}, "
            f"{image_name(other, look.path)} is {h}x{w}; from {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]} "
            f"in all. Each is brought to {target[0]}x{target[1]}.",
            resize=target,
        )
    elif max(height, width) > _LARGE and not resize:
        look.decide(
            f"Images are {height}x{width}, and the configs' networks are made for 32 to 64 pixels a side: "
            f"brought to {_SIDE}x{_SIDE}.",
            False,
            resize=target,
        )
    if len(depths) > 1 and not channels:
        counted = " and ".join(f"{n:,} {words[c]}" for c, n in depths.most_common())
        look.decide(f"There are {counted} images: all become colour.", channels=3)


def _read(files: Sequence[Path]) -> Images:
    step = max(1, -(-len(files) // MOST_READ))
    images = Images()
    looked = files[::step]
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, found in zip(looked, pool.map(_shape_or_reason, looked), strict=True):
            if isinstance(found, str):
                images.damaged[file] = found
            else:
                images.shapes[found] += 1
                images.examples.setdefault(found, file)
    return images


def _shape_or_reason(file: Path) -> Shape | str:
    """The shape of an image; or why it cannot be read. One that seems cut off is decoded to make sure."""
    try:
        shape = read_size(file)
        if _seems_cut_off(file):
            with opened_image(file) as (image, _):
                image.load()
        return shape
    except SourceError as error:
        return str(error).removeprefix(f"{file} ")


def _seems_cut_off(file: Path) -> bool:
    with file.open("rb") as opened:
        start = opened.read(4)
        opened.seek(max(0, file.stat().st_size - _TAIL))
        tail = opened.read()
    return any(start.startswith(magic) and end not in tail for magic, end in _ENDS.items())
