"""Normal samples against negatives in a shell around each of them: what DROCC and its variants share, and DROCC-Rand.

Goyal et al. 2020, equation 1 and Appendix D.2; docs/methods.md.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from adlightning.core.contracts import KNOWN_ANOMALY, TrainBatch
from adlightning.methods.parts.logit import LogitDetector

Noise = Literal["normal", "shifted"]


def normality_loss(logits: Tensor, is_normal: Tensor) -> Tensor:
    """Mean binary cross-entropy, in float32, of logits (B,) that are high for normal, which is the positive class."""
    return F.binary_cross_entropy_with_logits(logits.float(), is_normal.float())


def sample_norm(h: Tensor) -> Tensor:
    """L2 norm of each sample of h (B, ...), as (B, 1, ..., 1)."""
    norm: Tensor = torch.linalg.vector_norm(h.flatten(1), dim=1)
    return norm.view(-1, *[1] * (h.ndim - 1))


def project_to_shell(h: Tensor, radius: float, gamma: float) -> Tensor:
    """The points nearest to offsets h (B, ...) with radius <= ||h|| <= gamma radius; an offset of zero stays zero.

    Source: DROCC, Section 3, "Gradient-ascent to generate negatives".
    """
    norm = sample_norm(h)
    return h * (norm.clamp(radius, gamma * radius) / torch.where(norm > 0, norm, 1.0))


class ShellDetector(LogitDetector):
    """Normal samples against negatives in a shell around each of them; a subclass says where in the shell.

    The loss of a batch is the cross-entropy of its samples plus mu times that of the negatives, which count as
    anomalous (equation 1; the released code has neither its lambda nor any other weight decay). The first
    `warm_up_epochs` are trained on the samples alone. The logit is high for normal; the score is its negative.

    Args:
        radius: r, the shell's inner radius after preprocessing; null takes sqrt(d) / 2 for d features or pixels, the
            paper's rule for standardised ones.
        gamma: outer over inner radius, at least 1: 1 for images and 2 for all else in the paper.
        mu: weight of the negatives (`lamda` in the released code).
        warm_up_epochs: epochs at the start without negatives.
        noise: what an offset starts from: `normal`, N(0, 1) a coordinate, or `shifted`, N(-1, 4), as in the older code
            for series.
        selection: `oracle` when these values were chosen on test data, as the paper's for each class were: reports
            say so.
        joint_batches: whether samples and their negatives pass the network as one batch. The released code has two,
            and with BatchNorm in training mode the network then tells negatives by the statistics of a batch that has
            nothing else, which no score in eval mode can.
        compile_network: compile encoder and head with `torch.compile`.
        lr_milestones: epochs at which the learning rate drops to a tenth, counted after the warm-up.
        weight_decay: coupled weight decay; none in the released code.
        weight_init: `framework` as in the released code, or `glorot`.
        common: head, as in :class:`LogitDetector`; networks, optimisation, preprocessing and threshold, as in
            :class:`EncoderDetector`.

    Raises:
        ValueError: an argument outside its range, or a `trainer.max_epochs` that ends within the warm-up.
    """

    uses_known_anomalies = False
    first_phase_argument = "warm_up_epochs"
    is_warm: Tensor

    def __init__(
        self,
        radius: float | None = None,
        gamma: float = 2.0,
        mu: float = 1.0,
        warm_up_epochs: int = 0,
        noise: Noise = "normal",
        selection: Literal["none", "oracle"] = "none",
        joint_batches: bool = False,
        compile_network: bool = False,
        weight_decay: float = 0.0,
        weight_init: Literal["glorot", "framework"] = "framework",
        **common: Any,
    ) -> None:
        super().__init__(weight_decay=weight_decay, weight_init=weight_init, **common)
        if radius is not None and not 0 < radius < math.inf:
            raise ValueError(f"radius must be positive and finite, or null for sqrt(d) / 2, got {radius}")
        if not 1 <= gamma < math.inf:
            raise ValueError(f"gamma must be at least 1 and finite, got {gamma}")
        if not 0 <= mu < math.inf:
            raise ValueError(f"mu must be finite and not negative, got {mu}")
        if warm_up_epochs < 0:
            raise ValueError(f"warm_up_epochs must not be negative, got {warm_up_epochs}")
        if noise not in get_args(Noise):
            raise ValueError(f"noise must be normal or shifted, got {noise!r}")
        if selection not in ("none", "oracle"):
            raise ValueError(f"selection must be none or oracle, got {selection!r}")
        self.radius = radius
        self.gamma = gamma
        self.mu = mu
        self.warm_up_epochs = warm_up_epochs
        self.noise = noise
        self.selection = selection
        self.joint_batches = joint_batches
        self.compile_network = compile_network
        self.network_logits: Callable[[Tensor], Tensor] = self.logits
        self.register_buffer("is_warm", torch.tensor(warm_up_epochs == 0))

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and head, and the shell's radius for this many features."""
        super().build(shape)
        self.shell_radius = self.radius if self.radius is not None else math.sqrt(math.prod(shape)) / 2

    def on_fit_start(self) -> None:
        """Compile the network, where asked to, for the fit only: scores do not need it, and it cannot be copied."""
        super().on_fit_start()
        if self.compile_network:
            self.network_logits = torch.compile(self.logits)

    def teardown(self, stage: str) -> None:
        """Drop what was compiled."""
        super().teardown(stage)
        self.network_logits = self.logits

    def on_train_epoch_start(self) -> None:
        """Note the end of the warm-up."""
        super().on_train_epoch_start()
        if self.current_epoch >= self.warm_up_epochs:
            self.is_warm.fill_(True)

    def ready_to_score(self) -> bool:
        """Only with negatives: normal samples alone teach a classifier nothing."""
        return bool(self.is_warm)

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch: milestones count after the warm-up."""
        return super().learning_rate(epoch - self.warm_up_epochs)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the batch and, after the warm-up, mu times that of its normal samples' negatives."""
        x, is_normal = self.preprocess(batch.x), batch.known != KNOWN_ANOMALY
        if self.current_epoch < self.warm_up_epochs:
            return self.log_loss(normality_loss(self.network_logits(x), is_normal), batch)
        anchors, weight = x[is_normal] if self.uses_known_anomalies else x, self.mu
        if len(anchors) < 2:  # BatchNorm takes no single sample, and other ranks may wait for this one's forward
            anchors, weight = x, 0.0
        if self.joint_batches:
            both = self.network_logits(torch.cat([x, anchors + self.offsets(anchors)]))
            logits, of_negatives = both[: len(x)], both[len(x) :]
        else:
            logits = self.network_logits(x)
            of_negatives = self.network_logits(anchors + self.offsets(anchors))
        negatives_loss = normality_loss(of_negatives, torch.zeros_like(of_negatives))  # all of them are anomalous
        return self.log_loss(normality_loss(logits, is_normal) + weight * negatives_loss, batch)

    @abstractmethod
    def offsets(self, x: Tensor) -> Tensor:
        """Offsets (B, ...) of the negatives from normal samples."""

    def project(self, h: Tensor) -> Tensor:
        """Onto the Euclidean shell."""
        return project_to_shell(h, self.shell_radius, self.gamma)

    def noise_like(self, x: Tensor) -> Tensor:
        """The offsets to start from."""
        h = torch.randn_like(x)
        return 2 * h - 1 if self.noise == "shifted" else h

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The negative logit (B,): log-odds of an anomaly."""
        return -self.logits(self.preprocess(x))


class DROCCRand(ShellDetector):
    """DROCC without ascent: negatives are drawn at random in the shell around each normal sample (Appendix D.2).

    Args:
        common: shell, phases and head, as in :class:`ShellDetector`; networks, optimisation, preprocessing and
            threshold, as in :class:`EncoderDetector`.
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def offsets(self, x: Tensor) -> Tensor:
        """Noise, projected."""
        return self.project(self.noise_like(x))
