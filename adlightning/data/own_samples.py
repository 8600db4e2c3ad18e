"""Samples that somebody wants scored, checked against what the detector was trained on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from adlightning.data.named_samples import NamedSamples, OnBad
from adlightning.files.dialects import AUTO, Given

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from adlightning.core.contracts import InputSpec


_THREADS = min(16, os.cpu_count() or 1)
_SHOWN = 5


def read_samples(
    path: Path,
    spec: InputSpec,
    key: str | None = None,
    given: Given = AUTO,
    on_bad: OnBad = "refuse",
    drop_columns: Sequence[str] = (),
) -> NamedSamples:
    """Samples of a folder, image, table, .npy or .npz, checked against what the detector was trained on.

    Args:
        path: where they are.
        spec: what the detector was trained on.
        key: array of an .npz.
        given: how a table of text is written.
        on_bad: `skip` leaves out rows and files that cannot be scored, and keeps the reason of each; `refuse` none.
        drop_columns: columns of a table that are no features.

    Raises:
        ValueError: missing, empty, of another kind, size or columns than the detector's; the message says which.
    """
    from adlightning.data.sources.table_file import is_table

    if not path.exists():
        raise ValueError(f"data: there is no file or folder {path}")
    if on_bad not in get_args(OnBad):
        raise ValueError(f"on_bad must be one of {', '.join(get_args(OnBad))}, got {on_bad!r}")
    if drop_columns and not is_table(path):
        raise ValueError(f"drop_columns are columns of a table, and data is {path}: leave them out")
    samples = _read(path, spec, key, given, on_bad, drop_columns)
    samples.require_any(path)
    return samples


def _read(
    path: Path, spec: InputSpec, key: str | None, given: Given, on_bad: OnBad, drop_columns: Sequence[str]
) -> NamedSamples:
    from adlightning.data.sources.table_file import is_table

    if key is not None and path.suffix.lower() != ".npz":
        raise ValueError(f"key names an array of an .npz, and data is {path}: leave out key={key}")
    if spec.sound is not None and (path.is_dir() or path.suffix.lower() == ".wav"):
        return _read_sounds(path, spec, on_bad)
    if path.is_dir():
        _require_kind("image", path, "a folder of images", spec)
        return _read_images(path, spec, on_bad)
    if path.suffix.lower() == ".npz":
        return _as_samples(_read_npz(path, key), path, spec, on_bad)
    if path.suffix.lower() == ".npy":
        return _as_samples(_read_npy(path), path, spec, on_bad)
    if is_table(path):
        if spec.windows is not None:
            return _read_windows(path, spec, given, on_bad, drop_columns)
        _require_kind("table", path, "a table", spec)
        return _read_table(path, spec, given, on_bad, drop_columns)
    _require_image(path)
    _require_kind("image", path, "an image", spec)
    return _read_images(path, spec, on_bad)


def _require_kind(kind: str, path: Path, what: str, spec: InputSpec) -> None:
    if spec.kind != kind:
        raise ValueError(f"data: {path} is {what}; the detector was trained on {spec}")


def _require_image(path: Path) -> None:
    """Raise ValueError for a file that is nothing that can be scored; a damaged image is refused for what it is."""
    from adlightning.data.image_headers import FORMATS, is_image
    from adlightning.data.image_search import IMAGE_SUFFIXES

    if path.suffix.lower() not in IMAGE_SUFFIXES and not is_image(path):
        raise ValueError(
            f"data must be a folder of images, an image ({', '.join(FORMATS)}), a table (.csv, .tsv, .parquet), an "
            f"array (.npy, .npz) or, for a detector of sound, .wav files, got {path}"
        )


def _read_images(path: Path, spec: InputSpec, on_bad: OnBad) -> NamedSamples:
    from adlightning.core.pictures import AS_EVER
    from adlightning.data.image_headers import image_name
    from adlightning.data.image_search import LeftOut, find_images
    from adlightning.data.sources.images import ImageFiles, check_uniform
    from adlightning.data.tiles import tiles_of_files

    left_out = LeftOut()
    files = find_images(path, left_out) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"data: {left_out.none(path, path)}")
    left_out.warn(path)
    names = [image_name(file, path if path.is_dir() else file.parent) for file in files]
    skipped = _unfit_images(files, spec)
    if (
        len(skipped) == len(files) and on_bad == "refuse" and spec.tiles is None
    ):  # all of another kind, which is said of all at once
        shape = check_uniform(files, spec.resize, spec.channels, spec.reading or AS_EVER)
        raise ValueError(f"data: {path} holds {'x'.join(map(str, shape))} images; the detector was trained on {spec}")
    if skipped and on_bad == "refuse":
        shown = "; ".join(f"{names[row]}: {reason}" for row, reason in list(skipped.items())[:_SHOWN])
        more = "; ..." if len(skipped) > _SHOWN else ""
        n = f"{len(skipped)} of {len(files)} images"
        others = "" if len(skipped) == len(files) else ": on_bad=skip scores the others"
        raise ValueError(f"data: {n} in {path} cannot be scored: {shown}{more}{others}")
    rows = [row for row in range(len(files)) if row not in skipped]
    images = ImageFiles([files[row] for row in rows], spec.resize, spec.channels, spec.reading or AS_EVER)
    if spec.tiles is None:
        return NamedSamples(images, names, on_bad, skipped, rows)
    tiles = tiles_of_files(images, spec.tiles)
    of_tiles = [rows[place] for place in tiles.image]
    return NamedSamples(tiles, names, on_bad, skipped, of_tiles, tiles=tiles.at())


def _unfit_images(files: Sequence[Path], spec: InputSpec) -> dict[int, str]:
    """Why images cannot be scored, by their places, as far as headers tell."""
    from concurrent.futures import ThreadPoolExecutor

    from adlightning.core.contracts import SourceError
    from adlightning.core.pictures import AS_EVER
    from adlightning.data.image_headers import read_size

    def reason(file: Path) -> str | None:
        try:
            channels, *size = read_size(file, spec.reading or AS_EVER)
        except SourceError as error:
            return str(error).removeprefix(f"{file} ")
        shape = (spec.channels or channels, *(spec.resize or size))
        holds_tile = spec.tiles is not None and shape[0] == spec.shape[0] and min(shape[1:]) >= spec.tiles.size
        if shape == spec.shape or holds_tile:
            return None
        return f"it is {'x'.join(map(str, shape))}, the detector was trained on {spec}"

    with ThreadPoolExecutor(_THREADS) as pool:
        return {row: why for row, why in enumerate(pool.map(reason, files)) if why is not None}


def _read_table(path: Path, spec: InputSpec, given: Given, on_bad: OnBad, drop_columns: Sequence[str]) -> NamedSamples:
    from adlightning.core.features import unusable_rows
    from adlightning.core.raw_input import columns_that_differ, frame_input
    from adlightning.data.sources.columns import names_of
    from adlightning.data.sources.table_file import read_frame

    where = f"data: {path}"
    frame = read_frame(path, (spec.name_column, *spec.of_text()), given)
    frame = _without(frame, drop_columns, path)
    wrong = columns_that_differ(frame, spec)
    skipped = unusable_rows(frame, spec.features or list(frame.columns), spec.columns)
    if skipped and (wrong or on_bad == "refuse"):
        row, reason = next(iter(sorted(skipped.items())))
        more = f", and {len(skipped) - 1} more rows" if len(skipped) > 1 else ""
        wrong.append(f"cannot be scored in row {row}, whose {reason}{more}: on_bad=skip scores the others")
    if wrong:
        raise ValueError(f"{where} {'; and '.join(wrong)}; the detector was trained on {spec}")
    named = spec.name_column if spec.name_column in frame.columns else None
    names = list(map(str, range(len(frame)))) if named is None else list(names_of(frame[named]))
    rows = [row for row in range(len(frame)) if row not in skipped]
    return NamedSamples(frame_input(frame.iloc[rows] if skipped else frame, spec, where), names, on_bad, skipped, rows)


def _read_sounds(path: Path, spec: InputSpec, on_bad: OnBad) -> NamedSamples:
    import torch

    from adlightning.core.contracts import SourceError
    from adlightning.data.sources.sounds import features, find_wavs, headers, say_what_is_done
    from adlightning.data.sources.wav_file import require_audio

    assert spec.sound is not None
    require_audio()
    files = find_wavs(path) if path.is_dir() else [path]
    names = [file.relative_to(path).as_posix() if path.is_dir() else file.name for file in files]
    wavs, skipped = [], {}
    for row, file in enumerate(files):
        try:
            wavs += headers([file])
        except SourceError as error:
            if on_bad == "refuse":
                raise
            skipped[row] = str(error)
    rows = [row for row in range(len(files)) if row not in skipped]
    if not rows:
        return NamedSamples(torch.empty(0, *spec.shape), names, on_bad, skipped, rows)
    say_what_is_done(wavs, [names[row] for row in rows], spec.sound, path)
    x = features([files[row] for row in rows], spec.sound, spec.shape[1], "features")
    return NamedSamples(torch.from_numpy(x), names, on_bad, skipped, rows)


def _read_windows(
    path: Path, spec: InputSpec, given: Given, on_bad: OnBad, drop_columns: Sequence[str]
) -> NamedSamples:
    from adlightning.data.sources.table_file import read_frame

    assert spec.windows is not None
    if on_bad == "skip":
        raise ValueError("on_bad must be refuse for a table over time, whose windows hold row after row, got skip")
    frame = read_frame(path, (spec.windows.group_column,), given)
    return window_samples(_without(frame, drop_columns, path), spec, f"data: {path}")


def _without(frame: pd.DataFrame, drop_columns: Sequence[str], path: Path) -> pd.DataFrame:
    """A table without some of its columns. Raises ValueError for those that it has not."""
    from adlightning.core.messages import quoted

    if unknown := [name for name in drop_columns if name not in frame.columns]:
        raise ValueError(f"drop_columns: {path} has no column {quoted(unknown)}; it has {quoted(list(frame.columns))}")
    return frame.drop(columns=list(drop_columns))


def window_samples(frame: pd.DataFrame, spec: InputSpec, where: str) -> NamedSamples:
    """The windows of a table over time, whose scores are of its rows.

    Raises:
        ValueError: other columns than the detector's, values or times that are none, a group shorter than a window.
    """
    from adlightning.core.raw_input import trained_columns
    from adlightning.data.sources.sensor_table import sensor_table
    from adlightning.data.window_rows import RowsOfWindows

    assert spec.windows is not None
    own = (spec.windows.time_column, spec.windows.group_column)
    named, features = trained_columns(frame, spec, where, own)
    table = sensor_table(named, where, features, *own, None)
    rows = RowsOfWindows(table, spec, where)
    names = list(map(str, range(len(frame))))
    return NamedSamples(rows, names, columns=table.columns, of_rows=rows.scores, own_names=rows.names())


def series_samples(x: object, spec: InputSpec) -> NamedSamples:
    """A frame, or what lies at a path, for a detector trained on windows. Raises ValueError as `read_samples`."""
    import pandas as pd

    from adlightning.files.disk import user_path

    if isinstance(x, pd.DataFrame):
        return window_samples(x, spec, "x")
    if not isinstance(x, (str, Path)):
        raise ValueError(f"x must be an array, a tensor, a pandas frame or a path, got a {type(x).__name__}")
    return read_samples(user_path(x), spec)


def tile_samples(x: object, spec: InputSpec) -> NamedSamples:
    """Images of an array or a tensor, or at a path, for a detector of tiles. Raises ValueError as `read_samples`."""
    from adlightning.core.raw_input import as_array
    from adlightning.files.disk import user_path

    if isinstance(x, (str, Path)):
        return read_samples(user_path(x), spec)
    return _tiles_of(as_array(x, "x"), spec, "x")


def _tiles_of(array: NDArray[Any], spec: InputSpec, where: str) -> NamedSamples:
    """Tiles of images in an array, of one size that holds a tile. Raises ValueError for others."""
    from dataclasses import replace

    from adlightning.core.raw_input import array_input
    from adlightning.data.tiles import Tiles

    assert spec.tiles is not None
    channels, sides = spec.shape[0], array.shape[1:]
    orders = [(channels, *sides)] if len(sides) == 2 else [sides, (sides[-1], *sides[:-1])]
    fitting = [order for order in orders if order[0] == channels and min(order[1:]) >= spec.tiles.size]
    if len(sides) not in (2, 3) or not fitting:
        raise ValueError(
            f"{where} holds samples of {'x'.join(map(str, sides)) or 'one number'}; the detector was trained on {spec}"
        )
    images = array_input(array, replace(spec, shape=fitting[0], tiles=None), where)
    tiles = Tiles(images, [(images.shape[2], images.shape[3])] * len(images), spec.tiles)
    names = list(map(str, range(len(images))))
    return NamedSamples(tiles, names, rows=tiles.image.tolist(), tiles=tiles.at())


def _read_npz(path: Path, key: str | None) -> NDArray[Any]:
    """One array of an .npz. Raises ValueError."""
    from adlightning.core.contracts import SourceError
    from adlightning.data.sources.npz import read_arrays, stored_keys

    try:
        keys = stored_keys(path)
        if key is None and len(keys) != 1:
            raise ValueError(f"key: {path} must hold one array, or one be chosen: it holds {', '.join(keys) or 'none'}")
        chosen = key or keys[0]
        if chosen not in keys:
            raise ValueError(f"key: {path} holds no array {chosen}; it holds {', '.join(keys)}")
        return read_arrays(path, [chosen])[chosen]
    except SourceError as error:
        raise ValueError(f"data: {error}: refused") from error


def _read_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy, no larger than the file. Raises ValueError."""
    from adlightning.files.arrays import read_array

    try:
        with path.open("rb") as file:
            return read_array(file, path.stat().st_size)
    except ValueError as error:
        raise ValueError(f"data: {path} cannot be read as one array of numbers: {error}: refused") from error


def _as_samples(array: NDArray[Any], path: Path, spec: InputSpec, on_bad: OnBad) -> NamedSamples:
    """An array of the detector's kind and shape, with its rows' numbers for names. Raises ValueError for others."""
    from adlightning.core.raw_input import array_input

    if array.ndim and array.size == 0:
        raise ValueError(f"data: {path} holds no samples")
    if spec.tiles is not None:
        if on_bad == "skip":
            raise ValueError("on_bad must be refuse for an array of images that are cut into tiles, got skip")
        return _tiles_of(array, spec, f"data: {path}")
    names = [str(row) for row in range(len(array) if array.ndim else 0)]
    if on_bad == "refuse":
        return NamedSamples(array_input(array, spec, f"data: {path}"), names)
    skipped = _unfit_rows(array, spec)
    rows = [row for row in range(len(names)) if row not in skipped]
    return NamedSamples(array_input(array[rows], spec, f"data: {path}"), names, on_bad, skipped, rows)


def _unfit_rows(array: NDArray[Any], spec: InputSpec) -> dict[int, str]:
    """Why samples of an array of floats cannot be scored, by row."""
    import numpy as np

    if array.dtype.kind != "f":
        return {}
    rule = "images are floats in [0, 1]" if spec.kind == "image" else "features must be finite numbers within float32"
    low, high = (
        (0.0, 1.0) if spec.kind == "image" else (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))
    )
    flat = array.reshape(len(array), -1)
    fits = (flat >= low) & (flat <= high)  # False for NaN
    return {int(row): f"it holds {flat[row][~fits[row]][0]}; {rule}" for row in np.flatnonzero(~fits.all(axis=1))}


def sample_batches(path: Path, spec: InputSpec, batch_size: int) -> Iterator[Tensor]:
    """Samples as :func:`read_samples` finds them, batch by batch."""
    samples = read_samples(path, spec)
    return samples.batches(samples.spans(batch_size))
