"""A folder of sound files of your own, with classes and speakers by folder, file name or table."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.messages import quoted
from adlightning.core.sound import LONGEST, SoundSpec
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.sources.columns import names_of
from adlightning.data.sources.sensor_table import refuse_missing_columns
from adlightning.data.sources.sounds import (
    features,
    find_wavs,
    fitting_filters,
    headers,
    say_what_is_done,
    usual_sound,
)
from adlightning.data.sources.table_file import read_frame
from adlightning.data.sources.wav_file import Wav, require_audio
from adlightning.files.disk import user_path
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

SoundFeatures = Literal["log_mel", "mfcc"]

WORDS = {"normal": NORMAL, "anomaly": ANOMALY, "abnormal": ANOMALY, "unlabelled": NO_LABEL}
"""Classes that say themselves what they are."""

_FEWEST_GROUPS = 3  # of which two are left

_PARTS = ("train", "test")


class SoundFolder(AnomalySource):
    """Files .wav of a folder and those within it, as float32 series (N, frames, filters) of MFCC or log energies.

    PCM of 8 to 32 bits and floats, of any rate and length. The class of a file is the folder that it lies in, of
    `root` or, where there are `root/train` and `root/test`, of these; or what `class_pattern` finds, or a column of
    `table` says. Without `root/test` a share of the files is tested; where groups (speakers, machines, recordings) are
    known, whole groups, so that none is in both parts. Without a known normal class nothing is.

    Energies are those of :class:`SpeechCommands`: windows of 25 ms every 10 ms. Clips are cut after `seconds`, zeros
    come before shorter ones; channels are averaged.

    Args:
        root: the folder.
        normal_class: one class or several; null where classes are called `normal`, `anomaly` (or `abnormal`) and
            `unlabelled`, or where there is one class or none: then no file is labelled.
        class_pattern: regular expression whose first group is the class, searched in a file's path below `root`.
        group_pattern: the same for the group.
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

    Raises:
        ValueError: an argument outside its range, or a pattern that is none.
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
    ) -> None:
        if features not in get_args(SoundFeatures):
            raise ValueError(f"features must be one of {', '.join(get_args(SoundFeatures))}, got {features!r}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must lie in (0, 1), got {test_fraction}")
        if seconds is not None and not 0 < seconds <= LONGEST:
            raise ValueError(f"seconds must lie in (0, {LONGEST}], got {seconds}")
        if n_filters is not None and n_filters < 1:
            raise ValueError(f"n_filters must be at least 1, got {n_filters}")
        if sample_rate is not None:
            SoundSpec(sample_rate, 1)
        for what, pattern, column in (
            ("class", class_pattern, class_column),
            ("group", group_pattern, group_column),
        ):
            if column is not None and table is None:
                raise ValueError(f"{what}_column={column!r} needs the table that has it, got table=None")
            if pattern is not None and column is not None:
                raise ValueError(f"{what}_pattern and {what}_column say the same: give one of them")
        if table is not None and class_column is None and group_column is None:
            raise ValueError("table needs a class_column or a group_column, got neither")
        self.root = user_path(root)
        self.normal_class = [normal_class] if isinstance(normal_class, str) else normal_class
        self._patterns = {"class": _compiled("class", class_pattern), "group": _compiled("group", group_pattern)}
        self.table = None if table is None else user_path(table)
        self.file_column, self._named = file_column, {"class": class_column, "group": group_column}
        self.test_fraction, self.split_seed = test_fraction, split_seed
        self.seconds, self.sample_rate, self.n_filters = seconds, sample_rate, n_filters
        self.features: SoundFeatures = features
        self.name = self.root.name

    def input_spec(self) -> InputSpec:
        """Series by the lengths and rates of the training files."""
        sound, n_filters = self._sound
        return InputSpec("series", (sound.n_frames, n_filters), self.name, sound=sound)

    def load(self, part: Part) -> Samples | None:
        """One part; names are paths below `root`. None for a test part where nothing is tested.

        Raises:
            SourceError: no files, one that is damaged or that a pattern or table says nothing of, a class that there is
                not, a group in both parts; sound without librosa.
        """
        tested = self._tested
        rows = np.flatnonzero(tested == (part == "test"))
        if not len(rows):
            return None
        sound, n_filters = self._sound
        paths = [self._paths[row] for row in rows]
        x = features(paths, sound, n_filters, f"{part} features")
        return Samples(torch.from_numpy(x), self._labels[rows], tuple(self._names[row] for row in rows))

    def held_out(self, fraction: float, seed: int) -> NDArray[np.bool_] | None:
        """Which training files (N,) set the threshold: whole groups, one at least, so that it holds for new ones.

        None where no groups are known, or fewer than three have normal files to train on.

        Args:
            fraction: of these groups, in [0, 1); rounded.
            seed: of the draw.
        """
        said = self._said("group")
        if said is None or fraction == 0:
            return None
        trained = ~self._tested
        groups = [group for group, kept in zip(said, trained, strict=True) if kept]
        normal = self._labels[trained] != ANOMALY
        names = sorted({group for group, is_normal in zip(groups, normal, strict=True) if is_normal})
        if len(names) < _FEWEST_GROUPS:
            rank_zero_warn(
                f"{self.root}: {len(names)} groups are trained on, too few to hold one out: the threshold is set by "
                f"files of the same groups, and new ones will give more alarms"
            )
            return None
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(20)[19])  # apart from all other draws
        n = min(max(1, round(fraction * len(names))), len(names) - 2)
        chosen = {names[i] for i in rng.permutation(len(names))[:n]}
        return np.array([group in chosen for group in groups])

    # ---- what is known of the files -------------------------------------------------------------------------------

    @cached_property
    def _paths(self) -> list[Path]:
        require_audio()
        return find_wavs(self.root)

    @cached_property
    def _names(self) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self._paths]

    @cached_property
    def _wavs(self) -> list[Wav]:
        return headers(self._paths)

    @cached_property
    def _sound(self) -> tuple[SoundSpec, int]:
        """How files become series, by those that are trained on; says what that does to all."""
        trained = [wav for wav, tested in zip(self._wavs, self._tested, strict=True) if not tested]
        sound = usual_sound(trained, self.sample_rate, self.seconds, self.features == "mfcc")
        say_what_is_done(self._wavs, self._names, sound, self.root)
        return sound, fitting_filters(self.n_filters, sound.sample_rate)

    @cached_property
    def _has_parts(self) -> bool:
        """Whether folders say what is trained on and tested."""
        first = {name.split("/")[0] for name in self._names if "/" in name}
        if "train" not in first:
            return False
        if others := first - set(_PARTS):
            raise SourceError(f"{self.root} has a folder train: beside it there may be test, got {sorted(others)}")
        return True

    @cached_property
    def _classes(self) -> list[str]:
        """Class of each file; empty where none is known."""
        if (said := self._said("class")) is not None:
            return said
        depth = 1 if self._has_parts else 0
        folders = [name.split("/")[depth:-1] for name in self._names]
        return [inside[0] if inside else "" for inside in folders]

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        classes = sorted(set(self._classes) - {""})
        if self.normal_class is None:
            if set(classes) <= set(WORDS):
                return np.array([WORDS.get(name, NO_LABEL) for name in self._classes], dtype=np.int64)
            if len(classes) == 1:
                return np.full(len(self._classes), NO_LABEL, dtype=np.int64)
            raise SourceError(
                f"normal_class must say which of {len(classes)} classes in {self.root} are normal: {quoted(classes)}"
            )
        if absent := [name for name in self.normal_class if name not in classes]:
            raise SourceError(f"normal_class: {self.root} has no class {quoted(absent)}; it has {quoted(classes)}")
        normal = np.isin(np.array(self._classes, dtype=object), self.normal_class)
        known = np.array([name != "" for name in self._classes])
        return np.select([normal, known], [NORMAL, ANOMALY], NO_LABEL).astype(np.int64)

    @cached_property
    def _tested(self) -> NDArray[np.bool_]:
        """Whether each file is tested."""
        groups = self._said("group")
        if self._has_parts:
            tested = np.array([name.startswith("test/") for name in self._names])
            if groups is not None:
                both = {g for g, t in zip(groups, tested, strict=True) if t} & {
                    g for g, t in zip(groups, tested, strict=True) if not t
                }
                if both:
                    raise SourceError(
                        f"{self.root}: groups must lie in train or in test, not in both, got {quoted(sorted(both))}"
                    )
            return tested
        labels = self._labels
        if not (labels != NO_LABEL).any():
            return np.zeros(len(labels), dtype=bool)
        if groups is None:
            rank_zero_warn(
                f"{self.root}: nothing says who speaks in a file, or which machine is heard: the same one may be in "
                f"training and test. Say group_pattern or group_column, or make folders train and test"
            )
        return tested_files(labels, groups, self.test_fraction, self.split_seed)

    def _said(self, what: str) -> list[str] | None:
        """Class or group of each file by its pattern, or by the table; None where neither says it."""
        if (pattern := self._patterns[what]) is not None:
            found = [pattern.search(name) for name in self._names]
            if missed := [name for name, match in zip(self._names, found, strict=True) if not match or not match[1]]:
                raise SourceError(
                    f"{what}_pattern={pattern.pattern!r} finds nothing in {len(missed)} of {len(found)} files of "
                    f"{self.root}, {missed[0]!r} the first"
                )
            return [match[1] for match in found if match]
        column = self._named[what]
        return None if column is None else [self._rows[name][column] for name in self._names]

    @cached_property
    def _rows(self) -> dict[str, dict[str, str]]:
        """What the table says of each file."""
        assert self.table is not None
        columns = [name for name in (self.file_column, *self._named.values()) if name is not None]
        frame = read_frame(self.table, columns)
        refuse_missing_columns(frame, self.table, {"file_column": [self.file_column]})
        for what, name in self._named.items():
            refuse_missing_columns(frame, self.table, {f"{what}_column": [name] if name is not None else []})
        values = {name: names_of(frame[name]) for name in columns}
        by_file = {
            file: {name: values[name][row] for name in columns} for row, file in enumerate(values[self.file_column])
        }
        rows = {name: by_file.get(name) or by_file.get(name.rpartition("/")[2]) for name in self._names}
        if absent := [name for name, row in rows.items() if row is None]:
            raise SourceError(
                f"{self.table} says nothing of {len(absent)} of {len(rows)} files in {self.root}, {absent[0]!r} the "
                f"first (column {self.file_column!r} has their paths below {self.root}, or their names)"
            )
        return {name: row for name, row in rows.items() if row is not None}


def tested_files(
    labels: NDArray[np.int64], groups: Sequence[str] | None, test_fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Which files (N,) are tested: whole groups where they are known, else a share of the normals and of the anomalies.

    Args:
        labels: (N,) in {0, 1, -1}; files without label are tested with their group only.
        groups: of each file; None where they are not known.
        test_fraction: of the groups, or of the files of each label; rounded up.
        seed: of the draw.

    Raises:
        SourceError: no group, or no normal file, is left to train on.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(19)[18])  # apart from all other draws
    tested = np.zeros(len(labels), dtype=bool)
    if groups is None:
        for kind in (NORMAL, ANOMALY):
            rows = np.flatnonzero(labels == kind)
            tested[rng.permutation(rows)[: math.ceil(test_fraction * len(rows) - 1e-9)]] = True
    else:
        names = sorted(set(groups))
        n = math.ceil(test_fraction * len(names) - 1e-9)
        if n >= len(names):
            raise SourceError(
                f"groups must leave one to train on, test_fraction={test_fraction} of {len(names)} takes all: "
                f"{quoted(names)}"
            )
        chosen = {names[i] for i in rng.permutation(len(names))[:n]}
        tested = np.array([group in chosen for group in groups])
    if not (labels[~tested] != ANOMALY).any():
        raise SourceError(f"no normal file is left to train on with test_fraction={test_fraction}")
    return tested


def _compiled(what: str, pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what}_pattern={pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise ValueError(f"{what}_pattern={pattern!r} must have brackets around the {what}, as in '_([a-z]+)_'")
    return compiled
