"""A labelled table in one file, as the ODDS library and ADBench give them: a .mat or .npz with X and y."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.encoding import Columns, Missing, require_choices
from adlightning.core.features import as_features
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.sources.mat_file import read_matrices
from adlightning.data.sources.npz import read_arrays, stored_keys
from adlightning.files.disk import user_path
from adlightning.files.unpacking import allowed_bytes

SUFFIXES = (".mat", ".npz")


class AnomalyFile(AnomalySource):
    """Any file of the ODDS library (Rayana, 2016) or ADBench (Han et al., 2022), by its path; labels and no test part.

    It holds `X` (N, D), numbers, and `y` (N,) or (N, 1) in {0, 1}, 1 for anomalies. A .mat is of MATLAB 5 to 7.3, an
    .npz as NumPy writes it; nothing is unpickled.

    Args:
        path: the file.
        missing: what to do with NaN: `refuse`, `median` or `indicator`, as in :class:`Table`.
    """

    def __init__(self, path: str, missing: Missing = "refuse") -> None:
        require_choices(missing=missing)
        self.path = user_path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"path must end in {' or '.join(SUFFIXES)}, got {path}: TableData reads CSV and Parquet")
        self.missing = missing
        self.name = self.path.name

    def input_spec(self) -> InputSpec:
        """A table of unnamed features. Reads the file."""
        columns = None if self.missing == "refuse" else Columns(self.missing)
        return InputSpec("table", (self._samples.x[0].shape[0],), self.name, columns=columns)

    def load(self, part: Part) -> Samples | None:
        """The whole file as training part, None as test part; names are row numbers.

        Raises:
            SourceError: the file is missing, damaged or larger than it may be, lacks X or y, or holds other values.
        """
        return self._samples if part == "train" else None

    @cached_property
    def _samples(self) -> Samples:
        if not self.path.is_file():
            raise SourceError(f"there is no file {self.path}")
        x, y = read_labelled(self.path, allowed_bytes(self.path))
        if x.ndim != 2 or len(x) != len(y) or 0 in x.shape:
            raise SourceError(f"{self.path}: X must be (N, D) and y (N,), got {x.shape} and ({len(y)},)")
        values = as_features(x, f"{self.path}: X", may_miss=self.missing != "refuse")
        return Samples(values, y, tuple(str(row) for row in range(len(y))))


def read_labelled(path: Path, most: int | None = None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """X, numbers as the file has them, and y (N,), 0 normal and 1 anomaly, of a .mat or .npz.

    Args:
        path: the file.
        most: bytes that a .mat may have, and unpack to; None for the reader's own limit.

    Raises:
        SourceError: it is damaged or too large, lacks X or y, or holds something else.
    """
    names = ["X", "y"]
    if path.suffix.lower() == ".npz":
        arrays = read_arrays(path, names)
    else:
        arrays = read_matrices(path, names) if most is None else read_matrices(path, names, most)
    for key in names:
        if key not in arrays:
            held = f"; it holds {', '.join(stored_keys(path)) or 'nothing'}" if path.suffix.lower() == ".npz" else ""
            raise SourceError(f"{path} has no {key}; it must hold X (N, D) and y (N,){held}")
        if arrays[key].dtype.kind not in "fiub":
            raise SourceError(f"{path}: {key} must be numbers, got {arrays[key].dtype}")
    y = arrays["y"].reshape(-1)
    if not np.isin(y, (0, 1)).all():
        value = y[~np.isin(y, (0, 1))][0]
        raise SourceError(f"{path}: y must hold 0 (normal) and 1 (anomaly) only, got {value}")
    return arrays["X"], y.astype(np.int64)
