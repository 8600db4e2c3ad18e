"""Standard argparse for the verbs that must not wait for torch: errors are one line, names are whole."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from adlightning.core.messages import nearest


class PlainParser(argparse.ArgumentParser):
    """A parser of one verb whose errors are ValueErrors."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with the message, the nearest options where one is unknown, and where help is."""
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if len(unknown) and not message.startswith(unknown[0]):
            near = nearest(unknown[0].partition("=")[0], self._option_string_actions)
            message = f"there is no option {unknown[0]}" + (f"; nearest: {', '.join(near)}" if near else "")
        raise ValueError(f"{message} ({self.prog} --help)")
