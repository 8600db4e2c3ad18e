"""DROCC-Rand: DROCC without its search (Goyal et al. 2020, Appendix D.2; docs/methods/drocc_rand.md)."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.optimization import Interval
from adlightning.core.parts import EncoderFactory, OptimizerFactory, PreprocessingFactory, SchedulerFactory
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.drocc import DROCC, Noise, Radius, Selection
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.neighborhood import Neighborhood
from adlightning.networks.encoders import WeightInit


class DROCCRand(DROCC):
    """DROCC without ascent: negatives are drawn at random in the shell around each normal sample.

    Args:
        encoder, head, radius, gamma, mu, neighborhood, noise, joint_batches: as in :class:`DROCC`.
        warm_up_epochs, selection: as in :class:`DROCC`.
        weight_init, optimizer, lr_scheduler, lr_scheduler_interval: as in :class:`DROCC`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: as :class:`DROCC`.
    """

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        head: Head = Head(activation="leaky_relu", leakiness=0),
        radius: Radius | None = "neighbors",
        gamma: float = 2.0,
        mu: float = 1.0,
        neighborhood: Neighborhood = Neighborhood(),
        noise: Noise = "normal",
        joint_batches: bool = False,
        warm_up_epochs: int = 0,
        selection: Selection = "none",
        weight_init: WeightInit = "framework",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(
            encoder,
            head,
            radius,
            gamma,
            mu,
            neighborhood=neighborhood,
            noise=noise,
            joint_batches=joint_batches,
            warm_up_epochs=warm_up_epochs,
            selection=selection,
            weight_init=weight_init,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
            preprocessing=preprocessing,
            threshold=threshold,
        )

    def offsets(self, x: Tensor) -> Tensor:
        """Noise, projected."""
        return self.projection(x)(self.noise_like(x))
