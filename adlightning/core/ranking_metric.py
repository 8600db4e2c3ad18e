"""The ranking metrics as torchmetrics metrics, and torchmetrics' own on ranks: for any LightningModule.

torchmetrics squashes scores with a sigmoid when one of a batch lies outside [0, 1], batch by batch, so that its curve
metrics are wrong on raw anomaly scores. :class:`Ranked` hands such a metric the ranks of all scores, which it leaves as
they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from adlightning.core.metrics import NoRanking, ranking_metrics
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

NAMES = tuple(ranking_metrics(np.array([0.0, 1.0]), np.array([NORMAL, ANOMALY])))
"""Of :func:`adlightning.core.metrics.ranking_metrics`."""


class _Gathered(Metric):
    """Keeps raw scores (N,) and labels (N,) over batches and ranks."""

    is_differentiable = False
    full_state_update = False
    scores: list[Tensor] | Tensor
    labels: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch: scores `preds` (B,), higher for more anomalous, and labels `target` (B,) in {0, 1, -1}.

        Raises ValueError for other shapes.
        """
        if preds.ndim != 1 or preds.shape != target.shape:
            raise ValueError(f"preds and target must both have shape (B,), got {preds.shape} and {target.shape}")
        assert isinstance(self.scores, list)
        assert isinstance(self.labels, list)
        self.scores.append(preds.detach().to(self._exact(preds.device)))
        self.labels.append(target.detach().long())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather all ranks. One that saw nothing takes part with empty columns of the right types."""
        if isinstance(self.scores, list) and not self.scores:
            nothing = torch.empty(0, device=self.device)
            self.update(nothing, nothing)
        super().sync(*args, **kwargs)

    def gathered(self) -> tuple[Tensor, Tensor]:
        """All scores and labels."""
        if not len(self.scores):
            nothing = torch.empty(0, device=self.device)
            return nothing.to(self._exact(nothing.device)), nothing.long()
        return dim_zero_cat(self.scores), dim_zero_cat(self.labels)

    def _exact(self, device: torch.device) -> torch.dtype:
        return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


class RankingMetric(_Gathered):
    """One of :func:`adlightning.core.metrics.ranking_metrics`, over all batches and ranks, on raw scores of any scale.

    :meth:`compute` gives a scalar, float64 where the device has it: NaN while normal samples or anomalies are missing.

    Args:
        name: one of :data:`NAMES`.
        kwargs: of torchmetrics' `Metric`.

    Raises:
        ValueError: another name.

    Example:
        >>> import torch
        >>> from adlightning.core.ranking_metric import RankingMetric
        >>> metric = RankingMetric("auroc")
        >>> metric.update(torch.tensor([20.0, 35.0, 25.0]), torch.tensor([0, 1, 0]))
        >>> metric.update(torch.tensor([40.0, 22.0]), torch.tensor([1, 1]))
        >>> round(metric.compute().item(), 4)
        0.8333
    """

    def __init__(self, name: str = "auroc", **kwargs: Any) -> None:
        if name not in NAMES:
            raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
        super().__init__(**kwargs)
        self.name = name

    @property
    def higher_is_better(self) -> bool:  # type: ignore[override]  # torchmetrics' is an attribute of the class
        """Whether more of it is better."""
        return not self.name.startswith("fpr")

    def compute(self) -> Tensor:
        """The metric, a scalar."""
        scores, labels = self.gathered()
        try:
            value = ranking_metrics(scores.cpu().numpy(), labels.cpu().numpy())[self.name]
        except NoRanking:
            value = math.nan
        return torch.tensor(value, dtype=self._exact(scores.device), device=scores.device)


class Ranked(_Gathered):
    """A binary metric of torchmetrics that depends on ranks alone, made right for raw scores of any scale.

    It gets the rank of each score among all distinct ones, between 0 and 1, in one batch; ties stay ties, samples
    without label are left out. Thresholds that it gives back are ranks. Values have torchmetrics' precision, float32.

    Args:
        metric: `BinaryAUROC()`, `BinaryAveragePrecision()`, `BinarySensitivityAtSpecificity(0.95)`, `BinaryROC()`, ...;
            a copy is used.
        kwargs: of torchmetrics' `Metric`.

    Example:
        >>> import torch
        >>> from torchmetrics.classification import BinaryAUROC
        >>> from adlightning.core.ranking_metric import Ranked
        >>> scores, labels = torch.tensor([20.0, 25.0, 35.0, 40.0]), torch.tensor([0, 0, 1, 1])
        >>> BinaryAUROC()(scores, labels)
        tensor(0.5000)
        >>> Ranked(BinaryAUROC())(scores, labels)
        tensor(1.)
    """

    def __init__(self, metric: Metric, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.metric = metric.clone()
        self.metric.sync_on_compute = False  # what it gets is of all ranks

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]  # torchmetrics' is an attribute of the class
        """What the metric says of it."""
        return self.metric.higher_is_better

    def compute(self) -> Any:
        """What the metric says."""
        scores, labels = self.gathered()
        scores, labels = scores[labels != NO_LABEL], labels[labels != NO_LABEL]
        levels, rank = torch.unique(scores, return_inverse=True)
        self.metric.reset()
        self.metric.update(rank.to(scores.dtype) / max(len(levels) - 1, 1), labels)
        return self.metric.compute()


def ranking_collection(names: Sequence[str] = NAMES, prefix: str | None = None) -> MetricCollection:
    """Several :class:`RankingMetric` that share one copy of the scores, by name: for `self.log_dict`.

    Args:
        names: some of :data:`NAMES`.
        prefix: before each name: `val/`.

    Raises:
        ValueError: a name that there is not.
    """
    metrics: dict[str, Metric | MetricCollection] = {name: RankingMetric(name) for name in names}
    return MetricCollection(metrics, prefix=prefix, compute_groups=[list(names)])
