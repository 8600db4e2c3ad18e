"""The table that gathers scores over batches and ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from adlightning.core.metrics import ScoredSamples


class ScoreTable(Metric):
    """Gathers every sample's raw score once, over batches and ranks; :meth:`compute` gives :class:`ScoredSamples`.

    A sample that came more than once (a distributed sampler repeats some) keeps its first row. A rank, or all, may
    have seen no sample.
    """

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]
    index: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("scores", "labels", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add a batch: `scores`, `labels` and `index`, all (B,). Raises ValueError for other shapes."""
        if scores.ndim != 1 or not scores.shape == labels.shape == index.shape:
            shapes = f"{tuple(scores.shape)}, {tuple(labels.shape)}, {tuple(index.shape)}"
            raise ValueError(f"scores, labels and index must all have shape (B,), got {shapes}")
        # One dtype for all ranks, which holds every score exactly; Apple's GPUs have no float64.
        exact = torch.float32 if scores.device.type == "mps" else torch.float64
        self.scores.append(scores.detach().to(exact))
        self.labels.append(labels.detach().to(torch.int64))
        self.index.append(index.detach().to(torch.int64))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather all ranks. One that saw nothing takes part with empty columns of the right types.

        Left to itself, torchmetrics would send empty float32 columns, which do not match the others' types.
        """
        if not self.index:
            nothing = torch.empty(0, device=self.device)
            self.scores.append(nothing.double() if self.device.type != "mps" else nothing)
            self.labels.append(nothing.long())
            self.index.append(nothing.long())
        super().sync(*args, **kwargs)

    def compute(self) -> ScoredSamples:
        """All samples seen, in the order of their indices, as numpy arrays."""
        columns = (self.scores, self.labels, self.index)  # a tensor each after a sync over ranks, a list otherwise
        scores, labels, index = (torch.cat(c) if isinstance(c, list) else c for c in columns)
        unique, first = np.unique(index.cpu().numpy(), return_index=True)
        return ScoredSamples(scores.cpu().double().numpy()[first], labels.cpu().numpy()[first], unique)
