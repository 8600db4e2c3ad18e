"""Activations of a layer of one of torchvision's networks (ADGAN, Section 4.2: AlexNet's last convolution)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from adlightning.networks.pretrained import take_over

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TorchvisionLayer(nn.Module):
    """A network up to one of its layers, whose weights nothing moves.

    Takes images in [0, 1]; grey ones get three equal channels, and all ImageNet's mean and deviation.

    Args:
        shape: (C, H, W) of an image, of 1 or 3 channels.
        name: of a torchvision network.
        layer: a layer's name, as :mod:`torchvision.models.feature_extraction` has it.
        weights: name of torchvision weights, path of a file with a `state_dict`, or None for random weights.

    Raises:
        ValueError: an argument that does not fit.
    """

    ready: Tensor
    """Whether the weights are taken over: a bool buffer."""

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], name: str, layer: str, weights: str | None) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(
                f"name: a torchvision network takes images of 1 or 3 channels, the data have shape {shape}"
            )
        if name not in models.list_models():
            raise ValueError(f"name must be the name of a torchvision network, got {name!r}")
        network = models.get_model(name, weights=None).eval()
        try:
            extractor = create_feature_extractor(network, {layer: "features"})
        except ValueError:
            names = ", ".join(child for child, _ in network.named_children())
            raise ValueError(f"layer must be a layer of {name} ({names}, ...), got {layer!r}") from None
        self.extractor = extractor.requires_grad_(False).eval()
        try:
            with torch.no_grad():
                self.size = self.extractor(torch.zeros(1, 3, *shape[1:]))["features"].numel()
        except RuntimeError as error:
            raise ValueError(
                f"name: {name} needs larger images than {shape} (preprocessing.resize makes them so): {error}"
            ) from None
        self.extractor.train(self.training)
        self.name, self.weights = name, weights
        self.register_buffer("ready", torch.tensor(False))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Activations (B, ...) of images (B, C, H, W)."""
        activations: Tensor = self.extractor((x - self.mean) / self.std)["features"]
        return activations

    def load_pretrained(self) -> None:
        """Take over the weights asked for, once: a checkpoint has them, wherever they came from.

        Raises:
            ValueError: they are not there, or do not fit; none is taken over then.
        """
        if self.ready:
            return
        if self.weights is not None:
            take_over("weights", self.extractor, self.name, self.weights)
        self.ready.fill_(True)
