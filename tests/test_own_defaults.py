"""A detector built without arguments is, on a table, what `configs/METHOD/table.yaml` is (docs/defaults.md)."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from class_defaults import class_named, with_defaults

import adlightning as ad
from adlightning.core.contracts import InputSpec
from adlightning.core.detector import AnomalyDetector
from adlightning.sklearn import Detector

ROOT = Path(__file__).parents[1]
OTHERWISE = {
    "ss_dgm": "its Bernoulli likelihood needs features in [0, 1], and its paper's networks are an experiment's",
    "stacked_ss_dgm": "as ss_dgm",
}
"""Methods whose table config says more than the class does, and why."""
METHODS = [file.parent.name for file in sorted((ROOT / "configs").glob("*/table.yaml"))]
ROWS = np.random.default_rng(0).normal(size=(150, 5))


def config_of(method: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / f"configs/{method}/table.yaml").read_text("utf-8"))
    return content


@pytest.mark.parametrize("method", [name for name in METHODS if name not in OTHERWISE])
def test_a_table_config_says_what_its_class_does_by_itself(method: str) -> None:
    config = config_of(method)
    stated = with_defaults(config["model"], AnomalyDetector)["init_args"]
    own = with_defaults({"class_path": config["model"]["class_path"]}, AnomalyDetector)["init_args"]
    suited = {"encoder", "preprocessing", "energy", "estimation"}  # null takes what suits; networks are compared below
    assert {name for name in own if stated[name] != own[name]} <= suited
    cls = class_named(config["model"]["class_path"], AnomalyDetector)
    epochs = config["trainer"]["max_epochs"]  # one where nothing is trained by gradient: a fit ends by itself
    assert epochs in (1, signature(ad.fit).parameters["max_epochs"].default)
    data = with_defaults(config["data"])["init_args"]
    arrays = signature(ad.Arrays).parameters
    assert all(data[name] == arrays[name].default for name in ("batch_size", "validation_fraction", "drop_last"))

    built = []
    for detector in (cls(), ad.experiment(f"{method}/table", {"data.path": "rows.csv"}).detector):
        torch.manual_seed(0)
        detector.configure_for(InputSpec("table", (5,), "rows"))
        built.append(detector)
    first, second = (detector.state_dict() for detector in built)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) or first[name].isnan().all() for name in first)
    assert str(built[0].preprocess) == str(built[1].preprocess)


def test_config_class_and_scikit_learn_estimator_give_the_same_scores() -> None:
    seed = int(np.random.RandomState(3).randint(np.iinfo(np.int32).max))  # what Detector makes of random_state
    made = ad.experiment("deep_svdd/table", {"data.path": "rows.csv"})
    data = ad.Arrays(ROWS, batch_size=made.data.batch_size, validation_fraction=made.data.validation_fraction)
    of_config = ad.fit(made.detector, data, max_epochs=3, seed=seed, progress=False).detector
    of_class = ad.fit(ad.DeepSVDD(), ad.Arrays(ROWS), max_epochs=3, seed=seed, progress=False).detector
    of_sklearn = Detector(method="DeepSVDD", max_epochs=3, random_state=3).fit(ROWS)
    assert np.array_equal(of_config.score(ROWS), of_class.score(ROWS))
    assert np.array_equal(of_config.score(ROWS), of_sklearn.anomaly_score(ROWS))


def test_epochs_are_those_of_the_scikit_learn_estimator_too() -> None:
    for name in ("max_epochs", "batch_size", "validation_fraction"):
        of_fit = signature(ad.fit).parameters.get(name) or signature(ad.Arrays).parameters[name]
        assert signature(Detector).parameters[name].default == of_fit.default
