"""DROCC: normal samples against the worst points of a shell around each of them (Goyal et al. 2020, Section 3).

DROCC-Rand (Appendix D.2) draws those points at random; DROCC-OE (Section 4) adds known anomalies. docs/methods.md.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from adlightning.contracts import KNOWN_ANOMALY, TrainBatch
from adlightning.objectives.binary_classifier import require_known_anomalies
from adlightning.objectives.logit import LogitDetector

Noise = Literal["normal", "shifted"]
AscentBatchNorm = Literal["eval", "train", "frozen"]
ProjectEvery = int | Literal["end"]


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


def unit_gradient(logits_of: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Direction (B, ...) in which each point looks more normal, of length 1; zero where the gradient is zero.

    The paper ascends the loss towards label 0, log(1 + e^f). Its gradient is that of f times a positive number, so the
    direction is the same; f's own does not vanish where the loss is flat.
    """
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(logits_of(points).float().sum(), points)
    norm = sample_norm(gradient)
    return gradient / torch.where(norm > 0, norm, 1.0)


def ascend(
    logits_of: Callable[[Tensor], Tensor],
    x: Tensor,
    h: Tensor,
    *,
    steps: int,
    step_size: float,
    project: Callable[[Tensor], Tensor],
    project_every: ProjectEvery,
) -> Tensor:
    """Offsets (B, ...) from x to the points that look most normal (Algorithm 1, adversarial search).

    Normalised steepest ascent from h, projected after every `project_every` steps and after the last one. Gradients
    are taken with respect to the points only, and nothing waits for the device.

    Args:
        logits_of: logits (B,) of points (B, ...), high for normal; no sample's logit may depend on the others.
        x: samples (B, ...).
        h: offsets (B, ...) to start from.
        steps: gradient steps; with 0 the start is only projected.
        step_size: length of a step.
        project: nearest allowed offsets.
        project_every: steps between projections, or `end` for one after the last step only.
    """
    every = steps if project_every == "end" else project_every
    for step in range(1, steps + 1):
        h = h + step_size * unit_gradient(logits_of, x + h)
        if step % every == 0 and step < steps:
            h = project(h)
    return project(h)


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
        compile_network: compile encoder and head with `torch.compile`.
        lr_milestones: epochs at which the learning rate drops to a tenth, counted after the warm-up.
        weight_decay: coupled weight decay; none in the released code.
        weight_init: `framework` as in the released code, or `glorot`.
        common: head, as in :class:`LogitDetector`; networks, optimisation, preprocessing and threshold, as in
            :class:`EncoderDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        radius: float | None = None,
        gamma: float = 2.0,
        mu: float = 1.0,
        warm_up_epochs: int = 0,
        noise: Noise = "normal",
        selection: Literal["none", "oracle"] = "none",
        compile_network: bool = False,
        weight_decay: float = 0.0,
        weight_init: Literal["glorot", "framework"] = "framework",
        **common: Any,
    ) -> None:
        super().__init__(weight_decay=weight_decay, weight_init=weight_init, **common)
        if radius is not None and radius <= 0:
            raise ValueError(f"radius must be positive, or null for sqrt(d) / 2, got {radius}")
        if gamma < 1:
            raise ValueError(f"gamma must be at least 1, got {gamma}")
        if mu < 0:
            raise ValueError(f"mu must not be negative, got {mu}")
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
        self.compile_network = compile_network

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and head, and the shell's radius for this many features."""
        super().build(shape)
        self.shell_radius = self.radius if self.radius is not None else math.sqrt(math.prod(shape)) / 2
        self.network_logits = torch.compile(self.logits) if self.compile_network else self.logits

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch: milestones count after the warm-up."""
        return super().learning_rate(epoch - self.warm_up_epochs)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the batch and, after the warm-up, mu times that of its normal samples' negatives."""
        x, is_normal = self.preprocess(batch.x), batch.known != KNOWN_ANOMALY
        loss = normality_loss(self.network_logits(x), is_normal)
        if self.current_epoch >= self.warm_up_epochs:
            anchors = x[is_normal] if self.uses_known_anomalies else x
            if len(anchors) > 1:  # BatchNorm takes no single sample
                loss = loss + self.mu * self.negatives_loss(anchors)
        return self.log_loss(loss, batch)

    def negatives_loss(self, x: Tensor) -> Tensor:
        """Cross-entropy of the negatives around normal samples (B, ...), all of which count as anomalous."""
        logits = self.network_logits(x + self.offsets(x))
        return normality_loss(logits, torch.zeros_like(logits))

    @abstractmethod
    def offsets(self, x: Tensor) -> Tensor:
        """Offsets (B, ...) of the negatives from normal samples."""

    def noise_like(self, x: Tensor) -> Tensor:
        """The offsets to start from."""
        h = torch.randn_like(x)
        return 2 * h - 1 if self.noise == "shifted" else h

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The negative logit (B,): log-odds of an anomaly."""
        return -self.network_logits(self.preprocess(x))


class DROCCRand(ShellDetector):
    """DROCC without ascent: negatives are drawn at random in the shell around each normal sample (Appendix D.2).

    Args:
        common: shell, phases and head, as in :class:`ShellDetector`; networks, optimisation, preprocessing and
            threshold, as in :class:`EncoderDetector`.
    """

    uses_known_anomalies = False

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def offsets(self, x: Tensor) -> Tensor:
        """Noise, projected."""
        return self.project(self.noise_like(x))

    def project(self, h: Tensor) -> Tensor:
        """Onto the Euclidean shell."""
        return project_to_shell(h, self.shell_radius, self.gamma)


class DROCC(DROCCRand):
    """DROCC: normal samples are told from the most normal-looking points at distance r to gamma r from each of them.

    Args:
        ascent_steps: steps of gradient ascent m: 50 in the released code, 40 in its older version for images.
        ascent_step_size: length of each step, eta.
        project_every: steps between projections onto the shell: 10 in the released code, 1 in the paper's Algorithm 1,
            `end` (once, after the last step) in the older code for images.
        ascent_batch_norm: BatchNorm during ascent: `eval` (running statistics), `train` (the released code: those of
            the adversarial batch, which also move the running ones), or `frozen` (the older code: running
            statistics from each epoch's first ascent on, in all of the epoch's further training).
        common: shell, phases and head, as in :class:`ShellDetector`; networks, optimisation, preprocessing and
            threshold, as in :class:`EncoderDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        ascent_steps: int = 50,
        ascent_step_size: float = 0.01,
        project_every: ProjectEvery = 10,
        ascent_batch_norm: AscentBatchNorm = "eval",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if ascent_steps < 1:
            raise ValueError(f"ascent_steps must be at least 1, got {ascent_steps}")
        if ascent_step_size <= 0:
            raise ValueError(f"ascent_step_size must be positive, got {ascent_step_size}")
        if project_every != "end" and (isinstance(project_every, str) or project_every < 1):
            raise ValueError(f"project_every must be at least 1, or end, got {project_every!r}")
        if ascent_batch_norm not in get_args(AscentBatchNorm):
            raise ValueError(f"ascent_batch_norm must be eval, train or frozen, got {ascent_batch_norm!r}")
        self.ascent_steps = ascent_steps
        self.ascent_step_size = ascent_step_size
        self.project_every = project_every
        self.ascent_batch_norm = ascent_batch_norm

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder, head and radius; the BatchNorms whose mode ascent changes."""
        super().build(shape)
        self._batch_norms = [layer for layer in self.modules() if isinstance(layer, _BatchNorm)]

    def on_train_epoch_start(self) -> None:
        """BatchNorm that an epoch left frozen is trained again until the next ascent."""
        self._train_batch_norms(True)

    def offsets(self, x: Tensor) -> Tensor:
        """Noise, ascended."""
        if self.ascent_batch_norm != "train":
            self._train_batch_norms(False)
        with _frozen(self):
            h = self.search(x, self.noise_like(x))
        if self.ascent_batch_norm == "eval":
            self._train_batch_norms(True)
        return h

    def search(self, x: Tensor, h: Tensor) -> Tensor:
        """Offsets (B, ...) that ascent reaches from h."""
        return ascend(
            self.network_logits,
            x,
            h,
            steps=self.ascent_steps,
            step_size=self.ascent_step_size,
            project=self.project,
            project_every=self.project_every,
        )

    def _train_batch_norms(self, mode: bool) -> None:
        for layer in self._batch_norms:  # and nothing else: cuDNN's LSTM has gradients in training mode only
            layer.training = mode


class DROCCOE(DROCC):
    """DROCC-OE: DROCC on the normal samples, and the cross-entropy of known anomalies (outlier exposure, Section 4).

    Args:
        common: ascent, as in :class:`DROCC`; shell, phases and head, as in :class:`ShellDetector`; networks,
            optimisation, preprocessing and threshold, as in :class:`EncoderDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without a known anomaly.
    """

    uses_known_anomalies = True

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def setup(self, stage: str) -> None:
        """Refuse to train on data without a known anomaly."""
        super().setup(stage)
        if stage == "fit":
            require_known_anomalies(self)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for weights: a compiled backward pass would compute them whether or not anyone asks."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
