"""What a patch of an image is: its raw values, or the activations of a pretrained network where it lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from adlightning.networks.pretrained import give_weights, read_state_dict, take_over
from adlightning.networks.timm_encoder import import_timm, timm_weights
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
        require_odd(neighborhood)
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
        return on_one_grid([found[str(i)] for i in range(self.n_layers)], self.neighborhood)

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


class TimmPatches(nn.Module):
    """Activations of some stages of a timm network, put on one grid, as :class:`BackbonePatches` does.

    Args:
        shape: (C, H, W) of an image, of 1 or 3 channels, in [0, 1].
        name: of a network in timm's list that gives feature maps.
        layers: which of its stages, from 0 on (timm's `out_indices`).
        weights: true for those of the name, a file with a `state_dict` in timm's names (.pt, .safetensors), or None for
            random weights.
        neighborhood: side of the neighbourhood over which activations are averaged; odd.

    Raises:
        ValueError: timm is not installed, a network or stage that there is not, or images that it does not take.
    """

    has_weights: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        name: str = "resnet18",
        layers: Sequence[int] = (2, 3),
        weights: bool | str | None = True,
        neighborhood: int = 3,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"name: a timm network takes images of 1 or 3 channels here, got shape {tuple(shape)}")
        timm = import_timm("TimmPatches")
        if not timm.is_model(name):
            raise ValueError(f"name must be one of timm.list_models(), got {name!r}")
        require_odd(neighborhood)
        try:
            network = timm.create_model(name, pretrained=False, features_only=True, out_indices=tuple(layers))
            self.extractor: nn.Module = network.eval().requires_grad_(False)
            self.channels: list[int] = network.feature_info.channels()
            with torch.no_grad():
                network(torch.zeros(1, 3, *shape[1:]))
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"name: {name} gives no maps of layers={list(layers)} for {tuple(shape)}: {error}"
            ) from None
        self.name, self.weights, self.neighborhood = name, weights, neighborhood
        config = network.pretrained_cfg
        self.register_buffer("has_weights", torch.tensor(False))
        self.register_buffer("mean", torch.tensor(config.get("mean", IMAGENET_MEAN)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(config.get("std", IMAGENET_STD)).view(1, 3, 1, 1))

    def train(self, mode: bool = True) -> TimmPatches:
        """Its BatchNorms keep their statistics in any mode."""
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Activations (B, d, h, w) of images (B, C, H, W), of all stages one after the other."""
        found = self.extractor((x.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return on_one_grid(found, self.neighborhood)

    def load_pretrained(self) -> None:
        """Take over the weights asked for, once.

        Raises:
            ValueError: they are not there, or do not fit.
        """
        if bool(self.has_weights):
            return
        if self.weights:
            given = (
                timm_weights("features.weights", self.name)
                if self.weights is True
                else read_state_dict("features.weights", self.weights, "true or null")
            )
            give_weights("features.weights", self.extractor, given, self.name, str(self.weights))
        self.has_weights.fill_(True)


def on_one_grid(maps: Sequence[Tensor], neighborhood: int) -> Tensor:
    """Maps (B, d_i, h_i, w_i), averaged over a neighbourhood, at the size of the first one: (B, sum d_i, h, w)."""
    pooled = [F.avg_pool2d(one, neighborhood, stride=1, padding=neighborhood // 2) for one in maps]
    grid = pooled[0].shape[2:]
    return torch.cat([pooled[0], *(F.interpolate(one, grid, mode="bilinear") for one in pooled[1:])], dim=1)


def require_odd(neighborhood: int) -> None:
    """Raise ValueError unless a neighbourhood has a middle."""
    if neighborhood < 1 or neighborhood % 2 == 0:
        raise ValueError(f"neighborhood must be odd and positive, got {neighborhood}")
