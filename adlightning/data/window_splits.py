"""Which rows of a table over time are trained on, held out and tested: pure functions from groups to stretches.

No row is in two parts, so that no window is, as long as it lies within one stretch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adlightning.core.windows import Rows, window_starts
from adlightning.data.composition import ROUNDING
from adlightning.data.sources.sensor_table import Stretch

WindowSplit = Literal["time", "group"]


@dataclass(frozen=True)
class Stretches:
    """What is trained on, held out of training, and tested: rows of a table, which no two of them share."""

    train: tuple[Stretch, ...]
    validation: tuple[Stretch, ...]
    test: tuple[Stretch, ...]


def split_by_time(groups: Sequence[Stretch], test_fraction: float, validation_fraction: float) -> Stretches:
    """Of each group the last `test_fraction` of its rows is tested, and of the others the last part is held out.

    Args:
        groups: where each group lies.
        test_fraction: in [0, 1); rounded up.
        validation_fraction: of the rows that are not tested, in [0, 1); rounded up.
    """
    train, validation, test = [], [], []
    for group, start, stop in groups:
        first_tested = stop - math.ceil(test_fraction * (stop - start) - ROUNDING)
        first_held_out = first_tested - math.ceil(validation_fraction * (first_tested - start) - ROUNDING)
        train.append(Stretch(group, start, first_held_out))
        validation.append(Stretch(group, first_held_out, first_tested))
        test.append(Stretch(group, first_tested, stop))
    return Stretches(*(tuple(part for part in parts if len(part)) for parts in (train, validation, test)))


def split_by_group(
    groups: Sequence[Stretch], anomalous: Sequence[bool], test_fraction: float, validation_fraction: float, seed: int
) -> Stretches:
    """Whole groups are tested; of the others the last rows are held out, as in :func:`split_by_time`.

    Of the groups with an anomaly, and of those without, `test_fraction` is drawn, rounded up.

    Args:
        groups: where each group lies.
        anomalous: whether a group holds an anomaly.
        test_fraction: in [0, 1).
        validation_fraction: of the rows of each other group, in [0, 1); rounded up.
        seed: of the draw.

    Raises:
        ValueError: no group is left to train on.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(18)[17])  # apart from all other draws
    tested: set[int] = set()
    for kind in (False, True):
        of_kind = [i for i, has in enumerate(anomalous) if has == kind]
        n = math.ceil(test_fraction * len(of_kind) - ROUNDING)
        tested |= {of_kind[i] for i in rng.permutation(len(of_kind))[:n]}
    if len(tested) == len(groups):
        raise ValueError(
            f"split=group must leave a group to train on, test_fraction={test_fraction} of {len(groups)} groups takes "
            f"all: give more groups, or split=time"
        )
    others = split_by_time([g for i, g in enumerate(groups) if i not in tested], 0.0, validation_fraction)
    return Stretches(others.train, others.validation, tuple(g for i, g in enumerate(groups) if i in tested))


def starts_in(stretches: Sequence[Stretch], length: int, stride: int) -> Rows:
    """First rows of the windows that lie within one of these stretches, ascending."""
    found = [stretch.start + window_starts(len(stretch), length, stride) for stretch in stretches]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *found]))
