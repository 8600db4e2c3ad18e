"""Names in YAML as they are written: a class `010` is not the number 8, `yes` not true, `1e5` not 100000.0."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import lru_cache, partial
from typing import Any

import yaml

NAMES = frozenset(
    {
        *("normal_class", "normal_classes", "labelled_classes", "far_classes", "validation_source"),
        *("label_column", "name_column", "drop_columns", "boundary_features", "normal_label", "anomaly_label"),
    }
)
"""Keys whose values are names, or lists of names, of classes, test sets and columns."""

COLUMNS = frozenset({"label_column", "name_column", "drop_columns", "normal_label", "anomaly_label"})
"""Those that name columns and labels, which have no index: a plain number is a name too."""

NAMED = frozenset({"anomaly_sources", "per_normal"})
"""Keys of mappings whose own keys are such names."""

TEXT, _NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
_INDEX = re.compile(r"-?(0|[1-9][0-9]*)")  # the number that it is writes it in the same way
_DATE = re.compile(r"[0-9]+([-:./][0-9]+)+")
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")


@lru_cache(maxsize=64)  # a command reads its configuration several times
def names_as_written(document: str) -> str:
    """A YAML document in which each name that YAML would take for something else is quoted.

    Plain numbers such as 3 stay, but for columns: they may be indices, and are written in one way only. The null of
    `normal_class: null` stays too, that of a list is a name.

    Raises:
        yaml.YAMLError: no YAML.
    """
    if not any(name in document for name in NAMES | NAMED):
        return document
    root = yaml.compose(document, Loader=_Loader)
    return document if root is None else _quoted(document, names_below(root))


def value_as_written(key: str, value: str) -> str:
    """The YAML that an option is set to, `[010]` of `data.labelled_classes`, with its names quoted.

    Raises:
        yaml.YAMLError: no YAML.
    """
    if _last(key) not in NAMES | NAMED:
        return names_as_written(value)
    node = yaml.compose(value, Loader=_Loader)
    return value if node is None else _quoted(value, names_below(node, key))


def arguments_as_written(arguments: Sequence[str]) -> list[str]:
    """A command line whose lists and mappings of names, `--data.labelled_classes=[010]`, have them quoted.

    One name alone reaches its option as text anyway.
    """
    return [_argument(given, before) for before, given in zip(["", *arguments], arguments, strict=False)]


def _argument(given: str, before: str) -> str:
    option, equals, value = given.partition("=")
    key, start = (option, f"{option}=") if option.startswith("--") and equals else (before, "")
    value = given[len(start) :]
    if not key.startswith("--") or not value.lstrip().startswith(("[", "{")):
        return given
    try:
        return start + value_as_written(key.removesuffix("+"), value)
    except yaml.YAMLError:
        return given  # the parser says what is wrong with it


def number(name: str) -> float | str | None:
    """What a name could be taken for: a number (`3`, `001`, `1e5`, `0x1F`, `1_000`) or a date; None for other names."""
    plain = name.replace("_", "")
    for read in (float, partial(int, base=0)):
        with contextlib.suppress(ValueError, OverflowError):
            return float(read(plain)) if any(c.isdigit() for c in plain) else None
    return name if _DATE.fullmatch(name) else None


def dump_yaml(value: Any) -> str:
    """A YAML document that YAML 1.1, jsonargparse and OmegaConf, whose 1e5 is a number, read alike."""
    return yaml.dump(value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def load_dumped(document: str) -> Any:
    """The values of a document that :func:`dump_yaml` wrote."""
    return yaml.load(document, Loader=_FAST_LOADER)  # CSafeLoader or SafeLoader: no tag makes an object


# libyaml's, where PyYAML was built with it, take a tenth of the time
_FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FAST_DUMPER: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(yaml.SafeLoader):
    """1e5 is a number, as for jsonargparse and OmegaConf."""


class _Dumper(_FAST_DUMPER):  # type: ignore[misc, valid-type]
    """PyYAML's own writes the text `1e5` without quotes."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
# defaults of Lightning's callbacks, of Timer for one
_Dumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def names_below(root: yaml.Node, key: str = "") -> Iterator[yaml.ScalarNode]:
    """Unquoted scalars that are names and that YAML takes for something else, below the value of a key.

    Args:
        root: of a document that was composed, not constructed yet.
        key: the option that it is the value of, if any.
    """
    seen: set[tuple[int, str]] = set()
    pending = _of_value(key, root)
    while pending:
        node, names = pending.pop()
        if (id(node), names) in seen:  # an alias
            continue
        seen.add((id(node), names))
        if isinstance(node, yaml.ScalarNode):
            is_index = names not in COLUMNS and _INDEX.fullmatch(node.value)
            if names and node.style is None and node.tag != TEXT and not is_index:
                yield node
        elif isinstance(node, yaml.SequenceNode):
            pending += [(item, names) for item in node.value]
        else:
            for own, value in node.value:
                pending += _of_value(own.value if isinstance(own, yaml.ScalarNode) else "", value)


def _of_value(key: str, value: yaml.Node) -> list[tuple[yaml.Node, str]]:
    """What to look at for the value of a key, and the key where it holds names, else nothing."""
    name = _last(key)
    keys = value.value if name in NAMED and isinstance(value, yaml.MappingNode) else []
    return [(own, name) for own, _ in keys] + [(value, name if name in NAMES and not _is_null(value) else "")]


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _quoted(document: str, scalars: Iterable[yaml.ScalarNode]) -> str:
    """The document with single quotes around these scalars, which have no quote inside."""
    ends = {scalar.end_mark.index: scalar for scalar in scalars if scalar.end_mark is not None}
    for end in sorted(ends, reverse=True):
        start = end - len(ends[end].value)
        if document[start:end] == ends[end].value:  # a scalar's own mark may begin at its anchor
            document = f"{document[:start]}'{document[start:end]}'{document[end:]}"
    return document
