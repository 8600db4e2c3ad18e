"""The Trainer's verbs as a parser: how options stand to each other, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from pytorch_lightning.cli import LightningArgumentParser

from adlightning.messages import plain_message
from adlightning.plain_yaml import CONFIG_OPTIONS


class AnomalyParser(LightningArgumentParser):
    """A parser whose errors say what is wrong, without the types that were tried."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the plain message and exit with 2."""
        super().error(plain_message(message), ex)


def require_config_first(arguments: Sequence[str]) -> None:
    """What follows overrides what comes before: a file after an option would undo it, and not say so."""
    names = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    first_may_be = (*CONFIG_OPTIONS, "--ckpt_path", "--print_config", "-h", "--help")
    if not set(names).isdisjoint(CONFIG_OPTIONS) and names[0] not in first_may_be:
        raise ValueError(f"config must come before the options that override it, got {names[0]} before --config")
