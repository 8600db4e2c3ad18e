"""Transforms of training batches on the command line: kept as they were given, and of no concern to what scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from refusals import Capture, refused
from short_fits import QUIET, ROOT

from adlightning.__main__ import main
from adlightning.checkpoints.stored_config import trusted_part

FIT = ["--config", str(ROOT / "configs/autoencoder/digits.yaml"), "--trainer.max_epochs=2", *QUIET, "--plots=false"]
FLIP = "torchvision.transforms.v2.RandomHorizontalFlip"
AFFINE = "kornia.augmentation.RandomAffine"


def test_a_fit_keeps_them_and_a_test_does_without(tmp_path: Path, capsys: Capture) -> None:
    given = f"[{{class_path: {FLIP}}}, {{class_path: {AFFINE}, init_args: {{degrees: 10}}}}]"
    folder = f"[{{class_path: own_transforms.WriteDraws, init_args: {{folder: {tmp_path}}}}}, {given[1:]}"
    whole, again, tested = (tmp_path / name for name in ("whole", "again", "tested"))
    assert main(["fit", *FIT, f"--data.train_transforms={folder}", f"--run_dir={whole}"]) == 0
    kept = yaml.safe_load((whole / "config.yaml").read_text())["data"]["init_args"]["train_transforms"]
    assert [part["class_path"] for part in kept] == ["own_transforms.WriteDraws", FLIP, AFFINE]
    assert kept[2]["init_args"]["degrees"] == 10

    (tmp_path / "draws").rename(tmp_path / "before")
    assert main(["fit", "--config", str(whole / "config.yaml"), f"--run_dir={again}"]) == 0
    assert (again / "scores.csv").read_text() == (whole / "scores.csv").read_text()
    assert (tmp_path / "draws").read_text() == (tmp_path / "before").read_text()

    (tmp_path / "draws").unlink()
    capsys.readouterr()
    assert main(["test", f"--ckpt_path={whole}", f"--run_dir={tested}", *QUIET]) == 0
    assert (tested / "scores.csv").read_text() == (whole / "scores.csv").read_text()
    assert not (tmp_path / "draws").exists()
    assert "train_transforms" not in capsys.readouterr().err  # nothing is scored otherwise than in training


def test_those_of_a_checkpoint_are_never_imported() -> None:
    stored: dict[str, Any] = {
        "model": {"class_path": "adlightning.methods.autoencoder.Autoencoder"},
        "data": {
            "class_path": "adlightning.data.one_vs_all.OneVsAll",
            "init_args": {
                "source": {"class_path": "adlightning.data.sources.digits.Digits"},
                "train_transforms": [{"class_path": "evilmod.Transform", "init_args": {"path": "${oc.env:HOME}"}}],
            },
        },
    }
    kept = trusted_part(stored, [], Path("some.ckpt"))
    assert list(kept["data"]["init_args"]) == ["source"]
    elsewhere = {**stored, "data": {**stored["data"], "train_transforms": [{"class_path": "evilmod.Transform"}]}}
    with pytest.raises(ValueError, match="more than arguments"):
        trusted_part(elsewhere, [], Path("some.ckpt"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (FLIP, f"must be a list of Module objects or null, got {FLIP}"),
        ("[3]", "must be a list of Module objects or null, got 3"),
        ("[{class_path: nothere.Transform}]", "nothere.Transform cannot be imported: there is no module 'nothere'"),
        ("[{class_path: torchvision.transforms.v2.Nothere}]", "there is no torchvision.transforms.v2.Nothere"),
        (f"[{{class_path: {FLIP}, init_args: {{q: 1}}}}]", "RandomHorizontalFlip has no argument q"),
        ("[{class_path: torchvision.transforms.v2.RandomRotation}]", "degrees=... must be given: RandomRotation"),
        ("[{class_path: collections.OrderedDict}]", "must be a subclass of Module, got collections.OrderedDict"),
    ],
)
def test_what_is_wrong_with_one_is_said(given: str, words: str, tmp_path: Path, capsys: Capture) -> None:
    refused(capsys, ["fit", *FIT, f"--data.train_transforms={given}", f"--run_dir={tmp_path / 'r'}"], words)
    assert not (tmp_path / "r").exists()
