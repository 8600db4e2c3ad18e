"""Typicality (Nalisnick et al., arXiv:1906.02994): a test of whether an image is as likely as images are on average.

docs/methods/likelihood.md.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

from adlightning.core.optimization import Interval
from adlightning.core.parts import DensityFactory, OptimizerFactory, PreprocessingFactory, SchedulerFactory
from adlightning.core.rules import at_least
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.likelihood import Likelihood
from adlightning.networks.pixelcnn import PixelCNNPP


def typicality(surprise: Tensor, entropy: Tensor) -> Tensor:
    """|mean of -log p - entropy| (B,), from the means (B,): the paper's epsilon."""
    return (surprise - entropy).abs()


class Typicality(Likelihood):
    """How far the -log p of a sample is from what it is for training images on average: too likely is odd as well.

    After the last step the entropy is estimated by the mean of -log2 p, in bits per dimension, over the training
    images. A sample is one image, or `batch_of` images of one kind, of which the mean counts; the data stack them
    (:class:`OutOfDistribution`), so that a score depends on its sample alone.

    Args:
        density: as in :class:`Likelihood`.
        batch_of: images of a sample, one above the other; must be the data's `batch_of`. AMA's Table 1 has 2.
        optimizer, lr_scheduler, lr_scheduler_interval: as in :class:`Likelihood`.
        preprocessing: as in :class:`Likelihood`, for a whole sample: several images are neither resized nor padded.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, data whose samples are of another number of images, or as
            :class:`Likelihood`.
    """

    fits_at_end = True
    held_out_metrics: ClassVar = {}  # an epoch before the last has no entropy to score with
    argument_rules: ClassVar = {"batch_of": at_least(1)}

    entropy: Tensor

    def __init__(
        self,
        density: DensityFactory = PixelCNNPP,
        batch_of: int = 1,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, betas=(0.95, 0.9995)),
        lr_scheduler: SchedulerFactory | None = partial(ExponentialLR, gamma=0.999995),
        lr_scheduler_interval: Interval = "step",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(density, optimizer, lr_scheduler, lr_scheduler_interval, preprocessing, threshold)
        self.batch_of = batch_of
        self.register_buffer("entropy", torch.tensor(math.nan))

    def build(self, shape: tuple[int, ...]) -> None:
        """The density model of one image."""
        if self.batch_of == 1:
            super().build(shape)
            return
        if len(shape) != 3 or shape[1] % self.batch_of or self.preprocess.output_shape() != self.preprocess.shape:
            raise ValueError(
                f"batch_of={self.batch_of} needs samples of as many images one above the other (data.batch_of), not "
                f"resized or padded, the data have samples of shape {shape}"
            )
        super().build((shape[0], shape[1] // self.batch_of, shape[2]))

    def setup(self, stage: str) -> None:
        """Refuse data whose samples are of another number of images."""
        super().setup(stage)
        given = getattr(self.data, "batch_of", 1)
        if given != self.batch_of:
            raise ValueError(f"model.batch_of and data.batch_of must be the same, got {self.batch_of} and {given}")

    def surprise(self, x: Tensor) -> Tensor:
        """Mean of -log2 p (B,) over the images of each raw sample, in bits per dimension."""
        images = self.preprocess(x).unflatten(2, (self.batch_of, -1)).transpose(1, 2).flatten(0, 1)
        by_image: Tensor = self.bits(self.density(images)).unflatten(0, (-1, self.batch_of))
        return by_image.mean(dim=1)

    def fit_on_training_data(self) -> None:
        """The entropy: the mean of -log2 p over the training samples that are not known anomalies."""
        with self.trainer.precision_plugin.forward_context():
            values = torch.cat([self.surprise(x).cpu() for x in self.normal_data()])
        self.entropy.fill_(values.double().mean())

    def forget_fit(self) -> None:
        """The entropy belongs to earlier weights."""
        self.entropy.fill_(math.nan)

    def ready_to_score(self) -> bool:
        """Only once the entropy is that of the weights."""
        return bool(self.entropy.isfinite())

    def anomaly_score(self, x: Tensor) -> Tensor:
        """|mean of -log2 p - entropy| (B,), in bits per dimension."""
        return typicality(self.surprise(x), self.entropy)
