"""A table of a paper as a grid: methods x datasets x settings x normal classes x labelled classes x seeds.

A benchmark file names the experiment configs (configs/METHOD/DATASET.yaml) and what each cell changes in them. A cell
is one whole configuration, complete and hashed before anything is imported that a fit needs.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adlightning.benchmark.code import code_version
from adlightning.files.plain_yaml import read_yaml

LABELS = ("paper", "table", "dataset", "setting", "normal", "labelled", "method", "variant", "seed")
"""What names a cell; all but `labelled` and `seed` as in the published tables."""

_KEYS = {"paper", "table", "title", "seeds", "options", "datasets", "settings", "normal_classes", "labelled_classes"}
_METHOD_KEYS = {"method", "variant", "config", "options", "per_dataset", "per_normal", "per_setting"}
_METHOD_KEYS |= {"settings", "labels"}
# Options without influence on the result: where things lie, what is shown, which device computes.
_NO_RESULT = {"run_dir", "download", "num_workers", "device_budget_mb", "cache", "plots", "boundary_features"}
# whatever their root: public data of one version
_SAME_ANYWHERE = {"MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "Odds", "Abalone", "Epilepsy"}
_SAME_ANYWHERE |= {"Omniglot", "GTSRB", "CelebA", "LSUN"}
_NO_RESULT_TRAINER = {"accelerator", "devices", "logger", "enable_progress_bar", "enable_model_summary"}
_NO_RESULT_TRAINER |= {"enable_checkpointing", "default_root_dir"}
_UNLABELLED = {"data.labelled_anomaly_ratio": 0.0}


@dataclass(frozen=True)
class Cell:
    """One fit of a grid.

    Args:
        labels: its place in the table: :data:`LABELS`, as text but for `seed`.
        config: the whole configuration that `fit` gets.
        config_hash: digest of what in the configuration decides the result.
        code: version of the code behind it.
    """

    labels: dict[str, Any]
    config: dict[str, Any]
    config_hash: str
    code: str

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of its test sets, where its configuration names some: each gets a row of its own."""
        sources = self.config.get("data", {}).get("init_args", {}).get("anomaly_sources")
        return tuple(sorted(sources)) if isinstance(sources, dict) else ()

    @property
    def name(self) -> str:
        """The cell in a line, for messages: `deep_sad cardio seed 3`."""
        part = {key: str(value) for key, value in self.labels.items()}
        method = f"{part['method']} {part['variant']}".strip()
        extra = [f"normal {part['normal']}" if part["normal"] else "", part["setting"]]
        extra += [f"labelled {part['labelled']}" if part["labelled"] else "", f"seed {part['seed']}"]
        return " ".join([method, part["dataset"], *(text for text in extra if text)])


@dataclass(frozen=True)
class Grid:
    """A benchmark file, checked and spread out into cells, seeds outermost: a grid broken off has whole rounds."""

    file: Path
    paper: str
    table: str
    title: str
    cells: tuple[Cell, ...]


def read_grid(file: Path, seeds: int | None = None, options: Mapping[str, Any] | None = None) -> Grid:
    """Read a benchmark file.

    Args:
        file: a file in configs/benchmarks/; the configs that it names are looked up beside that folder.
        seeds: number of seeds instead of the file's own.
        options: options of every cell, beating the file's.

    Raises:
        ValueError: a file that is missing or not as it should be, with the key and the rule.
    """
    spec = _read_mapping(file)
    _check_keys(file, "", spec, _KEYS | {"methods"}, required={"paper", "table", "seeds", "datasets", "methods"})
    _check_types(file, spec)
    n_seeds = seeds if seeds is not None else spec["seeds"]
    if not isinstance(n_seeds, int) or n_seeds < 1:
        raise ValueError(f"seeds must be a number of seeds, at least 1, got {n_seeds}")
    cells = [cell for seed in range(n_seeds) for cell in _round(file, spec, seed, dict(options or {}))]
    return Grid(file, str(spec["paper"]), str(spec["table"]), str(spec.get("title", "")), tuple(cells))


def choose(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that fit every `label=value[,value]`.

    A method is `deep_sad` or `ocsvm/raw`; a setting is the whole of it or one of its parts, `gamma_l=0.05`.
    `variant=` are the cells without one.

    Raises:
        ValueError: a label that there is not, a value that no cell has, or conditions that no cell fits together.
    """
    chosen = list(cells)
    for condition in only:
        label, equals, text = condition.partition("=")
        if label not in LABELS or not equals:
            raise ValueError(f"only: {condition!r} must be LABEL=VALUE[,VALUE] with a label of {', '.join(LABELS)}")
        values = text.split(",")
        for value in values:
            if not any(_fits(cell, label, value) for cell in cells):
                there = sorted({str(cell.labels[label]) for cell in cells})
                raise ValueError(f"only: no cell has {label}={value}; there are {', '.join(there)}")
        chosen = [cell for cell in chosen if any(_fits(cell, label, value) for value in values)]
    if only and not chosen:
        raise ValueError(f"only: no cell fits {' and '.join(only)}; several values of a label are LABEL=VALUE,VALUE")
    return chosen


def _fits(cell: Cell, label: str, value: str) -> bool:
    own = str(cell.labels[label])
    if label == "method":
        return value in (own, f"{own}/{cell.labels['variant']}")
    return value == own or (label == "setting" and value in own.split(";"))


# ---- the cells of a seed ---------------------------------------------------------------------------------------------


def _round(file: Path, spec: dict[str, Any], seed: int, options: dict[str, Any]) -> Iterator[Cell]:
    settings: dict[str, dict[str, Any]] = spec.get("settings") or {"": {}}
    for setting, setting_options in settings.items():
        for dataset, dataset_options in spec["datasets"].items():
            for method in spec["methods"]:
                if unknown := set(method.get("settings", [])) - settings.keys():
                    raise ValueError(f"{file}: settings of {method['method']} must be among settings, got {unknown}")
                if setting not in method.get("settings", settings):
                    continue
                labels = {"paper": str(spec["paper"]), "table": str(spec["table"]), "dataset": dataset}
                labels |= {"setting": setting, "method": method["method"], "variant": str(method.get("variant", ""))}
                base = _base_config(file, method, dataset)
                for source in (spec.get("options"), dataset_options, setting_options, method.get("options")):
                    _override(base, source)
                _override(base, _named(method, "per_dataset", dataset))
                _override(base, _named(method, "per_setting", setting))
                for normal, labelled, class_options in _classes(spec, method.get("labels", True)):
                    config = copy.deepcopy(base)
                    _override(config, _named(method, "per_normal", normal))
                    _override(config, {**class_options, **options, "seed_everything": seed})
                    own = labels | {"normal": normal, "labelled": labelled, "seed": seed}
                    yield Cell({key: own[key] for key in LABELS}, config, config_hash(config), code_version(config))


def _named(method: dict[str, Any], key: str, name: Any) -> dict[str, Any] | None:
    """A method's options for one data set or normal class; names are compared as text."""
    return {str(own): options for own, options in (method.get(key) or {}).items()}.get(str(name))


def _classes(spec: dict[str, Any], labels: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Normal and labelled class with their options; a method without use for labels is run once a normal class."""
    known = {} if labels else _UNLABELLED
    normals: list[Any] = spec.get("normal_classes") or []
    if not normals:
        yield "", "", known
    for normal in normals:
        options = {"data.normal_class": normal, **known}
        if not labels:
            yield str(normal), "", options | {"data.labelled_classes": [], "data.n_labelled_classes": 0}
        elif "labelled_classes" in spec:
            for labelled in _labelled(normals, normal, spec["labelled_classes"]):
                yield (
                    str(normal),
                    str(labelled),
                    options
                    | {
                        "data.labelled_classes": [labelled],
                        "data.n_labelled_classes": 0,
                    },
                )
        else:
            yield str(normal), "", options


def _labelled(normals: list[Any], normal: Any, which: Any) -> list[Any]:
    """Labelled classes to go through: all others, or so many of those that follow the normal one."""
    after = normals.index(normal) + 1
    others = [*normals[after:], *normals[: after - 1]]
    if which == "others":
        return others
    if not isinstance(which, int) or not 1 <= which <= len(others):
        raise ValueError(f"labelled_classes must be `others` or a number of 1 to {len(others)}, got {which}")
    return others[:which]


def _base_config(file: Path, method: dict[str, Any], dataset: str) -> dict[str, Any]:
    template = str(method.get("config", "{method}/{dataset}"))
    try:
        name = template.format(method=method["method"], dataset=dataset)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{file}: config may hold {{method}} and {{dataset}}, got {template!r}") from error
    return copy.deepcopy(_read_mapping(file.absolute().parents[1] / f"{name}.yaml"))


# ---- configurations -------------------------------------------------------------------------------------------------


def _override(config: dict[str, Any], options: Mapping[str, Any] | None) -> None:
    for key, value in (options or {}).items():
        set_option(config, key, copy.deepcopy(value))


def set_option(config: dict[str, Any], key: str, value: Any) -> None:
    """Set `data.normal_class` and the like as the command line does: arguments of a class go to its `init_args`."""
    *path, last = key.split(".")
    node = config
    for part in path:
        node = _arguments(node, part)
        if isinstance(node.get(part), str):  # a class by its name alone
            node[part] = {"class_path": node[part]}
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ValueError(f"{key} cannot be set: {part} is {node!r}, which has no arguments")
    _arguments(node, last)[last] = value


def _arguments(node: dict[str, Any], part: str) -> dict[str, Any]:
    if "class_path" not in node or part in ("class_path", "init_args"):
        return node
    arguments: dict[str, Any] = node.setdefault("init_args", {})
    if not isinstance(arguments, dict):
        raise ValueError(f"{part} cannot be set: the arguments of {node['class_path']} are {arguments!r}")
    return arguments


def config_hash(config: dict[str, Any]) -> str:
    """Digest of what in a configuration decides the result, the same for any order of its keys."""
    try:
        text = json.dumps(_deciding(config, _NO_RESULT), sort_keys=True)
    except TypeError as error:  # YAML makes a date of 2026-11-22
        raise ValueError(f"a configuration holds plain values only: {error}; put it into quotes") from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _deciding(value: Any, without: set[str]) -> Any:
    if isinstance(value, list):
        return [_deciding(item, without) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: _NO_RESULT | (_NO_RESULT_TRAINER if key == "trainer" else set()) for key in value}
    if str(value.get("class_path")).rpartition(".")[2] in _SAME_ANYWHERE:
        inner["init_args"] = _NO_RESULT | {"root"}
    return {key: _deciding(item, inner[key]) for key, item in value.items() if key not in without}


_files: dict[Path, dict[str, Any]] = {}


def _read_mapping(file: Path) -> dict[str, Any]:
    """A YAML mapping, read once a process: a grid of a thousand cells names a few files."""
    if file in _files:
        return _files[file]
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"config: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"config: {file} is not YAML: {error}") from error
    content = read_yaml(text, f"config: {file}")
    if not isinstance(content, dict):
        raise ValueError(f"config: {file} must be a mapping, got {type(content).__name__}")
    return _files.setdefault(file, content)


def _check_types(file: Path, spec: dict[str, Any]) -> None:
    """Refuse what is not the mapping or list that it should be, before it is read as one."""
    if not isinstance(spec["methods"], list) or not spec["methods"]:
        raise ValueError(f"{file}: methods must be a list of at least one, got {spec['methods']!r}")
    if not isinstance(spec.get("normal_classes", []), list):
        raise ValueError(f"{file}: normal_classes must be a list, got {spec['normal_classes']!r}")
    for method in spec["methods"]:
        _check_keys(file, f"methods, {method}: ", method, _METHOD_KEYS, required={"method"})
        chosen = method.get("settings", [])
        if not isinstance(method["method"], str) or not isinstance(chosen, list):
            raise ValueError(f"{file}: methods must have a name and a list of settings, got {method!r}")
        if not all(isinstance(name, str) for name in chosen):
            raise ValueError(f"{file}: settings of {method['method']} must be names, got {chosen!r}")
    nested: dict[str, Any] = {key: spec[key] for key in ("datasets", "settings") if key in spec}
    names = {"per_dataset": spec["datasets"], "per_normal": spec.get("normal_classes") or ()}
    names["per_setting"] = spec.get("settings") or ()
    per = {f"{key} of {m['method']}": (m[key], names[key]) for m in spec["methods"] for key in names if key in m}
    for key, mapping in (nested | {key: own for key, (own, _) in per.items()}).items():
        _check_mapping(file, key, mapping, text_keys=key in ("datasets", "settings"))
        for name, options in mapping.items():
            _check_mapping(file, f"{key}, {name}", options or {})
    for key, (own, known) in per.items():
        if unknown := {str(name) for name in own} - {str(name) for name in known}:
            what = {"per_dataset": "data sets", "per_normal": "normal_classes"}.get(key.partition(" ")[0], "settings")
            raise ValueError(f"{file}: {key} must name {what} of the file, got {', '.join(sorted(unknown))}")
    for where in (spec, *spec["methods"]):
        _check_mapping(file, "options", where.get("options") or {})


def _check_mapping(file: Path, where: str, value: Any, text_keys: bool = True) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{file}: {where} must be a mapping, got {value!r}")
    if text_keys and (wrong := [key for key in value if not isinstance(key, str)]):
        raise ValueError(f"{file}: {where} must have names for keys, got {wrong[0]!r}")


def _check_keys(file: Path, where: str, mapping: Any, known: set[str], required: set[str]) -> None:
    if not isinstance(mapping, dict):
        raise ValueError(f"{file}: {where}must be a mapping, got {mapping!r}")
    if unknown := mapping.keys() - known:
        raise ValueError(f"{file}: {where}there is no {', '.join(map(str, unknown))}; keys are {', '.join(known)}")
    if missing := required - mapping.keys():
        raise ValueError(f"{file}: {where}{', '.join(missing)} must be given")
