"""Deep SAD's options of Section 3.2 and Appendix C: known normals, whose centre, a trained centre, the losses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor
from torch.optim import SGD, Adam

from adlightning.checkpoints.loading import load_detector
from adlightning.core.collapse import sphere_collapse
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import DeepSAD, DeepSVDD
from adlightning.methods.parts.anomaly_losses import AnomalyLoss, HingeLoss, NegativeHampelLoss, NegativeNorm
from adlightning.methods.parts.hypersphere import AutoencoderPretraining, snap_center
from adlightning.networks import LeNetEncoder
from adlightning.preprocessing import StandardizeChannels, UnitRange
from adlightning.testing import Stripes

SMALL: dict[str, Any] = {"encoder": partial(LeNetEncoder, conv_channels=(4,), rep_dim=16), "preprocessing": UnitRange}
AT_ONCE = AutoencoderPretraining(epochs=0)


def stripes(**options: Any) -> OneVsAll:
    given = {"labelled_anomaly_ratio": 0.2, "n_labelled_classes": 1, "labelled_normal_ratio": 0.2, **options}
    return OneVsAll(Stripes(), normal_class="left", batch_size=16, validation_fraction=0.0, seed=0, **given)


def fit(
    make_trainer: MakeTrainer, cls: type = DeepSAD, epochs: int = 3, **options: Any
) -> tuple[Any, OneVsAll, pl.Trainer]:
    data = stripes(**options.pop("data", {}))
    pl.seed_everything(0)
    detector = cls(**{**SMALL, "pretraining": AT_ONCE, **options})
    trainer = make_trainer(max_epochs=epochs)
    trainer.fit(detector, datamodule=data)
    detector.eval()
    return detector, data, trainer


def test_the_centre_of_known_normals_is_theirs_alone(make_trainer: MakeTrainer) -> None:
    # the network does not move, so the centre is found again after the fit
    still: dict[str, Any] = {"optimizer": partial(SGD, lr=0.0), "lr_scheduler": None}
    detector, data, _ = fit(make_trainer, center_known_normals_only=True, epochs=1, **still)
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    pl.seed_everything(0)
    anew = DeepSAD(**SMALL, pretraining=AT_ONCE)
    anew.configure_for(data.input_spec)
    anew.eval()
    known = x[torch.from_numpy(data.split.train[data.split.known == 1])]
    with torch.no_grad():
        expected = snap_center(anew.sphere.encoder(anew.preprocess(known)).double().mean(0)).float()
    torch.testing.assert_close(detector.sphere.center, expected)


def test_a_centre_of_known_normals_without_any_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(
        ValueError, match="center_known_normals_only must be false where no training sample is known to"
    ):
        fit(make_trainer, center_known_normals_only=True, data={"labelled_normal_ratio": 0.0})
    with pytest.raises(ValueError, match="center_known_normals_only must be false with center_include_labelled"):
        DeepSAD(center_known_normals_only=True, center_include_labelled=True)


def test_known_normals_weigh_eta(make_trainer: MakeTrainer) -> None:
    # without anomalies and with eta = 1 the y = +1 term is that of unlabelled samples, but for eps; else it is not
    alone: dict[str, Any] = {"labelled_anomaly_ratio": 0.0, "n_labelled_classes": 0}
    same: dict[str, Any] = {"data": {**alone, "labelled_normal_ratio": 0.0}}
    losses = [
        float(fit(make_trainer, **options)[2].callback_metrics["train/loss"])
        for options in ({**same, "eta": 1.0}, {"data": alone, "eta": 1.0}, {"data": alone, "eta": 10.0})
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] > 1.5 * losses[0]


@pytest.mark.parametrize("cls", [DeepSAD, DeepSVDD])
def test_a_trained_centre_shrinks_to_a_point_under_decay_and_a_fixed_one_does_not(
    make_trainer: MakeTrainer, tmp_path: Path, cls: type
) -> None:
    decay: dict[str, Any] = {"optimizer": partial(SGD, lr=1e-3, weight_decay=100.0), "lr_scheduler": None, "epochs": 12}
    decay["data"] = {"labelled_anomaly_ratio": 0.0, "n_labelled_classes": 0, "labelled_normal_ratio": 0.0}
    free, _, trainer = fit(make_trainer, cls, learn_center=True, **decay)
    assert free.remarks()[0].startswith("hypersphere collapse: representations and centre shrank to a point")
    assert float(free.sphere.sizes[1]) < 1e-2 * float(free.sphere.sizes[0])
    fixed, _, _ = fit(make_trainer, cls, **decay)
    assert not any("collapse" in remark for remark in fixed.remarks())
    assert float(fixed.sphere.center.norm()) > 10 * float(free.sphere.center.norm())
    trainer.save_checkpoint(tmp_path / "free.ckpt")
    again = load_detector(tmp_path / "free.ckpt")
    assert again.remarks() == free.remarks()
    assert isinstance(again.sphere.center, torch.nn.Parameter)  # type: ignore[union-attr]


def test_a_trained_centre_moves_after_pre_training_only(make_trainer: MakeTrainer) -> None:
    pretraining = AutoencoderPretraining(epochs=2, optimizer=partial(Adam, lr=1e-3, weight_decay=1.0))
    centers = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            centers.append(pl_module.sphere.center.detach().clone())

    data = stripes()
    detector = DeepSAD(**SMALL, pretraining=pretraining, learn_center=True, optimizer=partial(Adam, lr=1e-2))
    make_trainer(max_epochs=4, callbacks=[Watch()]).fit(detector, datamodule=data)
    per_epoch = len(centers) // 4
    assert all((center == 0).all() for center in centers[: 2 * per_epoch])
    assert (centers[2 * per_epoch].abs() >= 0.1 - 1e-6).all()  # set, and snapped
    assert not torch.equal(centers[2 * per_epoch], centers[2 * per_epoch + 1])


def test_sphere_collapse_in_words() -> None:
    assert sphere_collapse(1.0, 0.5) is None
    assert "their mean squared norm to 1.0e-03 of what it was" in str(sphere_collapse(2.0, 0.002))
    assert sphere_collapse(1.0, float("nan")) is None


def test_pre_training_by_cross_entropy(make_trainer: MakeTrainer) -> None:
    squared, entropy = (
        fit(make_trainer, epochs=2, pretraining=AutoencoderPretraining(epochs=1, loss=loss))[0]
        for loss in ("squared", "cross_entropy")
    )
    weights = [torch.cat([w.flatten() for w in d.sphere.encoder.parameters()]) for d in (squared, entropy)]
    assert not torch.equal(*weights)
    pretraining = AutoencoderPretraining(epochs=1, loss="cross_entropy")
    with pytest.raises(ValueError, match=r"pretraining.loss must be squared where .* in \[0, 1\], got cross_entropy"):
        fit(make_trainer, preprocessing=StandardizeChannels, pretraining=pretraining)
    with pytest.raises(ValueError, match=r"pretraining\.loss must be one of squared, cross_entropy, got 'other'"):
        AutoencoderPretraining(loss="other")  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [NegativeNorm(), HingeLoss(5.0), NegativeHampelLoss(1.0, 2.0, 4.0)])
def test_other_losses_train_and_come_back_from_a_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path, loss: AnomalyLoss
) -> None:
    _, _, trainer = fit(make_trainer, anomaly_loss=loss, epochs=1)
    trainer.save_checkpoint(tmp_path / "detector.ckpt")
    again = load_detector(tmp_path / "detector.ckpt")
    assert isinstance(again, DeepSAD)
    assert again.anomaly_loss == loss
