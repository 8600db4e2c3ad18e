"""Abalone (UCI), with the classes that the DROCC paper takes for normal and anomalous."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.features import features_of
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.files.disk import user_path
from adlightning.labels import ANOMALY, NORMAL

NORMAL_RINGS = (8, 9, 10)
ANOMALOUS_RINGS = (3, 21)
ABALONE_SIZES = (4177, 1891, 29)
"""Rows of the file, normal samples and anomalies."""

_SEXES = {"M": 0, "F": 1, "I": 2}  # as in the released code of DROCC
_FEATURES = (
    *("sex", "length", "diameter", "height"),
    *("whole_weight", "shucked_weight", "viscera_weight", "shell_weight"),
)


class Abalone(AnomalySource):
    """Measurements of abalone (Nash et al., 1994), float32 (1920, 8): 8 to 10 rings are normal, 3 and 21 anomalous.

    As in DROCC (Goyal et al., 2020; after Das et al., 2018): other numbers of rings are left out, the sex is 0 male,
    1 female, 2 infant. There is no test part. Read from `root/abalone.data` as the UCI repository gives it, whose sizes
    are checked against :data:`ABALONE_SIZES`.

    Args:
        root: folder of the file.
    """

    name = "Abalone"

    def __init__(self, root: str = "data/abalone") -> None:
        self.root = user_path(root)

    def input_spec(self) -> InputSpec:
        """A table of the eight measurements."""
        return InputSpec("table", (len(_FEATURES),), self.name, features=_FEATURES)

    def load(self, part: Part) -> Samples | None:
        """The whole set as training part, None as test part; names are row numbers of the file.

        Raises:
            SourceError: the file is missing, damaged, or of another set.
        """
        if part == "test":
            return None
        path = self.root / "abalone.data"
        frame = _read(path)
        x = features_of(frame, (*_FEATURES, "rings"), path).float()
        rings = x[:, -1].numpy()
        anomalous, normal = np.isin(rings, ANOMALOUS_RINGS), np.isin(rings, NORMAL_RINGS)
        found = (len(frame), int(normal.sum()), int(anomalous.sum()))
        if found != ABALONE_SIZES:
            words = "{} rows, {} of them with 8 to 10 rings and {} with 3 or 21"
            raise SourceError(
                f"{path} is not {self.name}: expected {words.format(*ABALONE_SIZES)}, got {words.format(*found)}"
            )
        rows = np.flatnonzero(normal | anomalous)
        y = np.where(anomalous[rows], ANOMALY, NORMAL).astype(np.int64)
        return Samples(x[rows, :-1].contiguous(), y, tuple(str(row) for row in rows))


def _read(path: Path) -> pd.DataFrame:
    """The file's nine columns by name, the sex as a number. Raises SourceError."""
    if not path.is_file():
        raise SourceError(
            f"Abalone: there is no {path}; get abalone.data of the set Abalone from the UCI Machine Learning "
            f"Repository (https://archive.ics.uci.edu) and put it there"
        )
    try:
        frame = pd.read_csv(path, header=None)
    except Exception as error:  # parsers raise many types, of which pandas documents few
        raise SourceError(f"{path} cannot be read as comma-separated values: {error}") from error
    columns = (*_FEATURES, "rings")
    if len(frame.columns) != len(columns):
        raise SourceError(f"{path} must have {len(columns)} columns, as in the UCI repository, got {frame.shape[1]}")
    frame.columns = pd.Index(columns)
    codes = frame["sex"].map(_SEXES)
    if codes.isna().any():
        row = int(np.argmax(codes.isna()))
        raise SourceError(f"{path}: the first column must be M, F or I, got {frame['sex'].iloc[row]!r} in row {row}")
    return frame.assign(sex=codes)
