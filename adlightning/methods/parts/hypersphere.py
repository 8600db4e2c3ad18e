"""What Deep SVDD and Deep SAD have: an encoder, a centre, and autoencoder pre-training before it is set.

Deep SAD, Section 3.1 and Appendix C; docs/methods/deep_sad.md, S1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.collapse import sphere_collapse
from adlightning.core.optimization import one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import DecoderFactory, EncoderFactory, OptimizerFactory, SchedulerFactory, Shape
from adlightning.core.rules import check_arguments, not_negative
from adlightning.core.scoring import evaluating
from adlightning.labels import KNOWN_ANOMALY, KNOWN_NORMAL
from adlightning.networks.encoders import WeightInit, build_decoder, build_encoder, representation_size
from adlightning.networks.initialisation import require_collapse_free, reset_parameters_, resets_of, start_weights_
from adlightning.networks.mlp import MLPEncoder
from adlightning.preprocessing import Output

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

CenterFrom = Literal["not_anomalies", "all", "known_normals"]
"""Whose mean representation sets the centre."""

TABLE_ENCODER = partial(MLPEncoder, dense=(256,), rep_dim=128)
"""What serves tables of one's own best (docs/defaults.md)."""

ReconstructionLoss = Literal["squared", "cross_entropy"]


def squared_distance(z: Tensor, center: Tensor) -> Tensor:
    """||z - c||^2 of representations (B, d), (B,), in float32: equations 3 and 4."""
    return (z.float() - center.float()).square().sum(dim=1)


def snap_center(mean: Tensor, minimum: float = 0.1) -> Tensor:
    """The centre from the mean representation (d,): coordinates nearer to zero than `minimum` move there by their sign.

    An exact zero stays zero, as in the released code: a coordinate near zero is too easily matched with zero weights.
    """
    return torch.where(mean.abs() < minimum, mean.sign() * minimum, mean)


def reconstruction_cross_entropy(x: Tensor, reconstructed: Tensor) -> Tensor:
    """Mean binary cross-entropy (B,) over the values of samples x (B, ...) in [0, 1], in float32."""
    return F.binary_cross_entropy(reconstructed.float(), x.float(), reduction="none").flatten(1).mean(dim=1)


@dataclass(frozen=True)
class AutoencoderPretraining:
    """The first phase of a fit: epochs 0 to `epochs` - 1 train an autoencoder on all training samples.

    Args:
        epochs: of the first phase; 0 leaves it out. `trainer.max_epochs` counts both phases.
        optimizer: of the first phase. Its weight decay is not stated in the paper, 0.5e-3 in the code's README.
        lr_scheduler: of the first phase; null for a constant learning rate.
        transfer: False starts the encoder anew after it, with the framework's own initialisation, as the released code
            does without meaning to.
        loss: of a reconstruction, `squared` error or `cross_entropy`, which needs preprocessed samples in [0, 1]; the
            paper allows both (Appendix C).
    """

    epochs: int = 150
    optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6)
    lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50])
    transfer: bool = True
    loss: ReconstructionLoss = "squared"

    def __post_init__(self) -> None:
        """Check the values."""
        given = {"pretraining.epochs": self.epochs, "pretraining.loss": self.loss}
        hints = {"pretraining.loss": ReconstructionLoss}
        check_arguments({"pretraining.epochs": not_negative}, hints, given)
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
    """An encoder phi of samples, a centre c, and a decoder to pre-train phi with.

    The encoder goes on as phi after pre-training: its weights and BatchNorm statistics are the very same (S1).

    Args:
        shape: of a preprocessed sample.
        output: the range of preprocessed samples.
        encoder: makes phi; one that could map everything to a point (biases, affine BatchNorm) is refused, and one with
            nothing to train.
        decoder: makes the decoder; None takes the encoder's mirror image.
        pretraining: the first phase; without epochs there is no decoder.
        weight_init: `glorot` or `framework`.
        learn_center: whether c is trained with the weights once it is set.

    Raises:
        ValueError: an encoder or decoder that does not fit, or cross-entropy of samples that are not in [0, 1].
    """

    center: Tensor
    center_is_set: Tensor
    sizes: Tensor

    def __init__(
        self,
        shape: Shape,
        output: Output,
        encoder: EncoderFactory | None,
        decoder: DecoderFactory | None,
        pretraining: AutoencoderPretraining,
        weight_init: WeightInit,
        learn_center: bool = False,
    ) -> None:
        super().__init__()
        self.pretraining = pretraining
        if pretraining.epochs and pretraining.loss == "cross_entropy" and output != "sigmoid":
            raise ValueError(
                "pretraining.loss must be squared where preprocessed samples are not in [0, 1], got cross_entropy: "
                "take it, or preprocessing=UnitRange for images and StandardizeMinMax for tables"
            )
        self.encoder = build_encoder(encoder, shape, of_tables=TABLE_ENCODER)
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
        origin = torch.zeros(representation_size(self.encoder, shape))
        if learn_center:
            self.center = nn.Parameter(origin)
            self.register_buffer("sizes", torch.full((2,), torch.nan))  # when the centre was set, and in the end
        else:
            self.register_buffer("center", origin)
        self.register_buffer("center_is_set", torch.tensor(False))

    def squared_distances(self, x: Tensor) -> Tensor:
        """Squared distances (B,) of preprocessed samples from the centre."""
        return squared_distance(self.encoder(x), self.center)

    def reconstruction_errors(self, x: Tensor) -> Tensor:
        """Reconstruction errors (B,) of preprocessed samples, by the loss of the first phase."""
        assert self.decoder is not None, "there is no first phase"
        reconstructed: Tensor = self.decoder(self.encoder(x))
        if self.pretraining.loss == "cross_entropy":
            return reconstruction_cross_entropy(x, reconstructed)
        errors: Tensor = (reconstructed.float() - x.float()).square().flatten(1).mean(dim=1)
        return errors

    def pretraining_loss(self, x: Tensor) -> Tensor:
        """Mean reconstruction error of preprocessed samples; of what does not train yet, 0."""
        loss = self.reconstruction_errors(x).mean()
        return loss + 0 * self.center.sum() if isinstance(self.center, nn.Parameter) else loss

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

    def begin(self, detector: AnomalyDetector, center_from: CenterFrom = "not_anomalies") -> None:
        """Set the centre on the pre-trained encoder and start the objective with an optimiser of its own.

        Args:
            detector: what this is a part of, in a fit.
            center_from: whose mean representation the centre is.
        """
        if not self.pretraining.transfer:
            detector.seed_epoch(-1)  # the same weights on every rank
            reset_parameters_(self.encoder)
            detector.seed_epoch(detector.trainer.global_rank)
        self.center.data.copy_(snap_center(self._moments(detector, center_from)[0]))
        if isinstance(self.center, nn.Parameter):
            self.sizes[0] = self._moments(detector, "not_anomalies")[1]
        self.center_is_set.fill_(True)
        detector.trainer.strategy.setup_optimizers(detector.trainer)  # moments of the first phase are forgotten

    def end(self, detector: AnomalyDetector) -> None:
        """After training with a centre that is trained as well, measure what became of the representations."""
        if isinstance(self.center, nn.Parameter) and bool(self.center_is_set):
            self.sizes[1] = self._moments(detector, "not_anomalies")[1]

    def remarks(self) -> list[str]:
        """Whether representations and a centre that was trained collapsed to a point."""
        if not isinstance(self.center, nn.Parameter):
            return []
        words = sphere_collapse(*self.sizes.tolist())
        return [] if words is None else [words]

    def _moments(self, detector: AnomalyDetector, center_from: CenterFrom) -> tuple[Tensor, Tensor]:
        """Means of phi (d,) and of ||phi||^2 over the training data, in eval mode."""
        total = torch.zeros(len(self.center), dtype=torch.float64)  # on the host: not every device has float64
        squares = torch.zeros((), dtype=torch.float64)
        n = 0
        with evaluating(detector), detector.trainer.precision_plugin.forward_context():
            for batch in detector.training_data():
                x = batch.x[_counted(batch.known, center_from)]
                if len(x):
                    z = self.encoder(detector.preprocess(x)).float().cpu().double()
                    total += z.sum(dim=0)
                    squares += z.square().sum()
                    n += len(x)
        return (total / n).float(), squares / n


def _counted(known: Tensor, center_from: CenterFrom) -> Tensor:
    """Which samples (B,) count in the mean."""
    if center_from == "known_normals":
        return known == KNOWN_NORMAL
    return known != KNOWN_ANOMALY if center_from == "not_anomalies" else torch.ones_like(known, dtype=torch.bool)
