"""DeepCluster: a network learns to name its own clusters, found anew each epoch (Caron et al., ECCV 2018).

docs/methods/dcn.md says how it came to be an anomaly detector, and what DROCC's table calls DCN.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from adlightning.core.collapse import check_weights
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    encoder_part,
)
from adlightning.core.rules import at_least
from adlightning.core.scoring import evaluating
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods.parts.clusters import kmeans_centers, nearest_center, require_samples_for
from adlightning.networks.encoders import WeightInit, build_encoder, representation_size
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.mlp import MLPEncoder

Space = Literal["whitened", "normalised"]

TOP_LAYER_SPREAD = 0.01  # standard deviation of its weights at the start of an epoch
LEAST_VARIANCE = 1e-6  # of a direction, as a share of the largest: below it whitening would blow up rounding


TABLE_ENCODER = partial(MLPEncoder, dense=(128,), leakiness=0, bias=True)
"""What serves tables of one's own best (docs/defaults.md)."""


def pca_whitening(features: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Mean (d,) and projection (dim, d) on the first principal directions, each divided by its standard deviation.

    A direction in which features (N, d) hardly vary has a row of zeros.
    """
    mean = features.mean(dim=0)
    centred = features - mean
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(features))
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    there = variances > LEAST_VARIANCE * variances[0].clamp_min(torch.finfo(variances.dtype).tiny)
    return mean, torch.where(there, variances, math.inf).rsqrt()[:, None] * directions.T


def pseudo_label_loss(logits: Tensor, pseudo_labels: Tensor, sizes: Tensor) -> Tensor:
    """Mean cross-entropy of clusters' names, each sample by the inverse of its cluster's size (Section 3.4).

    Weights are N / (K n_k), which is 1 for clusters of equal size.

    Args:
        logits: (B, K).
        pseudo_labels: which cluster each sample is in, (B,).
        sizes: of the clusters, (K,), which sum to N.
    """
    weights = sizes.sum() / (len(sizes) * sizes.clamp_min(1))
    return (weights[pseudo_labels] * F.cross_entropy(logits.float(), pseudo_labels, reduction="none")).mean()


def cluster_means(x: Tensor, clusters: Tensor, sizes: Tensor) -> Tensor:
    """Means (K, d) of samples (N, d) by their clusters (N,); one without samples has that of the largest."""
    sums = x.new_zeros(len(sizes), x.shape[1]).index_add_(0, clusters, x)
    means = sums / sizes.clamp_min(1)[:, None]
    return torch.where(sizes[:, None] > 0, means, means[sizes.argmax()])


class DeepCluster(AnomalyDetector):
    """DeepCluster, unsupervised: the score is the distance of a sample's features from the nearest cluster's centre.

    Before each epoch the encoder's features of all training samples, in eval mode, are projected on their principal
    directions, whitened and scaled to norm 1, and k-means finds clusters of them. The epoch trains the encoder and a
    linear layer, drawn anew, to name the cluster of a sample. After the last step clusters are found once more. The
    score is ours: the paper has none, for it is about features.

    Features of norm 1 forget how far a sample lies from all others. That is why the score takes them before they are
    scaled, and the mean of each cluster as its centre.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d). None takes LeNet for images, an
            MLP for tables, an LSTM for series.
        n_clusters: number of clusters, K, at least 2; the paper takes ten times the number of classes.
        pca_dim: principal directions that are kept, or as many as there are where they are fewer.
        scored: features whose distance from a centre is the score: `whitened`, or `normalised`, scaled to norm 1.
        weight_init: of our own encoders, `glorot` (uniform) or `framework`.
        optimizer: of encoder and linear layer; its state of the layer is forgotten with the layer.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or more clusters than training samples.
    """

    uses_known_anomalies = False
    fits_at_end = True
    argument_rules: ClassVar = {"n_clusters": at_least(2), "pca_dim": at_least(1)}
    feature_mean: Tensor
    projection: Tensor
    centers: Tensor

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        n_clusters: int = 10,
        pca_dim: int = 256,
        scored: Space = "whitened",
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(SGD, lr=0.05, momentum=0.9, weight_decay=1e-5),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.n_clusters = n_clusters
        self.pca_dim = pca_dim
        self.scored = scored
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self._pseudo_labels = torch.empty(0, dtype=torch.long)  # by a sample's index
        self._sizes = torch.empty(0)

    # ---- construction ---------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse more clusters than there are samples."""
        super().setup(stage)
        if stage == "fit":
            require_samples_for(self, self.n_clusters)

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder, top layer, and room for projection and centres."""
        self.encoder = build_encoder(self.make_encoder, shape, of_tables=TABLE_ENCODER)
        start_weights_(self, self.weight_init)
        d = representation_size(self.encoder, shape)
        self.top_layer = nn.Linear(d, self.n_clusters)
        dim = min(d, self.pca_dim)
        self.register_buffer("feature_mean", torch.zeros(d))
        self.register_buffer("projection", torch.zeros(dim, d))
        self.register_buffer("centers", torch.full((self.n_clusters, dim), math.nan))

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    # ---- training -------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Find the clusters of this epoch, and draw the top layer anew."""
        super().on_train_epoch_start()
        self.name_clusters()
        self.forget_fit()
        self.seed_epoch(-1)  # the same weights on every rank
        nn.init.normal_(self.top_layer.weight, std=TOP_LAYER_SPREAD)
        nn.init.zeros_(self.top_layer.bias)
        self.seed_epoch(self.trainer.global_rank)
        for optimizer in self.trainer.optimizers:
            for weight in self.top_layer.parameters():
                optimizer.state.pop(weight, None)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the names of the batch's clusters."""
        logits = self.top_layer(self.encoder(self.preprocess(batch.x)).relu())
        return pseudo_label_loss(logits, self._pseudo_labels[batch.index], self._sizes)

    # ---- clusters -------------------------------------------------------------------------------------------------

    def whitened(self, features: Tensor) -> Tensor:
        """Projected and whitened features (B, p) of features (B, d), in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return (features.float() - self.feature_mean) @ self.projection.T

    def find_clusters(self) -> tuple[Tensor, Tensor]:
        """Set projection and centres to the weights as they are; the training samples' indices and clusters, (N,)."""
        check_weights(self.parameters(), self.current_epoch, self.likely_cause())
        found, indices = [], []
        with evaluating(self), self.trainer.precision_plugin.forward_context():
            for batch in self.training_data():
                ours = batch.known != KNOWN_ANOMALY
                found.append(self.encoder(self.preprocess(batch.x[ours])).float().cpu())
                indices.append(batch.index[ours].cpu())
        features = torch.cat(found)
        share = self.trainer.strategy.broadcast  # ranks differ in their BatchNorms' statistics
        mean, projection = pca_whitening(features.double(), len(self.projection))
        self.feature_mean.copy_(share(mean))
        self.projection.copy_(share(projection))
        whitened = self.whitened(features.to(self.device))
        unit = F.normalize(whitened, dim=1)
        seed = self.data.effective_seed() + self.trainer.global_step
        centers = share(kmeans_centers(unit, self.n_clusters, seed, n_init=1)).to(self.device)
        _, clusters = nearest_center(unit, centers)
        sizes = clusters.bincount(minlength=self.n_clusters)
        self.centers.copy_(centers if self.scored == "normalised" else cluster_means(whitened, clusters, sizes))
        return torch.cat(indices).to(self.device), clusters

    def name_clusters(self) -> None:
        """Pseudo-labels of the training samples by their index, and the sizes of the clusters."""
        indices, clusters = self.find_clusters()
        self._pseudo_labels = clusters.new_zeros(int(indices.max()) + 1)
        self._pseudo_labels[indices] = clusters
        self._sizes = clusters.bincount(minlength=self.n_clusters).float()

    def fit_on_training_data(self) -> None:
        """The clusters of the final weights."""
        self.find_clusters()

    def forget_fit(self) -> None:
        """No clusters."""
        self.centers.fill_(math.nan)

    # ---- scores ---------------------------------------------------------------------------------------------------

    def ready_to_score(self) -> bool:
        """Once the clusters are those of the final weights."""
        return bool(self.centers.isfinite().all())

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Distance (B,) of a sample's features from the nearest centre."""
        features = self.whitened(self.encoder(self.preprocess(x)))
        if self.scored == "normalised":
            features = F.normalize(features, dim=1)
        squared_distances, _ = nearest_center(features, self.centers)
        return squared_distances.sqrt()
