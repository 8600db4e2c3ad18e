"""What Deep SVDD and Deep SAD have: an encoder, a fixed centre, and autoencoder pre-training before it is set.

Deep SAD, Section 3.1 and Appendix C; docs/methods/deep_sad.md, S1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.optimization import one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import DecoderFactory, EncoderFactory, OptimizerFactory, SchedulerFactory, Shape
from adlightning.core.rules import check_arguments, not_negative
from adlightning.core.scoring import evaluating
from adlightning.labels import KNOWN_ANOMALY
from adlightning.networks.encoders import WeightInit, build_decoder, build_encoder, representation_size
from adlightning.networks.initialisation import require_collapse_free, reset_parameters_, resets_of, start_weights_
from adlightning.preprocessing import Output

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector


def squared_distance(z: Tensor, center: Tensor) -> Tensor:
    """||z - c||^2 of representations (B, d), (B,), in float32: equations 3 and 4."""
    return (z.float() - center.float()).square().sum(dim=1)


def snap_center(mean: Tensor, minimum: float = 0.1) -> Tensor:
    """The centre from the mean representation (d,): coordinates nearer to zero than `minimum` move there by their sign.

    An exact zero stays zero, as in the released code: a coordinate near zero is too easily matched with zero weights.
    """
    return torch.where(mean.abs() < minimum, mean.sign() * minimum, mean)


@dataclass(frozen=True)
class AutoencoderPretraining:
    """The first phase of a fit: epochs 0 to `epochs` - 1 train an autoencoder on all training samples.

    Args:
        epochs: of the first phase; 0 leaves it out. `trainer.max_epochs` counts both phases.
        optimizer: of the first phase. Its weight decay is not stated in the paper, 0.5e-3 in the code's README.
        lr_scheduler: of the first phase; null for a constant learning rate.
        transfer: False starts the encoder anew after it, with the framework's own initialisation, as the released code
            does without meaning to.
    """

    epochs: int = 150
    optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6)
    lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50])
    transfer: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        check_arguments({"pretraining.epochs": not_negative}, {}, {"pretraining.epochs": self.epochs})
        object.__setattr__(self, "optimizer", optimizer_part("pretraining.optimizer", self.optimizer))
        object.__setattr__(self, "lr_scheduler", scheduler_part("pretraining.lr_scheduler", self.lr_scheduler))

    def configured(self, parameters: Any) -> dict[str, Any]:
        """What `configure_optimizers` returns in the first phase."""
        return one_optimizer(
            parameters,
            optimizer_part("pretraining.optimizer", self.optimizer),
            scheduler_part("pretraining.lr_scheduler", self.lr_scheduler),
            place="pretraining.",
        )


class Hypersphere(nn.Module):
    """An encoder phi of samples, a fixed centre c, and a decoder to pre-train phi with.

    The encoder goes on as phi after pre-training: its weights and BatchNorm statistics are the very same (S1).

    Args:
        shape: of a preprocessed sample.
        output: the range of preprocessed samples.
        encoder: makes phi; one that could map everything to a point (biases, affine BatchNorm) is refused, and one with
            nothing to train.
        decoder: makes the decoder; None takes the encoder's mirror image.
        pretraining: the first phase; without epochs there is no decoder.
        weight_init: `glorot` or `framework`.

    Raises:
        ValueError: an encoder or decoder that does not fit.
    """

    center: Tensor
    center_is_set: Tensor

    def __init__(
        self,
        shape: Shape,
        output: Output,
        encoder: EncoderFactory | None,
        decoder: DecoderFactory | None,
        pretraining: AutoencoderPretraining,
        weight_init: WeightInit,
    ) -> None:
        super().__init__()
        self.pretraining = pretraining
        self.encoder = build_encoder(encoder, shape)
        self.decoder = build_decoder(decoder, self.encoder, shape, output) if pretraining.epochs else None
        start_weights_(self, weight_init)
        require_collapse_free(self.encoder)
        if not any(weight.requires_grad for weight in self.encoder.parameters()):
            raise ValueError(
                f"encoder must have weights to train, the objective trains nothing else; those of "
                f"{type(self.encoder).__name__} are frozen"
            )
        if pretraining.epochs and not pretraining.transfer:
            resets_of(self.encoder)  # or a message, before the first phase is over
        self.register_buffer("center", torch.zeros(representation_size(self.encoder, shape)))
        self.register_buffer("center_is_set", torch.tensor(False))

    def squared_distances(self, x: Tensor) -> Tensor:
        """Squared distances (B,) of preprocessed samples from the centre."""
        return squared_distance(self.encoder(x), self.center)

    def reconstruction_errors(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction errors (B,) of preprocessed samples."""
        assert self.decoder is not None, "there is no first phase"
        errors: Tensor = (self.decoder(self.encoder(x)).float() - x.float()).square().flatten(1).mean(dim=1)
        return errors

    def idle_weights(self) -> Tensor:
        """0, from the weights that only pre-training moves: DistributedDataParallel wants every one in every graph."""
        weights = [] if self.decoder is None else list(self.decoder.parameters())
        return torch.stack([0 * weight.sum() for weight in weights]).sum() if weights else self.center.new_zeros(())

    def pretrains(self, epoch: int) -> bool:
        """Whether an epoch belongs to the first phase."""
        return epoch < self.pretraining.epochs

    def is_to_be_set(self, epoch: int) -> bool:
        """Whether the objective begins with this epoch."""
        return not self.pretrains(epoch) and not self.center_is_set

    def begin(self, detector: AnomalyDetector, include_labelled: bool) -> None:
        """Set the centre on the pre-trained encoder and start the objective with an optimiser of its own.

        Args:
            detector: what this is a part of, in a fit.
            include_labelled: whether known anomalies count in the mean that sets the centre.
        """
        if not self.pretraining.transfer:
            detector.seed_epoch(-1)  # the same weights on every rank
            reset_parameters_(self.encoder)
            detector.seed_epoch(detector.trainer.global_rank)
        self.center.copy_(snap_center(self._mean_representation(detector, include_labelled)))
        self.center_is_set.fill_(True)
        detector.trainer.strategy.setup_optimizers(detector.trainer)  # moments of the first phase are forgotten

    def _mean_representation(self, detector: AnomalyDetector, include_labelled: bool) -> Tensor:
        """Mean of phi (d,) over the training data, in eval mode."""
        total = torch.zeros(len(self.center), dtype=torch.float64)  # on the host: not every device has float64
        n = 0
        with evaluating(detector), detector.trainer.precision_plugin.forward_context():
            for batch in detector.training_data():
                x = batch.x if include_labelled else batch.x[batch.known != KNOWN_ANOMALY]
                total += self.encoder(detector.preprocess(x)).float().cpu().double().sum(dim=0)
                n += len(x)
        return (total / n).float()
