"""What is fitted to the training data once, after the last step: estimators, Dirichlet distributions, centres."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from adlightning.core.collapse import check_weights
from adlightning.core.contracts import KNOWN_ANOMALY, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.scoring import evaluating


class FittedDetector(AnomalyDetector):
    """A detector whose score needs a fit to the weights at the end of training; there are no scores before it.

    The fit comes after the last step and before the last validation, threshold and checkpoint, which hold it. Where
    training ends earlier than was planned, it comes then. Every rank fits alike, on all training samples.
    """

    @abstractmethod
    def fit_on_training_data(self) -> None:
        """Fit to the training samples (:meth:`training_data`), in eval mode and without gradients."""

    def fitting_normals(self) -> Iterator[Tensor]:
        """Raw training samples (B, ...) that are no known anomalies, batch by batch; a trial takes one batch."""
        normals = (batch.x[batch.known != KNOWN_ANOMALY] for batch in self.training_data())
        return islice(filter(len, normals), 1 if self.is_trial else None)

    def first_scored(self) -> int:
        """The last epoch, which ends with the fit; the first where nobody knows which is the last."""
        return max(super().first_scored(), (self.trainer.max_epochs or 0) - 1)

    @abstractmethod
    def forget_fit(self) -> None:
        """Forget the fit to earlier weights: an epoch begins that moves them."""

    def in_last_epoch(self) -> bool:
        """Whether no epoch follows the current one."""
        return self.trainer.should_stop or self.current_epoch + 1 == self.trainer.max_epochs

    def on_train_epoch_start(self) -> None:
        """A fit that goes on moves the weights."""
        super().on_train_epoch_start()
        self.forget_fit()

    def on_train_batch_end(self, outputs: Any, batch: TrainBatch, batch_idx: int) -> None:
        """After the last step, fit."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        trainer = self.trainer
        if (trainer.is_last_batch and self.in_last_epoch()) or trainer.global_step == trainer.max_steps:
            self._fit()

    def set_threshold(self) -> bool:
        """As every detector does, once the fit is there."""
        if not self.ready_to_score():
            self._fit()
        return super().set_threshold()

    def _fit(self) -> None:
        # an estimator would fail without a reason
        check_weights(self.parameters(), self.current_epoch, self.likely_cause())
        if self.trainer.world_size > 1:  # each rank has its own BatchNorm statistics until the next step
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)
        with evaluating(self):
            self.fit_on_training_data()
