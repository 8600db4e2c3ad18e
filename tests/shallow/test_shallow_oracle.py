"""Selection on test data: what it chooses, what it records, and that nothing else reads test labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from numpy.typing import NDArray
from shallow_cases import fit, make, raw_test_input, table

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import EvalBatch
from adlightning.core.metrics import ranking_metrics
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.sources.base import Part, Samples
from adlightning.preprocessing import Identity
from adlightning.shallow.features import PCAFeatures
from adlightning.shallow.oracle import OracleSet, candidates, choose, stratified_part
from adlightning.testing import Blobs


def test_the_part_is_a_stratified_tenth_with_both_classes() -> None:
    labels = np.repeat([0, 1], [200, 30])
    part = stratified_part(labels, seed=0)
    assert len(np.unique(part)) == len(part) == 23
    assert labels[part].sum() == 3
    assert np.array_equal(part, stratified_part(labels, seed=0))
    assert not np.array_equal(part, stratified_part(labels, seed=1))
    assert 2 in stratified_part(np.array([0, 0, 1]), seed=0)


def test_candidates_are_every_combination() -> None:
    assert candidates({"a": [1, 2], "b": [3]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
    assert candidates({}) == [{}]


@pytest.mark.parametrize("workers", [1, 3])
def test_inner_values_are_chosen_on_the_part_and_outer_ones_on_all(workers: int) -> None:
    labels = np.array([0, 1, 0, 1])
    part = np.array([0, 1])
    # scores of the four samples by (outer, inner): on the part inner 1 always wins, on all outer 1 does
    values: dict[tuple[int, int], list[float]] = {
        (0, 0): [1, 0, 0, 1],
        (0, 1): [0, 1, 1, 0],
        (1, 0): [1, 0, 0, 9],
        (1, 1): [0, 1, 0, 1],
        (2, 0): [1, 0, 0, 1],
        (2, 1): [0, 1, 0, 1],
    }
    fitted: list[dict[str, Any]] = []

    def fit_one(choice: dict[str, Any]) -> tuple[int, int]:
        fitted.append(choice)
        return choice["nu"], choice["gamma"]

    def score(estimator: tuple[int, int], choice: dict[str, Any], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray([values[estimator][int(row)] for row in rows[:, 0]], dtype=np.float64)

    test = OracleSet(np.arange(4.0)[:, None], labels, part)
    best = choose(fit_one, score, {"nu": [0, 1, 2]}, {"gamma": [0, 1]}, test, workers)
    assert best == ((1, 1), {"nu": 1, "gamma": 1})
    assert len(fitted) == 6


@pytest.mark.parametrize(
    ("name", "options", "chosen"),
    [
        ("ocsvm", {"gammas": [1e-3, 0.1, 1e5], "nus": [0.05, 0.5]}, {"gamma", "nu"}),
        ("linear_ocsvm", {"nus": [0.05, 0.5]}, {"nu"}),
        ("ssad", {"gammas": [1e-3, 0.1, 1e5]}, {"gamma"}),
        ("kde", {"features": PCAFeatures(components=[1, 3, 5])}, {"features.components", "bandwidth"}),
        ("gmm", {"features": PCAFeatures(components=[1, 3])}, {"features.components", "n_components"}),
    ],
)
def test_a_choice_is_of_the_grid_recorded_and_in_the_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path, name: str, options: dict[str, Any], chosen: set[str]
) -> None:
    detector, data = make(name, selection="oracle", **options), table()
    trainer = fit(make_trainer, detector, data)
    assert detector.selection == "oracle"
    record = detector.training_record["chosen"]
    assert set(record) == chosen
    for argument in {"gamma", "nu"} & chosen:
        assert record[argument] in options[f"{argument}s"]
    if "features.components" in chosen:
        assert record["features.components"] in options["features"].components
    trainer.save_checkpoint(tmp_path / "d.ckpt")
    loaded, x = load_detector(tmp_path / "d.ckpt"), raw_test_input(data)
    assert loaded.selection == "oracle"
    assert loaded.training_record["chosen"] == record
    assert torch.equal(loaded.anomaly_score(x), detector.anomaly_score(x))


def test_the_choice_is_the_best_of_its_grid_on_the_test_set(make_trainer: MakeTrainer) -> None:
    def auroc(**options: Any) -> float:
        detector, data = make("linear_ocsvm", **options), table()
        fit(make_trainer, detector, data)
        scores = detector.anomaly_score(raw_test_input(data)).double().numpy()
        return ranking_metrics(scores, data.split.test_labels)["auroc"]

    nus = [0.01, 0.2, 0.9]
    alone = [auroc(nu=nu) for nu in nus]
    assert min(alone) < max(alone)
    assert auroc(selection="oracle", nus=nus) == max(alone)


class _Ring(Blobs):
    """Normal samples on a circle, anomalies in its middle, where a wide kernel has most of its sum."""

    def load(self, part: Part) -> Samples | None:
        if (samples := super().load(part)) is None:
            return None
        angle = torch.linspace(0, 6.28, len(samples.y))
        radius = 0.1 + 0.9 * torch.from_numpy(samples.y == 0)
        x = torch.zeros(len(samples.y), 6)
        x[:, 0], x[:, 1] = radius * angle.cos(), radius * angle.sin()
        return Samples(x, samples.y, samples.names)


@pytest.mark.parametrize("gammas", [[1e-3, 5.0], [5.0, 1e-3]])
def test_gamma_comes_from_the_grid_by_its_rank_on_the_part(make_trainer: MakeTrainer, gammas: list[float]) -> None:
    detector = make("ocsvm", selection="oracle", gammas=gammas, nus=[0.1], preprocessing=Identity)
    fit(make_trainer, detector, AnomalyLabelled(_Ring(), batch_size=32, seed=0))
    assert detector.training_record["chosen"] == {"gamma": 5.0, "nu": 0.1}


class _NoTestData(AnomalyLabelled):
    def oracle_batches(self, device: torch.device) -> Iterator[EvalBatch]:
        raise AssertionError("test data were read")


@pytest.mark.parametrize("name", ["ocsvm", "ssad", "kde"])
def test_without_oracle_no_test_data_are_read_in_a_fit(make_trainer: MakeTrainer, name: str) -> None:
    detector = make(name)
    fit(make_trainer, detector, _NoTestData(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0))
    assert detector.selection == "none"
    assert detector.ready_to_score()


class _OneClass(Blobs):
    """A test part of normal samples only."""

    def load(self, part: Part) -> Samples | None:
        samples = super().load("train")
        assert samples is not None
        if part == "train":
            return samples
        rows = np.flatnonzero(samples.y == 0)
        assert isinstance(samples.x, torch.Tensor)
        return Samples(samples.x[torch.from_numpy(rows)], samples.y[rows], tuple(f"test/{i}" for i in rows))


def test_a_test_set_that_ranks_nothing_is_refused_before_training(make_trainer: MakeTrainer) -> None:
    detector = make("ocsvm", selection="oracle")
    data = AnomalyLabelled(_OneClass(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)
    with pytest.raises(ValueError, match=r"selection: oracle needs labelled .* classes, there are no anomalies"):
        fit(make_trainer, detector, data)
    assert not detector.ready_to_score()
