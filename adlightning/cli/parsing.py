"""How configurations and options become arguments of classes."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import yaml
from jsonargparse import DefaultHelpFormatter, Namespace, set_dumper, set_loader
from jsonargparse._common import lenient_check  # whether what is missing is looked for, which nothing public says
from jsonargparse._optionals import get_omegaconf_loader  # what it does by default, to which nothing public leads
from pytorch_lightning.cli import LightningArgumentParser

from adlightning.cli.parsed_once import parsed_before
from adlightning.core.parts import Part, described
from adlightning.files.written_names import dump_yaml, names_as_written

PARSER_MODE = "omegaconf+"
_KNOWN = ", known subclasses: "
_ANY_MODULE = "torch.nn.Module"
_LIBRARIES = ("torch.", "torchvision.", "torchmetrics.", "pytorch_lightning.", "kornia.", "adlightning.")


class PartsParser(LightningArgumentParser):
    """A parser that knows parts: those that are defaults are changed like those that are given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": PartsHelp, **kwargs})

    def add_class_arguments(self, theclass: type[Any], nested_key: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Add a class's arguments; defaults that are parts are shown and changed like those that are given."""
        added = super().add_class_arguments(theclass, nested_key, *args, **kwargs)
        prefix = f"{nested_key}." if nested_key else ""
        given = kwargs.get("skip") or set()
        for name, argument in inspect.signature(theclass).parameters.items():
            for key, default in _part_defaults(prefix + name, argument.default):
                if name not in given:
                    self.set_defaults({key: default})
        return added

    def parse_args(self, args: Any = None, namespace: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Parse arguments; `null` for an argument of a part's part comes here as jsonargparse passes it on, `None`."""
        if args and "defaults" in kwargs:  # as it calls for parts
            args = [f"{option[:-5]}=null" if option.endswith("=None") else option for option in args]
        return super().parse_args(args, namespace, **kwargs)

    def parse_object(
        self,
        obj: Any,
        namespace: Namespace | None = None,
        env: bool | None = None,
        defaults: bool = True,
        **kwargs: Any,
    ) -> Namespace:
        """Parse arguments of a part; equal ones once, where they are remembered."""
        parse: Callable[..., Namespace] = partial(super().parse_object, env=env, defaults=defaults, **kwargs)
        if (before := parsed_before()) is None:
            return parse(obj, namespace)
        return before.part(parse, (self, env, defaults, *kwargs.items(), lenient_check.get()), obj, namespace)


class PartsHelp(DefaultHelpFormatter):
    """Help that names our networks and the user's for an argument that takes any module, not each layer of torch."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text: str = super()._get_help_string(action)
        words, _, listed = text.partition(_KNOWN)
        names = listed.removesuffix(")").split(", ")
        if _ANY_MODULE not in names:
            return text
        made_for_data = "Callable[" in str(getattr(action, "_typehint", ""))  # a network, and no transform
        ours = [name for name in names if name in _networks()] if made_for_data else []
        kept = ours + [name for name in names if not name.startswith(_LIBRARIES)]
        return f"{words}{_KNOWN}{', '.join([*kept, f'any {_ANY_MODULE} by its import path'])})"


def _networks() -> set[str]:
    """Our networks by the paths that jsonargparse gives them, the shortest ones; they are imported by now."""
    top, networks = sys.modules["adlightning"], sys.modules["adlightning.networks"]
    public = ((name, getattr(networks, name)) for name in networks.__all__)
    return {
        f"adlightning.{name}" if getattr(top, name, None) is network else f"adlightning.networks.{name}"
        for name, network in public
    }


def _part_defaults(key: str, default: Any) -> Iterator[tuple[str, Any]]:
    """Defaults that are parts, as class paths and arguments; of a dataclass those of its fields."""
    if isinstance(default, (partial, Part)):
        yield key, described(default)
    elif is_dataclass(default) and not isinstance(default, type):
        for field in fields(default):
            yield from _part_defaults(f"{key}.{field.name}", getattr(default, field.name))


def keep_names_as_written() -> None:
    """Let jsonargparse read and write names of classes and columns, in files and in values, as text."""
    plain = get_omegaconf_loader(PARSER_MODE)  # type: ignore[no-untyped-call]
    set_loader(PARSER_MODE, lambda text: plain(names_as_written(text)), (yaml.YAMLError,))
    set_dumper("yaml", dump_yaml)
