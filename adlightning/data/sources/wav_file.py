"""Sound files in WAV: what their headers declare, checked before any sound is read, and their samples."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.core.sound import HIGHEST_RATE, LOWEST_RATE, SoundSpec
from adlightning.data.sources.log_mel import FULL_SCALE

MOST_CHANNELS = 64
_UNKNOWN = 2**32 - 1  # what a recorder writes that does not know the length yet
_FORMATS = (b"RIFF", b"RIFX", b"RF64")


class Wav(NamedTuple):
    """What a file declares: samples a second, channels, and samples of each."""

    rate: int
    channels: int
    n_samples: int

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.n_samples / self.rate


def require_audio() -> None:
    """Raise SourceError where the packages that sound needs are not installed."""
    try:
        import librosa  # noqa: F401
        import soundfile  # noqa: F401
    except ImportError as error:
        raise SourceError(f"sound needs {error.name}: pip install 'adlightning[audio]'") from None


def wav_header(path: Path) -> Wav:
    """What a file declares of itself.

    Raises:
        SourceError: no WAV file, one that is cut off, without samples, or with a rate or channels that none has.
    """
    import soundfile

    try:
        with path.open("rb") as file:
            _require_wav(file, path)
        with soundfile.SoundFile(path) as sound:
            wav = Wav(sound.samplerate, sound.channels, sound.frames)
    except (soundfile.SoundFileError, OSError) as error:
        raise SourceError(f"{path} cannot be decoded: {error}") from error
    if not LOWEST_RATE <= wav.rate <= HIGHEST_RATE:
        raise SourceError(f"{path} declares {wav.rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} are taken")
    if wav.channels > MOST_CHANNELS:
        raise SourceError(f"{path} declares {wav.channels} channels; at most {MOST_CHANNELS} are taken")
    if wav.n_samples < 1:
        raise SourceError(f"{path} has no samples")
    return wav


def _require_wav(file: BinaryIO, path: Path) -> None:
    start = file.read(12)
    if start[:4] not in _FORMATS or start[8:12] != b"WAVE":
        what = f"it begins with {start[:12]!r}" if start else "it is empty"
        raise SourceError(f"{path} is no WAV file: {what}")
    order = ">" if start[:4] == b"RIFX" else "<"
    size = path.stat().st_size
    while len(head := file.read(8)) == 8:
        declared: int = struct.unpack(f"{order}I", head[4:])[0]
        left = size - file.tell()
        if head[:4] == b"data":
            if declared > left and not (declared == _UNKNOWN or start[:4] == b"RF64"):
                raise SourceError(f"{path} is cut off: it declares {declared} bytes of sound, {left} are there")
            return
        if declared > left:
            break
        file.seek(declared + declared % 2, 1)
    raise SourceError(f"{path} is a damaged WAV file: there is no sound in it")


def read_wav(path: Path, sound: SoundSpec) -> NDArray[np.float32]:
    """The beginning of a file as a clip (n_samples,), in units of 16-bit samples; zeros come before a shorter one.

    Channels are averaged, another rate is resampled. No more than the clip is read.

    Raises:
        SourceError: as :func:`wav_header`, a file that cannot be decoded, or samples that are not finite.
    """
    import librosa
    import soundfile

    wav = wav_header(path)
    wanted = min(wav.n_samples, math.ceil(sound.n_samples * wav.rate / sound.sample_rate))
    try:
        with soundfile.SoundFile(path) as file:
            channels = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise SourceError(f"{path} cannot be decoded: {error}") from error
    if not len(channels):
        raise SourceError(f"{path} has no samples")
    if not np.isfinite(channels).all():
        raise SourceError(f"{path} holds samples that are not finite")
    signal = channels.mean(axis=1)
    if wav.rate != sound.sample_rate:
        signal = librosa.resample(signal, orig_sr=wav.rate, target_sr=sound.sample_rate)
    clip = np.zeros(sound.n_samples, dtype=np.float32)
    kept = signal[: sound.n_samples]
    clip[sound.n_samples - len(kept) :] = kept * FULL_SCALE
    return clip
