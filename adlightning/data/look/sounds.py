"""A look at a folder of sounds: its classes, which is normal, and files that are none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from adlightning.core.messages import quoted
from adlightning.data.image_search import IMAGE_SUFFIXES
from adlightning.data.label_words import Meanings
from adlightning.data.look.findings import Look
from adlightning.labels import NORMAL

WORDS = ("normal", "anomaly", "abnormal", "unlabelled")
"""Classes of `SoundData` that say themselves what they are."""

_PARTS = ("train", "test")
_SHOWN = 5


def holds_sounds(root: Path) -> bool:
    """Whether a folder has WAVs and no image, by their suffixes."""
    suffixes = {path.suffix.lower() for path in _files(root)}
    return ".wav" in suffixes and not suffixes & set(IMAGE_SUFFIXES)


def look_at_sounds(root: Path) -> Look:
    """Look at a folder of WAVs as `SoundData` takes it without patterns and tables.

    Args:
        root: the folder.
    """
    look = Look(root)
    files = _files(root)
    wavs = [path for path in files if path.suffix.lower() == ".wav"]
    others = Counter(path.suffix.lower() or "without suffix" for path in files if path.suffix.lower() != ".wav")
    inside = [path.relative_to(root).parts[:-1] for path in wavs]
    parts = {folders[0] for folders in inside if folders}
    has_parts = "train" in parts
    if has_parts and (beside := sorted(parts - set(_PARTS))):
        look.faults.append(f"There is a folder train: beside it there may be test, got {quoted(beside)}.")
    classes = Counter("/".join(folders[: 1 + has_parts]) for folders in inside)
    counts = ", ".join(f"{name or 'no folder'} {n:,}" for name, n in sorted(classes.items()))
    look.facts = f"{len(wavs):,} WAVs" + (f" ({counts})" if counts else "")
    if not wavs:
        look.faults.append("There are no .wav files.")
    depth = 1 if has_parts else 0
    names = Counter(folders[depth] for folders in inside if len(folders) > depth)
    _decide_normal(look, names)
    if wrong := [path for path in wavs if not _begins_as_wav(path)]:
        shown = quoted([path.relative_to(root).as_posix() for path in wrong], _SHOWN)
        look.faults.append(f"{len(wrong)} of the .wav files are no WAV by their first bytes: {shown}. Move them out.")
    if wavs and not names:
        look.notes.append(
            "no folder says of what class a file is: all are for training, and nothing is tested. Where names of files "
            "say it, there is class_pattern; where a table does, table and class_column."
        )
    if wavs and not has_parts:
        look.notes.append(
            "nobody says who speaks, or which machine is heard. Where names of files say it, group_pattern keeps each "
            "in training or in test."
        )
    if others:
        look.notes.append(f"left out: {', '.join(f'{n} {suffix}' for suffix, n in others.most_common())}.")
    return look


def _decide_normal(look: Look, names: Counter[str]) -> None:
    if len(names) < 2 or set(names) <= set(WORDS):
        return
    by_word = [name for name in names if Meanings().of(name) == NORMAL]
    normal = by_word[0] if by_word else names.most_common(1)[0][0]
    why = "by its word" if by_word else "which most files are of"
    look.decide(
        f"Folders are classes ({quoted(sorted(names), 6)}): which is normal? Taken: {normal!r}, {why}; every other is "
        f"an anomaly then.",
        normal_class=normal,
    )


def _files(root: Path) -> Sequence[Path]:
    """Files in a folder and those within it, in order, without hidden ones."""
    found = []
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in sorted(files) if not name.startswith(".")]
    return found


def _begins_as_wav(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE"
