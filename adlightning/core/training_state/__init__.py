"""Training's own state in a checkpoint: checked to any depth, built anew of plain values, and only then Lightning's.

A checkpoint may come from anyone. What Lightning restores from it as it is decides which files are removed, how far a
fit has come and what an optimiser multiplies weights with.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from adlightning.core.training_state.callbacks import checked_callbacks
from adlightning.core.training_state.loops import checked_loops
from adlightning.core.training_state.optimizers import checked_optimizers
from adlightning.core.training_state.schema import alike, require

OF_SCORING = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "adlightning")
"""What any checkpoint has: all that scoring takes."""

AVERAGED = "current_model_state"
"""What Lightning's WeightAveraging calls the weights as they were trained: averages are in a detector's place then."""

OF_TRAINING = ("loops", "callbacks", "optimizer_states", "lr_schedulers")


def require_own_training_state(checkpoint: dict[str, Any], module: pl.LightningModule) -> None:
    """Put what was checked in the place of everything in a checkpoint that Lightning would restore.

    Args:
        checkpoint: as read and checked by :func:`adlightning.checkpoints.loading.read_checkpoint`; changed in place.
        module: attached to a trainer, with its networks built. Where the trainer does not fit, only what scoring needs
            is left.

    Raises:
        ValueError: a part that no fit of this detector with these callbacks leaves; the message names it.
    """
    trainer = module.trainer
    kept = {name: checkpoint[name] for name in OF_SCORING if name in checkpoint}
    if trainer.state.fn == "fit":
        missing = [name for name in OF_TRAINING if name not in checkpoint]
        require(AVERAGED not in checkpoint, "it", "hold weights as they were trained, not averages: score with it")
        require(not missing, "it", f"hold training's state, which lacks {', '.join(missing)}: score with it")
        kept["loops"] = checked_loops(checkpoint, module)
        kept["optimizer_states"], kept["lr_schedulers"] = checked_optimizers(checkpoint, module)
        kept["callbacks"] = checked_callbacks(checkpoint["callbacks"], trainer)
        kept |= _of_precision(checkpoint, trainer)
    checkpoint.clear()
    checkpoint.update(kept)


def _of_precision(checkpoint: dict[str, Any], trainer: pl.Trainer) -> dict[str, Any]:
    """The gradient scaler's state, where the trainer has one and the checkpoint too."""
    plugin = trainer.precision_plugin
    name, fresh = type(plugin).__qualname__, plugin.state_dict()
    if not fresh or name not in checkpoint:
        return {}
    state = alike(checkpoint[name], fresh, name)
    moving = ("scale", "_growth_tracker")
    for key in fresh.keys() - set(moving):
        require(state[key] == fresh[key], f"{name}.{key}", f"be {fresh[key]}", state[key])
    require(state["scale"] > 0, f"{name}.scale", "be positive", state["scale"])
    return {name: state}
