"""A detector that no gradient trains: one epoch in which nothing moves, then a fit to the training samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import SGD

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.scoring import evaluating

FOLDS = 5
"""In which training samples are left out in turn, where a threshold needs their scores and nothing is held out."""


class FittedOnce(AnomalyDetector):
    """What is the same for all detectors that are fitted and not trained.

    A method writes :meth:`fit_to_normals`, `ready_to_score`, `forget_fit` and `anomaly_score`; its :meth:`build` calls
    its `super()`.
    """

    uses_known_anomalies = False
    fits_at_end = True
    scores_left_out = True
    _fold: tuple[int, int] | None = None  # which of how many parts a fit leaves out

    @abstractmethod
    def fit_to_normals(self) -> None:
        """Fit to the normal training samples (`normal_data`), in eval mode and without gradients."""

    def build(self, shape: tuple[int, ...]) -> None:
        """A weight that nothing moves: Lightning saves no checkpoint before a step."""
        self.idle = nn.Parameter(torch.zeros(()))

    def configure_optimizers(self) -> Any:
        """Steps that move nothing."""
        return SGD([self.idle], lr=0.0)

    def trains_by_gradient(self) -> bool:
        """Nothing is trained."""
        return False

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Nothing."""
        return 0 * self.idle

    def on_train_batch_end(self, outputs: Any, batch: TrainBatch, batch_idx: int) -> None:
        """A loss that is always 0 is worth no curve."""
        super().on_train_batch_end(None, batch, batch_idx)

    def first_scored(self) -> int:
        """The first epoch is the last."""
        return 0

    def in_last_epoch(self) -> bool:
        """Nothing follows an epoch that trains nothing."""
        return True

    def fit_on_training_data(self) -> None:
        """The fit, and the end of the training."""
        self.trainer.should_stop = True
        with torch.autocast(self.device.type, enabled=False):
            self.fit_to_normals()

    # ---- scores of training samples by fits that lack them ----------------------------------------------------------

    def normal_data(self) -> Iterator[Tensor]:
        """Raw normal training samples, without those of the fold that is left out, if one is."""
        if self._fold is None:
            return super().normal_data()
        return (kept for x, left_out in self._by_fold(*self._fold) if len(kept := x[~left_out]))

    def _by_fold(self, fold: int, folds: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of normal samples, and which of them (B,) are in a fold: every so-many-th."""
        first = 0
        for x in super().normal_data():
            yield x, torch.arange(first, first + len(x), device=x.device) % folds == fold
            first += len(x)

    def training_scores(self) -> NDArray[np.float64]:
        """Scores of normal training samples, each by a fit to the other folds: its own fit knows it by heart."""
        n = sum(len(x) for x in super().normal_data())
        if self.is_trial or n < 2 * FOLDS:
            return super().training_scores()
        fitted = {name: buffer.clone() for name, buffer in self.named_buffers(recurse=False)}
        scores = np.empty(n)
        try:
            with evaluating(self), torch.autocast(self.device.type, enabled=False):
                for fold in range(FOLDS):
                    self._fold = (fold, FOLDS)
                    self.forget_fit()
                    self.fit_to_normals()
                    raw = (part for x, left_out in self._by_fold(fold, FOLDS) if len(part := x[left_out]))
                    scores[fold::FOLDS] = self.scores_of(raw)
        finally:
            self._fold = None
            for name, buffer in fitted.items():
                setattr(self, name, buffer)
        return scores
