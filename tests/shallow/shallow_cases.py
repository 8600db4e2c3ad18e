"""Detectors, data and runs that the tests of shallow detectors share."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor
from torch.optim import Adam

from adlightning.core.parts import EncoderFactory
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.unlabelled import TransductiveLabelled
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures, UnitRange
from adlightning.shallow import (
    GMM,
    KDE,
    LOF,
    OCSVM,
    SSAD,
    SVM,
    BiasedSVM,
    IsolationForest,
    KernelKLIEP,
    KernelULSIF,
    NearestNeighbor,
    ShallowDetector,
)
from adlightning.shallow.features import AutoencoderFeatures, BackboneFeatures, PCAFeatures
from adlightning.testing import Blobs, Stripes

DETECTORS: dict[str, tuple[type[ShallowDetector], dict[str, Any]]] = {
    "ocsvm": (OCSVM, {}),
    "linear_ocsvm": (OCSVM, {"kernel": "linear"}),
    "polynomial_ocsvm": (OCSVM, {"kernel": "poly", "degree": 4, "coef0": 1.0}),
    "isolation_forest": (IsolationForest, {"n_estimators": 20}),
    "kde": (KDE, {}),
    "gmm": (GMM, {"n_components": (2, 3)}),
    "lof": (LOF, {}),
    "nearest_neighbor": (NearestNeighbor, {}),
    "ssad": (SSAD, {}),
    "svm": (SVM, {}),
    "biased_svm": (BiasedSVM, {}),
    "kernel_kliep": (KernelKLIEP, {}),
    "kernel_ulsif": (KernelULSIF, {}),
}


def codes(encoder: EncoderFactory, lr: float) -> AutoencoderFeatures:
    return AutoencoderFeatures(encoder, optimizer=partial(Adam, lr=lr, weight_decay=1e-6))


FEATURES: dict[str, dict[str, Any]] = {
    "raw": {},
    "pca": {"features": PCAFeatures(components=4)},
    "autoencoder": {"features": codes(partial(MLPEncoder, dense=(16,), rep_dim=4), lr=1e-2)},
}
UNIT = {"preprocessing": UnitRange}


def torchvision(resize: int = 32, **options: Any) -> dict[str, Any]:
    """Arguments of a detector on features of a small network with random weights."""
    features = BackboneFeatures(**{"name": "squeezenet1_1", "weights": None, **options})
    return {"features": features, "preprocessing": partial(UnitRange, resize=resize)}


def table(**options: Any) -> AnomalyDataModule:
    arguments = {"labelled_anomaly_ratio": 0.1, "batch_size": 32, "seed": 0, **options}
    return AnomalyLabelled(Blobs(), **arguments)


def table_for(name: str, **options: Any) -> AnomalyDataModule:
    """The table, with its test set among the training samples for a detector that needs unlabelled ones."""
    if not DETECTORS[name][0].needs_unlabelled:
        return table(**options)
    arguments = {"labelled_anomaly_ratio": 0.1, "batch_size": 32, "seed": 0, **options}
    return TransductiveLabelled(source=Blobs(), **arguments)


def images(**options: Any) -> AnomalyDataModule:
    return OneVsAll(Stripes(), normal_class="left", batch_size=16, seed=0, **options)


def make(name: str, **options: Any) -> ShallowDetector:
    cls, arguments = DETECTORS[name]
    torch.manual_seed(0)
    return cls(**{"preprocessing": StandardizeFeatures, **arguments, **options})


def fit(
    make_trainer: MakeTrainer, detector: ShallowDetector, data: AnomalyDataModule, epochs: int = 4, **options: Any
) -> pl.Trainer:
    trainer = make_trainer(max_epochs=epochs, **options)
    trainer.fit(detector, datamodule=data)
    detector.eval()
    return trainer


def raw_test_input(data: AnomalyDataModule) -> Tensor:
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    return x[torch.from_numpy(data.split.test)]


def auroc_on_test(trainer: pl.Trainer, detector: ShallowDetector, data: AnomalyDataModule) -> float:
    trainer.test(detector, datamodule=data, verbose=False)
    return float(trainer.callback_metrics["test/auroc"])
