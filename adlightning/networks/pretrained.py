"""Pretrained weights: of torchvision's networks by name, of any network from a file."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import nn
from torchvision import models

from adlightning.files.archives import require_stored


def read_weights(argument: str, network: str, weights: str) -> dict[str, Any]:
    """A `state_dict` by the name of torchvision weights, or from a file; nothing in it is run.

    Args:
        argument: what the user calls `weights`, for messages.
        network: name of a torchvision network.
        weights: a name such as `IMAGENET1K_V1`, downloaded by torchvision unless it has it already, or a file's path.

    Raises:
        ValueError: neither a name nor a file, no download, or a file that is damaged or holds something else.
    """
    names = models.get_model_weights(network).__members__
    if weights in names:
        try:
            named: dict[str, Any] = names[weights].get_state_dict(progress=False, check_hash=True, weights_only=True)
        except OSError as error:
            raise ValueError(f"{argument}: {weights} of {network} cannot be downloaded: {error}") from error
        return named
    return read_state_dict(argument, weights, f"null or one of {', '.join(names)}")


def take_over(argument: str, part: nn.Module, network: str, weights: str) -> None:
    """Give a part of a torchvision network its weights.

    Args:
        argument: what the user calls `weights`, for messages.
        part: whose weights have the names of the whole network's.
        network: its name.
        weights: as of :func:`read_weights`.

    Raises:
        ValueError: as :func:`read_weights`, or weights that do not fit; none is taken over then.
    """
    give_weights(argument, part, read_weights(argument, network, weights), network, weights)


def give_weights(argument: str, part: nn.Module, state: dict[str, Any], network: str, weights: str) -> None:
    """Give a part of a network its weights from a `state_dict` of all of it. Arguments as of :func:`take_over`.

    Raises:
        ValueError: weights that do not fit; none is taken over then.
    """
    wanted = part.state_dict()
    if missing := [key for key in wanted if key not in state]:
        raise ValueError(f"{argument}: {weights} lacks {missing[0]} and {len(missing) - 1} others")
    try:
        part.load_state_dict({key: state[key] for key in wanted})
    except RuntimeError as error:
        raise ValueError(f"{argument}: {weights} does not fit {network}: {error}") from None


def read_state_dict(argument: str, file: str, instead: str) -> dict[str, Any]:
    """A `state_dict` from a file that `torch.save` wrote, or from a .safetensors; nothing in it is run.

    Args:
        argument: what the user calls it, for messages.
        file: its path.
        instead: what else the argument may be, for messages.

    Raises:
        ValueError: no file, or one that is damaged or holds something else.
    """
    path = Path(os.path.expanduser(file))
    if not path.is_file():
        raise ValueError(f"{argument} must be a file, {instead}, got {file}")
    if path.suffix == ".safetensors":
        return _read_safetensors(argument, path)
    try:
        with path.open("rb") as opened:
            if is_zipfile(opened):  # torchvision's oldest files are of another format, which packs nothing
                require_stored(opened)
            opened.seek(0)
            state = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a broken or hostile file; all mean the same here
        raise ValueError(f"{argument}: {file} is truncated, corrupt or holds pickled objects") from error
    if not isinstance(state, dict):
        raise ValueError(f"{argument}: {file} must hold a state_dict, got {type(state).__name__}")
    return state


def _read_safetensors(argument: str, path: Path) -> dict[str, Any]:
    try:
        load_file = import_module("safetensors.torch").load_file
    except ImportError as error:
        raise ValueError(f"{argument}: {path} needs safetensors: pip install 'adlightning[timm]'") from error
    try:
        return dict(load_file(path))
    except Exception as error:  # as above
        raise ValueError(f"{argument}: {path} is truncated, corrupt or no .safetensors") from error


def load_pretrained(module: nn.Module, network: str, weights: str, but: tuple[str, ...]) -> None:
    """Take over weights of one of torchvision's networks, in place, as :func:`take_over_`.

    Args:
        module: a network with torchvision's names of parameters.
        network: name of the torchvision network.
        weights: name or file, as in :func:`read_weights`.
        but: as in :func:`take_over_`.

    Raises:
        ValueError: the weights are not there, or a key is missing, unknown or of another shape.
    """
    take_over_(module, read_weights("weights", network, weights), network, weights, but)


def take_over_(module: nn.Module, given: dict[str, Any], network: str, weights: str, but: tuple[str, ...]) -> None:
    """Take over a `state_dict`, in place; nothing is taken over unless all of it fits.

    Args:
        module: a network.
        given: its parameters and buffers by name.
        network: what it is called, for messages.
        weights: what they are called.
        but: what the keys begin with that are not looked at, on either side.

    Raises:
        ValueError: a key is missing, unknown or of another shape.
    """
    state = {key: value for key, value in given.items() if not str(key).startswith(but)}
    wanted = {key: value for key, value in module.state_dict().items() if not key.startswith(but)}
    # files from before PyTorch 0.4.1 do not count the batches; the counts are used nowhere
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"weights: {weights} lacks {missing[0]} and {len(missing) - 1} others of {network}")
    for key, value in state.items():
        if key not in wanted:
            raise ValueError(f"weights: {weights} has {key}, which {network} has not")
        shape = getattr(value, "shape", None)
        if shape != wanted[key].shape:
            text = f"has the shape {tuple(shape)}" if shape is not None else "is no tensor"
            raise ValueError(f"weights: {key} in {weights} {text}, {network} needs {tuple(wanted[key].shape)}")
    module.load_state_dict(state, strict=False)  # strict would ask for what is not looked at
