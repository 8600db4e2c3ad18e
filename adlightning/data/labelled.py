"""Data that come with anomaly labels, or with none: the papers' tables, and your own images and tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adlightning.data.composition import Split
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import AnomalySource, Samples, Source
from adlightning.data.splits import all_anomalies_holdout, given_parts, legacy_leaky_holdout, stratified_holdout
from adlightning.labels import KNOWN_ANOMALY

TestSplit = Literal["stratified", "balanced", "half_normals", "legacy_leaky"]

_ALL_ANOMALIES: dict[str, Literal["as_many", "half"]] = {"balanced": "as_many", "half_normals": "half"}


class AnomalyLabelled(AnomalyDataModule):
    """A source whose samples come as normal, anomaly or not labelled; its own test part, or one held out of it.

    Args:
        source: an anomaly-labelled source: `Odds`, `Abalone`, `Epilepsy`, `Sine`, `NoisySine`, `Sphere`, `Paradigms`,
            `Table`, `AnomalyFile`, `NormalAnomalyFolder`.
        test_split: how the test set is held out of a source that has none: `stratified` keeps the share of anomalies;
            `balanced` is DROCC's: all anomalies and equally many normals are tested, the other normals train,
            unlabelled; `half_normals` that of DAGMM and GOAD: all anomalies and half of the normals; `legacy_leaky`
            repeats the fault of the released Deep SAD code, whose test set holds about
            60 % training samples (docs/methods/deep_sad.md, S2): for comparison with published numbers only.
        test_fraction: share that is held out, in (0, 1); of no effect with `balanced` and
            `half_normals`.
        labelled_anomaly_ratio: null uses the labels that the data come with; a number in [0, 1) is the papers'
            protocol: normals are unlabelled, that share of the training set is labelled anomalies, the rest unused.
        pollution_ratio: gamma_p in [0, 1), share of anomalies among the unlabelled training samples.
        validation_anomalies: number of training anomalies held out with the normals, for model selection.
        scale_with_anomalies: preprocessing is fitted to the training part's anomalies as well, known ones and those
            that training leaves out, as in the released Deep SAD code (docs/methods/deep_sad.md, S13).
        loading: batch sizes, validation share, seed and memory, as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: an argument outside its range; `balanced` or `half_normals` with an option that takes anomalies for
            training or validation, since they leave them none.
    """

    def __init__(
        self,
        source: AnomalySource,
        test_split: TestSplit = "stratified",
        test_fraction: float = 0.4,
        labelled_anomaly_ratio: float | None = None,
        pollution_ratio: float = 0.0,
        validation_anomalies: int = 0,
        scale_with_anomalies: bool = False,
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if test_split not in get_args(TestSplit):
            raise ValueError(f"test_split must be one of {', '.join(get_args(TestSplit))}, got {test_split!r}")
        taken = {
            "labelled_anomaly_ratio": labelled_anomaly_ratio,
            "pollution_ratio": pollution_ratio,
            "validation_anomalies": validation_anomalies,
            "scale_with_anomalies": scale_with_anomalies,
        }
        for name, value in taken.items():
            if test_split in _ALL_ANOMALIES and value:
                raise ValueError(
                    f"{name} must be 0 with test_split={test_split}, which tests every anomaly and leaves none to "
                    f"training and validation, got {value}"
                )
        self.source = source
        self.test_split = test_split
        self.protocol = "leaky" if test_split == "legacy_leaky" else "clean"
        self.test_fraction = test_fraction
        self.labelled_anomaly_ratio = labelled_anomaly_ratio
        self.pollution_ratio = pollution_ratio
        self.validation_anomalies = validation_anomalies
        self.scale_with_anomalies = scale_with_anomalies

    @property
    def data_source(self) -> Source:
        """The anomaly-labelled source."""
        return self.source

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """The source's own parts where it has a test part or no labels to hold out, else a held-out test set."""
        train, test = self.source.load("train"), self.source.load("test")
        if train is None:
            raise ValueError(f"{self.source.name} has no training part")
        common: dict[str, Any] = {
            "labelled_anomaly_ratio": self.labelled_anomaly_ratio,
            "pollution_ratio": self.pollution_ratio,
            "validation_fraction": self.validation_fraction,
            "validation_anomalies": self.validation_anomalies,
            "seed": self.effective_seed(),
        }
        if test is not None or not self.holds_out(train):
            split = given_parts(train.y, None if test is None else test.y, **common)
        elif self.test_split in _ALL_ANOMALIES:
            held_out = {name: common[name] for name in ("validation_fraction", "seed")}
            split = all_anomalies_holdout(train.y, normals_tested=_ALL_ANOMALIES[self.test_split], **held_out)
        else:
            hold_out = stratified_holdout if self.test_split == "stratified" else legacy_leaky_holdout
            split = hold_out(train.y, test_fraction=self.test_fraction, **common)
        return train, test or train, split, self.source.name

    def preprocessing_batches(self, device: torch.device) -> Iterator[Tensor]:
        """As of every datamodule; with `scale_with_anomalies` the anomalies of the training part follow."""
        yield from super().preprocessing_batches(device)
        if self.scale_with_anomalies:
            known = self.split.train[self.split.known == KNOWN_ANOMALY]
            rows = np.concatenate([known, self.split.unused_anomalies])
            for start in range(0, len(rows), self.eval_batch_size):
                yield self.train_images(rows[start : start + self.eval_batch_size]).to(device, self._raw_dtype())

    def holds_out(self, train: Samples) -> bool:
        """Whether a test set is held out of a source that has none: only labelled samples can be tested on."""
        return bool((train.y >= 0).any())
