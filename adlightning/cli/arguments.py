"""A command line before it is parsed: config files read and checked, the order of options, `${...}` in them."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from adlightning.core.messages import nearest
from adlightning.files.experiments import experiments, find_config
from adlightning.files.plain_yaml import read_text, read_yaml

CONFIG = "--config"
_BEFORE_CONFIGS = ("--print_config", "--help", "-h")
_ANYWHERE = "--ckpt_path"
_ABSOLUTE = re.compile(r"\$\{(?=[A-Za-z_$][^:{}]*(?:[}$]))")
"""The start of an interpolation by a key from the top, `${data.init_args.seed}`; not `${.key}` nor `${now:%Y}`."""


def prepared(verb: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of one of the Trainer's verbs, ready for its parser.

    Config files come first, each as its text: what is checked here is what is parsed. `${key}` means the same
    wherever it stands.

    Raises:
        ValueError: a config that is no readable file of options, or an option that what follows would undo.
    """
    given = _in_one_form(arguments)
    _require_values(given)
    _require_config_first(given)
    configs = [argument for argument in given if _name(argument) == CONFIG]
    rest = [argument for argument in given if _name(argument) != CONFIG]
    texts = [f"{CONFIG}={config_text(config.partition('=')[2])}" for config in configs]
    return [_from_the_top(verb, argument) for argument in [*texts, *rest]]


def config_text(given: str) -> str:
    """The text of a config: of the file of this name, here or in the package, or itself where it is a mapping.

    Raises:
        ValueError: no such file, one that is no YAML as :func:`read_yaml` has it, or no mapping of options.
    """
    what = f"config: {given}"
    if "\n" in given or given.lstrip().startswith("{"):
        text, what = given, "config: the text given"
    else:
        path = find_config(given)
        if not given or not os.path.exists(path):
            raise ValueError(_missing(given, path))
        text = read_text(path, what)
    content = read_yaml(text, what)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"{what} must hold options by name (model: ..., data: ..., trainer: ...), got {kind}")
    return text


def _missing(given: str, path: Path) -> str:
    if not given:
        return "config must name a file of options, got nothing"
    folder = path.parent
    there = [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml")] if folder.is_dir() else []
    near = [str(folder / name) for name in nearest(path.name, there)] or nearest(given, experiments())
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return f"config: there is no file {given}{hint} (adlightning configs lists those of the package)"


def _in_one_form(arguments: Sequence[str]) -> list[str]:
    """`-c F`, `-cF`, `--config F` as `--config=F`."""
    found: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument in (CONFIG, "-c"):
            if not left:
                raise ValueError(f"config must name a file of options, got {argument} alone")
            argument = f"{CONFIG}={left.pop(0)}"
        elif argument.startswith("-c"):
            argument = f"{CONFIG}={argument.removeprefix('-c').removeprefix('=')}"
        found.append(argument)
    return found


def _require_values(arguments: Sequence[str]) -> None:
    for argument, after in itertools.pairwise([*arguments, "--"]):
        alone = argument.startswith("--") and "=" not in argument and after.startswith("--")
        if alone and argument not in (*_BEFORE_CONFIGS, "--"):
            raise ValueError(f"{argument.removeprefix('--')} needs a value: {argument}=VALUE")


def _require_config_first(arguments: Sequence[str]) -> None:
    """What follows overrides what comes before: a file after an option would undo it, and not say so."""
    names = [_name(argument) for argument in arguments if argument.startswith("-")]
    if CONFIG not in names:
        return
    last = len(names) - 1 - names[::-1].index(CONFIG)
    before = [name for name in names[:last] if name not in (CONFIG, _ANYWHERE, *_BEFORE_CONFIGS)]
    if before:
        raise ValueError(f"config must come before the options that override it, got {before[0]} before --config")


def require_class_first(arguments: Sequence[str]) -> None:
    """A class that is chosen after its own arguments would drop or keep them, and not say which. Raises ValueError."""
    seen: dict[tuple[str, ...], str] = {}
    for argument in arguments:
        if not argument.startswith("--"):
            continue
        name = _name(argument)
        key = name.removeprefix("--").removesuffix("+")
        parts = tuple(part for part in key.split(".") if part not in ("init_args", "class_path"))
        under = {key: text for key, text in seen.items() if len(key) > len(parts) and key[: len(parts)] == parts}
        if under and name.endswith("+") and parts in seen:  # arguments of the element before, in a list
            seen = {key: text for key, text in seen.items() if key not in under}
        elif under:
            first = next(iter(under.values()))
            raise ValueError(f"{argument.removeprefix('--')} must come before its own arguments, got {first} before")
        if parts[-1] != "help":
            seen[parts] = name


def _from_the_top(verb: str, argument: str) -> str:
    """The argument with each key from the top as the parser of all verbs has it."""
    name, equals, value = argument.partition("=")
    if not equals and argument.startswith("-"):
        return argument
    return name + equals + _ABSOLUTE.sub(f"${{[{verb}].", value) if equals else _ABSOLUTE.sub(f"${{[{verb}].", argument)


def _name(argument: str) -> str:
    return argument.partition("=")[0]
