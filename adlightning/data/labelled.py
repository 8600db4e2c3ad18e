"""Data that come with anomaly labels, or with none: the papers' tables, and your own images and tables."""

from __future__ import annotations

from typing import Any, Literal, get_args

from adlightning.data.composition import Split
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources import NormalAnomalyFolder, Table
from adlightning.data.sources.base import AnomalySource, Samples, Source
from adlightning.data.splits import all_anomalies_holdout, given_parts, legacy_leaky_holdout, stratified_holdout

TestSplit = Literal["stratified", "balanced", "half_normals", "legacy_leaky"]

_ALL_ANOMALIES: dict[str, Literal["as_many", "half"]] = {"balanced": "as_many", "half_normals": "half"}


class AnomalyLabelled(AnomalyDataModule):
    """A source whose samples come as normal, anomaly or not labelled; its own test part, or one held out of it.

    Args:
        source: an anomaly-labelled source: `Odds`, `Abalone`, `Epilepsy`, `Sine`, `NoisySine`, `Sphere`, `Table`,
            `NormalAnomalyFolder`.
        test_split: how the test set is held out of a source that has none: `stratified` keeps the share of anomalies;
            `balanced` is DROCC's: all anomalies and equally many normals are tested, the other normals train,
            unlabelled; `half_normals` that of DAGMM and GOAD: all anomalies and half of the normals; `legacy_leaky`
            repeats the fault of the released Deep SAD code, whose test set holds about
            60 % training samples (docs/methods.md, S2): for comparison with published numbers only.
        test_fraction: share that is held out, in (0, 1); of no effect with `balanced` and
            `half_normals`.
        labelled_anomaly_ratio: null uses the labels that the data come with; a number in [0, 1) is the papers'
            protocol: normals are unlabelled, that share of the training set is labelled anomalies, the rest unused.
        pollution_ratio: gamma_p in [0, 1), share of anomalies among the unlabelled training samples.
        validation_anomalies: number of training anomalies held out with the normals, for model selection.
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
        **loading: Any,
    ) -> None:
        super().__init__(**loading)
        if test_split not in get_args(TestSplit):
            raise ValueError(f"test_split must be one of {', '.join(get_args(TestSplit))}, got {test_split!r}")
        taken = {
            "labelled_anomaly_ratio": labelled_anomaly_ratio,
            "pollution_ratio": pollution_ratio,
            "validation_anomalies": validation_anomalies,
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

    def holds_out(self, train: Samples) -> bool:
        """Whether a test set is held out of a source that has none: only labelled samples can be tested on."""
        return bool((train.y >= 0).any())


class FolderData(AnomalyLabelled):
    """Own images: `root/train/normal`, optional `train/anomaly`, `train/unlabelled`, `test/normal`, `test/anomaly`.

    `root/test/close` may hold anomalies that look much like normal images, of a kind that `train/anomaly` has not: they
    are scored with the other anomalies, and their names in score tables begin with `test/close/`. Without a test folder
    nothing is tested; without test anomalies there are no ranking metrics.

    Args:
        root: the folder.
        resize: `[height, width]` or one side, in pixels; null takes images as they are, all of one size.
        channels: 1 or 3 converts every image; null takes them as they are, all alike.
        memory_budget_mb: parts up to this many MiB decoded are held in memory, larger ones are decoded by workers.
        labelled_anomaly_ratio: null uses every image of `train/anomaly`; a number in [0, 1) only that share.
        batch_size: training samples a step, on each rank.
        validation_fraction: share of the training normals held out, in [0, 1); sets the threshold, never the weights.
        validation_anomalies: number of known anomalies held out with them, for `--monitor=val/auroc`.
        loading: batch sizes, seed and memory, as in :class:`AnomalyDataModule`.
    """

    def __init__(
        self,
        root: str,
        resize: tuple[int, int] | int | None = None,
        channels: Literal[1, 3] | None = None,
        memory_budget_mb: int = 2048,
        labelled_anomaly_ratio: float | None = None,
        batch_size: int = 64,
        validation_fraction: float = 0.1,
        validation_anomalies: int = 0,
        **loading: Any,
    ) -> None:
        super().__init__(
            NormalAnomalyFolder(root, resize=resize, channels=channels, memory_budget_mb=memory_budget_mb),
            test_split="stratified",
            test_fraction=0.4,
            pollution_ratio=0.0,
            labelled_anomaly_ratio=labelled_anomaly_ratio,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            validation_anomalies=validation_anomalies,
            **loading,
        )

    def holds_out(self, train: Samples) -> bool:
        """Never: a folder says itself what is for testing."""
        return False


class TableData(AnomalyLabelled):
    """Your own table: a CSV or Parquet file, with or without a label column.

    With `test_path` that file is tested; else, with a label column, a share of the labelled rows is held out; else
    nothing is tested.

    Args:
        path: the training table.
        test_path: the test table.
        label_column: column of labels: 0 / `normal`, 1 / `anomaly`, empty for not labelled; null for none.
        name_column: column of row names for score tables; null numbers the rows.
        drop_columns: columns that are no features.
        constant_features: what to do with features that never vary in training: `error`, `drop` or `keep`.
        test_fraction: share of the labelled rows held out where there is no `test_path`, in (0, 1).
        labelled_anomaly_ratio: null uses every label; a number in [0, 1) that share, normals unlabelled.
        batch_size: training samples a step, on each rank.
        validation_fraction: share of the training normals held out, in [0, 1); sets the threshold, never the weights.
        validation_anomalies: number of known anomalies held out with them, for `--monitor=val/auroc`.
        loading: batch sizes, seed and memory, as in :class:`AnomalyDataModule`.
    """

    def __init__(
        self,
        path: str,
        test_path: str | None = None,
        label_column: str | None = None,
        name_column: str | None = None,
        drop_columns: list[str] | None = None,
        constant_features: Literal["error", "drop", "keep"] = "error",
        test_fraction: float = 0.4,
        labelled_anomaly_ratio: float | None = None,
        batch_size: int = 64,
        validation_fraction: float = 0.1,
        validation_anomalies: int = 0,
        **loading: Any,
    ) -> None:
        super().__init__(
            Table(
                path,
                test_path=test_path,
                label_column=label_column,
                name_column=name_column,
                drop_columns=drop_columns or [],
                constant_features=constant_features,
            ),
            test_split="stratified",
            test_fraction=test_fraction,
            pollution_ratio=0.0,
            labelled_anomaly_ratio=labelled_anomaly_ratio,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            validation_anomalies=validation_anomalies,
            **loading,
        )
