"""What a shallow detector looks at: raw values, autoencoder codes or a torchvision network's maps, and PCA of them.

Preprocessed samples (B, ...) become features (B, D), float32. Whatever is fitted is a buffer or a weight.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from adlightning.core.parts import DecoderFactory, EncoderFactory
from adlightning.methods.autoencoder import reconstruction_error
from adlightning.networks.encoders import WeightInit, build_decoder, build_encoder, representation_size
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.pretrained import read_weights
from adlightning.preprocessing import Output

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureMap(nn.Module, ABC):
    """A map from preprocessed samples (B, ...) to features (B, `size`).

    Args:
        size: D, number of features.
    """

    trained = False
    """Whether epochs of gradient steps come before the estimator is fitted."""

    idle: nn.Parameter
    """Moved by nothing: Lightning saves no checkpoint before a step, and ranks need a gradient to exchange."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.idle = nn.Parameter(torch.zeros(()))

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Features (B, D) of preprocessed samples (B, ...)."""

    def loss(self, x: Tensor) -> Tensor:
        """Loss of preprocessed samples (B, ...), to be minimised before the estimator is fitted; 0 without training."""
        return 0 * self.idle

    def prepare(self, n: int) -> None:
        """Get what training on n samples begins with. Raises ValueError for what is not there or does not fit."""

    def fit(self, batches: Callable[[], Iterable[Tensor]], seed: int) -> None:
        """Fit what is no weight on fresh passes over the preprocessed training samples."""


class RawFeatures(FeatureMap):
    """The preprocessed samples themselves, flattened."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(math.prod(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Flattened samples (B, D)."""
        return x.flatten(1)


class AutoencoderFeatures(FeatureMap):
    """Codes of an autoencoder trained on the mean squared reconstruction error (Deep SAD, Appendix E: "hybrid").

    Args:
        shape: of a preprocessed sample.
        output: range of the preprocessed samples.
        encoder: makes the encoder; None takes what suits the samples.
        decoder: makes the decoder; None takes the encoder's mirror image.
        weight_init: `glorot` or `framework`.
    """

    trained = True

    def __init__(
        self,
        shape: tuple[int, ...],
        output: Output,
        encoder: EncoderFactory | None,
        decoder: DecoderFactory | None,
        weight_init: WeightInit,
    ) -> None:
        made = build_encoder(encoder, shape)
        super().__init__(representation_size(made, shape))
        del self.idle
        self.encoder = made
        self.decoder = build_decoder(decoder, self.encoder, shape, output)
        start_weights_(self, weight_init)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, rep_dim)."""
        codes: Tensor = self.encoder(x)
        return codes.float()

    def loss(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error of the batch."""
        return reconstruction_error(x, self.decoder(self.encoder(x))).mean()


class BackboneFeatures(FeatureMap):
    """Activations of a layer of a torchvision network, flattened (ADGAN, Section 4.2: AlexNet's last convolution).

    Takes images in [0, 1]; grey ones get three equal channels, and all ImageNet's mean and deviation.

    Args:
        shape: (C, H, W), 1 or 3 channels.
        backbone: name of a torchvision network.
        layer: a layer's name, as :mod:`torchvision.models.feature_extraction` has it.
        weights: name of torchvision weights, path of a file with a `state_dict`, or None for random weights.

    Raises:
        ValueError: an argument that does not fit.
    """

    ready: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], backbone: str, layer: str, weights: str | None) -> None:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"features: torchvision takes images of 1 or 3 channels, the data have shape {shape}")
        if backbone not in models.list_models():
            raise ValueError(f"backbone must be the name of a torchvision network, got {backbone!r}")
        network = models.get_model(backbone, weights=None).eval()
        try:
            extractor = create_feature_extractor(network, {layer: "features"})
        except ValueError:
            names = ", ".join(name for name, _ in network.named_children())
            raise ValueError(f"backbone_layer must be a layer of {backbone} ({names}, ...), got {layer!r}") from None
        extractor.eval()
        try:
            with torch.no_grad():
                size = extractor(torch.zeros(1, 3, *shape[1:]))["features"].numel()
        except RuntimeError as error:
            raise ValueError(f"resize must give images large enough for {backbone}, got {shape}: {error}") from None
        super().__init__(size)
        self.backbone, self.weights = backbone, weights
        self.extractor = extractor.requires_grad_(False).train(self.training)
        self.register_buffer("ready", torch.tensor(False))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Flattened activations (B, D)."""
        features: Tensor = self.extractor((x - self.mean) / self.std)["features"]
        return features.flatten(1).float()

    def prepare(self, n: int) -> None:
        """Load the weights, once: a checkpoint has them, wherever they came from."""
        if self.ready:
            return
        if self.weights is None:
            rank_zero_warn(f"backbone_weights is null: features of a random {self.backbone} are a random projection")
        else:
            self._load(read_weights("backbone_weights", self.backbone, self.weights))
        self.ready.fill_(True)

    def _load(self, state: dict[str, Any]) -> None:
        wanted = self.extractor.state_dict()
        missing = [key for key in wanted if key not in state]
        if missing:
            raise ValueError(f"backbone_weights: {self.weights} lacks {missing[0]} and {len(missing) - 1} others")
        try:
            self.extractor.load_state_dict({key: state[key] for key in wanted})
        except RuntimeError as error:
            raise ValueError(f"backbone_weights: {self.weights} does not fit {self.backbone}: {error}") from None


class PCAFeatures(FeatureMap):
    """The first principal components of other features; fitted without known anomalies, projected in float32.

    Args:
        inner: the other features.
        n_components: K, at most as many as there are features and training samples.

    Raises:
        ValueError: more components than features.
    """

    center: Tensor
    components: Tensor
    kept: Tensor
    """How many of the K components are used: all, unless a selection keeps fewer."""

    def __init__(self, inner: FeatureMap, n_components: int) -> None:
        if n_components > inner.size:
            raise ValueError(f"pca_components must be at most {inner.size}, the number of features, got {n_components}")
        super().__init__(n_components)
        self.inner = inner
        del inner.idle
        self.register_buffer("center", torch.zeros(inner.size))
        self.register_buffer("components", torch.zeros(n_components, inner.size))
        self.register_buffer("kept", torch.tensor(n_components))

    def forward(self, x: Tensor) -> Tensor:
        """Principal components (B, kept)."""
        features: Tensor = self.inner(x)
        return (features - self.center) @ self.components[: int(self.kept)].T

    def prepare(self, n: int) -> None:
        """Refuse more components than there are samples."""
        if self.size > n:
            raise ValueError(f"pca_components must be at most {n}, the number of training samples, got {self.size}")
        self.inner.prepare(n)

    def fit(self, batches: Callable[[], Iterable[Tensor]], seed: int) -> None:
        """Centre and components, from all samples at once."""
        features = np.concatenate([self.inner(x).cpu().numpy() for x in batches()])
        pca = PCA(self.size, random_state=seed).fit(features.astype(np.float64))
        self.center.copy_(torch.from_numpy(pca.mean_))
        self.components.copy_(torch.from_numpy(pca.components_))
        self.kept.fill_(self.size)
