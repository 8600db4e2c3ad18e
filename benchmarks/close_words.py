"""Words that sound like a keyword, spoken by espeak-ng: the close negatives of DROCC's Figures 3 and 9 (Table 9).

    python benchmarks/close_words.py marvin --out data/speech_commands_close

writes 600 clips to `data/speech_commands_close/marvin/WORD/*.wav`, and `testing_list.txt` beside them, as
`configs/*/speech_commands_close.yaml` reads them. The paper's clips came from another speech synthesis "with a variety
of accents", and are not to be had. Recordings of one's own do as well: the same folders, without this script.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# As Table 9 prints them.
WORDS = {
    "marvin": ("mar", "marlin", "arvin", "marvik", "arvi"),
    "forward": ("for", "fervor", "ward", "reward", "onward"),
    "seven": ("one", "eleven", "heaven", "when", "devon"),
    "follow": ("fall", "fellow", "low", "hollow", "wallow"),
}
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
SPEAKERS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4", "f5")
SPEEDS = (120, 200)  # words a minute
PITCHES = (20, 80)  # of 0 to 99
ENCODER = "espeak-ng"


class Refusal(Exception):
    """What the user is told."""


def speak(word: str, accent: str, speaker: str, speed: int, pitch: int, path: Path) -> None:
    """One clip, WAV. Raises Refusal with what the encoder says, or when it leaves no sound."""
    command = [ENCODER, "-v", f"{accent}+{speaker}", "-s", str(speed), "-p", str(pitch), "-w", str(path), word]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"{' '.join(command)} failed with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    try:
        with wave.open(str(path)) as clip:
            n = clip.getnframes()
    except (OSError, EOFError, wave.Error) as error:
        raise Refusal(f"{' '.join(command)} wrote no WAV file: {error}") from error
    if not n:
        raise Refusal(f"{' '.join(command)} wrote no sound")


def write_clips(keyword: str, words: Sequence[str], n: int, out: Path, seed: int) -> Path:
    """`n` clips of the words in turn, by voices drawn at random, in a folder for the keyword; whole, or not at all.

    Raises:
        Refusal: no encoder, one that fails, or a folder that is there already.
    """
    folder = out / keyword
    if folder.exists():
        raise Refusal(f"{folder} is there already: nothing is overwritten")
    if shutil.which(ENCODER) is None:
        raise Refusal(
            f"{ENCODER} is not installed, which speaks the words: install it (apt-get install {ENCODER}), or put clips "
            f"of your own into {folder}/WORD/*.wav and list them in {folder}/testing_list.txt"
        )
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{keyword}.") as made:
        whole, names = Path(made) / keyword, []
        for number in range(n):
            word, accent, speaker = words[number % len(words)], str(rng.choice(ACCENTS)), str(rng.choice(SPEAKERS))
            speed, pitch = (int(rng.integers(*ends, endpoint=True)) for ends in (SPEEDS, PITCHES))
            path = whole / word / f"{accent}-{speaker}_nohash_{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            speak(word, accent, speaker, speed, pitch, path)
            names.append(f"{word}/{path.name}")
        (whole / "testing_list.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        whole.rename(folder)
    return folder


def main(arguments: Sequence[str]) -> int:
    """The command; 1 with a sentence where it is refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("keyword", help=f"one of Table 9 ({', '.join(WORDS)}), or your own, with --words")
    parser.add_argument("--words", nargs="+", help="what sounds like it; Table 9's by default")
    parser.add_argument("--n", type=int, default=600, help="clips in all")
    parser.add_argument("--out", type=Path, default=Path("data/speech_commands_close"))
    parser.add_argument("--seed", type=int, default=0, help="of the voices")
    given = parser.parse_args(arguments)
    words = given.words or WORDS.get(given.keyword)
    try:
        if not words:
            raise Refusal(f"keyword must be one of {', '.join(WORDS)}, or come with --words, got {given.keyword}")
        if strange := [word for word in (given.keyword, *words) if not word.isalpha()]:
            raise Refusal(f"words must be of letters alone, since they name folders, got {strange[0]!r}")
        if given.n < 1 or given.seed < 0:
            raise Refusal(f"n must be at least 1 and seed not negative, got {given.n} and {given.seed}")
        folder = write_clips(given.keyword, words, given.n, given.out, given.seed)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    print(f"{given.n} clips of {', '.join(words)} in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
