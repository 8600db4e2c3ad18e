"""Sweep files of W&B's form, read for Optuna: every one of ours, what is mapped, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner, SuccessiveHalvingPruner
from short_fits import slow_but
from small_sweep import write_sweep

from adlightning.benchmark.sweep_file import read_sweep

ROOT = Path(__file__).parents[2]
FILES = {file.stem: file for file in sorted((ROOT / "sweeps").glob("*.yaml"))}

SELECTING = sorted(FILES.keys() - {"grid_normal_classes"})


def _last(of: BaseDistribution) -> Any:
    return of.choices[-1] if isinstance(of, CategoricalDistribution) else of.high  # type: ignore[attr-defined]


def value_at(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get("init_args", config).get(name)
    return config


@pytest.mark.parametrize("name", slow_but(("deep_sad", "gmm", "density_ratio"), SELECTING))
def test_every_sweep_of_the_package_is_a_search_of_its_experiment(name: str) -> None:
    spec = yaml.safe_load(FILES[name].read_text())
    sweep = read_sweep(FILES[name], {"trainer.max_epochs": 3})
    assert (sweep.metric, sweep.goal, sweep.cap) == (
        spec["metric"]["name"],
        spec["metric"]["goal"],
        spec.get("run_cap"),
    )
    assert isinstance(sweep.pruner, SuccessiveHalvingPruner if "early_terminate" in spec else NopPruner)
    assert sweep.space.keys() == spec["parameters"].keys()
    point = {key: _last(of) for key, of in sweep.space.items()}
    config = sweep.config_of(point)
    for key, value in point.items():
        found = value_at(config, key)
        found = found["class_path"] if isinstance(found, dict) else found
        assert (json.dumps(found) if isinstance(found, list) else found) == value
    assert value_at(config, "trainer.max_epochs") == 3
    assert value_at(config, "data.validation_fraction") == 0.2
    assert (config["monitor"], config["test_after_fit"]) == (sweep.metric, False)
    assert "run_dir" not in config
    assert "logger" not in config["trainer"]


def test_a_sweep_that_selects_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"metric\.name must be of validation"):
        read_sweep(FILES["grid_normal_classes"], {})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"value": 3}, CategoricalDistribution([3])),
        ({"values": ["a", None, 2]}, CategoricalDistribution(["a", None, 2])),
        ({"values": [[8, 4], [16]]}, CategoricalDistribution(["[8, 4]", "[16]"])),
        ({"min": 1, "max": 5}, IntDistribution(1, 5)),
        ({"min": 1.0, "max": 5}, FloatDistribution(1, 5)),
        ({"distribution": "uniform", "min": 1, "max": 5}, FloatDistribution(1, 5)),
        ({"distribution": "int_uniform", "min": 1, "max": 5}, IntDistribution(1, 5)),
        ({"distribution": "q_uniform", "min": 2, "max": 10, "q": 2}, IntDistribution(2, 10, step=2)),
        ({"distribution": "q_uniform", "min": 0.1, "max": 1.2, "q": 0.5}, FloatDistribution(0.5, 1.0, step=0.5)),
        ({"distribution": "log_uniform_values", "min": 0.1, "max": 10}, FloatDistribution(0.1, 10, log=True)),
        ({"distribution": "log_uniform", "min": 0, "max": 1}, FloatDistribution(1, 2.718281828459045, log=True)),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 64}, IntDistribution(1, 64, log=True)),
    ],
)
def test_distributions_have_their_equal(entry: dict[str, Any], expected: BaseDistribution, tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path, parameters={"model.eta": entry}), {})
    assert sweep.space == {"model.eta": expected}


def test_a_list_among_the_values_is_one_in_the_config(tmp_path: Path) -> None:
    key = "model.encoder.dense"
    sweep = read_sweep(write_sweep(tmp_path, parameters={key: {"values": [[8, 4], [16]]}}, method="grid"), {})
    assert [value_at(sweep.config_of(point), key) for point in sweep.points()] == [[8, 4], [16]]


def test_a_grid_has_every_point(tmp_path: Path) -> None:
    parameters = {"model.eta": {"values": [0.5, 1.0]}, "model.encoder.rep_dim": {"min": 2, "max": 3}}
    points = read_sweep(write_sweep(tmp_path, parameters=parameters, method="grid"), {}).points()
    assert [tuple(point.values()) for point in points] == [(0.5, 2), (0.5, 3), (1.0, 2), (1.0, 3)]
    parameters["model.eta"] = {"min": 1.0, "max": 2.5}
    with pytest.raises(ValueError, match=r"parameters\.model\.eta must have values"):
        read_sweep(write_sweep(tmp_path, parameters=parameters, method="grid"), {}).points()


def test_hyperband_is_successive_halving(tmp_path: Path) -> None:
    for given in ({"min_iter": 3}, {"max_iter": 27, "s": 2}):
        pruner = read_sweep(write_sweep(tmp_path, early_terminate={"type": "hyperband"} | given), {}).pruner
        assert (pruner._min_resource, pruner._reduction_factor) == (3, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": {"name": "test/auroc", "goal": "maximize"}}, r"metric\.name must be of validation.*test/auroc"),
        ({"metric": {"name": "val/fpr_at_95_tpr"}}, "metric.name must be what its fits select by, monitor=val/auroc"),
        ({"metric": {"name": "val/auroc", "goal": "up"}}, "metric.goal must be maximize or minimize, got up"),
        ({"method": "custom"}, "method must be grid, random or bayes, got custom"),
        ({"parameters": {}}, "parameters must be options of model, data or trainer, or seed_everything, got nothing"),
        ({"parameters": {"test_after_fit": {"values": [True]}}}, "or seed_everything, got test_after_fit"),
        ({"run_cap": "many"}, "run_cap must be a whole number of at least 1, got 'many'"),
        ({"controller": {}}, "controller is not known"),
        ({"command": ["python", "train.py"]}, "command must be one of `adlightning fit"),
        ({"command": ["fit", "--config", "c.yaml", "${args_json}"]}, "got ..args_json"),
        ({"command": ["fit", "--a.b=1"]}, "command must have one --config, got 0"),
        ({"early_terminate": {"type": "envelope"}}, "early_terminate: envelope has no equal"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "strict": True}}, "strict has no equal"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate must have min_iter"),
    ],
)
def test_files_that_cannot_be_searched_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_sweep(write_sweep(tmp_path, **changes), {})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"distribution": "beta", "a": 1, "b": 2, "min": 0, "max": 1}, r"beta has no equal in Optuna"),
        ({"distribution": "inv_log_uniform_values", "min": 1, "max": 2}, "inv_log_uniform_values has no equal"),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 4}, "q_log_uniform_values has no equal"),
        ({"values": [1, 2], "probabilities": [0.1, 0.9]}, "probabilities and nested parameters have no equal"),
        ({"parameters": {"lr": {"value": 1}}}, "probabilities and nested parameters have no equal"),
        ({"values": []}, r"model\.eta\.values must be a list, got \[\]"),
        ({"min": "1e-5", "max": 1}, r"model\.eta\.min must be a number, got '1e-5'"),
        ({"distribution": "normal", "mu": 0, "sigma": 1}, r"model\.eta: normal has no equal in Optuna"),
        ({"min": 3, "max": 1}, r"parameters\.model\.eta: "),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, r"parameters\.model\.eta: "),
    ],
)
def test_parameters_without_an_equal_are_refused(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_sweep(write_sweep(tmp_path, parameters={"model.eta": entry}), {})
