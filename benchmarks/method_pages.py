"""The tables in docs/methods/*.md that are made from what is elsewhere: arguments, and rows of docs/results/*.csv.

    python benchmarks/method_pages.py

`<!-- arguments: CLASS -->` to `<!-- end of arguments -->` holds the arguments of a detector, by its signature and its
docstring. `<!-- results: METHODS -->` to `<!-- end of results -->` holds what was measured of these methods, as the
column `method` of the rows names them. tests/test_method_pages.py compares. Cards of fits: benchmarks/cards.py.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import is_dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import docstring_parser
import pandas as pd

import adlightning.methods
import adlightning.shallow
from adlightning.core.detector import AnomalyDetector

sys.path.insert(0, str(Path(__file__).parent))

from pages import ROOT, fill_all

PACKAGES: tuple[ModuleType, ...] = (adlightning.methods, adlightning.shallow)
_SAME_AS = re.compile(r"as in :class:`~?(\w+)`(.*)", re.DOTALL)
_ROLE = re.compile(r":\w+:`~?([^`]+)`")


def detectors() -> dict[str, type[AnomalyDetector]]:
    """Every public method by name; the base of the shallow ones is none."""
    names = [(package, name) for package in PACKAGES for name in vars(package)["__all__"]]
    found = {name: getattr(package, name) for package, name in names}
    return {name: cls for name, cls in found.items() if not inspect.isabstract(cls)}


def argument_table(name: str) -> str:
    """The arguments of a detector as a table in Markdown: name, default, meaning.

    A part of ours that has fields has a row for each: `pretraining.epochs`.
    """
    rows = ["| argument | default | meaning |", "| --- | --- | --- |"]
    cls = detectors()[name]
    for argument, default in _defaults(cls).items():
        meaning = _meaning(cls, argument)
        if argument in cls.scoring_arguments:
            meaning += " A trained detector may be [given another one](../own_data.md#scoring-otherwise)."
        if is_dataclass(default) and "Args:" in (type(default).__doc__ or "") and argument != "threshold":
            rows.append(f"| `{argument}` | `{type(default).__name__}` | {meaning} |")
            part = type(default)
            for field in _defaults(part):
                shown = _shown(getattr(default, field))
                rows.append(f"| `{argument}.{field}` | {shown} | {_meaning(part, field)} |")
        else:
            rows.append(f"| `{argument}` | {_shown(default)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _defaults(cls: type) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}


def _shown(default: Any) -> str:
    return "required" if default is inspect.Parameter.empty else f"`{_in_python(default)}`"


def _in_python(value: Any) -> str:
    if isinstance(value, partial):
        given = [_in_python(x) for x in value.args] + [f"{k}={_in_python(v)}" for k, v in value.keywords.items()]
        return f"{value.func.__name__}({', '.join(given)})"
    if isinstance(value, tuple | list) and len(value) > 4:
        return f"({value[0]:.4g}, {value[1]:.4g}, ..., {value[-1]:.4g})"
    if isinstance(value, type):
        return value.__name__
    if hasattr(value, "func") and hasattr(value, "keywords"):
        return _in_python(partial(value.func, **value.keywords))
    return repr(value)


def _meaning(cls: type, argument: str) -> str:
    """What a docstring says of an argument; `as in X` is looked up in X, and a class without Args in its bases."""
    for owner in cls.__mro__:
        if "Args:" not in (owner.__dict__.get("__doc__") or ""):
            continue
        for parameter in docstring_parser.parse(owner.__doc__ or "").params:
            if argument in [name.strip() for name in parameter.arg_name.split(",")]:
                text = " ".join((parameter.description or "").split())
                if found := _SAME_AS.fullmatch(text):
                    return _meaning(_class(cls, found[1]), argument).removesuffix(".") + found[2].rstrip(".") + "."
                return _ROLE.sub(r"`\1`", text).replace("|", "\\|").rstrip(".") + "."
    raise LookupError(f"the docstring of {cls.__name__} must name {argument}")


def _class(cls: type, name: str) -> type:
    known: dict[str, Any] = {**detectors(), **vars(sys.modules[cls.__module__])}
    known |= {base.__name__: base for base in cls.__mro__}
    found: type = known[name]
    return found


def result_table(methods: str) -> str:
    """What was measured of methods: a line for each variant in each file of rows, in Markdown.

    Args:
        methods: names (`kde, gmm`), or the beginning of a variant's (`ss_dgm/m2`).
    """
    wanted = [name.partition("/") for name in methods.split(", ")]
    lines = [
        "| rows | variant | data | runs | AUROC in %: mean of cells (least to largest) | chosen on test data |",
        "| --- | --- | --- | ---: | --- | --- |",
    ]
    for path, method, variant, group in _measured():
        if any(method == name and variant.startswith(beginning) for name, _, beginning in wanted):
            lines.append(_result_line(path, f"{method} {variant}".strip(), group))
    return "\n".join(lines) + "\n"


@cache
def _measured() -> list[tuple[Path, str, str, pd.DataFrame]]:
    """All rows with an AUROC by file, method and variant; each page reads some of them."""
    found = []
    for path in sorted((ROOT / "docs/results").glob("*.csv")):
        rows = pd.read_csv(path, dtype={"variant": str, "setting": str, "normal": str, "method": str})
        if "metrics.auroc" in rows:
            rows = rows[rows["status"] == "done"].fillna({"variant": ""})
            groups = rows.groupby(["method", "variant"])
            found += [(path, str(method), str(variant), group) for (method, variant), group in groups]
    return found


def _result_line(path: Path, name: str, group: pd.DataFrame) -> str:
    place = [column for column in ("dataset", "setting", "normal", "test_set") if column in group]
    cells = 100 * group.groupby(place, dropna=False)["metrics.auroc"].mean()
    spread = f" ({cells.min():.1f} to {cells.max():.1f})" if len(cells) > 1 else ""
    data = ", ".join(dict.fromkeys(group["dataset"]))
    chosen = "yes" if (group["selection"] == "oracle").any() else "no"
    link = f"[{path.stem}](../results/{path.stem}.md) ([csv](../results/{path.name}))"
    return f"| {link} | {name} | {data} | {len(group)} | {cells.mean():.1f}{spread} | {chosen} |"


if __name__ == "__main__":
    fill_all("arguments", lambda name, _: argument_table(name))
    fill_all("results", lambda methods, _: result_table(methods))
