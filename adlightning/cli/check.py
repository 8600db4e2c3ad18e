"""The `check` verb: one look at your own table or folder, and all that must be decided before a fit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adlightning.cli.look_words import TABLES, in_words, options_as_words
from adlightning.cli.plain_parser import PlainParser
from adlightning.data.look.defects import is_defect_layout, look_at_defects
from adlightning.data.look.findings import Look, Said
from adlightning.data.look.folder import layout_of, look_at_folder
from adlightning.data.look.sounds import holds_sounds, look_at_sounds
from adlightning.data.look.table import look_at_tables
from adlightning.files.disk import user_path

_FEW = 10
"""Good images of which a tenth, `validation_fraction` by default, is none."""


def check(data: str, config: str | None = None, test_path: str | None = None, **said: Any) -> bool:
    """Look at a table or a folder once and print what must be decided, with one command that decides it.

    Args:
        data: the table, or the folder.
        config: the experiment that the command runs; None takes one for what `data` is. With NAME/windows a table is of
            sensors over time, as it is with `time_column` or `group_column`.
        test_path: a second table, to test on.
        said: arguments of `TableData` or `Windows` that are decided already; None and empty for those that are not.

    Returns:
        Whether something must be decided.

    Raises:
        ValueError: there is no such file or folder, or nothing that could be trained on.
    """
    path = user_path(data)
    given = {name: value for name, value in said.items() if value not in (None, [])}
    if path.is_dir():
        if given or test_path:
            name = next(iter([*given, "test_path"]))
            raise ValueError(f"{name} is of a table, and {data} is a folder: leave it out")
        is_sound = "sounds" in Path(config).stem if config else holds_sounds(path)
        look, words = (_look_at_sounds if is_sound else _look_at_images)(path, data, config)
    elif path.name.lower().endswith(TABLES):
        over_time = "windows" in Path(config or "").stem or bool(given.keys() & {"time_column", "group_column"})
        said_of_it = Said.of({**given, "over_time": over_time})
        look = look_at_tables(path, None if test_path is None else user_path(test_path), said_of_it)
        first = {"path": data, **({"test_path": test_path} if test_path else {})}
        words = [
            "--config",
            config or ("autoencoder/windows" if over_time else "deep_sad/table"),
            *options_as_words({**first, **given}, "data.", {}),
        ]
        words = [word for word in words if word.partition("=")[0][len("--data.") :] not in look.options]
        words += options_as_words(look.options, "data.", given)
    elif not path.exists():
        raise ValueError(f"data: there is no file or folder {path}")
    else:
        raise ValueError(f"data must be a table ({', '.join(TABLES)}) or a folder of images or sounds, got {data}")
    print(in_words(look, ["adlightning", "fit", *words]))
    return look.blocks


def _look_at_sounds(path: Path, data: str, config: str | None) -> tuple[Look, list[str]]:
    look = look_at_sounds(path)
    return look, [
        *("--config", config or "autoencoder/sounds", f"--data.root={shlex.quote(data)}"),
        *options_as_words(look.options, "data.", {}),
    ]


def _look_at_images(path: Path, data: str, config: str | None) -> tuple[Look, list[str]]:
    if (Path(config).stem == "mvtec") if config else is_defect_layout(path):
        look = look_at_defects(path, {})
        return look, [
            *("--config", config or "patch_knn/mvtec", f"--data.root={shlex.quote(data)}"),
            *options_as_words(look.options, "data.", {}),
        ]
    layout = layout_of(path)
    look = look_at_folder(path, layout)
    if layout == "labels":
        has_anomalies = (path / "train/anomaly").is_dir()  # which Deep SAD learns from
        return look, [
            *("--config", config or ("deep_sad/folder" if has_anomalies else "pca/folder")),
            f"--data.root={shlex.quote(data)}",
            *options_as_words(look.options, "data.", {}),
            *_holding_out(path / "train/normal"),
        ]
    of_source = {name: value for name, value in look.options.items() if name != "normal_class"}
    return look, [
        *("--config", config or "deep_sad/cifar10", "--data.source=ImageFolder"),
        f"--data.source.root={shlex.quote(data)}",
        *options_as_words(of_source, "data.source.", {}),
        *options_as_words({"normal_class": look.options.get("normal_class", "...")}, "data.", {}),
    ]


def _holding_out(normals: Path) -> list[str]:
    """Of so few good images that a tenth is none, none is held out: left-out folds give a threshold then."""
    n = sum(path.is_file() for path in normals.rglob("*")) if normals.is_dir() else 0
    return ["--data.validation_fraction=0"] if 0 < n < _FEW else []


def run(arguments: Sequence[str]) -> int:
    """Parse the verb's arguments and look; 2 where something must be decided, as for bad input, else 0."""
    parser = PlainParser(
        prog="adlightning check",
        description="Look at your own table or folder once: all that must be decided before a fit.",
    )
    parser.add_argument("data", help="a table (.csv, .tsv, also .gz, .parquet), or a folder of images or sounds")
    parser.add_argument(
        "--config", help="experiment of the command: NAME/table, NAME/windows, NAME/folder, NAME/mvtec or NAME/sounds"
    )
    parser.add_argument("--test_path", help="a second table, to test on")
    for name in ("label_column", "name_column", "normal_label", "anomaly_label", "separator", "decimal", "encoding"):
        parser.add_argument(f"--{name}", help="decided already, as in TableData")
    for name in ("time_column", "group_column"):
        parser.add_argument(f"--{name}", help="of sensors over time, as in Windows")
    parser.add_argument("--header", choices=("true", "false"), help="decided already")
    parser.add_argument("--drop_columns", nargs="+", metavar="NAME", help="columns that are no features")
    for name in ("missing", "categorical", "dates", "constant_features"):
        parser.add_argument(f"--{name}", help="decided already, as in TableData")
    return 2 if check(**vars(parser.parse_args(arguments))) else 0
