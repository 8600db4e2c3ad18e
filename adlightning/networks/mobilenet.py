"""MobileNetV2 for large images: the ImageNet experiments of DROCC, Appendix E.3 (width 1.0, 224x224 pixels)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from adlightning.networks.initialisation import strip_biases_
from adlightning.networks.mlp import check_positive, require_samples_of
from adlightning.networks.pretrained import load_pretrained

N_FEATURES = 1280


class MobileNetV2Encoder(nn.Module):
    """Images (B, 3, H, W) to the penultimate features (B, 1280) of torchvision's mobilenet_v2, after average pooling.

    The classifier and its dropout are left out. As published (Sandler et al., 2018) the features lie in [0, 6]. Without
    `affine` they have no upper bound: ReLU stands in for ReLU6, which would let Deep SVDD and Deep SAD collapse (Ruff
    et al., 2018, Proposition 3), and BatchNorm has no affine part. No convolution of a MobileNetV2 has a bias.

    Args:
        shape: (C, H, W) of an image, with C = 3.
        affine: True for the network as published, False for Deep SVDD and Deep SAD.
        weights: pretrained weights of an `affine` network, taken over when a fit begins: a file of torchvision's, or
            their name (`IMAGENET1K_V1`); null starts from random ones.

    Raises:
        ValueError: images without 3 channels, a size below 1, or weights for a network that is not affine.
    """

    has_weights: Tensor

    def __init__(self, shape: tuple[int, ...], affine: bool = False, weights: str | None = None) -> None:
        super().__init__()
        require_samples_of(3, "images (3, H, W)", shape, "MobileNetV2Encoder")
        check_positive("shape", shape)
        if weights is not None and not affine:
            raise ValueError(f"weights are of affine BatchNorms, give affine: true with them, got {weights}")
        self.weights = weights
        if weights is not None:
            self.register_buffer("has_weights", torch.tensor(False))
        if shape[0] != 3:
            raise ValueError(f"MobileNetV2Encoder takes images of 3 channels, the data have samples of shape {shape}")
        self.features: nn.Module = models.mobilenet_v2(weights=None).features
        if not affine:
            strip_biases_(self.features)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 1280) of images (B, 3, H, W)."""
        return F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)

    def load_pretrained(self) -> None:
        """Take over the weights asked for, once: a checkpoint has them, wherever they came from."""
        if self.weights is not None and not self.has_weights:
            self.load_weights(self.weights)
            self.has_weights.fill_(True)

    def load_weights(self, weights: str) -> None:
        """Take over weights of torchvision's mobilenet_v2, in place; those of its classifier are not looked at.

        Args:
            weights: name of torchvision's weights (`IMAGENET1K_V1`, `IMAGENET1K_V2`) or file of a `state_dict` of its
                mobilenet_v2. They were trained on images standardised with ImageNet's mean and deviation.

        Raises:
            ValueError: the network is not `affine`; the weights are not there, or a key is missing, unknown or of
                another shape; nothing is taken over.
        """
        if not any(layer.affine for layer in self.modules() if isinstance(layer, nn.BatchNorm2d)):
            raise ValueError(f"weights: they are of affine BatchNorms, which this network has not, got {weights}")
        load_pretrained(self, "mobilenet_v2", weights, but=("classifier.", "has_weights"))
