"""Known normals beside unlabelled samples, for methods that contrast the two: transductive and inductive protocols.

In the density-ratio paper (Section 5.2) the unlabelled samples are the test set itself: what is scored was trained on,
without its labels. The inductive twins train on other unlabelled samples than are scored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from adlightning.data.composition import ROUNDING, Indices, Split, with_unlabelled
from adlightning.data.joining import chosen, joined, rows_not_among
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources.base import AnomalySource, ClassSource, Samples, Source

Parts = tuple[Samples, Samples, Split, str]


class _Unlabelled(AnomalyDataModule):
    """Unlabelled samples among those of training, a share of them held out where that is asked for."""

    def __init__(self, unlabelled_validation_fraction: float = 0.0, **common: Any) -> None:
        super().__init__(**common)
        if not 0 <= unlabelled_validation_fraction < 1:
            raise ValueError(f"unlabelled_validation_fraction must lie in [0, 1), got {unlabelled_validation_fraction}")
        self.unlabelled_validation_fraction = unlabelled_validation_fraction

    def _with_unlabelled(self, split: Split, train_y: Indices, rows: Indices) -> Split:
        return with_unlabelled(split, train_y, rows, self.unlabelled_validation_fraction, self.effective_seed())

    def _with_rows_of_test(self, train: Samples, test: Samples, split: Split, rows: Indices, words: str) -> Parts:
        """Rows of the test part join the training part, as unlabelled samples."""
        if test is train:
            return train, test, self._with_unlabelled(split, train.y, rows), words
        both = joined(train, test)
        return both, test, self._with_unlabelled(split, both.y, len(train.y) + rows), words


class _Transductive(_Unlabelled):
    """The test set of any datamodule, without its labels, among its training samples."""

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.protocol = _instead_of(self.protocol, "transductive")

    def make_split(self) -> Parts:
        """The split, and its test set beside it."""
        train, test, split, words = super().make_split()  # type: ignore[safe-super]  # of the class it is mixed into
        if not len(split.test):
            raise ValueError(f"there is no test set to train on without labels: {words} has none")
        return self._with_rows_of_test(train, test, split, split.test, f"{words}, unlabelled: the test set itself")


class _Inductive(_Unlabelled):
    """Samples of another source, or a share of the test set of any datamodule, among its training samples."""

    data_source: Source

    def __init__(
        self, unlabelled: ClassSource | AnomalySource | None = None, unlabelled_fraction: float = 0.5, **common: Any
    ) -> None:
        super().__init__(**common)
        if not 0 < unlabelled_fraction < 1:
            raise ValueError(f"unlabelled_fraction must lie in (0, 1), got {unlabelled_fraction}")
        self.unlabelled = unlabelled
        self.unlabelled_fraction = unlabelled_fraction
        self.protocol = _instead_of(self.protocol, "inductive")

    def prepare_data(self) -> None:
        """Download what is missing, when asked to; on one process."""
        super().prepare_data()
        if self.unlabelled is not None:
            self.unlabelled.prepare()

    def make_split(self) -> Parts:
        """The split, and the unlabelled samples beside it."""
        train, test, split, words = super().make_split()  # type: ignore[safe-super]  # of the class it is mixed into
        if self.unlabelled is None:
            rows, tested = _shared_out(split.test, self.unlabelled_fraction, self.effective_seed())
            labels = split.test_labels[np.isin(split.test, tested)]
            split = replace(split, test=tested, test_labels=labels)
            words = f"{words}, unlabelled: {len(rows)} of the test set"
            return self._with_rows_of_test(train, test, split, rows, words)
        if refusal := self.data_source.input_spec().refusal(self.unlabelled.input_spec()):
            raise ValueError(f"unlabelled: its samples must be like the source's; {refusal}")
        other = self.unlabelled.load("train")
        if other is None or not len(other.y):
            raise ValueError(f"unlabelled: {self.unlabelled.name} has no training samples")
        other = self._without_held_out(other, train, test, split)
        both, rows = joined(train, other, "unlabelled/"), len(train.y) + np.arange(len(other.y))
        split = self._with_unlabelled(split, both.y, rows)
        return both, both if test is train else test, split, f"{words}, unlabelled: {self.unlabelled.name}"

    def _without_held_out(self, other: Samples, train: Samples, test: Samples, split: Split) -> Samples:
        """The unlabelled samples but for those that are scored or held out, which they may contain."""
        assert self.unlabelled is not None
        for part, rows in ((test, split.test), (train, split.validation)):
            kept = rows_not_among(other, part, rows)
            if kept is not None:
                other = chosen(other, kept)
            elif (root := getattr(self.unlabelled, "root", None)) and root == getattr(self.data_source, "root", None):
                # images that are decoded lazily are not compared
                raise ValueError(f"unlabelled: its root must be another folder than the source's, got {root} for both")
        if not len(other.y):
            raise ValueError(f"unlabelled: all samples of {self.unlabelled.name} are tested or held out themselves")
        return other

    @property
    def tests_on_training_part(self) -> bool:
        """Whether training took samples of the part that is tested, so that the split must be the same."""
        return super().tests_on_training_part or self.unlabelled is None


class TransductiveOneVsAll(_Transductive, OneVsAll):
    """One class against all, the TEST SET, without its labels, being the unlabelled training samples.

    The protocol of the density-ratio paper (Section 5.2): normals of the training part are known to be normal, and what
    is scored was trained on. Result rows say `transductive`.

    Args:
        unlabelled_validation_fraction: share of the unlabelled samples that is held out of training, in [0, 1), for
            metrics without labels such as `val/divergence`; 0 trains on all of them.
        common: source, classes and ratios, as in :class:`OneVsAll`; batch sizes, validation share, seed and memory, as
            in :class:`AnomalyDataModule`.
    """


class TransductiveLabelled(_Transductive, AnomalyLabelled):
    """Data with anomaly labels, the TEST SET, without its labels, being the unlabelled training samples.

    As :class:`TransductiveOneVsAll`, for tables and folders. Training samples that have no label are unlabelled too,
    unless none has one: then all are taken for normal.

    Args:
        unlabelled_validation_fraction: share of the unlabelled samples that is held out of training, in [0, 1), for
            metrics without labels such as `val/divergence`; 0 trains on all of them.
        common: source, test set and ratios, as in :class:`AnomalyLabelled`; batch sizes, validation share, seed and
            memory, as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: `test_split: legacy_leaky`; by the split, data without a test set.
    """


class InductiveOneVsAll(_Inductive, OneVsAll):
    """One class against all, with unlabelled training samples that are not scored. Result rows say `inductive`.

    Args:
        unlabelled: a source all of whose training samples, of any class, are the unlabelled ones, but for those that
            equal a scored or held-out one; the whole test part is then scored. Null takes a share of the test part.
        unlabelled_fraction: that share, in (0, 1), drawn at random; the rest of the test part is scored.
        unlabelled_validation_fraction: share of the unlabelled samples that is held out of training, in [0, 1), for
            metrics without labels such as `val/divergence`; 0 trains on all of them.
        common: source, classes and ratios, as in :class:`OneVsAll`; batch sizes, validation share, seed and memory, as
            in :class:`AnomalyDataModule`.

    Raises:
        ValueError: a fraction outside its range; by the split, unlabelled samples of another kind or shape.
    """


class InductiveLabelled(_Inductive, AnomalyLabelled):
    """Data with anomaly labels, with unlabelled training samples that are not scored. Result rows say `inductive`.

    Training samples of the source that have no label are unlabelled too, unless none has one: then all are taken for
    normal.

    Args:
        unlabelled: a source all of whose training samples, whatever their labels, are the unlabelled ones, but for
            those that equal a scored or held-out one; the whole test set is then scored. Null takes a share of the test
            set.
        unlabelled_fraction: that share, in (0, 1), drawn at random; the rest of the test set is scored.
        unlabelled_validation_fraction: share of the unlabelled samples that is held out of training, in [0, 1), for
            metrics without labels such as `val/divergence`; 0 trains on all of them.
        common: source, test set and ratios, as in :class:`AnomalyLabelled`; batch sizes, validation share, seed and
            memory, as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: a fraction outside its range, or `test_split: legacy_leaky`; by the split, unlabelled samples of
            another kind or shape.
    """


def _instead_of(protocol: str, own: str) -> str:
    if protocol != "clean":
        raise ValueError(f"test_split: the {own} protocol needs a clean split, got one that is {protocol}")
    return own


def _shared_out(test: Indices, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """A random share of the test rows, rounded down, to train on without labels, and the others; both ascending."""
    n = int(fraction * len(test) + ROUNDING)
    if not 0 < n < len(test):
        raise ValueError(f"unlabelled_fraction must leave both parts a sample, got {fraction} of {len(test)} samples")
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(12)[11])  # apart from the streams of the splits
    shuffled = rng.permutation(test)
    return np.sort(shuffled[:n]), np.sort(shuffled[n:])
