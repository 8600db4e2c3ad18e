"""The `score` verb: scores of your own images, table or array from a checkpoint alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlightning.cli.imports import add_import
from adlightning.cli.plain_parser import PlainParser
from adlightning.core.terminal import say
from adlightning.files.disk import make_folder, remove_made, require_new, user_path, write_new

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from adlightning.core.contracts import InputSpec
    from adlightning.core.detector import AnomalyDetector
    from adlightning.data.sources.base import LazyImages


def score(
    ckpt_path: str,
    data: str,
    out: str,
    plots: str | None = None,
    key: str | None = None,
    batch_size: int = 500,
    device: str = "auto",
) -> None:
    """Score your own data with a trained detector: one row a sample with name, score and verdict.

    Args:
        ckpt_path: a checkpoint, or a run folder (its best.ckpt, else its last.ckpt).
        data: a folder of images, an image, a CSV/TSV/Parquet table, an .npy or .npz.
        out: the CSV file to write; must not exist yet.
        plots: folder for a grid of the most anomalous images and a histogram of the scores.
        key: array of the .npz to score; needed when it holds more than one.
        batch_size: samples at a time; scores do not depend on it.
        device: cpu, cuda, cuda:1, mps, or auto.
    """
    import pandas as pd
    import torch

    from adlightning.checkpoints.loading import load_detector

    target = user_path(out)
    _check_targets(target, plots)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {device} cannot be used here: {str(error).splitlines()[0]}") from error
    detector = load_detector(ckpt_path, device)
    samples = read_samples(user_path(data), detector.built_for, key)
    scores = score_samples(detector, samples.x, batch_size)
    threshold = detector.threshold.item()
    verdicts = ["anomaly" if value > threshold else "normal" for value in scores]
    frame = pd.DataFrame({"name": samples.names, "score": scores, "verdict": verdicts})
    write_new(target, frame.to_csv(index=False, float_format="%.9g"))
    n = verdicts.count("anomaly")
    say(f"{n} of {len(frame)} samples are above the threshold {threshold:.6g}")
    say(f"scores: {target}")
    if plots is not None:
        made = make_folder(user_path(plots))
        try:
            for path in _plot(user_path(plots), samples, scores, threshold, Path(data).name):
                say(f"plot: {path}")
        finally:
            remove_made(made)  # where nothing could be drawn


@dataclass(frozen=True)
class NamedSamples:
    """Raw samples that fit a detector, with a name each."""

    x: Tensor | LazyImages
    names: list[str]


def read_samples(path: Path, spec: InputSpec, key: str | None = None) -> NamedSamples:
    """Samples of a folder, image, table, .npy or .npz, checked against what the detector was trained on.

    Raises:
        ValueError: missing, empty, of another kind, size or columns than the detector's; the message says which.
    """
    from adlightning.data.sources.table_file import is_table

    if not path.exists():
        raise ValueError(f"data: there is no file or folder {path}")
    if key is not None and path.suffix.lower() != ".npz":
        raise ValueError(f"key names an array of an .npz, and data is {path}: leave out key={key}")
    if path.is_dir():
        _require_kind("image", path, "a folder of images", spec)
        return _read_images(path, spec)
    if path.suffix.lower() == ".npz":
        return _read_npz(path, spec, key)
    if path.suffix.lower() == ".npy":
        return _as_samples(_read_npy(path), path, spec)
    if is_table(path):
        _require_kind("table", path, "a table", spec)
        return _read_table(path, spec)
    _require_image(path)
    _require_kind("image", path, "an image", spec)
    return _read_images(path, spec)


def _require_kind(kind: str, path: Path, what: str, spec: InputSpec) -> None:
    if spec.kind != kind:
        raise ValueError(f"data: {path} is {what}; the detector was trained on {spec}")


def _require_image(path: Path) -> None:
    """Raise ValueError for a file that is nothing that can be scored; a damaged image is refused for what it is."""
    from adlightning.data.sources.image_search import IMAGE_SUFFIXES
    from adlightning.data.sources.images import FORMATS, is_image

    if path.suffix.lower() not in IMAGE_SUFFIXES and not is_image(path):
        raise ValueError(
            f"data must be a folder of images, an image ({', '.join(FORMATS)}), a table (.csv, .tsv, .parquet) or an "
            f"array (.npy, .npz), got {path}"
        )


def _read_images(path: Path, spec: InputSpec) -> NamedSamples:
    from adlightning.data.sources.image_search import LeftOut, find_images
    from adlightning.data.sources.images import ImageFiles, check_uniform, image_name

    left_out = LeftOut()
    files = find_images(path, left_out) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"data: {left_out.none(path, path)}")
    left_out.warn(path)
    shape = check_uniform(files, spec.resize, spec.channels)
    if shape != spec.shape:
        raise ValueError(f"data: {path} holds {'x'.join(map(str, shape))} images; the detector was trained on {spec}")
    names = [image_name(file, path if path.is_dir() else file.parent) for file in files]
    return NamedSamples(ImageFiles(files, spec.resize, spec.channels), names)


def _read_table(path: Path, spec: InputSpec) -> NamedSamples:
    from adlightning.core.raw_input import frame_input
    from adlightning.data.sources.columns import names_of
    from adlightning.data.sources.table_file import read_frame

    frame = read_frame(path, (spec.name_column,))
    x = frame_input(frame, spec, f"data: {path}")
    named = spec.name_column is not None and spec.name_column in frame.columns
    return NamedSamples(x, list(names_of(frame[spec.name_column])) if named else list(map(str, range(len(x)))))


def _read_npz(path: Path, spec: InputSpec, key: str | None) -> NamedSamples:
    from adlightning.core.contracts import SourceError
    from adlightning.data.sources.npz import read_arrays, stored_keys

    try:
        keys = stored_keys(path)
        if key is None and len(keys) != 1:
            raise ValueError(f"key: {path} must hold one array, or one be chosen: it holds {', '.join(keys) or 'none'}")
        chosen = key or keys[0]
        if chosen not in keys:
            raise ValueError(f"key: {path} holds no array {chosen}; it holds {', '.join(keys)}")
        array = read_arrays(path, [chosen])[chosen]
    except SourceError as error:
        raise ValueError(f"data: {error}: refused") from error
    return _as_samples(array, path, spec)


def _read_npy(path: Path) -> NDArray[Any]:
    """The array of an .npy, no larger than the file. Raises ValueError."""
    from adlightning.files.arrays import read_array

    try:
        with path.open("rb") as file:
            return read_array(file, path.stat().st_size)
    except ValueError as error:
        raise ValueError(f"data: {path} cannot be read as one array of numbers: {error}: refused") from error


def _as_samples(array: NDArray[Any], path: Path, spec: InputSpec) -> NamedSamples:
    """An array of the detector's kind and shape, images (N, H, W) or (N, H, W, C). Raises ValueError for others."""
    import numpy as np

    from adlightning.core.raw_input import array_input

    if array.ndim and array.size == 0:
        raise ValueError(f"data: {path} holds no samples")
    if spec.kind == "image" and array.ndim == 4:
        moved = np.moveaxis(array, -1, 1)
        if array.shape[1:] == spec.shape != moved.shape[1:]:
            raise ValueError(
                f"data: {path} holds images with the channels first; in a file they come last, (N, H, W, C), "
                f"or (N, H, W) of one channel: x.transpose(0, 2, 3, 1)"
            )
        array = moved
    x = array_input(array, spec, f"data: {path}")
    return NamedSamples(x, [str(row) for row in range(len(x))])


def score_samples(detector: AnomalyDetector, x: Tensor | LazyImages, batch_size: int) -> NDArray[np.float64]:
    """Scores (N,) of raw samples, float64, with a progress bar."""
    import torch
    from rich.progress import track

    from adlightning.core.scoring import score_batches

    spans = [range(start, min(start + batch_size, len(x))) for start in range(0, len(x), batch_size)]
    shown = track(spans, description="scoring", transient=True)
    return score_batches(
        detector,
        (
            x[span.start : span.stop] if isinstance(x, torch.Tensor) else torch.stack([x[i] for i in span])
            for span in shown
        ),
    )


def _check_targets(out: Path, plots: str | None) -> None:
    require_new(out)
    folder = None if plots is None else user_path(plots)
    if folder is not None and folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"plots: {plots} exists already and nothing is overwritten")


def _plot(folder: Path, samples: NamedSamples, scores: NDArray[np.float64], threshold: float, title: str) -> list[Path]:
    import numpy as np
    import torch

    from adlightning.callbacks.plots import write_plots
    from adlightning.core.metrics import ScoredSamples

    x = samples.x
    first = x[0]

    def images(index: NDArray[np.int64]) -> Tensor:
        return torch.stack([x[int(i)] for i in index])

    scored = ScoredSamples(scores, np.full(len(scores), -1, dtype=np.int64), np.arange(len(scores)))
    return write_plots(
        folder,
        scored,
        images=images if first.ndim == 3 and first.dtype == torch.uint8 else None,
        threshold=threshold,
        names=samples.names,
        title_prefix=title,
    )


def run(arguments: Sequence[str]) -> None:
    """Parse the verb's arguments and score. Standard argparse: the help must not wait for torch."""
    parser = PlainParser(
        prog="adlightning score",
        description="Score your own data with a trained detector: one row a sample with name, score and verdict.",
    )
    parser.add_argument("--ckpt_path", required=True, help="a checkpoint, or a run folder (best.ckpt, else last.ckpt)")
    parser.add_argument(
        "--data", required=True, help="a folder of images, an image, a CSV/TSV/Parquet table, an .npy or .npz"
    )
    parser.add_argument("--out", required=True, help="the CSV file to write; must not exist yet")
    parser.add_argument(
        "--plots",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="also draw the score histogram and grids of the most and least anomalous images, "
        "into FOLDER or, without one, into OUT's name + _plots",
    )
    parser.add_argument("--key", help="array of the .npz to score; needed when it holds more than one")
    parser.add_argument("--batch_size", type=int, default=500, help="samples at a time (500); no effect on scores")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto")
    add_import(parser)
    options = vars(parser.parse_args(arguments))
    if options["plots"] == "":
        out = user_path(options["out"])
        options["plots"] = str(out.with_name(f"{out.stem}_plots"))
    score(**options)
