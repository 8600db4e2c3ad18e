"""The Trainer's verbs as a parser that says what is wrong in one line."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from adlightning.cli.parser_messages import explain
from adlightning.cli.parsing import PartsParser
from adlightning.core.messages import for_terminal


class AnomalyParser(PartsParser):
    """A parser whose errors say what is wrong, without usage and types that were tried; options have whole names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message in a user's words and exit with 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        verb, parser = next(iter(_verbs(self).items()), (self.prog.split()[-1], self))
        options = [name.lstrip("-") for name in parser._option_string_actions if not name.endswith(("+", ".help"))]
        print(f"error: {for_terminal(explain(message, verb, options))}", file=sys.stderr)
        self.exit(2)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The parsers of the verbs within a parser."""
    return {
        verb: inner
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for verb, inner in action._name_parser_map.items()
    }
