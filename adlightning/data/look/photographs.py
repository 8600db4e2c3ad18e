"""What a look finds in image files: sizes, colours, bits, transparency, damage and copies, by headers where they do."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from adlightning.core.contracts import SourceError
from adlightning.core.pictures import SIXTEEN_BITS, ImageReading
from adlightning.data.image_headers import Header, image_name, opened_image, read_header
from adlightning.data.image_sizes import choose, differ_in_ratio
from adlightning.data.look.findings import Look

MOST_READ = 20_000
"""Headers of so many images are read; of more, evenly spaced ones."""

_ANY_DEPTH = ImageReading(white=SIXTEEN_BITS)  # whether floats have a white is for the look to say
_THREADS = min(16, os.cpu_count() or 1)
_SHOWN = 5
_DECODED = 20  # images of more than 8 bits whose largest value is looked for
_DARK = 2**14  # below a quarter of 16 bits, a camera has written fewer
_HEAD = 4096
_HASHED = 2**30  # bytes of files that are compared whole
_ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9"}  # how files begin, and what stands near their end
_TAIL = 64


@dataclass
class Photographs:
    """What was read of images.

    Args:
        headers: by file.
        damaged: files that cannot be read, with the reason.
    """

    headers: dict[Path, Header] = field(default_factory=dict)
    damaged: dict[Path, str] = field(default_factory=dict)

    def where(self, **wanted: object) -> list[Path]:
        """Files whose header has these values."""
        return [
            file
            for file, header in self.headers.items()
            if all(getattr(header, name) == value for name, value in wanted.items())
        ]


def read_photographs(files: Sequence[Path], white: float | None = None) -> Photographs:
    """Headers of files, with the white that is said, if any; a file that seems cut off is decoded to make sure."""
    step = max(1, -(-len(files) // MOST_READ))
    found, looked = Photographs(), files[::step]
    reading = ImageReading(white=white) if white else _ANY_DEPTH
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, header in zip(looked, pool.map(partial(_header_or_reason, reading=reading), looked), strict=True):
            if isinstance(header, str):
                found.damaged[file] = header
            else:
                found.headers[file] = header
    return found


def decide_pictures(
    look: Look, found: Photographs, training: Iterable[Path], said: Mapping[str, object], auto: bool = True
) -> None:
    """Add what is to be decided of images.

    Args:
        look: gets findings, notes, and faults.
        found: what was read.
        training: files to train on.
        said: arguments of the source that are given.
        auto: whether the source chooses sizes and channels by itself, and may leave out damaged files.
    """
    _decide_shape(look, found, set(training), said, auto)
    _decide_white(look, found, said)
    _decide_damaged(look, found, said, auto)
    _note_conversions(look, found, said)
    _note_copies(look, list(found.headers))


def _decide_shape(look: Look, found: Photographs, training: set[Path], said: Mapping[str, object], auto: bool) -> None:
    shapes = {file: header.shape for file, header in found.headers.items()}
    if not shapes:
        return
    sizes, depths = Counter(shape[1:] for shape in shapes.values()), Counter(shape[0] for shape in shapes.values())
    (height, width), most = sizes.most_common(1)[0]
    words = {1: "grey", 3: "colour"}
    shape = f"{height}x{width}" if len(sizes) == 1 else f"{len(sizes)} sizes"
    look.facts += f", {shape}, {' and '.join(words[c] for c in sorted(depths))}"
    trained = [shape for file, shape in shapes.items() if file in training]
    others = [shape for file, shape in shapes.items() if file not in training]
    chosen = choose(trained, others) if trained else choose(others)
    if chosen.resize is not None and "resize" not in said:
        height_, width_ = chosen.resize
        what = f"Images are {height}x{width} (height x width), larger than 256 pixels"
        if len(sizes) > 1:
            *_, largest = smallest, *_ = sorted(sizes, key=lambda size: (size[0] * size[1], size))
            other = next(file for file, shape in shapes.items() if shape[1:] != (height, width))
            h, w = shapes[other][1:]
            what = (
                f"Images differ in size (height x width): {most:,} are {height}x{width}, "
                f"{image_name(other, look.path)} is {h}x{w}; from {smallest[0]}x{smallest[1]} to "
                f"{largest[0]}x{largest[1]} in all"
            )
        ratios = differ_in_ratio([*sizes, chosen.resize]) and "resize_mode" not in said
        keeps = ", whatever its aspect ratio; resize_mode=pad or resize_mode=crop keeps it" if ratios else ""
        look.decide(f"{what}. Each is brought to {height_}x{width_}{keeps}.", not auto, resize=[height_, width_])
    if chosen.channels is not None and "channels" not in said:
        counted = " and ".join(f"{n:,} {words[c]}" for c, n in depths.most_common())
        look.decide(
            f"There are {counted} images: all become {words[chosen.channels]}.", not auto, channels=chosen.channels
        )


def _decide_white(look: Look, found: Photographs, said: Mapping[str, object]) -> None:
    """What is white where a value has more than 8 bits: files of 16 bits of a camera of 12 are nearly black."""
    if "white" in said:
        return
    deep, floats = found.where(depth="16 grey"), found.where(depth="float")
    first = image_name((floats or deep)[0], look.path) if floats or deep else ""
    if floats and deep:
        look.faults.append(
            f"{len(floats)} images hold floats or 32-bit numbers ({first}) and {len(deep)} 16-bit ones "
            f"({image_name(deep[0], look.path)}): what is white must be said of both alike; convert one kind to 8 bits."
        )
    elif floats:
        low, high = _extremes(floats)
        white = 1 if high <= 1 else 255 if high <= 255 else _all_bits(high)
        look.decide(
            f"{len(floats)} images hold floats or 32-bit numbers ({first}), from {low:g} to {high:g} in "
            f"those looked into: {white} becomes white, 0 black" + (", and so do lower values." if low < 0 else "."),
            white=white,
        )
    elif deep:
        high = _extremes(deep)[1]
        if high < _DARK:
            look.decide(
                f"{len(deep)} images have 16 bits a value ({first}), and their largest is {high:g}: taken for "
                f"{max(int(high), 1).bit_length()} bits, of which {_all_bits(high)} becomes white.",
                white=_all_bits(high),
            )
        else:
            more = "" if len(deep) == 1 else f" and {len(deep) - 1} more"
            look.notes.append(f"Of 16 bits a value {SIXTEEN_BITS:g} becomes 255, rounded: {first}{more}.")


def _all_bits(value: float) -> int:
    return int(2 ** max(8, max(int(value), 1).bit_length()) - 1)


def _extremes(files: Sequence[Path]) -> tuple[float, float]:
    """The smallest and the largest value of some of these files, evenly spaced; 0 and 1 where none can be read."""
    values = []
    for file in files[:: -(-len(files) // _DECODED)]:
        try:
            with opened_image(file, _ANY_DEPTH) as (image, _):
                pixels = np.asarray(image)
                finite = pixels[np.isfinite(pixels)]
                values += [float(finite.min()), float(finite.max())] if finite.size else []
        except SourceError:  # which is for those who decode it to say
            continue
    return (min(values), max(values)) if values else (0.0, 1.0)


def _decide_damaged(look: Look, found: Photographs, said: Mapping[str, object], auto: bool) -> None:
    if not (n := len(found.damaged)) or said.get("on_bad") == "skip":
        return
    shown = [f"{image_name(file, look.path)} ({why})" for file, why in list(found.damaged.items())[:_SHOWN]]
    shown += ["..."] if n > _SHOWN else []
    text = f"{'1 image' if n == 1 else f'{n} images'} cannot be read: {', '.join(shown)}."
    if auto and found.headers:
        look.decide(f"{text} {'It is' if n == 1 else 'They are'} skipped.", on_bad="skip")
    else:
        look.faults.append(f"{text} Move such files out of the folder.")


def _note_conversions(look: Look, found: Photographs, said: Mapping[str, object]) -> None:
    over = str(said.get("background", "white"))
    under = "transparency is dropped" if over == "None" else f"what is under transparent pixels becomes {over}"
    for files, words in (
        (found.where(has_alpha=True), f"Transparent pixels are possible: {under} (background)"),
        (found.where(frames=True), "Of several frames the first is taken"),
        (found.where(depth="16 colour"), "Of 16 bits a value and colour the high 8 are taken"),
        (found.where(space="CMYK"), "CMYK becomes RGB, whatever the colour profile"),
    ):
        if files:
            more = "" if len(files) == 1 else f" and {len(files) - 1} more"
            look.notes.append(f"{words}: {image_name(files[0], look.path)}{more}.")


def _note_copies(look: Look, files: Sequence[Path]) -> None:
    copies = [sorted(same) for same in _same_bytes(files)]
    if not copies:
        return
    n = sum(len(same) - 1 for same in copies)
    across = next((same for same in copies if len({file.relative_to(look.path).parts[0] for file in same}) > 1), None)
    same = across or copies[0]
    text = f"Copies of others, byte by byte: {n}, {image_name(same[-1], look.path)} is "
    text += image_name(same[0], look.path)
    if across is not None:
        text += "; some lie in train and test, whose results are then too good"
    look.notes.append(f"{text}.")


def _same_bytes(files: Sequence[Path]) -> list[list[Path]]:
    """Files that are alike, by size, then by how they begin, then whole, up to a number of bytes."""
    groups = _by(files, lambda file: file.stat().st_size)
    groups = [same for group in groups for same in _by(group, partial(_digest, most=_HEAD))]
    left, alike = _HASHED, []
    for group in groups:
        left -= len(group) * group[0].stat().st_size
        if left < 0:
            break
        alike += _by(group, _digest)
    return alike


def _by(files: Iterable[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    found: dict[object, list[Path]] = defaultdict(list)
    for file in files:
        found[key(file)].append(file)
    return [same for same in found.values() if len(same) > 1]


def _digest(file: Path, most: int = -1) -> bytes:
    with file.open("rb") as opened:
        return hashlib.blake2b(opened.read(most)).digest()


def _header_or_reason(file: Path, reading: ImageReading) -> Header | str:
    """What an image says of itself; or why it cannot be read. One that seems cut off is decoded to make sure."""
    try:
        header = read_header(file, reading)
        if _seems_cut_off(file):
            with opened_image(file, reading) as (image, _):
                image.load()
        return header
    except SourceError as error:
        return str(error).removeprefix(f"{file} ")


def _seems_cut_off(file: Path) -> bool:
    with file.open("rb") as opened:
        start = opened.read(4)
        opened.seek(max(0, file.stat().st_size - _TAIL))
        tail = opened.read()
    return any(start.startswith(magic) and end not in tail for magic, end in _ENDS.items())
