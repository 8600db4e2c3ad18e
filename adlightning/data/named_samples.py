"""Samples to score, with their names, and which of them are skipped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from adlightning.data.sources.base import LazyImages

OnBad = Literal["refuse", "skip"]


@dataclass(frozen=True)
class NamedSamples:
    """Raw samples that fit a detector, with a name each, and what was skipped.

    Args:
        x: the samples.
        names: one for each sample, in the order of the data; skipped ones have names too.
        on_bad: what to do with an image that cannot be decoded when it comes to that.
        skipped: why a sample is not scored, by its place among all of `names`. More may come while images are decoded.
        rows: places among `names` of the samples in `x`; None where it holds all of them.
        columns: what is said of each name beside it, by the column's name.
        of_rows: where the samples are windows of a table: scores of its rows, which the names are of, from theirs.
        own_names: where the samples are windows of a table: a name for each of them.
        tiles: where the samples are tiles of the images that the names are of: where each lies in its image.
    """

    x: Tensor | LazyImages
    names: list[str]
    on_bad: OnBad = "refuse"
    skipped: dict[int, str] = field(default_factory=dict)
    rows: Sequence[int] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    of_rows: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    own_names: Sequence[str] | None = None
    tiles: Sequence[str] | None = None

    def reported(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """A score for each name that is not skipped, from those of the samples; of an image its highest tile's."""
        if self.of_rows is not None:
            return self.of_rows(scores)
        return scores if self.tiles is None else scores[self._highest(scores)]

    def places(self, scores: NDArray[np.float64]) -> list[int]:
        """Places in `x` of the samples that :meth:`reported` takes the scores of."""
        places = self.scored
        return places if self.tiles is None else [places[i] for i in self._highest(scores)]

    def _highest(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        import numpy as np

        from adlightning.core.tiles import highest

        return highest(scores, np.array([self._rows[i] for i in self.scored], dtype=np.int64))

    @property
    def scored(self) -> list[int]:
        """Places in `x` of what is not skipped."""
        return [i for i, row in enumerate(self._rows) if row not in self.skipped]

    @property
    def scored_rows(self) -> list[int]:
        """Places among `names` of what is not skipped."""
        rows = self._rows if self.of_rows is None else range(len(self.names))
        return [row for row in dict.fromkeys(rows) if row not in self.skipped]

    def require_any(self, path: Path) -> None:
        """Raise ValueError where everything is skipped: then something else is wrong."""
        if not self.scored:
            row, reason = min(self.skipped.items())
            raise ValueError(
                f"data: nothing of {path} can be scored: all {len(self.names)} are skipped, {self.names[row]} for one, "
                f"since {reason}"
            )

    @property
    def names_of_x(self) -> list[str]:
        """Names of the samples in `x`."""
        return [self.names[row] for row in self._rows]

    @property
    def _rows(self) -> Sequence[int]:
        return range(len(self.x)) if self.rows is None else self.rows

    def batches(self, spans: Iterable[range]) -> Iterator[Tensor]:
        """The samples of each span of `x`; images that are not in memory are decoded as it goes on."""
        import torch

        for span in spans:
            x = self.x
            if isinstance(x, torch.Tensor):
                yield x[span.start : span.stop]
            elif decoded := [image for i in span if (image := self._decoded(i)) is not None]:
                yield torch.stack(decoded)

    def _decoded(self, index: int) -> Tensor | None:
        """One image; None where it is to be skipped."""
        from adlightning.core.contracts import SourceError

        try:
            return self.x[index]
        except SourceError as error:
            if self.on_bad == "refuse":
                raise SourceError(f"{error}: on_bad=skip scores the others") from error
            self.skipped[self._rows[index]] = str(error)
            return None

    def spans(self, batch_size: int) -> list[range]:
        """Rows in spans of at most so many."""
        n = len(self.x)
        return [range(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
