"""One checkpoint is a whole detector: class, arguments, input and the run's configuration go into it, and come out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from adlightning.core.averaging import show_averages
from adlightning.core.contracts import CHECKPOINT_FORMAT, InputSpec, saved_part
from adlightning.core.parts import class_path, described
from adlightning.core.training_state import require_own_training_state

if TYPE_CHECKING:
    from adlightning.core.scored import ScoredModule


def add_description(detector: ScoredModule, checkpoint: dict[str, Any]) -> None:
    """Add what makes the checkpoint a whole detector: class, arguments, input, and the run's configuration.

    Where a fit averages weights, averages take their place, in the checkpoint's state_dict too: it holds no copies.
    """
    if detector.input_spec is None:
        raise RuntimeError("a detector has nothing to save before it was built for some data")
    detector.training_record |= {
        "epochs": detector.trainer.fit_loop.epoch_progress.current.ready,
        "seed": detector.data.effective_seed(),
        "split": detector.data.split_fingerprint(),
    }
    show_averages(detector)
    checkpoint["adlightning"] = {
        "format": CHECKPOINT_FORMAT,
        "class": class_path(type(detector)),
        "hyperparameters": described(detector.arguments),
        "input": detector.input_spec.as_dict(),
        "config": detector.run_config,
        "training": detector.training_record,
    }


def take_description(detector: ScoredModule, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint of another class; build for the input that it was trained on.

    A trainer restores only what is left of the checkpoint afterwards: of training's own state what was checked and
    built anew, of anything unknown nothing.
    """
    saved = saved_part(checkpoint)
    if saved["class"] != class_path(type(detector)):
        raise ValueError(f"the checkpoint holds a {saved['class']}, not a {class_path(type(detector))}")
    spec = InputSpec.from_dict(saved["input"])
    if detector.input_spec is not None and (refusal := spec.refusal(detector.input_spec)):
        raise ValueError(refusal)
    detector.configure_for(spec)
    detector.training_record = dict(saved["training"])
    if getattr(detector, "_trainer", None) is not None:
        _refuse_other_split(detector)
        _take_marks(detector, checkpoint["state_dict"])
        require_own_training_state(checkpoint, detector)


@contextmanager
def naming_checkpoint(detector: ScoredModule) -> Iterator[None]:
    """Errors name the file that a trainer loads; without a trainer, the caller knows it."""
    try:
        yield
    except ValueError as error:
        if getattr(detector, "_trainer", None) is None or not detector.trainer.ckpt_path:
            raise
        raise ValueError(f"ckpt_path: {detector.trainer.ckpt_path} is refused: {error}") from error


def _take_marks(detector: ScoredModule, state: dict[str, Any]) -> None:
    """Take over buffers that are true or false, how far training has come: which optimisers there are depends on it."""
    for name, buffer in detector.named_buffers():
        given = state.get(name)
        if buffer.dtype == torch.bool and isinstance(given, torch.Tensor) and given.shape == buffer.shape:
            buffer.copy_(given)


def _refuse_other_split(detector: ScoredModule) -> None:
    """Another split than in training would test what was trained on, or train on what was held out."""
    record, data, verb = detector.training_record, detector.data, detector.trainer.state.fn
    harmless = verb in ("test", "predict") and not data.tests_on_training_part and not detector.rescored
    if harmless or data.split_fingerprint() == record["split"]:
        return
    raise ValueError(
        f"the data are not split as in training (seed {record['seed']} then, {data.effective_seed()} now): samples "
        "would be on the wrong side. Give the data and their options as in training, with "
        f"--data.seed={record['seed']}; for other data there is the verb `score`"
    )
