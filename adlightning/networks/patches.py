"""What a patch of an image is: its raw values, or the activations of a pretrained network where it lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from adlightning.networks.pretrained import take_over
from adlightning.networks.torchvision_layer import IMAGENET_MEAN, IMAGENET_STD


class RawPatches(nn.Module):
    """Square patches of an image, each by its values.

    The image is mirrored at its edges, so that the patches' middles lie evenly over it and no pixel is left out.

    Args:
        shape: (C, H, W) of an image.
        size: side of a patch, in pixels.
        stride: from one patch to the next, in pixels.

    Raises:
        ValueError: a patch larger than the image, or patches that leave pixels out between them.
    """

    def __init__(self, shape: Sequence[int], size: int = 8, stride: int = 4) -> None:
        super().__init__()
        if len(shape) != 3 or size > min(shape[1:]):
            raise ValueError(f"size must be at most the smaller side of an image, got {size} for shape {tuple(shape)}")
        if not 1 <= stride <= size:
            raise ValueError(f"stride must lie in 1 to size={size}: else pixels are left out, got {stride}")
        self.channels, self.size, self.stride = shape[0], size, stride
        missing = [(-(-n // stride) - 1) * stride + size - n for n in reversed(shape[1:])]
        self.pad = [part for n in missing for part in (n // 2, n - n // 2)]

    def forward(self, x: Tensor) -> Tensor:
        """Patches (B, C * size * size, h, w) of images (B, C, H, W); h is H / stride, rounded up."""
        x = F.pad(x, self.pad, mode="reflect")
        windows = x.unfold(2, self.size, self.stride).unfold(3, self.size, self.stride)  # (B, C, h, w, size, size)
        return windows.permute(0, 1, 4, 5, 2, 3).flatten(1, 3)


class BackbonePatches(nn.Module):
    """Activations of some layers of a torchvision network, put on one grid (PatchCore, Roth et al. 2022, Section 3.1).

    Each layer's map is averaged over a neighbourhood, and enlarged to the size of the first one's.

    Args:
        shape: (C, H, W) of an image, of 1 or 3 channels, in [0, 1].
        name: of a torchvision network.
        layers: names of its layers.
        weights: name of torchvision weights, downloaded where they are not yet (`DEFAULT` for the best), a file with a
            `state_dict`, or None for random weights.
        neighborhood: side of the neighbourhood over which activations are averaged; odd.

    Raises:
        ValueError: a network or layer that there is not, or images that it does not take.
    """

    has_weights: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        name: str = "wide_resnet50_2",
        layers: Sequence[str] = ("layer2", "layer3"),
        weights: str | None = "DEFAULT",
        neighborhood: int = 3,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"name: a torchvision network takes images of 1 or 3 channels, got shape {tuple(shape)}")
        if name not in models.list_models():
            raise ValueError(f"name must be the name of a torchvision network, got {name!r}")
        if neighborhood < 1 or neighborhood % 2 == 0:
            raise ValueError(f"neighborhood must be odd and positive, got {neighborhood}")
        network = models.get_model(name, weights=None).eval()
        try:
            self.extractor = create_feature_extractor(network, {layer: str(i) for i, layer in enumerate(layers)})
        except ValueError:
            names = ", ".join(child for child, _ in network.named_children())
            raise ValueError(f"layers must be layers of {name} ({names}, ...), got {list(layers)}") from None
        self.extractor.requires_grad_(False)
        self.name, self.weights, self.n_layers, self.neighborhood = name, weights, len(layers), neighborhood
        self.register_buffer("has_weights", torch.tensor(False))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        try:
            with torch.no_grad():
                self(torch.zeros(1, *shape))
        except RuntimeError as error:
            raise ValueError(f"name: {name} needs larger images than {tuple(shape)}: {error}") from None

    def train(self, mode: bool = True) -> BackbonePatches:
        """Its BatchNorms keep their statistics in any mode."""
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Activations (B, d, h, w) of images (B, C, H, W), of all layers one after the other."""
        found = self.extractor((x.expand(-1, 3, -1, -1) - self.mean) / self.std)
        pooled = [
            F.avg_pool2d(found[str(i)], self.neighborhood, stride=1, padding=self.neighborhood // 2)
            for i in range(self.n_layers)
        ]
        grid = pooled[0].shape[2:]
        return torch.cat([pooled[0], *(F.interpolate(one, grid, mode="bilinear") for one in pooled[1:])], dim=1)

    def load_pretrained(self) -> None:
        """Take over the weights asked for, once: a checkpoint has them, wherever they came from.

        Raises:
            ValueError: they are not there, or do not fit.
        """
        if bool(self.has_weights):
            return
        if self.weights is not None:
            take_over("features.weights", self.extractor, self.name, self.weights)
        self.has_weights.fill_(True)
