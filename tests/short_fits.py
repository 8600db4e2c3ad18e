"""A case of every method that trains by epochs, and the arguments that take it through its phases in no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
METHODS = sorted(path.parent.name for path in (ROOT / "configs").glob("*/digits.yaml"))
"""All that take images."""

_HYBRIDS = ("ocsvm", "isolation_forest", "kde", "ssad")  # of the others on features, only these train a network
_AT_ONCE = ("gmm", "kernel_kliep", "kernel_ulsif", "lof", "nearest_neighbor")  # one fit of an estimator
BY_EPOCHS = [
    *(f"{name}/{'digits_hybrid' if name in _HYBRIDS else 'digits'}" for name in METHODS if name not in _AT_ONCE),
    *("goad/noisy_sine", "goad/sphere", "ama/digits clip", "soft_boundary_deep_svdd/digits radius"),
]
"""A config of each, and after a space the name of a variant."""

_SMALL = {"n_steps": 1, "n_seeds": 2, "ascent_steps": 2, "critic_steps": 2, "first_scored_epoch": 0, "n_maps": 8}
_SMALL |= {"width": 8, "encoder_width": 8, "generator_width": 8, "critic_width": 8}
_VARIANTS = {"": [], "clip": ["--model.max_gradient_norm=0.5"], "radius": ["--model.warm_up_epochs=0"]}


def config_of(case: str) -> Path:
    return ROOT / f"configs/{case.partition(' ')[0]}.yaml"


def options_of(case: str, phase_epochs: int, batches: int) -> list[str]:
    """A fit of as many epochs in what comes first (pre-training, warm-up) as in what follows, each of some batches."""
    init: dict[str, Any] = yaml.safe_load(config_of(case).read_text())["model"]["init_args"]
    options = [f"--model.{phase}={phase_epochs}" for phase in ("pretrain_epochs", "warm_up_epochs") if init.get(phase)]
    options += [f"--model.{argument}={value}" for argument, value in _SMALL.items() if argument in init]
    options += [f"--model.lr_milestones=[1, {phase_epochs + 1}]"] if "lr_milestones" in init else []
    options += ["--model.network=mlp"] if case.startswith("geometric") else []
    epochs = [f"--trainer.max_epochs={2 * phase_epochs}", f"--trainer.limit_train_batches={batches}"]
    return [*options, *_VARIANTS[case.partition(" ")[2]], *epochs, "--plots=false", *QUIET]
