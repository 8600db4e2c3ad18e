"""Which version of the code a cell's result belongs to: a digest of the modules that it runs through.

A new method or source must not make the results of all others those of "another version": where methods, networks and
sources are, only the modules count that a cell's own classes are built from. The rest of the package counts always,
apart from what only runs or reports a benchmark. Comments and docstrings never count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adlightning

_ROOT = Path(adlightning.__file__).parent
_WITHOUT_INFLUENCE = (
    "benchmark",
    "report",
    "published",
    "files/disk.py",
    "core/messages.py",
    *(f"cli/{verb}.py" for verb in ("benchmark", "report", "score", "summary")),
)
_ONLY_WHERE_USED = tuple(f"adlightning.{part}." for part in ("methods", "shallow", "networks", "data.sources"))


def code_version(config: Any) -> str:
    """Digest of the code behind the classes that a configuration names; with a class of another package, of all."""
    return _digest(tuple(sorted(set(_classes(config)))))


def _classes(config: Any) -> Iterator[str]:
    """Names of classes in a configuration: each `class_path`, and sources by their names alone."""
    for key, value in config.items() if isinstance(config, dict) else ():
        alone = list(value.values()) if key == "anomaly_sources" and isinstance(value, dict) else []
        alone += [value] if key in ("class_path", "source") else []
        yield from (name.rpartition(".")[2] for name in alone if isinstance(name, str))
        yield from _classes(value)


@functools.cache
def _digest(classes: tuple[str, ...]) -> str:
    trees = _trees()
    homes = [{name for name, tree in trees.items() if _defines(tree, wanted)} for wanted in classes]
    optional = {name for name in trees if name.startswith(_ONLY_WHERE_USED)}
    used = optional & _reached(set().union(*homes)) if all(homes) else optional
    digest = hashlib.sha256()
    for name in sorted((trees.keys() - optional) | used):
        digest.update(f"{name}\n{_text(name)}\n".encode())
    return digest.hexdigest()[:8]


def _reached(start: set[str]) -> set[str]:
    """Modules that these import, directly or through others."""
    found, left = set(start), list(start)
    while left:
        new = _imported(left.pop()) - found
        found |= new
        left += new
    return found


@functools.cache
def _imported(module: str) -> frozenset[str]:
    """Modules of the package that a module imports; for a name from a package's face, the module that defines it."""
    trees, found = _trees(), set()
    for node in ast.walk(trees[module]):
        if isinstance(node, ast.ImportFrom) and node.module in trees:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [name for name in trees if name.startswith(f"{node.module}.")]
            names = {alias.name for alias in node.names}
            found |= {name for name in inside if any(_defines(trees[name], wanted) for wanted in names)}
            found |= {name for name in inside if name.rpartition(".")[2] in names}
    return frozenset(found)


def _defines(tree: ast.Module, name: str) -> bool:
    return any(isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name for node in tree.body)


@functools.cache
def _trees() -> dict[str, ast.Module]:
    """Modules by name, `adlightning.methods.deep_sad`, without packages' faces and what has no influence."""
    files = [file.relative_to(_ROOT) for file in sorted(_ROOT.rglob("*.py")) if file.name != "__init__.py"]
    return {
        ".".join(("adlightning", *file.with_suffix("").parts)): _without_docstrings((_ROOT / file).read_text("utf-8"))
        for file in files
        if file.parts[0] not in _WITHOUT_INFLUENCE and file.as_posix() not in _WITHOUT_INFLUENCE
    }


@functools.cache
def _text(module: str) -> str:
    return ast.unparse(_trees()[module])


@functools.cache
def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value = ast.Constant(None)
    return tree
