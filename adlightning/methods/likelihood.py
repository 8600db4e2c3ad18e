"""The likelihood of a density model of images, on which several detectors of AMA's Table 1 stand.

docs/methods/likelihood.md. As a score it is that of Nalisnick et al. ("Do Deep Generative Models Know What They Don't
Know?", ICLR 2019), who show where it fails.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

from adlightning.core.contracts import EvalBatch, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import DensityFactory, OptimizerFactory, PreprocessingFactory, SchedulerFactory, as_part
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import ANOMALY
from adlightning.methods.parts.densities import drawn, require_unit_range
from adlightning.networks.density import bits_per_dimension, build_density
from adlightning.networks.pixelcnn import PixelCNNPP

BITS = "val/bits_per_dimension"


class Likelihood(AnomalyDetector):
    """A density model of normal images; an image is as anomalous as it is unlikely: -log2 p in bits per dimension.

    Unsupervised: known anomalies are left out of training. The loss is the score, over a batch. Each epoch logs
    `train/bits_per_dimension` and, over held-out normals, `val/bits_per_dimension`, by which `--monitor` may select.

    Args:
        density: a class made for the shape of the images whose modules give natural log-probabilities (B,) of images
            (B, C, H, W) in [0, 1]: `PixelCNNPP`, or one's own. One with `sample` has its samples drawn after a test.
        optimizer: of the density; betas and learning rate are those of the code of Ren et al. (2019).
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: `UnitRange`, with `resize` or `pad` where wanted; None takes it as well. Probabilities are those
            of images of 256 values.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, samples that are no images, or another preprocessing.
    """

    uses_known_anomalies = False
    held_out_metrics: ClassVar = {BITS: "min"}

    density: nn.Module
    image_shape: tuple[int, ...]

    def __init__(
        self,
        density: DensityFactory = PixelCNNPP,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, betas=(0.95, 0.9995)),
        lr_scheduler: SchedulerFactory | None = partial(ExponentialLR, gamma=0.999995),
        lr_scheduler_interval: Interval = "step",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_density = as_part("density", density, nn.Module)
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """The density model of images of this shape."""
        self.image_shape = shape
        self.density = build_density(self.make_density, shape)
        require_unit_range(self.preprocess)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def bits(self, log_probabilities: Tensor) -> Tensor:
        """Bits per dimension (B,) of natural log-probabilities (B,)."""
        return bits_per_dimension(log_probabilities.float(), self.image_shape)

    def surprise(self, x: Tensor) -> Tensor:
        """-log2 p (B,) of raw images, in bits per dimension."""
        return self.bits(self.density(self.preprocess(x)))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """Mean of -log2 p over the batch, in bits per dimension."""
        loss = self.surprise(batch.x).mean()
        return {"loss": loss, "bits_per_dimension": loss}

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Collect scores; log bits per dimension of held-out normals."""
        super().validation_step(batch, batch_idx)
        normals = batch.x[batch.label != ANOMALY]
        if len(normals):
            mean = self.surprise(normals).mean()
            self.log(BITS, mean, on_epoch=True, batch_size=len(normals), sync_dist=True)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """-log2 p (B,), in bits per dimension."""
        return self.surprise(x)

    def generated(self, n: int) -> Tensor:
        """Images (n, C, H, W) in [0, 1], the same ones every time.

        Ten at most of a model that takes long to draw them, and none of one that cannot.
        """
        return drawn(self.density, n, self.image_shape, self.device)
