"""A look at a folder of images: class folders, what lies in them, and what else lies there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from adlightning.core.messages import quoted
from adlightning.data.image_search import LeftOut, find_images, takes
from adlightning.data.label_words import Meanings
from adlightning.data.look.defects import is_defect_layout
from adlightning.data.look.findings import Look
from adlightning.data.look.photographs import MOST_READ, decide_pictures, read_photographs
from adlightning.labels import NORMAL

Layout = Literal["labels", "classes", "flat"]
"""`train/normal` and so on of `FolderData`; a folder a class of `ImageFolder`; all images of `FlatFolder`."""

PARTS = ("train", "test")
LABELS = {"train": ("normal", "anomaly", "unlabelled"), "test": ("normal", "anomaly", "close")}
_NULLS = ("background",)  # of which null says something


def look_at_folder(
    root: Path, layout: Layout | None = None, said: Mapping[str, Any] = {}, normal_class: bool = False
) -> Look:
    """Look at a folder of images.

    Args:
        root: the folder.
        layout: how it is read; None finds that.
        said: arguments of the folder's source that are given; `auto` leaves it to the source.
        normal_class: whether it is said already which class is normal.

    Raises:
        ValueError: there is no folder, or one that cannot be read.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    look, left_out = Look(root), LeftOut()
    layout = layout or layout_of(root)
    classes = {"all": find_images(root, left_out)} if layout == "flat" else _by_class(look, root, left_out)
    files = [file for inside in classes.values() for file in inside]
    if not files:
        look.faults.append(f"There are no images{_where(root, layout)}.")
    said = {name: value for name, value in said.items() if value != "auto" and (value is not None or name in _NULLS)}
    found = read_photographs(files, said.get("white"))
    counts = ", ".join(f"{name} {len(inside):,}" for name, inside in classes.items())
    look.facts = f"{len(files):,} images" + (f" ({counts})" if layout != "flat" and counts else "")
    if len(files) > MOST_READ:
        look.facts += f", of which {MOST_READ:,} were looked at"
    if layout == "labels":
        _check_labels(look, root, classes)
    elif layout == "classes":
        _decide_normal(look, root, classes, normal_class)
    training = [file for name, inside in classes.items() if not name.startswith("test/") for file in inside]
    decide_pictures(look, found, training, said, auto=layout != "flat")
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
    kinds = [(name, Meanings().of(name)) for name in inside]
    if good := next((name for name, kind in kinds if kind == NORMAL), None):
        has += f". Move most of {good!r} to {root.name}/train/normal and the others to {root.name}/test/normal"
        others = [name for name in inside if name != good and name.lower() not in PARTS]
        has += f", and {quoted(others, 6)} to {root.name}/test/anomaly" if others else ""
    return f" in {root.name}/train/normal or {root.name}/train/<class>{has}"


def _check_labels(look: Look, root: Path, classes: dict[str, list[Path]]) -> None:
    """Names of folders as `FolderData` has them, and normal images among them."""
    of_defects = is_defect_layout(root)
    for part in PARTS:
        unknown = [path.name for path in _folders(root / part) if path.name not in LABELS[part]]
        if unknown:
            look.faults.append(
                f"{part} has the folders {quoted(unknown)}: rename them to {', '.join(LABELS[part])}, or take them as "
                f"classes (--data.source=ImageFolder, docs/own_data.md)."
                + (" This is MVTec AD's layout, which patch_knn/mvtec and its like read." if of_defects else "")
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
