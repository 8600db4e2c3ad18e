"""Pretrained weights of torchvision's networks, by name or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torchvision import models


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
    if not Path(weights).is_file():
        raise ValueError(f"{argument} must be a file, null or one of {', '.join(names)}, got {weights}")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a broken or hostile file; all mean the same here
        raise ValueError(f"{argument}: {weights} is truncated, corrupt or holds pickled objects") from error
    if not isinstance(state, dict):
        raise ValueError(f"{argument}: {weights} must hold a state_dict, got {type(state).__name__}")
    return state
