from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.sources import Paradigms


def test_training_knows_some_of_each_kind_and_no_novel_anomaly() -> None:
    data = AnomalyLabelled(Paradigms(), validation_fraction=0.0)
    data.prepare_data()
    data.setup("fit")
    # 2 % of 400 unlabelled samples are anomalies: 8
    assert Counter(data.split.known.tolist()) == {0: 400, 1: 20, -1: 20}
    kinds = Counter(name.split("/")[1] for name in data.train_samples.names)
    assert kinds == {"unlabelled": 400, "normal": 20, "known": 20}
    x, names = data.train_samples.x, np.array([name.split("/")[1] for name in data.train_samples.names])
    assert isinstance(x, Tensor)
    near_known = (x - x[names == "known"].mean(dim=0)).norm(dim=1).numpy() < 0.6
    assert 8 <= near_known[names == "unlabelled"].sum() <= 12  # those, and few normals
    assert data.test_samples.y.tolist() == [0] * 200 + [1] * 400


def test_novel_anomalies_lie_apart_and_draws_depend_on_the_seed_alone() -> None:
    test = Paradigms(n_test=50).load("test")
    assert isinstance(test.x, Tensor)
    kinds = np.array([name.split("/")[1] for name in test.names])
    means = {kind: test.x[kinds == kind].mean(dim=0).tolist() for kind in ("known", "novel")}
    assert means["known"] == pytest.approx([1.3, 1.3], abs=0.1)
    assert means["novel"] == pytest.approx([-1.2, -0.9], abs=0.1)
    again, other = Paradigms(n_unlabelled=5, n_test=50).load("test"), Paradigms(n_test=50, seed=1).load("test")
    assert isinstance(again.x, Tensor)
    assert isinstance(other.x, Tensor)
    assert test.x.equal(again.x)
    assert not test.x.equal(other.x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_unlabelled": 0}, "n_unlabelled must be at least 1, got 0"),
        ({"n_known_normals": -1}, "n_known_normals must be at least 0, got -1"),
        ({"contamination": 1.0}, r"contamination must lie in \[0, 1\), got 1.0"),
    ],
)
def test_arguments_outside_their_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Paradigms(**options)
