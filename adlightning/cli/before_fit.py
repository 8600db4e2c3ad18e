"""A look at one's own data at the head of `fit`, before torch is imported: all that must be decided, at once.

What is read here of the command line is only what a look needs. Whatever is not plain is left to the parser, which then
refuses what it has to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adlightning.cli.look_words import in_words, options_as_words, shell_word
from adlightning.data.look.defects import look_at_defects
from adlightning.data.look.findings import Look, Said
from adlightning.data.look.folder import Layout, look_at_folder
from adlightning.data.look.table import look_at_tables
from adlightning.files.disk import user_path
from adlightning.files.plain_yaml import read_yaml

_FOLDERS: dict[str, Layout] = {"FolderData": "labels", "NormalAnomalyFolder": "labels", "ImageFolder": "classes"}
_FOLDERS |= {"FlatFolder": "flat"}
_TEXT = {"path", "test_path", "root", "label_column", "name_column", "normal_label", "anomaly_label"}
_TEXT |= {"time_column", "group_column"}
_NO_FIT = ("--print_config", "--help", "-h", "--ckpt_path")
"""With these there is no fit, or one that goes on with data that were looked at."""


def undecided(given: Sequence[str], prepared: Sequence[str]) -> str | None:
    """What must be decided before a fit can begin, in words; None where there is nothing, or no data of one's own.

    Args:
        given: the arguments of `fit` as somebody wrote them.
        prepared: the same as :func:`adlightning.cli.arguments.prepared` leaves them.
    """
    if any(argument.partition("=")[0] in _NO_FIT or ".help" in argument for argument in given):
        return None
    data = data_options(prepared)
    if data is None:
        return None
    try:
        found = _look(data)
    except Exception:  # a file that is not there, no table, or one that a look is no match for: the fit says the rest
        return None
    if found is None or not found[0].blocks:
        return None
    look, prefix, arguments = found
    n = len(look.faults) + sum(finding.must for finding in look.findings)
    words = [*_other_words(given, prefix, look.options), *_words(look, prefix, arguments)]
    heading = "one thing is to be decided" if n == 1 else f"{n} things are to be decided"
    return f"{heading} before training\n\n{in_words(look, ['adlightning', 'fit', *words])}"


def require_decided(path: Path, options: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Refuse a table of which something must be decided before any method can be trained on it, for `compare`.

    Args:
        path: the table.
        options: arguments of the datamodule that are given, by `data.label_column`.
        arguments: of the verb, as somebody wrote them.

    Raises:
        ValueError: with everything that is to be decided, and a command that decides it.
    """
    given = {name.removeprefix("data."): value for name, value in options.items() if name.startswith("data.")}
    try:
        look = look_at_tables(path, None, Said.of(given))
    except Exception:  # as above: what reads the table says what it has to say
        return
    if not look.blocks:
        return
    named = {name: value for name, value in look.options.items() if name in ("label_column", "name_column")}
    words = _other_words(arguments, "", named)
    for word in options_as_words(look.options, "data.", given):
        option, _, text = word.partition("=")
        is_named = option.removeprefix("--data.") in named
        words += [f"--{option.removeprefix('--data.')}={text}"] if is_named else ["--set", word.removeprefix("--")]
    raise ValueError(f"the table must be decided on first\n\n{in_words(look, ['adlightning', 'compare', *words])}")


def _words(look: Look, prefix: str, arguments: Mapping[str, Any]) -> list[str]:
    options = dict(look.options)
    of_data = {name: options.pop(name) for name in ("normal_class",) if name in options}
    return [*options_as_words(options, prefix, arguments), *options_as_words(of_data, "data.", {})]


def _look(data: Mapping[str, Any]) -> tuple[Look, str, Mapping[str, Any]] | None:
    """A look at what the datamodule reads, the prefix of its options, and those that are given."""
    source = data.get("source")
    for part, prefix in ((data, "data."), (source, "data.source.")):
        if not isinstance(part, Mapping):
            continue
        name = str(part.get("class_path", "")).rpartition(".")[2]
        arguments = {key: value for key, value in part.items() if key != "class_path"}
        if name in ("TableData", "Table", "Windows") and isinstance(arguments.get("path"), str):
            test = arguments.get("test_path")
            said = Said.of({**arguments, "over_time": name == "Windows"})
            return (
                look_at_tables(user_path(arguments["path"]), user_path(test) if isinstance(test, str) else None, said),
                prefix,
                arguments,
            )
        if name in ("MVTecLayout", "DefectFolder") and isinstance(arguments.get("root"), str):
            return look_at_defects(user_path(arguments["root"]), arguments), prefix, arguments
        if name in _FOLDERS and isinstance(arguments.get("root"), str):
            root, layout = Path(user_path(arguments["root"])), _FOLDERS[name]
            return look_at_folder(root, layout, arguments, normal_class=True), prefix, arguments
    return None


def data_options(prepared: Sequence[str]) -> dict[str, Any] | None:
    """The datamodule's class and arguments, and its source's likewise, as config files and options have them.

    `{"class_path": "TableData", "path": "my.csv"}`; None where they are written in a way that is not plain.
    """
    data: dict[str, Any] = {}
    words = list(prepared)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            return None
        option, equals, text = word.partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                continue  # the parser refuses it
            text = words.pop(0)
        key = option.removeprefix("--")
        if key == "config":
            content = read_yaml(text, "config").get("data")
        elif key == "data" or key.startswith("data."):
            if key.endswith("+") or "${" in text:
                return None
            content = _value(key, text)
            for part in reversed(key.split(".")[1:]):
                content = {part: content}
        else:
            continue
        _lay_over(data, content)
    return data


def _value(key: str, text: str) -> Any:
    """An option's value; text alone is taken as it is written."""
    if key.rpartition(".")[2] in _TEXT:
        return None if text == "null" else text
    return read_yaml(text, key, key)


def _lay_over(under: dict[str, Any], over: Any) -> None:
    """Lay a class, its arguments or both over what there is; another class keeps none of the arguments before."""
    if isinstance(over, str):
        over = {"class_path": over}
    if not isinstance(over, Mapping):
        return
    over = {**{key: value for key, value in over.items() if key != "init_args"}, **(over.get("init_args") or {})}
    if "class_path" in over and over["class_path"] != under.get("class_path"):
        under.clear()
    for key, value in over.items():
        if key == "source":
            if not isinstance(under.get("source"), dict):
                under["source"] = {}
            _lay_over(under["source"], value)
        else:
            under[key] = value


def _other_words(given: Sequence[str], prefix: str, options: Mapping[str, Any]) -> list[str]:
    """The words somebody wrote, quoted for a shell, but for options that the proposed ones take the place of."""
    replaced = re.compile(rf"--{re.escape(prefix)}(init_args\.)?({'|'.join(map(re.escape, options)) or '$.'})")
    kept, left = [], list(given)
    while left:
        word = left.pop(0)
        option, equals, _ = word.partition("=")
        if replaced.fullmatch(option):
            if not equals and left:
                left.pop(0)
            continue
        kept.append(shell_word(word))
    return kept
