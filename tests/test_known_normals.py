"""What each method makes of samples that are known to be normal: whether a fit changes (docs/protocols.md)."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from short_fits import slow_but
from small_detectors import METHODS, make_detector

from adlightning.core.detector import AnomalyDetector
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import DeepSAD
from adlightning.testing import Stripes

LEARN_FROM_THEM = {"deep_sad", "ss_dgm", "stacked_ss_dgm"}
"""A known normal is another sample to them than an unlabelled one."""

NEED_THEM = {"density_ratio"}
IMAGES = sorted(set(METHODS) - {"goad"} - NEED_THEM)  # GOAD takes tables only
QUICK = ("binary_classifier", "deep_sad", "ss_dgm")


def data(ratio: float) -> OneVsAll:
    return OneVsAll(
        Stripes(),
        normal_class="left",
        labelled_anomaly_ratio=0.2,
        n_labelled_classes=1,
        labelled_normal_ratio=ratio,
        validation_fraction=0.0,
        batch_size=16,
        seed=0,
    )


def fitted(make_trainer: MakeTrainer, method: str, ratio: float) -> AnomalyDetector:
    pl.seed_everything(0)
    options = {"eta": 2.0} if METHODS[method][0] is DeepSAD else {}  # with eta = 1 only eps tells the two apart
    detector = make_detector(method, "image", **options)
    make_trainer(max_epochs=6).fit(detector, datamodule=data(ratio))
    return detector


@pytest.mark.parametrize("method", slow_but(QUICK, IMAGES))
def test_a_fit_changes_where_known_normals_count_and_nowhere_else(make_trainer: MakeTrainer, method: str) -> None:
    with_them, without = fitted(make_trainer, method, 0.3), fitted(make_trainer, method, 0.0)
    _, known = with_them.data.training_rows()
    assert (known == 1).sum() > 0
    assert len(known) == len(without.data.training_rows()[1])  # nobody is added: they are among the normals anyway
    # the threshold is taken on known normals where there are some
    theirs = {name: value for name, value in without.state_dict().items() if name != "threshold"}
    same = all(torch.equal(with_them.state_dict()[name], value) for name, value in theirs.items())
    assert same == (method not in LEARN_FROM_THEM)


@pytest.mark.parametrize("method", sorted(NEED_THEM))
def test_a_method_that_contrasts_normals_with_the_rest_trains_on_one_against_all(
    make_trainer: MakeTrainer, method: str
) -> None:
    detector = make_detector(method, "image")
    make_trainer(max_epochs=1).fit(detector, datamodule=data(0.5))
    with pytest.raises(ValueError, match="needs known normals and unlabelled samples to train on, got 0 and"):
        make_trainer(max_epochs=1).fit(make_detector(method, "image"), datamodule=data(0.0))
