"""A look at a table at the head of `score`, before torch is imported: how it is written, all that is wrong at once.

Which columns a detector wants is in its checkpoint; what that says of the table is said, all at once too, when it is
loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adlightning.cli.look_words import TABLES, in_words, options_as_words, shell_word
from adlightning.data.look.findings import Said
from adlightning.files.dialects import Given


def require_readable(path: Path, given: Given, arguments: Sequence[str]) -> None:
    """Refuse a table of which it must be said how it is written, or that has faults, with the command that says it.

    Args:
        path: what is to be scored; only tables are looked at.
        given: how it is written, as far as that is said.
        arguments: of `score`, as somebody wrote them.

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
        raise ValueError(f"the table cannot be scored as it is\n\n{in_words(look, ['adlightning', 'score', *words])}")
