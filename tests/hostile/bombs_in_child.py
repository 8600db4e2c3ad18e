"""Reads hostile files one after the other in a process of its own, and says how much memory each of them took.

Arguments: lines KIND and PATH in turn. Writes a JSON mapping of PATH to its message and the MiB by which the process's
peak grew; the address space is limited, so that what goes wrong does not take the machine along.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.data.own_samples import read_samples
from adlightning.data.sources import Npz, Table
from adlightning.data.sources.images import decode
from adlightning.data.sources.mat_file import read_matrices
from adlightning.files import unpacking

FLOOR = 2**27
"""Bytes to which a file may unpack here, an eighth of what is allowed elsewhere: smaller bombs, less waiting."""

LIMIT = 12 * 2**30
READERS: dict[str, Callable[[Path], object]] = {
    "npz": lambda path: Npz(str(path)).load("train"),
    "score_npz": lambda path: read_samples(path, InputSpec("image", (1, 4, 5)), "train_images"),
    "table": lambda path: Table(str(path)).load("train"),
    "labelled": lambda path: Table(str(path), label_column="b").load("train"),
    "mat": lambda path: read_matrices(path, ["X", "y"]),
    "image": lambda path: decode(path, (8, 8)),
    "checkpoint": load_detector,
}


def peak_mib() -> int:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measured(kind: str, path: Path) -> dict[str, object]:
    """Message and growth of one file."""
    before = peak_mib()
    try:
        READERS[kind](path)
        message = None
    except (ValueError, OSError) as error:
        message = str(error)
    return {"message": message, "mib": peak_mib() - before}


def main(arguments: list[str]) -> None:
    """Read everything, and write what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    unpacking.FLOOR = FLOOR
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    json.dump({f"{kind} {Path(path).name}": measured(kind, Path(path)) for kind, path in pairs}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
