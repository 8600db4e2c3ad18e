"""A look at a table, or at one to train on and one to test on: everything that must be decided, at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from adlightning.core.messages import nearest, quoted
from adlightning.data.look.columns import Column
from adlightning.data.look.decisions import decide_columns, note_time
from adlightning.data.look.findings import Finding, Look, Said
from adlightning.data.look.labels import decide_label, find_label_alike, plain_name
from adlightning.data.look.reading import Content, read_parquet, read_text
from adlightning.files.dialects import Dialect, find_dialect
from adlightning.files.text import Undecided


def look_at_tables(path: Path, test_path: Path | None, said: Said) -> Look:
    """Look at the table to train on and, where there is one, at the one to test on.

    Args:
        path: CSV, TSV (either also as .gz) or Parquet.
        test_path: another one; its columns may be in another order.
        said: what is decided already.

    Raises:
        ValueError: a file is missing or no table: there is nothing to look at.
    """
    if test_path is None:
        look, columns = _look(path, said, alone=True)
        _check_named(look, said, [column.name for column in columns])
        note_time(look, columns, said)
        return look
    look, columns = _look(path, said)
    after = said.with_options(look.options)
    test, others = _look(test_path, after, trains=False)
    names, there = [column.name for column in columns], [column.name for column in others]
    if said.label_column is not None and said.label_column not in (*names, *there):
        find_label_alike(look, [*columns, *others], said.label_column)
    _check_named(look, said, [*names, *there])
    known = {*after.drop_columns, after.label_column, after.name_column, *test.options.get("drop_columns", ())}
    lacks = [name for name in names if name not in there and name not in known]
    adds = [name for name in there if name not in names and name not in known]
    if lacks:
        look.decide(f"{test_path} lacks {quoted(lacks)}: left out of training too.", drop_columns=lacks)
    if adds:
        look.decide(f"{test_path} has {quoted(adds)} besides, which {path.name} has not: left out.", drop_columns=adds)
    if len(set(names) - {*lacks, *known}) == 0 and not look.faults:
        look.faults.append(f"{path} and {test_path} share no column that could be a feature.")
    look.facts += f"; {test_path.name}: {test.facts}"
    look.findings += [replace(each, text=f"{test_path.name}: {each.text}") for each in test.findings]
    look.notes += [f"{test_path.name}: {note}" for note in test.notes]
    look.faults += [f"{test_path.name}: {fault}" for fault in test.faults]
    return look


def look_at_writing(path: Path, said: Said) -> Look:
    """Look at how a table is written, its rows and the names of its columns, and not at what the columns are.

    Raises:
        ValueError: it is missing or no table.
    """
    return _opened(path, said)[0]


def _look(path: Path, said: Said, trains: bool = True, alone: bool = False) -> tuple[Look, list[Column]]:
    look, columns = _opened(path, said)
    if alone and said.label_column not in (None, *(column.name for column in columns)):
        found = find_label_alike(look, columns, str(said.label_column))
        said = said if found is None else replace(said, label_column=found.name)
    label = decide_label(look, columns, said, trains)
    decide_columns(look, columns, label, said, trains)
    return look, columns


def _opened(path: Path, said: Said) -> tuple[Look, list[Column]]:
    look = Look(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.name.lower().endswith(".parquet"):
        content, written = read_parquet(path), ["Parquet"]
    else:
        dialect = _dialect(look, path, said)
        content, written = read_text(path, dialect), list(dialect.reasons)
    for i, column in enumerate(content.columns):
        column.name = column.name or f"Unnamed: {i}"  # as pandas calls it, and TableData
    look.facts = ", ".join([_count(content.rows, "row"), _count(len(content.columns), "column"), *written])
    _note_faults(look, content)
    return look, content.columns


def _dialect(look: Look, path: Path, said: Said) -> Dialect:
    """How the file is written; what may be meant in two ways is a finding, and the likeliest is taken."""
    given = said.given()
    for _ in range(4):  # as many options as there are
        try:
            return find_dialect(path, given)
        except Undecided as undecided:
            choice: Any = undecided.choices[0]
            said_of_it = str(undecided).removeprefix(f"{path} ")
            text = f"The file {said_of_it}. Taken: {undecided.option}={choice}."
            look.findings.append(Finding(text, {undecided.option: choice}))
            header = {"true": True, "false": False}.get(choice)
            taken: Any = choice if header is None else header
            given = replace(given, **{undecided.option: taken})
    return find_dialect(path, given)


def _note_faults(look: Look, content: Content) -> None:
    if not content.rows:
        look.faults.append("There are no rows below the header.")
    if content.ragged:
        examples = ", ".join(content.examples) + (", ..." if content.ragged > len(content.examples) else "")
        look.faults.append(
            f"{_count(content.ragged, 'row')} of another length than the header, which has {len(content.columns)} "
            f"({examples}): text with a separator in it needs quotes."
        )
    if twins := [name for name, n in Counter(column.name for column in content.columns).items() if n > 1]:
        look.faults.append(f"Several columns are called {quoted(twins)}: give each a name of its own in the file.")


def _check_named(look: Look, said: Said, names: list[str]) -> None:
    """Note columns that are named and are not there."""
    named = [(option, getattr(said, option)) for option in ("name_column", "time_column", "group_column")]
    named += [("drop_columns", name) for name in said.drop_columns]
    for option, name in named:
        if name is None or name in names:
            continue
        alike = [each for each in names if plain_name(each) == plain_name(name)] or nearest(name, names)
        hint = f": {quoted(alike)} is meant?" if alike else f": there are {quoted(names)}."
        look.faults.append(f"{option}: there is no column {name!r}{hint}")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")
