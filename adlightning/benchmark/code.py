"""Which version of the code a cell's result belongs to: a digest of the modules that the result comes from.

These are the modules of the classes that its configuration names, those that decide on every fit, and whatever either
import, directly or through others. A new method, a plot or a report leaves the versions of other results as they are.
Comments, docstrings and imports for types alone never count.

A class of a package that is not known may import any of ours, so all of ours count with it, and all files of its own
package, or of its module where it is in none.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import adlightning

_ROOT = Path(adlightning.__file__).parent
_PACKAGE = "adlightning"
_EVERY_FIT = ("adlightning.cli.fitting", "adlightning.cli.parsing")
"""What decides on a fit's result whatever its configuration; a detector's own imports have the core."""

_NAMED_ALONE = ("kornia",)
"""Libraries that ours works with and does not import: configurations name their classes."""

_CLASS = re.compile(r"^class ([A-Za-z]\w*)", re.MULTILINE)
_PATH = re.compile(r"(?:[A-Za-z_]\w*\.)+_*[A-Z]\w*")
"""A class by its path: `my_package.vit.ViT`."""


def code_version(config: Any) -> str:
    """Digest of the code behind a configuration; of all of ours and theirs where it names classes of other packages."""
    return _digest(frozenset(_named(config)))


@functools.cache
def package_version() -> str:
    """Digest of all of ours, as it is when first asked for."""
    texts = hashlib.sha256()
    for file in sorted(_ROOT.rglob("*.py")):
        texts.update(f"{file.relative_to(_ROOT)}\n".encode() + file.read_bytes())
    return texts.hexdigest()[:16]


def _named(value: Any, is_class: bool = False) -> Iterator[str]:
    """Classes that a configuration names anywhere: ours by their names alone, others by path or as a `class_path`."""
    if isinstance(value, str):
        if is_class or value in _classes() or _PATH.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(inner, key in ("class_path", "source"))
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)


@functools.cache
def _digest(names: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for module in sorted(_behind(names)):
        digest.update(f"{module}\n{_text(module)}\n".encode())
    for top in sorted({name.partition(".")[0] for name in names if _homes(name) is None and "." in name} - {_PACKAGE}):
        for file in _files_of(top):
            digest.update(f"{top} {file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def _files_of(top: str) -> list[Path]:
    """All Python files of somebody's package, or module, where it is found; nothing is imported."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    if folders is not None:
        return [file for folder in folders for file in sorted(Path(folder).rglob("*.py"))]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _behind(names: frozenset[str]) -> frozenset[str]:
    homes = [_homes(name) for name in names]
    known = [home for home in homes if home is not None]
    return _reached(frozenset(_EVERY_FIT).union(*known)) if len(known) == len(homes) else frozenset(_sources())


def _homes(name: str) -> frozenset[str] | None:
    """The modules that define a class of this name; none for a library's, None where nothing is known of it.

    A package that ours imports is a library: it cannot import ours in turn.
    """
    path, _, last = name.rpartition(".")
    top = path.partition(".")[0]
    if top in ("", _PACKAGE) and (found := _classes().get(last)):
        return found
    if top == _PACKAGE:
        return _defining(path, last) or None
    libraries, their_names = _libraries()
    return frozenset() if top in libraries or (not top and last in their_names) else None


# ---- what imports what ----------------------------------------------------------------------------------------------


def _reached(start: Iterable[str]) -> frozenset[str]:
    """These modules and all that they import, directly or through others."""
    found, left = set(start), list(start)
    while left:
        new = _imported(left.pop()) - found
        found |= new
        left += new
    return frozenset(found)


@functools.cache
def _imported(module: str) -> frozenset[str]:
    """Modules of the package that a module imports, within functions too."""
    found: set[str] = set()
    for node in _imports(module):
        if isinstance(node, ast.ImportFrom):
            found = found.union(*(_defining(node.module or "", alias.name) for alias in node.names))
        else:
            found |= {alias.name for alias in node.names if alias.name in _sources()}
    return frozenset(found)


@functools.cache
def _defining(module: str, name: str) -> frozenset[str]:
    """The module that `from module import name` is about: through a package's face, the one that defines the name."""
    if f"{module}.{name}" in _sources():
        return frozenset({f"{module}.{name}"})
    if module not in _sources():
        return frozenset()
    if _is_face(module):
        for node in _imports(module):
            if isinstance(node, ast.ImportFrom) and any(name == (alias.asname or alias.name) for alias in node.names):
                own = next(alias.name for alias in node.names if name == (alias.asname or alias.name))
                return _defining(node.module or "", own)
    return frozenset({module})


def _imports(module: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return _imports_in(_sources()[module])


@functools.cache
def _libraries() -> tuple[frozenset[str], frozenset[str]]:
    """Packages that ours imports or works with, and the names that it takes from them."""
    packages, names = set(_NAMED_ALONE), set()
    for module in _sources():
        for node in _imports(module):
            if isinstance(node, ast.Import):
                packages |= {alias.name.partition(".")[0] for alias in node.names}
            elif (top := (node.module or "").partition(".")[0]) != _PACKAGE:
                packages.add(top)
                names |= {alias.name for alias in node.names}
    return frozenset(packages - {_PACKAGE}), frozenset(names)


# ---- the package's files --------------------------------------------------------------------------------------------


@functools.cache
def _sources() -> dict[str, str]:
    """Modules by name, `adlightning.methods.deep_sad`, as they are written."""
    return {_name(file): file.read_text("utf-8") for file in sorted(_ROOT.rglob("*.py"))}


def _name(file: Path) -> str:
    parts = file.relative_to(_ROOT).with_suffix("").parts
    return ".".join((_PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _is_face(module: str) -> bool:
    return (_ROOT.joinpath(*module.split(".")[1:]) / "__init__.py").exists()


@functools.cache
def _classes() -> dict[str, frozenset[str]]:
    """The modules that define each class."""
    found: dict[str, frozenset[str]] = {}
    for module, source in _sources().items():
        for name in _CLASS.findall(source):
            found[name] = found.get(name, frozenset()) | {module}
    return found


def _text(module: str) -> str:
    return _unparsed(_sources()[module])


@functools.cache
def _imports_in(source: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in ast.walk(_parsed(source)) if isinstance(node, (ast.Import, ast.ImportFrom)))


@functools.cache
def _unparsed(source: str) -> str:
    return ast.unparse(_parsed(source))


@functools.cache
def _parsed(source: str) -> ast.Module:
    """A module without docstrings and imports for types alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body:
            continue
        first = body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value = ast.Constant(None)
        node.body = [inner for inner in body if not _is_for_types(inner)]  # type: ignore[attr-defined]  # it has one
    return tree


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
