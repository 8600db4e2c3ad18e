"""What passes between data, detectors and checkpoints: the two batch types, the description of an input, the format.

Two batch types keep ground truth out of training: a :class:`TrainBatch` says only what a method is allowed to
know, an :class:`EvalBatch` carries the label that metrics need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from adlightning.core.encoding import Columns
from adlightning.core.messages import quoted
from adlightning.core.pictures import ImageReading
from adlightning.core.sound import SoundSpec
from adlightning.core.tiles import TileSpec
from adlightning.core.windows import WindowSpec

if TYPE_CHECKING:
    from torch import Tensor  # a look at somebody's data must not wait for it

Kind = Literal["image", "table", "series"]

CHECKPOINT_FORMAT = 2


class SourceError(ValueError):
    """Data that is missing, truncated, corrupt or not of the promised form; the message names the file and the rule."""


class TrainBatch(NamedTuple):
    """A training batch: raw `x` (B, ...), `known` (B,): +1 known normal, 0 unlabelled, -1 anomaly; `index` (B,)."""

    x: Tensor
    known: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch


class MaskedBatch(NamedTuple):
    """A :class:`TrainBatch` with masks: `mask` (B, H, W), bool, where known anomalies are anomalous.

    It is false everywhere for normal images, and for known anomalies of which nobody knows where.
    """

    x: Tensor
    known: Tensor
    index: Tensor  # type: ignore[assignment]  # as above
    mask: Tensor


class EvalBatch(NamedTuple):
    """An evaluation batch: raw `x` (B, ...), `label` (B,) in {0 normal, 1 anomaly, -1 not labelled}, `index` (B,)."""

    x: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch


@dataclass(frozen=True)
class InputSpec:
    """The raw input of a detector: what it was trained on, and what it refuses to score.

    Args:
        kind: `image` (uint8, `(C, H, W)`), `table` (`(D,)`) or `series` (`(T, D)`), both float32 or, with offsets,
            float64.
        shape: shape of one sample, without the batch dimension.
        description: the training data in words, for messages.
        features: column names of a table, or of the table that series were cut from, in order; else empty.
        resize: `(H, W)` to which the source resized images, or None when it took them as they were.
        channels: number of channels to which the source converted images, or None when it took them as they were.
        ignored: columns of a table that are no features (its label, for instance).
        name_column: column of a table that names its rows.
        offsets: what is subtracted from the values of a sample, flat, before they become float32, where float32 would
            lose their differences: raw input is then float64. Empty nearly always.
        windows: how series were cut from a table; None for others.
        sound: how series were made of sound files; None for others.
        columns: how a table's missing values, categories and dates become features; None for numbers alone.
        tiles: how images were cut into tiles, of which `shape` is; None for whole images.
        reading: how files of images were read; None where nobody said, and for others.
    """

    kind: Kind
    shape: tuple[int, ...]
    description: str = ""
    features: tuple[str, ...] = ()
    resize: tuple[int, int] | None = None
    channels: int | None = None
    ignored: tuple[str, ...] = field(default=())
    name_column: str | None = None
    offsets: tuple[float, ...] = ()
    windows: WindowSpec | None = None
    sound: SoundSpec | None = None
    columns: Columns | None = None
    tiles: TileSpec | None = None
    reading: ImageReading | None = None

    @property
    def dtype(self) -> Literal["uint8", "float32", "float64"]:
        """Type of raw input."""
        return "uint8" if self.kind == "image" else "float64" if self.offsets else "float32"

    def of_text(self) -> tuple[str, ...]:
        """Names of the features that are read as text: categories and dates."""
        columns = self.columns or Columns()
        return tuple(name for i, name in enumerate(self.features) if columns.of(i) or name in columns.dates)

    def as_dict(self) -> dict[str, Any]:
        """Plain values only, so that a checkpoint stays loadable with `weights_only=True`."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return plain | {"columns": None if self.columns is None else self.columns.as_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> InputSpec:
        """The inverse of :meth:`as_dict`. Raises ValueError for values that it does not give."""
        arguments: dict[str, Any] = {str(k): tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        if unknown := arguments.keys() - {own.name for own in fields(cls)}:
            raise ValueError(f"an input has no {', '.join(sorted(unknown))}")
        if (windows := arguments.get("windows")) is not None:
            arguments["windows"] = WindowSpec.from_dict(windows if isinstance(windows, dict) else {})
        if arguments.get("kind") not in get_args(Kind):
            raise ValueError(f"the kind of an input must be one of {', '.join(get_args(Kind))}")
        if (sound := arguments.get("sound")) is not None:
            arguments["sound"] = SoundSpec.from_dict(sound if isinstance(sound, dict) else {})
        if (tiles := arguments.get("tiles")) is not None:
            arguments["tiles"] = TileSpec.from_dict(tiles if isinstance(tiles, dict) else {})
        if (reading := arguments.get("reading")) is not None:
            arguments["reading"] = ImageReading.from_dict(reading if isinstance(reading, dict) else {})
        rank = {"image": 3, "table": 1, "series": 2}[arguments["kind"]]
        if not _is_tuple_of(int, arguments.get("shape")) or len(arguments["shape"]) != rank:
            raise ValueError(f"the shape of {arguments['kind']} input must be {rank} whole numbers")
        if min(arguments["shape"]) < 1:
            raise ValueError(f"the shape of an input must be positive, got {arguments['shape']}")
        rules: dict[str, Callable[[Any], bool]] = {
            "description": lambda v: isinstance(v, str),
            "features": lambda v: _is_tuple_of(str, v) and len(v) in (0, arguments["shape"][-1]),
            "resize": lambda v: v is None or (_is_tuple_of(int, v) and len(v) == 2 and min(v) > 0),
            "channels": lambda v: v is None or (type(v) is int and v in (1, 3)),
            "ignored": lambda v: _is_tuple_of(str, v),
            "name_column": lambda v: v is None or isinstance(v, str),
            "offsets": lambda v: (
                _is_tuple_of(float, v)
                and all(map(math.isfinite, v))
                and len(v) in ((0,) if arguments["kind"] == "image" else (0, math.prod(arguments["shape"])))
            ),
            "sound": lambda v: v is None or (arguments["kind"] == "series" and v.n_frames == arguments["shape"][0]),
            "tiles": lambda v: (
                v is None or (arguments["kind"] == "image" and arguments["shape"][1:] == (v.size, v.size))
            ),
            "reading": lambda v: v is None or arguments["kind"] == "image",
            "windows": lambda v: v is None or (arguments["kind"] == "series" and v.length == arguments["shape"][0]),
        }
        for name, holds in rules.items():
            if name in arguments and not holds(arguments[name]):
                raise ValueError(f"{name} of an input is none")
        if arguments.get("columns") is not None:
            if arguments["kind"] != "table":
                raise ValueError("columns of an input is none")
            arguments["columns"] = Columns.from_dict(arguments["columns"], arguments["shape"][0])
        return cls(**arguments)

    def refusal(self, other: InputSpec) -> str | None:
        """Why input of another description does not fit a detector trained on this one; None when it does."""
        if (self.kind, self.shape) == (other.kind, other.shape) and self.features == other.features:
            return self._refusal_of_columns(other)
        message = f"the detector was trained on {self}; the data are {other}"
        if self.kind != "table" or other.kind != "table":
            return message
        missing = [name for name in self.features if name not in other.features]
        extra = [name for name in other.features if name not in self.features]
        message += f"; missing columns: {quoted(missing)}" if missing else ""
        message += f"; other columns: {quoted(extra)}" if extra else ""
        return message if missing or extra else message + f"; the order of columns must be {quoted(self.features)}"

    def _refusal_of_columns(self, other: InputSpec) -> str | None:
        """Why raw input of the same features means something else."""
        mine, theirs = self.columns, other.columns
        if mine == theirs or (mine is None and theirs is not None and theirs.same_raw_input(Columns())):
            return None
        if mine is not None and mine.same_raw_input(theirs or Columns()):
            return None
        return (
            f"the detector was trained on {self} with other categories or dates than {other} has in its training rows: "
            f"`score` takes tables by the names of their categories"
        )

    def __str__(self) -> str:
        """In words: `1x28x28 images (MNIST, normal class 3)`."""
        size = "x".join(str(n) for n in self.shape)
        images = "images" if self.tiles is None else f"tiles of images, {self.tiles.overlap} pixels shared"
        what = {"image": images, "table": "features", "series": "series (time x features)"}[self.kind]
        return f"{size} {what}" + (f" ({self.description})" if self.description else "")


def _is_tuple_of(kind: type, value: object) -> bool:
    return isinstance(value, tuple) and all(type(item) is kind for item in value)


def saved_part(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What a detector's `on_save_checkpoint` added. Raises ValueError when it is not there."""
    saved = checkpoint.get("adlightning") if isinstance(checkpoint, dict) else None
    if not isinstance(saved, dict) or "state_dict" not in checkpoint:
        raise ValueError("this is not a checkpoint of an adlightning detector")
    if missing := {"class", "hyperparameters", "input", "config", "training"} - saved.keys():
        raise ValueError(f"this checkpoint lacks {', '.join(sorted(missing))}")
    if type(saved.get("format")) is not int or saved["format"] != CHECKPOINT_FORMAT:
        raise ValueError(
            f"checkpoint format {saved.get('format')} is not supported; this version reads {CHECKPOINT_FORMAT}"
        )
    return saved
