"""The S-score (Serra et al., ICLR 2020): a likelihood, less what the image's complexity alone explains.

docs/methods/likelihood.md.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

from adlightning.core.optimization import Interval
from adlightning.core.parts import DensityFactory, OptimizerFactory, PreprocessingFactory, SchedulerFactory
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.likelihood import Likelihood
from adlightning.methods.parts.compressors import JPEG2000, Compressor
from adlightning.networks.density import LEVELS
from adlightning.networks.pixelcnn import PixelCNNPP


class SScore(Likelihood):
    """-log2 p less the length of the image losslessly compressed, both in bits per dimension.

    A simple image is likely whatever the model has learned; what a general compressor needs for it is taken off.

    Args:
        density: as in :class:`Likelihood`.
        compressor: `JPEG2000`, `PNG` or `FLIF`, all without loss: the shorter it makes normal images, the better. The
            paper has FLIF, whose program `flif` must be installed. A result's notes say which one it was.
        optimizer, lr_scheduler, lr_scheduler_interval: as in :class:`Likelihood`.
        preprocessing: as in :class:`Likelihood`; what it makes of an image is what is compressed.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: a compressor that is not there, or as :class:`Likelihood`.
    """

    scoring_arguments: ClassVar = ("compressor",)
    score_needs: str | None = "a lossless compressor, which runs on the host"

    def __init__(
        self,
        density: DensityFactory = PixelCNNPP,
        compressor: Compressor = JPEG2000(),
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, betas=(0.95, 0.9995)),
        lr_scheduler: SchedulerFactory | None = partial(ExponentialLR, gamma=0.999995),
        lr_scheduler_interval: Interval = "step",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(density, optimizer, lr_scheduler, lr_scheduler_interval, preprocessing, threshold)
        self.compressor = compressor

    def build(self, shape: tuple[int, ...]) -> None:
        """The density model, where the compressor is there."""
        self.compressor.require()
        super().build(shape)

    def remarks(self) -> list[str]:
        """Which compressor it was."""
        return [*super().remarks(), f"complexity by {self.compressor.version()}"]

    def complexity(self, x: Tensor) -> Tensor:
        """Bits per dimension (B,) of raw images, compressed as the density gets them."""
        images = (self.preprocess(x) * (LEVELS - 1)).round().byte()
        return self.compressor.bits(images).to(x.device) / math.prod(self.image_shape)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """-log2 p - L (B,), in bits per dimension."""
        return self.surprise(x) - self.complexity(x)
