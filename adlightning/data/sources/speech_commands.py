"""Google's Speech Commands (Warden, 2018): spoken words as series of filterbank energies."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.data.sources.base import ClassSource, Part, Samples
from adlightning.data.sources.log_mel import MAX_FRAMES, features_of
from adlightning.data.sources.npz import read_arrays
from adlightning.files.disk import user_path

FeatureName = Literal["log_mel", "mfcc"]

TESTING_LIST = "testing_list.txt"
_MARK = "_nohash_"  # after the speaker in a clip's name
N_HASHES = 2**27  # of which_set in the data set's own README
TEST_PERCENT = (10, 20)  # there, 0 to 10 is the validation part

FORMAT = 1  # of cached features; another number makes all of them anew


class SpeechCommands(ClassSource):
    """Clips of one second in a folder a word, `root/<word>/*.wav`, as float32 series (N, n_frames, n_filters).

    As Speech Commands, version 1 or 2, unpacks; folders whose names begin with `_` or `.` are left out. The test part
    is `root/testing_list.txt`; without that file, the speakers whom the data set's own rule puts there: about 10 %, by
    a hash of the speaker in the file's name (`<speaker>_nohash_<n>.wav`; a file named otherwise is its own speaker). In
    the data set nobody speaks in both parts; of other clips it is said when that cannot be told, or is not so. Files
    that are no .wav and folders within those of words are left out, and counted. All else trains, the clips of
    `validation_list.txt` too: what is held out of training is the datamodule's to say.

    DROCC (Goyal et al., ICML 2020, Section 5) speaks of MFCC with 32 filters, windows of 25 ms every 10 ms, 98 of them;
    its released code computes the logarithm of filterbank energies (no cosine transform), 99 windows with the last one
    reaching beyond the clip, and puts zeros before clips shorter than a second. `log_mel` is that, but for the 99th.
    Other sample rates are resampled, several channels averaged, longer clips cut after the first second.

    Args:
        root: the folder of the words.
        features: `log_mel`, or `mfcc` for the cosine transform of it, with all coefficients.
        n_frames: T, windows of a clip, the first ones: 1 to 99.
        n_filters: D, filters; at 16 kHz at most about 50 have frequencies of their own.
        sample_rate: to which clips are brought, in Hz.
        cache: folder that keeps the features, in a file for each part and choice of arguments, made anew when files
            come, go or change; files of before stay until you delete them. null computes them at each start.

    Raises:
        ValueError: an argument outside its range.
    """

    classes: tuple[str, ...] = ()
    name = "Speech Commands"

    def __init__(
        self,
        root: str = "data/speech_commands",
        features: FeatureName = "log_mel",
        n_frames: int = 98,
        n_filters: int = 32,
        sample_rate: int = 16000,
        cache: str | None = "data/features",
    ) -> None:
        if features not in get_args(FeatureName):
            raise ValueError(f"features must be one of {', '.join(get_args(FeatureName))}, got {features!r}")
        if not 1 <= n_frames <= MAX_FRAMES:
            raise ValueError(f"n_frames must lie in 1 to {MAX_FRAMES}, the windows of one second, got {n_frames}")
        if n_filters < 1:
            raise ValueError(f"n_filters must be at least 1, got {n_filters}")
        if sample_rate < 1000:
            raise ValueError(f"sample_rate must be at least 1000 Hz, got {sample_rate}")
        self.root = user_path(root)
        self.features: FeatureName = features
        self.n_frames = n_frames
        self.n_filters = n_filters
        self.sample_rate = sample_rate
        self.cache = cache

    def prepare(self) -> None:
        """Compute features that are not in the cache yet, where there is one. Raises :class:`SourceError`."""
        for part in get_args(Part):
            if self.cache is not None and self._files[part]:
                self._features(part)

    def input_spec(self) -> InputSpec:
        """Series (T, D) by the arguments."""
        return InputSpec("series", (self.n_frames, self.n_filters), self.name)

    def load(self, part: Part) -> Samples:
        """One part; names are paths relative to `root`.

        Raises:
            SourceError: no folder, no words, no clips in this part; a clip that is damaged, empty or not finite; a
                damaged cache, or one that cannot be written; features to compute without librosa.
        """
        files = self._files[part]
        if not files:
            raise SourceError(f"{self.root} has no clips in its {part} part")
        index = {word: i for i, word in enumerate(self.classes)}
        y = np.array([index[name.partition("/")[0]] for name in files], dtype=np.int64)
        return Samples(torch.from_numpy(self._features(part)), y, files)

    @cached_property
    def _files(self) -> dict[Part, tuple[str, ...]]:
        """Clips of each part, `word/file.wav`, in order; finds the classes too."""
        if not self.root.is_dir():
            raise SourceError(f"there is no folder {self.root}; unpack Speech Commands there")
        folders = sorted(path for path in self.root.iterdir() if path.is_dir() and path.name[0] not in "._")
        inside = {path.name: sorted(path.iterdir()) for path in folders}
        is_clip = {
            path: path.suffix.lower() == ".wav" and path.is_file() for paths in inside.values() for path in paths
        }
        clips = {word: [path.name for path in paths if is_clip[path]] for word, paths in inside.items()}
        _warn_left_out(self.root, [path for path, taken in is_clip.items() if not taken])
        names = [f"{word}/{clip}" for word, inside in clips.items() for clip in inside]
        if not names:
            raise SourceError(f"{self.root} has no clips; they lie in {self.root}/<word>/*.wav")
        self.classes = tuple(word for word, inside in clips.items() if inside)
        test = self._test_names(names)
        parts: dict[Part, tuple[str, ...]] = {
            "train": tuple(name for name in names if name not in test),
            "test": tuple(name for name in names if name in test),
        }
        _warn_of_speakers(self.root, parts)
        return parts

    def _test_names(self, names: list[str]) -> set[str]:
        path = self.root / TESTING_LIST
        if not path.is_file():
            return {name for name in names if is_test_speaker(name)}
        listed = {
            line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        }
        if listed.isdisjoint(names):
            raise SourceError(f"{path} names none of the clips in {self.root}; its lines are <word>/<file>.wav")
        absent = sorted(name for name in listed.difference(names) if name.partition("/")[0] in self.classes)
        if absent:
            rank_zero_warn(f"{path} names {len(absent)} clips that are not there, {absent[0]} the first")
        return listed

    def _features(self, part: Part) -> NDArray[np.float32]:
        paths = [self.root / name for name in self._files[part]]
        cached = (
            None if self.cache is None else user_path(self.cache) / f"speech_commands-{part}-{self._key(paths)}.npz"
        )
        if cached is not None and cached.is_file():
            return self._read(cached, len(paths))
        if cached is not None:
            make_folder(cached.parent)
        features = features_of(
            paths, self.n_frames, self.n_filters, self.sample_rate, self.features == "mfcc", f"{part} features"
        )
        if cached is not None:
            save_whole(cached, features)
        return features

    def _key(self, paths: list[Path]) -> str:
        """A name for the features of these files as they are now, by these arguments."""
        arguments = [FORMAT, self.features, self.n_frames, self.n_filters, self.sample_rate]
        states = [
            (path.relative_to(self.root).as_posix(), s.st_size, s.st_mtime_ns) for path in paths for s in [path.stat()]
        ]
        return hashlib.sha256(json.dumps([arguments, states]).encode()).hexdigest()[:16]

    def _read(self, cached: Path, n: int) -> NDArray[np.float32]:
        features = read_arrays(cached, ["features"]).get("features")
        wanted = (n, self.n_frames, self.n_filters)
        if features is None or features.shape != wanted or features.dtype != np.float32:
            raise SourceError(f"{cached} does not hold features {wanted} in float32: delete it")
        return features


def _warn_left_out(root: Path, paths: list[Path]) -> None:
    suffixes = Counter(path.suffix.lower() or "without suffix" for path in paths)
    if paths:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common())
        first = paths[0].relative_to(root).as_posix()
        rank_zero_warn(f"{root}: left out are {len(paths)} that are no .wav files ({kinds}), {first} the first")


def _warn_of_speakers(root: Path, parts: dict[Part, tuple[str, ...]]) -> None:
    """Say when somebody may speak in both parts: by the names of clips, of which the data set's have the speaker."""
    names = [name for part in parts.values() for name in part]
    unknown = [name for name in names if _MARK not in Path(name).name]
    speakers = {part: {_speaker(name) for name in parts[part]} for part in parts}
    if unknown:
        rank_zero_warn(
            f"{root}: the speakers of {len(unknown)} of {len(names)} clips cannot be told, {unknown[0]} the first, "
            f"since they are not named <speaker>{_MARK}<n>.wav: somebody may speak in training and test alike. Name "
            f"them so, or list clips of other speakers in {TESTING_LIST}"
        )
    elif both := sorted(speakers["train"] & speakers["test"]):
        rank_zero_warn(f"{root}: {len(both)} speakers are in training and test alike, {both[0]} the first")
    elif 1 < len(names) == len(speakers["train"]) + len(speakers["test"]):
        rank_zero_warn(
            f"{root}: each of the {len(names)} clips is of another speaker by its name; where names do not tell the "
            f"speaker, somebody may speak in training and test alike"
        )


def _speaker(name: str) -> str:
    return Path(name).name.partition(_MARK)[0]


def is_test_speaker(name: str) -> bool:
    """Whether the data set's rule puts a clip, `word/speaker_nohash_0.wav`, into the test part, by its speaker."""
    speaker = _speaker(name)
    number = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16) % N_HASHES
    low, high = TEST_PERCENT
    return low <= number * 100 / (N_HASHES - 1) < high


def make_folder(folder: Path) -> None:
    """Make a folder, before the long work whose result it is for. Raises SourceError when it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"cache: {folder} cannot be made: {error}") from error
    if not os.access(folder, os.W_OK):
        raise SourceError(f"cache: {folder} cannot be written")


def save_whole(path: Path, features: NDArray[np.float32]) -> None:
    """Write an .npz whole or not at all, also when other processes write the same."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, features=features)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file of the new name
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
