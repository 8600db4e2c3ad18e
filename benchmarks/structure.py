"""How much a stranger reads to follow a method: our classes, and our files and functions in a step and in a score.

    python benchmarks/structure.py [--only deep_sad] [--files]     traces a short fit of every method, and its test

A training step is what runs from a detector's `training_step` to its return, a score what runs from `anomaly_score`,
both counted over all phases of the fit. Only code of this package counts. The first house had, by the same count:
DeepSAD 14 functions in 8 files and 7 in 4, DROCC 19/7 and 6/5, AMA 40/9 and 18/5, ADGAN 21/7 and 28/8; classes above
LightningModule: DROCCLF 9, DeepSAD 8.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import yaml
from golden import ROOT, options_of, write_table

import adlightning
from adlightning import methods, shallow
from adlightning.__main__ import main as adlightning_main

PACKAGE = str(Path(adlightning.__file__).parent)
TRACED = ("training_step", "anomaly_score")


class Tracer:
    """Files and functions of ours that run within a training step and within a score."""

    def __init__(self) -> None:
        self.seen: dict[str, set[tuple[str, str]]] = {name: set() for name in TRACED}
        self._within: list[tuple[str, FrameType]] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """A profile function: note our own calls, and when a traced one begins and ends."""
        code = frame.f_code
        if event == "call":
            ours = code.co_filename.startswith(PACKAGE)
            in_a_method = ours and "/core/" not in code.co_filename
            if in_a_method and code.co_name in TRACED and not self._within:
                self._within.append((code.co_name, frame))
            if ours and self._within:
                file = code.co_filename.removeprefix(f"{PACKAGE}/")
                self.seen[self._within[0][0]].add((file, code.co_qualname))
        elif event == "return" and self._within and self._within[-1][1] is frame:
            self._within.pop()

    def counted(self, name: str) -> str:
        """Functions and files."""
        return f"{len(self.seen[name])} / {len({file for file, _ in self.seen[name]})}"


def depth(cls: type) -> int:
    """Classes of ours from a detector up to LightningModule, itself counted."""
    above = cls.__mro__[: cls.__mro__.index(pl.LightningModule)]
    return sum(base.__module__.startswith("adlightning") for base in above)


def traced(case: str) -> Tracer:
    """A short fit and its test."""
    tracer, said = Tracer(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_table(Path(folder) / "table.csv")
        arguments = [*options_of(case, Path(folder)), "--trainer.limit_train_batches=2", f"--run_dir={folder}/run"]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            sys.setprofile(tracer)
            try:
                code = adlightning_main(arguments)
            finally:
                sys.setprofile(None)
    if code:
        raise RuntimeError(f"{case}: {said.getvalue().strip().splitlines()[-1]}")
    return tracer


def main() -> None:
    """Print a row a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="methods whose names hold this text")
    parser.add_argument("--files", action="store_true", help="name the files")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    print("| method | classes | step: functions / files | score: functions / files | arguments |")
    print("| --- | --- | --- | --- | --- |")
    for folder in sorted((ROOT / "configs").iterdir()):
        file = next((f for f in (folder / "digits.yaml", folder / "table.yaml") if f.exists()), None)
        if file is None or options.only not in folder.name:
            continue
        name = yaml.safe_load(file.read_text())["model"]["class_path"]
        cls = getattr(methods, name, None) or getattr(shallow, name)
        tracer = traced(f"{folder.name}/{file.stem}")
        shown = len(inspect.signature(cls).parameters)
        counts = [tracer.counted(traced_name) for traced_name in TRACED]
        print(f"| {name} | {depth(cls)} | {counts[0]} | {counts[1]} | {shown} |", flush=True)
        if options.files:
            for traced_name in TRACED:
                print(f"  {traced_name}: {', '.join(sorted({file for file, _ in tracer.seen[traced_name]}))}")


if __name__ == "__main__":
    main()
