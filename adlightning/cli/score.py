"""The `score` verb: scores of your own images, sounds, table or array from a checkpoint alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlightning.cli.before_score import add_reading, reading_of
from adlightning.cli.imports import add_import
from adlightning.cli.plain_parser import PlainParser
from adlightning.core.messages import plain_message
from adlightning.core.terminal import say
from adlightning.data.named_samples import NamedSamples, OnBad
from adlightning.data.own_samples import read_samples
from adlightning.files.dialects import Given, Header
from adlightning.files.disk import make_folder, remove_made, require_new, user_path, write_new

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from adlightning.core.detector import AnomalyDetector
    from adlightning.data.window_rows import RowsOfWindows

_FIXED = "adlightning.core.thresholds.FixedThreshold"  # which takes torch to import


def score(
    ckpt_path: str,
    data: str,
    out: str,
    plots: str | None = None,
    key: str | None = None,
    batch_size: int = 500,
    device: str = "auto",
    scoring: Mapping[str, Any] | None = None,
    separator: str = "auto",
    decimal: str = "auto",
    encoding: str = "auto",
    header: Header = "auto",
    on_bad: OnBad = "refuse",
    drop_columns: Sequence[str] = (),
    threshold: float | None = None,
    threshold_rule: str | None = None,
) -> None:
    """Score your own data with a trained detector: a row a sample with name, score, p-value and verdict.

    With `on_bad="skip"` there is a column `skipped` too: why a sample has no score, empty for all that have one.

    Args:
        ckpt_path: a checkpoint, or a run folder (its best.ckpt, else its last.ckpt).
        data: a folder of images or of .wav files, one of these, a CSV/TSV/Parquet table, an .npy or .npz.
        out: the CSV file to write; must not exist yet.
        plots: folder for a grid of the most anomalous images and a histogram of the scores.
        key: array of the .npz to score; needed when it holds more than one.
        batch_size: samples at a time; scores do not depend on it.
        device: cpu, cuda, cuda:1, mps, or auto.
        scoring: arguments of scores in place of the trained ones, as `load_detector` takes them; there are no verdicts
            then, since the threshold was fitted to other scores.
        separator: what stands between values of a table of text; this and the next three as in `TableData`.
        decimal: what stands in its numbers.
        encoding: of its text.
        header: whether its first row names the columns.
        on_bad: what to do with rows and files that cannot be scored: `refuse` all of the data, or `skip` these.
        drop_columns: columns of a table that are no features, and that the detector does not know.
        threshold: in place of the checkpoint's: scores above it are anomalies.
        threshold_rule: class of another rule, which takes the scores of held-out normals that the checkpoint has; its
            arguments are in `scoring`, as `threshold.rate`.
    """
    import pandas as pd

    from adlightning.callbacks.description import judged
    from adlightning.checkpoints.loading import load_detector
    from adlightning.core.scoring import without_p_values, without_verdict

    target = user_path(out)
    written = Given(separator, decimal, encoding, header)
    require_targets(target, plots)
    if plots is not None:
        require_outside(user_path(plots), user_path(data), "plots")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    chosen = {**_threshold(threshold, threshold_rule, scoring or {}), **(scoring or {})}
    detector = load_detector(ckpt_path, usable_device(device), scoring=chosen)
    samples = read_samples(user_path(data), detector.built_for, key, written, on_bad, drop_columns)
    of_samples = score_samples(detector, samples, batch_size)
    samples.require_any(user_path(data))
    scores, places = samples.reported(of_samples), samples.places(of_samples)
    threshold = detector.threshold_over(scores)
    no_verdict = without_verdict(detector)
    frame = pd.DataFrame({"score": scores, **judged(scores, detector)}, index=samples.scored_rows)
    if samples.tiles is not None:
        frame["tile"] = [samples.tiles[place] for place in places]
    frame = with_names(frame, samples)
    write_new(target, frame.to_csv(index=False, float_format="%.9g"))
    for difference in detector.rescored:
        say(f"scored with {difference}")
    if no_verdict:
        say(f"no verdicts: {no_verdict}")
    else:
        n = int((frame["verdict"] == "anomaly").sum())
        above = f"above the threshold {threshold:.6g}" if math.isfinite(threshold) else "discoveries at this rate"
        say(f"{n} of {len(scores)} samples are {above}")
        if reason := detector.threshold_rule.warning_over(len(scores), len(detector.held_out_scores)):
            say(reason)
    if reason := without_p_values(detector):
        say(f"no p-values: {reason}")
    if samples.skipped:
        say(skipped_in_words(samples))
    say(f"scores: {target}")
    if plots is not None:
        made = make_folder(user_path(plots))
        try:
            limit = None if no_verdict else threshold
            for path in _plot(user_path(plots), detector, samples, places, scores, limit, Path(data).name):
                say(f"plot: {path}")
        finally:
            remove_made(made)  # where nothing could be drawn


def with_names(frame: pd.DataFrame, samples: NamedSamples) -> pd.DataFrame:
    """Rows of what is scored, by their places, with names, and a row with the reason for what is skipped."""
    whole = frame.reindex(range(len(samples.names)))
    for place, (column, values) in enumerate({"name": samples.names, **samples.columns}.items()):
        whole.insert(place, column, values)
    if samples.on_bad == "skip":
        whole["skipped"] = [plain_message(samples.skipped.get(row, "")) for row in range(len(whole))]
    return whole


def skipped_in_words(samples: NamedSamples) -> str:
    """How many are skipped, and why one is."""
    row, reason = min(samples.skipped.items())
    n, all_ = len(samples.skipped), len(samples.names)
    return f"{n} of {all_} are skipped, {samples.names[row]} for one, since {plain_message(reason)}"


def score_samples(detector: AnomalyDetector, samples: NamedSamples, batch_size: int) -> NDArray[np.float64]:
    """Scores (N,) of raw samples, float64, with a progress bar."""
    from rich.progress import track

    from adlightning.core.scoring import score_batches

    shown = track(samples.spans(batch_size), description="scoring", transient=True)
    return score_batches(detector, samples.batches(shown))


def usable_device(device: str) -> str:
    """The device by its name, `auto` resolved. Raises ValueError where it cannot be used."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: {device} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def require_targets(out: Path, plots: str | None, may_be_folder: bool = False) -> None:
    """Raise ValueError where something would be overwritten: the file, or a folder for pictures with content.

    Args:
        out: the file.
        plots: the folder.
        may_be_folder: whether `out` may be an empty folder too.
    """
    if not (may_be_folder and _is_empty_folder(out)):
        require_new(out)
    folder = None if plots is None else user_path(plots)
    if folder is not None and folder.exists() and not _is_empty_folder(folder):
        raise ValueError(f"plots: {plots} exists already and nothing is overwritten")


def require_outside(folder: Path, data: Path, name: str) -> None:
    """Raise ValueError for a folder of pictures inside the folder of images, which would be scored with them next."""
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise ValueError(f"{name} must not lie in data, whose images its pictures would be next time, got {folder}")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _plot(
    folder: Path,
    detector: AnomalyDetector,
    samples: NamedSamples,
    places: Sequence[int],
    scores: NDArray[np.float64],
    threshold: float | None,
    title: str,
) -> list[Path]:
    import numpy as np
    import torch

    from adlightning.callbacks.heatmaps import write_heatmaps
    from adlightning.callbacks.plots import write_plots
    from adlightning.core.metrics import ScoredSamples
    from adlightning.data.window_rows import RowsOfWindows

    x = samples.x
    first = x[places[0]]

    def images(index: NDArray[np.int64]) -> Tensor:
        return torch.stack([x[int(i)] for i in index])

    rows = range(len(scores)) if isinstance(x, RowsOfWindows) else places
    scored = ScoredSamples(scores, np.full(len(scores), -1, dtype=np.int64), np.array(rows))
    written = [] if not isinstance(x, RowsOfWindows) else [_events(folder, x, scores, threshold, title)]
    of_images = first.ndim == 3 and first.dtype == torch.uint8
    written += write_plots(
        folder,
        scored,
        images=images if of_images else None,
        threshold=threshold,
        names=samples.names if isinstance(x, RowsOfWindows) else samples.names_of_x,
        title_prefix=title,
    )
    if of_images:
        about = f"{title}: the most anomalous images, and where"
        written += write_heatmaps(folder / "heatmaps.png", detector, scored, images, samples.names_of_x, about)
    return written


def _events(folder: Path, x: RowsOfWindows, scores: NDArray[np.float64], threshold: float | None, title: str) -> Path:
    import numpy as np

    from adlightning.callbacks.events import events_plot, panels

    shown = panels(x.table, x.table.groups, np.arange(len(scores)), scores[x.table.rows])
    return events_plot(folder / "events.png", shown, threshold, f"{title}: scores over time")


def _threshold(value: float | None, rule: str | None, scoring: Mapping[str, Any]) -> dict[str, Any]:
    """Another threshold as an argument of scores. Raises ValueError for more than one."""
    given = {"threshold": value, "threshold_rule": rule, "set threshold": scoring.get("threshold")}
    if len(names := [name for name, each in given.items() if each is not None]) > 1:
        raise ValueError(f"{' and '.join(names)} each give a threshold: leave one of them out")
    if value is None:
        return {} if rule is None else {"threshold": rule}
    if not math.isfinite(value):
        raise ValueError(f"threshold must be a finite number, got {value}")
    return {"threshold": {"class_path": _FIXED, "init_args": {"value": value}}}


def _scoring(texts: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` as values by name."""
    from adlightning.files.plain_yaml import read_yaml

    scoring = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ValueError(f"set: {text!r} must be KEY=VALUE, such as search.n_steps=20")
        scoring[key] = read_yaml(value, f"set: {key}", key)
    return scoring


def run(arguments: Sequence[str]) -> None:
    """Parse the verb's arguments and score. Standard argparse: the help must not wait for torch."""
    parser = PlainParser(
        prog="adlightning score",
        description="Score your own data with a trained detector: a row a sample with name, score, p-value, verdict.",
    )
    parser.add_argument("--ckpt_path", required=True, help="a checkpoint, or a run folder (best.ckpt, else last.ckpt)")
    parser.add_argument(
        "--data",
        required=True,
        help="a folder of images or of .wav files, one of these, a CSV/TSV/Parquet table, an .npy or .npz",
    )
    parser.add_argument("--out", required=True, help="the CSV file to write; must not exist yet")
    parser.add_argument(
        "--plots",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="also draw the score histogram, grids of the most and least anomalous images and heat maps, "
        "into FOLDER or, without one, into OUT's name + _plots",
    )
    parser.add_argument("--key", help="array of the .npz to score; needed when it holds more than one")
    parser.add_argument("--batch_size", type=int, default=500, help="samples at a time (500); no effect on scores")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument that only scores depend on, in place of the trained one: search.n_steps=20; there are no "
        "verdicts then, since the threshold was fitted to other scores",
    )
    add_reading(parser)
    parser.add_argument("--threshold", type=float, help="scores above it are anomalies, in place of the checkpoint's")
    parser.add_argument(
        "--threshold_rule",
        metavar="CLASS",
        help="another rule, by the held-out scores of the checkpoint: FalsePositiveRate, FalseDiscoveryRate, ...; its "
        "argument by --set threshold.rate=0.01",
    )
    add_import(parser)
    options = vars(parser.parse_args(arguments))
    options["scoring"] = _scoring(options.pop("set"))
    if options["plots"] == "":
        out = user_path(options["out"])
        options["plots"] = str(out.with_name(f"{out.stem}_plots"))
    score(**reading_of(options, "score", arguments))
