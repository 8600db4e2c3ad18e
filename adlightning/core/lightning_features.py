"""What of Lightning a detector does not work with, and why: refused in one line before anything is trained.

Everything else of Lightning's that works by itself works here; tests/test_lightning_features.py has the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
    SpikeDetection,
    StochasticWeightAveraging,
)

from adlightning.core.training_state.callbacks import callbacks_of

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

_TUNED = "would train with another value than config.yaml says, found by steps of its own in the first epoch"

REFUSED: dict[type[Callback], str] = {
    StochasticWeightAveraging: "trains an epoch more, with a learning rate of its own, across phases: WeightAveraging "
    "and EMAWeightAveraging average weights",
    LearningRateFinder: f"{_TUNED}: run fits with several values of model.optimizer.lr (model.generator_optimizer.lr "
    "and the like where there are several optimisers), or a sweep",
    BatchSizeFinder: f"{_TUNED}: give data.batch_size; scoring takes smaller parts by itself where memory is full",
    ModelPruning: "looks for weights before networks are built for the data, and changes them after a centre, moments "
    "or a threshold were fitted to them",
    BackboneFinetuning: "freezes a part named backbone before networks are built for the data: with "
    "model.encoder=TorchvisionEncoder or TimmEncoder, model.encoder.weights starts from pretrained ones and "
    "model.encoder.frozen keeps them",
}
"""Callbacks by class, of any subclass too, and why they are refused."""

BY_HAND: dict[type[Callback], str] = {
    GradientAccumulationScheduler: "accumulates gradients of one optimiser",
    SpikeDetection: "watches the loss of one optimiser",
}
"""Callbacks that need a method whose steps are Lightning's own."""

OPTIONS_BY_HAND: dict[str, tuple[object, str]] = {
    "gradient_clip_val": ((None, 0), "model.max_gradient_norm bounds each player's gradients"),
    "accumulate_grad_batches": ((1,), "give a larger data.batch_size"),
}
"""Options of the trainer, what leaves them off, and what to give in their place where steps are taken by hand."""


def require_supported(detector: AnomalyDetector) -> None:
    """Refuse what of the trainer does not work with a detector, or with one of this kind.

    Raises:
        ValueError: naming the callback or option, and why.
    """
    name, by_hand = type(detector).__name__, not detector.automatic_optimization
    for callback in callbacks_of(detector.trainer):
        for kind, reason in {**REFUSED, **(BY_HAND if by_hand else {})}.items():
            if isinstance(callback, kind):
                of = f", and {name} has several" if kind in BY_HAND else ""
                raise ValueError(f"trainer.callbacks: {type(callback).__name__} is refused: it {reason}{of}")
    if not by_hand:
        return
    for option, (off, instead) in OPTIONS_BY_HAND.items():
        given = getattr(detector.trainer, option)
        if given not in off:  # type: ignore[operator]
            several = f"trainer.{option} must not be given for {name}, which has several optimisers"
            raise ValueError(f"{several}: {instead}; got {given}")
