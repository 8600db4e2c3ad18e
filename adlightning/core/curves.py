"""Values of every training step, kept where they were computed until an epoch ends."""

from __future__ import annotations

import torch
from torch import Tensor


class StepCurves:
    """What a detector records of each step, by name: no host synchronisation before the epoch's end.

    `rows` holds what was taken over so far: a step's number and its values, by name.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._pending: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, step: int, **values: Tensor) -> None:
        """Keep a step's scalar values, detached; the same names in every step."""
        self._pending.append((step, {name: value.detach() for name, value in values.items()}))

    def end_epoch(self) -> dict[str, float]:
        """Take over the pending steps; their means, by name, empty when there were none."""
        if not self._pending:
            return {}
        steps, values = zip(*self._pending, strict=True)
        columns = {name: torch.stack([row[name] for row in values]).double().tolist() for name in values[0]}
        self._pending = []
        self.rows += [
            {"step": step, **{name: column[i] for name, column in columns.items()}} for i, step in enumerate(steps)
        ]
        return {name: sum(column) / len(column) for name, column in columns.items()}
