"""The preprocessing of a detector for its input: what it was given, or what suits the kind."""

from __future__ import annotations

from adlightning.core.contracts import InputSpec
from adlightning.core.parts import PreprocessingFactory
from adlightning.preprocessing import After, Centre, EncodeColumns, Preprocessing, StandardizeFeatures, UnitRange


def prepared_for(spec: InputSpec, given: PreprocessingFactory | None) -> Preprocessing:
    """A preprocessing for this input, not yet fitted; values that float32 cannot hold are centred first.

    Args:
        spec: the raw input.
        given: the preprocessing; None takes [0, 1] for images, standardised features for tables and series.

    Raises:
        ValueError: a preprocessing that does not take this kind of input, or arguments that do not fit it.
    """
    suited: PreprocessingFactory = UnitRange if spec.kind == "image" else StandardizeFeatures
    encoding = _encoding_of(spec)
    preprocessing = (given or suited)(spec.shape if encoding is None else encoding.output_shape())
    if spec.kind not in preprocessing.kinds:
        raise ValueError(
            f"preprocessing: {type(preprocessing).__name__} takes {' and '.join(preprocessing.kinds)} input, the data "
            f"are {spec}: for {spec.kind} input there are {', '.join(suited_to(spec.kind))}"
        )
    if encoding is not None:
        preprocessing = After(encoding, preprocessing)
    return After(Centre(spec.shape, spec.offsets), preprocessing) if spec.offsets else preprocessing


def _encoding_of(spec: InputSpec) -> EncodeColumns | None:
    """What makes features of columns that are no plain numbers; values are centred before it."""
    columns = spec.columns
    if columns is None:
        return None
    offsets = spec.offsets or (0.0,) * len(columns.fills)
    fills = [fill - offset for fill, offset in zip(columns.fills, offsets, strict=bool(columns.fills))]
    one_hot = [(j, len(names)) for j, names in enumerate(columns.categories) if names]
    hot = one_hot if columns.categorical == "one_hot" else []
    return EncodeColumns(spec.shape, fills, columns.indicators, hot) if fills or hot else None


def suited_to(kind: str) -> list[str]:
    """Names of our preprocessings for a kind of input."""
    import adlightning.preprocessing as ours

    found = [getattr(ours, name) for name in ours.__all__]
    classes = [cls for cls in found if isinstance(cls, type) and issubclass(cls, Preprocessing)]
    hidden = (Preprocessing, After, Centre, EncodeColumns)
    return sorted(cls.__name__ for cls in classes if cls not in hidden and kind in cls.kinds)


def name_of(preprocessing: Preprocessing) -> str:
    """What it is called on the command line."""
    while isinstance(preprocessing, After):
        preprocessing = preprocessing.then
    return type(preprocessing).__name__
