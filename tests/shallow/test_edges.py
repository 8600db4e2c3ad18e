"""What a search chose at an end of its values is said: by a warning, and in metrics.json."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import adlightning as ad
from adlightning.core.detector import AnomalyDetector
from adlightning.shallow.base import edge_words
from adlightning.shallow.kde import cross_validated_bandwidth
from adlightning.shallow.kernel import gamma_of, scale_gamma

ROWS = np.random.default_rng(0).normal(size=(120, 2))
TEST = np.concatenate([ROWS[:20] + 0.1, ROWS[:5] + 6])
LABELS = np.repeat([0, 1], [20, 5])


@pytest.mark.parametrize(
    ("value", "values", "said"),
    [
        (0.5, (0.5, 1.0, 2.0), "h 0.5 is the least of the values that it was chosen from, 0.5 to 2: give smaller"),
        (2.0, (2.0, 0.5, 1.0), "h 2 is the largest of the values that it was chosen from, 0.5 to 2: give larger"),
        (1.0, (0.5, 1.0, 2.0), None),
        (1.0, (1.0,), None),
    ],
    ids=["least", "largest", "within", "alone"],
)
def test_an_end_is_said(value: float, values: Sequence[float], said: str | None) -> None:
    words = edge_words("h", value, values, "hs")
    assert words is None if said is None else str(words).startswith(said) and str(words).endswith("model.hs")


def fitted(detector: AnomalyDetector, known: Any = None) -> tuple[list[str], list[str]]:
    """Warnings of edges, and the notes of what `metrics.json` holds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = ad.fit(detector, ad.Arrays(ROWS, TEST, LABELS, known=known), progress=False)
    notes = [note for note in run.report["notes"] if not note.startswith("the threshold is by")]  # few held-out samples
    return [str(each.message) for each in caught if "chosen from" in str(each.message)], notes


@pytest.mark.parametrize(
    ("bandwidths", "words"),
    [
        ((0.001, 0.002), "bandwidth 0.002 is the largest of the values"),
        ((50.0, 100.0), "bandwidth 50 is the least of the values"),
    ],
)
def test_a_bandwidth_at_an_end_of_its_grid_is_said(bandwidths: tuple[float, ...], words: str) -> None:
    said, notes = fitted(ad.KDE(bandwidths=bandwidths))
    assert len(said) == 1
    assert said[0].startswith(words)
    assert said[0].endswith("by model.bandwidths")
    assert said[0] in notes


def test_a_bandwidth_within_its_grid_and_one_that_is_given_are_not_worth_a_word() -> None:
    assert fitted(ad.KDE()) == ([], [])
    assert fitted(ad.KDE(bandwidth=0.001)) == ([], [])


def test_an_oracle_s_gamma_and_nu_are_said_too() -> None:
    said, notes = fitted(ad.OCSVM(selection="oracle", gammas=[1e-6, 1e-5], nus=[0.1, 0.2]))
    assert any(words.startswith("gamma 1e-0") and words.endswith("model.gammas") for words in said)
    assert any(words.startswith("nu 0.") and words.endswith("model.nus") for words in said)
    assert set(said) <= set(notes)


@pytest.mark.parametrize("cls", [ad.KernelKLIEP, ad.KernelULSIF])
def test_a_kernel_ratio_s_bandwidth_is_said_by_its_factors(cls: Any) -> None:
    known = np.repeat([1, 0], 60)
    said, notes = fitted(cls(bandwidth_factors=(20.0, 30.0)), known)
    assert sum(words.startswith("bandwidth ") and words.endswith("model.bandwidth_factors") for words in said) == 1
    assert set(said) <= set(notes)


def test_fewer_held_out_samples_choose_a_bandwidth_of_the_same_order() -> None:
    grid = [2.0**exponent for exponent in range(-4, 4)]
    whole, part = (cross_validated_bandwidth(ROWS, grid, 5, 0, n) for n in (None, 50))
    assert abs(math.log2(whole / part)) <= 1
    assert whole == cross_validated_bandwidth(ROWS, grid, 5, 0, len(ROWS))


def test_narrow_is_ten_times_scale() -> None:
    x = np.array([[0.0, 2.0], [0.0, 2.0]])  # of variance 1 over all values, two columns: scale is 1 / 2
    assert (scale_gamma(x), gamma_of("scale", x), gamma_of("narrow", x), gamma_of(3.0, x)) == (0.5, 0.5, 5.0, 3.0)
