"""`explain` for images: where each of the most anomalous ones is anomalous, as pictures, a table and one page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from adlightning.callbacks.description import judged
from adlightning.callbacks.heatmaps import colour_scale, maps_shown, write_map
from adlightning.cli.score import score_samples, skipped_in_words
from adlightning.core.image_maps import map_kind, map_words
from adlightning.core.scoring import without_p_values, without_verdict
from adlightning.core.terminal import say
from adlightning.data.named_samples import NamedSamples
from adlightning.files.disk import make_folder, remove_made, write_new
from adlightning.report.explained import Explained, explained_page

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adlightning.core.detector import AnomalyDetector

MOST = 100
"""Images above the threshold that are explained where nobody says how many."""

_FEW = 10
"""Images that are explained where none is above the threshold."""

_MAPS_AT_ONCE = 10


def explain_images(
    detector: AnomalyDetector, samples: NamedSamples, out: Path, data: str, top: int | None, batch_size: int
) -> None:
    """Write into a folder a picture for each image explained, `reasons.csv` and `index.html`.

    Args:
        detector: trained, of images.
        samples: the images.
        out: the folder, new or empty.
        data: what the user called the images.
        top: how many images, the most anomalous first; None for those above the threshold.
        batch_size: images at a time.

    Raises:
        ValueError: an image that cannot be decoded and is not to be skipped, or no image that can.
    """
    from rich.progress import track

    of_samples = score_samples(detector, samples, batch_size)
    samples.require_any(Path(data))
    scores, shown_of = samples.reported(of_samples), samples.places(of_samples)
    verdicts = judged(scores, detector)
    order = np.argsort(-scores, kind="stable")
    chosen, why = _chosen(detector, scores, order, top)
    names = [samples.names_of_x[i] for i in shown_of]
    places = [shown_of[i] for i in chosen]
    made = make_folder(out)
    try:
        raw = torch.stack([samples.x[i] for i in places])
        parts = [slice(first, first + _MAPS_AT_ONCE) for first in range(0, len(places), _MAPS_AT_ONCE)]
        shown = track(parts, description="looking where", transient=True)
        maps = np.concatenate([detector.heatmaps(raw[part]) for part in shown])
        # below 0 an occlusion makes the image more anomalous: that is nowhere where it is anomalous
        drawn = maps.clip(min=0) if map_kind(detector) == "occlusion" else maps
        scale, threshold = colour_scale(drawn), detector.threshold_over(scores)
        found, rows = [], []
        for rank, row in enumerate(chosen, start=1):
            name, each = names[row], {key: values[row] for key, values in verdicts.items()}
            facts = _facts(scores[row], None if without_verdict(detector) else threshold, each)
            corner = [0, 0]
            if samples.tiles is not None:  # a map is of the tile, and a place of the image
                corner = [int(pixels) for pixels in samples.tiles[places[rank - 1]].split(",")]
                facts += f", tile at ({corner[1]}, {corner[0]})"
            words = f"{name}: {facts}"
            picture = maps_shown(detector, raw[rank - 1 : rank], drawn[rank - 1 : rank], [words])[0]
            file = f"{rank:03d}_{_as_file_name(name)}.png"
            write_map(out / file, picture, scale, _nearest_words(detector))
            hottest = np.unravel_index(int(maps[rank - 1].argmax()), maps[rank - 1].shape)
            y, x = (int(inside) + first for inside, first in zip(hottest, corner, strict=True))
            of_tile = {} if samples.tiles is None else {"tile": samples.tiles[places[rank - 1]]}
            at = {**of_tile, "row": y, "column": x}
            rows.append({"name": name, "score": scores[row], **each, **at, "picture": file})
            found.append(Explained(name, facts, (x, y), (out / file).read_bytes()))
        write_new(out / "reasons.csv", pd.DataFrame(rows).to_csv(index=False, float_format="%.9g"))
        about = [
            ("images", f"{len(found)} of {len(scores)} of {data}: {why}"),
            ("where", map_words(detector)),
            ("colours", f"one scale for all, from {scale.low:.4g} to {scale.high:.4g} and beyond"),
            ("detector", f"{type(detector).__name__} for {detector.built_for}"),
        ]
        no = without_p_values(detector)
        about += [("p-value", no or "how often a held-out normal image scores as high, (1 + so many) / (n + 1)")]
        title = f"Why {type(detector).__name__} finds images of {Path(data).name or data} anomalous"
        write_new(out / "index.html", explained_page(title, about, found))
    finally:
        remove_made(made)  # where nothing could be drawn
    say(f"{len(found)} of {len(scores)} images are explained: {why}")
    say(f"where: {map_words(detector)}")
    if samples.skipped:
        say(skipped_in_words(samples))
    say(f"page: {out / 'index.html'}")


def _chosen(
    detector: AnomalyDetector, scores: NDArray[np.float64], order: NDArray[np.int64], top: int | None
) -> tuple[list[int], str]:
    """Which images are explained, the most anomalous first, and why these."""
    if top is not None:
        return order[:top].tolist(), "the most anomalous ones"
    if reason := without_verdict(detector):
        return order[:_FEW].tolist(), f"the most anomalous ones, since there is no threshold: {reason}"
    above = [i for i in order.tolist() if scores[i] > detector.threshold_over(scores)]
    if not above:
        return order[:_FEW].tolist(), "the most anomalous ones, since none is above the threshold"
    more = f", the first of {len(above)} (--top {len(above)} for all)" if len(above) > MOST else ""
    return above[:MOST], f"those above the threshold{more}"


def _facts(score: float, threshold: float | None, verdict: dict[str, Any]) -> str:
    """Score, threshold, verdict and p-value in words."""
    words = [f"score {score:.4g}"]
    if threshold is not None:
        words.append(f"threshold {threshold:.4g}")
    if isinstance(said := verdict.get("verdict"), str) and said:
        words.append(f"called {said}")
    if (p := verdict.get("p_value")) is not None and np.isfinite(p):
        words.append(f"p-value {p:.3g}")
    return ", ".join(words)


def _as_file_name(name: str) -> str:
    """An image's path as a file's name without its suffix."""
    return re.sub(r"[^\w.-]+", "_", Path(name).with_suffix("").as_posix())[-80:]


def _nearest_words(detector: AnomalyDetector) -> str:
    """What `nearest_normal` gives, in words."""
    return "reconstruction" if hasattr(detector, "reconstructions") else "nearest in the training images"
