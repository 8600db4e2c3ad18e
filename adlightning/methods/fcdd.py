"""FCDD: explainable deep one-class classification (Liznerski et al., ICLR 2021)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import InputSpec, MaskedBatch, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.maps import Reduction, enlarged
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    network_part,
)
from adlightning.core.rules import or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods.parts.radial import far_loss, pseudo_huber, radial_losses
from adlightning.networks.fully_convolutional import (
    FullyConvolutional,
    GaussianUpsampling,
    output_size,
    receptive_field,
)


def fcdd_loss(maps: Tensor, known: Tensor) -> Tensor:
    """Equation 3: with a the mean of a sample's map, the mean of a for normals and -log(1 - exp(-a)) for anomalies.

    Args:
        maps: (B, h, w) of A = sqrt(phi^2 + 1) - 1.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
    """
    return radial_losses(maps.flatten(1).mean(dim=1), known).mean()


def pixelwise_loss(maps: Tensor, mask: Tensor, known: Tensor) -> Tensor:
    """Equation 4: pixels outside masks are drawn to 0, and the mean of what masks hold is pushed away from it.

    A known anomaly without a mask counts as in :func:`fcdd_loss`.

    Args:
        maps: (B, H, W), at the size of images.
        mask: (B, H, W), bool, where known anomalies are anomalous.
        known: (B,), as in :func:`fcdd_loss`.
    """
    maps, mask = maps.flatten(1), mask.flatten(1)
    outside, inside = (torch.where(kept, maps, 0).mean(dim=1) for kept in (~mask, mask))
    masked = mask.any(dim=1)
    losses = torch.where(masked, outside + far_loss(torch.where(masked, inside, 1.0)), outside)
    blind = (known == KNOWN_ANOMALY) & ~masked
    return torch.where(blind, far_loss(outside), losses).mean()


class FCDD(AnomalyDetector):
    """FCDD: a network without dense layers, whose map is near 0 on normal images and large where one is anomalous.

    It learns from known anomalies: images of `data.synthetic_anomalies`, other data (outlier exposure), or labelled
    ones. Without any the least loss is that of a network that maps everything to 0; a result's notes say so.

    Args:
        network: a class made for the shape of a preprocessed image, from images (B, C, H, W) to maps (B, 1, h, w), of
            convolutions and poolings one after the other; None takes `FullyConvolutional`.
        pixelwise: learn pixel by pixel where masks say where an anomaly is one, as those of `data.synthetic_anomalies`
            do (Equation 4); false learns from whole images alone.
        sigma: deviation in pixels of the Gaussian by which a map is enlarged; null goes by the network's receptive
            field, as the released code does.
        reduction: how a map becomes the score; null for the mean before it is enlarged, the paper's.
        optimizer: of the network.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, a network that gives no such maps, or data that are no images.
    """

    scoring_arguments: ClassVar = ("reduction",)
    had_anomalies: Tensor
    argument_rules: ClassVar = {"sigma": or_none(positive, "that of the receptive field")}

    def __init__(
        self,
        network: EncoderFactory | None = None,
        pixelwise: bool = True,
        sigma: float | None = None,
        reduction: Reduction | None = None,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_network = network_part("network", FullyConvolutional if network is None else network)
        self.pixelwise = pixelwise
        self.sigma = sigma
        self.reduction = reduction
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def configure_for(self, spec: InputSpec) -> None:
        """Refuse what is no image."""
        if spec.kind != "image":
            raise ValueError(f"FCDD takes images (C, H, W), of which it makes maps; the data are {spec}")
        super().configure_for(spec)

    def build(self, shape: tuple[int, ...]) -> None:
        """The network, and what enlarges its maps."""
        self.network = self.make_network(shape)
        given, field = output_size(self.network, shape), receptive_field(self.network)
        if len(given) != 3 or given[0] != 1:
            raise ValueError(f"network must give maps (B, 1, h, w), got (B, {', '.join(map(str, given))})")
        if any(abs(got - side / field.stride) > 2 for side, got in zip(shape[1:], given[1:], strict=True)):
            raise ValueError(
                f"network must be convolutions and poolings one after the other: theirs lie {field.stride} pixels "
                f"apart, which does not make maps {given[1:]} of images {shape[1:]}"
            )
        self.upsampling = GaussianUpsampling((shape[1], shape[2]), (given[1], given[2]), field, self.sigma)
        self.register_buffer("had_anomalies", torch.tensor(True))

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def on_fit_start(self) -> None:
        """Note whether there is an anomaly to learn from."""
        super().on_fit_start()
        made = self.data.synthetic_anomalies is not None
        self.had_anomalies.fill_(made or bool((self.data.training_rows()[1] == KNOWN_ANOMALY).any()))

    def remarks(self) -> list[str]:
        """Whether there was an anomaly to learn from."""
        alone = [] if self.had_anomalies else ["no known anomaly: maps may shrink to 0 (docs/methods/fcdd.md)"]
        return [*super().remarks(), *alone]

    def maps(self, x: Tensor) -> Tensor:
        """A (B, 1, h, w) of preprocessed images: sqrt(phi^2 + 1) - 1 at each position."""
        return pseudo_huber(self.network(x).float().square())

    def training_step(self, batch: TrainBatch | MaskedBatch, batch_idx: int) -> Tensor:
        """Equation 4 where there are masks, else Equation 3."""
        maps = self.maps(self.preprocess(batch.x))
        if self.pixelwise and isinstance(batch, MaskedBatch):
            return pixelwise_loss(self.upsampling(maps), batch.mask, batch.known)
        return fcdd_loss(maps[:, 0], batch.known)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The mean of the map (B,), or what the reduction makes of the enlarged one."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        return self.maps(self.preprocess(x)).flatten(1).mean(dim=1)

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The enlarged map (B, H, W), at the size of raw images."""
        maps: Tensor = self.upsampling(self.maps(self.preprocess(x)))
        if pad := getattr(self.preprocess, "pad", 0):
            maps = maps[:, pad:-pad, pad:-pad]
        return enlarged(maps, (x.shape[2], x.shape[3]))
