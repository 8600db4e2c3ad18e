"""Samples that are in memory already: NumPy arrays, tensors, pandas frames."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from adlightning.core.cells import find_columns
from adlightning.core.contracts import InputSpec, Kind
from adlightning.core.encoding import Categorical, Columns, Dates, Missing, require_choices
from adlightning.core.features import as_features, features_of, refuse_twins
from adlightning.core.raw_input import ChannelOrder, as_array, image_bytes, order_of_channels
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.synthetic import SyntheticAnomalies
from adlightning.labels import ANOMALY, KNOWN_ANOMALY, KNOWN_NORMAL, NO_LABEL, NORMAL, UNLABELLED

Array = NDArray[Any] | Tensor | pd.DataFrame

_LABEL_OF = {KNOWN_NORMAL: NORMAL, UNLABELLED: NO_LABEL, KNOWN_ANOMALY: ANOMALY}


class ArraySource(AnomalySource):
    """Samples in memory, with what is known of those for training and the labels of those for the test.

    Arguments and errors are those of :class:`Arrays`.
    """

    def __init__(
        self,
        x_train: Array,
        x_test: Array | None = None,
        y_test: ArrayLike | None = None,
        known: ArrayLike | None = None,
        channels: ChannelOrder | None = None,
        name: str = "arrays",
        missing: Missing = "refuse",
        categorical: Categorical = "refuse",
        dates: Dates = "refuse",
    ) -> None:
        self.name = name
        require_choices(missing=missing, categorical=categorical, dates=dates)
        if channels not in (None, "first", "last"):
            raise ValueError(f"channels must be first, last or None, got {channels!r}")
        if x_test is None and y_test is not None:
            raise ValueError("y_test needs X_test, the samples that it labels")
        self._columns = tuple(map(str, x_train.columns)) if isinstance(x_train, pd.DataFrame) else ()
        if self._columns:
            refuse_twins("X_train", self._columns)
        self._encoding: Columns | None = None if missing == "refuse" else Columns(missing)
        if isinstance(x_train, pd.DataFrame):
            tables = [x.rename(columns=str) for x in (x_train, x_test) if isinstance(x, pd.DataFrame)]
            self._encoding = find_columns(tables, self._columns, "X_train", missing, categorical, dates)
        elif (categorical, dates) != ("refuse", "refuse"):
            raise ValueError("categorical and dates are for pandas frames, X_train is an array")
        self.kind, self._order = _kind_of(x_train, channels)
        if missing != "refuse" and self.kind != "table":
            raise ValueError(f"missing is for tables, X_train holds {self.kind} samples")
        marks = _marks("known", known, len(x_train), UNLABELLED, (KNOWN_ANOMALY, UNLABELLED, KNOWN_NORMAL))
        labels = np.vectorize(_LABEL_OF.__getitem__, otypes=[np.int64])(marks) if len(marks) else marks
        self._train = Samples(self._samples(x_train, "X_train"), labels, _names(x_train))
        self._test: Samples | None = None
        if x_test is not None:
            labels = _marks("y_test", y_test, len(x_test), NO_LABEL, (NO_LABEL, NORMAL, ANOMALY))
            self._test = Samples(self._samples(x_test, "X_test"), labels, _names(x_test))
            self._require_alike()

    def input_spec(self) -> InputSpec:
        """Kind and shape of a sample, and the columns of a frame."""
        assert isinstance(self._train.x, Tensor)
        return InputSpec(
            self.kind, tuple(self._train.x.shape[1:]), self.name, features=self._columns, columns=self._encoding
        )

    def load(self, part: Part) -> Samples | None:
        """One part; the test part is None where none was given."""
        return self._train if part == "train" else self._test

    def _samples(self, x: Array, what: str) -> Tensor:
        if isinstance(x, pd.DataFrame):
            if not self._columns:
                raise ValueError(f"{what} must be an array, as X_train is, got a pandas frame")
            return features_of(x.rename(columns=str), self._columns, what, self._encoding)
        if self._columns:
            raise ValueError(f"{what} must be a pandas frame, as X_train is, got a {type(x).__name__}")
        array = as_array(x, what)
        if array.dtype.kind not in "buif":
            raise ValueError(f"{what} holds {array.dtype}, numbers are needed")
        if self.kind == "image":
            return image_bytes(array, what, self._order).clone()  # the caller's own may change
        return as_features(array, what, may_miss=self._encoding is not None)

    def _require_alike(self) -> None:
        assert isinstance(self._train.x, Tensor)
        assert self._test is not None
        assert isinstance(self._test.x, Tensor)
        train, test = tuple(self._train.x.shape[1:]), tuple(self._test.x.shape[1:])
        if train != test:
            raise ValueError(f"X_train and X_test must hold samples of one shape, got {train} and {test}")


class Arrays(AnomalyLabelled):
    """Your own samples in memory: a table (N, D), series (N, T, D) or images.

    Images are uint8, or floats in [0, 1], which are rounded to 256 values: (N, C, H, W), (N, H, W, C), or (N, H, W) of
    one channel, which must be uint8. Whole numbers and floats of two or three dimensions are tables and series.

    Args:
        X_train: training samples; a pandas frame is a table whose columns are matched by name when scoring.
        X_test: test samples; None tests nothing.
        y_test: (N,) labels of the test samples: 0 normal, 1 anomaly, -1 not labelled; None for no labels.
        known: (N,) what training knows: +1 normal, 0 not labelled, -1 anomaly; None knows nothing.
        channels: `first` for (N, C, H, W), `last` for (N, H, W, C); None finds out, where only one can be meant.
        name: of the data, in words, for messages and reports.
        missing: what to do with NaN in a table: `refuse`, `median` or `indicator`, as in :class:`TableData`.
        categorical: what to do with a frame's columns of text: `refuse`, `one_hot` or `ordinal`.
        dates: what to do with a frame's columns of dates: `refuse` or `seconds`.
        batch_size: training samples a step, on each rank.
        eval_batch_size: samples a step in validation and test; scores do not depend on it.
        drop_last: leave out an epoch's last batch when it is not full.
        validation_fraction: share of the training normals held out, in [0, 1); sets the threshold, never the weights.
        validation_anomalies: number of known anomalies held out with them, for `monitor="val/auroc"`.
        seed: seed of the split and of the order of batches; None takes that of `fit`.
        device_budget_mb: data up to this many MiB are kept on the training device.
        train_transforms: as in :class:`AnomalyDataModule`.
        synthetic_anomalies: as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: an argument outside its range, arrays that are no samples, or labels that do not fit them.

    Example:
        >>> import numpy as np
        >>> import adlightning as ad
        >>> rng = np.random.default_rng(0)
        >>> data = ad.Arrays(rng.normal(size=(200, 4)), rng.normal(size=(20, 4)), np.repeat([0, 1], 10))
        >>> data.setup("test")
        >>> str(data.input_spec)
        '4 features (arrays)'
    """

    def __init__(
        self,
        X_train: Array,
        X_test: Array | None = None,
        y_test: ArrayLike | None = None,
        known: ArrayLike | None = None,
        channels: ChannelOrder | None = None,
        name: str = "arrays",
        missing: Missing = "refuse",
        categorical: Categorical = "refuse",
        dates: Dates = "refuse",
        batch_size: int = 64,
        eval_batch_size: int = 1000,
        drop_last: bool = True,
        validation_fraction: float = 0.1,
        validation_anomalies: int = 0,
        seed: int | None = None,
        device_budget_mb: int = 8192,
        train_transforms: list[Any] | None = None,
        synthetic_anomalies: SyntheticAnomalies | None = None,
    ) -> None:
        super().__init__(
            ArraySource(X_train, X_test, y_test, known, channels, name, missing, categorical, dates),
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            drop_last=drop_last,
            validation_fraction=validation_fraction,
            validation_anomalies=validation_anomalies,
            seed=seed,
            device_budget_mb=device_budget_mb,
            train_transforms=train_transforms,
            synthetic_anomalies=synthetic_anomalies,
        )

    def holds_out(self, train: Samples) -> bool:
        """Never: what is for testing is given."""
        return False


def _kind_of(x: Array, channels: ChannelOrder | None) -> tuple[Kind, Literal["first", "last"]]:
    if isinstance(x, pd.DataFrame):
        return "table", "first"
    array = as_array(x, "X_train")
    if array.ndim == 2:
        return "table", "first"
    if array.ndim == 3 and array.dtype != np.uint8:
        return "series", "first"
    if array.ndim in (3, 4):
        return "image", order_of_channels(array, "X_train", channels)
    raise ValueError(
        f"X_train must be a table (N, D), series (N, T, D) or images (N, C, H, W), (N, H, W, C) or uint8 (N, H, W), "
        f"got {array.dtype} of shape {array.shape}"
    )


def _marks(what: str, given: ArrayLike | None, n: int, default: int, allowed: tuple[int, ...]) -> NDArray[np.int64]:
    """Labels or what is known, one a sample."""
    if given is None:
        return np.full(n, default, dtype=np.int64)
    marks = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
    if marks.shape != (n,):
        raise ValueError(f"{what} must have one number a sample, ({n},), got {marks.shape}")
    wrong = marks[~np.isin(marks, allowed)] if marks.dtype.kind in "buif" else marks
    if len(wrong):
        raise ValueError(f"{what} must be among {', '.join(map(str, allowed))}, got {wrong[0]!r}")
    return marks.astype(np.int64)


def _names(x: Array) -> tuple[str, ...]:
    """A frame's index as text; else row numbers."""
    return tuple(map(str, x.index if isinstance(x, pd.DataFrame) else range(len(x))))
