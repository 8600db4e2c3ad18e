"""How long an image is, compressed without loss: a general measure of its complexity."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from adlightning.core.parts import Part

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Compressor(Part):
    """A lossless compressor of images."""

    @abstractmethod
    def code(self, image: Image.Image) -> bytes:
        """What an image, grey or RGB, becomes."""

    @abstractmethod
    def require(self) -> None:
        """Raise ValueError, naming what is missing, where it cannot run."""

    @abstractmethod
    def version(self) -> str:
        """What it is, in words, for a result's notes."""

    def bits(self, images: Tensor) -> Tensor:
        """Lengths (B,) in bits of images uint8 (B, C, H, W), float32, on the host.

        One and three channels are compressed together; any other number, channel by channel.
        """
        lengths = [sum(len(self.code(picture)) for picture in _pictures(image)) for image in images.cpu().numpy()]
        return 8 * torch.tensor(lengths, dtype=torch.float32)


def _pictures(image: Pixels) -> list[Image.Image]:
    """An image (C, H, W) as pictures, grey or RGB."""
    if len(image) == 3:
        return [Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))]
    return [Image.fromarray(channel) for channel in image]


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    written = io.BytesIO()
    image.save(written, format=form, **options)
    return written.getvalue()


@dataclass(frozen=True)
class PNG(Compressor):
    """PNG, by Pillow, as small as zlib makes it."""

    def code(self, image: Image.Image) -> bytes:
        """The file."""
        return _saved(image, "PNG", optimize=True)

    def require(self) -> None:
        """It is always there."""

    def version(self) -> str:
        """With zlib's version."""
        return f"PNG (zlib {features.version('zlib')})"


@dataclass(frozen=True)
class JPEG2000(Compressor):
    """JPEG 2000 by its reversible transforms of space and colour, by Pillow: the codestream without a file's boxes."""

    def code(self, image: Image.Image) -> bytes:
        """The codestream."""
        return _saved(image, "JPEG2000", irreversible=False, mct=image.mode == "RGB", no_jp2=True)

    def require(self) -> None:
        """Raise ValueError where Pillow was built without OpenJPEG."""
        if not features.check("jpg_2000"):
            raise ValueError("compressor: JPEG2000 needs a Pillow that was built with OpenJPEG; PNG needs nothing")

    def version(self) -> str:
        """With OpenJPEG's version."""
        return f"JPEG 2000 (OpenJPEG {features.version('jpg_2000')})"


@dataclass(frozen=True)
class FLIF(Compressor):
    """FLIF, the paper's: by the program `flif`, which must be installed; it runs once for each image."""

    def code(self, image: Image.Image) -> bytes:
        """The file that `flif -e` writes."""
        self.require()
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "image.png", Path(folder) / "image.flif"
            image.save(source)
            run = subprocess.run(["flif", "-e", str(source), str(target)], capture_output=True, check=False)
            if run.returncode:
                raise RuntimeError(f"flif failed ({run.returncode}): {run.stderr.decode(errors='replace').strip()}")
            return target.read_bytes()

    def require(self) -> None:
        """Raise ValueError where there is no program `flif`."""
        if shutil.which("flif") is None:
            raise ValueError(
                "compressor: FLIF needs the program flif (https://github.com/FLIF-hub/FLIF), which is not installed: "
                "install it, or take JPEG2000 or PNG"
            )

    def version(self) -> str:
        """Its name."""
        return "FLIF"
