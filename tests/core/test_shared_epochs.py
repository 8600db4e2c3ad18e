"""First epochs that were done before are taken up to the same bits, where all that decides on them is alike."""

from __future__ import annotations

import errno
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import SGD
from torch.optim.lr_scheduler import ExponentialLR, MultiStepLR, ReduceLROnPlateau

import adlightning as ad
from adlightning.core.detector import AnomalyDetector
from adlightning.core.shelf import TAKEN, Shelf, first_epochs_shared
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources import Paradigms
from adlightning.methods import DeepSAD, DeepSVDD, SoftBoundaryDeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import LeNetEncoder
from adlightning.shallow import KDE, LOF, OCSVM, BiasedSVM, IsolationForest
from adlightning.shallow.features import AutoencoderFeatures
from adlightning.testing import Stripes

PHASE = AutoencoderPretraining(epochs=2)
ENCODER = partial(LeNetEncoder, conv_channels=(4,), rep_dim=16)


def fitted(
    make_trainer: MakeTrainer,
    cls: type[AnomalyDetector],
    shelf: Shelf | None,
    seed: int = 0,
    batch_size: int = 20,
    trainer: dict[str, Any] | None = None,
    **given: Any,
) -> tuple[AnomalyDetector, dict[str, Tensor]]:
    """A detector after two epochs of pre-training and two of the objective, and its state."""
    arguments: dict[str, Any] = {"encoder": ENCODER, "pretraining": PHASE} | given
    return after_four_epochs(make_trainer, cls(**arguments), shelf, seed, batch_size, **(trainer or {}))


def after_four_epochs(
    make_trainer: MakeTrainer,
    detector: AnomalyDetector,
    shelf: Shelf | None,
    seed: int = 0,
    batch_size: int = 20,
    data: Any = None,
    **trainer: Any,
) -> tuple[AnomalyDetector, dict[str, Tensor]]:
    pl.seed_everything(seed, verbose=False)
    fitting = make_trainer(max_epochs=4, **trainer)
    with first_epochs_shared(shelf):
        fitting.fit(detector, datamodule=data or OneVsAll(Stripes(), normal_class=0, batch_size=batch_size))
    return detector, {**detector.state_dict(), "steps": torch.tensor(fitting.global_step)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("cls", "given"),
    [(DeepSAD, {"eta": 1.0}), (DeepSVDD, {}), (SoftBoundaryDeepSVDD, {"nu": 0.2, "warm_up_epochs": 1})],
)
def test_what_follows_a_phase_that_was_found_is_the_same_to_the_bit(
    make_trainer: MakeTrainer, cls: type[AnomalyDetector], given: dict[str, Any], tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path, "code")
    first, _ = fitted(make_trainer, DeepSAD, shelf, eta=5.0)
    found, state = fitted(make_trainer, cls, shelf, **given)
    _, alone = fitted(make_trainer, cls, None, **given)
    assert TAKEN not in first.remarks()
    assert TAKEN in found.remarks()
    assert same(state, alone)
    assert found.current_epoch == 4
    assert len(list(tmp_path.iterdir())) == 1


def test_a_fit_that_took_epochs_and_goes_on_from_its_checkpoint_still_says_so(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path / "shelf", "code")
    fitted(make_trainer, DeepSAD, shelf)
    found, _ = fitted(make_trainer, DeepSAD, shelf)
    found.trainer.save_checkpoint(tmp_path / "c.ckpt")
    detector = DeepSAD(encoder=ENCODER, pretraining=PHASE)
    data = OneVsAll(Stripes(), normal_class=0, batch_size=20)
    begun: dict[str, Any] = {"ckpt_path": str(tmp_path / "c.ckpt"), "weights_only": True}
    make_trainer(max_epochs=5).fit(detector, datamodule=data, **begun)
    assert TAKEN in detector.remarks()
    make_trainer(max_epochs=4).fit(detector, datamodule=data)
    assert TAKEN not in detector.remarks()  # all of these are its own


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"batch_size": 10},
        {"version": "newer"},
        {"weight_init": "framework"},
        {"encoder": partial(ENCODER, leakiness=0.2)},
        {"pretraining": AutoencoderPretraining(epochs=3)},
    ],
)
def test_another_phase_is_not_taken(make_trainer: MakeTrainer, other: dict[str, Any], tmp_path: Path) -> None:
    fitted(make_trainer, DeepSAD, Shelf(tmp_path, "code"))
    options = dict(other)
    detector, _ = fitted(make_trainer, DeepSAD, Shelf(tmp_path, options.pop("version", "code")), **options)
    assert TAKEN not in detector.remarks()
    assert len(list(tmp_path.iterdir())) == 2


CODES = AutoencoderFeatures(encoder=ENCODER, lr_scheduler=partial(MultiStepLR, milestones=[1, 3]))


@pytest.mark.parametrize(
    ("features", "after"),
    [
        (CODES, OCSVM),
        (replace(CODES, lr_scheduler=partial(ExponentialLR, gamma=0.5)), OCSVM),
        (replace(CODES, optimizer=partial(SGD, lr=1e-2, momentum=0.9)), partial(IsolationForest, n_estimators=10)),
        (replace(CODES, lr_scheduler=None), KDE),
    ],
)
def test_estimators_of_the_same_codes_share_all_epochs_but_the_last(
    make_trainer: MakeTrainer, features: AutoencoderFeatures, after: Callable[..., AnomalyDetector], tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path, "code")
    first, _ = after_four_epochs(make_trainer, LOF(features=features), shelf)
    found, state = after_four_epochs(make_trainer, after(features=features), shelf)
    alone, expected = after_four_epochs(make_trainer, after(features=features), None)
    assert TAKEN not in first.remarks()
    assert TAKEN in found.remarks()
    assert same(state, expected)
    assert found.current_epoch == 4
    x = np.random.default_rng(0).random((50, 1, 16, 16), dtype=np.float32)
    np.testing.assert_array_equal(found.score(x), alone.score(x))
    assert [each.state_dict()["param_groups"] for each in found.trainer.optimizers] == [
        each.state_dict()["param_groups"] for each in alone.trainer.optimizers
    ]


def test_other_codes_are_not_taken(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    watched = partial(ReduceLROnPlateau, patience=0)
    after_four_epochs(make_trainer, LOF(features=replace(CODES, lr_scheduler=watched)), Shelf(tmp_path, "code"))
    assert not list(tmp_path.iterdir())  # what it watched is not kept
    after_four_epochs(make_trainer, LOF(), Shelf(tmp_path, "code"))
    assert not list(tmp_path.iterdir())  # there is nothing to train
    for n, features in enumerate([CODES, replace(CODES, weight_init="framework"), replace(CODES, lr_scheduler=None)]):
        detector, _ = after_four_epochs(make_trainer, LOF(features=features), Shelf(tmp_path, "code"))
        assert TAKEN not in detector.remarks()
        assert len(list(tmp_path.iterdir())) == n + 1


def test_batches_of_pairs_are_not_those_of_samples(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def data() -> AnomalyLabelled:
        return AnomalyLabelled(Paradigms(n_unlabelled=60, n_test=30), validation_fraction=0.0, batch_size=64)

    codes = AutoencoderFeatures()
    for make in (KDE, BiasedSVM):  # known anomalies are left out of both: the rows are the same
        detector, _ = after_four_epochs(make_trainer, make(features=codes), Shelf(tmp_path, "code"), data=data())
        assert TAKEN not in detector.remarks()
    detector, _ = after_four_epochs(make_trainer, LOF(features=codes), Shelf(tmp_path, "code"), data=data())
    assert TAKEN in detector.remarks()


@pytest.mark.parametrize(
    "trainer", [{"max_steps": 1000}, {"plugins": [MixedPrecision("16-mixed", "cpu", GradScaler())]}]
)
def test_epochs_that_lightning_or_a_scaler_would_go_on_otherwise_are_not_shared(
    make_trainer: MakeTrainer, trainer: dict[str, Any], tmp_path: Path
) -> None:
    _, state = fitted(make_trainer, DeepSAD, Shelf(tmp_path, "code"), trainer=trainer)
    assert state["steps"] > 0
    assert not list(tmp_path.iterdir())


class NoisyCodesKDE(KDE):
    """One's own method may train otherwise; it has arguments of its own."""

    __module__ = "mine"

    def __init__(self, noise: float) -> None:
        super().__init__(features=CODES)
        self.noise = noise


def test_a_method_of_ones_own_shares_nothing_that_it_did_not_declare(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    after_four_epochs(make_trainer, NoisyCodesKDE(0.1), Shelf(tmp_path, "code"))
    assert not list(tmp_path.iterdir())


def sealed(file: Path, content: Any) -> None:
    """Write what somebody who knows the format would."""
    torch.save(content, buffer := io.BytesIO())
    file.write_bytes(hashlib.sha256(file.name.encode() + buffer.getvalue()).digest() + buffer.getvalue())


@pytest.mark.parametrize(
    "damage",
    ["cut", "empty", "a bit", "of other cells", "a folder", "another", "a list", "other steps", "not a number"],
)
def test_damaged_epochs_are_trained(make_trainer: MakeTrainer, damage: str, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "code")
    _, expected = after_four_epochs(make_trainer, KDE(features=CODES), shelf)
    (file,) = tmp_path.iterdir()
    data = file.read_bytes()
    content = torch.load(io.BytesIO(data[32:]), weights_only=True)
    if damage in ("cut", "empty"):
        file.write_bytes(data[:1000] if damage == "cut" else b"")
    elif damage == "a bit":
        weight = next(value for value in content["state_dict"].values() if value.numel() > 50).numpy().tobytes()
        at = data.index(weight) + 2
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif damage == "of other cells":
        after_four_epochs(make_trainer, KDE(features=CODES), shelf, seed=1)
        (other,) = set(tmp_path.iterdir()) - {file}
        other.replace(file)
    elif damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage in ("another", "a list"):
        sealed(file, {"a": 1} if damage == "another" else [1])
    elif damage == "other steps":
        sealed(file, content | {"global_step": 7})
    else:
        name, value = next(iter(content["state_dict"].items()))
        sealed(file, content | {"state_dict": {**content["state_dict"], name: value * torch.nan}})
    with pytest.warns(UserWarning, match="is not taken, the epochs that it should hold are trained"):
        detector, state = after_four_epochs(make_trainer, KDE(features=CODES), shelf)
    assert TAKEN not in detector.remarks()
    assert same(state, expected)
    if damage != "a folder":
        assert TAKEN in after_four_epochs(make_trainer, KDE(features=CODES), shelf)[0].remarks()  # it is whole again


def test_a_full_disk_keeps_nothing(make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(UserWarning, match="is not kept, other cells train these epochs themselves"):
        after_four_epochs(make_trainer, KDE(features=CODES), Shelf(tmp_path, "code"))
    assert not list(tmp_path.iterdir())


def test_where_there_can_be_no_folder_nothing_is_shared(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("")
    with pytest.warns(UserWarning, match="is not kept"):
        after_four_epochs(make_trainer, KDE(features=CODES), Shelf(tmp_path / "a file", "code"))


def test_batches_that_are_changed_while_training_share_none(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16), dtype=np.uint8)
    data = ad.Arrays(x, synthetic_anomalies=ad.CutPaste(), batch_size=10)
    detector = ad.DeepSAD(pretraining=AutoencoderPretraining(epochs=1))
    with first_epochs_shared(Shelf(tmp_path, "code")):
        ad.fit(detector, data, max_epochs=2, progress=False)
    assert not list(tmp_path.iterdir())
