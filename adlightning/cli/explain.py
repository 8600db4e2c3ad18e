"""The `explain` verb: which columns of a table, steps of a series or places of an image make a sample's score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adlightning.cli.before_score import add_reading, reading_of
from adlightning.cli.imports import add_import
from adlightning.cli.plain_parser import PlainParser
from adlightning.cli.score import require_outside, require_targets, skipped_in_words, usable_device, with_names
from adlightning.core.terminal import say
from adlightning.data.named_samples import OnBad
from adlightning.data.own_samples import read_samples
from adlightning.files.dialects import Given, Header
from adlightning.files.disk import make_folder, remove_made, require_new, user_path, write_new

if TYPE_CHECKING:
    from adlightning.core.attribution import Attributions
    from adlightning.core.contracts import InputSpec
    from adlightning.core.encoding import Columns

N_REASONS = 3
"""Columns that are named in words."""

N_DRAWN = 20
"""Samples of a table or series that are drawn where nobody says how many."""


def explain(
    ckpt_path: str,
    data: str,
    out: str,
    plots: str | None = None,
    top: int | None = None,
    key: str | None = None,
    batch_size: int = 100,
    device: str = "auto",
    separator: str = "auto",
    decimal: str = "auto",
    encoding: str = "auto",
    header: Header = "auto",
    on_bad: OnBad = "refuse",
    drop_columns: Sequence[str] = (),
) -> None:
    """Say for each sample what its score is made of.

    Of a table or series it is told against the median of the normal training samples. A row has name, score, p-value,
    verdict, the three values that add most in words, and what each column adds; of a series, what each time step adds.
    Of images `out` is a folder, with a heat map over each of the most anomalous ones, a table and an HTML page.

    Args:
        ckpt_path: a checkpoint, or a run folder (its best.ckpt, else its last.ckpt).
        data: a CSV/TSV/Parquet table, a folder of images, an image, an .npy or .npz.
        out: the CSV file to write, which must not exist yet; of images the folder, which must be new or empty.
        plots: folder for a picture of each of the most anomalous samples of a table or series.
        top: so many of them; by default 20, and of images those above the threshold.
        key: array of the .npz; needed when it holds more than one.
        batch_size: samples at a time.
        device: cpu, cuda, cuda:1, mps, or auto.
        separator: what stands between values of a table of text; this and the next three as in `TableData`.
        decimal: what stands in its numbers.
        encoding: of its text.
        header: whether its first row names the columns.
        on_bad: what to do with rows that cannot be scored: `refuse` all of the data, or `skip` these.
        drop_columns: columns of a table that are no features, and that the detector does not know.

    Raises:
        ValueError: an argument outside its range, input that does not fit, or captum is missing.
    """
    import pandas as pd
    from rich.progress import track

    from adlightning.callbacks.attributions import write_attributions
    from adlightning.callbacks.description import judged
    from adlightning.checkpoints.loading import load_detector
    from adlightning.core.attribution import COMPLETE, attribute

    target = user_path(out)
    require_targets(target, plots, may_be_folder=True)
    for name, value in (("batch_size", batch_size), ("top", top)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    detector = load_detector(ckpt_path, usable_device(device))
    written = Given(separator, decimal, encoding, header)
    of_images = detector.built_for.kind == "image"
    if of_images and plots is not None:
        raise ValueError(f"plots must be left out for images, whose pictures are in out, got {plots}")
    if not of_images:
        require_new(target)
    else:
        require_outside(target, user_path(data), "out")
    samples = read_samples(user_path(data), detector.built_for, key, written, on_bad, drop_columns)
    if of_images:
        from adlightning.cli.explain_images import explain_images

        return explain_images(detector, samples, target, data, top, batch_size)
    shown = track(samples.spans(batch_size), description="explaining", transient=True)
    found = attribute(detector, samples.batches(shown))
    raw = next(samples.batches([range(len(samples.x))])).double().numpy()
    names = names_of_values(detector.built_for)
    said = [in_words(found, raw, names, row, detector.built_for.columns) for row in range(len(raw))]
    adds = found.values.sum(axis=2) if found.values.ndim == 3 else found.values
    of_rows = samples.own_names is not None  # which are judged, and not the windows that are explained
    verdicts = {} if of_rows else judged(found.scores, detector)
    frame = pd.DataFrame({"score": found.scores, **verdicts, "because": said})
    columns = [f"adds {name}" for name in columns_of(detector.built_for)]
    frame = pd.concat([frame, pd.DataFrame(adds, columns=columns)], axis=1)
    own_names = list(samples.own_names or samples.names_of_x)
    if not of_rows:
        frame = with_names(frame.set_axis(samples.scored_rows), samples)
    else:
        frame.insert(0, "name", own_names)
    write_new(target, frame.to_csv(index=False, float_format="%.9g"))
    if not found.complete:
        jumps = detector.built_for.columns is not None and detector.built_for.columns.jump
        what = "input with categories or missing values" if jumps else f"the score of a {type(detector).__name__}"
        say(
            f"by exchange: {what} has no gradient, so a column adds what the score "
            "loses when its value becomes the median normal one; these need not add up to the score"
        )
    elif missed := int((found.missed() > 2 * COMPLETE).sum()):
        words = f"of {missed} of {len(raw)} samples miss the difference of the scores by more than {2 * COMPLETE:.0%}"
        say(f"integrated gradients {words}")
    say(f"the median normal sample has the score {found.baseline_score:.6g}")
    if of_rows:
        say("p-values and verdicts are of rows, and what is explained are windows: `score` has them")
    if samples.skipped:
        say(skipped_in_words(samples))
    say(f"reasons: {target}")
    if plots is not None:
        made = make_folder(user_path(plots))
        try:
            paths = write_attributions(
                user_path(plots), found, raw, own_names, names, top or N_DRAWN, detector.built_for.columns
            )
            say(f"plots: {len(paths)} in {plots}")
        finally:
            remove_made(made)  # where nothing could be drawn


def columns_of(spec: InputSpec) -> list[str]:
    """Names of the columns of a table, or of the steps of a series."""
    if spec.kind == "series":
        return [f"step {step}" for step in range(spec.shape[0])]
    return list(spec.features) or [f"feature {column}" for column in range(spec.shape[0])]


def names_of_values(spec: InputSpec) -> list[str]:
    """Names of all values of a sample, flat."""
    if spec.kind != "series":
        return columns_of(spec)
    steps, channels = spec.shape
    heads = list(spec.features) or [f"channel {channel}" for channel in range(channels)]
    alone = channels == 1 and not spec.features
    return [f"step {step}" if alone else f"{head} at step {step}" for step in range(steps) for head in heads]


def in_words(found: Attributions, raw: object, names: Sequence[str], row: int, columns: Columns | None = None) -> str:
    """The values that add most to a sample's score: `mass = 9.1 (normally 2.3): +4.7; ...`."""
    import numpy as np

    from adlightning.callbacks.attributions import beside_the_median

    adds, values = found.values[row].ravel(), np.asarray(raw)[row].ravel()
    most = [i for i in np.argsort(-adds, kind="stable")[:N_REASONS] if adds[i] > 0]
    median = found.baseline.ravel()

    said = {i: beside_the_median(values[i], median[i], i, names[i], columns) for i in most}
    return "; ".join(f"{names[i]} = {own} (normally {usual}): +{adds[i]:.3g}" for i, (own, usual) in said.items())


def run(arguments: Sequence[str]) -> None:
    """Parse the verb's arguments and explain. Standard argparse: the help must not wait for torch."""
    parser = PlainParser(
        prog="adlightning explain",
        description="Say which columns of a table, time steps of a series, or places of an image make the score of "
        "each of your samples.",
    )
    parser.add_argument("--ckpt_path", required=True, help="a checkpoint, or a run folder (best.ckpt, else last.ckpt)")
    parser.add_argument("--data", required=True, help="a CSV/TSV/Parquet table, a folder of images, an .npy or .npz")
    parser.add_argument(
        "--out",
        required=True,
        help="the CSV file to write, which must not exist yet; of images a folder for pictures, reasons.csv and "
        "index.html, new or empty",
    )
    parser.add_argument(
        "--plots",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="also draw the most anomalous samples of a table or series, a picture each, into FOLDER or, without one, "
        "OUT's name + _plots",
    )
    parser.add_argument("--top", type=int, help="how many are drawn (20; of images, those above the threshold)")
    parser.add_argument("--key", help="array of the .npz; needed when it holds more than one")
    parser.add_argument("--batch_size", type=int, default=100, help="samples at a time (100)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto")
    add_reading(parser)
    add_import(parser)
    options = vars(parser.parse_args(arguments))
    if options["plots"] == "":
        out = user_path(options["out"])
        options["plots"] = str(Path(out).with_name(f"{out.stem}_plots"))
    explain(**reading_of(options, "explain", arguments))
