"""All checks of a detector at once, or as pytest's cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adlightning.core.contracts import Kind
from adlightning.core.detector import AnomalyDetector
from adlightning.data.modules import AnomalyDataModule
from adlightning.testing.checks import CHECKS
from adlightning.testing.trial import Trial

if TYPE_CHECKING:
    import pytest


def check_detector(
    detector: AnomalyDetector, data: Kind | Callable[[], AnomalyDataModule] = "image", max_epochs: int = 3
) -> None:
    """Run all checks of what a detector promises; about a dozen fits of `max_epochs` epochs on small data.

    Args:
        detector: not trained, with small networks and a first phase shorter than `max_epochs`.
        data: the kind of small data to train on, or what makes a datamodule.
        max_epochs: of a fit.

    Raises:
        AssertionError: the first promise that is broken, in words, with the check's name as a note.

    Example:
        >>> from adlightning.shallow import KDE
        >>> check_detector(KDE(), "table", max_epochs=1)
    """
    trial = Trial(detector, data, max_epochs)
    for check in CHECKS:
        try:
            check(trial)
        except Exception as fault:
            fault.add_note(f"in {check.__name__} of {trial.name}: {(check.__doc__ or '').splitlines()[0]}")
            raise


def parametrize_with_checks(trials: Sequence[Trial]) -> pytest.MarkDecorator:
    """pytest's cases: every check of every trial; a trial is fitted once for all of its checks.

    Example:
        >>> from adlightning.shallow import KDE
        >>> @parametrize_with_checks([Trial(KDE(), "table", max_epochs=1)])
        ... def test_what_every_detector_promises(trial, check):
        ...     check(trial)
    """
    import pytest

    cases = [
        pytest.param(trial, check, id=f"{trial.name}-{check.__name__.removeprefix('check_')}")
        for trial in trials
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("trial", "check"), cases)
