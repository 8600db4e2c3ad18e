"""Data of your own, labelled normal or anomaly where they are labelled: a folder of images, a table."""

from __future__ import annotations

from typing import Any, Literal

from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.sources.base import Samples
from adlightning.data.sources.image_folder import NormalAnomalyFolder
from adlightning.data.sources.table import Table


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
        label_column: column of labels: 0 / `normal`, 1 / `anomaly`, words such as ok and defect, empty for not
            labelled; null for none.
        name_column: column of row names for score tables; null numbers the rows.
        drop_columns: columns that are no features.
        constant_features: what to do with features that never vary in training: `error`, `drop` or `keep`.
        missing: what to do with values that are missing: `refuse`; `median` of the training rows; or `indicator`, which
            also makes a feature of whether it was missing.
        categorical: what to do with columns of text: `refuse`; `one_hot`, a feature for each category; or `ordinal`,
            its number in the sorted ones. Categories are those of the training rows.
        dates: what to do with columns of dates, 2026-01-31 12:30:00: `refuse`, or `seconds` since 1970.
        separator: what stands between values of a text: `comma`, `semicolon`, `tab`, `bar`, `space` or one character.
        decimal: what stands in numbers: `point` or `comma`.
        encoding: of a text: `utf-8`, `utf-16`, `cp1252`, ...
        header: whether the first row names the columns; without one they are called 0, 1, ... These four are found
            with `auto`.
        normal_label: the label of normal rows where its word does not say so; every other is then an anomaly.
        anomaly_label: that of anomalies, likewise; with both, no other is allowed.
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
        missing: Literal["refuse", "median", "indicator"] = "refuse",
        categorical: Literal["refuse", "one_hot", "ordinal"] = "refuse",
        dates: Literal["refuse", "seconds"] = "refuse",
        separator: str = "auto",
        decimal: str = "auto",
        encoding: str = "auto",
        header: bool | Literal["auto"] = "auto",
        normal_label: str | None = None,
        anomaly_label: str | None = None,
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
                missing=missing,
                categorical=categorical,
                dates=dates,
                separator=separator,
                decimal=decimal,
                encoding=encoding,
                header=header,
                normal_label=normal_label,
                anomaly_label=anomaly_label,
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
