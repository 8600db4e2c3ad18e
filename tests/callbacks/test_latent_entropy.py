"""Log-variance and log-determinant of representations: by hand, and logged without changing the fit."""

from __future__ import annotations

import math
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer

from adlightning.callbacks.latent_entropy import LatentEntropy, concentration
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import Autoencoder, DeepSAD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import LeNetEncoder, MLPEncoder
from adlightning.preprocessing import StandardizeFeatures, UnitRange
from adlightning.testing import Blobs, Stripes


def test_concentration_by_hand() -> None:
    # variances 1 and 4 without covariance: their mean is 2.5, det Sigma is 4
    z = torch.tensor([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]])
    assert concentration(z) == pytest.approx((math.log(2.5), math.log(4.0)))


def test_concentration_of_a_gaussian_gives_its_entropy() -> None:
    z = 3 * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    entropy = math.log(2 * math.pi * math.e * 9)  # of N(0, 9 I) in two dimensions
    found = concentration(z)
    assert (2 * math.log(2 * math.pi * math.e) + found.log_determinant) / 2 == pytest.approx(entropy, abs=0.01)
    assert 2 * (1 + math.log(2 * math.pi) + found.log_variance) / 2 == pytest.approx(entropy, abs=0.01)


def test_what_is_not_defined_is_nan() -> None:
    assert all(math.isnan(value) for value in concentration(torch.ones(1, 2)))
    flat = concentration(torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 5.0]]))
    assert math.isnan(flat.log_determinant)
    assert flat.log_variance == pytest.approx(math.log(8 / 6))


def fitted(make_trainer: MakeTrainer, *callbacks: pl.Callback) -> tuple[pl.Trainer, DeepSAD]:
    pl.seed_everything(0)
    encoder = partial(LeNetEncoder, conv_channels=(4,), rep_dim=2)
    detector = DeepSAD(encoder, pretraining=AutoencoderPretraining(epochs=0), preprocessing=UnitRange)
    data = OneVsAll(
        Stripes(),
        labelled_anomaly_ratio=0.2,
        n_labelled_classes=1,
        labelled_normal_ratio=0.2,
        validation_fraction=0.2,
        validation_anomalies=5,
        batch_size=16,
    )
    trainer = make_trainer(max_epochs=3, callbacks=list(callbacks))
    trainer.fit(detector, datamodule=data)
    return trainer, detector


def test_every_group_is_logged_and_the_fit_is_the_same(make_trainer: MakeTrainer) -> None:
    trainer, watched = fitted(make_trainer, LatentEntropy())
    _, plain = fitted(make_trainer)
    ours, theirs = watched.state_dict(), plain.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    groups = ("unlabelled", "known_normals", "known_anomalies", "held_out_normals", "held_out_anomalies")
    names = {f"latent/{group}/{what}" for group in groups for what in ("log_variance", "log_determinant")}
    logged = {name for name in trainer.callback_metrics if name.startswith("latent/")}
    assert logged == names | {"latent/gap"}


def test_detectors_without_a_sphere_and_wrong_values_are_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="every_n_epochs must be at least 1, got 0"):
        LatentEntropy(0)
    detector = Autoencoder(partial(MLPEncoder, dense=(4,), rep_dim=2), preprocessing=StandardizeFeatures)
    trainer = make_trainer(max_epochs=1, callbacks=[LatentEntropy()])
    with pytest.raises(ValueError, match="LatentEntropy must have a DeepSVDD or DeepSAD, got Autoencoder"):
        trainer.fit(detector, datamodule=AnomalyLabelled(Blobs(), batch_size=50))
