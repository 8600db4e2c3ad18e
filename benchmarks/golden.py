"""What must not change: weights, scores, threshold and loss of a short fit of every method and variant, to the bit.

    python benchmarks/golden.py --check [--only deep_sad] [--tolerance 1e-6]     compare with golden.json, golden.npz
    python benchmarks/golden.py --write [--only deep_sad]                        make them anew: say why in the commit

Three epochs each, with seed 0 and one thread, on the bundled digits, a small table, epilepsy's series. A case is a
config and options; the variants are every value of every argument that has a choice, as far as it is accepted there.
Bits are of one machine and one version of torch; elsewhere compare with a tolerance.

Weights are compared as a set, whatever their names: the digests of all tensors with more than one floating value.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import logging
import platform
import sys
import tempfile
import warnings
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import yaml
from class_defaults import with_defaults
from numpy.typing import NDArray

from adlightning.__main__ import main as adlightning
from adlightning.core.detector import AnomalyDetector

ROOT = Path(__file__).resolve().parents[1]
RECORD, ARRAYS = (Path(__file__).with_name(f"golden.{suffix}") for suffix in ("json", "npz"))
EPOCHS, BATCHES = 3, 4
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
NETWORKS = ("encoder", "generator", "critic", "discriminator", "joint_discriminator", "image_discriminator")
SMALL = {"n_steps": 2, "n_seeds": 2, "ascent.steps": 2, "first_scored_epoch": 0, "maps.number": 8}
SMALL |= {f"{network}.width": 8 for network in NETWORKS}
SMALL |= {"search.n_steps": 2, "search.n_seeds": 2, "critic_turns.steps": 2, "negatives.warm_up_epochs": 1}
SMALL |= {"width": 8, "warm_up_epochs": 1, "pretrain_epochs": 1, "pretraining.epochs": 1}
LONG = (("soft_boundary_deep_svdd", "warm_up_epochs"),)  # as long as when the record was made
SERIES = ("autoencoder/epilepsy", "deep_svdd/epilepsy", "drocc/epilepsy", "drocc_rand/epilepsy", "drocc_lf/noisy_sine")
OWN_CHOICES = {"preprocessing": "autoencoder", "network": "deep_svdd", "threshold_rule": "autoencoder"}
ALSO = {"threshold_rule=contamination": ["--model.threshold_value=0.1"]}
"""Arguments that methods share: their values are tried with one method each."""
FEATURES = {"raw": ["RawFeatures"], "pca": ["PCAFeatures", "components=10"], "autoencoder": ["AutoencoderFeatures"]}
"""Kinds of features of a shallow detector: the class, and its arguments."""


class StepLosses(pl.Callback):
    """The loss of every step that returns one, and of every epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Of one optimiser; where there are several, the epoch's mean stands for all."""
        if pl_module.automatic_optimization and outputs is not None and "loss" in outputs:
            self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last epoch's mean, which every method logs."""
        if (loss := trainer.callback_metrics.get("train/loss")) is not None:
            self.losses.append(float(loss))


_OF_DATA = ("held_out_scores", "median_normal")
"""What a checkpoint keeps of scores and samples: no weights."""


def cases() -> dict[str, list[str]]:
    """Options by the case's name: a config and, after a space, the argument that is not as there."""
    named: dict[str, list[str]] = {}
    for path in sorted((ROOT / "configs").glob("*/*.yaml")):
        case = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        if path.parent.name in ("benchmarks", "parts"):  # no experiments
            continue
        if not (path.stem.startswith("digits") or path.stem == "table" or case in SERIES):
            continue
        named[case] = []
        if path.stem == "digits" or (path.stem == "table" and case.startswith("goad")):
            for option in variants(path):
                named[f"{case} {option}"] = [f"--model.{option}", *ALSO.get(option, [])]
            own = str(arguments_of(path).get("features"))
            for kind, (part, *arguments) in FEATURES.items() if own != "None" else ():
                options = [f"--model.features={part}", *(f"--model.features.{argument}" for argument in arguments)]
                named |= {} if part in own else {f"{case} features={kind}": options}
    return named


def variants(path: Path) -> list[str]:
    """`argument=value` for every value but the config's own of every argument with a choice."""
    import adlightning.methods
    import adlightning.shallow

    model = yaml.safe_load(path.read_text())["model"]
    module = adlightning.methods if hasattr(adlightning.methods, model["class_path"]) else adlightning.shallow
    cls = getattr(module, model["class_path"])
    hints: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        if "__init__" in vars(owner):
            hints |= get_type_hints(owner.__init__)
            own |= {name: argument.default for name, argument in signature(owner.__init__).parameters.items()}
    for name, hint in list(hints.items()):  # a part that is a dataclass has choices too
        if is_dataclass(hint):
            inner = get_type_hints(hint)
            hints |= {f"{name}.{field.name}": inner[field.name] for field in fields(hint)}
            own |= {f"{name}.{field.name}": getattr(own[name], field.name) for field in fields(hint)}
    arguments = arguments_of(path)
    own |= {name: value for name in hints if (value := given(arguments, name)) is not None}
    return [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, hint in hints.items()
        if name != "return" and OWN_CHOICES.get(name, path.parent.name) == path.parent.name
        for value in choices(hint)
        if own[name] != value
    ]


def choices(hint: Any) -> tuple[Any, ...]:
    """The values of a Literal or a bool."""
    if hint is bool:
        return (True, False)
    if str(get_origin(hint)) == "typing.Literal":
        return get_args(hint)
    return tuple(value for part in get_args(hint) for value in choices(part)) if get_args(hint) else ()


def arguments_of(path: Path) -> dict[str, Any]:
    """Arguments of a config's detector, those at their defaults too."""
    arguments: dict[str, Any] = with_defaults(yaml.safe_load(path.read_text())["model"], AnomalyDetector)["init_args"]
    return arguments


def given(arguments: Any, name: str) -> Any:
    """An argument, or an argument of a part of it; None where there is none."""
    first, _, rest = name.partition(".")
    found = arguments.get(first) if isinstance(arguments, dict) else None
    found = found.get("init_args", found) if isinstance(found, dict) else found
    return given(found, rest) if rest else found


def options_of(case: str, folder: Path) -> list[str]:
    """The command line of a case."""
    path = ROOT / f"configs/{case.partition(' ')[0]}.yaml"
    own = arguments_of(path)
    small = {name: value for name, value in SMALL.items() if (path.parent.name, name) not in LONG}
    options = [f"--model.{name}={value}" for name, value in small.items() if given(own, name)]
    options += ["--model.encoder=PlainMLP"] if path.parent.name == "geometric_transforms" else []
    options += [f"--data.path={folder}/table.csv", "--data.label_column=label"] if path.stem == "table" else []
    at_once = yaml.safe_load(path.read_text())["trainer"]["max_epochs"] == 1 and not case.startswith("goad")
    epochs = [] if at_once else [f"--trainer.max_epochs={EPOCHS}", f"--trainer.limit_train_batches={BATCHES}"]
    return ["fit", "--config", str(path), *options, *epochs, "--seed_everything=0", "--plots=false", *QUIET]


def fit(case: str, more: list[str], folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """What a case gives: what is compared by its text, and arrays."""
    watched, run, said = StepLosses(), folder / "run", io.StringIO()
    try:
        with (
            patch("adlightning.cli.trainer_verbs.CurvesFile", lambda *_: watched),  # one callback for another
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            code = adlightning([*options_of(case, folder), *more, f"--run_dir={run}"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    if code:
        return {"message": said.getvalue().strip().splitlines()[-1]}, {}
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    digests = sorted(
        hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in state.items()
        if name not in _OF_DATA and value.is_floating_point() and value.numel() > 1
    )
    frame = pd.read_csv(run / "scores.csv").sort_values(["test_set", "index"])
    scores = frame["score"].to_numpy(dtype=np.float32)  # written with nine digits, all that these have
    threshold = float(state["threshold"])
    record = {"weights": hashlib.sha256("".join(digests).encode()).hexdigest(), "threshold": threshold.hex()}
    return record, {"scores": scores, "losses": np.array(watched.losses, dtype=np.float32)}


def differences(
    case: str,
    record: dict[str, Any],
    arrays: dict[str, NDArray[np.float32]],
    golden: dict[str, Any],
    stored: Any,
    tolerance: float,
) -> list[str]:
    """What is not as it was, in words."""
    if "message" in record:
        return [record["message"]]
    wrong = []
    if not tolerance and record["weights"] != golden["weights"]:
        wrong.append("weights")
    was, now = float.fromhex(golden["threshold"]), float.fromhex(record["threshold"])
    if not np.allclose(was, now, rtol=tolerance, atol=0):
        wrong.append(f"threshold {was!r}, now {now!r}")
    for name, values in arrays.items():
        expected = stored[f"{case}/{name}"]
        if expected.shape != values.shape:
            wrong.append(f"{len(values)} {name}, {len(expected)} before")
        elif not np.allclose(values, expected, rtol=tolerance, atol=tolerance, equal_nan=True):
            wrong.append(f"{name} by up to {np.nanmax(np.abs(values - expected)):.3g}")
    return wrong


def write_table(path: Path) -> None:
    """A small table: 150 normal rows, 20 anomalies, four columns on different scales."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(150, 4)), rng.normal(size=(20, 4)) + 3]) * [1, 10, 0.1, 100]
    frame = pd.DataFrame(x, columns=list("abcd")).assign(label=np.repeat([0, 1], [150, 20]))
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)


def main() -> int:
    """Write or check; the exit code is the number of cases that differ, at most 100."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="cases whose names hold this text")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative; 0 compares bits, of weights too")
    options = parser.parse_args()
    if options.check == options.write:
        parser.error("one of --check and --write is needed")
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"cases": {}}
    stored = dict(np.load(ARRAYS)) if ARRAYS.exists() else {}
    names = {name: golden["options"] for name, golden in record["cases"].items()}
    if options.write:  # a recorded case keeps its name
        known = {(name.partition(" ")[0], *more) for name, more in names.items()}
        names |= {name: more for name, more in cases().items() if (name.partition(" ")[0], *more) not in known}
    wrong = 0
    for case, more in names.items():
        if options.only not in case:
            continue
        with tempfile.TemporaryDirectory() as name:
            write_table(Path(name) / "table.csv")
            found, arrays = fit(case, more, Path(name))
        if options.write:
            print(case, found.get("message", "ok"), flush=True)
            if "message" not in found:
                record["cases"][case] = {"options": more, **found}
                stored |= {f"{case}/{key}": values for key, values in arrays.items()}
        elif bad := differences(case, found, arrays, record["cases"][case], stored, options.tolerance):
            wrong += 1
            print(f"{case}: {'; '.join(bad)}", flush=True)
    if options.write:
        record |= {"torch": torch.__version__, "machine": platform.machine(), "python": platform.python_version()}
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        np.savez_compressed(ARRAYS, **stored)
    else:
        print(f"{wrong} cases differ")
    return min(wrong, 100)


if __name__ == "__main__":
    sys.exit(main())
