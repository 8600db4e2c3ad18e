"""A sweep file, the same that W&B's agents read, for Optuna: which fits, what is searched, and by what metric."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner

from adlightning.benchmark.configuration import copied, override
from adlightning.benchmark.grid_file import read_mapping
from adlightning.files.experiments import find_config
from adlightning.files.plain_yaml import read_yaml

_KEYS = {"project", "entity", "name", "description", "method", "metric", "run_cap", "early_terminate", "command"}
_HYPERBAND = {"type", "min_iter", "max_iter", "s", "eta"}
_SEARCHED = ("model.", "data.", "trainer.", "seed_everything")
_RANGES = ("int_uniform", "uniform", "q_uniform", "log_uniform_values", "log_uniform", "q_log_uniform_values")
_OF_A_RUN = ("run_dir", "trainer.logger", "trainer.enable_progress_bar")
"""Options of an agent's run, which a trial has of its own."""
Goal = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked.

    Args:
        name: the file's own, or its stem.
        config: configuration of every fit, without what is searched.
        metric: of validation; each fit selects its checkpoint by it.
        goal: maximize or minimize.
        method: grid, random or bayes.
        space: what is searched, by option.
        pruner: what stops a trial that is worse than others.
        cap: how many trials the file allows; None where it does not say.
    """

    name: str
    config: dict[str, Any]
    metric: str
    goal: Goal
    method: str
    space: dict[str, BaseDistribution]
    pruner: BasePruner
    cap: int | None

    def config_of(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of a fit at a point of the space; a text in brackets is a list, as for an agent."""
        config: dict[str, Any] = copied(self.config)
        lists = {key: read_yaml(text, key) for key, text in point.items() if str(text)[:1] in ("[", "{")}
        override(config, {**point, **lists})
        return config

    def points(self) -> list[dict[str, Any]]:
        """Every point of a grid, the last option fastest. Raises ValueError for a range that has no end of points."""
        axes: list[list[Any]] = []
        for key, of in self.space.items():
            if isinstance(of, CategoricalDistribution):
                axes.append(list(of.choices))
            elif isinstance(of, IntDistribution) and not of.log:
                axes.append(list(range(of.low, of.high + 1, of.step)))
            else:
                raise ValueError(f"parameters.{key} must have values, since the method is grid")
        return [dict(zip(self.space, point, strict=True)) for point in itertools.product(*axes)]


def read_sweep(file: Path, options: Mapping[str, Any]) -> Sweep:
    """Read a sweep file.

    Args:
        file: as for `wandb sweep`.
        options: of every fit, beating the file's.

    Raises:
        ValueError: what is not as it should be, or has no equal in Optuna, by its key.
    """
    spec = read_mapping(file)
    if unknown := spec.keys() - _KEYS - {"parameters"}:
        raise ValueError(f"{file}: {', '.join(sorted(unknown))} is not known; keys are {', '.join(sorted(_KEYS))}")
    metric = _mapping("metric", spec.get("metric", {}))
    name, goal = str(metric.get("name")), metric.get("goal", "minimize")
    if not name.startswith("val/"):
        raise ValueError(f"metric.name must be of validation, val/...: test data choose nothing; got {name}")
    if goal not in ("maximize", "minimize"):
        raise ValueError(f"metric.goal must be maximize or minimize, got {goal}")
    if spec.get("method") not in ("grid", "random", "bayes"):
        raise ValueError(f"method must be grid, random or bayes, got {spec.get('method')}")
    config = _config(spec.get("command"))
    override(config, options)
    if config.setdefault("monitor", name) != name:
        raise ValueError(f"metric.name must be what its fits select by, monitor={config['monitor']}; got {name}")
    config["test_after_fit"] = False
    parameters, cap = _mapping("parameters", spec.get("parameters", {})), spec.get("run_cap")
    if wrong := [key for key in parameters or ("nothing",) if not str(key).startswith(_SEARCHED)]:
        raise ValueError(f"parameters must be options of model, data or trainer, or seed_everything, got {wrong[0]}")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise ValueError(f"run_cap must be a whole number of at least 1, got {cap!r}")
    space = {key: _distribution(f"parameters.{key}", _mapping(key, entry)) for key, entry in parameters.items()}
    pruner = _pruner(_mapping("early_terminate", spec.get("early_terminate", {})))
    return Sweep(spec.get("name", file.stem), config, name, goal, spec["method"], space, pruner, cap)


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} must be a mapping, got {value!r}")
    return value


def _config(command: Any) -> dict[str, Any]:
    """What an agent's command fits: its config with its options."""
    words = [str(word) for word in command or []]
    if "fit" not in words:
        raise ValueError(f"command must be one of `adlightning fit --config FILE`, got {' '.join(words) or 'none'}")
    left, given = iter(words[words.index("fit") + 1 :]), list[tuple[str, str]]()
    for word in left:
        key, equals, value = word.partition("=")
        if key.startswith("--"):
            given.append((key.removeprefix("--"), value if equals else next(left, "")))
        elif word != "${args}":
            raise ValueError(f"command must have options and ${{args}} after fit, got {word}")
    files = [value for key, value in given if key == "config"]
    if len(files) != 1:
        raise ValueError(f"command must have one --config, got {len(files)}")
    config: dict[str, Any] = copied(read_mapping(find_config(files[0])))
    options = [(key, value) for key, value in given if key not in ("config", *_OF_A_RUN)]
    override(config, {key: read_yaml(value, f"command: {key}", key) for key, value in options})
    config.pop("run_dir", None)
    return config


def _distribution(key: str, spec: dict[str, Any]) -> BaseDistribution:
    """Optuna's equal of one of W&B's distributions. Raises ValueError where there is none."""
    low, high, q = (cast(Any, spec.get(name)) for name in ("min", "max", "q"))
    q = 1 if q is None else q
    whole = all(isinstance(value, int) for value in (low, high, q))
    ranged = "int_uniform" if whole else "uniform"
    kind = "constant" if "value" in spec else "categorical" if "values" in spec else ranged
    kind = spec.get("distribution", kind)
    if "probabilities" in spec or "parameters" in spec:
        raise ValueError(f"{key}: probabilities and nested parameters have no equal in Optuna")
    if kind in ("constant", "categorical"):
        values = [spec["value"]] if "value" in spec else spec.get("values")
        if not isinstance(values, list) or not values:
            raise ValueError(f"{key}.values must be a list, got {values!r}")
        return CategoricalDistribution([json.dumps(v) if isinstance(v, (list, dict)) else v for v in values])
    if kind not in _RANGES:
        raise ValueError(f"{key}: {kind} has no equal in Optuna")
    for name, value in (("min", low), ("max", high), ("q", q)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{key}.{name} must be a number, got {value!r}")
    try:
        if kind == "int_uniform" or (kind == "q_uniform" and whole):
            return IntDistribution(low, high, step=q)
        if kind == "q_uniform":
            return FloatDistribution(math.ceil(low / q) * q, math.floor(high / q) * q, step=q)
        if kind == "q_log_uniform_values" and whole and q == 1:
            return IntDistribution(low, high, log=True)
        if kind == "log_uniform":  # its ends are exponents
            return FloatDistribution(math.exp(low), math.exp(high), log=True)
        if kind != "q_log_uniform_values":
            return FloatDistribution(low, high, log=kind == "log_uniform_values")
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    raise ValueError(f"{key}: {kind} has no equal in Optuna but for whole numbers with q 1")


def _pruner(given: dict[str, Any]) -> BasePruner:
    """W&B's hyperband has a single bracket, as what Optuna calls successive halving."""
    if not given:
        return NopPruner()
    unknown = given.keys() - _HYPERBAND
    if given.get("type") != "hyperband" or unknown:
        what = ", ".join(sorted(unknown)) or given.get("type")
        raise ValueError(f"early_terminate: {what} has no equal in Optuna; type is hyperband")
    eta = given.get("eta", 3)
    if "min_iter" not in given and not {"max_iter", "s"} <= given.keys():
        raise ValueError("early_terminate must have min_iter, or max_iter and s")
    first = given["min_iter"] if "min_iter" in given else max(1, given["max_iter"] // eta ** given["s"])
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=eta)
