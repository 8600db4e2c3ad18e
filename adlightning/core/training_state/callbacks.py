"""States of callbacks: checked values, and every path set by us. A state decides which files a callback removes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from adlightning.core.training_state.schema import alike, count, mapping, number, require, scalar, text

AVERAGES = "AveragedWeights"
"""The key of the callback that averages weights."""

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """The callbacks of a trainer, in the order in which they are called."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by one of its connectors
    return callbacks


def checked_callbacks(states: Any, trainer: pl.Trainer) -> dict[str, Any]:
    """States of the callbacks that there are; those of others are nobody's, and left out.

    Raises:
        ValueError: a state that its callback does not leave.
    """
    given = mapping(states, "callbacks")
    averages = any(callback.state_key == AVERAGES for callback in callbacks_of(trainer))
    begun = "hold no averages of weights where a fit takes none: give the WeightAveraging callback that it began with"
    require(AVERAGES not in given or averages, "callbacks", begun)
    built = {}
    for callback in callbacks_of(trainer):
        key = callback.state_key
        if key not in given:
            continue
        where = f"callbacks.{type(callback).__name__}"
        kinds = [kind for kind in _BUILDERS if isinstance(callback, kind)]
        build = _BUILDERS[kinds[0]] if kinds else _of_another
        built[key] = build(given[key], callback, trainer, where)
    return built


def _of_checkpoints(state: Any, callback: ModelCheckpoint, trainer: pl.Trainer, where: str) -> dict[str, Any]:
    """Scores from the checkpoint; files by name alone, and only those that lie in the callback's own folder."""
    fresh = callback.state_dict()
    given = mapping(state, where, list(fresh))
    require(given["monitor"] == callback.monitor, f"{where}.monitor", f"be {callback.monitor}", given["monitor"])
    for name in ("best_model_score", "current_score"):
        if given[name] is not None:
            scalar(given[name], f"{where}.{name}", infinite=True)
    scalar(given["kth_value"], f"{where}.kth_value", infinite=True)
    paths = {name: text(given[name], f"{where}.{name}") for name in _PATHS}
    text(given["dirpath"], f"{where}.dirpath")
    scores = {
        text(path, f"{where}.best_k_models"): scalar(score, f"{where}.best_k_models", infinite=True)
        for path, score in mapping(given["best_k_models"], f"{where}.best_k_models").items()
    }
    folder = Path(callback.dirpath or trainer.default_root_dir)
    resumed = Path(trainer.ckpt_path or "")
    if resumed.absolute().parent != folder.absolute():
        return fresh  # another run's files are not this one's to replace
    find: Callable[[str], str] = lambda path: _own_file(path, folder, callback)  # noqa: E731
    kept = {find(path): score for path, score in scores.items() if find(path)}
    full = bool(kept) and len(kept) >= callback.save_top_k > 0
    worst, best = (max, min) if callback.mode == "min" else (min, max)
    kth = worst(kept, key=lambda path: kept[path].item()) if full else ""
    first = best(kept, key=lambda path: kept[path].item()) if kept else ""
    return {
        **fresh,
        "best_k_models": kept,
        "kth_best_model_path": kth,
        "kth_value": kept[kth] if full else fresh["kth_value"],
        "best_model_path": first or ("" if callback.monitor else find(paths["best_model_path"])),
        "best_model_score": kept[first] if first else None,
        "current_score": given["current_score"],
        "last_model_path": find(paths["last_model_path"]),
    }


def _own_file(path: str, folder: Path, callback: ModelCheckpoint) -> str:
    """The callback's own file of that name, empty where there is none."""
    file = folder / Path(path).name
    ours = file.suffix == callback.FILE_EXTENSION and file.is_file() and not file.is_symlink()
    return str(file) if ours else ""


def _of_early_stopping(state: Any, callback: EarlyStopping, trainer: pl.Trainer, where: str) -> dict[str, Any]:
    """How long the best value has been waited for; the patience is what was asked for now."""
    given = mapping(state, where, list(callback.state_dict()))
    reason = given["stopping_reason"]
    known = [one.value for one in EarlyStoppingReason]
    require(type(reason) is int and reason in known, f"{where}.stopping_reason", f"be one of {known}", reason)
    message = given["stopping_reason_message"]
    count(given["patience"], f"{where}.patience")
    return {
        "wait_count": count(given["wait_count"], f"{where}.wait_count"),
        "stopped_epoch": count(given["stopped_epoch"], f"{where}.stopped_epoch"),
        "best_score": scalar(given["best_score"], f"{where}.best_score", infinite=True),
        "patience": callback.patience,
        "stopping_reason": reason,
        "stopping_reason_message": None if message is None else text(message, f"{where}.stopping_reason_message"),
    }


def _of_timer(state: Any, callback: Timer, trainer: pl.Trainer, where: str) -> dict[str, Any]:
    fresh = callback.state_dict()["time_elapsed"]
    given = mapping(mapping(state, where, ["time_elapsed"])["time_elapsed"], f"{where}.time_elapsed", list(fresh))
    seconds = {name: number(given[name], f"{where}.time_elapsed.{name}") for name in fresh}
    require(min(seconds.values()) >= 0, f"{where}.time_elapsed", "not be negative", min(seconds.values()))
    return {"time_elapsed": seconds}


def _of_another(state: Any, callback: pl.Callback, trainer: pl.Trainer, where: str) -> Any:
    """Any other callback's: of the form that it has before a fit."""
    return alike(state, callback.state_dict(), where)


_BUILDERS: dict[type, Callable[..., Any]] = {
    ModelCheckpoint: _of_checkpoints,
    EarlyStopping: _of_early_stopping,
    Timer: _of_timer,
}
