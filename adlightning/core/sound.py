"""How a sound file becomes a series, as a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Hz that are taken; beyond lies no microphone."""

LONGEST = 600
"""Seconds of a clip at most."""

WINDOW, STRIDE = 0.025, 0.010
"""Seconds of a frame, and from one to the next."""


@dataclass(frozen=True)
class SoundSpec:
    """What is done to a sound file: its first samples at one rate, then filterbank energies frame by frame.

    Args:
        sample_rate: to which files are brought, in Hz.
        n_samples: of a clip, at that rate; longer files are cut, zeros come before shorter ones.
        cosine: whether log energies are transformed to cepstral coefficients (MFCC).

    Raises:
        ValueError: a rate or a length outside of what is taken.
    """

    sample_rate: int
    n_samples: int
    cosine: bool = False

    def __post_init__(self) -> None:
        if type(self.sample_rate) is not int or not LOWEST_RATE <= self.sample_rate <= HIGHEST_RATE:
            raise ValueError(f"sample_rate must lie in {LOWEST_RATE} to {HIGHEST_RATE} Hz, got {self.sample_rate!r}")
        if type(self.n_samples) is not int or not 0 < self.n_samples <= LONGEST * self.sample_rate:
            raise ValueError(f"a clip must have samples, of {LONGEST} s at most, got {self.n_samples!r}")
        if type(self.cosine) is not bool:
            raise ValueError(f"cosine must be true or false, got {self.cosine!r}")

    @property
    def seconds(self) -> float:
        """Length of a clip."""
        return self.n_samples / self.sample_rate

    @property
    def n_frames(self) -> int:
        """Frames that lie within a clip; one at least."""
        window, stride = (round(seconds * self.sample_rate) for seconds in (WINDOW, STRIDE))
        return 1 + max(0, self.n_samples - window) // stride

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SoundSpec:
        """The inverse of :meth:`as_dict`. Raises ValueError for values that it does not give."""
        if set(values) != {own.name for own in fields(cls)}:
            raise ValueError("sound of an input is none")
        return cls(**values)
