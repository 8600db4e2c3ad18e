"""The six tabular sets of the ODDS library that Deep SAD and DROCC are compared on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.features import as_features
from adlightning.data.sources.anomaly_file import read_labelled
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.files.disk import user_path

OddsName = Literal["arrhythmia", "cardio", "satellite", "satimage-2", "shuttle", "thyroid"]

ODDS_SIZES: dict[OddsName, tuple[int, int, int]] = {
    "arrhythmia": (452, 274, 66),
    "cardio": (1831, 21, 176),
    "satellite": (6435, 36, 2036),
    "satimage-2": (5803, 36, 71),
    "shuttle": (49097, 9, 3511),
    "thyroid": (3772, 6, 93),
}
"""Samples, features and anomalies of each set, from Deep SAD (Ruff et al., 2020), Table 1 of its ODDS experiments."""


class Odds(AnomalySource):
    """A set of the ODDS library (Rayana, 2016), (N, D), with anomalies labelled and no test part.

    Read from `root/DATASET.mat`, as the library gives it, or `root/DATASET.npz`, each with `X` (N, D) and `y`
    (N,) or (N, 1) in {0, 1}. Sizes are checked against :data:`ODDS_SIZES`, since other versions of these sets go by
    the same names (annthyroid, 7200x6, for thyroid).

    Args:
        dataset: name of the set.
        root: folder of the files.
    """

    def __init__(self, dataset: OddsName, root: str = "data/odds") -> None:
        if dataset not in get_args(OddsName):
            raise ValueError(f"dataset must be one of {', '.join(get_args(OddsName))}, got {dataset!r}")
        self.dataset: OddsName = dataset
        self.root = user_path(root)
        self.name = f"ODDS {dataset}"

    def input_spec(self) -> InputSpec:
        """A table of unnamed features."""
        return InputSpec("table", (ODDS_SIZES[self.dataset][1],), self.name)

    def load(self, part: Part) -> Samples | None:
        """The whole set as training part, None as test part; names are row numbers.

        Raises:
            SourceError: the file is missing, damaged, or of another set.
        """
        if part == "test":
            return None
        path = self._path()
        x, y = read_labelled(path)
        self._check_size(path, x, y)
        return Samples(as_features(x, f"{path}: X"), y, tuple(str(row) for row in range(len(y))))

    def _path(self) -> Path:
        candidates = [self.root / f"{self.dataset}{suffix}" for suffix in (".mat", ".npz")]
        for path in candidates:
            if path.is_file():
                return path
        raise SourceError(
            f"{self.name}: there is no {' or '.join(map(str, candidates))}; get {self.dataset} from the ODDS library "
            f"(http://odds.cs.stonybrook.edu) and put its .mat (or an .npz with X and y) there"
        )

    def _check_size(self, path: Path, x: NDArray[Any], y: NDArray[Any]) -> None:
        n, d, anomalies = ODDS_SIZES[self.dataset]
        if x.shape == (n, d) and len(y) == n and int(y.sum()) == anomalies:
            return
        wanted = f"{n} samples, {d} features and {anomalies} anomalies"
        found = f"X {x.shape} and y ({len(y)},) with {int(y.sum())} anomalies"
        hint = "; these are annthyroid's sizes, which is another set" if x.shape == (7200, 6) else ""
        raise SourceError(f"{path} is not {self.name}: expected {wanted}, got {found}{hint}")
