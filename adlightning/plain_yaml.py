"""YAML from anyone: plain values of a bounded size, no objects, and one kind of error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from adlightning.unpacking import each_value
from adlightning.written_names import value_as_written

CONFIG_OPTIONS = ("--config", "-c")
MAX_VALUES, MAX_DEPTH = 100_000, 50
"""Of a document, where an alias counts for all that it stands for; the largest config of ours has some hundred."""


def read_yaml(text: str, what: str, key: str = "") -> Any:
    """The plain values of a document; names of classes and columns are text, as they are written.

    Args:
        text: the document.
        what: its name, for messages.
        key: the option that it is the value of, if any.

    Raises:
        ValueError: no YAML, a tag that makes an object, a value that is none of its type, or more than
            :data:`MAX_VALUES` values or :data:`MAX_DEPTH` levels.
    """
    try:
        _require_shallow(text, what)  # before PyYAML goes down into it, which takes seconds and then fails
        content = yaml.safe_load(value_as_written(key, text))
    except yaml.YAMLError as error:
        raise ValueError(f"{what} is not YAML: {error}") from error
    except OversizedYaml:
        raise
    except Exception as error:  # of a tag with a wrong value PyYAML lets through whatever Python's own types raise
        raise ValueError(f"{what} is not YAML that can be read: {type(error).__name__}: {error}") from error
    try:
        for _ in each_value(content, MAX_VALUES, MAX_DEPTH):
            pass
    except ValueError as error:
        raise OversizedYaml(_oversized(what)) from error
    return content


class OversizedYaml(ValueError):
    """A document of more values or levels than any use has."""


def _require_shallow(text: str, what: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise OversizedYaml(_oversized(what))


def _oversized(what: str) -> str:
    return f"{what} must hold at most {MAX_VALUES} values in {MAX_DEPTH} levels: refused"


def check_config_files(arguments: Sequence[str]) -> None:
    """Read every file that a command line names with :data:`CONFIG_OPTIONS`, before a parser that is less careful does.

    Raises:
        ValueError: one cannot be read as :func:`read_yaml` reads it.
    """
    following = [*arguments[1:], ""]
    for given, after in zip(arguments, following, strict=True):
        name, equals, value = given.partition("=")
        if name not in CONFIG_OPTIONS:
            continue
        path = Path(value if equals else after)
        try:
            is_file = path.is_file()
            text = path.read_text(encoding="utf-8") if is_file else ""
        except (OSError, ValueError) as error:
            raise ValueError(f"config: {path} cannot be read: {error}") from error
        read_yaml(text, f"config: {path}")
