"""The supervised classifier: its loss by hand, what counts as normal, and that it asks for known anomalies."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.core.contracts import InputSpec
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import BinaryClassifier
from adlightning.methods.binary_classifier import classification_loss
from adlightning.methods.parts.head import Head
from adlightning.networks import LeNetEncoder, MLPEncoder
from adlightning.preprocessing import Identity, StandardizeFeatures
from adlightning.testing import Blobs, Stripes

ENCODER = partial(MLPEncoder, dense=(16,), rep_dim=4)


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
    detector = BinaryClassifier(ENCODER, preprocessing=Identity)
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
    detector = BinaryClassifier(partial(LeNetEncoder, rep_dim=16))
    with pytest.raises(ValueError, match=r"BinaryClassifier needs known anomalies.*data\.labelled_anomaly_ratio"):
        trainer.fit(detector, datamodule=OneVsAll(Stripes(), 0, batch_size=16, seed=0))
    assert trainer.global_step == 0


def test_the_sign_of_the_log_odds_is_the_class(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    detector = BinaryClassifier(ENCODER, preprocessing=StandardizeFeatures, optimizer=partial(Adam, lr=1e-2))
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


class Squeezing(nn.Module):
    """An encoder of one's own, with what others refuse: a bias and a bounded activation."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(shape[0], 9), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.net(x)
        return codes


def test_an_encoder_and_an_optimiser_of_ones_own_resume_to_the_bit(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def detector() -> BinaryClassifier:
        torch.manual_seed(0)
        cosine = partial(CosineAnnealingLR, T_max=3)
        head = Head(dense=(5,), activation="leaky_relu")
        return BinaryClassifier(Squeezing, head, optimizer=partial(AdamW, lr=1e-2), lr_scheduler=cosine)

    def data() -> AnomalyLabelled:
        return AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)

    whole = detector()
    make_trainer(max_epochs=3).fit(whole, datamodule=data())
    assert [tuple(weight.shape) for weight in whole.head.parameters()] == [(5, 9), (5,), (1, 5), (1,)]
    first = make_trainer(max_epochs=1)
    first.fit(detector(), datamodule=data())
    first.save_checkpoint(tmp_path / "first.ckpt")
    resumed, trainer = detector(), make_trainer(max_epochs=3)
    trainer.fit(resumed, datamodule=data(), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)  # the cosine's end
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
