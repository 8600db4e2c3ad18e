"""DROCC: normal samples against the worst points of a shell around each (Goyal et al. 2020; docs/methods/drocc.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

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
from adlightning.core.rules import Rule, between, not_negative, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods.parts.ascent import Ascent, frozen_weights
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.neighborhood import (
    Neighborhood,
    is_off_samples,
    neighbor_radius,
    off_samples,
    project_to_shell,
    sample_norm,
)
from adlightning.networks.encoders import WeightInit, build_encoder
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.mlp import PlainMLP

Noise = Literal["normal", "shifted"]
Radius = float | Literal["neighbors"]
Selection = Literal["none", "oracle"]


TABLE_ENCODER = partial(PlainMLP, n_outputs=128, dense=(256,), dropout=0.0)
"""What serves tables of one's own best (docs/defaults.md): with BatchNorm negatives are told by their batch."""

OWN_ASCENT = Ascent(steps=5, step_size=0.2, project_every=5, step_unit="radius")
"""A search of data of any scale, which a fifth of the radius a step takes across the shell (docs/defaults.md)."""


def normality_loss(logits: Tensor, is_normal: Tensor) -> Tensor:
    """Mean binary cross-entropy, in float32, of logits (B,) that are high for normal, which is the positive class."""
    return F.binary_cross_entropy_with_logits(logits.float(), is_normal.float())


def chance_loss(mu: float) -> float:
    """The least loss of a classifier that tells nothing apart: log(1 + mu) + mu log((1 + mu) / mu), 2 log 2 for mu = 1.

    That of the constant logit -log mu, whose cross-entropies are log(1 + mu) for normals and log((1 + mu) / mu) for
    negatives.
    """
    return math.log1p(mu) + (mu * math.log1p(1 / mu) if mu else 0.0)


def unit_gradient(logits_of: Callable[[Tensor], Tensor], points: Tensor, coupled: bool = False) -> Tensor:
    """Direction (B, ...) in which each point looks more normal, of length 1; zero where the gradient is zero.

    The paper ascends the loss towards label 0, log(1 + e^f). Where no sample's logit depends on the others, its
    gradient is that of f times a positive number: the direction is the same, and f's own does not vanish where the
    loss is flat. Where batch statistics couple the samples, `coupled` takes the loss itself, as the released code does.
    """
    points = points.detach().requires_grad_()
    logits = logits_of(points).float()
    (gradient,) = torch.autograd.grad((F.softplus(logits) if coupled else logits).sum(), points)
    norm = sample_norm(gradient)
    return gradient / torch.where(norm > 0, norm, 1.0)


def ascend(
    logits_of: Callable[[Tensor], Tensor],
    x: Tensor,
    h: Tensor,
    ascent: Ascent,
    project: Callable[[Tensor], Tensor],
    radius: float = 1.0,
) -> Tensor:
    """Offsets (B, ...) from x to the points that look most normal (Algorithm 1, adversarial search).

    Normalised steepest ascent from h, projected after every so many steps and after the last one. Gradients are taken
    with respect to the points only, and nothing waits for the device.

    Args:
        logits_of: logits (B,) of points (B, ...), high for normal.
        x: samples (B, ...).
        h: offsets (B, ...) to start from.
        ascent: how many steps of which length; a logit depends on other samples with its batch_norm `train`.
        project: nearest allowed offsets.
        radius: of the shell, which a step may be a share of.
    """
    length = ascent.step_length(radius)
    every = ascent.steps if ascent.project_every == "end" else ascent.project_every
    for step in range(1, ascent.steps + 1):
        h = h + length * unit_gradient(logits_of, x + h, coupled=ascent.batch_norm == "train")
        if step % every == 0 and step < ascent.steps:
            h = project(h)
    return project(h)


def _is_radius(value: object) -> bool:
    return value in ("neighbors", None) or positive.holds(value)


RADIUS = Rule(_is_radius, f"{positive.words}, neighbors, or null for sqrt(d) / 2")


class DROCC(AnomalyDetector):
    """DROCC: normal samples are told from the most normal-looking points at distance r to gamma r from each of them.

    The loss of a batch is the cross-entropy of its samples plus mu times that of the negatives, which count as
    anomalous (equation 1; the released code has neither its lambda nor any other weight decay). The first
    `warm_up_epochs` are trained on the samples alone. The logit is high for normal; the score is its negative.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d); biases and affine BatchNorms do
            no harm here. None takes LeNet for images, an MLP for tables, an LSTM for series.
        head: on the encoder, to the logit.
        radius: r, the shell's inner radius after preprocessing. `neighbors` takes it from the training samples: the
            0.9 quantile of the distances to their nearest neighbours. Null takes sqrt(d) / 2 for d features or pixels,
            the paper's rule for standardised ones.
        gamma: outer over inner radius, at least 1: 1 for images and 2 for all else in the paper.
        mu: weight of the negatives (`lamda` in the released code).
        ascent: how negatives are searched.
        neighborhood: where they may lie: as far from their own sample (`relaxed`), or from all of them (`strict`).
        noise: what an offset starts from: `normal`, N(0, 1) a coordinate, or `shifted`, N(-1, 4), as in the older code
            for series.
        joint_batches: whether samples and their negatives pass the network as one batch. The released code has two,
            and with BatchNorm in training mode the network then tells negatives by the statistics of a batch that has
            nothing else, which no score in eval mode can.
        warm_up_epochs: epochs at the start without negatives.
        selection: `oracle` when these values were chosen on test data, as the paper's for each class were: reports
            say so.
        weight_init: of our own networks, `framework` as in the released code, or `glorot`.
        optimizer: of encoder and head.
        lr_scheduler: its schedule, which stands still during the warm-up; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or a `trainer.max_epochs` that ends within the warm-up; with a strict
            neighbourhood `data.train_transforms`, or more normals than `data.device_budget_mb` holds.
    """

    uses_known_anomalies = False
    first_phase_argument = "warm_up_epochs"
    argument_rules: ClassVar = {
        "radius": RADIUS,
        "gamma": between(1, math.inf, "left"),
        "mu": between(0, math.inf, "left"),
        "warm_up_epochs": not_negative,
    }
    is_warm: Tensor
    neighbor_radius: Tensor
    """With `radius: neighbors` what the training samples say; NaN before a fit."""

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        head: Head = Head(activation="leaky_relu", leakiness=0),
        radius: Radius | None = "neighbors",
        gamma: float = 2.0,
        mu: float = 1.0,
        ascent: Ascent = OWN_ASCENT,
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
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_head = head.on
        self.radius = radius
        self.gamma = gamma
        self.mu = mu
        self.ascent = ascent
        self.neighborhood = neighborhood
        self.noise = noise
        self.joint_batches = joint_batches
        self.warm_up_epochs = warm_up_epochs
        self.selection = selection
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.register_buffer("is_warm", torch.tensor(warm_up_epochs == 0))
        self.normals: Tensor | None = (
            None  # (N, D), preprocessed; of a fit with a strict neighbourhood, while it trains
        )

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and head, and the shell's radius for this many features."""
        self.encoder = build_encoder(self.make_encoder, shape, of_tables=TABLE_ENCODER)
        self.head = self.make_head(self.encoder, shape)
        start_weights_(self, self.weight_init)
        self._radius: float | None = math.sqrt(math.prod(shape)) / 2 if self.radius is None else None
        if self.radius == "neighbors":
            self.register_buffer("neighbor_radius", torch.tensor(math.nan))
        elif self.radius is not None:
            self._radius = self.radius

    @property
    def shell_radius(self) -> float:
        """The shell's inner radius r; one taken from the training samples is there once a fit begins."""
        if self._radius is None:
            self._radius = float(self.neighbor_radius)
        return self._radius

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Let the schedule go on, once the warm-up is over."""
        if self.current_epoch >= self.warm_up_epochs:
            super().lr_scheduler_step(scheduler, metric)

    def on_fit_start(self) -> None:
        """Refuse what leaves a strict neighbourhood without the samples that it is strict about."""
        if self.neighborhood.kind == "strict":
            self._require_normals()
        super().on_fit_start()
        if self.radius == "neighbors" and self.neighbor_radius.isnan():
            normals = torch.cat([self.preprocess(x).flatten(1) for x in self.normal_data()])
            found = neighbor_radius(normals)
            self.neighbor_radius.fill_(math.sqrt(normals.shape[1]) / 2 if found is None else found)
            self._radius = None

    def on_train_start(self) -> None:
        """Take all normal samples, for a strict neighbourhood."""
        super().on_train_start()
        self._take_normals()

    def on_train_end(self) -> None:
        """Forget them, and say where the negatives won."""
        super().on_train_end()
        self.normals = None
        loss, chance = self.trainer.callback_metrics.get("train/loss"), chance_loss(self.mu)
        self.training_record.pop("above_chance", None)
        if loss is not None and bool(self.is_warm) and float(loss) > chance:
            self.training_record["above_chance"] = [float(loss), chance]
            rank_zero_warn(self.remarks()[-1])

    def remarks(self) -> list[str]:
        """That the classifier ended worse than one that tells nothing apart."""
        if (ended := self.training_record.get("above_chance")) is None:
            return super().remarks()
        words = (
            f"the last epoch's loss is {ended[0]:.3g}, above {ended[1]:.3g}, that of a classifier that tells nothing "
            "apart: the negatives won, and scores may rank worse than chance. Another model.radius, a smaller "
            "model.optimizer.lr or fewer model.ascent.steps may help"
        )
        return [*super().remarks(), words]

    def _take_normals(self) -> None:
        if self.neighborhood.kind == "strict":
            self.normals = torch.cat([self.preprocess(x).flatten(1) for x in self.normal_data()])

    def _require_normals(self) -> None:
        if self.data.train_transforms:
            raise ValueError(
                "neighborhood.kind: strict keeps negatives away from the training samples, which data.train_transforms "
                "changes at every step: leave one of the two out"
            )
        rows, known = self.data.training_rows()
        size = int((known != KNOWN_ANOMALY).sum()) * math.prod(self.preprocess.output_shape()) * 4 / 2**20
        if size > self.data.device_budget_mb:
            raise ValueError(
                f"neighborhood.kind: strict keeps the normals of {len(rows)} training samples on the device, "
                f"{size:.0f} MiB, more than data.device_budget_mb={self.data.device_budget_mb}"
            )

    def on_train_epoch_start(self) -> None:
        """Note the end of the warm-up; BatchNorm that an epoch left frozen is trained again until the next ascent."""
        super().on_train_epoch_start()
        if self.current_epoch >= self.warm_up_epochs:
            self.is_warm.fill_(True)
        self._train_batch_norms(True)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor | dict[str, Tensor]:
        """Cross-entropy of the batch and, after the warm-up, mu times that of its normal samples' negatives."""
        x, is_normal = self.preprocess(batch.x), batch.known != KNOWN_ANOMALY
        if self.current_epoch < self.warm_up_epochs:
            return normality_loss(self.logits(x), is_normal)
        anchors, weight = x[is_normal] if self.uses_known_anomalies else x, self.mu
        if len(anchors) < 2:  # BatchNorm takes no single sample, and other ranks may wait for this one's forward
            anchors, weight = x, 0.0
        if self.joint_batches:
            negatives = anchors + self.offsets(anchors)
            logits, of_negatives = self.logits(torch.cat([x, negatives])).split([len(x), len(negatives)])
        else:
            logits = self.logits(x)
            negatives = anchors + self.offsets(anchors)
            of_negatives = self.logits(negatives)
        if self.normals is None:
            negatives_loss = normality_loss(of_negatives, torch.zeros_like(of_negatives))  # all of them are anomalous
            return normality_loss(logits, is_normal) + weight * negatives_loss
        allowed = is_off_samples(negatives.flatten(1), self.normals, self.shell_radius)
        negatives_loss = (allowed * F.softplus(of_negatives.float())).mean()  # a maximum over no point costs nothing
        loss = normality_loss(logits, is_normal) + weight * negatives_loss
        return {"loss": loss, "negatives_allowed": allowed.float().mean()}

    def offsets(self, x: Tensor) -> Tensor:
        """Offsets (B, ...) of the negatives from normal samples: noise, ascended."""
        if self.ascent.batch_norm != "train":
            self._train_batch_norms(False)
        with frozen_weights(self):
            search = (self.ascent, self.projection(x), self.shell_radius)
            h = ascend(self.logits, x, self.noise_like(x), *search)
        if self.ascent.batch_norm == "eval":
            self._train_batch_norms(True)
        return h

    def negatives(self, x: Tensor) -> Tensor:
        """Preprocessed negatives (B, ...) of raw normal samples, by a search of now; a picture of it shows them.

        A strict neighbourhood takes the training samples of the trainer's data, where it does not have them.
        """
        had = self.normals
        with torch.inference_mode(False), torch.enable_grad():
            if had is None:
                self._take_normals()
            x = self.preprocess(x.clone())
            negatives = (x + self.offsets(x)).detach()
        self.normals = had
        return negatives

    def noise_like(self, x: Tensor) -> Tensor:
        """The offsets to start from."""
        h = torch.randn_like(x)
        return 2 * h - 1 if self.noise == "shifted" else h

    def projection(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """What projects offsets (B, ...) from x into the neighbourhood; a strict one may be missed."""
        into_shell = partial(project_to_shell, radius=self.shell_radius, gamma=self.gamma)
        if (normals := self.normals) is None:
            return into_shell

        def project(h: Tensor) -> Tensor:
            h = into_shell(h)
            for _ in range(self.neighborhood.rounds):
                moved = off_samples((x + h).flatten(1), normals, self.shell_radius)
                h = into_shell(moved.view_as(x) - x)
            return h

        return project

    def _train_batch_norms(self, mode: bool) -> None:
        for layer in self.modules():  # and nothing else: cuDNN's LSTM has gradients in training mode only
            if isinstance(layer, _BatchNorm):
                layer.training = mode

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B,) of preprocessed samples, high for normal."""
        logits: Tensor = self.head(self.encoder(x))
        return logits.squeeze(1)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The negative logit (B,): log-odds of an anomaly."""
        return -self.logits(self.preprocess(x))

    def ready_to_score(self) -> bool:
        """Only with negatives: normal samples alone teach a classifier nothing."""
        return bool(self.is_warm)
