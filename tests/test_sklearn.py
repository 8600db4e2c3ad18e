"""Detectors as scikit-learn estimators."""

from __future__ import annotations

import doctest
import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import adlightning.sklearn
from adlightning import KDE
from adlightning.sklearn import Detector

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
X_TEST = np.concatenate([RNG.normal(size=(20, 3)), RNG.normal(size=(10, 3)) + 4])
Y_TEST = np.repeat([1, -1], [20, 10])

_FLOAT32 = {
    "check_methods_subset_invariance": "networks score in float32, in which a batch's size shows in the seventh digit"
}


def _why_it_may_fail(estimator: Detector) -> dict[str, str]:
    return _FLOAT32 if estimator.method == "DeepSVDD" else {}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [Detector("NearestNeighbor"), Detector("DeepSVDD", max_epochs=2)], expected_failed_checks=_why_it_may_fail
)
def test_scikit_learn_s_own_checks(estimator: Detector, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(adlightning.sklearn).failed == 0


def test_signs_are_scikit_learn_s_and_pyod_s_names_are_there() -> None:
    detector = Detector("KDE", random_state=0).fit(X)
    score = detector.anomaly_score(X_TEST)
    assert np.array_equal(detector.score_samples(X_TEST), -score)
    assert np.array_equal(detector.decision_function(X_TEST), -score - detector.offset_)
    assert np.array_equal(detector.predict(X_TEST) == -1, score > detector.threshold_)
    assert roc_auc_score(Y_TEST, detector.decision_function(X_TEST)) > 0.95
    assert np.array_equal(detector.labels_, (detector.decision_scores_ > detector.threshold_).astype(int))
    assert np.array_equal(detector.fit_predict(X), 1 - 2 * detector.labels_)


def test_what_is_known_is_used_by_methods_that_can() -> None:
    known = np.zeros(80)
    known[:6] = -1
    x = np.concatenate([X_TEST[-6:], X[6:]])
    options: dict[str, Any] = {"max_epochs": 6, "random_state": 0, "eta": 5.0}
    labelled, ignorant = (Detector("DeepSAD", **options).fit(x, y).anomaly_score(x) for y in (known, None))
    assert not np.array_equal(labelled, ignorant)
    again = Detector("DeepSAD", **options)
    again.fit_predict(x, known)
    assert np.array_equal(again.anomaly_score(x), labelled)
    with pytest.raises(ValueError, match=r"known must be among -1, 0, 1, got .*2"):
        Detector("DeepSAD", **options).fit(x, known + 3)


def test_parameters_are_cloned_and_set() -> None:
    detector = Detector("DeepSAD", eta=2.0, max_epochs=3)
    assert detector.get_params()["eta"] == 2.0
    again = clone(detector.set_params(eta=3.0, eps=1e-5))
    assert (again.get_params()["eta"], again.get_params()["eps"], again.max_epochs) == (3.0, 1e-5, 3)
    for name in ("fit", "foo_", "_x"):
        with pytest.raises(ValueError, match=f"DeepSAD: .*{name}"):
            Detector("DeepSAD", max_epochs=2).set_params(**{name: 1}).fit(X)
    images = RNG.integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    drawn = Detector("VAE", score_samples=2, max_epochs=1).fit(images)  # a method of the estimator has that name
    assert np.array_equal(drawn.score_samples(images), -drawn.anomaly_score(images))


def test_the_caller_s_own_draws_go_on_undisturbed() -> None:
    np.random.seed(5)  # noqa: NPY002
    first = np.random.normal(size=3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    Detector("KDE", random_state=0).fit(X)
    assert np.array_equal(np.random.normal(size=3), first)  # noqa: NPY002


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (Detector("DeepSADD"), "method must be the name or the class of a detector, got 'DeepSADD'; nearest: DeepSAD"),
        (Detector("KDE", etta=1), r"KDE: .*etta"),
        (Detector("DeepSAD", eta=-1.0), "eta must"),
        (Detector("KDE", trainer={"presicion": 16}), "have no argument presicion; nearest: precision"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_fit(detector: Detector, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector.fit(X)


def test_a_random_state_makes_fits_alike() -> None:
    first, second = (Detector("IsolationForest", random_state=3).fit(X).anomaly_score(X_TEST) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, Detector("IsolationForest", random_state=4).fit(X).anomaly_score(X_TEST))


def test_pickled_detectors_score_alike_and_can_be_pickled_again() -> None:
    detector = Detector(KDE, random_state=0).fit(X)
    # scikit-learn's estimators travel pickled, to processes for one: ours of our own making, no file of a user's
    once = pickle.loads(pickle.dumps(detector))
    twice = pickle.loads(pickle.dumps(once))
    assert np.array_equal(twice.anomaly_score(X_TEST), detector.anomaly_score(X_TEST))
    assert twice.threshold_ == detector.threshold_
    again = twice.fit(X + 1)
    assert np.array_equal(pickle.loads(pickle.dumps(again)).anomaly_score(X_TEST), again.anomaly_score(X_TEST))


def test_pipelines_searches_and_cross_validation() -> None:
    pipeline = make_pipeline(StandardScaler(), PCA(2), Detector("NearestNeighbor", random_state=0))
    assert roc_auc_score(Y_TEST, pipeline.fit(X).decision_function(X_TEST)) > 0.9
    x, y = np.concatenate([X, X_TEST]), np.concatenate([np.ones(80), Y_TEST])

    def auroc(estimator: Detector, x: Any, y: Any) -> float:
        return float(roc_auc_score(y, estimator.decision_function(x)))

    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(Detector("GMM", random_state=0), {"n_components": [[1], [3]]}, scoring=auroc, cv=folds)
    assert search.fit(x, y).best_score_ > 0.8
    assert search.best_params_["n_components"] in ([1], [3])
    predicted = cross_val_predict(
        Detector("KDE", random_state=0), x, cv=KFold(2, shuffle=True, random_state=0), method="decision_function"
    )
    assert roc_auc_score(y, predicted) > 0.8


def test_frames_are_matched_by_name_and_images_are_images() -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    detector = Detector("KDE", random_state=0).fit(frame)
    assert detector.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names should match"):
        detector.predict(frame[["c", "b", "a"]])
    images = RNG.integers(0, 256, (30, 1, 6, 6), dtype=np.uint8)
    assert str(Detector("NearestNeighbor").fit(images).detector_.built_for).startswith("1x6x6 images")


def test_it_is_quiet_unless_told_otherwise(capfd: pytest.CaptureFixture[str]) -> None:
    Detector("DeepSVDD", max_epochs=2).fit(X)
    assert capfd.readouterr() == ("", "")
    Detector("DeepSVDD", max_epochs=2, verbose=1).fit(X)
    assert "Epoch" in capfd.readouterr().out


def test_gaps_and_text_are_refused_with_what_helps() -> None:
    with pytest.raises(ValueError, match=r"Input X contains NaN\. Say missing='median'"):
        Detector("KDE").fit([[1.0], [np.nan], [2.0]])
    with pytest.raises(ValueError, match=r"could not convert string to float: 'B'.*OneHotEncoder"):
        Detector("KDE").fit(np.array([[1.0, "B"], [2.0, "A"]], dtype=object))
