"""SIGKILL in the middle of every objective's training, in each phase; the fit that goes on ends the same to the bit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fits_in_children import kill, run_in_child

ROOT = Path(__file__).parents[1]
SHORT = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.max_epochs=4",
    "--plots=false",
    "--data.validation_fraction=0.1",
]
HYBRIDS = ("ocsvm", "isolation_forest", "kde", "ssad")  # of the others on features, only these train a network
ONE_EPOCH = ("gmm", "kernel_kliep", "kernel_ulsif", "lof", "nearest_neighbor")  # fitted at once: nothing to go on with
CASES = sorted(
    f"{path.parent.name}/{'digits_hybrid' if path.parent.name in HYBRIDS else 'digits'}"
    for path in (ROOT / "configs").glob("*/digits.yaml")
    if path.parent.name not in ONE_EPOCH
)
CASES += ["goad/noisy_sine", "goad/sphere", "ama/digits clip", "soft_boundary_deep_svdd/digits radius"]
BATCHES = 3  # an epoch


def options_of(case: str) -> list[str]:
    """A short fit of every phase: two epochs of what comes first, two of what follows."""
    name, _, variant = case.partition(" ")
    init: dict[str, Any] = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())["model"]["init_args"]
    options = [f"--model.{phase}=2" for phase in ("pretrain_epochs", "warm_up_epochs") if init.get(phase)]
    small = {"n_steps": 1, "n_seeds": 2, "ascent_steps": 3, "critic_steps": 2, "first_scored_epoch": 0, "n_maps": 8}
    options += [f"--model.{argument}={value}" for argument, value in small.items() if argument in init]
    options += ["--model.lr_milestones=[1, 3]"] if "lr_milestones" in init else []
    if name.startswith("geometric"):
        options += ["--model.network=mlp"]
    options += {"clip": ["--model.max_gradient_norm=0.5"], "radius": ["--model.warm_up_epochs=0"]}.get(variant, [])
    return [*options, f"--trainer.limit_train_batches={BATCHES}", *SHORT]


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


@pytest.mark.parametrize("case", CASES)
def test_a_killed_fit_goes_on_to_the_same_bits(case: str, tmp_path: Path) -> None:
    config = str(ROOT / f"configs/{case.partition(' ')[0]}.yaml")
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    fit = ["fit", "--config", config, *options_of(case)]
    assert run_in_child([*fit, f"--run_dir={whole}"], log) == 0, log.read_text()

    draw = random.Random(case)
    fit += [f"--run_dir={killed}"]
    first, then = BATCHES + draw.randrange(BATCHES), BATCHES + draw.randrange(2 * BATCHES)
    assert run_in_child(fit, log, at_batch=first, then=kill) == -9, log.read_text()
    assert run_in_child([*fit, "--ckpt_path=last"], log, at_batch=then, then=kill) == -9, log.read_text()
    assert run_in_child([*fit, "--ckpt_path=last"], log) == 0, log.read_text()

    expected, found = weights(whole), weights(killed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), f"{name} differs"
    assert (killed / "scores.csv").read_text() == (whole / "scores.csv").read_text()
