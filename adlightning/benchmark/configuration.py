"""A cell's configuration: options set in it, and the digest of what in it decides the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Options without influence on the result: where things lie, what is shown, which device computes.
_NO_RESULT = {"run_dir", "download", "num_workers", "device_budget_mb", "cache", "plots", "boundary_features"}
# whatever their root: public data of one version
_SAME_ANYWHERE = {"MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "SVHN", "Odds", "Abalone", "Epilepsy"}
_SAME_ANYWHERE |= {"Omniglot", "GTSRB", "CelebA", "LSUN"}
_NO_RESULT_TRAINER = {"accelerator", "devices", "logger", "enable_progress_bar", "enable_model_summary"}
_NO_RESULT_TRAINER |= {"enable_checkpointing", "default_root_dir"}


def override(config: dict[str, Any], options: Mapping[str, Any] | None) -> None:
    """Set several options."""
    for key, value in (options or {}).items():
        set_option(config, key, copied(value))


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
    return digest(deciding(config))


def digest(config: dict[str, Any]) -> str:
    """Digest of a configuration that is reduced to what decides. Raises ValueError for values that are not plain."""
    try:
        text = json.dumps(config, sort_keys=True)
    except TypeError as error:  # YAML makes a date of 2026-11-22
        raise ValueError(f"a configuration holds plain values only: {error}; put it into quotes") from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def deciding(config: dict[str, Any]) -> dict[str, Any]:
    """What in a configuration decides the result."""
    reduced: dict[str, Any] = _reduced(config, _NO_RESULT)
    return reduced


def _reduced(value: Any, without: set[str]) -> Any:
    if isinstance(value, list):
        return [_reduced(item, without) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {"trainer": _NO_RESULT | _NO_RESULT_TRAINER}
    if str(value.get("class_path")).rpartition(".")[2] in _SAME_ANYWHERE:
        inner["init_args"] = _NO_RESULT | {"root"}
    return {key: _reduced(item, inner.get(key, _NO_RESULT)) for key, item in value.items() if key not in without}


def copied(value: Any) -> Any:
    """A copy of plain values; `deepcopy` takes ten times as long."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value
