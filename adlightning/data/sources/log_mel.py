"""Sound files to series of log mel filterbank energies, the arithmetic of DROCC's released feature extraction.

It calls python_speech_features' `fbank` with a Hamming window; here the same is done for many clips at once. Windows of
25 ms every 10 ms of a clip of one second; samples in units of 16-bit integers; pre-emphasis 0.97; power spectrum;
triangular filters, equally wide in mel from 0 to half the sample rate, whose corners are rounded down to bins of the
spectrum; log(energy + 1e-10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from rich.progress import track

from adlightning.core.contracts import SourceError
from adlightning.core.sound import STRIDE, WINDOW

PRE_EMPHASIS = 0.97
FULL_SCALE = 32768  # of 16-bit samples
MIN_ENERGY = 1e-10
MAX_FRAMES = 99
"""Windows that cover one second; the last of them ends 5 ms beyond it, in silence."""

BATCH = 256  # clips at a time: about 50 MB of spectra


def read_clip(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """The first second of a sound file, (sample_rate,), in units of 16-bit samples; zeros come before a shorter one.

    Several channels are averaged; another sample rate is resampled.

    Raises:
        SourceError: the file cannot be decoded, has no samples, or some that are not finite.
    """
    import librosa
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            channels = file.read(rate, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise SourceError(f"{path} cannot be decoded: {error}") from error
    if not len(channels):
        raise SourceError(f"{path} has no samples")
    if not np.isfinite(channels).all():
        raise SourceError(f"{path} holds samples that are not finite")
    signal = channels.mean(axis=1)
    if rate != sample_rate:
        signal = librosa.resample(signal, orig_sr=rate, target_sr=sample_rate)
    clip = np.zeros(sample_rate, dtype=np.float32)
    kept = signal[:sample_rate]
    clip[sample_rate - len(kept) :] = kept * FULL_SCALE
    return clip


def mel_filters(n_filters: int, n_fft: int, sample_rate: int) -> NDArray[np.float32]:
    """Triangular filters (n_filters, n_fft // 2 + 1) with corners on bins, each of height 1.

    Raises:
        SourceError: so many filters that two corners fall on one bin.
    """
    import librosa

    corners = librosa.mel_frequencies(n_filters + 2, fmin=0, fmax=sample_rate / 2, htk=True)
    bins = np.floor((n_fft + 1) * corners / sample_rate)
    if len(np.unique(bins)) < len(bins):
        raise SourceError(
            f"n_filters must be small enough for filters of their own at {sample_rate} Hz, got {n_filters}"
        )
    low, middle, high = bins[:-2, None], bins[1:-1, None], bins[2:, None]
    k = np.arange(n_fft // 2 + 1)
    triangles = np.minimum((k - low) / (middle - low), (high - k) / (high - middle))
    filters: NDArray[np.float32] = np.maximum(triangles, 0).astype(np.float32)
    return filters


def size_of_spectrum(sample_rate: int) -> int:
    """What a window is transformed in: the next power of two."""
    return 1 << (round(WINDOW * sample_rate) - 1).bit_length()


def log_mel(
    clips: NDArray[np.float32], filters: NDArray[np.float32], n_frames: int, sample_rate: int
) -> NDArray[np.float32]:
    """Log energies (N, n_frames, D) of clips (N, samples), through filters (D, n_fft // 2 + 1)."""
    import librosa

    window, stride = (round(seconds * sample_rate) for seconds in (WINDOW, STRIDE))
    n_fft = 2 * (filters.shape[1] - 1)
    before = (n_fft - window) // 2  # the library centres a shorter window in what it transforms
    length = (n_frames - 1) * stride + n_fft - before
    emphasised = clips.copy()
    emphasised[:, 1:] -= PRE_EMPHASIS * clips[:, :-1]
    padded = np.pad(emphasised, ((0, 0), (before, max(0, length - clips.shape[1]))))[:, : before + length]
    spectrum = librosa.stft(
        padded, n_fft=n_fft, hop_length=stride, win_length=window, window=np.hamming(window), center=False
    )
    power = np.square(np.abs(spectrum)) / n_fft
    energies: NDArray[np.float32] = np.log(filters @ power + MIN_ENERGY).astype(np.float32)
    return energies.transpose(0, 2, 1)


def features_of(
    paths: Sequence[Path],
    n_frames: int,
    n_filters: int,
    sample_rate: int,
    cosine: bool,
    description: str,
    read: Callable[[Path], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Features (N, n_frames, n_filters) of sound files, with a progress bar.

    Args:
        paths: the files.
        n_frames: windows of a clip.
        n_filters: filters, and coefficients.
        sample_rate: to which clips are brought, in Hz.
        cosine: transform log energies to cepstral coefficients (MFCC, the orthonormal DCT-II), as many as filters.
        description: what the progress bar says.
        read: a file's clip at that rate, as long as every other; None takes the first second.

    Raises:
        SourceError: librosa or soundfile is not installed, a file is damaged or empty, or there are too many filters.
    """
    try:
        import librosa  # noqa: F401
        import soundfile  # noqa: F401
    except ImportError as error:
        raise SourceError(f"features of sound need {error.name}: pip install 'adlightning[audio]'") from None
    filters = mel_filters(n_filters, size_of_spectrum(sample_rate), sample_rate)
    features = np.empty((len(paths), n_frames, n_filters), dtype=np.float32)
    for start in track(range(0, len(paths), BATCH), description=description, transient=True):
        stop = min(start + BATCH, len(paths))
        part = paths[start:stop]
        clips = np.stack([read_clip(path, sample_rate) if read is None else read(path) for path in part])
        features[start:stop] = log_mel(clips, filters, n_frames, sample_rate)
    return scipy.fft.dct(features, norm="ortho").astype(np.float32) if cosine else features
