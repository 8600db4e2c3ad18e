"""Encoders by the name of one of torchvision's networks for classification."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import nullcontext
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from adlightning.networks.encoders import Shape
from adlightning.networks.library_encoder import LibraryEncoder, in_pixels, refusal
from adlightning.networks.mlp import check_positive, require_samples_of
from adlightning.networks.pretrained import load_pretrained

_CLASSIFIERS = ("fc", "classifier", "head", "heads")
_ALSO_GONE = ("aux1.", "aux2.", "AuxLogits.")  # GoogLeNet's and Inception's classifiers of maps half-way


class TorchvisionEncoder(LibraryEncoder):
    """Images (B, C, H, W) to the pooled features (B, d) of a torchvision network, whose classifier is taken out.

    d is 512 with resnet18 and vgg11_bn, 576 with mobilenet_v3_small, 1280 with efficientnet_b0, 768 with convnext_tiny
    and, its class token, with vit_b_16. VGG and AlexNet lose all of their dense layers. Grey images are repeated to
    three channels.

    Args:
        shape: (C, H, W) of an image, with C = 1 or 3.
        name: as in `torchvision.models.list_models(module=torchvision.models)`.
        weights: taken over when a fit begins: a name in torchvision's enum of this network (`IMAGENET1K_V1`,
            `DEFAULT`), or a file with a `state_dict` in torchvision's names, with or without a classifier. They expect
            images as they were trained on, ImageNet's standardised. Null starts from torchvision's random ones.
        frozen: trains nothing of it, and keeps BatchNorm in eval mode.
        strip_biases: for Deep SVDD and Deep SAD, which could collapse: biases and the affine part of BatchNorm go, and
            ReLU6 becomes ReLU. Networks with LayerNorm (ConvNeXt, MaxViT, Swin, ViT) are refused.

    Raises:
        ValueError: an unknown name, images that the network does not take, or arguments that do not go together.
    """

    def __init__(
        self,
        shape: Shape,
        name: str,
        weights: str | None = None,
        frozen: bool = False,
        strip_biases: bool = False,
    ) -> None:
        require_samples_of(3, "images (C, H, W)", shape, "TorchvisionEncoder")
        check_positive("shape", shape)
        if shape[0] not in (1, 3):
            raise ValueError(
                f"TorchvisionEncoder takes images of 1 or 3 channels, the data have samples of shape {shape}"
            )
        if name not in models.list_models(module=models):
            raise ValueError(f"encoder.name must be a torchvision network for classification, got {name!r}")
        known = models.get_model_weights(name).__members__
        if strip_biases and weights in known:
            raise ValueError(f"encoder.weights: {weights} of {name} count on the biases that strip_biases takes away")
        try:
            with _NumbersOnHost() if name.startswith("regnet") else nullcontext():
                network: nn.Module = models.get_model(name, weights=None, **_arguments(name, shape[1:], weights))
        except ValueError as error:
            raise ValueError(refusal(name, shape[1:], error)) from error
        gone = _remove_classifier(network)
        smallest = known["DEFAULT"].meta["min_size"]
        super().__init__(shape, name, network, weights, frozen, strip_biases, smallest)
        self._gone = (*gone, *_ALSO_GONE)

    def take_over(self, weights: str | bool) -> None:
        """Take over weights by their name, or from a file; those of a classifier are not looked at."""
        load_pretrained(self.network, self.name, str(weights), but=self._gone)


class _NumbersOnHost(TorchFunctionMode):
    """RegNet computes its widths by tensors: let it do so also where a checkpoint is compared without any memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        return func(*args, **{**given, "device": "cpu"} if func in (torch.arange, torch.tensor) else given)


def _arguments(name: str, sides: tuple[int, ...], weights: str | None) -> dict[str, Any]:
    """What a network is made with for images of these sides. Raises ValueError for sides that a ViT does not take."""
    if name in ("googlenet", "inception_v3"):  # pretrained ones undo ImageNet's standardisation, for one of their own
        return {"aux_logits": False, "init_weights": True, "transform_input": weights is not None}
    if name.startswith("maxvit"):
        return {"input_size": sides}
    if not name.startswith("vit_"):
        return {}
    patch = int(name.rpartition("_")[2])
    known = models.get_model_weights(name).__members__
    if weights in known and known[weights].meta["min_size"] != sides:
        raise ValueError(f"weights {weights} are for {in_pixels(known[weights].meta['min_size'])} pixels")
    if sides[0] != sides[1] or sides[0] % patch:
        raise ValueError(f"it takes squares whose sides are multiples of {patch} pixels, as published 224x224")
    return {"image_size": sides[0]}


def _remove_classifier(network: nn.Module) -> tuple[str, ...]:
    """Leave the pooled features as what a network gives, in place; gives what the names of lost weights begin with.

    Normalisation and pooling at the head of a classifier stay: without them the features would be others.
    """
    name = next(child for child in _CLASSIFIERS if hasattr(network, child))
    classifier = network.get_submodule(name)
    layers = dict(classifier.named_children()) if isinstance(classifier, nn.Sequential) else {"": classifier}
    kept = dict(takewhile(lambda item: not isinstance(item[1], (nn.Linear, nn.Dropout)), layers.items()))
    setattr(network, name, nn.Sequential(OrderedDict(kept)))
    if isinstance(network, models.SqueezeNet):
        network.classifier = nn.AdaptiveAvgPool2d(1)
    elif isinstance(network, (models.AlexNet, models.VGG)):
        network.avgpool = nn.AdaptiveAvgPool2d(1)
    return tuple(f"{name}.{layer}." for layer in layers.keys() - kept) if kept else (f"{name}.",)
