"""Every sweep file: it optimises what its runs select by, and the command that an agent builds from it is a fit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from short_fits import argument, detector_arguments, slow_but

from adlightning.__main__ import main
from adlightning.cli.fitting import monitors_of
from adlightning.core.detector import AnomalyDetector
from adlightning.methods import DeepSAD, DensityRatio

ROOT = Path(__file__).parents[1]
SWEEPS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "sweeps").glob("*.yaml"))}
SELECTING = [name for name, sweep in SWEEPS.items() if "metric" in sweep]
RUN_ID = "${oc.env:WANDB_RUN_ID}"  # two agents never share a run folder: W&B names each run
METHODS = {
    *("deep_sad", "deep_svdd", "soft_boundary_deep_svdd", "autoencoder"),
    *("binary_classifier", "ss_dgm", "stacked_ss_dgm", "semi_supervised_ama"),
    *("drocc", "drocc_rand", "drocc_oe", "drocc_lf", "goad"),
    *("dagmm", "dcn", "deep_cluster"),
    *("density_ratio", "geometric_transforms"),
    *("dcae", "vae", "fence_gan", "skip_ganomaly", "alad", "conad", "dsebm", "waic", "density_waic"),
    *("ocsvm", "isolation_forest", "kde", "gmm", "lof", "nearest_neighbor", "ssad", "svm"),
    *("biased_svm", "kernel_kliep", "kernel_ulsif"),
    *("adgan", "anogan", "ama"),
    *("likelihood", "likelihood_ratio", "typicality", "s_score"),
    *("patch_knn", "pca", "fcdd", "hsc"),
}
OWN_METRIC: dict[str, type[AnomalyDetector]] = {"density_ratio": DensityRatio}
"""Those with validation metrics of their own."""

DATA = {"goad": "noisy_sine"}  # takes no images; all others have digits
FIRST_PHASES = ("pretrain_epochs", "pretraining.epochs", "warm_up_epochs", "wgan_epochs")
QUICK = [
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_model_summary=false",
]


def inner_value(parameter: dict[str, Any]) -> Any:
    """A value of a parameter's range, away from its ends."""
    if "values" in parameter:
        return parameter["values"][len(parameter["values"]) // 2]
    low, high = parameter["min"], parameter["max"]
    middle = (low * high) ** 0.5 if "log" in parameter["distribution"] else (low + high) / 2
    return round(middle) if parameter["distribution"].startswith(("int", "q_")) else middle


def set_by(config: Any, key: str) -> Any:
    """What a configuration has for an option of the command line; None for nothing."""
    for name in key.split("."):
        config = config.get("init_args", config).get(name) if isinstance(config, dict) else None
    return config


def agent_command(sweep: dict[str, Any]) -> list[str]:
    """A command as `wandb agent` builds it: macros are whole words, parameters are `--key=value`."""
    arguments = [f"--{name}={inner_value(parameter)}" for name, parameter in sweep["parameters"].items()]
    filled = {"${env}": ["/usr/bin/env"], "${args}": arguments}
    return [word for part in sweep["command"] for word in filled.get(part, [part])]


def run_as_agent(sweep: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Path:
    """The run folder of one short run, from the folder of the repository's configs."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_RUN_ID", "a1b2c3")
    (folder / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(folder)
    command = agent_command(sweep)
    assert command[:4] == ["/usr/bin/env", "python", "-m", "adlightning"]
    config = yaml.safe_load(Path(command[command.index("--config") + 1]).read_text())
    init = detector_arguments(config)
    phase = [f"--model.{epochs}=0" for epochs in FIRST_PHASES if argument(init, epochs) is not None]
    if config["model"]["class_path"] == "GeometricTransforms":
        phase.append("--model.encoder=PlainMLP")  # a WRN-10-4 takes most of a minute, 72-fold
    assert main([*command[4:], *QUICK, *phase, *options]) == 0, shlex.join(command)
    (run,) = (folder / "runs" / "sweeps").glob("*/a1b2c3")
    return run


def test_every_method_has_a_sweep() -> None:
    assert {*METHODS, "grid_normal_classes"} == SWEEPS.keys()


@pytest.mark.parametrize("name", SELECTING)
def test_metric_is_what_the_runs_select_by_on_validation_data(name: str) -> None:
    sweep = SWEEPS[name]
    metric = sweep["metric"]
    assert metric["name"].startswith("val/")
    better = monitors_of(OWN_METRIC.get(name, DeepSAD))[metric["name"]]
    assert metric["goal"] == {"min": "minimize", "max": "maximize"}[better]
    assert f"--monitor={metric['name']}" in sweep["command"]
    assert "--test_after_fit=false" in sweep["command"]
    assert f"configs/{name}/{DATA.get(name, 'digits')}.yaml" in sweep["command"]
    assert f"--run_dir=runs/sweeps/{name}/{RUN_ID}" in sweep["command"]


@pytest.mark.parametrize("name", slow_but(("deep_sad", "density_ratio", "goad"), SELECTING))
def test_agents_command_fits_and_logs_the_metric(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = SWEEPS[name]
    run = run_as_agent(sweep, tmp_path, monkeypatch)
    logged = pd.read_csv(run / "logs/version_0/metrics.csv")
    values = logged[sweep["metric"]["name"]].dropna()
    assert len(values) == 1
    assert name in OWN_METRIC or values.between(0, 1).all()
    assert not any(str(column).startswith("test") for column in logged)
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, parameter in sweep["parameters"].items():
        if key.partition(".")[2] not in FIRST_PHASES:  # set for speed here
            value, wanted = set_by(config, key), inner_value(parameter)
            if isinstance(value, dict):  # a class
                assert value["class_path"].rpartition(".")[2] == wanted
            else:
                assert value == pytest.approx(wanted)


def test_grid_selects_nothing_and_has_every_normal_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = SWEEPS["grid_normal_classes"]
    assert sweep["method"] == "grid"
    assert not any(word.startswith("--monitor") for word in sweep["command"])
    assert sweep["parameters"]["data.normal_class"]["values"] == list(range(10))
    # class 1 is the config's labelled anomaly: the sweep has to take another one
    run = run_as_agent(sweep, tmp_path, monkeypatch, "--data.normal_class=1")
    assert pd.read_csv(run / "logs/version_0/metrics.csv")["test/auroc"].count() == 1
