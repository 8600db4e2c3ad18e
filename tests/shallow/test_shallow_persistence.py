"""Estimators in checkpoints: what is refused, and that reading runs nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from refusals import Touch
from shallow_cases import DETECTORS, fit, make, raw_test_input, table, table_for
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from skops import io as skops
from torch import Tensor

from adlightning.checkpoints.loading import load_detector
from adlightning.shallow.kernel import GaussianKDE, KernelExpansion
from adlightning.shallow.persistence import from_bytes, to_bytes
from adlightning.shallow.rebuilding import RECIPES


def as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def hostile_checkpoint(make_trainer: MakeTrainer, path: Path, name: str, estimator: Any) -> None:
    """A detector's checkpoint with another estimator in it."""
    detector = make(name)
    fit(make_trainer, detector, table()).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["adlightning"]["estimator"] = estimator
    torch.save(checkpoint, path)


class Unknown:
    def __init__(self) -> None:
        self.x = 1


@pytest.mark.parametrize(("content", "named"), [(Unknown(), "Unknown"), ({"call": Path.touch}, "touch")])
def test_unknown_types_are_refused_by_name(
    make_trainer: MakeTrainer, tmp_path: Path, content: object, named: str
) -> None:
    path = tmp_path / "hostile.ckpt"
    hostile_checkpoint(make_trainer, path, "kde", as_tensor(skops.dumps(content)))
    with pytest.raises(ValueError, match=f"types that are never loaded: .*{named}"):
        load_detector(path)


def test_pickles_are_refused_and_run_nothing(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path, target = tmp_path / "hostile.ckpt", tmp_path / "was_run"
    hostile_checkpoint(make_trainer, path, "kde", as_tensor(pickle.dumps(Touch(target))))
    with pytest.raises(ValueError, match="damaged or refused"):
        load_detector(path)
    assert not target.exists()


def test_an_estimator_of_another_kind_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    other = GaussianMixture(2, random_state=0).fit(np.random.default_rng(0).normal(size=(20, 6)))
    hostile_checkpoint(make_trainer, path, "kde", to_bytes(other))
    with pytest.raises(ValueError, match=r"never loaded: sklearn\.mixture.*\.GaussianMixture"):
        load_detector(path)


@pytest.mark.parametrize(
    ("coefficients", "rho", "words"),
    [
        ([1.0, 1.0], 0.0, "rho must be positive, got 0.0"),
        ([1.0, -1.0], 1.0, "coefficients must be positive, got -1.0"),
    ],
)
def test_a_sum_of_kernels_without_logarithm_is_refused(
    make_trainer: MakeTrainer, tmp_path: Path, coefficients: list[float], rho: float, words: str
) -> None:
    path = tmp_path / "other.ckpt"
    other = KernelExpansion(np.ones((len(coefficients), 6)), np.array(coefficients, dtype=np.float64), rho, 1.0)
    hostile_checkpoint(make_trainer, path, "ocsvm", to_bytes(other))
    with pytest.raises(ValueError, match=f"its estimator's {words}"):
        load_detector(path)


@pytest.mark.parametrize("data", ["text", torch.zeros(3)])
def test_what_is_no_bytes_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match="must be a tensor of bytes"):
        from_bytes(data, GaussianKDE, 3)


def test_truncated_bytes_are_refused() -> None:
    data = to_bytes(GaussianKDE(np.zeros((2, 3)), 1.0))
    assert from_bytes(data, GaussianKDE, 3).bandwidth == 1.0
    with pytest.raises(ValueError, match="damaged"):
        from_bytes(data[: len(data) // 2], GaussianKDE, 3)


@pytest.mark.parametrize(
    "estimator",
    [
        KernelExpansion("x", np.zeros(2), 0.0, 1.0),  # type: ignore[arg-type]
        KernelExpansion(np.zeros((2, 3)), np.zeros(3), 0.0, 1.0),
        KernelExpansion(np.zeros((2, 3)), np.zeros(2), [1], None),  # type: ignore[arg-type]
        KernelExpansion(np.zeros((2, 3), dtype=int), np.zeros(2), 0.0, None),
    ],
)
def test_values_that_do_not_fit_together_are_refused(estimator: KernelExpansion) -> None:
    fine = KernelExpansion(np.zeros((2, 3)), np.zeros(2), 0.0, None)
    assert from_bytes(to_bytes(fine), KernelExpansion, 3).gamma is None
    with pytest.raises(ValueError, match=r"its (vectors|coefficients|rho) must"):
        from_bytes(to_bytes(estimator), KernelExpansion, 3)


def test_a_whole_number_is_a_number() -> None:
    assert from_bytes(to_bytes(GaussianKDE(np.zeros((2, 3)), 1)), GaussianKDE, 3).bandwidth == 1


def test_an_unfitted_estimator_is_refused() -> None:
    with pytest.raises(ValueError, match="damaged or refused"):
        from_bytes(to_bytes(IsolationForest()), IsolationForest, 3)


def test_trees_that_lead_nowhere_are_refused() -> None:
    forest = IsolationForest(n_estimators=2, random_state=0).fit(np.random.default_rng(0).normal(size=(30, 3)))
    assert isinstance(from_bytes(to_bytes(forest), IsolationForest, 3), IsolationForest)
    for name, value in (("left_child", 10**6), ("right_child", 0), ("feature", 99)):
        tree = forest.estimators_[0].tree_
        state = tree.__getstate__()
        nodes = state["nodes"].copy()
        nodes[name][0] = value
        hostile = type(tree)(3, np.array([1], dtype=np.intp), 1)
        hostile.__setstate__({**state, "nodes": nodes})
        broken = IsolationForest(n_estimators=2, random_state=0).fit(np.random.default_rng(0).normal(size=(30, 3)))
        broken.estimators_[0].tree_ = hostile
        with pytest.raises(ValueError, match="its indices lead nowhere"):
            from_bytes(to_bytes(broken), IsolationForest, 3)


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_read_scores_as_what_was_written(make_trainer: MakeTrainer, name: str) -> None:
    detector = make(name)
    data = table_for(name)
    fit(make_trainer, detector, data)
    x = raw_test_input(data)
    before, training = detector.anomaly_score(x), detector.training_scores()
    once = to_bytes(detector.estimator)
    detector.estimator = from_bytes(once, detector.estimator_type, detector.feature_map.size)
    assert torch.equal(detector.anomaly_score(x), before)
    twice = from_bytes(to_bytes(detector.estimator), detector.estimator_type, detector.feature_map.size)
    detector.estimator = twice
    assert torch.equal(detector.anomaly_score(x), before)
    assert training is None or np.array_equal(detector.training_scores(), training)


def test_every_estimator_has_its_own_list_of_types() -> None:
    assert {cls.estimator_type for cls, _ in DETECTORS.values()} == set(RECIPES)
    lists = [recipe.kinds for recipe in RECIPES.values()]
    assert sum(map(len, lists)) == len(frozenset().union(*lists))
