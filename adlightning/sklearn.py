"""The detectors as scikit-learn estimators, with PyOD's attribute names beside scikit-learn's."""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

import adlightning
from adlightning.checkpoints.loading import load_detector
from adlightning.core.detector import AnomalyDetector
from adlightning.core.encoding import Missing
from adlightning.core.messages import nearest
from adlightning.core.raw_input import as_array
from adlightning.data.arrays import Arrays
from adlightning.run import fit


class Detector(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Any detector of ours as a scikit-learn outlier detector, for tables (N, D), series (N, T, D) and images.

    Scores and verdicts have scikit-learn's signs: `predict` gives +1 for normal and -1 for anomalies, and higher values
    of `score_samples` and `decision_function` are more normal. `anomaly_score` has ours: higher is more anomalous. An
    estimator of libraries (`KDE`, `IsolationForest`) ends after one epoch, whatever `max_epochs` says.

    Args:
        method: a detector by its name, `DeepSAD`, or its class.
        max_epochs: passes over the training samples.
        batch_size: training samples a step.
        validation_fraction: share of the training samples held out, in [0, 1); sets the threshold, never the weights.
        missing: what to do with NaN in a table: `refuse`, `median` of the training samples, or `indicator`, which also
            makes a feature of whether a value was missing.
        random_state: of weights, held-out samples and batches: a number, a `RandomState`, or None for a new one.
        verbose: 1 shows progress.
        trainer: further arguments of Lightning's `Trainer`: `{"accelerator": "gpu"}`.
        arguments: of the method: `eta=2.0`.

    Attributes:
        detector_: the fitted detector.
        threshold_: anomaly scores above it are anomalies.
        offset_: minus the threshold, as scikit-learn has it: `decision_function(X) = score_samples(X) - offset_`.
        decision_scores_: (N,) anomaly scores of the training samples, as PyOD has them.
        labels_: (N,) verdicts on the training samples, 1 for anomalies, as PyOD has them.

    Raises:
        ValueError: from `fit`, an argument that there is not or outside its range, or samples that are none.

    Example:
        >>> import numpy as np
        >>> from adlightning.sklearn import Detector
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> detector = Detector("NearestNeighbor", random_state=0).fit(X)
        >>> detector.predict([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        method: str | type[AnomalyDetector] = "DeepSVDD",
        *,
        max_epochs: int = 50,
        batch_size: int = 64,
        validation_fraction: float = 0.1,
        missing: Missing = "refuse",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        trainer: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        self.method = method
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.missing = missing
        self.random_state = random_state
        self.verbose = verbose
        self.trainer = trainer
        if arguments:  # apart: one may have a method's name, as VAE's score_samples
            self._given = arguments

    # ---- parameters -----------------------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, the method's arguments that were given among them."""
        return {name: getattr(self, name) for name in _own()} | self._arguments()

    def set_params(self, **params: Any) -> Self:
        """Set parameters, or arguments of the method. What a method has no argument for is refused by `fit`."""
        for name, value in params.items():
            if name in _own():
                setattr(self, name, value)
            else:
                self._given = self._arguments() | {name: value}
        return self

    def __sklearn_tags__(self) -> Any:
        """scikit-learn's description of what it takes: NaN where `missing` says what to do with it."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing != "refuse"
        return tags

    def _arguments(self) -> dict[str, Any]:
        """Those of the method."""
        return dict(getattr(self, "_given", {}))

    # ---- fitting --------------------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train on samples that are normal for the most part.

        Args:
            X: samples (N, D), (N, T, D) or images, as :class:`adlightning.Arrays` takes them.
            y: (N,) what is known: +1 normal, 0 not labelled, -1 anomaly. Methods without use for known anomalies look
                at none of it, as scikit-learn's outlier detectors do.
        """
        x = self._samples(X, reset=True)
        cls = _class_of(self.method)
        detector = _made(cls, self._arguments())
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        known = np.asarray(y) if y is not None and cls.uses_known_anomalies else None
        data = Arrays(
            x,
            known=known,
            missing=self.missing,
            batch_size=self.batch_size,
            validation_fraction=self.validation_fraction,
        )
        with warnings.catch_warnings():
            if not self.verbose:
                warnings.filterwarnings("ignore", "max_epochs=.* is no longer than")
            fit(detector, data, self.max_epochs, seed=seed, progress=bool(self.verbose), **(self.trainer or {}))
        self.__dict__.pop("_checkpoint", None)  # of an earlier fit
        self.detector_ = detector
        self.threshold_ = float(detector.threshold)
        self.offset_ = -self.threshold_
        self.decision_scores_ = detector.score(x)
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)
        return self

    def fit_predict(self, X: ArrayLike, y: ArrayLike | None = None) -> NDArray[np.int64]:
        """Verdicts (N,) on the training samples; arguments as of :meth:`fit`."""
        return self.fit(X, y).predict(X)

    def _samples(self, X: ArrayLike, reset: bool) -> NDArray[Any]:
        """Samples checked as scikit-learn does; tables and series as float64, images as they are."""
        X = as_array(X, "X") if isinstance(X, Tensor) else X
        image = isinstance(X, np.ndarray) and X.dtype == np.uint8 and X.ndim > 2
        try:
            return np.asarray(
                validate_data(
                    self,
                    X,
                    reset=reset,
                    allow_nd=True,
                    dtype=None if image else np.float64,
                    ensure_all_finite=True if self.missing == "refuse" else "allow-nan",
                    ensure_min_samples=2 if reset else 1,
                )
            )
        except ValueError as error:
            if remedy := _remedy(str(error), self.missing):
                raise ValueError(f"{str(error).splitlines()[0]} {remedy}") from None
            raise

    # ---- scores ---------------------------------------------------------------------------------------------------

    def anomaly_score(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores (N,), higher for more anomalous."""
        check_is_fitted(self)
        return self.detector_.score(self._samples(X, reset=False))

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores (N,), higher for more normal."""
        return -self.anomaly_score(X)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores (N,), negative for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Verdicts (N,): +1 normal, -1 anomaly."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_value(self, X: ArrayLike) -> NDArray[np.float64]:
        """Conformal p-values (N,), how often a normal sample scores as high; of those held out of training."""
        check_is_fitted(self)
        return self.detector_.p_value(self._samples(X, reset=False))

    # ---- on disk --------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What pickle keeps: of the detector its own checkpoint, which holds plain values and runs no code."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "detector_" in state:
            detector: AnomalyDetector = state.pop("detector_")
            state["_checkpoint"] = getattr(self, "_checkpoint", None) or _bytes_of(detector)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What was pickled, and the detector from its checkpoint."""
        super().__setstate__(state)
        if (content := state.get("_checkpoint")) is not None:
            with tempfile.TemporaryDirectory(prefix="adlightning-") as folder:
                file = Path(folder) / "detector.ckpt"
                file.write_bytes(content)
                self.detector_ = load_detector(file)


def _own() -> list[str]:
    """Names of the parameters that are not the method's."""
    parameters = inspect.signature(Detector).parameters.values()
    return [each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD]


def _class_of(method: str | type[AnomalyDetector]) -> type[AnomalyDetector]:
    found = getattr(adlightning, method, None) if isinstance(method, str) else method
    if not (isinstance(found, type) and issubclass(found, AnomalyDetector)):
        near = nearest(method, dir(adlightning)) if isinstance(method, str) else []
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise ValueError(f"method must be the name or the class of a detector, got {method!r}{hint}")
    return found


def _made(cls: type[AnomalyDetector], arguments: Mapping[str, Any]) -> AnomalyDetector:
    try:
        return cls(**arguments)
    except TypeError as error:  # a name that there is not, or one that is needed
        raise ValueError(f"{cls.__name__}: {error}") from error


def _bytes_of(detector: AnomalyDetector) -> bytes:
    with tempfile.TemporaryDirectory(prefix="adlightning-") as folder:
        file = Path(folder) / "detector.ckpt"
        detector.trainer.save_checkpoint(file, weights_only=True)
        return file.read_bytes()


def _remedy(error: str, missing: Missing) -> str:
    """What helps where scikit-learn refuses NaN or text; empty where it refuses something else."""
    if missing == "refuse" and error.startswith("Input X contains NaN"):
        return "Say missing='median' to fill such values, or missing='indicator' to mark them too."
    if error.startswith("could not convert string to float"):
        return "(X must hold numbers: put an encoder such as OneHotEncoder before the Detector, in a pipeline)"
    return ""
