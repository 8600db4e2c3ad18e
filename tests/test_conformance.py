"""What every detector promises, by every method of ours; and that a broken promise is found."""

from __future__ import annotations

from collections.abc import Callable

from small_detectors import TRIALS

from adlightning import methods, shallow
from adlightning.testing import Trial, parametrize_with_checks


@parametrize_with_checks(list(TRIALS.values()))
def test_what_every_detector_promises(trial: Trial, check: Callable[[Trial], None]) -> None:
    check(trial)


def test_every_method_is_on_trial() -> None:
    tried = {type(trial.given).__name__ for trial in TRIALS.values()}
    assert {*methods.__all__} <= tried
    assert {name for name in shallow.__all__ if name in tried} == {t.__name__ for t in _concrete_shallow()}


def _concrete_shallow() -> list[type]:
    found = [getattr(shallow, name) for name in shallow.__all__]
    return [cls for cls in found if isinstance(cls, type) and not getattr(cls, "__abstractmethods__", None)]
