"""The script that speaks close words: what it asks of the encoder, what it leaves, and what it refuses."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from adlightning.data.sources import SpeechCommands

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import close_words

# Notes its command line, and writes a tenth of a second.
SPEAKS = f"""#!{sys.executable} -S
import struct, sys, wave
with open(__file__ + ".txt", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
if "mute" in sys.argv:
    sys.exit("cannot speak")
with wave.open(sys.argv[sys.argv.index("-w") + 1], "wb") as clip:
    clip.setnchannels(1); clip.setsampwidth(2); clip.setframerate(22050)
    clip.writeframes(b"" if "silence" in sys.argv else struct.pack("<2205h", *range(2205)))
"""


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A folder with an encoder that stands in for espeak-ng."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "espeak-ng"
    program.write_text(SPEAKS)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The script with a folder of programs for PATH, and its arguments."""

    def command(path: Path, *arguments: str) -> Done:
        monkeypatch.setenv("PATH", str(path))
        return Done(close_words.main(arguments), *capsys.readouterr())

    return command


def test_clips_of_the_words_of_table_9_are_a_data_set(run: Run, encoder: Path, tmp_path: Path) -> None:
    done = run(encoder, "marvin", "--n", "6", "--out", str(tmp_path / "close"))
    assert (done.returncode, done.stderr) == (0, "")
    root = tmp_path / "close" / "marvin"
    assert done.stdout == f"6 clips of mar, marlin, arvin, marvik, arvi in {root}\n"
    asked = [line.split() for line in (encoder / "espeak-ng.txt").read_text().splitlines()]
    assert [line[-1] for line in asked] == ["mar", "marlin", "arvin", "marvik", "arvi", "mar"]
    for voice, speed, pitch in ((line[1], int(line[3]), int(line[5])) for line in asked):
        assert voice.startswith("en-")
        assert "+" in voice
        assert 120 <= speed <= 200
        assert 20 <= pitch <= 80
    assert [line[0::2][:4] for line in asked] == [["-v", "-s", "-p", "-w"]] * 6
    assert len({line[1] for line in asked}) > 3  # a variety of accents
    source = SpeechCommands(root=str(root), cache=None)
    assert sorted(source._files["test"]) == sorted((root / "testing_list.txt").read_text().splitlines())
    assert source.classes == ("arvi", "arvin", "mar", "marlin", "marvik")
    assert len(source._files["test"]) == len(list(root.glob("*/*.wav"))) == 6
    assert [p.name for p in (tmp_path / "close").iterdir()] == ["marvin"]


def test_the_same_seed_asks_for_the_same_voices_and_other_words_may_be_named(
    run: Run, encoder: Path, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        run(encoder, "hey", "--words", "hay", "--n", "2", "--seed", "3", "--out", str(tmp_path / folder))
    names = [sorted(p.name for p in (tmp_path / folder / "hey" / "hay").iterdir()) for folder in ("a", "b")]
    assert names[0] == names[1]
    assert len(names[0]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hello"], "keyword must be one of marvin, forward, seven, follow, or come with --words, got hello"),
        (["hey", "--words", "../x"], "words must be of letters alone, since they name folders, got '../x'"),
        (["seven", "--n", "0"], "n must be at least 1 and seed not negative, got 0 and 0"),
        (["hey", "--words", "mute"], "failed with 1: cannot speak"),
        (["hey", "--words", "silence"], "wrote no sound"),
    ],
)
def test_refusals_leave_nothing(arguments: list[str], message: str, run: Run, encoder: Path, tmp_path: Path) -> None:
    done = run(encoder, *arguments, "--out", str(tmp_path / "close"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not list((tmp_path / "close").glob("*"))


def test_without_an_encoder_or_over_a_folder_it_refuses(run: Run, encoder: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "close"))
    done = run(tmp_path, "seven", *out)
    assert done.returncode == 1
    assert done.stderr.startswith("error: espeak-ng is not installed, which speaks the words: install it")
    assert not (tmp_path / "close").exists()
    (tmp_path / "close" / "seven").mkdir(parents=True)
    assert "is there already: nothing is overwritten" in run(encoder, "seven", *out).stderr
    assert not list((tmp_path / "close" / "seven").iterdir())
