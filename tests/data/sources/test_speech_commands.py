from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.io.wavfile
import torch
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.data.sources import log_mel
from adlightning.data.sources.speech_commands import SpeechCommands, is_test_speaker

pytest.importorskip("librosa")
pytest.importorskip("soundfile")

TRAINS, TESTS, VALIDATES = "00176480_nohash_0.wav", "0c40e715_nohash_0.wav", "026290a7_nohash_0.wav"


def sweep(length: int = 16000) -> NDArray[np.int16]:
    n = np.arange(length)
    return ((n * n // 40) % 2001 - 1000).astype(np.int16)


def write(root: Path, name: str, signal: NDArray[Any] | None = None, rate: int = 16000) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.wavfile.write(path, rate, sweep(4000) if signal is None else signal)
    return path


def source(root: Path, **options: Any) -> SpeechCommands:
    return SpeechCommands(str(root), **{"cache": None, **options})


def only(root: Path, **options: Any) -> NDArray[np.float32]:
    """Features (T, D) of the only training clip."""
    x = source(root, **options).load("train").x
    assert isinstance(x, torch.Tensor)
    assert len(x) == 1
    assert x.dtype == torch.float32
    values: NDArray[np.float32] = x[0].numpy()
    return values


# ---- features -------------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_released_extraction(tmp_path: Path) -> None:
    """By python_speech_features 0.6: log(fbank(s, nfilt=32, winfunc=np.hamming)[0] + 1e-10), 25 ms every 10 ms."""
    write(tmp_path, f"go/{TRAINS}", sweep()[2000:])  # the zeros before it are the released script's padding
    features = only(tmp_path, n_frames=99)
    assert features.shape == (99, 32)
    expected = {
        5: [-23.0258, -23.0258, -23.0258, -23.0258],
        12: [2.1922, 2.4404, 8.5517, 14.0658],
        50: [2.3372, 2.9612, 8.711, 13.8688],
        97: [3.0493, 3.5294, 9.3915, 14.3603],
        98: [6.867, 6.6857, 8.199, 13.3991],
    }
    for frame, values in expected.items():
        np.testing.assert_allclose(features[frame, [0, 1, 7, 31]], values, atol=2e-3)
    cepstral = only(tmp_path, n_frames=99, features="mfcc")
    np.testing.assert_allclose(cepstral[50, [0, 1, 7, 31]], [59.3641, -18.0763, -3.6353, 0.5076], atol=5e-3)


def test_fewer_frames_are_the_first_and_mfcc_is_the_cosine_transform(tmp_path: Path) -> None:
    write(tmp_path, f"go/{TRAINS}", sweep())
    whole = only(tmp_path)
    assert whole.shape == (98, 32)
    np.testing.assert_allclose(only(tmp_path, n_frames=3), whole[:3], atol=1e-5)
    expected = scipy.fft.dct(whole.astype(np.float64), norm="ortho")
    np.testing.assert_allclose(only(tmp_path, features="mfcc"), expected, atol=1e-4)


def test_a_tone_lies_in_the_filter_of_its_frequency(tmp_path: Path) -> None:
    t = np.arange(16000) / 16000
    for frequency in (500, 2000):
        write(tmp_path, f"go/{TRAINS}", (8000 * np.sin(2 * np.pi * frequency * t)).astype(np.int16))
        mel = 2595 * np.log10(1 + frequency / 700)
        centre = mel / (2595 * np.log10(1 + 8000 / 700)) * 33 - 1
        assert abs(only(tmp_path)[40].argmax() - centre) < 1


def test_longer_clips_are_cut_after_a_second(tmp_path: Path) -> None:
    write(tmp_path / "a", f"go/{TRAINS}", sweep(20000))
    write(tmp_path / "b", f"go/{TRAINS}", sweep(20000)[:16000])
    np.testing.assert_array_equal(only(tmp_path / "a"), only(tmp_path / "b"))


def test_channels_are_averaged_and_scales_do_not_matter(tmp_path: Path) -> None:
    mono = sweep() // 2 * 2
    write(tmp_path / "mono", f"go/{TRAINS}", mono)
    write(tmp_path / "stereo", f"go/{TRAINS}", np.stack([mono // 2, mono + mono // 2], axis=1))
    write(tmp_path / "float", f"go/{TRAINS}", (mono / 32768).astype(np.float32))
    np.testing.assert_allclose(only(tmp_path / "stereo"), only(tmp_path / "mono"), atol=1e-4)
    np.testing.assert_allclose(only(tmp_path / "float"), only(tmp_path / "mono"), atol=1e-4)


def test_other_rates_are_resampled(tmp_path: Path) -> None:
    for rate in (16000, 48000):
        tone = 8000 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
        write(tmp_path / str(rate), f"go/{TRAINS}", tone.astype(np.int16), rate)
    slow, fast = only(tmp_path / "16000"), only(tmp_path / "48000")
    assert slow.shape == fast.shape
    loud = slow[40] > 8
    assert loud.sum() > 3
    np.testing.assert_allclose(fast[20:80, loud], slow[20:80, loud], atol=0.1)


def test_features_do_not_depend_on_the_other_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        write(tmp_path, f"go/00176480_nohash_{i}.wav", sweep(9000 + i * 1000))
    whole = source(tmp_path).load("train").x
    monkeypatch.setattr(log_mel, "BATCH", 2)
    small = source(tmp_path).load("train").x
    assert isinstance(whole, torch.Tensor)
    assert isinstance(small, torch.Tensor)
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-5)
    assert len({row.numpy().tobytes() for row in whole}) == 5


# ---- parts and classes ----------------------------------------------------------------------------------------------


def test_words_are_classes_and_the_testing_list_is_the_test_part(tmp_path: Path) -> None:
    for name in ("yes/a.wav", "yes/b.WAV", "go/a.wav", "go/c.wav", "_background_noise_/n.wav", ".git/g.wav"):
        write(tmp_path, name)
    (tmp_path / "yes" / "note.txt").write_text("no clip")
    (tmp_path / "empty").mkdir()
    (tmp_path / "testing_list.txt").write_text("go/c.wav\n\nyes/a.wav\nbed/not_here.wav\n")
    (tmp_path / "validation_list.txt").write_text("yes/b.WAV\n")
    words = source(tmp_path, n_frames=4, n_filters=8)
    train, test = words.load("train"), words.load("test")
    assert words.classes == ("go", "yes")
    assert train.names == ("go/a.wav", "yes/b.WAV")
    assert test.names == ("go/c.wav", "yes/a.wav")
    assert train.y.tolist() == test.y.tolist() == [0, 1]
    spec = words.input_spec()
    assert (spec.kind, spec.shape, spec.description) == ("series", (4, 8), "Speech Commands")
    assert tuple(train.x[0].shape) == spec.shape


def test_without_a_list_the_official_rule_parts_the_speakers(tmp_path: Path) -> None:
    # of the official testing, validation and training lists of version 0.01
    for name in ("0c40e715", "0ea0e2f4", "105a0eea"):
        assert is_test_speaker(f"bed/{name}_nohash_0.wav")
    for name in ("026290a7", "060cd039", "00176480", "004ae714"):
        assert not is_test_speaker(f"bed/{name}_nohash_0.wav")
    for word in ("go", "yes"):
        for name in (TRAINS, TESTS, VALIDATES, TESTS.replace("_0", "_1")):
            write(tmp_path, f"{word}/{name}")
    words = source(tmp_path, n_frames=2)
    assert {Path(name).name[:8] for name in words.load("train").names} == {TRAINS[:8], VALIDATES[:8]}
    assert {Path(name).name[:8] for name in words.load("test").names} == {TESTS[:8]}


@pytest.mark.parametrize(
    ("names", "listed", "message"),
    [
        (["a/1.wav", "a/2.wav", f"a/{TESTS}"], None, "speakers of 2 of 3 clips cannot be told, a/1.wav the first"),
        (["a/1.wav", "a/2.wav"], ["a/2.wav"], "speakers of 2 of 2 clips cannot be told"),
        ([f"a/{TESTS}", f"b/{TRAINS}"], None, "each of the 2 clips is of another speaker by its name"),
        (
            ["a/x_nohash_0.wav", "a/x_nohash_1.wav"],
            ["a/x_nohash_1.wav"],
            "1 speakers are in training and test alike, x",
        ),
        (["a/x_nohash_0.wav", "a/x_nohash_1.wav", "b/y_nohash_0.wav"], ["b/y_nohash_0.wav"], None),
        ([f"a/{TESTS}", f"b/{TESTS}", f"b/{TRAINS}"], None, None),
    ],
)
def test_speakers_that_cannot_be_told_are_said(
    tmp_path: Path, names: list[str], listed: list[str] | None, message: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    for name in names:
        write(tmp_path, name)
    if listed is not None:
        (tmp_path / "testing_list.txt").write_text("\n".join([*listed, "unused/0.wav"]))
    assert sum(len(clips) for clips in source(tmp_path)._files.values()) == len(names)
    said = [str(warning.message) for warning in recwarn]
    assert len(said) == (message is not None)
    assert message is None or message in said[0]


def test_what_is_no_clip_or_not_there_is_counted(tmp_path: Path) -> None:
    for name in (f"a/{TRAINS}", f"a/{TESTS}", f"b/{TRAINS}", f"b/deep/{TRAINS}"):
        write(tmp_path, name)
    (tmp_path / "a" / "x.flac").touch()
    (tmp_path / "testing_list.txt").write_text(f"a/{TESTS}\na/gone_nohash_0.wav\n")
    with pytest.warns(UserWarning, match="no .wav files|not there") as warned:
        assert len(source(tmp_path)._files["train"]) == 2
    said = [str(warning.message) for warning in warned]
    assert said[0].endswith("left out are 2 that are no .wav files (1 .flac, 1 without suffix), a/x.flac the first")
    assert said[1].endswith("names 1 clips that are not there, a/gone_nohash_0.wav the first")


def test_about_a_tenth_of_speakers_tests() -> None:
    share = np.mean([is_test_speaker(f"go/{i:08x}_nohash_{i % 3}.wav") for i in range(4000)])
    assert 0.085 < share < 0.115


# ---- cache ----------------------------------------------------------------------------------------------------------


def test_the_cache_spares_the_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "words", tmp_path / "cache"
    write(root, f"go/{TRAINS}")
    write(root, f"go/{TESTS}", sweep(5000))
    first = source(root, cache=str(cache), n_frames=9)
    first.prepare()
    assert len(list(cache.iterdir())) == 2
    fresh = source(root, n_frames=9).load("test").x
    monkeypatch.setitem(sys.modules, "librosa", None)  # nothing is computed any more
    again = source(root, cache=str(cache), n_frames=9)
    again.prepare()
    cached = again.load("test").x
    assert isinstance(cached, torch.Tensor)
    assert isinstance(fresh, torch.Tensor)
    assert torch.equal(cached, fresh)
    assert sorted(p.suffix for p in cache.iterdir()) == [".npz", ".npz"]


def test_other_arguments_or_changed_clips_are_computed_anew(tmp_path: Path) -> None:
    root, cache = tmp_path / "words", str(tmp_path / "cache")
    clip = write(root, f"go/{TRAINS}", sweep(5000))
    before_change = only(root, cache=cache)
    np.testing.assert_allclose(only(root, cache=cache, n_frames=4), before_change[:4], atol=1e-5)
    assert not np.allclose(only(root, cache=cache, features="mfcc"), before_change)
    write(root, f"go/{TRAINS}", sweep(16000)[11000:])  # as long as before
    os.utime(clip, ns=(1, 1))
    changed = only(root, cache=cache)
    np.testing.assert_array_equal(changed, only(root))
    assert not np.allclose(changed[80], before_change[80], atol=0.1)
    write(root, f"stop/{TRAINS}")
    assert len(source(root, cache=cache).load("train").x) == 2


def test_no_cache_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "words", f"go/{TRAINS}")
    words = source(tmp_path / "words")
    words.prepare()
    words.load("train")
    assert [p.name for p in tmp_path.iterdir()] == ["words"]


@pytest.mark.parametrize("content", ["text", "array"])
def test_a_damaged_cache_is_named(tmp_path: Path, content: str) -> None:
    root, cache = tmp_path / "words", tmp_path / "cache"
    write(root, f"go/{TRAINS}")
    source(root, cache=str(cache)).prepare()
    (file,) = cache.iterdir()
    if content == "text":
        file.write_text("no archive")
    else:
        np.savez(file, features=np.zeros((1, 2, 3), dtype=np.float32))
    with pytest.raises(SourceError, match=file.name):
        source(root, cache=str(cache)).load("train")


def test_a_cache_that_cannot_be_made_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "words", f"go/{TRAINS}")
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(SourceError, match=r"cache: .*file.in cannot be made"):
        source(tmp_path / "words", cache=str(tmp_path / "file" / "in")).load("train")


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "plp"}, "features must be one of log_mel, mfcc, got 'plp'"),
        ({"n_frames": 0}, "n_frames must lie in 1 to 99, .* got 0"),
        ({"n_frames": 100}, "n_frames must lie in 1 to 99, .* got 100"),
        ({"n_filters": 0}, "n_filters must be at least 1, got 0"),
        ({"sample_rate": 10}, "sample_rate must be at least 1000 Hz, got 10"),
    ],
)
def test_refused_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeechCommands("nowhere", **options)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no folder .*nowhere"):
        source(tmp_path / "nowhere").load("train")
    with pytest.raises(SourceError, match=r"has no clips; they lie in .*/<word>/\*\.wav"):
        source(tmp_path).load("train")
    write(tmp_path, f"go/{TRAINS}")
    with pytest.raises(SourceError, match="has no clips in its test part"):
        source(tmp_path).load("test")
    (tmp_path / "testing_list.txt").write_text("yes/a.wav\n")
    with pytest.raises(SourceError, match=r"testing_list\.txt names none of the clips"):
        source(tmp_path).load("test")


def test_damaged_clips_are_named(tmp_path: Path) -> None:
    clip = write(tmp_path, f"go/{TRAINS}")
    for content in (b"RIFF, but no sound", b""):
        clip.write_bytes(content)
        with pytest.raises(SourceError, match=f"{TRAINS} cannot be decoded: "):
            source(tmp_path).load("train")
    write(tmp_path, f"go/{TRAINS}", np.zeros(0, dtype=np.int16))
    with pytest.raises(SourceError, match=f"{TRAINS} has no samples"):
        source(tmp_path).load("train")
    write(tmp_path, f"go/{TRAINS}", np.array([0, np.nan, 0], dtype=np.float32))
    with pytest.raises(SourceError, match=f"{TRAINS} holds samples that are not finite"):
        source(tmp_path).load("train")


def test_too_many_filters(tmp_path: Path) -> None:
    write(tmp_path, f"go/{TRAINS}")
    with pytest.raises(SourceError, match=r"n_filters must be small enough .* at 16000 Hz, got 128"):
        source(tmp_path, n_filters=128).load("train")


@pytest.mark.parametrize("library", ["librosa", "soundfile"])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    write(tmp_path, f"go/{TRAINS}")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SourceError, match=rf"need {library}: pip install 'adlightning\[audio\]'"):
        source(tmp_path).load("train")
