"""Pretrained weights of torchvision's networks, by name or from a file."""

from __future__ import annotations

import os
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
    path = Path(os.path.expanduser(weights))
    if not path.is_file():
        raise ValueError(f"{argument} must be a file, null or one of {', '.join(names)}, got {weights}")
    try:
        with path.open("rb") as file:
            if is_zipfile(file):  # torchvision's oldest files are of another format, which packs nothing
                require_stored(file)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a broken or hostile file; all mean the same here
        raise ValueError(f"{argument}: {weights} is truncated, corrupt or holds pickled objects") from error
    if not isinstance(state, dict):
        raise ValueError(f"{argument}: {weights} must hold a state_dict, got {type(state).__name__}")
    return state


def load_pretrained(module: nn.Module, network: str, weights: str, but: tuple[str, ...]) -> None:
    """Take over weights of one of torchvision's networks, in place; nothing is taken over unless all of it fits.

    Args:
        module: a network with torchvision's names of parameters.
        network: name of the torchvision network.
        weights: name or file, as in :func:`read_weights`.
        but: what the keys begin with that are not looked at, on either side.

    Raises:
        ValueError: the weights are not there, or a key is missing, unknown or of another shape.
    """
    given = read_weights("weights", network, weights)
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
