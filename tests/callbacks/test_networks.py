"""Compiled networks and channels last: refused where they do nothing; what they leave is a plain detector."""

from __future__ import annotations

import copy
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import Adam

from adlightning.callbacks.networks import CompileNetworks, MemoryFormat
from adlightning.core.detector import AnomalyDetector
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import ADGAN, DeepSVDD
from adlightning.methods.parts.adversarial import GradientPenalty, WeightClipping
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks.lenet import LeNetEncoder
from adlightning.shallow import GMM
from adlightning.testing import Blobs, Stripes


class Recurrent(nn.Module):
    """Rows of an image, one after the other."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.GRU(shape[-1], 4, bias=False, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.layer(x[:, 0])[0][:, -1]
        return codes


def deep_svdd(encoder: Any = partial(LeNetEncoder, conv_channels=[4], rep_dim=16)) -> DeepSVDD:
    return DeepSVDD(
        encoder=encoder,
        pretraining=AutoencoderPretraining(epochs=0),
        optimizer=partial(Adam, lr=1e-2),
        lr_scheduler=None,
    )


def fit(trainer: pl.Trainer, detector: AnomalyDetector, **options: Any) -> dict[str, Tensor]:
    pl.seed_everything(0, verbose=False)
    trainer.fit(detector, datamodule=OneVsAll(Stripes(), 0, batch_size=16, seed=0), **options)
    return detector.state_dict()


def test_recurrent_networks_are_not_compiled(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"compile nothing of DeepSVDD: sphere\.encoder has recurrent layers"):
        fit(make_trainer(callbacks=[CompileNetworks()]), deep_svdd(Recurrent))


def test_a_detector_without_steps_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="can compile nothing of GMM: it trains no network"):
        fit(make_trainer(callbacks=[CompileNetworks()]), GMM())


def test_what_torch_cannot_compile_with_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="cannot compile with backend=fast, mode=None, dynamic=None: Invalid backend"):
        fit(make_trainer(callbacks=[CompileNetworks(backend="fast")]), deep_svdd())


@pytest.mark.parametrize(("variable", "missing"), [("PATH", "g++"), ("CXX", "/nowhere/c++ -O1")])
def test_a_machine_without_a_compiler_is_told_in_a_sentence(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, variable: str, missing: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, "" if variable == "PATH" else missing)
    monkeypatch.setattr("sys.platform", "linux")
    said = rf"CompileNetworks needs a C\+\+ compiler, and there is no {re.escape(missing)}: install g\+\+, or name"
    with pytest.raises(ValueError, match=said):
        fit(make_trainer(callbacks=[CompileNetworks()]), deep_svdd())


def test_tables_have_no_channels(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(callbacks=[MemoryFormat("contiguous")])
    with pytest.raises(ValueError, match="MemoryFormat changes nothing: this DeepSVDD has no convolution of images"):
        trainer.fit(deep_svdd(None), datamodule=AnomalyLabelled(Blobs(), seed=0))


@pytest.mark.parametrize(("lipschitz", "compiled"), [(GradientPenalty(), False), (WeightClipping(), True)])
def test_a_critic_with_a_gradient_penalty_is_not_compiled(lipschitz: Any, compiled: bool) -> None:
    assert ("critic" in ADGAN(lipschitz=lipschitz).differentiated_twice) is not compiled


class Compiled(pl.Callback):
    """Whether networks were compiled in training steps and in validation; it may end a fit by an error."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.seen: set[tuple[str, bool]] = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.seen.add(("step", is_compiled(pl_module)))
        if self.fails:
            raise RuntimeError("no more")

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.seen.add(("score", is_compiled(pl_module)))


def is_compiled(module: nn.Module) -> bool:
    return any(part._compiled_call_impl is not None for part in module.modules())


def test_what_is_left_is_a_plain_detector(make_trainer: MakeTrainer) -> None:
    seen, detector = Compiled(), deep_svdd()
    found = fit(make_trainer(callbacks=[CompileNetworks(backend="eager"), seen]), detector)
    plain = fit(make_trainer(), deep_svdd())
    assert seen.seen == {("step", True), ("score", False)}
    assert not is_compiled(detector)
    assert all(torch.equal(plain[name], value) for name, value in found.items())
    assert plain.keys() == found.keys()
    x = torch.zeros(4, 1, 16, 16, dtype=torch.uint8)
    # spawned processes get a detector pickled: one of our own making, no file of a user's
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert torch.equal(other.anomaly_score(x), detector.anomaly_score(x))


def test_a_fit_that_fails_leaves_networks_as_they_are(make_trainer: MakeTrainer) -> None:
    detector = deep_svdd()
    with pytest.raises(RuntimeError, match="no more"):
        fit(make_trainer(callbacks=[CompileNetworks(backend="eager"), Compiled(fails=True)]), detector)
    assert not is_compiled(detector)


def test_a_fit_of_another_layout_goes_on_to_the_same_bits(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(max_epochs=3, callbacks=[MemoryFormat("contiguous")])
    whole = fit(trainer, deep_svdd())
    begun = make_trainer(max_epochs=1, callbacks=[MemoryFormat("contiguous")])
    fit(begun, deep_svdd())
    begun.save_checkpoint(tmp_path / "c.ckpt")
    goes_on = make_trainer(max_epochs=3, callbacks=[MemoryFormat("contiguous")])
    resumed = fit(goes_on, deep_svdd(), ckpt_path=str(tmp_path / "c.ckpt"), weights_only=True)
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
