"""What a run that breaks off leaves, and how to go on from it: in words, for every ending alike."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from adlightning.checkpoints.loading import BEFORE_LAST, LAST

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


def what_is_kept(verb: str, run_dir: Path | None, trainer: Trainer | None) -> str:
    """How to go on from a run that broke off.

    Args:
        verb: fit, validate, test or predict.
        run_dir: its folder, None before it was claimed.
        trainer: None before there is one.
    """
    if run_dir is None:
        return "Nothing had begun"
    folder = shlex.quote(str(run_dir))
    if verb != "fit":
        begins_anew = "The checkpoint is as it was: the same command begins anew, with a new --run_dir"
        return f"What {folder} holds is whole. {begins_anew}" if run_dir.exists() else begins_anew
    if not any((run_dir / "checkpoints" / name).exists() for name in (LAST, BEFORE_LAST)):
        begins_anew = "the same command begins anew, with a new --run_dir where files are left"
        if trainer is not None and trainer.checkpoint_callback is None:
            return f"trainer.enable_checkpointing is false, so no epoch is kept: {begins_anew}"
        return f"There is no whole epoch yet: {begins_anew}"
    if trainer is not None and _is_trained(trainer):
        return f"The detector is trained and kept: adlightning test --ckpt_path {folder}"
    return (
        "What the run folder holds is whole: the same command goes on from its last whole epoch "
        f"with --run_dir {folder} --ckpt_path last"
    )


def where_it_stood(verb: str, trainer: Trainer | None) -> str:
    """The moment of an ending, in words."""
    if trainer is None or trainer.state.fn is None:
        return "before it began"
    if verb == "fit" and not _is_trained(trainer):
        return f"in epoch {trainer.current_epoch}"
    return "while scoring"


def _is_trained(trainer: Trainer) -> bool:
    """Whether all epochs are done."""
    ended = trainer.max_epochs is not None and 0 < trainer.max_epochs <= trainer.current_epoch
    return trainer.state.fn == "test" or ended
