"""Many sound files: where they are, what is said of them, and their features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_warn

from adlightning.core.contracts import SourceError
from adlightning.core.sound import LONGEST, SoundSpec
from adlightning.data.sources.log_mel import features_of, mel_filters, size_of_spectrum
from adlightning.data.sources.wav_file import Wav, read_wav, wav_header

MOST_FILTERS = 32
USUAL_LONGEST = 10.0
"""Seconds of a clip at most, where nobody says how long."""

_SHARE = 0.95


def find_wavs(root: Path) -> list[Path]:
    """Files .wav in a folder and those within it, in order; what else lies there is said.

    Raises:
        SourceError: no such folder, or none in it.
    """
    if not root.is_dir():
        raise SourceError(f"there is no folder {root}")
    inside = [path for path in sorted(root.rglob("*")) if not _is_hidden(path, root) and not path.is_dir()]
    wavs = [path for path in inside if path.suffix.lower() == ".wav"]
    others = [path for path in inside if path.suffix.lower() != ".wav"]
    if not wavs:
        raise SourceError(f"{root} has no .wav files" + (f"; it holds {_kinds(others)}" if others else ""))
    if others:
        first, kinds = others[0].relative_to(root).as_posix(), _kinds(others)
        rank_zero_warn(f"{root}: left out are {len(others)} that are no .wav files ({kinds}), {first} the first")
    return wavs


def usual_sound(wavs: Sequence[Wav], sample_rate: int | None, seconds: float | None, cosine: bool) -> SoundSpec:
    """What is done to these files: their lowest rate, and the length that 95 % of them do not exceed, unless given.

    Args:
        wavs: what the training files declare.
        sample_rate: in Hz; None takes the lowest of theirs.
        seconds: of a clip; None takes at most 10.
        cosine: whether there are cepstral coefficients.
    """
    rate = min(wav.rate for wav in wavs) if sample_rate is None else sample_rate
    if seconds is None:
        lengths = [wav.seconds for wav in wavs]
        seconds = min(float(np.quantile(lengths, _SHARE, method="higher")), USUAL_LONGEST)
    return SoundSpec(rate, max(1, round(min(seconds, LONGEST) * rate)), cosine)


def fitting_filters(n_filters: int | None, sample_rate: int) -> int:
    """The number of filters; None takes 32, or as many as have frequencies of their own at a low rate."""
    if n_filters is not None:
        mel_filters(n_filters, size_of_spectrum(sample_rate), sample_rate)
        return n_filters
    for n in range(MOST_FILTERS, 1, -1):
        try:
            mel_filters(n, size_of_spectrum(sample_rate), sample_rate)
        except SourceError:
            continue
        return n
    return 1


def say_what_is_done(wavs: Sequence[Wav], names: Sequence[str], sound: SoundSpec, where: Path) -> None:
    """Warn of clips that are cut, brought to a higher rate, or mixed down to one channel."""
    for holds, does in _DONE:
        if found := [i for i, wav in enumerate(wavs) if holds(wav, sound)]:
            first = does(wavs[found[0]], sound)
            rank_zero_warn(f"{where}: {len(found)} of {len(wavs)} clips {first}, {names[found[0]]!r} the first")


def features(paths: Sequence[Path], sound: SoundSpec, n_filters: int, description: str) -> NDArray[np.float32]:
    """Series (N, n_frames, n_filters) of files. Raises SourceError, which names the file, for one that is damaged."""
    return features_of(
        paths,
        sound.n_frames,
        n_filters,
        sound.sample_rate,
        sound.cosine,
        description,
        lambda path: read_wav(path, sound),
    )


def headers(paths: Sequence[Path]) -> list[Wav]:
    """What each file declares. Raises SourceError, which names the file, for one that is no WAV file."""
    return [wav_header(path) for path in paths]


_DONE: tuple[tuple[Callable[[Wav, SoundSpec], bool], Callable[[Wav, SoundSpec], str]], ...] = (
    (
        lambda wav, sound: wav.seconds > sound.seconds + 1e-3,
        lambda wav, sound: f"are longer than {sound.seconds:.3g} s and are cut after it (seconds says how long)",
    ),
    (
        lambda wav, sound: wav.rate < sound.sample_rate,
        lambda wav, sound: f"of fewer than {sound.sample_rate} Hz are resampled upwards: they lack high frequencies",
    ),
    (
        lambda wav, sound: wav.channels > 1,
        lambda wav, sound: "have several channels, which are averaged",
    ),
)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _kinds(paths: Sequence[Path]) -> str:
    suffixes = Counter(path.suffix.lower() or "without suffix" for path in paths)
    return ", ".join(f"{n} {suffix}" for suffix, n in suffixes.most_common())
