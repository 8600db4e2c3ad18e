"""Detectors with torchvision's networks: frozen and trained, weights from a file, checkpoints, the command line."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import MakeTrainer
from torch import Tensor, nn
from torchvision import models

from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector
from adlightning.core.detector import AnomalyDetector
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import DROCC, Autoencoder, BinaryClassifier, DeepSAD
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import TorchvisionEncoder
from adlightning.testing import Stripes

ROOT = Path(__file__).parents[2]
RESNET = partial(TorchvisionEncoder, name="resnet18")
STRIPPED = partial(RESNET, strip_biases=True)
LABELLED: dict[str, Any] = {"labelled_anomaly_ratio": 0.2, "n_labelled_classes": 1}
AT_ONCE = AutoencoderPretraining(epochs=0)
DIGITS = ["fit", "--config", str(ROOT / "configs/deep_sad/digits.yaml"), "--plots=false"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]


class Painter(nn.Module):
    """A user's own decoder."""

    def __init__(self, rep_dim: int, shape: tuple[int, ...], output: str, scale: float = 1.0) -> None:
        super().__init__()
        self.shape, self.output, self.scale = shape, output, scale
        self.linear = nn.Linear(rep_dim, shape[0] * shape[1] * shape[2])

    def forward(self, code: Tensor) -> Tensor:
        x: Tensor = self.scale * self.linear(code).unflatten(1, self.shape)
        return x.sigmoid() if self.output == "sigmoid" else x


def data(**options: Any) -> OneVsAll:
    return OneVsAll(Stripes(n_train=24, n_test=4), "left", batch_size=12, seed=0, **options)


def trained(make_trainer: MakeTrainer, detector: AnomalyDetector, epochs: int = 1, **options: Any) -> pl.Trainer:
    pl.seed_everything(1)
    trainer: pl.Trainer = make_trainer(max_epochs=epochs)
    trainer.fit(detector, datamodule=data(**options))
    return trainer


def scores_survive(trainer: pl.Trainer, detector: AnomalyDetector, file: Path) -> None:
    trainer.save_checkpoint(file)
    x = Stripes(4, 4).load("test").x
    assert isinstance(x, torch.Tensor)
    assert (load_detector(file).score(x) == detector.score(x)).all()


def test_deep_sad_with_a_stripped_network(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    detector = DeepSAD(STRIPPED, pretraining=AT_ONCE)
    trainer = trained(make_trainer, detector, **LABELLED)
    assert detector.sphere.center.shape == (512,)
    scores_survive(trainer, detector, tmp_path / "a.ckpt")


def test_torchvision_draws_the_weights_of_its_networks() -> None:
    torch.manual_seed(3)
    detector = DeepSAD(STRIPPED, pretraining=AT_ONCE, weight_init="glorot")
    detector.configure_for(Stripes().input_spec())
    torch.manual_seed(3)
    network = models.resnet18()
    found = detector.sphere.encoder.state_dict()
    assert all(
        torch.equal(found[f"network.{k}"], v) for k, v in network.state_dict().items() if f"network.{k}" in found
    )


def test_deep_sad_refuses_a_network_that_could_collapse(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"network\.bn1 \(BatchNorm2d\) is affine: .* or strip_biases"):
        trained(make_trainer, DeepSAD(RESNET, pretraining=AT_ONCE))


def test_deep_sad_refuses_a_network_with_nothing_to_train(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"encoder must have weights to train, .* of TorchvisionEncoder are frozen"):
        trained(make_trainer, DeepSAD(partial(STRIPPED, frozen=True), pretraining=AT_ONCE))


def test_a_start_that_cannot_be_drawn_again_is_refused_before_the_first_phase(make_trainer: MakeTrainer) -> None:
    pretraining = AutoencoderPretraining(epochs=1, transfer=False)
    with pytest.raises(ValueError, match=r"must have a start that can be drawn again, .*TorchvisionEncoder\) has its"):
        trained(make_trainer, DeepSAD(STRIPPED, pretraining=pretraining), epochs=2)


def test_pretraining_with_a_decoder_of_lenet(make_trainer: MakeTrainer) -> None:
    detector = DeepSAD(STRIPPED, pretraining=AutoencoderPretraining(epochs=1))
    trained(make_trainer, detector, epochs=2)
    assert bool(detector.sphere.center_is_set)


@pytest.mark.parametrize("frozen", [False, True])
def test_autoencoder_with_a_decoder_of_ones_own(make_trainer: MakeTrainer, tmp_path: Path, frozen: bool) -> None:
    detector = Autoencoder(partial(RESNET, frozen=frozen), partial(Painter, scale=0.5))
    detector.configure_for(Stripes().input_spec())
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    trainer = trained(make_trainer, detector)
    after = detector.state_dict()
    encoder = [key for key in before if key.startswith("encoder.") and not key.endswith("num_batches_tracked")]
    assert all(torch.equal(before[key], after[key]) == frozen for key in encoder)
    assert not torch.equal(before["decoder.linear.weight"], after["decoder.linear.weight"])
    scores_survive(trainer, detector, tmp_path / "a.ckpt")


def test_a_frozen_network_under_a_head_learns_and_goes_on(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Resumed at once after an epoch, it is what two epochs make of it."""

    whole, first, second = (BinaryClassifier(partial(RESNET, frozen=True)) for _ in range(3))
    trained(make_trainer, whole, epochs=2, **LABELLED)
    trained(make_trainer, first, **LABELLED).save_checkpoint(tmp_path / "a.ckpt")
    pl.seed_everything(1)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(second, datamodule=data(**LABELLED), ckpt_path=str(tmp_path / "a.ckpt"))
    state = second.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())


class Constant(AnomalyDetector):
    """A detector that has an encoder and nothing else."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.encoder = TorchvisionEncoder(shape, "resnet18", frozen=True)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.anomaly_score(batch.x).mean()

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.encoder(self.preprocess(x)).norm(dim=1)
        return scores

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_detector_whose_everything_is_frozen_says_so(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="Constant has nothing to train: all its weights are frozen"):
        trained(make_trainer, Constant())


def test_drocc_takes_a_network_as_it_is(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    detector = DROCC(partial(TorchvisionEncoder, name="mobilenet_v3_small"), radius=1.0, ascent=Ascent(steps=1))
    scores_survive(trained(make_trainer, detector), detector, tmp_path / "a.ckpt")


def test_weights_of_a_file_are_those_that_training_begins_with(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = models.resnet18()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    encoder = partial(RESNET, weights=str(tmp_path / "w.pt"), frozen=True)
    detector = Autoencoder(encoder, Painter)
    trainer = trained(make_trainer, detector)
    given = detector.state_dict()
    assert all(torch.equal(given[f"encoder.network.{k}"], v) for k, v in network.state_dict().items() if "fc." not in k)
    (tmp_path / "w.pt").unlink()
    scores_survive(trainer, detector, tmp_path / "a.ckpt")
    again = make_trainer(max_epochs=2)
    again.fit(Autoencoder(encoder, Painter), datamodule=data(), ckpt_path=str(tmp_path / "a.ckpt"))


def test_the_command_line_puts_a_torchvision_network_in_the_place_of_a_configs_own(tmp_path: Path) -> None:
    options = ["--model.encoder=TorchvisionEncoder", "--model.encoder.name=resnet18"]
    options += ["--model.encoder.strip_biases=true", "--model.pretraining.epochs=1"]
    options += [f"--trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    run = tmp_path / "run"
    assert main([*DIGITS, *QUIET, *options, f"--run_dir={run}", "--trainer.max_epochs=2"]) == 0
    saved = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["encoder"]
    arguments = {"name": "resnet18", "weights": None, "frozen": False, "strip_biases": True}
    assert saved["class_path"].rpartition(".")[2] == "TorchvisionEncoder"
    assert saved["init_args"] == arguments
    assert load_detector(run).state_dict()["sphere.center"].shape == (512,)
    assert main(["test", "--ckpt_path", str(run), "--trainer.limit_test_batches=1", "--plots=false", *QUIET]) == 0
