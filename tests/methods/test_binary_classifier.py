"""The supervised classifier: its loss by hand, what counts as normal, and that it asks for known anomalies."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import Blobs, MakeTrainer, Stripes
from torch import nn

from adlightning.core.contracts import InputSpec
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import BinaryClassifier
from adlightning.methods.binary_classifier import classification_loss


def test_loss_by_hand() -> None:
    # anomaly at log-odds ln 3, so q = 3/4: -ln 3/4; unlabelled at 0: -ln 1/2; known normal at ln 3: -ln 1/4
    logits = torch.tensor([math.log(3), 0.0, math.log(3)])
    known = torch.tensor([-1, 0, 1])
    expected = (math.log(4 / 3) + math.log(2) + math.log(4)) / 3
    assert classification_loss(logits, known).item() == pytest.approx(expected)


def test_unlabelled_counts_as_normal() -> None:
    logits = torch.tensor([1.5, -0.5])
    assert classification_loss(logits, torch.tensor([0, 0])) == classification_loss(logits, torch.tensor([1, 1]))


def test_loss_is_float32_and_finite_for_sure_and_wrong_logits() -> None:
    loss = classification_loss(torch.tensor([200.0], dtype=torch.bfloat16), torch.tensor([0]))
    assert loss.dtype == torch.float32
    assert loss.item() == 200.0


def test_one_linear_unit_on_the_encoder_glorot_weights_no_decoder() -> None:
    torch.manual_seed(0)
    detector = BinaryClassifier(network="mlp", dense=(16,), rep_dim=4, preprocessing="identity")
    detector.configure_for(InputSpec("table", (6,)))
    assert {name for name, _ in detector.named_children()} == {"preprocess", "encoder", "head"}
    assert isinstance(detector.head, nn.Linear)
    assert detector.head.weight.shape == (1, 4)
    assert detector.head.bias.tolist() == [0.0]
    first = next(layer for layer in detector.encoder.modules() if isinstance(layer, nn.Linear))
    bound = math.sqrt(6 / (6 + 16))
    assert 0.9 * bound < first.weight.abs().max() <= bound


def test_training_data_without_known_anomalies_are_refused(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=1)
    detector = BinaryClassifier(conv_channels=(8, 4), rep_dim=16)
    with pytest.raises(ValueError, match=r"BinaryClassifier needs known anomalies.*data\.labelled_anomaly_ratio"):
        trainer.fit(detector, datamodule=OneVsAll(Stripes(), 0, batch_size=16, seed=0))
    assert trainer.global_step == 0


def test_the_sign_of_the_log_odds_is_the_class(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    detector = BinaryClassifier(network="mlp", dense=(16,), rep_dim=4, preprocessing="standardize", lr=1e-2)
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)
    make_trainer(max_epochs=10).fit(detector, datamodule=data)
    detector.eval()
    x, y = data.test_samples.x, torch.from_numpy(data.test_samples.y)
    assert isinstance(x, torch.Tensor)
    test = torch.from_numpy(data.split.test)
    with torch.no_grad():
        log_odds = detector.anomaly_score(x[test])
    # the sign of the log-odds is the class: more than the ranking that every detector is checked for
    assert ((log_odds > 0) == (y[test] == 1)).float().mean() > 0.95
