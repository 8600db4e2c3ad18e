"""How an image file becomes uint8 pixels where that can be done in more than one way, as a checkpoint keeps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

ResizeMode = Literal["squash", "pad", "crop"]
Background = Literal["black", "grey", "white"]

LEVELS: dict[Background, int] = {"black": 0, "grey": 128, "white": 255}
SIXTEEN_BITS = 65535.0


@dataclass(frozen=True)
class ImageReading:
    """What is done to an image file beside its size and channels.

    Args:
        resize_mode: how an image comes to the size asked for: `squash` resizes height and width each; `pad` keeps the
            aspect ratio and puts black around; `crop` keeps it and cuts off what stands out, on both sides alike.
        background: what lies under transparent pixels; None drops the transparency, whatever colour is under it.
        white: the value of 16-bit grey images and of images of floats or 32-bit numbers that becomes 255; 0 is black,
            and what lies beyond is cut. None is 65535 for 16 bits, and refuses the others.

    Raises:
        ValueError: an argument outside its range.
    """

    resize_mode: ResizeMode = "squash"
    background: Background | None = None
    white: float | None = None

    def __post_init__(self) -> None:
        if self.resize_mode not in get_args(ResizeMode):
            allowed = ", ".join(get_args(ResizeMode))
            raise ValueError(f"resize_mode must be one of {allowed}, got {self.resize_mode!r}")
        if self.background is not None and self.background not in get_args(Background):
            raise ValueError(f"background must be one of {', '.join(LEVELS)} or null, got {self.background!r}")
        is_number = isinstance(self.white, (int, float)) and not isinstance(self.white, bool)
        if self.white is not None and not (is_number and math.isfinite(self.white) and self.white > 0):
            raise ValueError(f"white must be a positive number or null, got {self.white!r}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageReading:
        """The inverse of :meth:`as_dict`. Raises ValueError for values that it does not give."""
        if set(values) != {own.name for own in fields(cls)}:
            raise ValueError("reading of an input is none")
        return cls(**values)


AS_EVER = ImageReading()
"""How files are read where nobody says otherwise."""
