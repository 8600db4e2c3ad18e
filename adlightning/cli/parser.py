"""The Trainer's verbs as a parser: how options stand to each other, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import yaml
from jsonargparse import set_dumper, set_loader
from jsonargparse._optionals import get_omegaconf_loader  # what it does by default, to which nothing public leads
from pytorch_lightning.cli import LightningArgumentParser

from adlightning.messages import plain_message
from adlightning.plain_yaml import CONFIG_OPTIONS
from adlightning.written_names import dump_yaml, names_as_written

PARSER_MODE = "omegaconf+"


class AnomalyParser(LightningArgumentParser):
    """A parser whose errors say what is wrong, without the types that were tried."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the plain message and exit with 2."""
        super().error(plain_message(message), ex)


def keep_names_as_written() -> None:
    """Let jsonargparse read and write names of classes and columns, in files and in values, as text."""
    plain = get_omegaconf_loader(PARSER_MODE)  # type: ignore[no-untyped-call]
    set_loader(PARSER_MODE, lambda text: plain(names_as_written(text)), (yaml.YAMLError,))
    set_dumper("yaml", dump_yaml)


def require_config_first(arguments: Sequence[str]) -> None:
    """What follows overrides what comes before: a file after an option would undo it, and not say so."""
    names = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    first_may_be = (*CONFIG_OPTIONS, "--ckpt_path", "--print_config", "-h", "--help")
    if not set(names).isdisjoint(CONFIG_OPTIONS) and names[0] not in first_may_be:
        raise ValueError(f"config must come before the options that override it, got {names[0]} before --config")
