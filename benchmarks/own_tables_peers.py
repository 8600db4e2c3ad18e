"""The same tables with the detectors of scikit-learn, PyOD and DeepOD at their own defaults, on standardised columns.

PyOD and DeepOD come with the extra `peers`, installed apart; what cannot be imported is left out.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from own_tables_data import Floats, Split
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

Make = Callable[[int, int], Any]
"""From the number of columns and a seed to a detector with `fit`, and `score_samples` or `decision_function`."""

SKLEARN: dict[str, Make] = {
    "KernelDensity": lambda d, seed: KernelDensity(),
    "OneClassSVM": lambda d, seed: OneClassSVM(),
    "IsolationForest": lambda d, seed: IsolationForest(random_state=seed),
    "LocalOutlierFactor": lambda d, seed: LocalOutlierFactor(novelty=True),
}

PYOD: dict[str, tuple[str, Callable[[int, int], dict[str, Any]]]] = {
    "DeepSVDD": ("deep_svdd", lambda d, seed: {"n_features": d, "random_state": seed, "verbose": 0}),
    "AutoEncoder": ("auto_encoder", lambda d, seed: {"random_state": seed, "verbose": 0}),
    "KNN": ("knn", lambda d, seed: {}),
    "KDE": ("kde", lambda d, seed: {}),
    "OCSVM": ("ocsvm", lambda d, seed: {}),
    "GMM": ("gmm", lambda d, seed: {"random_state": seed}),
}

DEEPOD = {"DeepSVDD": "normals", "DeepSAD": "labelled", "GOAD": "normals"}
"""Their names, and what each is given (`own_tables_data.split`)."""


def names() -> dict[str, str]:
    """Peers that are installed as `library.Name`, and the setting of each."""
    found = {f"sklearn.{name}": "normals" for name in SKLEARN}
    found |= {f"pyod.{name}": "normals" for name in PYOD} if _is_there("pyod") else {}
    return found | ({f"deepod.{name}": setting for name, setting in DEEPOD.items()} if _is_there("deepod") else {})


def fitted(name: str, given: Split, seed: int) -> Callable[[Floats], Floats]:
    """A peer fitted to a split; what gives its scores (M,) of rows, higher for more anomalous."""
    library, _, method = name.partition(".")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the libraries' own
    torch.manual_seed(seed)
    scaler = StandardScaler().fit(given.train[given.known >= 0])
    train = scaler.transform(given.train)
    d = train.shape[1]
    if library == "deepod":
        model = getattr(importlib.import_module("deepod.models"), method)(device="cpu", verbose=0, random_state=seed)
        model.fit(train, (given.known < 0).astype(int) if DEEPOD[method] == "labelled" else None)
        return lambda x: np.asarray(model.decision_function(scaler.transform(x)))
    if library == "pyod":
        module, arguments = PYOD[method]
        model = getattr(importlib.import_module(f"pyod.models.{module}"), method)(**arguments(d, seed))
        model.fit(train)
        return lambda x: np.asarray(model.decision_function(scaler.transform(x)))
    model = SKLEARN[method](d, seed).fit(train)
    return lambda x: -np.asarray(model.score_samples(scaler.transform(x)))


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
