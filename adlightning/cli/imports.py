"""The option `--import`: modules with parts and methods of the user's own, imported before anything else is done."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from adlightning.core.stopping import Stopped

OPTION = "--import"
HELP = "a module of your own to import first, whose classes a checkpoint may then name; may be given several times"


def import_named(arguments: Sequence[str]) -> list[str]:
    """Import what `--import MODULE` names, in the order given; the other arguments.

    Only the command line names them, no config and no checkpoint. Modules are looked for as Python does, and in the
    current folder.

    Raises:
        ValueError: no name of a module, or one that is not there, fails, or ends the program.
    """
    left, rest = list(arguments), []
    while left:
        argument = left.pop(0)
        option, equals, module = argument.partition("=")
        if option != OPTION:
            rest.append(argument)
            continue
        if not equals:
            module = left.pop(0) if left else ""
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"import must name a module, {OPTION} my_package.vit, got {module or 'nothing'}")
        _import(module)
    return rest


def _import(module: str) -> None:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"import: {module} needs {error.name}, which is not installed") from error
        raise ValueError(
            f"import: there is no module {module}: give the module, not a class in it; what is not installed is looked "
            "for in the current folder"
        ) from error
    except Stopped:
        raise
    except (Exception, SystemExit) as error:  # it is the user's own program, and may raise anything
        raise ValueError(f"import: {module} cannot be imported: {type(error).__name__}: {error}") from error


def add_import(parser: argparse.ArgumentParser) -> None:
    """Show the option in a verb's help; what is parsed has it no more."""
    parser.add_argument(OPTION, metavar="MODULE", default=argparse.SUPPRESS, help=HELP)
