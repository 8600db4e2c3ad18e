"""SIGKILL in the middle of every objective's training, in each phase; the fit that goes on ends the same to the bit.

What is killed is run from the config.yaml that the undisturbed run left: that file and the seed say all.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from fits_in_children import kill, run_in_child
from short_fits import BY_EPOCHS, config_of, options_of, slow_but

BATCHES = 3  # an epoch
QUICK = (
    "deep_sad/digits",  # two phases, a part of weights handed on
    "ocsvm/digits_hybrid",  # an estimator on a network's codes
)
"""Some of the ways through a fit; adlightning.testing lets every method go on, in one process."""


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def report(run: Path) -> dict[str, Any]:
    """metrics.json but for what is measured of the machine."""
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in content.items() if name not in ("seconds", "peak_memory_mb")}


@pytest.mark.parametrize("case", slow_but(QUICK, BY_EPOCHS))
def test_a_killed_fit_goes_on_to_the_same_bits(case: str, tmp_path: Path) -> None:
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    options = [*options_of(case, 2, BATCHES), "--data.validation_fraction=0.1"]
    fit = ["fit", "--config", str(config_of(case)), *options, f"--run_dir={whole}"]
    assert run_in_child(fit, log) == 0, log.read_text()

    draw = random.Random(case)
    fit = ["fit", "--config", str(whole / "config.yaml"), f"--run_dir={killed}"]
    first, then = BATCHES + draw.randrange(BATCHES), BATCHES + draw.randrange(2 * BATCHES)
    assert run_in_child(fit, log, at_batch=first, then=kill) == -9, log.read_text()
    assert run_in_child([*fit, "--ckpt_path=last"], log, at_batch=then, then=kill) == -9, log.read_text()
    assert run_in_child([*fit, "--ckpt_path=last"], log) == 0, log.read_text()

    expected, found = weights(whole), weights(killed)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), f"{name} differs"
    assert (killed / "scores.csv").read_text() == (whole / "scores.csv").read_text()
    assert report(killed) == report(whole)
