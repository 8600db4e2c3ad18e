"""What a method does to raw input before its network: a fitted module inside the detector.

It belongs to the method, not to the data: on the same images Deep SAD takes [0, 1], Deep SVDD normalised contrast,
DROCC standardised channels, AMA and ADGAN [-1, 1]. Everything fitted is a float32 buffer and lives in the checkpoint.
Features that float32 cannot hold are centred first, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from adlightning.core.contracts import InputSpec
from adlightning.preprocessing.base import Compose, Identity, Output, Preprocessing
from adlightning.preprocessing.features import Centre, StandardizeFeatures, StandardizeMinMax
from adlightning.preprocessing.images import (
    CIFAR10_CHANNELS,
    IMAGENET_CHANNELS,
    MNIST_CHANNELS,
    GlobalContrastL1,
    Pad,
    Resize,
    StandardizeChannels,
    SymmetricRange,
    UnitRange,
)

__all__ = [
    "Centre",
    "Compose",
    "GlobalContrastL1",
    "Identity",
    "Output",
    "Pad",
    "Preprocessing",
    "PreprocessingName",
    "Resize",
    "StandardizeChannels",
    "StandardizeFeatures",
    "StandardizeMinMax",
    "SymmetricRange",
    "UnitRange",
    "build_preprocessing",
]

PreprocessingName = Literal[
    "unit",
    "symmetric",
    "standardize_channels",
    "standardize_cifar10",
    "standardize_mnist",
    "standardize_imagenet",
    "standardize",
    "standardize_offset",
    "standardize_minmax",
    "gcn_l1",
    "identity",
]

Maker = Callable[[tuple[int, ...]], Preprocessing]

_FOR_IMAGES: dict[str, Maker] = {
    "unit": lambda _: UnitRange(),
    "symmetric": lambda _: SymmetricRange(),
    "standardize_channels": lambda shape: StandardizeChannels(shape[0]),
    "standardize_cifar10": lambda shape: StandardizeChannels(shape[0], CIFAR10_CHANNELS),
    "standardize_mnist": lambda shape: StandardizeChannels(shape[0], MNIST_CHANNELS),
    "standardize_imagenet": lambda shape: StandardizeChannels(shape[0], IMAGENET_CHANNELS),
    "gcn_l1": lambda _: GlobalContrastL1(),
    "identity": lambda _: Identity(),
}
_FOR_FEATURES: dict[str, Maker] = {
    "standardize": StandardizeFeatures,
    "standardize_offset": lambda shape: StandardizeFeatures(shape, offset=1e-4),
    "standardize_minmax": StandardizeMinMax,
    "identity": lambda _: Identity(),
}


def build_preprocessing(
    name: PreprocessingName, spec: InputSpec, resize: int | None = None, pad: int = 0
) -> Preprocessing:
    """The named preprocessing for this input, not yet fitted.

    Args:
        name: for images `unit`, `symmetric`, `standardize_channels` (with those of a data set: `standardize_cifar10`,
            `standardize_mnist` and `standardize_imagenet`), `gcn_l1` or `identity`; for tables and series
            `standardize`, `standardize_offset`, `standardize_minmax` or `identity`.
        spec: the raw input.
        resize: side in pixels to which images are resized first; None leaves them.
        pad: black pixels added on every side, after resizing.

    Raises:
        ValueError: a name that does not fit the input, or resize or pad out of range or for other input than images.
    """
    makers = _FOR_IMAGES if spec.kind == "image" else _FOR_FEATURES
    if name not in makers:
        raise ValueError(f"preprocessing of {spec.kind} input must be one of {', '.join(makers)}, got {name!r}")
    if resize is not None and resize < 1:
        raise ValueError(f"resize must be at least 1 pixel, got {resize}")
    if pad < 0:
        raise ValueError(f"pad must not be negative, got {pad}")
    if spec.kind != "image" and (resize is not None or pad):
        raise ValueError(f"resize and pad are for images only, got resize={resize}, pad={pad} with {spec.kind} input")
    steps: list[Preprocessing] = [] if resize is None else [Resize(resize, resize)]
    if spec.offsets:
        steps.append(Centre(spec.offsets, spec.shape))
    if pad:
        steps.append(Pad(pad))
    return Compose([*steps, makers[name](spec.shape)]) if steps else makers[name](spec.shape)
