"""How a table is read by `score` and `explain`, and a look at it before torch is imported: all that is wrong at once.

Which columns a detector wants is in its checkpoint; what that says of the table is said, all at once too, when it is
loaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from adlightning.cli.look_words import TABLES, in_words, options_as_words, shell_word
from adlightning.data.look.findings import Said
from adlightning.data.named_samples import OnBad
from adlightning.files.dialects import Given, Header
from adlightning.files.disk import user_path

_HEADER: dict[str, Header] = {"auto": "auto", "true": True, "false": False}


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options of how a table is written, and what of it is scored."""
    add = parser.add_argument
    add("--separator", default="auto", help="between values of a CSV: comma, semicolon, tab, bar, space")
    add("--decimal", default="auto", help="in numbers of a CSV: point or comma")
    add("--encoding", default="auto", help="of a CSV: utf-8, utf-16, cp1252, ...")
    add("--header", default="auto", choices=_HEADER, help="whether the first row of a CSV names the columns (auto)")
    add(
        "--on_bad",
        default="refuse",
        choices=get_args(OnBad),
        help="rows and files that cannot be scored (missing, infinite or text values, damaged images): refuse all of "
        "the data, or skip these, each with its reason in the column `skipped`",
    )
    add("--drop_columns", nargs="+", default=[], metavar="NAME", help="columns of a table that are no features")


def reading_of(options: dict[str, Any], verb: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Parsed options with `header` as a value, once the table was looked at. Raises as :func:`require_readable`."""
    options["header"] = _HEADER[options["header"]]
    written = Given(*(options[name] for name in ("separator", "decimal", "encoding", "header")))
    require_readable(user_path(options["data"]), written, verb, arguments)
    return options


def require_readable(path: Path, given: Given, verb: str, arguments: Sequence[str]) -> None:
    """Refuse a table of which it must be said how it is written, or that has faults, with the command that says it.

    Args:
        path: what is to be scored; only tables are looked at.
        given: how it is written, as far as that is said.
        verb: what is to be done with it.
        arguments: of the verb, as somebody wrote them.

    Raises:
        ValueError: with everything that is to be decided.
    """
    from adlightning.data.look.table import look_at_writing  # takes pandas, which the help must not wait for

    if not path.is_file() or not path.name.lower().endswith(TABLES):
        return
    said = Said(separator=given.separator, decimal=given.decimal, encoding=given.encoding, header=given.header)
    try:
        look = look_at_writing(path, said)
    except Exception:  # no table, or one that a look is no match for: who reads it says what it is
        return
    if look.blocks:
        words = [*map(shell_word, arguments), *options_as_words(look.options, "", {})]
        raise ValueError(f"the table cannot be scored as it is\n\n{in_words(look, ['adlightning', verb, *words])}")
