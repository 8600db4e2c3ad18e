"""Columns of a table as features: missing values filled, categories as numbers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from adlightning.preprocessing.base import Preprocessing


class EncodeColumns(Preprocessing):
    """Raw rows (B, D), with NaN where a value is missing, to features (B, D'): numbers, then categories, then marks.

    Nothing is fitted here: what it needs is part of the input that a checkpoint describes.

    Args:
        shape: (D,).
        fills: one a column, what stands for a missing value; empty where none may be missing.
        indicators: numbers of the columns of which a feature says whether the value was missing.
        one_hot: pairs of a column and the number of its categories: a feature for each says whether it is the value. A
            value that is the number of none makes all of them 0.
    """

    kinds: ClassVar[tuple[str, ...]] = ("table",)
    output = "linear"
    filled: Tensor
    kept: Tensor
    marked: Tensor
    hot_columns: Tensor
    hot_codes: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        fills: Sequence[float] = (),
        indicators: Sequence[int] = (),
        one_hot: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__(shape)
        hot = dict(one_hot)
        pairs = [(column, code) for column, n in one_hot for code in range(n)]
        indices = {
            "kept": [column for column in range(shape[0]) if column not in hot],
            "marked": list(indicators),
            "hot_columns": [column for column, _ in pairs],
        }
        for name, columns in indices.items():
            self.register_buffer(name, torch.tensor(columns, dtype=torch.int64), persistent=False)
        codes = torch.tensor([float(code) for _, code in pairs])
        self.register_buffer("hot_codes", codes, persistent=False)
        self.register_buffer("filled", torch.tensor(list(fills) or [0.0] * shape[0]), persistent=False)
        self.fills_any = bool(fills)

    def output_shape(self) -> tuple[int, ...]:
        """(D',)."""
        return (len(self.kept) + len(self.hot_codes) + len(self.marked),)

    def forward(self, x: Tensor) -> Tensor:
        """Features in float32, without NaN where fills are given."""
        x = x.float()
        values = torch.where(x.isnan(), self.filled, x) if self.fills_any else x
        parts = [values[:, self.kept]]
        if len(self.hot_codes):
            parts.append((values[:, self.hot_columns] == self.hot_codes).float())
        if len(self.marked):
            parts.append(x[:, self.marked].isnan().float())
        return torch.cat(parts, dim=1)
