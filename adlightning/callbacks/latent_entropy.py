"""How concentrated the representations of each group of samples are, epoch by epoch (Deep SAD, Section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from adlightning.core.detector import AnomalyDetector
from adlightning.core.scoring import evaluating
from adlightning.labels import ANOMALY, KNOWN_ANOMALY, KNOWN_NORMAL, NORMAL, UNLABELLED
from adlightning.methods.parts.hypersphere import Hypersphere

_TRAINING = {"unlabelled": UNLABELLED, "known_normals": KNOWN_NORMAL, "known_anomalies": KNOWN_ANOMALY}
_HELD_OUT = {"held_out_normals": NORMAL, "held_out_anomalies": ANOMALY}


class Concentration(NamedTuple):
    """Of a group of representations in R^d; NaN where it is not defined.

    Args:
        log_variance: log of the mean variance of a coordinate, log sigma^2 of equation 6.
        log_determinant: log det Sigma of equation 5; not defined for d samples or fewer, nor for a flat covariance.
    """

    log_variance: float
    log_determinant: float


def concentration(z: Tensor) -> Concentration:
    """That of representations (N, d), in float64, by covariances of denominator N.

    For a Gaussian of these moments the entropy is (d log(2 pi e) + log_determinant) / 2, and an upper bound for any
    other distribution (equation 5); for an isotropic one it is d (1 + log(2 pi) + log_variance) / 2 (equation 6).
    """
    z = z.double()
    if len(z) < 2:
        return Concentration(math.nan, math.nan)
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / len(z)
    variance = float(covariance.diagonal().mean())
    sign, determinant = torch.linalg.slogdet(covariance)
    defined = len(z) > z.shape[1] and float(sign) > 0
    return Concentration(math.log(variance) if variance > 0 else math.nan, float(determinant) if defined else math.nan)


class LatentEntropy(pl.Callback):
    """Logs log-variance and log-determinant of the representations phi(x) of each group, after each epoch.

    For Deep SVDD and Deep SAD. Groups are the training samples by what is known of them (`unlabelled`, `known_normals`,
    `known_anomalies`) and the held-out ones by their labels (`held_out_normals`, `held_out_anomalies`). Test samples
    are not looked at. Names are `latent/GROUP/log_variance` and `latent/GROUP/log_determinant`, which bound the entropy
    from above (equations 5 and 6). `latent/gap` is the log-variance of known anomalies less that of all other training
    samples: what equation 8 wants large. What is not defined is not logged. Training does not change.

    Args:
        every_n_epochs: epochs from one measurement to the next, at least 1; the last epoch is always measured.

    Raises:
        ValueError: an argument outside its range, or a detector without a hypersphere.

    Example:
        >>> trainer = pl.Trainer(callbacks=[LatentEntropy(every_n_epochs=5)])  # doctest: +SKIP
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse detectors that have no such representations."""
        if not isinstance(getattr(pl_module, "sphere", None), Hypersphere):
            name = type(pl_module).__name__
            raise ValueError(f"trainer.callbacks: LatentEntropy must have a DeepSVDD or DeepSAD, got {name}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure, and log."""
        assert isinstance(pl_module, AnomalyDetector)
        last = pl_module.in_last_epoch()
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0 or last:
            values = measured(pl_module)
            pl_module.log_dict({f"latent/{name}": v for name, v in values.items()}, on_epoch=True, rank_zero_only=True)


def measured(detector: AnomalyDetector) -> dict[str, float]:
    """What :class:`LatentEntropy` logs, without `latent/`; only in a fit."""
    training = [(batch.x, batch.known) for batch in detector.training_data()]
    groups = dict(_grouped(detector, training, _TRAINING))
    rest = torch.cat([groups[name] for name in ("unlabelled", "known_normals")])
    gap = concentration(groups["known_anomalies"]).log_variance - concentration(rest).log_variance
    if detector.data.has_validation:
        batches = detector.data.held_out_batches(detector.device)
        groups |= dict(_grouped(detector, ((batch.x, batch.label) for batch in batches), _HELD_OUT))
    found = {f"{name}/{key}": value for name, z in groups.items() for key, value in concentration(z)._asdict().items()}
    return {name: value for name, value in {**found, "gap": gap}.items() if not math.isnan(value)}


def _grouped(
    detector: AnomalyDetector, batches: Iterable[tuple[Tensor, Tensor]], kinds: dict[str, int]
) -> Iterator[tuple[str, Tensor]]:
    """Representations (N, d) of each group, on the host."""
    sphere = detector.sphere
    assert isinstance(sphere, Hypersphere)
    with evaluating(detector), detector.trainer.precision_plugin.forward_context():
        encoded = [(sphere.encoder(detector.preprocess(x)).float().cpu(), kind.cpu()) for x, kind in batches]
    z, of_kind = (torch.cat(column) for column in zip(*encoded, strict=True))
    for name, kind in kinds.items():
        yield name, z[of_kind == kind]
