"""A look at a folder of MVTec AD's layout: good images, kinds of defects, masks, sizes, damaged files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adlightning.core.contracts import SourceError
from adlightning.core.messages import quoted
from adlightning.data.image_headers import Shape, image_name, read_size
from adlightning.data.image_search import LeftOut, find_images, takes
from adlightning.data.image_sizes import LARGEST, choose
from adlightning.data.look.findings import Look
from adlightning.data.masks import GOOD, MASKS, faults_of, find_masks

PARTS = ("train", "test")
_SHOWN = 5
_THREADS = min(16, os.cpu_count() or 1)


def is_defect_layout(root: Path) -> bool:
    """Whether a folder has good images alone to train on, and masks, or defects to test on by other names than
    `FolderData`'s."""
    train, test = ({path.name.lower() for path in _folders(root / part)} for part in PARTS)
    if not train & set(GOOD):
        return False
    own = test or train  # without a test it is the words to train on that tell
    return (root / MASKS).is_dir() or (train <= set(GOOD) and not own <= {"normal", "anomaly", "close"})


def look_at_defects(root: Path, said: Mapping[str, Any]) -> Look:
    """Look at a folder for `MVTecLayout`.

    Args:
        root: the folder.
        said: arguments of `MVTecLayout` that are given.

    Raises:
        ValueError: there is no folder, or one that cannot be read.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    look, left_out = Look(root), LeftOut()
    found = {(part, folder.name): find_images(folder, left_out) for part in PARTS for folder in _folders(root / part)}
    _look_for_lost(look, root, left_out)
    files = [file for images in found.values() for file in images]
    good = [file for (part, name), images in found.items() if part == "train" and name in GOOD for file in images]
    for part, name in found:
        if (lower := name.lower()) in GOOD and name != lower:
            look.faults.append(f"{part}/{name} is not read: rename it to {lower}, in small letters.")
    if others := [name for part, name in found if part == "train" and name.lower() not in GOOD]:
        look.faults.append(
            f"train has the folders {quoted(others)}: only good images are trained on; move them to test."
        )
    if not good:
        look.faults.append(f"There are no images to train on in {root.name}/train/{' or '.join(GOOD)}.")
    kinds = [name for (part, name), images in found.items() if part == "test" and name.lower() not in GOOD and images]
    if kinds and not any(found.get(("test", name)) for name in GOOD):
        look.notes.append("test has no good images: there are no ranking metrics without them.")
    tested = [
        file
        for (part, name), images in found.items()
        if part == "test" and (name in GOOD or name.lower() not in GOOD)
        for file in images
    ]
    masks = 0 if said.get("masks") is False else _look_at_masks(look, root, tested)
    counts = ", ".join(f"{part}/{name} {len(images):,}" for (part, name), images in found.items())
    shown = f", {masks:,} masks" if masks else ", no masks"
    look.facts = f"the layout of MVTec AD, {len(files):,} images ({counts}){shown}"
    _decide_shape(look, _read(look, files), said)
    if words := left_out.words(root):
        look.notes.append(f"left out: {words}.")
    return look


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _look_for_lost(look: Look, root: Path, left_out: LeftOut) -> None:
    """Folders of other letters, and images that lie beside the folders."""
    for path in sorted(root.iterdir()):
        lower = path.name.lower()
        if path.is_dir() and lower in (*PARTS, MASKS) and path.name != lower:
            look.faults.append(f"{path.name} is not read: rename it to {lower}, in small letters.")
        elif (
            path.name not in (*PARTS, MASKS)
            and not path.name.startswith(".")
            and (path.is_dir() or takes(path, left_out))
        ):
            left_out.unread.append(path)
    for part in PARTS:
        inside = sorted((root / part).iterdir()) if (root / part).is_dir() else []
        if loose := [path for path in inside if not path.is_dir() and takes(path, left_out)]:
            look.faults.append(f"{len(loose)} images lie in {part} itself ({loose[0].name}): each needs a folder.")


def _look_at_masks(look: Look, root: Path, images: list[Path]) -> int:
    """How many there are; what is wrong with them is a fault, by name."""
    masks, problems = find_masks(root, images)
    problems += faults_of(masks, root)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        look.faults.append(
            f"Masks do not fit: {'; '.join(problems[:_SHOWN])}{more}. --data.masks=false leaves {MASKS} unread."
        )
    return len(masks)


def _read(look: Look, files: list[Path]) -> dict[Path, Shape]:
    """Shapes (C, H, W) by headers; files that cannot be read are a fault."""

    def shape_of(file: Path) -> Shape | str:
        try:
            return read_size(file)
        except SourceError as error:
            return str(error).removeprefix(f"{file} ")

    with ThreadPoolExecutor(_THREADS) as pool:
        read = dict(zip(files, pool.map(shape_of, files), strict=True))
    if damaged := [f"{image_name(file, look.path)} ({why})" for file, why in read.items() if isinstance(why, str)]:
        more = f" and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
        look.faults.append(f"Images cannot be read: {', '.join(damaged[:_SHOWN])}{more}. Move them out of the folder.")
    return {file: shape for file, shape in read.items() if not isinstance(shape, str)}


def _decide_shape(look: Look, shapes: Mapping[Path, Shape], said: Mapping[str, Any]) -> None:
    if not shapes:
        return
    sizes = Counter((height, width) for _, height, width in shapes.values())
    depths = Counter(channels for channels, _, _ in shapes.values())
    words = {1: "grey", 3: "colour"}
    (height, width), most = sizes.most_common(1)[0]
    look.facts += f", {f'{height}x{width}' if len(sizes) == 1 else f'{len(sizes)} sizes'}"
    look.facts += f", {' and '.join(words[channels] for channels in sorted(depths))}"
    trained = [shape for file, shape in shapes.items() if file.relative_to(look.path).parts[0] == "train"]
    chosen = choose(trained or list(shapes.values()), list(shapes.values()))
    resize, channels, tiled = said.get("resize", "auto"), said.get("channels", "auto"), said.get("tile") is not None
    if chosen.resize is not None and not tiled and resize in ("auto", None):
        what = f"Images are {height}x{width} (height x width)"
        if len(sizes) > 1:
            other = next(file for file, shape in shapes.items() if shape[1:] != (height, width))
            h, w = shapes[other][1:]
            what = (
                f"Images differ in size (height x width): {most:,} are {height}x{width}, "
                f"{image_name(other, look.path)} is {h}x{w}"
            )
        small = f" Where defects are small, take tiles in place of it: --data.tile={LARGEST}."
        look.decide(
            f"{what}. Each is brought to {chosen.resize[0]}x{chosen.resize[1]}."
            + (small if min(map(min, sizes)) >= LARGEST else ""),
            resize is None and len(sizes) > 1,
            resize=list(chosen.resize),
        )
    if chosen.channels is not None and channels in ("auto", None):
        counted = " and ".join(f"{n:,} {words[depth]}" for depth, n in depths.most_common())
        look.decide(
            f"There are {counted} images: all become {words[chosen.channels]}.",
            channels is None or tiled,
            channels=chosen.channels,
        )
