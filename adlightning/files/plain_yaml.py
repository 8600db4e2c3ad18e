"""YAML from anyone: plain values of a bounded size, no objects, and one kind of error."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import yaml

from adlightning.files.unpacking import each_value
from adlightning.files.written_names import TEXT, names_below

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MAX_BYTES = 2**24
MAX_VALUES, MAX_DEPTH = 100_000, 50
"""Of a document, where an alias counts for all that it stands for; the largest config of ours has some hundred."""

_LONGEST_NUMBER = 1000


def read_yaml(text: str, what: str, key: str = "") -> Any:
    """The plain values of a document; names of classes and columns are text, as they are written.

    Args:
        text: the document.
        what: its name, for messages.
        key: the option that it is the value of, if any.

    Raises:
        ValueError: no YAML, a tag that makes an object, a value that is none of its type, a key given twice, or more
            than :data:`MAX_VALUES` values or :data:`MAX_DEPTH` levels.
    """
    try:
        content = _values(text, key)
    except yaml.YAMLError as error:
        raise ValueError(f"{what} is not YAML: {_in_one_line(error)}") from error
    except OversizedYaml as error:
        raise OversizedYaml(_oversized(what)) from error
    except Exception as error:  # of a tag with a wrong value PyYAML lets through whatever Python's own types raise
        raise ValueError(f"{what} is not YAML that can be read: {type(error).__name__}: {error}") from error
    try:
        for _ in each_value(content, MAX_VALUES, MAX_DEPTH):
            pass
    except ValueError as error:
        raise OversizedYaml(_oversized(what)) from error
    return content


def _values(text: str, key: str) -> Any:
    """The values of a document, read once: a grid reads some hundred."""
    if len(text) > MAX_BYTES:
        raise OversizedYaml
    loader = _Loader(text)  # a SafeLoader: no tag makes an object
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        for scalar in names_below(root, key):
            scalar.tag = TEXT
        _require_different_keys(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _in_one_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark, problem = error.problem_mark or error.context_mark, error.problem or error.context
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


class _Loader(yaml.SafeLoader):
    """A safe loader of bounded depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._n_values = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """The next node; PyYAML would go down into any depth, which takes seconds and then fails."""
        self._n_values += 1
        self._depth += 1
        if self._depth > MAX_DEPTH + 1 or self._n_values > MAX_VALUES:
            raise OversizedYaml
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _require_different_keys(root: yaml.Node) -> None:
    """Refuse a mapping in which a key's second value would take the place of the first."""
    seen, pending = {id(root)}, [root]
    while pending:
        node = pending.pop()
        if isinstance(node, yaml.MappingNode):
            names = set[tuple[str, str]]()
            for key, _ in node.value:
                name = (key.tag, str(key.value))
                if isinstance(key, yaml.ScalarNode) and name in names:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
                names.add(name)
        inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        for part in inner if isinstance(node, yaml.CollectionNode) else ():
            if id(part) not in seen:  # an alias
                seen.add(id(part))
                pending.append(part)


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A whole number; of `1:1:1...`, which is one of base 60, each further part takes longer than all before."""
    if len(node.value) > _LONGEST_NUMBER:
        raise yaml.MarkedYAMLError(
            problem=f"a number must have at most {_LONGEST_NUMBER} characters", problem_mark=node.start_mark
        )
    return int(loader.construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


class OversizedYaml(ValueError):
    """A document of more values or levels than any use has."""


def _oversized(what: str) -> str:
    return f"{what} must hold at most {MAX_VALUES} values in {MAX_DEPTH} levels: refused"


def read_text(path: Path, what: str) -> str:
    """The text of a file, UTF-8 or, by its mark, UTF-16; of a pipe too.

    Args:
        path: the file.
        what: its name, for messages.

    Raises:
        ValueError: a folder or a device, one that cannot be read, more than :data:`MAX_BYTES`, or no text.
    """
    if path.is_dir():
        raise ValueError(f"{what} is a folder, not a file")
    if not (path.is_file() or path.is_fifo()):
        raise ValueError(f"{what} is no file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{what} must have at most {MAX_BYTES >> 20} MiB: refused")
    try:
        return content.decode("utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} cannot be read: it is no UTF-8 text (byte {error.start})") from error
