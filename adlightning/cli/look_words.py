"""What a look found, as a person reads it: what must be decided, and one command that decides it."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from adlightning.core.messages import escaped
from adlightning.data.look.findings import Look

WIDTH = 100
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_PLAIN = re.compile(r"\d+|[A-Za-z_][\w.\-]*( [\w.\-]+)*")
_NO_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "nan"}  # to YAML
_MOST_COLUMNS = 200  # in a command; a shell takes more, a person does not


def in_words(look: Look, command: Sequence[str]) -> str:
    """The facts, what is to be decided with what the command does about it, and the command.

    Args:
        look: what was found.
        command: words of the shell.
    """
    lines = _wrapped(f"{look.path}: {look.facts}" if look.facts else str(look.path))
    must = [finding.text for finding in look.findings if finding.must]
    may = [finding.text for finding in look.findings if not finding.must]
    lines += _listed("To mend first, since no option helps:", look.faults)
    lines += _listed("To decide:" if must else "", must)
    lines += _listed("Worth a look:", may)
    lines += _listed("Found:", look.notes)
    if not look.blocks:
        lines += ["", "Nothing must be decided. Train with:"]
    elif look.faults:
        lines += ["", "After that, this command decides the rest as it is said above:" if must else "After that:"]
    else:
        lines += ["", "This command decides all of it as it is said above; change what is not meant so:"]
    return escaped("\n".join([*lines, "", *_command(command)]))


def options_as_words(options: Mapping[str, Any], prefix: str, before: Mapping[str, Any]) -> list[str]:
    """Options of a command, `--data.drop_columns='[a, b]'`.

    Args:
        options: by name.
        prefix: `data.` or `data.source.`.
        before: what the command says already; names of columns are added to those.
    """
    words = []
    for name, value in options.items():
        if isinstance(value, list) and name == "drop_columns":
            value = list(dict.fromkeys([*(before.get(name) or ()), *value]))
            if len(value) > _MOST_COLUMNS:
                raise ValueError(f"{len(value)} columns cannot be features: save a file without them")
        # text alone is taken as it is written, in a list it is YAML
        written = "[" + ", ".join(map(_as_yaml, value)) + "]" if isinstance(value, list) else str(value)
        words.append(f"--{prefix}{name}={shlex.quote(written)}")
    return words


def shell_word(word: str) -> str:
    """A word as a shell takes it: `--name='value'`."""
    option, equals, text = word.partition("=")
    return f"{option}={shlex.quote(text)}" if equals and option.startswith("--") else shlex.quote(word)


def _as_yaml(value: Any) -> str:
    text = str(value)
    is_plain = not isinstance(value, str) or (_PLAIN.fullmatch(text) and text.lower() not in _NO_TEXT)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _listed(heading: str, texts: Sequence[str]) -> list[str]:
    if not texts:
        return []
    lines = ["", heading]
    for number, text in enumerate(texts, 1):
        lines += textwrap.wrap(
            escaped(text), WIDTH, initial_indent=f"{number:3}. ", subsequent_indent="     ", break_on_hyphens=False
        )
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(escaped(text), WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _command(words: Sequence[str]) -> list[str]:
    """A command over several lines, each of which a shell joins to the next."""
    lines, line = [], "  "
    for word in _with_values(words):
        if len(line) + len(word) + 3 > WIDTH and line.strip():
            lines.append(line.rstrip() + " \\")
            line = "      "
        line += word + " "
    return [*lines, line.rstrip()]


def _with_values(words: Sequence[str]) -> list[str]:
    """Words, with the value of an option beside it: they stay on one line."""
    joined: list[str] = []
    for word in words:
        is_value = joined and re.fullmatch(r"--\w[\w.]*", joined[-1]) and not word.startswith("--")
        if is_value:
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined
