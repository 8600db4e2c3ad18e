"""What every kind of split is made of: its parts, its ratios, its random streams, and how training is composed.

The kinds are in splits.py, whose conventions hold here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adlightning.labels import ANOMALY, KNOWN_ANOMALY, KNOWN_NORMAL, NO_LABEL, UNLABELLED

Indices = NDArray[np.int64]

ROUNDING = 1e-9  # 0.3 * 10 and the like must not lose a sample to floating point


@dataclass(frozen=True)
class Split:
    """Indices of a training, a validation and a test set. All arrays are int64 and one-dimensional.

    Args:
        train: indices into the training part. An anomaly drawn both as a labelled one and as a polluter is in it twice.
        known: what training may know of each entry of `train`: +1 known normal, 0 unlabelled, -1 known anomaly.
        validation: indices into the training part, disjoint from `train`.
        validation_labels: 0 normal, 1 anomaly, -1 not labelled.
        test: indices into the test part or, where there is one part only, into that part, disjoint from the others.
        test_labels: 0 normal, 1 anomaly, -1 not labelled.
        held_out_unlabelled: indices into the training part of unlabelled samples that are neither trained on nor in
            `validation`, for detectors that compare held-out samples of both kinds.
        unused_anomalies: indices into the training part of anomalies that the protocol leaves out of training and
            validation.
    """

    train: Indices
    known: Indices
    validation: Indices
    validation_labels: Indices
    test: Indices
    test_labels: Indices
    held_out_unlabelled: Indices = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    unused_anomalies: Indices = field(default_factory=lambda: np.empty(0, dtype=np.int64))


def labelled_and_polluting_counts(
    n_normal: int, labelled_ratio: float, pollution_ratio: float, n_known_normal: int = 0
) -> tuple[int, int]:
    """Numbers of labelled anomalies m and of polluters n_out that go with `n_normal` training normals.

    Solves labelled_ratio = m / (n + m) and pollution_ratio = n_out / n with n = n_normal + n_out over the reals and
    truncates. Of the normals `n_known_normal` may be labelled: they are in the training set, and not in what is
    polluted. Source: Ruff et al., Deep Semi-Supervised Anomaly Detection, ICLR 2020, section 4, and its released code,
    whose counts these are: what is a whole number but for floating point, 80.99999999999999, loses one there as well.
    """
    polluting = (n_normal - n_known_normal) * pollution_ratio / (1 - pollution_ratio)
    labelled = (n_normal * labelled_ratio + polluting * labelled_ratio) / (1 - labelled_ratio)
    return int(labelled), int(polluting)


def labelled_normal_count(n_normal: int, normal_ratio: float, labelled_ratio: float, pollution_ratio: float) -> int:
    """How many of `n_normal` training normals are known to be normal: the share `normal_ratio` of the training set.

    The other ratios are those of :func:`labelled_and_polluting_counts`, and hold at once. So normal_ratio +
    labelled_ratio is the paper's gamma_l = m / (n + m), with n unlabelled and m labelled samples of both kinds. Solved
    over the reals and truncated.
    """
    unlabelled_normals = (1 - pollution_ratio) * (1 - normal_ratio - labelled_ratio)
    return int(normal_ratio * n_normal / (normal_ratio + unlabelled_normals) + ROUNDING)


@dataclass(frozen=True)
class Protocol:
    """What the kinds of split have in common, checked."""

    labelled_anomaly_ratio: float | None
    pollution_ratio: float
    validation_fraction: float
    validation_anomalies: int
    labelled_normal_ratio: float = 0.0

    def __post_init__(self) -> None:
        for name in ("labelled_anomaly_ratio", "pollution_ratio", "validation_fraction", "labelled_normal_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value}")
        labelled = self.labelled_normal_ratio + (self.labelled_anomaly_ratio or 0)
        if labelled >= 1:
            raise ValueError(
                f"labelled_normal_ratio and labelled_anomaly_ratio must sum to less than 1, got {labelled}"
            )
        if self.labelled_anomaly_ratio is None and self.pollution_ratio > 0:
            raise ValueError(f"pollution_ratio must be 0 if labelled_anomaly_ratio is None, got {self.pollution_ratio}")
        if self.validation_anomalies < 0:
            raise ValueError(f"validation_anomalies must not be negative, got {self.validation_anomalies}")


class Streams:
    """One independent generator for each kind of draw, so that changing one draw leaves the others as they were."""

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must lie in [0, 2**32), got {seed}")
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
        self.parts, self.held_out, self.held_out_anomalies, self.labelled, self.polluting, self.classes = streams
        # the 16th: other draws, of splits.py and below, have taken those in between
        self.known_normals = np.random.default_rng(np.random.SeedSequence(seed).spawn(16)[15])


def compose(
    y: Indices, pool: Indices, labellable: NDArray[np.bool_], protocol: Protocol, streams: Streams
) -> tuple[Indices, Indices, Indices, Indices]:
    """The first four fields of a split, drawn from `pool`, indices into the labels `y`; `labellable` masks `y`."""
    labelled_ratio, pollution_ratio = protocol.labelled_anomaly_ratio, protocol.pollution_ratio
    normals, anomalies = pool[y[pool] != ANOMALY], pool[y[pool] == ANOMALY]
    if not len(normals):
        raise ValueError("the training part must hold a sample that is not labelled an anomaly, it holds none")
    n_held_out = math.floor((fraction := protocol.validation_fraction) * len(normals) + ROUNDING)
    if fraction > 0 and not 0 < n_held_out < len(normals):
        whole = f"{fraction} of {len(normals)} samples"
        least = f"{math.ceil(1000 / len(normals)) / 1000:g} holds out one, " if len(normals) > 1 else ""
        raise ValueError(
            f"validation_fraction must leave a training and a validation sample, got {whole}: {least}0 none"
        )
    held_out = np.sort(streams.held_out.permutation(normals)[:n_held_out])
    not_held_out = streams.known_normals.permutation(normals)
    not_held_out = not_held_out[~np.isin(not_held_out, held_out)]
    normals = np.setdiff1d(normals, held_out)

    if labelled_ratio is None:
        unused = streams.held_out_anomalies.permutation(anomalies)
    else:
        normal_ratio, ratios = protocol.labelled_normal_ratio, (labelled_ratio, pollution_ratio)
        n_known = labelled_normal_count(len(normals), normal_ratio, *ratios)
        known_normals = _first("labelled_normal_ratio", normal_ratio, n_known, not_held_out)
        n_labelled, n_polluting = labelled_and_polluting_counts(len(normals), *ratios, n_known)
        candidates = streams.labelled.permutation(anomalies[labellable[anomalies]])
        labelled = _first("labelled_anomaly_ratio", labelled_ratio, n_labelled, candidates)
        candidates = streams.polluting.permutation(anomalies)
        polluting = _first("pollution_ratio", pollution_ratio, n_polluting, candidates)
        # Shuffled before it is filtered: a held-out anomaly changes only where training takes it.
        unused = streams.held_out_anomalies.permutation(anomalies)
        unused = unused[~np.isin(unused, np.concatenate([labelled, polluting]))]
    n = protocol.validation_anomalies
    held_out_anomalies = _first("validation_anomalies", n, n, unused)

    if labelled_ratio is None:
        train = np.setdiff1d(np.concatenate([normals, anomalies]), held_out_anomalies)
        known = np.array([1, KNOWN_ANOMALY, 0])[y[train]]  # y = -1, no label, takes the last
    else:
        train = np.concatenate([normals, polluting, labelled])
        known = np.where(np.isin(train, labelled), KNOWN_ANOMALY, 0)
        known[np.isin(train, known_normals)] = KNOWN_NORMAL
    validation = np.concatenate([held_out, held_out_anomalies])
    return train, known, validation, y[validation]


def _first(name: str, value: float, n: int, shuffled: Indices) -> Indices:
    """The first `n` of shuffled samples in ascending order, where `name=value` asks for `n`."""
    if value > 0 and n == 0:
        raise ValueError(f"{name} must amount to at least one sample, got {value}")
    if n > len(shuffled):
        raise ValueError(f"{name}={value} needs {n} training anomalies to draw from, there are {len(shuffled)}")
    return np.sort(shuffled[:n])


def with_unlabelled(
    split: Split, train_y: Indices, unlabelled: Indices, held_out_fraction: float = 0.0, seed: int = 0
) -> Split:
    """The split with its normal training samples known to be normal, and these rows beside them as unlabelled ones.

    For methods that contrast the two. Polluters were taken for normal, and are taken for known normal ones. Samples
    without label stay unlabelled, unless none has one: then all are taken for normal.

    Args:
        split: who trains, is held out and tested.
        train_y: labels of the training part, by row; -1 where there is none.
        unlabelled: rows of the training part; may be those of the test set where a protocol is transductive.
        held_out_fraction: share of all unlabelled samples that is held out of training, in [0, 1), rounded down.
        seed: of that draw.

    Raises:
        ValueError: a fraction that leaves no sample in one of the two parts.
    """
    is_labelled = train_y[split.train] != NO_LABEL
    is_normal = (split.known == UNLABELLED) & (is_labelled | ~is_labelled.any())
    known = np.concatenate([np.where(is_normal, KNOWN_NORMAL, split.known), np.full(len(unlabelled), UNLABELLED)])
    train = np.concatenate([split.train, unlabelled])
    places = np.flatnonzero(known == UNLABELLED)
    n_held_out = math.floor(held_out_fraction * len(places) + ROUNDING)
    if held_out_fraction and not 0 < n_held_out < len(places):
        whole = f"{held_out_fraction} of {len(places)} samples"
        raise ValueError(f"unlabelled_validation_fraction must leave a training and a held-out sample, got {whole}")
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(13)[12])  # apart from all other draws
    held_out = np.sort(rng.permutation(places)[:n_held_out])
    return replace(
        split,
        train=np.delete(train, held_out),
        known=np.delete(known, held_out),
        held_out_unlabelled=train[held_out],
    )


def check_classes(name: str, classes: Sequence[int], n_classes: int) -> list[int]:
    """The class indices in ascending order, each once. Raises ValueError for one outside [0, n_classes)."""
    for c in classes:
        if not 0 <= c < n_classes:
            raise ValueError(f"{name} must be class indices in [0, {n_classes}), got {c}")
    return sorted(set(classes))


def as_labels(name: str, y: ArrayLike, low: int, high: float) -> Indices:
    """`y` as int64, one-dimensional and in [low, high)."""
    array = np.asarray(y)
    if array.ndim != 1 or (array.dtype.kind not in "biu" and array.size):
        raise ValueError(f"{name} must be one-dimensional and integer, got shape {array.shape} of {array.dtype}")
    if len(wrong := array[(array < low) | (array >= high)]):
        raise ValueError(f"{name} must lie in [{low}, {high}), got {wrong[0]}")
    return array.astype(np.int64)
