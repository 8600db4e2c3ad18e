"""The Trainer's verbs as a parser that says what is wrong in one line."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

import yaml
from jsonargparse import set_dumper, set_loader
from jsonargparse._optionals import get_omegaconf_loader  # what it does by default, to which nothing public leads
from pytorch_lightning.cli import LightningArgumentParser

from adlightning.cli.explain import explain
from adlightning.core.messages import for_terminal
from adlightning.files.written_names import dump_yaml, names_as_written

PARSER_MODE = "omegaconf+"


class AnomalyParser(LightningArgumentParser):
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


def keep_names_as_written() -> None:
    """Let jsonargparse read and write names of classes and columns, in files and in values, as text."""
    plain = get_omegaconf_loader(PARSER_MODE)  # type: ignore[no-untyped-call]
    set_loader(PARSER_MODE, lambda text: plain(names_as_written(text)), (yaml.YAMLError,))
    set_dumper("yaml", dump_yaml)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The parsers of the verbs within a parser."""
    return {
        verb: inner
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for verb, inner in action._name_parser_map.items()
    }
