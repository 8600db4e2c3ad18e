"""Benchmark files and the configs that they name, read and checked before anything is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adlightning.files.plain_yaml import read_yaml

_KEYS = {"paper", "table", "title", "seeds", "options", "datasets", "settings", "normal_classes", "labelled_classes"}
_METHOD_KEYS = {"method", "variant", "config", "options", "per_dataset", "per_normal", "per_setting"}
_METHOD_KEYS |= {"settings", "labels", "same_fit_as", "same_fit_in", "datasets", "normal_classes"}

_files: dict[Path, dict[str, Any]] = {}


def read_mapping(file: Path) -> dict[str, Any]:
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


def check_grid(file: Path, spec: dict[str, Any]) -> None:
    """Refuse keys that there are not, and what is not the mapping or list that it should be. Raises ValueError."""
    _check_keys(file, "", spec, _KEYS | {"methods"}, required={"paper", "table", "seeds", "datasets", "methods"})
    if not isinstance(spec["methods"], list) or not spec["methods"]:
        raise ValueError(f"{file}: methods must be a list of at least one, got {spec['methods']!r}")
    if not isinstance(spec.get("normal_classes", []), list):
        raise ValueError(f"{file}: normal_classes must be a list, got {spec['normal_classes']!r}")
    for method in spec["methods"]:
        _check_keys(file, f"methods, {method}: ", method, _METHOD_KEYS, required={"method"})
        chosen = method.get("settings", [])
        if not isinstance(method["method"], str) or not isinstance(chosen, list):
            raise ValueError(f"{file}: methods must have a name and a list of settings, got {method!r}")
        if not isinstance(method.get("same_fit_as", ""), str):
            raise ValueError(f"{file}: same_fit_as must be a variant of {method['method']}, got {method!r}")
        if "same_fit_in" in method and (inside := method["same_fit_in"]) not in list(spec.get("settings") or ()):
            raise ValueError(f"{file}: same_fit_in must be one of settings, got {inside!r} of {method['method']}")
        if stray := [name for name in _listed(file, method, "datasets") if name not in list(spec["datasets"])]:
            raise ValueError(f"{file}: datasets of {method['method']} must be among datasets, got {stray[0]!r}")
        _listed(file, method, "normal_classes")
        if not all(isinstance(name, str) for name in chosen):
            raise ValueError(f"{file}: settings of {method['method']} must be names, got {chosen!r}")
    nested: dict[str, Any] = {key: spec[key] for key in ("datasets", "settings") if key in spec}
    names = {"per_dataset": spec["datasets"], "per_setting": spec.get("settings") or ()}
    per = {f"{key} of {m['method']}": (m[key], names[key]) for m in spec["methods"] for key in names if key in m}
    per |= {
        f"per_normal of {m['method']}": (m["per_normal"], m.get("normal_classes") or spec.get("normal_classes") or ())
        for m in spec["methods"]
        if "per_normal" in m
    }
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


def _listed(file: Path, method: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(listed := method.get(key, []), list):
        raise ValueError(f"{file}: {key} of {method['method']} must be a list, got {listed!r}")
    return listed


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
