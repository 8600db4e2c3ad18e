"""What Deep SVDD and Deep SAD share: autoencoder pre-training as the first phase of the fit, the centre, the distance.

Deep SAD, Section 3.1 and Appendix C; docs/methods.md, S1.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from adlightning.core.contracts import KNOWN_ANOMALY, TrainBatch
from adlightning.core.scoring import evaluating
from adlightning.methods.autoencoder import ReconstructingDetector
from adlightning.methods.parts.optimization import TwoPhaseDetector
from adlightning.networks.initialisation import require_collapse_free, reset_parameters_


def squared_distance(z: Tensor, center: Tensor) -> Tensor:
    """||z - c||^2 of representations (B, d), (B,), in float32: equations 3 and 4."""
    return (z.float() - center.float()).square().sum(dim=1)


def snap_center(mean: Tensor, minimum: float = 0.1) -> Tensor:
    """The centre from the mean representation (d,): coordinates nearer to zero than `minimum` move there by their sign.

    An exact zero stays zero, as in the released code: a coordinate near zero is too easily matched with zero weights.
    """
    return torch.where(mean.abs() < minimum, mean.sign() * minimum, mean)


class HypersphereDetector(TwoPhaseDetector, ReconstructingDetector):
    """An encoder phi that maps normal samples near a fixed centre c; the score grows with the distance from it.

    A fit has two phases. Epochs 0 to `pretrain_epochs` - 1 train an autoencoder on all training samples; then the
    encoder goes on as phi (its weights and BatchNorm statistics are the very same; docs/methods.md, S1), the centre is
    set, and the objective is trained until `trainer.max_epochs`, which counts both phases.

    Args:
        pretrain_transfer: False starts phi anew after the first phase, with the framework's own initialisation, as the
            released code does without meaning to.
        center_include_labelled: count known anomalies in the mean that sets the centre: no in the paper, yes in the
            released code.
        common: phases, as in :class:`TwoPhaseDetector`; networks, optimisation, preprocessing and threshold, as in
            :class:`EncoderDetector`.

    Raises:
        ValueError: an argument outside its range, or a `trainer.max_epochs` that ends within the first phase.
    """

    center: Tensor
    center_is_set: Tensor

    def __init__(
        self,
        pretrain_transfer: bool = True,
        center_include_labelled: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.pretrain_transfer = pretrain_transfer
        self.center_include_labelled = center_include_labelled

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder, decoder and centre; an encoder that could collapse (biases, affine BatchNorm) is refused."""
        super().build(shape)
        require_collapse_free(self.encoder)
        self.register_buffer("center", torch.zeros(self.rep_dim))
        self.register_buffer("center_is_set", torch.tensor(False))

    def build_head(self, shape: tuple[int, ...]) -> None:
        """The decoder, where there is a first phase to train it."""
        if self.pretrain_epochs:
            super().build_head(shape)

    # ---- the two phases -------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Set the phase's weight decay; at the start of the second phase begin the objective."""
        super().on_train_epoch_start()
        optimizer = self.trainer.optimizers[0]
        for group in optimizer.param_groups:
            group["weight_decay"] = self.pretrain_weight_decay if self.pretraining else self.weight_decay
        if not self.pretraining and not self.center_is_set:
            self.begin_objective()

    def begin_objective(self) -> None:
        """Set the centre on the pre-trained encoder and start the optimiser anew."""
        if not self.pretrain_transfer:
            self.seed_epoch(-1)  # the same weights on every rank
            reset_parameters_(self.encoder)
            self.seed_epoch(self.trainer.global_rank)
        self.trainer.optimizers[0].state.clear()  # a new optimiser: moments of the first phase are forgotten
        self.center.copy_(snap_center(self.mean_representation()))
        self.center_is_set.fill_(True)

    def mean_representation(self) -> Tensor:
        """Mean of phi (d,) over the training data, in eval mode, without known anomalies unless asked for."""
        total = torch.zeros(self.rep_dim, dtype=torch.float64)  # on the host: not every device has float64
        n = 0
        with evaluating(self), self.trainer.precision_plugin.forward_context():
            for batch in self.training_data():
                x = batch.x if self.center_include_labelled else batch.x[batch.known != KNOWN_ANOMALY]
                total += self.encoder(self.preprocess(x)).float().cpu().double().sum(dim=0)
                n += len(x)
        return (total / n).float()

    # ---- loss and score -------------------------------------------------------------------------------------------

    @abstractmethod
    def objective(self, squared_distances: Tensor, known: Tensor) -> Tensor:
        """The method's loss from squared distances (B,) and what is known of the samples (B,)."""

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Reconstruction error in the first phase, the method's objective in the second."""
        if self.pretraining:
            return self.log_loss(self.reconstruction_errors(batch.x).mean(), batch)
        loss = self.log_loss(self.objective(self.squared_distances(batch.x), batch.known), batch)
        if (
            self.trainer.world_size > 1 and self.pretrain_epochs
        ):  # DistributedDataParallel wants every parameter in every graph
            loss = loss + 0 * sum(weight.sum() for weight in self.decoder.parameters())
        return loss

    def squared_distances(self, x: Tensor) -> Tensor:
        """Squared distances (B,) of raw input from the centre."""
        return squared_distance(self.encoder(self.preprocess(x)), self.center)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Squared distance (B,) from the centre; the same ranking as the paper's distance (equation 4)."""
        return self.squared_distances(x)

    def ready_to_score(self) -> bool:
        """Only once the centre is set."""
        return bool(self.center_is_set)

    def collapse_floor(self) -> float:
        """Distances that differ by less than float32 resolves at the centre's size are all the same."""
        return 1e-9 * float(self.center.square().sum())
