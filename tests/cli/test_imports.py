"""`--import`: a user's own parts are imported because the command line says so, and for no other reason."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from refusals import Capture, refused

from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector

ROOT = Path(__file__).parents[2]
MODULE = "their_networks.wide"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
FIT = ["fit", "--config", str(ROOT / "configs/deep_sad/digits.yaml"), "--model.pretraining.epochs=0", "--plots=false"]
CODE = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("was_imported").touch()


class Wide(nn.Module):
    def __init__(self, shape, width=8):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], width, bias=False))

    def forward(self, x):
        return self.net(x)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's package in the current folder, not imported before or after."""
    folder = tmp_path / "their_networks"
    folder.mkdir()
    (folder / "wide.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield folder
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("their_networks")]:
        del sys.modules[name]


def fit(run: Path, epochs: int, *options: str) -> int:
    return main([*FIT, *QUIET, f"--run_dir={run}", f"--trainer.max_epochs={epochs}", *options])


def test_a_part_of_ones_own_trains_scores_and_goes_on_after_it(package: Path, tmp_path: Path, capsys: Capture) -> None:
    run, encoder = tmp_path / "run", ["--model.encoder=Wide", "--model.encoder.width=6"]
    assert fit(run, 2, "--import", MODULE, *encoder) == 0
    saved = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["encoder"]
    assert saved["class_path"] == f"{MODULE}.Wide"
    forget()
    for verb in ("test", "predict"):
        refused(capsys, [verb, "--ckpt_path", str(run), *QUIET], f"--import {MODULE}")
    with pytest.raises(ValueError, match=rf"{MODULE}\.Wide is not imported, .* give --import {MODULE} on the command"):
        load_detector(run)
    assert main(["test", f"--import={MODULE}", "--ckpt_path", str(run), *QUIET]) == 0
    assert load_detector(run).state_dict()["sphere.encoder.net.1.weight"].shape[0] == 6
    forget()
    assert main(["export", "--import", MODULE, "--ckpt_path", str(run), "--format=torch", "--out=model.pt2"]) == 0
    forget()
    assert fit(run, 3, "--import", MODULE, *encoder, "--ckpt_path=last") == 0
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 2


def test_no_checkpoint_imports_anything(package: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    assert fit(run, 1, "--import", MODULE, "--model.encoder=Wide") == 0
    forget()
    (package / "was_imported").unlink()
    file = run / "checkpoints/last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    config = yaml.safe_load(checkpoint["adlightning"]["config"])
    for changed in ({}, {"import": MODULE}, {"import": [MODULE]}, {f"--import={MODULE}": None}):
        checkpoint["adlightning"]["config"] = yaml.safe_dump({**config, **changed})
        checkpoint["adlightning"]["training"]["import"] = MODULE
        torch.save(checkpoint, file)
        (run / "checkpoints/last-before.ckpt").unlink(missing_ok=True)
        refused(capsys, ["test", "--ckpt_path", str(run), *QUIET], "their_networks")
        refused(capsys, ["score", "--ckpt_path", str(run), "--data=x.npz", "--out=y.csv"], "their_networks")
        refused(capsys, ["export", "--ckpt_path", str(run), "--format=torch"], "their_networks")
    assert not (package / "was_imported").exists()


@pytest.mark.filterwarnings("ignore:.*failing import")  # of the class that a test before forgot
def test_no_config_imports_by_it(package: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "c.yaml").write_text(f"import: {MODULE}\n")
    refused(capsys, [*FIT[:3], "--config=c.yaml", *QUIET], "import")
    assert not (package / "was_imported").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--import"], "import must name a module"),
        (["--import", "--data=x"], "import must name a module"),
        (["--import=not_there"], "import: there is no module not_there"),
        (["--import=their_networks.wide.Wide"], "import: there is no module their_networks.wide.Wide: give the module"),
        (["--import=their_networks.needs"], "import: their_networks.needs needs not_installed, which is not installed"),
        (["--import=their_networks.fails"], "import: their_networks.fails cannot be imported: ZeroDivisionError"),
        (["--import=their_networks.ends"], "import: their_networks.ends cannot be imported: SystemExit: 3"),
        (["--import=./their_networks"], "import must name a module, --import my_package.vit, got ./their_networks"),
        (["--import=.wide"], "import must name a module, --import my_package.vit, got .wide"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "score"])
def test_modules_that_cannot_be_imported_are_refused(
    package: Path, capsys: Capture, verb: str, arguments: list[str], words: str
) -> None:
    (package / "needs.py").write_text("import not_installed\n")
    (package / "fails.py").write_text("1 / 0\n")
    (package / "ends.py").write_text("import sys\n\nsys.exit(3)\n")
    refused(capsys, [verb, *arguments], words)


@pytest.mark.parametrize("verb", ["score", "export", "fit", "test"])
def test_help_shows_it(capsys: Capture, verb: str) -> None:
    with contextlib.suppress(SystemExit):
        main([verb, "--help"])
    assert "--import MODULE" in capsys.readouterr().out
