"""A folder of sound files: classes, speakers, rates, lengths, and files that are none."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io.wavfile
import torch
from numpy.typing import NDArray
from refusals import is_refusal

import adlightning as ad
from adlightning.__main__ import main
from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.sound import SoundSpec
from adlightning.data.own_samples import read_samples
from adlightning.data.sources.sound_folder import tested_files as chosen_for_test
from adlightning.data.sources.sounds import fitting_filters
from adlightning.data.sources.wav_file import read_wav, wav_header

pytest.importorskip("librosa")
pytest.importorskip("soundfile")

RATE = 8000
SPEAKERS = ("anna", "bert", "cleo", "dirk", "elsa", "fred")
WORDS = tuple(map(str, range(10)))
BY_NAME = {"class_pattern": "^([0-9])_", "group_pattern": "_([a-z]+)_"}


def word(number: int, speaker: int, take: int, rate: int = RATE, seconds: float = 0.5) -> NDArray[np.int16]:
    """Two tones that glide as the word says, a little higher or lower by the speaker."""
    t = np.arange(round(rate * seconds)) / rate
    knots = np.random.default_rng(number).uniform(300, 2600, size=(4, 2)) * (0.96 + 0.02 * speaker)
    noise = np.random.default_rng([number, speaker, take])
    x = 0.01 * noise.normal(size=len(t))
    for tone in knots.T:
        x += 0.3 * np.sin(2 * np.pi * np.cumsum(np.interp(t, np.linspace(0, seconds, 4), tone)) / rate)
    return (x * 32767).astype(np.int16)


def write(path: Path, samples: NDArray[Any], rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.wavfile.write(path, rate, samples)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers and ten words, three times each, in one folder: 7_anna_0.wav."""
    root = tmp_path_factory.mktemp("words")
    for speaker, name in enumerate(SPEAKERS):
        for number in range(10):
            for take in range(3):
                write(root / f"{number}_{name}_{take}.wav", word(number, speaker, take))
    return root


def source(root: Path, **arguments: Any) -> ad.SoundFolder:
    return ad.SoundFolder(str(root), **arguments)


def loaded(root: Path, **arguments: Any) -> tuple[ad.Samples, ad.Samples | None, InputSpec]:
    made = source(root, **arguments)
    train = made.load("train")
    assert train is not None
    return train, made.load("test"), made.input_spec()


# ---- one command ----------------------------------------------------------------------------------------------------


def test_six_speakers_and_ten_words_in_one_command(
    words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(Path(__file__).parents[3] / "configs/nearest_neighbor/sounds.yaml")
    options = [f"--data.{name}={value}" for name, value in BY_NAME.items()]
    options += ["--data.normal_class=7", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    run = tmp_path / "run"
    assert main(["fit", "--config", config, f"--data.root={words}", *options, f"--run_dir={run}", "--plots=false"]) == 0
    scores = pd.read_csv(run / "scores.csv")
    assert len(scores) == 3 * 30
    of_seven = scores["name"].str.startswith("7_")
    assert scores["score"][of_seven].max() < scores["score"][~of_seven].min()
    tested = set(scores["name"].str.split("_").str[1])
    assert len(tested) == 3
    new = tmp_path / "new"
    write(new / "deep" / "seven.wav", word(7, 1, 9))
    write(new / "loud.WAV", np.stack([word(3, 2, 9, 16000, 0.9)] * 2, axis=1), 16000)
    with pytest.warns(UserWarning, match="are cut after it") as said:
        code = main(["score", "--ckpt_path", str(run), "--data", str(new), "--out", str(tmp_path / "scores.csv")])
    assert code == 0
    messages = "\n".join(str(warning.message) for warning in said)
    assert "1 of 2 clips are longer than 0.5 s and are cut after it" in messages
    assert "1 of 2 clips have several channels, which are averaged, 'loud.WAV' the first" in messages
    scored = pd.read_csv(tmp_path / "scores.csv").set_index("name")
    assert scored["score"]["deep/seven.wav"] < scores["score"][~of_seven].min()
    assert scored["verdict"]["loud.WAV"] == "anomaly"
    (new / "page.wav").write_text("<html>404</html>")
    capsys.readouterr()
    code = main(["score", "--ckpt_path", str(run), "--data", str(new), "--out", str(tmp_path / "x.csv")])
    is_refusal(capsys, code, "page.wav is no WAV file", "<html>404")


def test_no_speaker_is_in_two_parts(words: Path) -> None:
    data = ad.SoundData(str(words), normal_class="7", seed=0, **BY_NAME)  # type: ignore[arg-type]
    data.setup("fit")
    parts = [
        {data.train_samples.names[i].split("_")[1] for i in rows} for rows in (data.split.train, data.split.validation)
    ]
    parts.append({data.test_samples.names[i].split("_")[1] for i in data.split.test})
    assert [len(part) for part in parts] == [2, 1, 3]
    assert len(set.union(*parts)) == 6
    assert data.split.validation_labels.tolist().count(0) == 3
    few = ad.SoundData(str(words), normal_class="7", seed=0, test_fraction=0.6, validation_fraction=0.2, **BY_NAME)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="2 groups are trained on, too few to hold one out"):
        few.setup("fit")


# ---- classes and groups ---------------------------------------------------------------------------------------------


def test_classes_and_groups_by_folder_pattern_and_table(tmp_path: Path) -> None:
    rows = []
    for i, (kind, speaker) in enumerate((k, s) for k in ("ok", "bad") for s in "abcd"):
        write(tmp_path / "by_folder" / kind / f"{speaker}{i}.wav", word(i, 0, 0))
        write(tmp_path / "flat" / f"clip{i}.wav", word(i, 0, 0))
        rows.append({"file": f"clip{i}.wav", "kind": kind, "who": speaker})
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    one, tested, _ = loaded(tmp_path / "by_folder", normal_class="ok", group_pattern=r"/([a-z])\d")
    assert tested is not None
    assert {name.split("/")[1][0] for name in one.names}.isdisjoint(name.split("/")[1][0] for name in tested.names)
    assert one.y.tolist() == [int(name.startswith("bad")) for name in one.names]
    other, _, _ = loaded(
        tmp_path / "flat",
        normal_class="ok",
        table=str(tmp_path / "clips.csv"),
        class_column="kind",
        group_column="who",
    )
    assert sorted(other.y.tolist()) == sorted(one.y.tolist())


def test_folders_of_parts_and_words_that_say_what_they_are(tmp_path: Path) -> None:
    for i, folder in enumerate(("train/normal", "train/normal", "train/unlabelled", "test/normal", "test/abnormal")):
        write(tmp_path / folder / f"{i}.wav", word(i, 0, 0))
    train, test, _ = loaded(tmp_path)
    assert test is not None
    assert train.y.tolist() == [0, 0, -1]
    assert test.y.tolist() == [1, 0]
    with pytest.raises(SourceError, match=r"must lie in train or in test, not in both, got 'wav'"):
        source(tmp_path, group_pattern=r"\.(wav)").load("train")


def test_a_folder_without_classes_trains_on_all_and_tests_nothing(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / f"{i}.wav", word(i, 0, 0))
    train, test, _ = loaded(tmp_path)
    assert train.y.tolist() == [-1] * 4
    assert test is None


def test_without_groups_it_is_said_that_a_speaker_may_be_in_both_parts(words: Path) -> None:
    with pytest.warns(UserWarning, match="nothing says who speaks in a file"):
        loaded(words, normal_class="7", class_pattern="^(.)")


def test_what_is_tested() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, -1])
    tested = chosen_for_test(labels, None, 0.4, 0)
    assert (tested[labels == 0].sum(), tested[labels == 1].sum(), tested[labels == -1].sum()) == (2, 1, 0)
    groups = list("aabbccdd")
    by_group = chosen_for_test(labels, groups, 0.4, 0)
    assert len({g for g, t in zip(groups, by_group, strict=True) if t}) == 2
    assert all(by_group[i] == by_group[i + 1] for i in range(0, 8, 2))


# ---- rates and lengths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "int16", "int24", "int32", "float32", "float64"])
def test_samples_of_every_width(tmp_path: Path, kind: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    subtype = {"uint8": "PCM_U8", "int16": "PCM_16", "int24": "PCM_24", "int32": "PCM_32"}
    x = word(1, 0, 0).astype(np.float64) / 32768
    soundfile.write(tmp_path / "x.wav", x, RATE, subtype.get(kind, "FLOAT" if kind == "float32" else "DOUBLE"))
    clip = read_wav(tmp_path / "x.wav", SoundSpec(RATE, len(x)))
    np.testing.assert_allclose(clip / 32768, x, atol=0.01 if kind == "uint8" else 1e-4)


def test_rates_lengths_and_channels(tmp_path: Path) -> None:
    for rate in (8000, 16000, 44100):
        write(tmp_path / f"{rate}.wav", word(1, 0, 0, rate), rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # downwards goes without saying
        train, _, spec = loaded(tmp_path, features="log_mel")
    assert spec.sound == SoundSpec(8000, 4000)
    assert spec.shape == (48, 32)
    assert InputSpec.from_dict(spec.as_dict()) == spec
    x = train.x
    assert isinstance(x, torch.Tensor)
    loud = x[2, 10:40] > 12
    assert (x[0, 10:40] - x[2, 10:40]).abs()[loud].median() < 0.3
    with pytest.warns(UserWarning, match="1 of 3 clips of fewer than 16000 Hz are resampled upwards"):
        loaded(tmp_path, sample_rate=16000)
    with pytest.warns(UserWarning, match="3 of 3 clips are longer than 0.2 s and are cut after it"):
        _, _, short = loaded(tmp_path, seconds=0.2)
    assert short.shape == (18, 32)


def test_zeros_come_before_a_shorter_clip(tmp_path: Path) -> None:
    write(tmp_path / "short.wav", np.full(100, 8192, dtype=np.int16))
    clip = read_wav(tmp_path / "short.wav", SoundSpec(RATE, 150))
    assert clip.tolist() == [0.0] * 50 + [8192.0] * 100


def test_filters_that_fit_a_rate() -> None:
    assert fitting_filters(None, 16000) == 32
    assert 1 <= fitting_filters(None, 1000) < 16
    with pytest.raises(SourceError, match="n_filters must be small enough"):
        fitting_filters(200, 8000)


# ---- refusals -------------------------------------------------------------------------------------------------------


def damaged(path: Path, kind: str) -> None:
    write(path, word(1, 0, 0))
    content = path.read_bytes()
    if kind == "no wav":
        content = b"ID3\x04 an mp3 of another name"
    elif kind == "empty":
        content = b""
    elif kind == "cut off":
        content = content[:1000]
    elif kind == "no sound":
        content = content[:36]
    elif kind == "no samples":
        content = content[:40] + struct.pack("<I", 0)
    elif kind == "rate":
        content = content[:24] + struct.pack("<I", 4_000_000_000) + content[28:]
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no wav", r"x\.wav is no WAV file: it begins with b'ID3"),
        ("empty", r"x\.wav is no WAV file: it is empty"),
        ("cut off", r"x\.wav is cut off: it declares 8000 bytes of sound, 956 are there"),
        ("no sound", r"x\.wav is a damaged WAV file: there is no sound in it"),
        ("no samples", r"x\.wav has no samples"),
        ("rate", r"x\.wav (declares -?\d+ Hz; 1000 to 768000 are taken|cannot be decoded)"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, kind: str, message: str) -> None:
    damaged(tmp_path / "x.wav", kind)
    with pytest.raises(SourceError, match=message):
        wav_header(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normal_class": None}, "normal_class must say which of 10 classes in .* are normal: '0', '1'"),
        ({"normal_class": "11"}, "normal_class: .* has no class '11'; it has '0', '1'"),
        ({"class_pattern": "([0-4])_"}, r"class_pattern='\(\[0-4\]\)_' finds nothing in 90 of 180 files of"),
        ({"class_pattern": "[0-9]"}, r"class_pattern='\[0-9\]' must have brackets around the class"),
        ({"group_pattern": "("}, "group_pattern='\\(' is no regular expression"),
        ({"group_column": "who"}, "group_column='who' needs the table that has it"),
        ({"table": "x.csv"}, "table needs a class_column or a group_column"),
        ({"table": "x.csv", "group_column": "who"}, "group_pattern and group_column say the same: give one"),
        ({"test_fraction": 0.99}, "groups must leave one to train on, test_fraction=0.99 of 6"),
        ({"seconds": 0}, r"seconds must lie in \(0, 600\], got 0"),
        ({"sample_rate": 10}, "sample_rate must lie in 1000 to 768000 Hz, got 10"),
        ({"features": "mel"}, "features must be one of log_mel, mfcc, got 'mel'"),
        ({"root": "nowhere"}, "there is no folder .*nowhere"),
    ],
)
def test_refusals(words: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ad.SoundFolder(**{"root": str(words), "normal_class": "7", **BY_NAME, **arguments}).load("train")


def test_a_table_that_lacks_a_file_and_folders_without_sound(tmp_path: Path) -> None:
    write(tmp_path / "wavs" / "a.wav", word(1, 0, 0))
    pd.DataFrame({"file": ["b.wav"], "kind": ["x"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(SourceError, match=r"t\.csv says nothing of 1 of 1 files in .*wavs, 'a.wav' the first"):
        source(tmp_path / "wavs", table=str(tmp_path / "t.csv"), class_column="kind").load("train")
    with pytest.raises(SourceError, match=r"t\.csv has no column 'sort'"):
        source(tmp_path / "wavs", table=str(tmp_path / "t.csv"), class_column="sort").load("train")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.csv").write_text("a")
    with pytest.raises(SourceError, match=r"has no \.wav files; it holds 1 \.csv"):
        source(tmp_path / "none").load("train")


def test_a_detector_of_sound_takes_files_and_others_do_not(words: Path) -> None:
    spec = InputSpec("series", (48, 32), sound=SoundSpec(8000, 4000))
    assert read_samples(words / "7_anna_0.wav", spec).names == ["7_anna_0.wav"]
    with pytest.raises(ValueError, match="sound"):
        InputSpec.from_dict({**spec.as_dict(), "sound": {"sample_rate": 8000}})
    with pytest.raises(ValueError, match="sound"):
        InputSpec.from_dict({**spec.as_dict(), "shape": [47, 32]})
    with pytest.raises(ValueError, match=r"data must be .* or, for a detector of sound, \.wav files"):
        read_samples(words / "7_anna_0.wav", InputSpec("table", (3,)))
