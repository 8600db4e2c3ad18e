"""The `configs` verb: what experiments, benchmark files and sweeps come with the package, and copies of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from adlightning.cli.plain_parser import PlainParser
from adlightning.core.messages import nearest
from adlightning.core.terminal import say
from adlightning.files.disk import user_path
from adlightning.files.experiments import experiments, first_sentence


def configs(pattern: str = "*", copy: str | None = None) -> None:
    """List experiments by name with a line each, or copy them.

    Args:
        pattern: of names, `deep_sad/*` or `*/cifar10*`; a word alone is looked for anywhere in them.
        copy: folder for copies, `COPY/deep_sad/digits.yaml`; it is made where it is missing.

    Raises:
        ValueError: no name fits, or a file that is there already: then none is copied.
    """
    found = experiments()
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    chosen = {name: file for name, file in found.items() if fnmatch(name, wanted)}
    if not chosen:
        near = nearest(pattern, {part for name in found for part in (name, *name.split("/"))})
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"pattern: no experiment has a name like {pattern}{hint}")
    if copy is not None:
        _copy(chosen, user_path(copy))
        return
    width = max(map(len, chosen))
    for name, file in chosen.items():  # a line each, whole: for grep
        say(f"{name:{width}}  {first_sentence(file)}")
    kinds = {name.partition("/")[0] for name in chosen}
    first = next((name for name in chosen if name.partition("/")[0] not in ("benchmarks", "sweeps")), None)
    if first is not None:
        say(f"run one with: adlightning fit --config {first}")
    if "benchmarks" in kinds:
        grid = next(name for name in chosen if name.startswith("benchmarks/"))
        say(f"run a table with: adlightning benchmark --config {grid}")


def _copy(chosen: dict[str, Path], folder: Path) -> None:
    targets = {folder / f"{name}.yaml": file for name, file in chosen.items()}
    if there := [target for target in targets if os.path.lexists(target)]:
        raise ValueError(f"copy: {there[0]} exists already and is not overwritten; nothing was copied")
    for target, file in targets.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as opened:
                opened.write(file.read_bytes())
        except OSError as error:
            raise ValueError(f"copy: {target} cannot be written: {error.strerror}") from error
    say(f"{len(targets)} files copied into {folder}")


def run(arguments: Sequence[str]) -> None:
    """Parse the verb's arguments and do it."""
    parser = PlainParser(prog="adlightning configs", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="*", help="of names: deep_sad, 'deep_sad/*', '*/cifar10*'")
    parser.add_argument("--copy", metavar="DIR", help="copy them into this folder; nothing is overwritten")
    configs(**vars(parser.parse_args(arguments)))
