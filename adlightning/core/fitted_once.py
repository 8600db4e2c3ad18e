"""A detector that no gradient trains: one epoch in which nothing moves, then a fit to the training samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector


class FittedOnce(AnomalyDetector):
    """What is the same for all detectors that are fitted and not trained.

    A method writes :meth:`fit_to_normals`, `ready_to_score`, `forget_fit` and `anomaly_score`; its :meth:`build` calls
    its `super()`.
    """

    uses_known_anomalies = False
    fits_at_end = True

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
