"""Lightning's WeightAveraging for detectors: weights are averaged, what is fitted is left alone and fitted to averages.

Lightning's own callback averages every buffer, a centre and a threshold too, across the phases of a fit, and fits
nothing to what it put in the weights' place. A detector's fit therefore puts :class:`AveragedWeights` in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_swa_avg_fn

from adlightning.core.final_fit import ends_here
from adlightning.core.phases import epochs_before_objective
from adlightning.core.scoring import as_written, scoring
from adlightning.core.training_state.callbacks import callbacks_of

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector
    from adlightning.core.scored import ScoredModule


def average_weights_alone(detector: AnomalyDetector) -> None:
    """Put :class:`AveragedWeights` in the place of the trainer's callback that averages weights.

    Raises:
        ValueError: several such callbacks, or a detector that trains no weights, or scores by averages of its own.
    """
    callbacks, averaging = callbacks_of(detector.trainer), []
    for position, callback in enumerate(callbacks):
        given = callback.given if isinstance(callback, AveragedWeights) else callback
        if isinstance(given, WeightAveraging):
            averaging.append(type(given).__name__)
            callbacks[position] = AveragedWeights(given, detector)
    if len(averaging) > 1:
        raise ValueError(f"trainer.callbacks: one at most may average weights, got {', '.join(averaging)}")
    if averaging and not detector.trains_by_gradient():
        raise ValueError(
            f"trainer.callbacks: {averaging[0]} changes nothing: {type(detector).__name__} trains no weights"
        )
    if averaging and detector.own_averages:
        raise ValueError(
            f"trainer.callbacks: {averaging[0]} is refused: {type(detector).__name__} scores by averages of its own "
            f"({detector.own_averages})"
        )


class AveragedWeights(Callback):
    """Averages of the weights of the phase that is scored; they stand in the weights' place whenever something is said.

    What is averaged: weights that are trained, and nothing else. Preprocessing, centre, radius and the like are left as
    they are; running statistics of normalisations, where training moves them, belong to the weights, and are measured
    anew for the averages, on the training data. Validation, the threshold, what is fitted after the last step,
    checkpoints and the detector at the end have the averages; training goes on with the weights as they were trained,
    which a checkpoint holds beside them.

    Args:
        given: Lightning's callback: says when there is an update, and how it is made.
        detector: what is trained.
    """

    def __init__(self, given: WeightAveraging, detector: AnomalyDetector) -> None:
        self.given = given
        self.detector = detector
        self.updates, self.last_step = 0, 0
        self._averages: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}  # while averages are in their place
        self._measured = False  # whether statistics of normalisations are those of the averages then
        self._passed: dict[str, int] = {}  # batches that each normalisation had seen when training began

    def _weights(self) -> dict[str, Tensor]:
        named = self.detector.named_parameters()
        return {name: weight.detach() for name, weight in named if weight.requires_grad}

    def _replaced(self) -> dict[str, Tensor]:
        """What averages take the place of: weights, and statistics of normalisations."""
        statistics = {
            f"{place}.{name}": buffer
            for place, part in _normalisations(self.detector)
            for name, buffer in part.named_buffers(recurse=False)
        }
        return self._weights() | statistics

    # ---- averages -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _update(self) -> None:
        weights, options = self._weights(), self.given._kwargs
        homes = {name: self.given._device or weight.device for name, weight in weights.items()}
        current = [weight.to(homes[name]) for name, weight in weights.items()]
        if self.updates:
            averages = [self._averages.get(name, weights[name]).to(homes[name]) for name in weights]
            n, several = torch.tensor(self.updates), options.get("multi_avg_fn")
            if several is not None:
                several(averages, current, n)
            else:
                one: Callable[..., Tensor] = options.get("avg_fn") or get_swa_avg_fn()
                averages = [one(average, now, n) for average, now in zip(averages, current, strict=True)]
        else:
            averages = [now.clone() for now in current]
        self._averages = dict(zip(weights, averages, strict=True))
        self.updates += 1

    def show(self, measure: bool = True) -> None:
        """Averages take the weights' place until training goes on, once there are any.

        Args:
            measure: measure statistics of normalisations for them.
        """
        if not self.updates:
            return
        if not self._trained:
            self._trained = {name: value.clone() for name, value in self._replaced().items()}
            self._measured = False
            _copy(self._averages, self._weights())
        if measure and not self._measured:
            measure_statistics(self.detector, self._moved())
            self.detector.fit_to_weights()
            self._measured = True

    def _moved(self) -> list[_NormBase]:
        """Normalisations whose statistics training moves, which those of a frozen encoder are not."""
        return [part for name, part in _normalisations(self.detector) if _batches(part) != self._passed[name]]

    def _hide(self) -> None:
        """The weights as they were trained are back in their place."""
        if self._trained:
            _copy(self._trained, self._replaced())
            self._trained, self._measured = {}, False

    # ---- Lightning's hooks ----------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a detector for whose averages normalisations cannot be measured. Raises ValueError."""
        needs = None if self.detector.fits_at_end else self.detector.score_needs
        if needs is not None and any(_normalisations(self.detector)):
            raise ValueError(
                f"trainer.callbacks: {type(self.given).__name__} is refused: the networks have BatchNorms, whose "
                f"statistics must be measured for averages of weights, and a score of {type(self.detector).__name__} "
                f"needs {needs}"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where a fit begins, or goes on."""
        self.last_step = trainer.global_step
        self._passed = {name: _batches(part) for name, part in _normalisations(self.detector)}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with what was trained."""
        self._hide()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Go on with what was trained, after a validation or a checkpoint within an epoch."""
        self._hide()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update when the callback says so, in the phase that is scored; after the last step, averages are shown."""
        step, epoch, last = trainer.global_step, trainer.current_epoch, ends_here(self.detector)
        if epoch >= epochs_before_objective(self.detector):
            if step > self.last_step and self.given.should_update(step_idx=step - 1):
                self._update()
                self.last_step = step
            if (trainer.is_last_batch or last) and self.given.should_update(epoch_idx=epoch):
                self._update()
        if last:
            self.show()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Averages are what is validated; where a score is fitted at the end, there may be nothing to validate."""
        within_fit = trainer.state.fn == "fit" and not trainer.sanity_checking
        if within_fit and trainer.current_epoch >= self.detector.first_scored():
            self.show()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Averages stay; where training ends sooner than planned, everything fitted is fitted to them.

        Where the callback asked for none, the detector is what was trained last, which is said.
        """
        if not self.updates:
            rank_zero_warn(
                f"{type(self.given).__name__} took no average in {trainer.global_step} steps: weights are those of the "
                "last one. Its options say when it begins, and how often it takes one."
            )
        if self.updates and not self._measured:
            self.show()
            self.detector.forget_fits()

    def state_dict(self) -> dict[str, Any]:
        """How far averages have come, and the weights as they were trained."""
        trained = self._trained or {name: value.clone() for name, value in self._replaced().items()}
        return {"updates": self.updates, "trained": trained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take both from a checkpoint, whose averages the detector has loaded as its weights."""
        self.updates = state_dict["updates"]
        self._averages = {name: weight.clone() for name, weight in self._weights().items()}
        _copy(state_dict["trained"], self._replaced())


def show_averages(detector: ScoredModule) -> None:
    """Put averages in the place of a detector's weights, and so of its state_dict, where a fit takes any."""
    for callback in callbacks_of(detector.trainer):
        if isinstance(callback, AveragedWeights):
            callback.show(measure=not callback.detector.fits_at_end)  # else no score is known yet, or it was measured


def measure_statistics(detector: AnomalyDetector, parts: list[_NormBase]) -> None:
    """Measure running statistics of normalisations anew for the weights as they are, on all training samples.

    In a pass of the score over them, or of the fit at the end, whose samples are not changed by any transform. A
    normalisation that has no part in it keeps what it has.
    """
    if not parts:
        return
    before = [(part.momentum, {name: value.clone() for name, value in part.named_buffers()}) for part in parts]
    try:
        with scoring(detector), detector.trainer.precision_plugin.forward_context():
            for part in parts:
                part.reset_running_stats()
                part.momentum = None  # the mean over all batches
                part.train()
            if detector.fits_at_end:
                detector.fit_on_training_data()
                detector.forget_fit()
            else:
                score = as_written(detector)
                for batch in detector.training_data():
                    if len(batch.x) > 1:  # one alone cannot be normalised
                        score(batch.x)
    finally:
        for part, (momentum, buffers) in zip(parts, before, strict=True):
            part.momentum = momentum
            if not _batches(part):
                _copy(buffers, dict(part.named_buffers()))


def _normalisations(detector: AnomalyDetector) -> Iterator[tuple[str, _NormBase]]:
    """Normalisations with running statistics, by name."""
    for name, part in detector.named_modules():
        if isinstance(part, _NormBase) and part.track_running_stats:
            yield name, part


def _batches(part: _NormBase) -> int:
    """How many batches its statistics are of."""
    return 0 if part.num_batches_tracked is None else int(part.num_batches_tracked)


def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, value in source.items():
        target[name].copy_(value)
