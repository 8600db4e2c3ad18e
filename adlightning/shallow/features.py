"""What a shallow detector looks at: raw values, autoencoder codes or a torchvision network's maps, and PCA of them.

The argument `features` of a detector is a recipe, one of the classes below; made for the data it is a
:class:`FeatureMap`. Preprocessed samples (B, ...) become features (B, D), float32. Whatever is fitted is a buffer or a
weight.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.optimization import one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DecoderFactory,
    EncoderFactory,
    OptimizerFactory,
    Part,
    SchedulerFactory,
    Shape,
    decoder_part,
    encoder_part,
)
from adlightning.core.rules import Rule, each, or_none, positive
from adlightning.networks.encoders import WeightInit, build_decoder, build_encoder, representation_size
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.torchvision_layer import TorchvisionLayer
from adlightning.preprocessing import Output, Preprocessing, UnitRange

_COUNTS = each(positive, least=1)


def _are_components(given: Any) -> bool:
    if isinstance(given, float):
        return 0 < given < 1
    if isinstance(given, list):
        return _COUNTS.holds(given) and not any(isinstance(number, float) for number in given)
    return isinstance(given, int) and not isinstance(given, bool) and positive.holds(given)


COMPONENTS = Rule(
    _are_components,
    "be a whole number, at least 1; a share of the variance, in (0, 1); or, with selection: oracle, a list of whole "
    "numbers to choose from",
)
Components = int | float | list[int]


class PrincipalComponents(nn.Module):
    """Centre and directions onto which features are projected, in float32; fitted without known anomalies.

    Args:
        n_features: D, number of features.
        components: K, at most D; or the share of the variance that as few as possible keep, so that the data say K.

    Raises:
        ValueError: more components than features.
    """

    center: Tensor
    directions: Tensor
    kept: Tensor
    """How many of the K components are used: all, unless a selection keeps fewer."""

    def __init__(self, n_features: int, components: int | float) -> None:
        super().__init__()
        if components > n_features:
            raise ValueError(
                f"features.components must be at most {n_features}, the number of features, got {components}"
            )
        self.components = components
        count = 0 if isinstance(components, float) else components
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("directions", torch.zeros(count, n_features))
        self.register_buffer("kept", torch.tensor(count))

    def fit(self, features: Iterable[Tensor], seed: int) -> None:
        """Centre and directions from features (B, D), batch by batch, all of which are held at once."""
        whole = np.concatenate([z.cpu().numpy() for z in features])
        pca = PCA(self.components, random_state=seed).fit(whole.astype(np.float64))
        self.center.copy_(torch.from_numpy(pca.mean_))
        self.directions = torch.from_numpy(pca.components_).to(self.center).contiguous()
        self.kept.fill_(len(self.directions))


class FeatureMap(nn.Module):
    """A network whose output, flattened, is the features, or principal components of them.

    Args:
        network: from preprocessed samples (B, ...) to (B, ...).
        n_features: D, number of values that it gives of a sample.
        decoder: from features (B, D) to preprocessed samples; the network is trained with it as an autoencoder. None
            for a network that is taken as it is.
        components: principal components, their number or the share of the variance that they keep; None for the
            features themselves.

    Raises:
        ValueError: more components than features.
    """

    idle: nn.Parameter | None
    """Moved by nothing: Lightning saves no checkpoint before a step, and ranks need a gradient to exchange."""

    def __init__(
        self,
        network: nn.Module,
        n_features: int,
        decoder: nn.Module | None = None,
        components: int | float | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.decoder = decoder
        self.n_features = n_features
        self.pca = None if components is None else PrincipalComponents(n_features, components)
        self.idle = nn.Parameter(torch.zeros(())) if decoder is None else None

    @property
    def size(self) -> int:
        """How many features it gives, before any selection; of a share of the variance 0 before it is fitted."""
        return self.n_features if self.pca is None else len(self.pca.directions)

    def loss(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error of preprocessed samples (B, ...); 0 where nothing is trained."""
        if self.decoder is None:
            assert self.idle is not None
            return 0 * self.idle
        reconstruction: Tensor = self.decoder(self.network(x))
        return (reconstruction.float() - x.float()).square().flatten(1).mean(dim=1).mean()

    def fit(self, batches: Callable[[], Iterable[Tensor]], seed: int) -> None:
        """Fit what is no weight on a fresh pass over the preprocessed training samples."""
        if self.pca is not None:
            self.pca.fit((self.network(x).flatten(1).float() for x in batches()), seed)


class Features(Part):
    """A recipe for features: a frozen dataclass, which makes a :class:`FeatureMap` once the size of the data is known.

    One of one's own writes :meth:`build`:

        @dataclass(frozen=True)
        class Means(Features):
            def build(self, shape, output):
                return FeatureMap(nn.AdaptiveAvgPool2d(1), n_features=shape[0])
    """

    trained: ClassVar[bool] = False
    """Whether epochs of gradient steps come before the estimator is fitted."""

    needs: ClassVar[type[Preprocessing] | None] = None
    """The preprocessing that they are made of, where it must be that one."""

    @abstractmethod
    def build(self, shape: Shape, output: Output) -> FeatureMap:
        """The map, for preprocessed samples of this shape and range. Raises ValueError for what does not fit them."""

    def dimensions(self) -> list[int]:
        """Numbers of principal components that there are to choose from, ascending; none without them."""
        return []

    def configured(self, made: FeatureMap) -> Any:
        """What `configure_optimizers` returns: by default steps that move nothing, which Lightning counts."""
        return SGD([parameter for parameter in (made.idle,) if parameter is not None], lr=0.0)

    def prepare(self, made: FeatureMap, n: int) -> None:
        """Get what a fit to n samples begins with. Raises ValueError for what is not there or does not fit."""
        if made.pca is not None and made.pca.components > n:
            raise ValueError(
                f"features.components must be at most {n}, the number of training samples, got {made.pca.components}"
            )


@dataclass(frozen=True)
class RawFeatures(Features):
    """The preprocessed samples themselves, flattened."""

    def build(self, shape: Shape, output: Output) -> FeatureMap:
        """A map without weights."""
        return FeatureMap(nn.Flatten(), math.prod(shape))


@dataclass(frozen=True)
class PCAFeatures(Features):
    """The first principal components of the preprocessed samples, fitted without known anomalies.

    Args:
        components: their number, at most that of features and training samples. A share of the variance, such as 0.95,
            takes as few as keep it (Ruff et al. 2018). A list is a grid to choose from on test data, with `selection:
            oracle`.
    """

    components: Components

    argument_rules: ClassVar[Mapping[str, Rule]] = {"components": COMPONENTS}

    def build(self, shape: Shape, output: Output) -> FeatureMap:
        """A map of the flattened samples."""
        return FeatureMap(nn.Flatten(), math.prod(shape), components=_most(self.components))

    def dimensions(self) -> list[int]:
        """The numbers given."""
        return _ascending(self.components)


@dataclass(frozen=True)
class AutoencoderFeatures(Features):
    """Codes of an autoencoder trained on the mean squared reconstruction error (Deep SAD, Appendix E: "hybrid").

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d). None takes LeNet for images, an
            MLP for tables, an LSTM for series.
        decoder: a class made for (d, shape, output); None takes the encoder's mirror image.
        weight_init: of our own networks, `glorot` (uniform) or `framework`.
        optimizer: of both.
        lr_scheduler: its schedule, in epochs; null for a constant learning rate.
    """

    encoder: EncoderFactory | None = None
    decoder: DecoderFactory | None = None
    weight_init: WeightInit = "glorot"
    optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6)
    lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50])

    trained: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Keep parts as their classes and arguments."""
        super().__post_init__()
        object.__setattr__(self, "encoder", encoder_part("encoder", self.encoder))
        object.__setattr__(self, "decoder", decoder_part("decoder", self.decoder))
        object.__setattr__(self, "optimizer", optimizer_part("optimizer", self.optimizer))
        object.__setattr__(self, "lr_scheduler", scheduler_part("lr_scheduler", self.lr_scheduler))

    def build(self, shape: Shape, output: Output) -> FeatureMap:
        """Encoder and decoder, with the weights that they start from."""
        encoder = build_encoder(self.encoder, shape)
        size = representation_size(encoder, shape)
        made = FeatureMap(encoder, size, build_decoder(self.decoder, encoder, shape, output))
        start_weights_(made, self.weight_init)
        return made

    def configured(self, made: FeatureMap) -> Any:
        """One optimiser over everything."""
        optimizer = optimizer_part("optimizer", self.optimizer)
        return one_optimizer(made.parameters(), optimizer, scheduler_part("lr_scheduler", self.lr_scheduler))


@dataclass(frozen=True)
class BackboneFeatures(Features):
    """Activations of a layer of a torchvision network, flattened (ADGAN, Section 4.2: AlexNet's last convolution).

    Args:
        name: of a torchvision network.
        layer: its layer: `features` is the last convolution of AlexNet and VGG with its ReLU and pooling (`features.10`
            AlexNet's without them), a ResNet has `layer4`.
        weights: name of torchvision weights, downloaded where they are not yet (`DEFAULT` for the best), a file with a
            `state_dict`, or null for random weights.
        components: principal components of them, as in :class:`PCAFeatures`; null for all activations.
    """

    name: str = "alexnet"
    layer: str = "features"
    weights: str | None = "DEFAULT"
    components: Components | None = None

    argument_rules: ClassVar[Mapping[str, Rule]] = {"components": or_none(COMPONENTS, "all activations")}
    needs: ClassVar[type[Preprocessing] | None] = UnitRange

    def build(self, shape: Shape, output: Output) -> FeatureMap:
        """The network up to the layer, with random weights as yet."""
        try:
            network = TorchvisionLayer(shape, self.name, self.layer, self.weights)
        except ValueError as error:
            raise ValueError(f"features.{error}") from None
        return FeatureMap(network, network.size, components=_most(self.components))

    def dimensions(self) -> list[int]:
        """The numbers given."""
        return _ascending(self.components)

    def prepare(self, made: FeatureMap, n: int) -> None:
        """Load the weights, once."""
        super().prepare(made, n)
        assert isinstance(made.network, TorchvisionLayer)
        if self.weights is None and not made.network.ready:
            rank_zero_warn(f"features.weights is null: features of a random {self.name} are a random projection")
        try:
            made.network.load_pretrained()
        except ValueError as error:
            raise ValueError(f"features.{error}") from None


def _ascending(components: Components | None) -> list[int]:
    if components is None or isinstance(components, float):
        return []
    return [components] if isinstance(components, int) else sorted(components)


def _most(components: Components | None) -> int | float | None:
    return max(components) if isinstance(components, list) else components
