"""Data of your own, labelled normal or anomaly where they are labelled: a folder of images, a table."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from adlightning.core.pictures import Background, ResizeMode
from adlightning.data.composition import Protocol, Split, Streams, compose
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.named_samples import OnBad
from adlightning.data.sources.base import Samples
from adlightning.data.sources.image_folder import NormalAnomalyFolder
from adlightning.data.sources.sound_folder import SoundFeatures, SoundFolder
from adlightning.data.sources.table import Table
from adlightning.labels import ANOMALY


class FolderData(AnomalyLabelled):
    """Own images: `root/train/normal`, optional `train/anomaly`, `train/unlabelled`, `test/normal`, `test/anomaly`.

    `root/test/close` may hold anomalies that look much like normal images, of a kind that `train/anomaly` has not: they
    are scored with the other anomalies, and their names in score tables begin with `test/close/`. Without a test folder
    nothing is tested; without test anomalies there are no ranking metrics.

    Args:
        root: the folder.
        resize: `[height, width]` or one side, in pixels; `auto` takes images of one size of at most 256 pixels a side
            as they are, and brings others to the median size, shrunk to 256; null takes images of one size alone.
        channels: 1 or 3 converts every image; `auto` makes grey and colour ones colour; null takes them all alike.
        resize_mode: `squash` resizes height and width each; `pad` keeps the aspect ratio and puts black around; `crop`
            keeps it and cuts off what stands out.
        background: under transparent pixels: `white`, `grey` or `black`; null drops the transparency.
        white: the value of 16-bit grey images, or of floats, that becomes 255; null is 65535, and refuses floats.
        on_bad: what to do with files that cannot be decoded: `refuse`, or `skip`, which decodes each once more.
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
        resize: tuple[int, int] | int | Literal["auto"] | None = "auto",
        channels: Literal[1, 3, "auto"] | None = "auto",
        resize_mode: ResizeMode = "squash",
        background: Background | None = "white",
        white: float | None = None,
        on_bad: OnBad = "refuse",
        memory_budget_mb: int = 2048,
        labelled_anomaly_ratio: float | None = None,
        batch_size: int = 64,
        validation_fraction: float = 0.1,
        validation_anomalies: int = 0,
        **loading: Any,
    ) -> None:
        super().__init__(
            NormalAnomalyFolder(
                root,
                resize=resize,
                channels=channels,
                memory_budget_mb=memory_budget_mb,
                resize_mode=resize_mode,
                background=background,
                white=white,
                on_bad=on_bad,
            ),
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


class SoundData(AnomalyLabelled):
    """Your own sounds: a folder of .wav files, any rate and length; see :class:`SoundFolder`.

    Without `root/test` a share of the files is tested, whole groups where `group_pattern` or `group_column` names them:
    no speaker or machine is in both parts. The threshold is set by whole groups, too, where there are three or more to
    train on: it holds for new ones. Without a known normal class nothing is tested.

    Args:
        root: the folder.
        normal_class: one class or several; null where classes are called `normal`, `anomaly` (or `abnormal`) and
            `unlabelled`, or where there is one class or none.
        class_pattern: regular expression whose first group is a file's class; null takes its folder.
        group_pattern: regular expression whose first group is a file's speaker, machine or recording.
        table: a CSV, TSV or Parquet file with a row for each file; null for none.
        file_column: its column of paths below `root`, or of file names.
        class_column: its column of classes; null for none.
        group_column: its column of groups; null for none.
        test_fraction: share of the groups, or else of the files, that is tested, in (0, 1).
        split_seed: of the draw of what is tested.
        seconds: of a clip; null takes the length that 95 % of the training files do not exceed, 10 at most.
        sample_rate: to which files are brought, in Hz; null takes the lowest of the training files.
        n_filters: filters; null takes 32, or as many as a low rate allows.
        features: `mfcc`, or `log_mel` for log energies without the cosine transform.
        labelled_anomaly_ratio: null uses every label; a number in [0, 1) that share, normals unlabelled.
        batch_size: training samples a step, on each rank.
        validation_fraction: share of the training groups, one at least, or else of the training normals held out, in
            [0, 1); sets the threshold, never the weights.
        validation_anomalies: number of known anomalies held out with them, for `--monitor=val/auroc`; of groups all.
        loading: batch sizes, seed and memory, as in :class:`AnomalyDataModule`.
    """

    def __init__(
        self,
        root: str,
        normal_class: str | list[str] | None = None,
        class_pattern: str | None = None,
        group_pattern: str | None = None,
        table: str | None = None,
        file_column: str = "file",
        class_column: str | None = None,
        group_column: str | None = None,
        test_fraction: float = 0.4,
        split_seed: int = 0,
        seconds: float | None = None,
        sample_rate: int | None = None,
        n_filters: int | None = None,
        features: SoundFeatures = "mfcc",
        labelled_anomaly_ratio: float | None = None,
        batch_size: int = 64,
        validation_fraction: float = 0.1,
        validation_anomalies: int = 0,
        **loading: Any,
    ) -> None:
        self.sounds = SoundFolder(
            root,
            normal_class=normal_class,
            class_pattern=class_pattern,
            group_pattern=group_pattern,
            table=table,
            file_column=file_column,
            class_column=class_column,
            group_column=group_column,
            test_fraction=test_fraction,
            split_seed=split_seed,
            seconds=seconds,
            sample_rate=sample_rate,
            n_filters=n_filters,
            features=features,
        )
        super().__init__(
            self.sounds,
            test_split="stratified",
            test_fraction=test_fraction,
            pollution_ratio=0.0,
            labelled_anomaly_ratio=labelled_anomaly_ratio,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            validation_anomalies=validation_anomalies,
            **loading,
        )

    def holds_out(self, train: Samples) -> bool:
        """Never: the source says what is tested."""
        return False

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """The source's parts; whole groups are held out where there are enough."""
        held_out = self.sounds.held_out(self.validation_fraction, self.effective_seed())
        if held_out is None:
            return super().make_split()
        train, test = self.sounds.load("train"), self.sounds.load("test")
        assert train is not None
        protocol = Protocol(self.labelled_anomaly_ratio, 0.0, 0.0, 0)
        streams = Streams(self.effective_seed())
        rows, known, *_ = compose(train.y, np.flatnonzero(~held_out), train.y == ANOMALY, protocol, streams)
        validation, tested = np.flatnonzero(held_out), np.empty(0, dtype=np.int64) if test is None else test.y
        split = Split(rows, known, validation, train.y[validation], np.arange(len(tested)), tested)
        return train, test or train, split, self.sounds.name
