"""DROCC: normal samples against the worst points of a shell around each of them (Goyal et al. 2020, Section 3).

DROCC-OE (Section 4) adds known anomalies. docs/methods.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from adlightning.methods.parts.shell import ShellDetector, sample_norm

AscentBatchNorm = Literal["eval", "train", "frozen"]
ProjectEvery = int | Literal["end"]


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
    *,
    steps: int,
    step_size: float,
    project: Callable[[Tensor], Tensor],
    project_every: ProjectEvery,
    coupled: bool = False,
) -> Tensor:
    """Offsets (B, ...) from x to the points that look most normal (Algorithm 1, adversarial search).

    Normalised steepest ascent from h, projected after every `project_every` steps and after the last one. Gradients
    are taken with respect to the points only, and nothing waits for the device.

    Args:
        logits_of: logits (B,) of points (B, ...), high for normal.
        x: samples (B, ...).
        h: offsets (B, ...) to start from.
        steps: gradient steps; with 0 the start is only projected.
        step_size: length of a step.
        project: nearest allowed offsets.
        project_every: steps between projections, or `end` for one after the last step only.
        coupled: whether a logit depends on the other samples, as in :func:`unit_gradient`.
    """
    every = steps if project_every == "end" else project_every
    for step in range(1, steps + 1):
        h = h + step_size * unit_gradient(logits_of, x + h, coupled)
        if step % every == 0 and step < steps:
            h = project(h)
    return project(h)


class DROCC(ShellDetector):
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
        if not 0 < ascent_step_size < math.inf:
            raise ValueError(f"ascent_step_size must be positive and finite, got {ascent_step_size}")
        if project_every != "end" and (isinstance(project_every, str) or project_every < 1):
            raise ValueError(f"project_every must be at least 1, or end, got {project_every!r}")
        if ascent_batch_norm not in get_args(AscentBatchNorm):
            raise ValueError(f"ascent_batch_norm must be eval, train or frozen, got {ascent_batch_norm!r}")
        self.ascent_steps = ascent_steps
        self.ascent_step_size = ascent_step_size
        self.project_every = project_every
        self.ascent_batch_norm = ascent_batch_norm

    def on_train_epoch_start(self) -> None:
        """BatchNorm that an epoch left frozen is trained again until the next ascent."""
        super().on_train_epoch_start()
        self._train_batch_norms(True)

    def offsets(self, x: Tensor) -> Tensor:
        """Noise, ascended."""
        if self.ascent_batch_norm != "train":
            self._train_batch_norms(False)
        with _frozen(self):
            h = ascend(
                self.network_logits,
                x,
                self.noise_like(x),
                steps=self.ascent_steps,
                step_size=self.ascent_step_size,
                project=self.projection(x),
                project_every=self.project_every,
                coupled=self.ascent_batch_norm == "train",
            )
        if self.ascent_batch_norm == "eval":
            self._train_batch_norms(True)
        return h

    def projection(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """What projects offsets (B, ...) from x into the shell."""
        return self.project

    def _train_batch_norms(self, mode: bool) -> None:
        for layer in self.modules():  # and nothing else: cuDNN's LSTM has gradients in training mode only
            if isinstance(layer, _BatchNorm):
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
    needs_known_anomalies = True

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)


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
