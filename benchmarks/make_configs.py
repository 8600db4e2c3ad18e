"""Experiments and sweeps from their parts: configs/parts/README.md has the rule.

    python benchmarks/make_configs.py           write configs/METHOD/DATASET.yaml and sweeps/NAME.yaml
    python benchmarks/make_configs.py --check   list those that differ from what would be written; 1 when there are some

Arguments that equal their classes' defaults are left out.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from class_defaults import without_defaults

from adlightning.files.plain_yaml import read_text, read_yaml

ROOT = Path(__file__).parents[1]
PARTS = Path("configs/parts")
OPTIONS = ("seed_everything", "run_dir", "monitor", "trainer", "model", "data")
"""Options of an experiment, in the order in which they are written."""
METHOD_KEYS = {"setting", "all", "kinds", "experiments", "sweeps"}
DATA_KEYS = {"kind", "all", "settings"}
HEADER = ("data", "split", "method", "published", "ours", "notes")
LINE = 100
"""Mappings and lists that fit on a line of this many characters are written on one."""


def merged(below: Any, above: Any) -> Any:
    """What lies below with what lies above in its place: mappings key by key, all else whole, `null` too.

    Arguments of a class belong to it: another `class_path` replaces class and arguments.
    """
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        return above
    return below | {key: merged(below[key], value) if key in below else value for key, value in above.items()}


def made(root: Path) -> dict[str, str]:
    """Texts of all experiments and sweeps by their files.

    Raises:
        ValueError: a part that names something that is not there, or lacks something.
    """
    texts: dict[str, str] = {}
    skeleton = _read(root, PARTS / "sweep.yaml")
    data = {
        file.stem: _read(root, file.relative_to(root), DATA_KEYS, ("kind", "all"))
        for file in sorted((root / PARTS / "data").glob("*.yaml"))
    }
    for file in sorted((root / PARTS / "methods").glob("*.yaml")):
        method, part = file.stem, _read(root, file.relative_to(root), METHOD_KEYS, ("all", "experiments"))
        _require_known(file.relative_to(root), part, data)
        for name, own in part["experiments"].items():
            try:
                texts[f"configs/{method}/{name}.yaml"] = _experiment(method, part, name, dict(own or {}), data)
            except ValueError as error:
                raise ValueError(f"{file.relative_to(root)}, {name}: {error}") from error
        for name, own in part.get("sweeps", {}).items():
            texts[f"sweeps/{name}.yaml"] = _sweep(method, name, merged(skeleton, own))
    return texts


def written(root: Path) -> dict[str, str]:
    """Texts of the experiments and sweeps that there are, by their files."""
    files = [file for file in (root / "configs").glob("*/*.yaml") if file.parent.name not in ("benchmarks", "parts")]
    files += (root / "sweeps").glob("*.yaml")
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in sorted(files)}


def _read(root: Path, file: Path, keys: set[str] | None = None, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(read_text(root / file, str(file)), str(file))
    if not isinstance(content, dict) or not all(isinstance(content.get(key), (dict, str)) for key in needed):
        raise ValueError(f"{file}: it must have {' and '.join(needed)}")
    if keys and (unknown := content.keys() - keys):
        raise ValueError(f"{file}: there is no {', '.join(sorted(unknown))}; keys are {', '.join(sorted(keys))}")
    return content


def _require_known(file: Path, part: dict[str, Any], data: Mapping[str, dict[str, Any]]) -> None:
    """Refuse a setting that no data set has, and kinds that no experiment is of: both would be left out in silence."""
    setting = part.get("setting")
    if setting is not None and not any(setting in (of.get("settings") or {}) for of in data.values()):
        raise ValueError(f"{file}: no data set has the setting {setting}")
    kinds = {of["kind"] for of in data.values()}
    kinds |= {own["kind"] for own in part["experiments"].values() if own and "kind" in own}
    if unknown := (part.get("kinds") or {}).keys() - kinds:
        raise ValueError(f"{file}: there is no kind {', '.join(sorted(unknown))}; kinds are {', '.join(sorted(kinds))}")


def _experiment(method: str, part: dict[str, Any], name: str, own: dict[str, Any], of: Mapping[str, Any]) -> str:
    data_set = own.pop("data_set", name)
    if data_set not in of:
        raise ValueError(f"there is no data set {data_set} in {PARTS}/data")
    data = of[data_set]
    kind = own.pop("kind", data["kind"])
    config: dict[str, Any] = {}
    setting = (data.get("settings") or {}).get(part.get("setting"))
    for layer in (data["all"], setting, part["all"], (part.get("kinds") or {}).get(kind), own):
        config = merged(config, layer or {})
    if unknown := config.keys() - {*OPTIONS, "header"}:
        raise ValueError(f"there is no option {', '.join(sorted(unknown))}; they are header, {', '.join(OPTIONS)}")
    for key in ("header", "trainer", "model", "data"):
        if not isinstance(config.get(key), dict):
            raise ValueError(f"{key} must be a mapping, got {config.get(key)!r}")
    header = config.pop("header")
    if unknown := header.keys() - HEADER or {"data", "method"} - header.keys():
        raise ValueError(f"header must have data and method, and of {', '.join(HEADER)}, got {', '.join(header)}")
    by_class = "normal_class" in config["data"].get("init_args", {})
    run = f"{name}-${{data.init_args.normal_class}}" if by_class else name
    config = {"seed_everything": 0, "run_dir": f"runs/{method}/{run}/${{now:%Y%m%d-%H%M%S}}"} | config
    parts = [f"{PARTS}/methods/{method}.yaml", f"{PARTS}/data/{data_set}.yaml"]
    short = without_defaults(config)
    return _comment(_about(header, parts)) + _block({key: short[key] for key in OPTIONS if key in short})


def _about(header: dict[str, Any], parts: list[str]) -> Iterator[str]:
    what = [header["data"], *filter(None, [header.get("split")]), f"with {header['method']}"]
    yield f"{', '.join(what)}."
    if header.get("published"):
        yield f"Published: {header['published']}"
        yield f"Ours: {header.get('ours', 'not measured yet.')}"
    yield from filter(None, header.get("notes", {}).values())
    yield f"Made by `make configs` from {' and '.join(parts)}."


def _sweep(method: str, name: str, sweep: dict[str, Any]) -> str:
    header, experiment = sweep.pop("header"), sweep.pop("experiment")
    command, options = sweep.pop("command"), [*sweep.pop("options"), *(sweep.pop("selection") or [])]
    at = command.index("${args}")
    sweep = {"command": [*command[:at], *options, *command[at:]], **sweep, "parameters": sweep["parameters"]}
    words = {"name": name, "method": method}
    words["experiment"] = _filled(experiment, words)
    keys = ("project", "name", "method", "metric", "run_cap", "early_terminate", "command", "parameters")
    about = [header["about"], " ".join(filter(None, [header["held_out"], header["mean_score"], header["test"]]))]
    about.append(f"Made by `make configs` from {PARTS}/methods/{method}.yaml and {PARTS}/sweep.yaml.")
    content = {key: _filled(sweep[key], words) for key in keys if sweep.get(key) is not None}
    return _comment(_filled([text for text in about if text], words)) + _block(content)


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """A value with `<name>` and the like replaced in all of its text."""
    if isinstance(value, dict):
        return {key: _filled(inner, words) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, words) for inner in value]
    for word, text in words.items() if isinstance(value, str) else ():
        value = value.replace(f"<{word}>", text)
    return value


# ---- text -----------------------------------------------------------------------------------------------------------


def _comment(paragraphs: Any) -> str:
    wrapped = [
        textwrap.fill(
            text, 120, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
        )
        for text in paragraphs
    ]
    return "\n".join(wrapped) + "\n"


def _block(content: Mapping[str, Any], indent: int = 0) -> str:
    """YAML, with whatever fits on a line on one, but for the top of an experiment."""
    text = ""
    for key, value in content.items():
        line = f"{' ' * indent}{key}: {_flow(value)}"
        is_open = isinstance(value, dict) and (indent == 0 or (indent == 2 and key == "init_args"))
        if not isinstance(value, (dict, list)) or (len(line) <= LINE and not is_open):
            text += f"{line}\n"
        elif isinstance(value, dict):
            text += f"{' ' * indent}{key}:\n{_block(value, indent + 2)}"
        else:
            text += f"{' ' * indent}{key}:\n" + "".join(f"{' ' * (indent + 2)}- {_flow(item)}\n" for item in value)
    return text


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=sys.maxsize)
    return text.removesuffix("\n").removesuffix("\n...")


def main(arguments: list[str]) -> int:
    """Write the files, or compare them; says which."""
    parser = argparse.ArgumentParser(description="Make configs/ and sweeps/ from configs/parts/.")
    parser.add_argument("--check", action="store_true", help="list differences, write nothing")
    check = parser.parse_args(arguments).check
    wanted, there = made(ROOT), written(ROOT)
    differing = sorted(file for file in wanted.keys() | there.keys() if wanted.get(file) != there.get(file))
    for file in differing:
        print(
            f"{file}: {'not made from any part' if file not in wanted else 'differs' if file in there else 'missing'}"
        )
        if check or file not in wanted:
            continue
        (ROOT / file).parent.mkdir(exist_ok=True)
        (ROOT / file).write_text(wanted[file], encoding="utf-8")
    print(f"{len(wanted)} files, {len(differing)} {'differ' if check else 'changed'}", file=sys.stderr)
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
