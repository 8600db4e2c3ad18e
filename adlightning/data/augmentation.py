"""Augmentations of training batches: modules that change raw input, each sample by a draw of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adlightning.core.contracts import InputSpec

Kind = Literal["kornia", "flip", "torchvision", "own"]

_FLIPS = {"RandomHorizontalFlip": -1, "RandomVerticalFlip": -2}
"""Transforms of torchvision that are done on all images at once, and the axis that they flip."""


class Augmentation:
    """Modules that change a training batch one after the other; each sample has draws of its own.

    - Modules of kornia draw for each sample of a batch. They get floats in [0, 1]; what comes out of them is clipped to
      it, and rounded to uint8 before a module of another kind and at the end.
    - Modules of `torchvision.transforms.v2` draw once a call, so each image is a call of its own. Horizontal and
      vertical flips are done on all images at once, with the very same draws.
    - A plain `nn.Sequential` is its modules, each by these rules.
    - Any other module is called on the raw batch: whether samples differ in their draws is up to it.

    Draws come from torch's random state, which a detector sets at the start of every epoch. No gradients are taken.

    Args:
        modules: the transforms, in order.

    Raises:
        ValueError: something else than modules, or one of `torchvision.transforms` that is not of its `v2`.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        given = [modules] if isinstance(modules, nn.Module) else list(modules)
        if wrong := [module for module in given if not isinstance(module, nn.Module)]:
            raise ValueError(f"train_transforms must be a list of torch.nn.Module objects, got {wrong[0]!r} in it")
        self.steps = nn.ModuleList(step for module in given for step in _steps(module))
        self.kinds = [_kind(step) for step in self.steps]
        self._device: torch.device | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Raw samples (B, ...) changed, of the same type and shape, on their device.

        Raises:
            ValueError: the modules give samples of another type or shape.
        """
        if self._device != x.device:
            self.steps.to(x.device)
            self._device = x.device
        changed, in_unit = x, False
        for step, kind in zip(self.steps, self.kinds, strict=True):
            if kind == "kornia" and changed.dtype == torch.uint8:
                changed, in_unit = changed.float() / 255, True
            elif kind != "kornia" and in_unit:
                changed, in_unit = _to_uint8(changed), False
            changed = _apply(step, kind, changed)
            if not isinstance(changed, Tensor):
                name, given = type(step).__name__, type(changed).__name__
                raise ValueError(f"train_transforms: {name} must give a tensor, got a {given}")
        changed = _to_uint8(changed) if in_unit else changed
        kept = ("shape", "dtype", "device", "layout")
        if any(getattr(changed, name) != getattr(x, name) for name in kept):
            raise ValueError(
                f"train_transforms must give samples of the type and shape that they get, {_words(x)}, got "
                f"{_words(changed)} from {self._names()}{_elsewhere(changed, x)}"
            )
        return changed

    def require_fits(self, x: Tensor, spec: InputSpec) -> None:
        """Try the modules on a few raw samples (B, ...), on the host, before training; no draw is taken by it.

        Raises:
            ValueError: naming a module that takes images where the data are none, or what a module says of them.
        """
        for step, kind in zip(self.steps, self.kinds, strict=True):
            if spec.kind != "image" and kind != "own":
                raise ValueError(
                    f"train_transforms: {type(step).__name__} takes images, the data are {spec}: give a module of your "
                    f"own, from a batch of {spec.dtype} values to one like it"
                )
        with torch.random.fork_rng(devices=[]):
            try:
                changed = self(x)
            except Exception as error:  # whatever a module of the user's raises
                if str(error).startswith("train_transforms"):
                    raise
                raise ValueError(
                    f"train_transforms cannot take {_words(x)}: {type(error).__name__}: {error}"
                ) from error
        if x.isfinite().all() and not changed.isfinite().all():
            raise ValueError(f"train_transforms must give finite values, got others from {self._names()}")

    def _names(self) -> str:
        return ", ".join(type(step).__name__ for step in self.steps)


def _steps(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) is nn.Sequential:
        for inner in module:
            yield from _steps(inner)
    else:
        yield module


def _kind(step: nn.Module) -> Kind:
    """Whose a module is, or the class that it is derived from. Raises ValueError for torchvision's older transforms."""
    homes = [f"{base.__module__}." for base in type(step).__mro__]
    if any(home.startswith("kornia.") for home in homes):
        return "kornia"
    if any(home.startswith("torchvision.transforms.v2.") for home in homes):
        return "flip" if type(step).__name__ in _FLIPS and homes[0].startswith("torchvision.") else "torchvision"
    if any(home.startswith("torchvision.transforms.") for home in homes):
        name = type(step).__name__
        raise ValueError(f"train_transforms: give torchvision.transforms.v2.{name}, not the older {name}")
    return "own"


def _apply(step: Any, kind: Kind, x: Tensor) -> Any:
    if kind == "flip":
        flipped = (torch.rand(len(x)) < step.p).to(x.device)
        return torch.where(flipped[:, None, None, None], x.flip(_FLIPS[type(step).__name__]), x)
    return torch.stack([step(image) for image in x]) if kind == "torchvision" else step(x)


def _to_uint8(unit: Tensor) -> Tensor:
    return unit.clamp(0, 1).mul(255).round().to(torch.uint8)


def _words(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"


def _elsewhere(changed: Tensor, x: Tensor) -> str:
    """In words, where samples are that are not where they were."""
    if changed.device != x.device:
        return f", on {changed.device} and not on {x.device}"
    return "" if changed.layout == x.layout else f", as {str(changed.layout).removeprefix('torch.')}"
