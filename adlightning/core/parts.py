"""Parts that a detector is given: encoders, optimisers, preprocessing and the like, each a class with its arguments.

In Python a part is a class, or `functools.partial` of one: `partial(LeNet, rep_dim=32)`. In YAML and on the command
line it is `class_path` and `init_args`. What only the data can tell, the size of a sample for instance, is given to it
when the detector is built. In a checkpoint a part is its class path and plain arguments; nothing is imported because a
checkpoint says so.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import sys
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, get_type_hints

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adlightning.core.rules import Rule, as_plain, check_arguments
from adlightning.preprocessing import Output, Preprocessing

Shape = tuple[int, ...]
EncoderFactory = Callable[[Shape], nn.Module]
"""From the shape of a preprocessed sample to a module from samples (B, ...) to representations (B, d)."""

DecoderFactory = Callable[[int, Shape, Output], nn.Module]
"""From the size of a representation, the shape of a sample and its range to a module from one to the other."""

GeneratorFactory = Callable[[int, Shape, Output], nn.Module]
"""From the dimension of latents, the shape of a sample and its range to a module from latents (B, d) to samples."""

CriticFactory = Callable[[Shape, bool], nn.Module]
"""From the shape of a sample, and whether it may have BatchNorm, to a module that gives one number a sample, (B,)."""

LatentEncoderFactory = Callable[[Shape, int], nn.Module]
"""From the shape of a preprocessed sample and a size to a module from samples (B, ...) to latents (B, size)."""

DiscriminatorFactory = Callable[[Shape], nn.Module]
"""From the shape of a sample to a module that gives one number a sample, (B,)."""

DensityFactory = Callable[[Shape], nn.Module]
"""From the shape of images to a module from images (B, C, H, W) in [0, 1] to log-probabilities (B,), natural logs.

The probability is that of an image of 256 values a channel. A continuous density takes noise of one level while it
trains, and none in eval mode: a score depends on its image alone.
"""

PreprocessingFactory = Callable[[Shape], Preprocessing]
"""From the shape of a raw sample to what prepares it."""

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]

OWN = ("adlightning", "torch.optim")
"""Packages whose classes a checkpoint may name without their being imported already."""

_NEVER = ("torch", "torchvision", "pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics", "timm")
"""Packages of which a checkpoint names no class, but for those in `OWN`: some of them open connections or files."""

_LARGEST = 2**63


class Part(ABC):  # noqa: B024  # what is abstract comes with the kinds
    """A part that is a frozen dataclass of several kinds: its class and its fields, plain or parts, are all of it.

    An argument of the common type takes any of them: by `class_path` and `init_args` in YAML, as an object in Python.
    """

    argument_rules: ClassVar[Mapping[str, Rule]] = {}
    """What its fields must be, by name."""

    def __post_init__(self) -> None:
        """Take NumPy's numbers as Python's, which a checkpoint can hold; check by `argument_rules` and types."""
        for name, value in vars(self).items():
            plain = [as_plain(name, one) for one in value] if isinstance(value, list) else as_plain(name, value)
            object.__setattr__(self, name, plain)
        check_arguments(self.argument_rules, get_type_hints(type(self).__init__), vars(self))


def is_plain(value: Any) -> bool:
    """Whether a value consists of mappings, sequences, text and finite numbers alone, whole ones of 64 bits."""
    if isinstance(value, dict):
        return all(is_plain(inner) for pair in value.items() for inner in pair)
    if isinstance(value, (list, tuple)):
        return all(is_plain(inner) for inner in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, bool)) or (isinstance(value, int) and abs(value) < _LARGEST)


def as_part(argument: str, value: Any, of: type[Any]) -> partial[Any]:
    """A part as `functools.partial` of its class, however it was given.

    Args:
        argument: its name, for messages.
        value: a class, a partial of one, or what the command line makes of a class path.
        of: what the class has to be.

    Raises:
        ValueError: it is something else, or holds what no checkpoint can hold.
    """
    cls, arguments = class_and_arguments(value)
    if not (inspect.isclass(cls) and issubclass(cls, of)):
        raise ValueError(
            f"{argument} must be a subclass of {of.__name__}, or functools.partial of one with named arguments, got "
            f"{value!r}: a checkpoint keeps its name and arguments"
        )
    if "." in cls.__qualname__:
        raise ValueError(
            f"{argument} must be a class at the top of a module, where it can be found, got {class_path(cls)}"
        )
    for name, given in arguments.items():
        try:
            plain = is_plain(described(given))
        except RecursionError:
            raise ValueError(f"{argument} must have plain arguments, {name} is nested without end") from None
        if not plain:
            raise ValueError(f"{argument} must have plain arguments (numbers, text, lists), got {name}={given!r}")
    return partial(cls, **arguments)


def class_and_arguments(value: Any) -> tuple[Any, dict[str, Any]]:
    """What a partial, also one around others as the command line makes them, calls in the end, and with what."""
    arguments: dict[str, Any] = {}
    while isinstance(value, partial):
        arguments = {**value.keywords, **arguments}
        inner = [part for part in (value.func, *value.args) if inspect.isclass(part) or isinstance(part, partial)]
        if not inner or (inspect.isclass(value.func) and value.args):
            break
        value = inner[0]
    return value, arguments


def encoder_part(argument: str, encoder: EncoderFactory | None) -> partial[nn.Module] | None:
    """An encoder as a part, or None for what suits the data. Raises ValueError for anything else."""
    return None if encoder is None else as_part(argument, encoder, nn.Module)


def decoder_part(argument: str, decoder: DecoderFactory | None) -> partial[nn.Module] | None:
    """A decoder as a part, or None for what suits the encoder. Raises ValueError for anything else."""
    return None if decoder is None else as_part(argument, decoder, nn.Module)


def network_part(argument: str, network: Callable[..., nn.Module]) -> partial[nn.Module]:
    """A network as a part. Raises ValueError for anything else."""
    return as_part(argument, network, nn.Module)


def described(value: Any) -> Any:
    """An argument of a detector in plain values: parts as class path and arguments, tuples as lists."""
    if isinstance(value, partial) or inspect.isclass(value):
        cls, arguments = class_and_arguments(value)
        return {"class_path": class_path(cls), "init_args": described(arguments)}
    if dataclasses.is_dataclass(value):
        fields = {field.name: described(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class_path": class_path(type(value)), "init_args": fields}
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    if isinstance(value, Mapping):
        return {key: described(item) for key, item in value.items()}
    return value


def class_path(cls: Any) -> str:
    """The path by which a class is imported."""
    return f"{cls.__module__}.{cls.__qualname__}"


def from_description(argument: str, description: Any, of: type[Any]) -> partial[Any]:
    """The part that a checkpoint describes; its class is imported already, or one of ours.

    Raises:
        ValueError: no description, a class that is not there, or one of another kind.
    """
    if not isinstance(description, dict) or description.keys() != {"class_path", "init_args"}:
        raise ValueError(f"{argument} must be a class path and its arguments, got {description!r}")
    path, arguments = description["class_path"], description["init_args"]
    if not isinstance(path, str) or not isinstance(arguments, dict) or not is_plain(arguments):
        raise ValueError(f"{argument} must be a class path and plain arguments, got {description!r}")
    cls: Callable[..., Any] = known_class(argument, path, of)
    return partial(cls, **arguments)


def known_class(argument: str, path: str, of: type[Any]) -> type[Any]:
    """The class of this path, without importing anything but our own modules.

    Raises:
        ValueError: it is not there, or is no subclass of `of`.
    """
    module, _, name = path.rpartition(".")
    package = module.partition(".")[0]
    ours = any(module == own or module.startswith(f"{own}.") for own in OWN)
    if not ours and package in _NEVER:
        raise ValueError(f"{argument}: {path} is refused: a checkpoint names no class of {package}")
    if ours and module not in sys.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"{argument}: there is no {path}") from error
    loaded = sys.modules.get(module)
    found = None if loaded is None else vars(loaded).get(name)  # some packages import what getattr asks for
    if module == "adlightning":  # whose names are imported when they are first used
        found = getattr(loaded, name, None)
    if found is not None and not inspect.isclass(found):
        raise ValueError(f"{argument}: {path} is no class")
    if found is None:
        raise ValueError(
            f"{argument}: {path} is not imported, and nothing is imported because a checkpoint names it: import it "
            f"first, or give --import {module} on the command line, if you trust it"
        )
    if not issubclass(found, of):
        raise ValueError(f"{argument}: {path} is no {of.__name__}")
    return found
