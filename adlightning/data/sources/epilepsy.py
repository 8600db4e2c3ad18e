"""Epileptic Seizure Recognition (UCI): EEG series, of which those with a seizure are anomalies."""

from __future__ import annotations

import numpy as np

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.features import features_of
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.sources.columns import names_of
from adlightning.data.sources.table_file import read_frame
from adlightning.files.disk import user_path
from adlightning.labels import ANOMALY, NORMAL

N_STEPS = 178
EPILEPSY_SIZES = (9200, 2300)
"""Normal series and seizures."""


class Epilepsy(AnomalySource):
    """EEG recordings of a second each (Andrzejak et al., 2001), float32 (11500, 178, 1), with seizures as anomalies.

    As in DROCC (Goyal et al., 2020) y = 1 is anomalous, 2 to 5 are normal. There is no test part. Read from
    `root/data.csv` as the UCI repository gave it: names, `X1` to `X178`, `y` in 1..5; sizes are checked against
    :data:`EPILEPSY_SIZES`.

    Args:
        root: folder of the file.
    """

    name = "Epilepsy"

    def __init__(self, root: str = "data/epilepsy") -> None:
        self.root = user_path(root)

    def input_spec(self) -> InputSpec:
        """Series of 178 steps and one feature."""
        return InputSpec("series", (N_STEPS, 1), self.name)

    def load(self, part: Part) -> Samples | None:
        """The whole set as training part, None as test part; names are those of the first column.

        Raises:
            SourceError: the file is missing, damaged, or of another set.
        """
        if part == "test":
            return None
        path = self.root / "data.csv"
        if not path.is_file():
            raise SourceError(
                f"{self.name}: there is no {path}; get the set Epileptic Seizure Recognition of the UCI Machine "
                f"Learning Repository (https://archive.ics.uci.edu) and put its data.csv there"
            )
        frame = read_frame(path)
        columns = [*(f"X{i}" for i in range(1, N_STEPS + 1)), "y"]
        if list(frame.columns[1:]) != columns:
            raise SourceError(
                f"{path} must have the columns of the UCI repository, names and then X1 to X{N_STEPS} and y, got "
                f"{len(frame.columns)}: {', '.join(frame.columns[:3])}, ..., {frame.columns[-1]}"
            )
        values = features_of(frame, columns, path).float()
        labels = values[:, -1].numpy()
        if len(wrong := labels[~np.isin(labels, range(1, 6))]):
            raise SourceError(f"{path}: y must lie in 1..5, got {wrong[0]:g}")
        y = np.where(labels == 1, ANOMALY, NORMAL).astype(np.int64)
        found = (int((y == NORMAL).sum()), int((y == ANOMALY).sum()))
        if found != EPILEPSY_SIZES:
            words = "{} normal series and {} seizures"
            raise SourceError(
                f"{path} is not {self.name}: expected {words.format(*EPILEPSY_SIZES)}, got {words.format(*found)}"
            )
        return Samples(values[:, :-1, None].contiguous(), y, names_of(frame.iloc[:, 0]))
