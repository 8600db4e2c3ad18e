"""The options of the Trainer's verbs once they are parsed: what the parser lets through and nothing can work with."""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from adlightning.cli.fitting import monitors_of
from adlightning.cli.types_in_words import check_values, class_at
from adlightning.core.messages import nearest

PRECISIONS = (None, 32, "32", "32-true", 16, "16", "16-mixed", "bf16", "bf16-mixed")
_NEVER_NULL = {"run_dir": "a folder", "test_after_fit": "true or false", "plots": "true or false"}
_SEEDS = 2**32
_NOT_NEGATIVE = (
    "gradient_clip_val",
    "log_every_n_steps",
    "reload_dataloaders_every_n_epochs",
    "min_epochs",
    "min_steps",
)
_POSITIVE = ("accumulate_grad_batches", "check_val_every_n_epoch", "num_nodes", "val_check_interval")
_HARDWARE = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "precision",
    "plugins",
    "profiler",
    "logger",
    "max_time",
)


def check_options(options: Any, fits: bool) -> None:
    """Refuse null and numbers that are none, in every argument of the run, the Trainer, the model and the data.

    Raises:
        ValueError: names the argument, what it must be, and the value.
    """
    for name, words in _NEVER_NULL.items():
        if options[name] in (None, "", "null"):
            raise ValueError(f"{name} must be {words}, got {'nothing' if options[name] == '' else 'null'}")
    if not isinstance(options.seed_everything, bool) and not 0 <= options.seed_everything < _SEEDS:
        raise ValueError(f"seed_everything must lie in [0, {_SEEDS}), got {options.seed_everything}")
    check_values("trainer", Trainer, options.trainer)
    if options.trainer.profiler == "xla" and find_spec("torch_xla") is None:  # Lightning's fails again when it is freed
        raise ValueError("trainer.profiler: xla needs torch_xla, which is not installed")
    if options.trainer.barebones:
        raise ValueError(
            "trainer.barebones must be false, since it refuses what a run is made of: logger, enable_checkpointing, "
            "enable_progress_bar and enable_model_summary switch it off one by one"
        )
    _check_trainer_numbers(options.trainer)
    if options.trainer.precision not in PRECISIONS:
        raise ValueError(f"trainer.precision must be 32-true, 16-mixed or bf16-mixed, got {options.trainer.precision}")
    if options.ckpt_path == "":
        raise ValueError("ckpt_path must be a checkpoint or a run folder, got nothing")
    if fits and options.monitor and options.trainer.enable_checkpointing is False:
        raise ValueError("monitor selects a checkpoint: trainer.enable_checkpointing must not be false")
    for name in ("model", "data"):
        part = options[name]
        if part is None or not part.get("class_path"):
            raise ValueError(f"{name} must name a class: --{name}=CLASS or a --config that does")
        check_values(name, class_at(part.class_path), part.get("init_args") or {})
    monitors = monitors_of(class_at(options.model.class_path))
    if options.monitor not in (None, *monitors):
        near = nearest(options.monitor, monitors)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"monitor must be one of {', '.join(monitors)}, got {options.monitor}{hint}")


def _check_trainer_numbers(trainer: Any) -> None:
    """Refuse what Lightning would divide by, or count down from."""
    for name in (*_NOT_NEGATIVE, *_POSITIVE):
        value = trainer.get(name)
        if not isinstance(value, (int, float)):  # null, and the times that val_check_interval may be
            continue
        if value < 0 or (value == 0 and name in _POSITIVE):
            rule = "be positive" if name in _POSITIVE else "not be negative"
            raise ValueError(f"trainer.{name} must {rule}, got {value}")


@contextlib.contextmanager
def trainer_explained(options: Any) -> Iterator[None]:
    """Say which options Lightning could not make a Trainer of, whatever it raises."""
    try:
        yield
    except Exception as error:  # of packages that are not there, of hardware, of values: each has a type of its own
        given = {name: options.get(name) for name in _HARDWARE}
        shown = [
            f"{name}={_shown(value)}" for name, value in given.items() if value not in (None, "auto", 1, [], False)
        ]
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"trainer: {', '.join(shown) or 'its options'} cannot be used here: {reason}") from error


@contextlib.contextmanager
def classes_explained() -> Iterator[None]:
    """Say which class could not be made of its arguments, where an error of another type than bad input tells."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if not (
            found := re.search(
                r"Problem with given class_path '(?:[\w.]+\.)?(\w+)': (.*?)(?: - Expected an? <| Expected an? <|$)",
                text,
            )
        ):
            raise
        raise ValueError(f"{found[1]} cannot be made: {found[2]}") from error
    except (TypeError, ImportError, AttributeError, LookupError, ArithmeticError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ValueError(
            f"a class cannot be made of its arguments: {type(error).__name__}: {error} (in {where.name}, "
            f"{Path(where.filename).name}; ADLIGHTNING_TRACEBACK=1 shows more)"
        ) from error


def _shown(value: Any) -> str:
    path = getattr(value, "class_path", None)
    return str(path or value).rpartition(".")[2] if path else str(value)
