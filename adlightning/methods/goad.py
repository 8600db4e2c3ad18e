"""GOAD for tables: random affine maps of a sample, told apart by distances from a centre each.

Bergman and Hoshen, ICLR 2020; docs/methods.md says where the paper and its released code differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.methods.parts.optimization import OptimizedDetector
from adlightning.preprocessing import PreprocessingName

Centers = Literal["trained", "running"]

LEAKINESS = 0.2
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


class GOAD(OptimizedDetector):
    """GOAD: a network learns which of M random affine maps a standardised table went through; anomalies confuse it.

    Embeddings z_m = phi(W_m' x + b_m) are trained with `triplet_weight` times the triplet-centre loss plus the
    cross-entropy of a linear head that names the map. The score is minus the sum over m of the log-probability of
    map m by distances from the centres, one a map; the head is for training only. phi is shared by all maps: linear
    layers without biases, leaky ReLUs of slope 0.2 in between. Unsupervised, for tables only.

    After every epoch, and wherever training ends, the centres are set anew: with `trained` they are the means of z_m
    over all training samples, of the weights as they are then, whatever the order of the samples. With `running` they
    are what the released code takes: the average of the means of the epoch's batches, each of other weights.

    A linear phi without translation has no centres to tell apart: the mean of standardised samples is 0, and so is that
    of z_m for every m. `trained` is then refused, and `running` is by chance (docs/methods.md).

    Args:
        n_maps: number of maps M, at least 2 (`n_rots` in the released code).
        map_dim: dimension to which they map (`d_out`).
        rep_dim: dimension of the embeddings, and width of the hidden layers (`ndf`).
        n_layers: linear layers of phi: 1 for arrhythmia and thyroid in the released code (`netC1`), else 5 (`netC5`).
        translation: draw b_m from N(0, 1), as W_m; the paper has it, the released code does not.
        margin: margin of the triplet-centre loss.
        triplet_weight: weight of the triplet-centre loss (`lmbda`).
        epsilon: added to each e^-distance of the score, as in the paper; 0 leaves it out, as the released code does.
        distance_floor: smallest squared distance in the score: `eps` of the released code, 0 there.
        centers: `trained` or `running`, as above.
        weight_init: `glorot` (normal, times the root of 2), which the released code has and never calls on a layer, or
            `framework`, what it therefore starts from.
        betas: Adam's.
        preprocessing: one for tables; `standardize` in the released code.
        common: optimisation and threshold, as in :class:`OptimizedDetector`.

    Raises:
        ValueError: an argument outside its range, centres that would all be 0, or input other than tables.
    """

    uses_known_anomalies = False
    maps: Tensor
    shifts: Tensor | None
    map_centers: Tensor
    has_centers: Tensor

    def __init__(
        self,
        n_maps: int = 256,
        map_dim: int = 32,
        rep_dim: int = 8,
        n_layers: int = 1,
        translation: bool = True,
        margin: float = 1.0,
        triplet_weight: float = 0.1,
        epsilon: float = 0.0,
        distance_floor: float = 0.0,
        centers: Centers = "trained",
        weight_init: Literal["glorot", "framework"] = "glorot",
        betas: Sequence[float] = (0.5, 0.999),
        lr: float = 1e-3,
        lr_milestones: Sequence[int] = (),
        weight_decay: float = 0.0,
        preprocessing: PreprocessingName = "standardize",
        **common: Any,
    ) -> None:
        optimization: dict[str, Any] = {"lr": lr, "lr_milestones": lr_milestones, "weight_decay": weight_decay}
        super().__init__(preprocessing=preprocessing, **optimization, **common)
        if n_maps < 2:
            raise ValueError(f"n_maps must be at least 2, got {n_maps}")
        for name, size in (("map_dim", map_dim), ("rep_dim", rep_dim), ("n_layers", n_layers)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        numbers = {"margin": margin, "triplet_weight": triplet_weight, "epsilon": epsilon}
        for name, value in {**numbers, "distance_floor": distance_floor}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if centers not in get_args(Centers):
            raise ValueError(f"centers must be trained or running, got {centers!r}")
        linear = n_layers == 1 and not translation and preprocessing in ("standardize", "standardize_offset")
        if linear and centers == "trained":
            raise ValueError(
                "centers must be running with n_layers: 1, translation: false and standardised features, where the "
                f"means of all maps' embeddings are 0, got {centers}"
            )
        if weight_init not in ("glorot", "framework"):
            raise ValueError(f"weight_init must be glorot or framework, got {weight_init!r}")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {list(betas)}")
        self.n_maps = n_maps
        self.map_dim = map_dim
        self.rep_dim = rep_dim
        self.n_layers = n_layers
        self.translation = translation
        self.margin = margin
        self.triplet_weight = triplet_weight
        self.epsilon = epsilon
        self.distance_floor = distance_floor
        self.centers = centers
        self.weight_init = weight_init
        self.betas = list(betas)
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
        self.register_buffer("maps", torch.randn(self.n_maps, shape[0], self.map_dim))
        self.register_buffer("shifts", torch.randn(self.n_maps, self.map_dim) if self.translation else None)
        self.register_buffer("map_centers", torch.zeros(self.n_maps, self.rep_dim))
        self.register_buffer("has_centers", torch.tensor(False))
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(chain([self.map_dim], repeat(self.rep_dim, self.n_layers))):
            layers += [nn.LeakyReLU(LEAKINESS), nn.Linear(n_in, n_out, bias=False)]
        self.encoder = nn.Sequential(*layers[1:])
        self.head = nn.Sequential(nn.LeakyReLU(LEAKINESS), nn.Linear(self.rep_dim, self.n_maps))
        for layer in self.modules():
            if isinstance(layer, nn.Linear) and self.weight_init == "glorot":
                nn.init.xavier_normal_(layer.weight, gain=math.sqrt(2))

    def new_optimizer(self, parameters: Any) -> Optimizer:
        """The chosen optimiser, Adam with `betas`."""
        if self.optimizer != "adam":
            return super().new_optimizer(parameters)
        betas = (self.betas[0], self.betas[1])
        return Adam(parameters, lr=self.lr, betas=betas, weight_decay=self.weight_decay)

    # ---- training -------------------------------------------------------------------------------------------------

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings (B, M, d) of all maps of preprocessed samples (B, D)."""
        mapped = torch.einsum("bi,mij->bmj", x, self.maps)
        z: Tensor = self.encoder(mapped if self.shifts is None else mapped + self.shifts)
        return z

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
        names = torch.arange(self.n_maps, device=z.device).expand(len(z), -1)
        cross_entropy = F.cross_entropy(self.head(z).float().flatten(0, 1), names.flatten())
        return self.log_loss(self.triplet_weight * triplet_center_loss(z, self.margin) + cross_entropy, batch)

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

    @torch.no_grad()
    def _mean_embeddings(self) -> Tensor:
        """Means (M, d) over the training set; the same on every rank."""
        total = torch.zeros(self.n_maps, self.rep_dim, dtype=torch.float64)  # on the host: not every device has float64
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
        return iter(x.split(max(1, CHUNK // (self.n_maps * max(self.n_maps, self.map_dim, self.rep_dim)))))
