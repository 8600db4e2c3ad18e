"""What a checkpoint from anyone must be before anything is built from it: of plain values, and no larger than it is.

`torch.load(weights_only=True)` runs no code; it does unpack what is compressed, and says nothing of tensors that claim
more values than they have, or of arguments for which a network would fill the memory.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from adlightning.core.contracts import InputSpec
from adlightning.core.memory import lacks_memory
from adlightning.core.parts import is_plain
from adlightning.core.saved_arguments import rebuilt_arguments
from adlightning.files.archives import require_stored
from adlightning.files.pickled import require_plain_pickle
from adlightning.files.unpacking import each_value

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

MAX_VALUES, MAX_DEPTH = 200_000, 100
"""Of a checkpoint, where what is there several times counts as often; training's own state included."""

_SLACK = 2**26  # bytes by which tensors may be larger than the file: some are one value, spread out
_TYPES: dict[str, type | tuple[type, ...]] = {
    "class": str,
    "hyperparameters": dict,
    "input": dict,
    "config": (str, type(None)),
    "training": dict,
}
_OF_TRAINING: dict[str, type] = {
    "pytorch-lightning_version": str,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
}
_LONGEST_NAME = 200
_PICKLE = "data.pkl"
_MORE_WEIGHTS, _TIMES_WEIGHTS = 1000, 10  # some are made only to be put in the place of others
_RECORDED = ("seed", "split")
_FITTED, _VARIANCE = "preprocess.", "running_var"
_VERSION = re.compile(r"(\d{1,3})(?:\.\d{1,5}){1,3}(?:(?:a|b|rc|\.post|\.dev)\d{1,8})?")


def check_container(file: BinaryIO) -> None:
    """Refuse a file that is not the uncompressed zip that `torch.save` writes, of plain values. Raises ValueError."""
    names = [member.name for member in require_stored(file)]
    if len({name.lower() for name in names}) < len(names):  # torch looks for names in either case
        raise ValueError("two of its members have one name")
    try:
        with ZipFile(file) as archive:
            pickles = [archive.read(name) for name in names if name.lower().endswith(_PICKLE)]
    except BadZipFile as error:
        raise ValueError(f"it is damaged: {error}") from None
    for pickle in pickles:
        require_plain_pickle(pickle)


def check_content(checkpoint: Mapping[str, Any], size: int) -> None:
    """Refuse a checkpoint whose values are not of the types that a detector saves.

    Args:
        checkpoint: as read, with its part `adlightning`.
        size: of its file, in bytes.

    Raises:
        ValueError: it holds something else, or tensors that claim more values than the file has.
    """
    _check_values(checkpoint, size)
    for name, expected in _OF_TRAINING.items():
        if not isinstance(checkpoint.get(name, expected()), expected):
            raise ValueError(f"its {name} is of the wrong type, {type(checkpoint[name]).__name__}")
    _check_version(checkpoint.get("pytorch-lightning_version"))
    saved = checkpoint["adlightning"]
    for name, kind in _TYPES.items():
        if not isinstance(saved[name], kind):
            raise ValueError(f"its {name} is of the wrong type, {type(saved[name]).__name__}")
    for name in ("hyperparameters", "input", "training"):
        if not is_plain(saved[name]):
            raise ValueError(f"its {name} must hold plain values only, and finite numbers")
    if len(saved["class"]) > _LONGEST_NAME:
        raise ValueError(f"its class has a name of more than {_LONGEST_NAME} characters")
    if not all(isinstance(name, str) for name in saved["hyperparameters"]):
        raise ValueError("its hyperparameters have no names")
    state = checkpoint["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ValueError("its state_dict is no mapping of names to tensors")
    if missing := [name for name in _RECORDED if name not in saved["training"]]:
        raise ValueError(f"its training lacks {', '.join(missing)}")
    _check_training(saved["training"])
    InputSpec.from_dict(saved["input"])


def _check_version(saved: Any) -> None:
    """Lightning rewrites what other major versions saved, and trusts that they did."""
    found = _VERSION.fullmatch(saved) if isinstance(saved, str) else None
    if found is None:
        raise ValueError("it does not say of which version of Lightning it is")
    if found[1] != (own := version("pytorch-lightning")).partition(".")[0]:
        raise ValueError(f"it is of version {saved} of Lightning, this is {own}")


def _check_training(record: Mapping[str, Any]) -> None:
    epochs, chosen, batches = record.get("epochs", 0), record.get("chosen", {}), record.get("batches", [1, 2])
    counted = isinstance(batches, list) and len(batches) == 2 and all(type(n) is int for n in batches)
    rules = {
        "seed": type(record["seed"]) is int,
        "split": isinstance(record["split"], str) and len(record["split"]) <= _LONGEST_NAME,
        "epochs": type(epochs) is int and epochs >= 0,
        "threshold_from": record.get("threshold_from", "given") in ("given", "training", "validation"),
        "batches": counted and 0 < batches[0] < batches[1],
        "chosen": isinstance(chosen, dict) and all(isinstance(name, str) for name in chosen),
    }
    if wrong := [name for name, holds in rules.items() if not holds]:
        raise ValueError(f"its training's {wrong[0]} is none")


def check_fit(cls: type[AnomalyDetector], checkpoint: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the detector that the arguments describe, without giving it any memory.

    Raises:
        ValueError: arguments or weights that do not fit the class.
    """
    saved = checkpoint["adlightning"]
    rebuilt_arguments(cls, saved["hyperparameters"])
    most = _MORE_WEIGHTS + _TIMES_WEIGHTS * len(checkpoint["state_dict"])
    described = _described(cls, _Saved(repr((saved["hyperparameters"], saved["input"])), saved, most))
    if described is None:
        return  # it is built and loaded as it is
    if missing := described.arguments - saved["hyperparameters"].keys():
        raise ValueError(f"its arguments do not fit a {cls.__name__}: {', '.join(sorted(missing))} is missing")
    needed, given = dict(described.forms), checkpoint["state_dict"]
    for name in cls.sized_by_data:
        if name in needed and name in given and _only_longer(given[name], described.sized[name]):
            needed[name] = _form(given[name])
    forms = {name: _form(value) for name, value in given.items()}
    wrong = sorted(name for name in needed.keys() | forms.keys() if needed.get(name) != forms.get(name))
    if wrong:
        name, none = wrong[0], "none (it is not there)"
        words = f"{name} must have the shape {needed.get(name, none)}, it has {forms.get(name, none)}"
        raise ValueError(f"its weights do not fit a {cls.__name__}: {len(wrong)} differ; {words}")
    for name, value in given.items():
        must = name in described.weights or name in cls.sized_by_data or name.startswith(_FITTED)
        if must and not torch.isfinite(value).all():
            raise ValueError(f"its weights do not fit a {cls.__name__}: {name} must hold finite numbers")
        if name == "held_out_scores" and not (value.isfinite().all() and (value.diff() >= 0).all()):
            raise ValueError(f"its weights do not fit a {cls.__name__}: {name} must be finite and sorted")
        if name.endswith(_VARIANCE) and not (value >= 0).all():
            raise ValueError(f"its weights do not fit a {cls.__name__}: {name} must not be negative")


@dataclass(frozen=True)
class _Saved:
    """What describes a detector, compared by its text."""

    text: str
    values: Mapping[str, Any] = field(compare=False)
    most_weights: int = field(compare=False)


@dataclass(frozen=True)
class _Description:
    arguments: frozenset[str]
    forms: dict[str, str]
    weights: frozenset[str]
    sized: dict[str, Tensor]


@lru_cache(maxsize=4)  # a checkpoint is read several times in a run, and spectra are normalised slowly without memory
def _described(cls: type[AnomalyDetector], saved: _Saved) -> _Description | None:
    """The detector that arguments describe; None for one that cannot be built without memory."""
    try:
        with torch.device("meta"), _at_most(saved.most_weights):
            detector = cls(**rebuilt_arguments(cls, saved.values["hyperparameters"]))
            detector.configure_for(InputSpec.from_dict(saved.values["input"]))
            state = detector.state_dict()
    except (TypeError, KeyError, AttributeError, IndexError, ArithmeticError) as error:
        raise ValueError(f"its arguments do not fit a {cls.__name__}: {error}") from error
    except RuntimeError as error:
        if lacks_memory(error):
            raise ValueError(f"its arguments describe a {cls.__name__} that no memory could hold: {error}") from error
        return None
    weights = frozenset(name for name, _ in detector.named_parameters())
    forms = {name: _form(value) for name, value in state.items()}
    sized = {name: state[name] for name in cls.sized_by_data if name in state}  # on no device, without values
    return _Description(frozenset(detector.arguments), forms, weights, sized)


@contextmanager
def _at_most(weights: int) -> Iterator[None]:
    """Refuse to make more weights than this: even those without memory take some, and time, each."""
    made = itertools.count(1)

    def count(*_: object) -> None:
        if next(made) > weights:
            raise ValueError("its arguments describe more weights than it holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _only_longer(given: Tensor, needed: Tensor) -> bool:
    """Whether a tensor is longer than one that is empty until data size it, and nothing else."""
    alike = given.dtype == needed.dtype and given.ndim == needed.ndim and given.shape[1:] == needed.shape[1:]
    return alike and len(needed) == 0


def _form(value: Tensor) -> str:
    return f"{tuple(value.shape)} of {value.dtype}"


def _check_values(checkpoint: Mapping[str, Any], size: int) -> None:
    """Refuse nesting and repetition beyond any use, and tensors that are not their file's own plain values."""
    claimed = 0
    for value in each_value(checkpoint, MAX_VALUES, MAX_DEPTH):
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise ValueError("it holds a tensor that is not dense")
            claimed += value.numel() * value.element_size()
    if claimed > _SLACK + 2 * size:
        raise ValueError(f"its tensors claim {claimed} bytes, the file has {size}")
