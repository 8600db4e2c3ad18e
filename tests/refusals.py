"""What a refusal looks like, and a pickle that must be refused: shared by the tests of bad and hostile input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adlightning.__main__ import main

Capture = pytest.CaptureFixture[str]


class Touch:
    """Pickled, it makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def refused(capsys: Capture, arguments: list[str], *words: str) -> str:
    """The message of a command that is refused, as :func:`is_refusal` has it."""
    capsys.readouterr()
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return is_refusal(capsys, code, *words)


def is_refusal(capsys: Capture, code: int, *words: str) -> str:
    """Exit code 2 and one short message on stderr, without traceback or anything that commands a terminal."""
    error = capsys.readouterr().err
    assert code == 2, error
    assert "Traceback" not in error
    assert len(error) < 2600
    assert not set(error) & {"\x1b", "\x00", "\r"}
    assert all(word in error for word in words), error
    return error
