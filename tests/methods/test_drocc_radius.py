"""DROCC on one's own data: a radius of the data, steps of its size, and what is said where the negatives win."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import Adam

import adlightning as ad
from adlightning.methods.drocc import chance_loss
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.neighborhood import neighbor_radius

ROWS = np.random.default_rng(0).normal(size=(150, 4))


def test_the_loss_of_chance_by_hand() -> None:
    # mu = 1: the constant logit 0, and 2 ln 2. mu = 3: p = 1/4 for normal, ln 4 + 3 ln 4/3. mu = 0: normals alone, 0
    assert chance_loss(1.0) == pytest.approx(2 * math.log(2))
    assert chance_loss(3.0) == pytest.approx(math.log(4) + 3 * math.log(4 / 3))
    assert chance_loss(0.0) == 0.0


def test_the_radius_of_neighbours_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [4.0, 4.0]])  # nearest others: 1, 1, 1 (no copy), 5
    assert neighbor_radius(x, 0.5) == pytest.approx(1.0)
    assert neighbor_radius(x, 1.0) == pytest.approx(5.0)
    assert neighbor_radius(torch.ones(5, 2)) is None


def test_a_radius_of_the_data_is_that_of_the_preprocessed_training_samples_and_kept() -> None:
    data = ad.Arrays(ROWS, validation_fraction=0.0)
    detector = ad.fit(ad.DROCC(radius="neighbors"), data, max_epochs=1, progress=False).detector
    assert isinstance(detector, ad.DROCC)
    x = detector.preprocess(torch.as_tensor(ROWS, dtype=torch.float32))
    assert detector.shell_radius == pytest.approx(neighbor_radius(x), rel=1e-5)
    assert float(detector.state_dict()["neighbor_radius"]) == pytest.approx(detector.shell_radius)


def test_a_step_may_be_a_share_of_the_radius() -> None:
    assert Ascent(step_size=0.2).step_length(3.0) == 0.2
    assert Ascent(step_size=0.2, step_unit="radius").step_length(3.0) == pytest.approx(0.6)


def run_of(**options: Any) -> tuple[list[str], list[str]]:
    """Warnings that the negatives won, and the notes of what `metrics.json` holds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = ad.fit(ad.DROCC(**options), ad.Arrays(ROWS, ROWS[:20]), max_epochs=3, progress=False)
    notes = [note for note in run.report["notes"] if not note.startswith("the threshold is by")]  # few held-out samples
    return [str(each.message) for each in caught if "the negatives won" in str(each.message)], notes


def test_a_fit_that_ends_above_chance_says_so() -> None:
    said, notes = run_of(radius=1e-3, optimizer=partial(Adam, lr=0.5))  # no net tells points a thousandth apart
    assert len(said) == 1
    assert said[0] in notes


def test_a_fit_that_tells_negatives_apart_says_nothing() -> None:
    assert run_of(radius=20.0, optimizer=partial(Adam, lr=1e-2)) == ([], [])
