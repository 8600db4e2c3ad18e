"""What jsonargparse and OmegaConf say of a command line, in a user's words: name, rule, value, nearest names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning import Trainer
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adlightning.cli.types_in_words import admits, class_at, hints_of, in_words
from adlightning.core.detector import AnomalyDetector
from adlightning.core.messages import nearest, plain_message
from adlightning.core.parts import class_path
from adlightning.data.modules import AnomalyDataModule

_KEY_OR_CLASS = re.compile(r"Parser key \"([^\"]+)\"|Problem with given class_path '([^']+)'")
_NO_CLASS = re.compile(r"Expected a dot import path string: ?(.*)")
_NO_OPTION = re.compile(r"Option '([^']*)' is not accepted|does not accept option '([^']*)'")
_NO_SUBCLASS = re.compile(r"Import path (\S+) does not correspond to a subclass of (\w+)")
_VALUE = re.compile(r"Got value: ?([^\n]*)|Given value: ?([^\n]*)")
_NESTED_VALUE = re.compile(r"NestedArg\(key='[^']*', val='?(.*?)'?\)\Z", re.DOTALL)
_EXPECTED = re.compile(r"Expected an? (.*?)(?:\. Got value|\n|\Z)")
_PART = re.compile(
    r"expects a function or a callable class: .*?(?:Got|Given) value: Namespace\(class_path='([^']+)'", re.DOTALL
)
_REQUIRED = re.compile(r"the following arguments are required: (.*)")
_FAMILIES = ("adlightning", "pytorch_lightning", "lightning", "torch.optim", "torch.nn.modules.module")
"""Where classes come from that are an argument, or a part's base."""

_TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'NoneType'>": "null",
    "<class 'list'>": "a list",
    "<class 'dict'>": "names with values",
}


def explain(message: str, verb: str, options: Iterable[str]) -> str:
    """A parser's message as one line that names the argument, the rule and the value.

    Args:
        message: as jsonargparse has it.
        verb: the verb that is parsed.
        options: names of all options of the verb, without dashes.
    """
    place, cls = _place(message)
    name = ".".join(place)
    if "unrecognized arguments: " in message:
        unknown = message.partition("unrecognized arguments: ")[2]
        if cls is not None and place:
            return _no_inner_option(unknown.split()[0].partition("=")[0].lstrip("-"), place, cls)
        return _unrecognized(unknown, verb, options)
    if "has no attribute" in message and (path := _innermost(message)) and not path.startswith("adlightning."):
        return f"{name}: there is no {path}"
    if found := _REQUIRED.search(message):
        return _required(found[1], place, cls, verb)
    if found := _NO_OPTION.search(message):
        unknown = next(group for group in found.groups() if group)
        return _no_option(unknown.removeprefix(f"{verb}."), place, cls, options)
    if found := _NO_SUBCLASS.search(message):
        return f"{name} must be a subclass of {found[2]}, got {found[1]}"
    if found := _NO_CLASS.search(message):
        hint = _hint(place, cls)
        if hint is not None and admits(hint, float):  # a number or a tensor, say
            return f"{name} must be a number, got {found[1].strip()}"
        return _no_class(name, found[1].strip(), hint)
    if "No module named" in message:
        missing = message.partition("No module named")[2].split("\n")[0].strip()
        path = _innermost(message) or name
        remedy = "--import MODULE looks in the current folder too"
        return f"{name}: {path} cannot be imported: there is no module {missing}; {remedy}"
    if found := _VALUE.search(message):
        given = "null" if "Given value type: <class 'NoneType'>" in message else found[1] or found[2] or ""
        given = given.partition(". Got value: ")[0]
        given = nested[1] if (nested := _NESTED_VALUE.match(given.strip())) else given.strip()
        hint = _hint(place, cls)
        if bases := _bases([hint]) if isinstance(hint, type) else []:
            return _no_instance(name, given, bases[0])
        return _wrong_value(name, "null" if given == "None" else given, hint, message)
    return " ".join(plain_message(message).split())


def _place(message: str) -> tuple[list[str], type | None]:
    """The names down to the argument that a message is of, and the class whose argument it is."""
    place: list[str] = []
    cls: type | None = None
    for key, path in _KEY_OR_CLASS.findall(message):
        if key:
            parts = [part for part in key.split(".") if part not in ("init_args", "class_path")]
            place += parts if place[-len(parts) :] != parts else []
        else:
            cls = _known_class(path)
    if found := _PART.search(message):  # a part of a detector: the parser has imported it
        cls = class_at(found[1])
    if place[:1] == ["trainer"] and cls is None:
        cls = Trainer
    return place, cls


def _innermost(message: str) -> str | None:
    """The innermost class path that a message is of."""
    return next((path for _, path in reversed(_KEY_OR_CLASS.findall(message)) if path), None)


def _hint(place: list[str], cls: type | None) -> Any:
    """The type hint of an argument, None where it is not known."""
    roots = {"model": AnomalyDetector, "data": AnomalyDataModule}
    if len(place) == 1:
        return roots.get(place[0])
    return hints_of(cls).get(place[-1]) if cls and place else None


def _known_class(path: str) -> type | None:
    wanted = path.rpartition(".")[2]
    roots = (AnomalyDetector, AnomalyDataModule, *_bases(hints_of(Trainer).values()))
    candidates = [*roots, *_bases(_all_hints())]
    return next((c for c in _subclasses(candidates) if c.__name__ == wanted), None)


def _all_hints() -> Iterator[Any]:
    for cls in _subclasses([AnomalyDetector, AnomalyDataModule]):
        yield from hints_of(cls).values()


def _bases(hints: Iterable[Any]) -> list[type]:
    """The classes, of this package or Lightning's, that hints name at any depth."""
    found: dict[type, None] = {}
    for hint in hints:
        if isinstance(hint, type) and hint.__module__.startswith(_FAMILIES):
            found[hint] = None
        found |= dict.fromkeys(_bases(get_args(hint)))
    return list(found)


def _subclasses(roots: Iterable[type]) -> list[type]:
    found: dict[type, None] = {}
    left = list(roots)
    while left:
        cls = left.pop()
        if cls not in found:
            found[cls] = None
            left += type.__subclasses__(cls)
    return list(found)


def _paths_of(name: str) -> list[str]:
    """Import paths of all classes of optimisers, schedules and networks that a name without a path may mean."""
    return sorted({class_path(cls) for cls in _subclasses([Optimizer, LRScheduler, nn.Module]) if cls.__name__ == name})


def _unrecognized(text: str, verb: str, options: Iterable[str]) -> str:
    first = text.split()[0] if text.split() else text
    if not first.strip("-") or not first.startswith("-"):
        return f"{first!r} is no option: options are --NAME=VALUE (adlightning {verb} --help)"
    return _no_option(first.partition("=")[0].lstrip("-").removesuffix("+"), [], None, options)


def _no_option(unknown: str, place: list[str], cls: type | None, options: Iterable[str]) -> str:
    """There is no such option: the nearest ones, and the classes that have one of this name."""
    if cls is None or (cls is Trainer and unknown.startswith("trainer.")) or not place:
        known = [*options, *_arguments_of_all("model", AnomalyDetector), *_arguments_of_all("data", AnomalyDataModule)]
        near = nearest(unknown, known) or [option for option in known if option.endswith(f".{unknown}")]
        return f"there is no option {unknown}" + _hints(near, [])
    name = ".".join((*place, unknown))
    near = [".".join((*place, n)) for n in nearest(unknown, hints_of(cls))]
    return f"there is no {name}: {cls.__name__} has no argument {unknown}" + _hints(near, _owners(unknown))


def _no_inner_option(unknown: str, place: list[str], cls: type) -> str:
    """There is no such argument of a part that is no class of its own on the command line."""
    names = [
        f"{name}.{inner.name}" for name, hint in hints_of(cls).items() if is_dataclass(hint) for inner in fields(hint)
    ]
    near = [".".join((*place, name)) for name in nearest(unknown, names)]
    return f"there is no {'.'.join((*place, unknown))}" + _hints(near, [])


def _arguments_of_all(place: str, root: type) -> list[str]:
    return [f"{place}.{name}" for name in dict.fromkeys(n for cls in _subclasses([root]) for n in hints_of(cls))]


def _owners(argument: str) -> list[str]:
    """Detectors and datamodules that have an argument of this name."""
    known = _subclasses([AnomalyDetector, AnomalyDataModule])
    concrete = [cls for cls in known if not getattr(cls, "__abstractmethods__", None)]
    return sorted(cls.__name__ for cls in concrete if argument in hints_of(cls))


def _hints(near: list[str], owners: list[str]) -> str:
    most = 4
    if near:
        return f"; nearest: {', '.join(near[:3])}"
    if owners:
        return f"; it is an argument of {', '.join(owners[:most])}{' and others' if len(owners) > most else ''}"
    return ""


def _no_class(name: str, given: str, hint: Any) -> str:
    bases = _bases([hint]) if name else [AnomalyDetector, AnomalyDataModule]
    offered = ("adlightning.networks", "adlightning.preprocessing") if nn.Module in bases else ("",)
    known = [
        cls
        for cls in _subclasses(bases)
        if not getattr(cls, "__abstractmethods__", None) and cls.__module__.startswith(offered)
    ]
    names = sorted({cls.__name__ for cls in known if not cls.__name__.startswith("_")})
    ours = bool(bases) and all(base.__module__.startswith("adlightning") for base in bases)
    near = nearest(given.rpartition(".")[2], names)
    those = f"; nearest: {', '.join(near)}" if near else f"; there are {', '.join(names)}" if ours else ""
    return f"{name}{': ' if name else ''}there is no class {given or '(empty)'}{those}, or the import path of your own"


def _no_instance(name: str, given: str, base: type) -> str:
    """A value that stands where a class and its arguments belong."""
    if given.startswith("{"):
        try:
            keys = [str(key) for key in ast.literal_eval(given) if key not in ("class_path", "init_args")]
        except (ValueError, SyntaxError):
            keys = []
        rule = f"{name} must be given by class_path and init_args alone"
        return f"{rule}, got {', '.join(keys)} beside them" if keys else f"{rule}, got {given}"
    near = nearest(given.rpartition(".")[2], [cls.__name__ for cls in _subclasses([base])])
    return f"{name} must be a subclass of {base.__name__}, got {given}" + (
        f"; nearest: {', '.join(near)}" if near else ""
    )


def _required(missing: str, place: list[str], cls: type | None, verb: str) -> str:
    names = [name.strip().removeprefix(f"{verb}.") for name in missing.split(",")]
    if cls is not None and place:
        names = [".".join((*place, name)) for name in names]
        return f"{', '.join(f'--{name}=...' for name in names)} must be given: {cls.__name__} needs it"
    names.sort(reverse=True)  # the model before the data
    classes = " ".join(f"--{name}=CLASS" for name in names)
    config = f"adlightning {verb} --config NAME (adlightning configs lists them)"
    return f"{' and '.join(names)} must be given: {config}, or {classes}"


def _wrong_value(name: str, given: str, hint: Any, message: str) -> str:
    if hint is None:
        kinds = dict.fromkeys(_TYPES.get(kind, kind) for kind in _EXPECTED.findall(message))
        words = " or ".join(kinds) or "of another kind"
    else:
        words = in_words(hint)
    if len(paths := _paths_of(given)) > 1:
        return f"{name}: there are several {given}, give the path of one: {', '.join(paths)}"
    near = nearest(given, words.removeprefix("one of ").split(", ")) if words.startswith("one of ") else []
    return f"{name} must be {words}, got {given or 'nothing'}" + (f"; nearest: {', '.join(near)}" if near else "")


def explain_interpolation(error: OmegaConfBaseException, verb: str) -> str:
    """A `${...}` that stands for nothing: where it is, what it names, and what to do."""
    place = str(error.full_key or "").removeprefix(f"{verb}.").replace(".init_args", "")
    text = str(error).splitlines()[0].replace(f"[{verb}].", "")
    if found := re.search(r"Interpolation key '([^']*)' not found", text):
        key = found[1].lstrip(".")
        remedy = (
            "give --run_dir"
            if place == "run_dir"
            else "keys are whole, ${data.init_args.batch_size}, and there must be a value"
        )
        return f"{place}: there is no option {key} for ${{{key}}} to stand for: {remedy}"
    return f"{place}: what stands in ${{...}} cannot be worked out: {text}"
