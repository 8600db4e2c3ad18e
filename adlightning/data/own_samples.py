"""Samples that somebody wants scored, checked against what the detector was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlightning.files.dialects import AUTO, Given

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from adlightning.core.contracts import InputSpec
    from adlightning.data.sources.base import LazyImages


@dataclass(frozen=True)
class NamedSamples:
    """Raw samples that fit a detector, with a name each."""

    x: Tensor | LazyImages
    names: list[str]

    def batches(self, spans: Iterable[range]) -> Iterator[Tensor]:
        """The samples of each span of rows; images that are not in memory are decoded as it goes on."""
        import torch

        for span in spans:
            x = self.x
            yield x[span.start : span.stop] if isinstance(x, torch.Tensor) else torch.stack([x[i] for i in span])

    def spans(self, batch_size: int) -> list[range]:
        """Rows in spans of at most so many."""
        n = len(self.x)
        return [range(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def read_samples(path: Path, spec: InputSpec, key: str | None = None, given: Given = AUTO) -> NamedSamples:
    """Samples of a folder, image, table, .npy or .npz, checked against what the detector was trained on.

    Args:
        path: of the samples.
        spec: what the detector was trained on.
        key: array of the .npz; None where it holds one.
        given: how a table of text is written.

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
        return _read_table(path, spec, given)
    _require_image(path)
    _require_kind("image", path, "an image", spec)
    return _read_images(path, spec)


def _require_kind(kind: str, path: Path, what: str, spec: InputSpec) -> None:
    if spec.kind != kind:
        raise ValueError(f"data: {path} is {what}; the detector was trained on {spec}")


def _require_image(path: Path) -> None:
    """Raise ValueError for a file that is nothing that can be scored; a damaged image is refused for what it is."""
    from adlightning.data.image_headers import FORMATS, is_image
    from adlightning.data.image_search import IMAGE_SUFFIXES

    if path.suffix.lower() not in IMAGE_SUFFIXES and not is_image(path):
        raise ValueError(
            f"data must be a folder of images, an image ({', '.join(FORMATS)}), a table (.csv, .tsv, .parquet) or an "
            f"array (.npy, .npz), got {path}"
        )


def _read_images(path: Path, spec: InputSpec) -> NamedSamples:
    from adlightning.data.image_headers import image_name
    from adlightning.data.image_search import LeftOut, find_images
    from adlightning.data.sources.images import ImageFiles, check_uniform

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


def _read_table(path: Path, spec: InputSpec, given: Given) -> NamedSamples:
    from adlightning.core.raw_input import frame_input
    from adlightning.data.sources.columns import names_of
    from adlightning.data.sources.table_file import read_frame

    frame = read_frame(path, (spec.name_column, *spec.of_text()), given)
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
    """An array of the detector's kind and shape, with its rows' numbers for names. Raises ValueError for others."""
    from adlightning.core.raw_input import array_input

    if array.ndim and array.size == 0:
        raise ValueError(f"data: {path} holds no samples")
    x = array_input(array, spec, f"data: {path}")
    return NamedSamples(x, [str(row) for row in range(len(x))])


def sample_batches(path: Path, spec: InputSpec, batch_size: int) -> Iterator[Tensor]:
    """Samples as :func:`read_samples` finds them, batch by batch."""
    samples = read_samples(path, spec)
    return samples.batches(samples.spans(batch_size))
