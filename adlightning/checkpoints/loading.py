"""Checkpoints from outside: reading them without running code in them, and detectors from them alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from adlightning.checkpoints.checks import check_container, check_content, check_fit
from adlightning.core.contracts import saved_part
from adlightning.core.detector import AnomalyDetector
from adlightning.core.memory import lacks_memory
from adlightning.core.messages import for_terminal
from adlightning.core.parts import described, known_class
from adlightning.core.rescoring import differences, require_known_threshold, take_other_scores, with_scoring
from adlightning.core.saved_arguments import rebuilt_arguments
from adlightning.core.scoring import without_scores
from adlightning.files.disk import user_path

LAST, BEFORE_LAST, BEST = "last.ckpt", "last-before.ckpt", "best.ckpt"
"""Names of the last whole epoch's checkpoint, of the one before it, and of the one that a metric selected."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, without running any code in it.

    Args:
        path: a `.ckpt` file or a run folder (its best checkpoint where one was selected, else its last).

    Raises:
        ValueError: missing, truncated, not a detector's, holding pickled objects (which are never loaded), or values
            that are not those of a detector of its class; more memory than the file's own size is not needed to tell.
    """
    file = checkpoint_file(path)
    words = f"ckpt_path: {file} is truncated, corrupt or holds pickled objects: refused"
    with file.open("rb") as opened:  # once: what is read is what was checked
        try:
            check_container(opened)
        except ValueError as error:
            raise ValueError(f"{words}; {error}") from None
        opened.seek(0)
        try:
            checkpoint = torch.load(opened, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen types for a broken or hostile file; all mean the same here
            if lacks_memory(error):
                raise
            raise ValueError(words) from error
    try:
        saved = saved_part(checkpoint)
        check_content(checkpoint, file.stat().st_size)
        check_fit(known_class("class", saved["class"], AnomalyDetector), checkpoint)
    except ValueError as error:
        raise ValueError(f"ckpt_path: {file} is refused: {for_terminal(str(error))}") from None
    return dict(checkpoint)


def checkpoint_file(path: str | Path, prefer: Literal["best", "last"] = "best") -> Path:
    """The checkpoint that a path means: the file itself, or a run folder's `best.ckpt`, else its last one.

    The last one is `last.ckpt` or, with a warning, `last-before.ckpt` where that is missing or broken.

    Args:
        path: a file or a run folder.
        prefer: `last` to go on with a fit.

    Raises:
        ValueError: there is none, or none that can be read.
    """
    path = user_path(path)
    if path.is_file():
        return path
    if path.name == LAST and (path.parent / BEFORE_LAST).is_file():
        return _last_whole(path.parent)
    for folder in (path / "checkpoints", path):
        if prefer == "best" and (folder / BEST).is_file():
            return folder / BEST
        if (folder / LAST).is_file() or (folder / BEFORE_LAST).is_file():
            return _last_whole(folder)
    raise ValueError(f"ckpt_path: no checkpoint at {path} (a .ckpt file, or a run folder with checkpoints/{LAST})")


def _last_whole(folder: Path) -> Path:
    last, before = folder / LAST, folder / BEFORE_LAST
    try:
        if not last.is_file():
            raise ValueError(f"ckpt_path: there is no {last}")
        read_checkpoint(last)
        return last
    except ValueError as error:
        if not before.is_file():
            raise
        try:
            read_checkpoint(before)
        except ValueError:
            if last.is_file():
                raise error from None  # the user knows this file, and often both are refused for one reason
            raise
        warnings.warn(f"{error}; going on from the epoch before, {before}", stacklevel=3)
        return before


def was_killed_while_saving(run_dir: Path) -> bool:
    """Whether a run's `last.ckpt` is not there any more, and the one before is."""
    folder = run_dir / "checkpoints"
    return (folder / BEFORE_LAST).is_file() and not (folder / LAST).exists()


def load_detector(
    path: str | Path,
    device: str | torch.device = "cpu",
    unfinished: bool = False,
    scoring: Mapping[str, Any] | None = None,
) -> AnomalyDetector:
    """A whole detector from its checkpoint alone, in eval mode.

    Classes of ours are imported as they are named. Nobody else's is: import your own detectors and parts first.

    Args:
        path: a `.ckpt` file, or a run folder (its best checkpoint where one was selected, else its last).
        device: where it goes.
        unfinished: take also a detector that gives no scores or verdicts yet, to look at or to go on with.
        scoring: arguments that only its scores depend on, in place of those that it was trained with, such as
            `{"search.n_steps": 20}` for ADGAN: its class has them as `scoring_arguments`, and each has `threshold`. The
            threshold belongs to other scores then: a trainer's test fits one, and before it there are no verdicts.

    Raises:
        ValueError: as :func:`read_checkpoint`, a class that is not known, content that does not fit it, an argument in
            `scoring` that there is not or that training depends on, or a checkpoint that was saved before its detector
            could score: in pre-training, or before it had a threshold.
    """
    checkpoint = read_checkpoint(path)
    saved = checkpoint["adlightning"]
    trained = saved["hyperparameters"]
    if scoring:
        given = with_scoring(known_class("class", saved["class"], AnomalyDetector), trained, scoring)
        _require_arguments(saved["class"], trained, given, scoring)
    else:
        given = trained
    try:
        cls = known_class("class", saved["class"], AnomalyDetector)
        detector: AnomalyDetector = cls(**rebuilt_arguments(cls, given))
        detector.on_load_checkpoint(checkpoint)
        detector.load_state_dict(checkpoint["state_dict"])
    except ValueError as error:
        raise ValueError(f"ckpt_path: {path}: {for_terminal(str(error))}") from error
    except (RuntimeError, TypeError, KeyError) as error:
        if lacks_memory(error):
            raise
        words = f"ckpt_path: the content of {path} does not fit a {saved['class']}"
        raise ValueError(f"{words}: {for_terminal(str(error))}") from error
    take_other_scores(detector, list(differences(trained, described(detector.arguments))) if scoring else [])
    require_known_threshold(detector)
    if not unfinished and (reason := without_scores(detector)):
        raise ValueError(f"ckpt_path: {path} was saved before its detector could score: {reason}")
    return detector.to(device).eval()


def _require_arguments(name: str, trained: Mapping[str, Any], given: Mapping[str, Any], chosen: Iterable[str]) -> None:
    """Raise ValueError for arguments that are not as they should be, by those that were chosen anew."""
    cls = known_class("class", name, AnomalyDetector)
    try:
        cls(**rebuilt_arguments(cls, given))
    except ValueError as error:
        try:
            cls(**rebuilt_arguments(cls, trained))
        except ValueError:
            return  # the file is at fault, which is said of it
        raise ValueError(f"{', '.join(chosen)} cannot be chosen when scoring: {for_terminal(str(error))}") from error
