"""A run's checkpoints on disk: where they may be, and how they are written whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from adlightning.checkpoints.loading import BEFORE_LAST, LAST, read_checkpoint
from adlightning.files.disk import write_atomically

SUFFIX = ".ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """A run's checkpoints: written whole or not at all, read without running code, removed in the run's folder only.

    Lightning's own way writes through the system's folder for temporary files, from where a copy to another file system
    can be cut off, and removes whatever a path of any protocol names, folders too.

    Args:
        run_dir: the run's own folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write to a file beside `path`, to the disk itself, and only then give it its name; the last one stays.

        Raises:
            ValueError: the path leads out of the run's folder.
            OSError: it cannot be written; what was there is as it was.
        """
        file = own_checkpoint(path, self.run_dir)
        file.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(checkpoint, content)  # straight to the file, a full disk would be an error of torch's own
        before = file.with_name(BEFORE_LAST) if file.name == LAST else None
        write_atomically(file, content.getbuffer(), before)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What :func:`read_checkpoint` finds good, and nothing that was read another time."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a plain file of this run. Raises ValueError for anything else."""
        file = own_checkpoint(path, self.run_dir)
        try:
            mode = file.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is not removed: it is no plain file")
        file.unlink()


def own_checkpoint(path: str | Path, run_dir: Path) -> Path:
    """The checkpoint of a run that a path names: in its folder, or in `checkpoints` or below.

    Raises:
        ValueError: the path leads elsewhere (`..`, a link, a protocol), or to something that is no .ckpt.
    """
    name, file = os.fspath(path), Path(path)
    plain = "://" not in name and "::" not in name and "\0" not in name and ".." not in file.parts
    if plain and file.suffix == SUFFIX:
        run, folder = run_dir.resolve(), file.parent.resolve()
        if folder == run or folder.is_relative_to(run / "checkpoints"):
            return file
    raise ValueError(f"a run writes and removes {SUFFIX} files in {run_dir}/checkpoints only, not {name}")
