"""Encoders by the name of one of timm's networks, with the extra `timm`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from adlightning.networks.encoders import Shape
from adlightning.networks.library_encoder import LibraryEncoder, refusal
from adlightning.networks.mlp import check_positive, require_samples_of
from adlightning.networks.pretrained import read_state_dict, take_over_


class TimmEncoder(LibraryEncoder):
    """Images (B, C, H, W) to the pooled features (B, d) of a timm network, made without a classifier.

    Transformers are made for the size of the images, where timm's take one (`img_size`). Grey images are repeated to
    three channels; for other numbers of channels timm adapts the first convolution.

    Args:
        shape: (C, H, W) of an image.
        name: of a network in timm's own list, with or without a tag: `resnet18`, `vit_tiny_patch16_224.augreg_in21k`.
        weights: taken over when a fit begins: true for those of the name, a tag for others of timm's (`a1_in1k`), or a
            file with a `state_dict` in timm's names (.pt, .safetensors). They expect images as they were trained on.
            Null starts from timm's random ones.
        frozen: trains nothing of it, and keeps BatchNorm in eval mode.
        strip_biases: for Deep SVDD and Deep SAD, which could collapse: biases and the affine part of BatchNorm go, and
            bounded activations become ReLU or leaky ReLU. Networks with LayerNorm are refused.

    Raises:
        ValueError: timm is not installed; an unknown name, images that the network does not take, or arguments that do
            not go together.
    """

    def __init__(
        self,
        shape: Shape,
        name: str,
        weights: bool | str | None = None,
        frozen: bool = False,
        strip_biases: bool = False,
    ) -> None:
        require_samples_of(3, "images (C, H, W)", shape, "TimmEncoder")
        check_positive("shape", shape)
        timm = import_timm("TimmEncoder")
        if not timm.is_model(str(name)):
            raise ValueError(f"encoder.name must be one of timm.list_models(), got {name!r}")
        architecture, _, tag = name.partition(".")
        known = timm.models.get_arch_pretrained_cfgs(architecture)
        if tag and name not in known:
            raise ValueError(f"encoder.name: {architecture} has the tags {_tags(known)}, got {name!r}")
        by_name = weights is True or f"{architecture}.{weights}" in known
        if strip_biases and by_name:
            raise ValueError(f"encoder.weights: those of {name} count on the biases that strip_biases takes away")
        arguments: dict[str, Any] = {"num_classes": 0, "in_chans": 3 if shape[0] == 1 else shape[0]}
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.fixed_input_size:
            arguments["img_size"] = shape[1:]
        try:
            network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(refusal(name, shape[1:], error)) from error
        super().__init__(shape, name, network, weights, frozen, strip_biases)
        self._arguments = arguments
        self._pretrained = (name if weights is True else f"{architecture}.{weights}") if by_name else None
        self._tags = _tags(known)

    def take_over(self, weights: str | bool) -> None:
        """Take over timm's weights, or those of a file; those of a classifier are not looked at."""
        if self._pretrained is not None:
            self.network.load_state_dict(timm_weights("weights", self._pretrained, **self._arguments))
            return
        given = read_state_dict("weights", str(weights), f"true, null or a tag of timm's ({self._tags})")
        classifiers = getattr(self.network, "default_cfg", {}).get("classifier") or ()
        names = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
        take_over_(self.network, given, self.name, str(weights), tuple(f"{name}." for name in names))


def import_timm(asks: str) -> Any:
    """The library. Raises ValueError, which names the class that asks for it, where it is not installed."""
    try:
        return import_module("timm")
    except ImportError as error:
        raise ValueError(f"{asks} needs timm: pip install 'adlightning[timm]'") from error


def timm_weights(argument: str, name: str, **arguments: Any) -> dict[str, Any]:
    """The pretrained weights of a timm network by its name, downloaded where they are not yet.

    Raises:
        ValueError: they cannot be had.
    """
    try:
        donor = import_timm("TimmEncoder").create_model(name, pretrained=True, **arguments)
    except Exception as error:  # of the hub, of what it asks for, of torch: each has types of its own
        raise ValueError(f"{argument}: those of {name} cannot be had: {error}") from error
    weights: dict[str, Any] = donor.state_dict()
    return weights


def _tags(known: dict[str, Any]) -> str:
    return ", ".join(name.partition(".")[2] for name in known) or "none"
