"""How pictures look: colours of methods, figure with panels, PNG bytes. matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adlightning.published import Column, Layout, metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# From Paul Tol's palettes, which colour-blind readers can tell apart; like ones lie far from each other.
COLOURS = (
    "#4477AA",
    "#CC3311",
    "#228833",
    "#AA3377",
    "#EE7733",
    "#33BBEE",
    "#332288",
    "#009988",
    "#882255",
    "#BBBB33",
)
_OWN = "#555555"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.07,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Picture:
    """A figure as PNG.

    Args:
        name: a word for file names, `deep_sad_table3_curves`.
        caption: what there is to see.
        png: the file's bytes.
    """

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Look:
    """How a column is drawn: a colour for its method, a marker and face for its variant."""

    colour: str
    marker: str
    filled: bool


def looks(layout: Layout) -> list[Look]:
    """A look for each column: a colour for each method, marker and face by variant; those of ours alone are grey."""
    found: list[Look] = []
    methods = list(layout.methods)
    seen: dict[str, int] = {}
    for column in layout.columns:
        number = seen.setdefault(column.method, 0)
        seen[column.method] += 1
        own = not column.printed and layout.printed
        method = methods.index(column.method)
        colour = _OWN if own else COLOURS[method % len(COLOURS)]
        found.append(Look(colour, _MARKERS[(method + number) % len(_MARKERS)], filled=number == 0))
    return found


def marker_style(look: Look, size: float = 5.5) -> dict[str, Any]:
    """Marker arguments of `Axes.plot`."""
    return {
        "marker": look.marker,
        "markersize": size,
        "markerfacecolor": look.colour if look.filled else "white",
        "markeredgecolor": look.colour,
        "color": look.colour,
    }


def draw(
    size: tuple[float, float],
    panels: tuple[int, int],
    title: str,
    paint: Callable[[Figure, list[Axes]], None],
    sharey: bool | Literal["row", "col"] = False,
) -> bytes:
    """A figure of `size` inches with rows and columns of panels, painted and given as PNG; unused panels are hidden."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(textwrap.fill(title, round(11 * size[0])), parse_math=False)
        grid = figure.subplots(*panels, squeeze=False, sharey=sharey)
        paint(figure, list(grid.flat))
        target = io.BytesIO()
        figure.savefig(target, dpi=144, facecolor="white", format="png", metadata={"Software": None})
    return target.getvalue()


def legend_handle(column: Column, look: Look, **line: Any) -> Line2D:
    """An entry of the legend for a column."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=column.heading, **(marker_style(look) | line))


def scaled(layout: Layout, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with means and standard deviations as they are shown, in % for fractions."""
    names = ["ours_mean", "ours_std", "published_mean", "published_std"]
    return cells.assign(**{name: cells[name].astype(float) * factor(layout) for name in names})


def factor(layout: Layout) -> float:
    """What a value is multiplied with to be shown."""
    return 100.0 if layout.scale == "percent" else 1.0


def metric_label(layout: Layout) -> str:
    """The metric with its unit, for an axis."""
    return metrics()[layout.metric].heading + (" (%)" if layout.scale == "percent" else "")
