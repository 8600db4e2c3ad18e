"""What a file of skops says of an estimator, as plain values: nothing that it names is imported, built or called.

Skops looks at types alone, and says itself that it does not look at what is in them: scikit-learn's code in C reads out
of bounds where a value is not what training left. So skops writes, and estimators are built anew from these values.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from zipfile import ZipFile

from sklearn.tree._tree import NODE_DTYPE

from adlightning.files.archives import Member, require_stored
from adlightning.files.arrays import read_array

_SCHEMA = "schema.json"
_DEEPEST = 20
_CONTAINERS = {"ListNode": "builtins.list", "TupleNode": "builtins.tuple", "DictNode": "builtins.dict"}
_SCALARS = ("numpy.float64", "numpy.float32", "numpy.int64", "numpy.int32", "numpy.bool")


@dataclass(frozen=True)
class Stored:
    """An object: the full name of its type, and its attributes."""

    kind: str
    values: dict[str, Any]


def read_stored(content: bytes, kinds: Collection[str]) -> Stored:
    """The object that a file of skops holds.

    Args:
        content: of the file.
        kinds: full names of the types of objects that it may consist of, beside arrays and plain values.

    Raises:
        ValueError: it holds other types, or anything but arrays and their description.
        Exception: what the parsers of damaged bytes let through.
    """
    members = {member.name: member for member in require_stored(io.BytesIO(content))}
    if any(name != _SCHEMA and not name.endswith(".npy") for name in members):
        raise ValueError("it holds more than arrays: archives, sparse matrices or bytes")
    with ZipFile(io.BytesIO(content)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        if unknown := sorted(_kinds(schema) - set(kinds)):
            raise ValueError(f"it holds types that are never loaded: {', '.join(unknown)[:200]}")
        stored = _Reader(archive, members).value(schema, 1)
    if not isinstance(stored, Stored):
        raise ValueError(f"it holds a {type(stored).__name__} and no estimator")
    return stored


def _kinds(schema: Any) -> set[str]:
    """Full names of the types of everything in a schema that is neither a container, nor an array, nor plain."""
    found, stack = set(), [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if "__loader__" in node and node["__loader__"] not in (*_CONTAINERS, "JsonNode", "NdArrayNode", "TypeNode"):
                found.add(_name(node))
            stack += node.values()
        elif isinstance(node, list):
            stack += node
    return found


def _name(node: dict[str, Any]) -> str:
    return f"{node['__module__']}.{node['__class__']}"


class _Reader:
    """Values of the nodes of a schema, by what skops calls their loaders."""

    def __init__(self, archive: ZipFile, members: dict[str, Member]) -> None:
        self.archive, self.members = archive, members
        self.arrays: dict[str, Any] = {}
        """By the names of their files: named a thousand times, a file must not take a thousand times its memory."""

    def value(self, node: dict[str, Any], depth: int) -> Any:
        """What a node says, with everything below it."""
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels")
        loader, name = node["__loader__"], _name(node)
        if loader == "JsonNode":
            value = json.loads(node["content"])
            if value is not None and not isinstance(value, (bool, int, float, str)):
                raise ValueError("it holds a plain value that is none")
            return value
        if loader == "NdArrayNode":
            return self._array(node, name)
        if loader in _CONTAINERS:
            if name != _CONTAINERS[loader]:
                raise ValueError(f"it holds a {name} as a {_CONTAINERS[loader]}")
            if loader == "DictNode":
                return {key: self.value(inner, depth + 1) for key, inner in node["content"].items()}
            return [self.value(inner, depth + 1) for inner in node["content"]]
        if loader not in ("ObjectNode", "TreeNode"):
            raise ValueError(f"it holds a {name} that is no object")
        values = self.value(node["content"], depth + 1)
        if not isinstance(values, dict):
            raise ValueError(f"its {name} has no attributes")
        return Stored(name, values)

    def _array(self, node: dict[str, Any], name: str) -> Any:
        if node["type"] != "numpy" or name not in ("numpy.ndarray", *_SCALARS):
            raise ValueError(f"it holds an array of objects, or a {name}")
        member = self.members[node["file"]]
        if member.name not in self.arrays:
            with self.archive.open(member.name) as file:
                self.arrays[member.name] = read_array(file, member.size, records=NODE_DTYPE)
        array = self.arrays[member.name]
        if name == "numpy.ndarray":
            return array
        if array.ndim or array.dtype.kind not in "?if":
            raise ValueError(f"it holds a {name} that is none")
        return array.item()
