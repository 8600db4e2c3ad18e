"""GOAD for tables: random affine maps of a sample, told apart by distances from a centre each.

Bergman and Hoshen, ICLR 2020; docs/methods/goad.md says where the paper and its released code differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    encoder_part,
)
from adlightning.core.prepared import name_of
from adlightning.core.rules import at_least, check_arguments, not_negative
from adlightning.core.scoring import evaluating
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.networks.encoders import WeightInit, build_encoder, representation_size
from adlightning.networks.goad import LEAKINESS, GOADEncoder

Centers = Literal["trained", "running"]
Embedding = Literal["output", "activated"]

TABLE_ENCODER = partial(GOADEncoder, rep_dim=32, n_layers=3)
"""What serves tables of one's own best (docs/defaults.md); the paper's has 8 and 1, or 5, layers."""

CHUNK = 2**22  # values of the largest tensor of a chunk in scoring, 16 MiB: larger ones are slower on a CPU


def relative_distances(z: Tensor, centers: Tensor) -> Tensor:
    """||z_m - c_k||^2 - ||z_m||^2 of embeddings z (B, M, d) and centres (M, d): (B, M, M), in float32.

    What is left out is the same for every centre k. Differences of distances do without it, lose no digits to it, and
    the (B, M, M, d) tensor of all differences of vectors is never made.
    """
    with torch.autocast(z.device.type, enabled=False):
        z, centers = z.float(), centers.float()
        return centers.square().sum(dim=1) - 2 * (z @ centers.T)


def triplet_center_loss(z: Tensor, margin: float) -> Tensor:
    """Mean of max(0, d_mm + margin - min over k != m of d_mk), with the centres of the batch.

    d_mk is the squared distance of embedding z_m of a sample from the mean of z_k over the batch, through which
    gradients flow as well.

    Args:
        z: embeddings (B, M, d) of M >= 2 maps of each sample.
        margin: by which the own centre shall be nearer than any other.
    """
    distances = relative_distances(z, z.float().mean(dim=0))
    own = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    nearest_other = distances.masked_fill(own, math.inf).min(dim=2).values
    return (distances.diagonal(dim1=1, dim2=2) + margin - nearest_other).clamp_min(0).mean()


def map_log_probabilities(z: Tensor, centers: Tensor, epsilon: float = 0.0, distance_floor: float = 0.0) -> Tensor:
    """Log-probability (B, M) that map m is recognised as map m.

    log of (e^-d_mm + epsilon) / sum over k of (e^-d_mk + epsilon), where d_mk is the squared distance of z_m from
    centre c_k, or `distance_floor` where that is larger.

    Args:
        z: embeddings (B, M, d).
        centers: (M, d).
        epsilon: added to each e^-d, as in the paper: a sample far from all centres gets probabilities near 1 / M.
        distance_floor: smallest distance, as in the released code (`eps` there).
    """
    distances = relative_distances(z, centers)
    if epsilon or distance_floor:  # else only differences count
        squared_norms = z.float().square().sum(dim=2, keepdim=True)
        distances = (distances + squared_norms).clamp_min(distance_floor)
    logits = -distances
    if epsilon:
        logits = torch.logaddexp(logits, logits.new_tensor(math.log(epsilon)))
    return logits.log_softmax(dim=2).diagonal(dim1=1, dim2=2)


@dataclass(frozen=True)
class AffineMaps:
    """The random maps x -> W_m' x + b_m, with values from N(0, 1).

    Args:
        number: of maps, M, at least 2 (`n_rots` in the released code, 256 there).
        dim: dimension to which they map (`d_out`).
        translation: draw b_m as well; the paper has it, the released code does not.
    """

    number: int = 32
    dim: int = 32
    translation: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        rules = {"maps.number": at_least(2), "maps.dim": at_least(1)}
        check_arguments(rules, {}, {"maps.number": self.number, "maps.dim": self.dim})


class GOAD(AnomalyDetector):
    """GOAD: a network learns which of M random affine maps a standardised table went through; anomalies confuse it.

    Embeddings z_m = phi(W_m' x + b_m) are trained with `triplet_weight` times the triplet-centre loss plus the
    cross-entropy of a linear head that names the map. The score is minus the sum over m of the log-probability of
    map m by distances from the centres, one a map; the head is for training only. phi is shared by all maps.
    Unsupervised, for tables only.

    After every epoch, and wherever training ends, the centres are set anew. With `trained` they are the means of z_m
    over all training samples, in whatever order, computed with the weights of that moment. With `running` they are what
    the released code takes: the average of the means of the epoch's batches, each of which had other weights.

    With `embedding: activated` z_m is leaky_relu(phi(...), 0.2). A linear phi without translation and without that
    activation has no centres to tell apart: the mean of standardised samples is 0, and so is that of z_m for every m.
    `trained` is then refused, and `running` is by chance (docs/methods/goad.md).

    Args:
        maps: the random maps.
        encoder: phi, a class made for the shape (dim,) of a mapped sample that gives (B, d). None takes `GOADEncoder`,
            the released code's.
        embedding: what loss, centres and score see: phi's `output`, or its leaky ReLU (`activated`), as in the released
            code, whose head begins with one that works in place.
        margin: margin of the triplet-centre loss.
        triplet_weight: weight of the triplet-centre loss (`lmbda`).
        epsilon: added to each e^-distance of the score, as in the paper; 0 leaves it out, as the released code does.
        distance_floor: smallest squared distance in the score: `eps` of the released code, 0 there.
        centers: for the score: `trained`, means over the training set with the final weights, or `running`, averages of
            the last epoch's batches, as in the released code.
        weight_init: of `GOADEncoder` and the head, `glorot` (normal, times the root of 2), which the released code has
            and never calls on a layer, or `framework`, what it therefore starts from.
        optimizer: of encoder and head.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`: one for tables, None standardises, as the released code does.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, centres that would all be 0, or input other than tables.
    """

    uses_known_anomalies = False
    scoring_arguments: ClassVar = ("epsilon", "distance_floor")
    argument_rules: ClassVar = dict.fromkeys(("margin", "triplet_weight", "epsilon", "distance_floor"), not_negative)
    map_weights: Tensor
    map_shifts: Tensor | None
    map_centers: Tensor
    has_centers: Tensor

    def __init__(
        self,
        maps: AffineMaps = AffineMaps(),
        encoder: EncoderFactory | None = None,
        embedding: Embedding = "output",
        margin: float = 1.0,
        triplet_weight: float = 0.1,
        epsilon: float = 0.0,
        distance_floor: float = 0.0,
        centers: Centers = "trained",
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3, betas=(0.5, 0.999)),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.maps = maps
        self.make_encoder = encoder_part("encoder", encoder)
        self.embedding = embedding
        self.margin = margin
        self.triplet_weight = triplet_weight
        self.epsilon = epsilon
        self.distance_floor = distance_floor
        self.centers = centers
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self._centers_step = -1
        self._batch_means: Tensor | float = 0.0
        self._n_batches = 0

    # ---- construction ---------------------------------------------------------------------------------------------

    def configure_for(self, spec: InputSpec) -> None:
        """Refuse what is no table, whatever the preprocessing."""
        if spec.kind != "table":
            raise ValueError(f"GOAD's network input must be tables (D,), which it maps at random; the data are {spec}")
        super().configure_for(spec)

    def build(self, shape: tuple[int, ...]) -> None:
        """Maps, network, head, and room for the centres."""
        n, dim = self.maps.number, self.maps.dim
        self.register_buffer("map_weights", torch.randn(n, shape[0], dim))
        self.register_buffer("map_shifts", torch.randn(n, dim) if self.maps.translation else None)
        self.encoder = build_encoder(self.make_encoder or TABLE_ENCODER, (dim,))
        is_ours = isinstance(self.encoder, GOADEncoder)
        centred = name_of(self.preprocess) == "StandardizeFeatures" and not self.maps.translation
        linear = is_ours and self.encoder.n_layers == 1 and self.embedding == "output"
        if self.centers == "trained" and centred and linear:
            raise ValueError(
                "centers must be running with a GOADEncoder of n_layers: 1, embedding: output, maps.translation: false "
                f"and standardised features, where the means of all maps' embeddings are 0, got {self.centers}"
            )
        d = representation_size(self.encoder, (dim,))
        activation = [nn.LeakyReLU(LEAKINESS)] if self.embedding == "output" else []
        self.head = nn.Sequential(*activation, nn.Linear(d, n))
        self.register_buffer("map_centers", torch.zeros(n, d))
        self.register_buffer("has_centers", torch.tensor(False))
        for layer in [*(self.encoder.modules() if is_ours else ()), *self.head.modules()]:
            if isinstance(layer, nn.Linear) and self.weight_init == "glorot":
                nn.init.xavier_normal_(layer.weight, gain=math.sqrt(2))

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    # ---- training -------------------------------------------------------------------------------------------------

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings (B, M, d) of all maps of preprocessed samples (B, D)."""
        mapped = torch.einsum("bi,mij->bmj", x, self.map_weights)
        mapped = mapped if self.map_shifts is None else mapped + self.map_shifts
        z: Tensor = self.encoder(mapped.flatten(0, 1))
        z = F.leaky_relu(z, LEAKINESS) if self.embedding == "activated" else z
        return z.view(x.shape[0], self.maps.number, z.shape[1])

    def on_train_epoch_start(self) -> None:
        """The average of the batches' means begins anew; centres of earlier weights are out of date."""
        super().on_train_epoch_start()
        self._batch_means, self._n_batches, self._centers_step = 0.0, 0, -1

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """`triplet_weight` times the triplet-centre loss, plus the cross-entropy of the maps' names."""
        z = self.embed(self.preprocess(batch.x))
        if self.centers == "running":
            self._batch_means = self._batch_means + z.detach().float().mean(dim=0)
            self._n_batches += 1
        names = torch.arange(self.maps.number, device=z.device).expand(len(z), -1)
        cross_entropy = F.cross_entropy(self.head(z).float().flatten(0, 1), names.flatten())
        return self.triplet_weight * triplet_center_loss(z, self.margin) + cross_entropy

    # ---- centres --------------------------------------------------------------------------------------------------

    def fit_centers(self) -> None:
        """Set the centres to the weights as they are, once for each training step."""
        if self._centers_step == self.trainer.global_step:
            return
        if self.centers == "trained":
            self.map_centers.copy_(self._mean_embeddings())
        elif self._n_batches:  # else the checkpoint that this fit goes on from has them
            mean = torch.as_tensor(self._batch_means / self._n_batches)
            self.map_centers.copy_(self.trainer.strategy.reduce(mean, reduce_op="mean"))
        else:
            return
        self.has_centers.fill_(True)
        self._centers_step = self.trainer.global_step

    def fit_to_weights(self) -> None:
        """The centres of averaged weights: a mean of batches of other weights is none of theirs."""
        with evaluating(self):
            self.map_centers.copy_(self._mean_embeddings())
        self.has_centers.fill_(True)
        self._centers_step = self.trainer.global_step

    @torch.no_grad()
    def _mean_embeddings(self) -> Tensor:
        """Means (M, d) over the training set; the same on every rank."""
        total = torch.zeros(self.map_centers.shape, dtype=torch.float64)  # on the host: not every device has float64
        n = 0
        with self.trainer.precision_plugin.forward_context():
            for batch in self.training_data():
                for x in self._chunks(self.preprocess(batch.x)):
                    total += self.embed(x).float().cpu().double().sum(dim=0)
                    n += len(x)
        return (total / n).float()

    def on_validation_epoch_start(self) -> None:
        """During a fit, validation scores are those of the weights as they are."""
        super().on_validation_epoch_start()
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.fit_centers()

    def on_train_epoch_end(self) -> None:
        """So are the centres of the epoch's checkpoint, and of the last threshold."""
        super().on_train_epoch_end()
        self.fit_centers()

    # ---- scores ---------------------------------------------------------------------------------------------------

    def ready_to_score(self) -> bool:
        """Only once there are centres."""
        return bool(self.has_centers)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Minus the sum over the maps of their log-probabilities (B,), not negative."""
        scores = [
            -map_log_probabilities(self.embed(part), self.map_centers, self.epsilon, self.distance_floor).sum(dim=1)
            for part in self._chunks(self.preprocess(x))
        ]
        return torch.cat(scores)

    def _chunks(self, x: Tensor) -> Iterator[Tensor]:
        """Samples in parts small enough for every tensor made of a part; all at once in an exported graph."""
        if torch.compiler.is_exporting():
            return iter([x])
        n, dim, d = self.maps.number, self.maps.dim, self.map_centers.shape[1]
        return iter(x.split(max(1, CHUNK // (n * max(n, dim, d)))))
