"""Where a run's numbers go: always a CSV in its folder, and the loggers that were asked for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from adlightning.files.disk import NotWritten, user_path

_PROJECT = "adlightning"
"""Of W&B, where none is given; Lightning's would be lightning_logs."""


def log_into(run_dir: Path, loggers: Any) -> None:
    """Let loggers that name no folder of their own write into the run folder, and W&B's into a project of ours."""
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = getattr(logger, "init_args", {})
        if arguments and "save_dir" in arguments:
            given = arguments["save_dir"]
            arguments["save_dir"] = str(run_dir if given in (None, ".") else user_path(given))
        if arguments and _is_wandb(logger) and arguments.get("project") is None:
            arguments["project"] = os.environ.get("WANDB_PROJECT") or _PROJECT


def loggers_of(given: Any, run_dir: Path) -> tuple[list[Logger], list[WandbLogger]]:
    """The loggers that were asked for and, always, a CSV one in the run folder; and, apart, those of W&B.

    Lightning begins the run of W&B's before the data are there, so that it gets them later.
    """
    loggers = given if isinstance(given, list) else [given]
    to_wandb = [logger for logger in loggers if isinstance(logger, WandbLogger)]
    chosen = [logger for logger in loggers if isinstance(logger, Logger) and logger not in to_wandb]
    if not any(isinstance(logger, CSVLogger) for logger in chosen):
        chosen.append(WholeCSVLogger(run_dir, name="logs"))
    return chosen, to_wandb


class WholeCSVLogger(CSVLogger):
    """Lightning's, whose file stays as it was when it cannot be written on; `config.yaml` has the hyperparameters."""

    @rank_zero_only
    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: a second file of the run folder's `config.yaml` would take 10 ms of a small fit."""

    @rank_zero_only
    def save(self) -> None:
        """Write what was logged since. Raises NotWritten."""
        file = Path(self.log_dir) / "metrics.csv"
        before = file.read_bytes() if file.exists() else None
        try:
            super().save()
        except OSError as error:
            if before is None:
                file.unlink(missing_ok=True)
            elif file.read_bytes() != before:
                file.write_bytes(before)
            raise NotWritten(error.errno, error.strerror, str(file)) from error


def stay_offline_without_account(loggers: Any) -> None:
    """Let W&B, where it is among the loggers, log offline if there is no account: it would stop and ask."""
    given = loggers if isinstance(loggers, list) else [loggers]
    if not any(map(_is_wandb, given)):
        return
    if not os.environ.get("WANDB_MODE") and not _has_wandb_account():
        os.environ["WANDB_MODE"] = "offline"


def _is_wandb(logger: Any) -> bool:
    return "Wandb" in str(getattr(logger, "class_path", ""))


def _has_wandb_account() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = user_path(os.environ.get("NETRC", "~/.netrc"))
    try:
        return "wandb" in netrc.read_text(errors="replace")
    except OSError:  # there is none, or it is not ours to read
        return False


@contextlib.contextmanager
def finished_wandb_run() -> Iterator[None]:
    """End the W&B run that a logger began, if any, so that all of it is written and the next one is its own."""
    failed = True
    try:
        yield
        failed = False
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=int(failed))
