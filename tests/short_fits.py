"""A case of every method that trains by epochs, and the arguments that take it through its phases in no time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from class_defaults import with_defaults

from adlightning.core.detector import AnomalyDetector

ROOT = Path(__file__).parents[1]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
METHODS = sorted(path.parent.name for path in (ROOT / "configs").glob("*/digits.yaml"))
"""All that take images."""

_HYBRIDS = ("ocsvm", "isolation_forest", "kde", "ssad")  # of the others on features, only these train a network
_AT_ONCE = (
    "biased_svm",
    "svm",
    "gmm",
    "kernel_kliep",
    "kernel_ulsif",
    "lof",
    "nearest_neighbor",
    "patch_knn",
    "pca",
)  # one fit of an estimator, of components or of a bank
BY_EPOCHS = [
    *(f"{name}/{'digits_hybrid' if name in _HYBRIDS else 'digits'}" for name in METHODS if name not in _AT_ONCE),
    *("goad/noisy_sine", "goad/sphere", "ama/digits clip", "soft_boundary_deep_svdd/digits radius"),
]
"""A config of each, and after a space the name of a variant."""

PHASES = ("pretraining.epochs", "pretrain_epochs", "warm_up_epochs", "negatives.warm_up_epochs", "wgan_epochs")
"""Arguments that say how long a first phase is."""

NETWORKS = ("encoder", "generator", "critic", "discriminator", "joint_discriminator", "image_discriminator", "density")
SMALL = {"search.n_steps": 1, "search.n_seeds": 2, "ascent.steps": 2, "critic_turns.steps": 2, "maps.number": 8}
SMALL |= {"n_members": 2, "density.steps": 1}
SMALL |= {"first_scored_epoch": 0, **{f"{network}.width": 8 for network in NETWORKS}}
"""Arguments that make a fit or a score short, and how."""

_VARIANTS = {"": [], "clip": ["--model.max_gradient_norm=0.5"], "radius": ["--model.warm_up_epochs=0"]}


def slow_but(quick: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """pytest's parameters of all cases; those that are not quick are marked slow."""
    cases = list(cases)
    assert set(quick) <= set(cases), f"no cases: {set(quick) - set(cases)}"
    return [pytest.param(case, id=str(case), marks=() if case in quick else pytest.mark.slow) for case in cases]


def config_of(case: str) -> Path:
    return ROOT / f"configs/{case.partition(' ')[0]}.yaml"


def detector_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a config's detector and of its parts, those at their defaults too."""
    arguments: dict[str, Any] = with_defaults(config["model"], AnomalyDetector)["init_args"]
    return arguments


def argument(arguments: Any, name: str) -> Any:
    """An argument, or an argument of a part of it; None where there is none."""
    first, _, rest = name.partition(".")
    found = arguments.get(first) if isinstance(arguments, dict) else None
    found = found.get("init_args", found) if isinstance(found, dict) else found
    return argument(found, rest) if rest else found


def options_of(case: str, phase_epochs: int, batches: int) -> list[str]:
    """A fit of as many epochs in what comes first (pre-training, warm-up) as in what follows, each of some batches."""
    init = detector_arguments(yaml.safe_load(config_of(case).read_text()))
    options = [f"--model.{phase}={phase_epochs}" for phase in PHASES if argument(init, phase)]
    options += [f"--model.{name}={value}" for name, value in SMALL.items() if argument(init, name) is not None]
    if argument(init, "lr_scheduler.milestones"):
        options += [f"--model.lr_scheduler.milestones=[1, {phase_epochs + 1}]"]
    options += ["--model.encoder=PlainMLP"] if case.startswith("geometric") else []
    epochs = [f"--trainer.max_epochs={2 * phase_epochs}", f"--trainer.limit_train_batches={batches}"]
    return [*options, *_VARIANTS[case.partition(" ")[2]], *epochs, "--plots=false", *QUIET]
