"""The preprocessing of a detector for its input: what it was given, or what suits the kind."""

from __future__ import annotations

from adlightning.core.contracts import InputSpec
from adlightning.core.parts import PreprocessingFactory
from adlightning.preprocessing import After, Centre, Preprocessing, StandardizeFeatures, UnitRange


def prepared_for(spec: InputSpec, given: PreprocessingFactory | None) -> Preprocessing:
    """A preprocessing for this input, not yet fitted; values that float32 cannot hold are centred first.

    Args:
        spec: the raw input.
        given: the preprocessing; None takes [0, 1] for images, standardised features for tables and series.

    Raises:
        ValueError: a preprocessing that does not take this kind of input, or arguments that do not fit it.
    """
    suited: PreprocessingFactory = UnitRange if spec.kind == "image" else StandardizeFeatures
    preprocessing = (given or suited)(spec.shape)
    if spec.kind not in preprocessing.kinds:
        raise ValueError(
            f"preprocessing: {type(preprocessing).__name__} takes {' and '.join(preprocessing.kinds)} input, the data "
            f"are {spec}: for {spec.kind} input there are {', '.join(suited_to(spec.kind))}"
        )
    return After(Centre(spec.shape, spec.offsets), preprocessing) if spec.offsets else preprocessing


def suited_to(kind: str) -> list[str]:
    """Names of our preprocessings for a kind of input."""
    import adlightning.preprocessing as ours

    found = [getattr(ours, name) for name in ours.__all__]
    classes = [cls for cls in found if isinstance(cls, type) and issubclass(cls, Preprocessing)]
    hidden = (Preprocessing, After, Centre)
    return sorted(cls.__name__ for cls in classes if cls not in hidden and kind in cls.kinds)


def name_of(preprocessing: Preprocessing) -> str:
    """What it is called on the command line."""
    return type(preprocessing.then if isinstance(preprocessing, After) else preprocessing).__name__
