"""DCN, the deep clustering network: reconstruction and k-means of the codes, trained together (Yang et al., ICML 2017).

docs/methods/dcn.md says how it came to be an anomaly detector, and what DROCC's table calls DCN.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from adlightning.core.collapse import check_weights
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DecoderFactory,
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    decoder_part,
    encoder_part,
)
from adlightning.core.rules import at_least, not_negative
from adlightning.core.scoring import evaluating
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.clusters import kmeans_centers, nearest_center, require_samples_for
from adlightning.networks.dagmm import DAGMMEncoder
from adlightning.networks.encoders import WeightInit, build_decoder, build_encoder, representation_size
from adlightning.networks.initialisation import start_weights_

KMEANS_STARTS = 10


TABLE_ENCODER = partial(DAGMMEncoder, dense=(32, 16), rep_dim=4)
"""What serves tables of one's own best (docs/defaults.md)."""


def dcn_loss(x: Tensor, reconstruction: Tensor, squared_distances: Tensor, clustering_weight: float) -> Tensor:
    """Mean over samples of ||x - x'||^2 + lambda / 2 ||z - m||^2, in float32.

    Args:
        x: samples (B, ...).
        reconstruction: of them, (B, ...).
        squared_distances: of their codes from the nearest centre, (B,).
        clustering_weight: lambda.
    """
    errors = (reconstruction.float() - x.float()).square().flatten(1).sum(dim=1)
    return (errors + clustering_weight / 2 * squared_distances).mean()


def moved_centers(centers: Tensor, counts: Tensor, sums: Tensor, n: Tensor) -> Tensor:
    """Centres (K, d) after each has taken its codes, one after the other: m - (1 / c) (m - z), where c counts them.

    Args:
        centers: before, (K, d).
        counts: codes that each centre had taken, (K,), positive.
        sums: of the codes that it takes now, (K, d).
        n: how many those are, (K,).
    """
    return (counts[:, None] * centers + sums) / (counts + n)[:, None]


class DCN(AnomalyDetector):
    """DCN, unsupervised: an autoencoder whose codes are drawn to the centres of k-means; far from all is anomalous.

    Epochs 0 to `pretrain_epochs` - 1 train the autoencoder on the reconstruction error alone. Then k-means of the codes
    sets the centres. From there on each step lowers the error plus `clustering_weight` / 2 times the squared distance
    of a code from its nearest centre; after it every centre moves towards the codes that it was nearest to, by one over
    the number of codes that it has taken so far. The score is the distance from the nearest centre, which is how Zong
    et al. (ICLR 2018) use DCN.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d). None takes LeNet for images, an
            MLP for tables, an LSTM for series.
        decoder: a class made for (d, shape, output); None takes the encoder's mirror image.
        n_clusters: number of centres, K; no paper says it for anomaly detection.
        clustering_weight: lambda: 0.05 is the paper's for raw MNIST; no paper says it for anomaly detection.
        pretrain_epochs: of the first phase; `trainer.max_epochs` counts both phases.
        initial_count: codes that a centre counts as having taken at first: the larger, the slower centres move.
        weight_init: of our own networks, `glorot` (uniform) or `framework`.
        optimizer: of encoder and decoder, in both phases.
        lr_scheduler: its schedule, over both phases; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, more clusters than training samples, or a `trainer.max_epochs` that
            ends within the first phase.
    """

    uses_known_anomalies = False
    first_phase_argument = "pretrain_epochs"
    argument_rules: ClassVar = {
        "n_clusters": at_least(1),
        "clustering_weight": not_negative,
        "pretrain_epochs": not_negative,
        "initial_count": at_least(1),
    }
    centers: Tensor
    counts: Tensor

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        n_clusters: int = 2,
        clustering_weight: float = 0.05,
        pretrain_epochs: int = 25,
        initial_count: int = 100,
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.n_clusters = n_clusters
        self.clustering_weight = clustering_weight
        self.pretrain_epochs = pretrain_epochs
        self.initial_count = initial_count
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self._taken: tuple[Tensor, Tensor] | None = None  # sums of codes and their number, of a step

    # ---- construction ---------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse more clusters than there are samples."""
        super().setup(stage)
        if stage == "fit":
            require_samples_for(self, self.n_clusters)

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder, decoder, and room for the centres."""
        self.encoder = build_encoder(self.make_encoder, shape, of_tables=TABLE_ENCODER)
        self.decoder = build_decoder(self.make_decoder, self.encoder, shape, self.preprocess.output)
        start_weights_(self, self.weight_init)
        self.register_buffer(
            "centers", torch.full((self.n_clusters, representation_size(self.encoder, shape)), math.nan)
        )
        self.register_buffer("counts", torch.full((self.n_clusters,), float(self.initial_count)))

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    # ---- training -------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """At the start of the second phase, set the centres."""
        super().on_train_epoch_start()
        if self.current_epoch >= self.pretrain_epochs and not self.ready_to_score():
            self.set_centers()

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """The reconstruction error in the first phase, the joint loss in the second."""
        x = self.preprocess(batch.x)
        code = self.encoder(x)
        if self.current_epoch < self.pretrain_epochs:
            return dcn_loss(x, self.decoder(code), code.new_zeros(len(code), dtype=torch.float32), 0.0)
        squared_distances, which = nearest_center(code, self.centers)
        chosen = F.one_hot(which, self.n_clusters).float()
        self._taken = chosen.T @ code.detach().float(), chosen.sum(dim=0)
        return dcn_loss(x, self.decoder(code), squared_distances, self.clustering_weight)

    def on_train_batch_end(self, outputs: Any, batch: TrainBatch, batch_idx: int) -> None:
        """Move the centres, by the codes of all ranks."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self._taken is None:
            return
        sums, n = (self.trainer.strategy.reduce(part, reduce_op="sum") for part in self._taken)
        assert isinstance(sums, Tensor)
        assert isinstance(n, Tensor)
        self.centers.copy_(moved_centers(self.centers, self.counts, sums, n))
        self.counts.add_(n)
        self._taken = None

    # ---- centres --------------------------------------------------------------------------------------------------

    def set_centers(self) -> None:
        """Centres by k-means of all training samples' codes, with the weights as they are; the same on every rank."""
        check_weights(self.parameters(), self.current_epoch, self.likely_cause())
        with evaluating(self), self.trainer.precision_plugin.forward_context():
            codes = torch.cat([self.encoder(self.preprocess(x)).float().cpu() for x in self.normal_data()])
        centers = kmeans_centers(codes, self.n_clusters, self.data.effective_seed(), KMEANS_STARTS)
        self.centers.copy_(self.trainer.strategy.broadcast(centers))
        self.counts.fill_(self.initial_count)

    def fit_to_weights(self) -> None:
        """Centres of averaged weights: those that moved with others are none of theirs."""
        self.set_centers()

    # ---- scores ---------------------------------------------------------------------------------------------------

    def ready_to_score(self) -> bool:
        """Only once the centres are set."""
        return bool(self.centers.isfinite().all())

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Distance (B,) of a sample's code from the nearest centre."""
        squared_distances, _ = nearest_center(self.encoder(self.preprocess(x)), self.centers)
        return squared_distances.sqrt()
