"""Fits that end before there is a detector, or select nothing: refused, or nothing is said of what did not happen."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from conftest import MakeTrainer
from refusals import Capture, refused
from short_fits import BY_EPOCHS, QUIET, ROOT, config_of, options_of, slow_but
from torch.optim import Adam

from adlightning.__main__ import main
from adlightning.callbacks.timing import Timing
from adlightning.checkpoints.loading import load_detector
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources import Digits
from adlightning.methods import AMA, DeepSVDD, SoftBoundaryDeepSVDD
from adlightning.methods.ama import Negatives
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import MLPEncoder
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.testing import Blobs

CONFIG = ["--config", str(ROOT / "configs/deep_sad/digits.yaml"), *QUIET, "--plots=false"]
FIT = [*CONFIG, "--trainer.max_epochs=4", "--model.pretraining.epochs=2"]
VALIDATED = ["--data.validation_fraction=0.2", "--data.validation_anomalies=30"]
QUICK_PHASES = [f"{name}/digits" for name in ("deep_sad", "dcn", "drocc", "fence_gan")]
PHASES = [case for case in BY_EPOCHS if case.startswith(("deep_s", "dcn", "soft", "drocc", "fence", "stacked"))]


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let every run stop, as a callback can ask for, in an epoch."""

    def stop(epoch: int) -> None:
        def ask(self: Timing, trainer: pl.Trainer, *_: object) -> None:
            trainer.should_stop = trainer.should_stop or trainer.current_epoch == epoch

        monkeypatch.setattr(Timing, "on_train_batch_end", ask)

    return stop


def report(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return content


# ---- what can be known before training -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.max_steps=3", "trainer.max_steps must exceed the"),
        ("--trainer.max_steps=0", "trainer.max_steps must be at least 1, got 0"),
        ("--trainer.max_epochs=0", "trainer.max_epochs must be at least 1, got 0"),
        pytest.param(
            *("--trainer.limit_train_batches=0", "trainer.limit_train_batches=0 leaves none of an epoch's"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("--trainer.limit_train_batches=0.0", "trainer.limit_train_batches=0.0 leaves none of an epoch's"),
            marks=pytest.mark.slow,
        ),
        ("--trainer.limit_train_batches=0.001", "trainer.limit_train_batches=0.001 leaves none of an epoch's"),
        ("--trainer.overfit_batches=0.001", "trainer.overfit_batches=0.001 leaves none of an epoch's"),
        ("--trainer.limit_val_batches=0.001", "trainer.limit_val_batches=0.001 leaves none of an epoch's"),
    ],
)
def test_a_fit_that_would_train_nothing_is_refused(tmp_path: Path, capsys: Capture, option: str, words: str) -> None:
    refused(capsys, ["fit", *FIT, f"--run_dir={tmp_path / 'r'}", option], words)
    assert not (tmp_path / "r").exists()


def test_accumulated_batches_are_fewer_steps(tmp_path: Path, capsys: Capture) -> None:
    few = ["--trainer.limit_train_batches=4", "--trainer.accumulate_grad_batches=2", f"--run_dir={tmp_path / 'r'}"]
    refused(
        capsys, ["fit", *FIT, *few, "--trainer.max_steps=4"], "must exceed the 4 steps of model.pretraining.epochs=2"
    )
    assert main(["fit", *FIT, *few, "--trainer.max_steps=5"]) == 0
    assert report(tmp_path / "r")["not_tested"] is None


# ---- what is found out when it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", slow_but(QUICK_PHASES, PHASES))
def test_a_fit_stopped_in_its_first_phase_reports_nothing(
    case: str, tmp_path: Path, capsys: Capture, stop_at: Callable[[int], None]
) -> None:
    stop_at(0)
    run = tmp_path / "run"
    options = [o for o in options_of(case, 1, 2) if "warm_up_epochs=0" not in o]
    assert main(["fit", "--config", str(config_of(case)), *options, f"--run_dir={run}"]) == 1
    error = capsys.readouterr().err
    assert "the fit ended in its first phase (model." in error
    assert f"--run_dir {run} --ckpt_path last" in error
    content = report(run)
    assert content["test_sets"] == {}
    assert content["not_tested"].startswith("the fit ended in its first phase")
    assert content["threshold"]["score"] is None
    assert not (run / "scores.csv").exists()
    with pytest.raises(ValueError, match="was saved before its detector could score"):
        load_detector(run)


def test_such_a_fit_goes_on_to_a_detector(tmp_path: Path, stop_at: Callable[[int], None]) -> None:
    stop_at(0)
    assert main(["fit", *FIT, f"--run_dir={tmp_path / 'r'}"]) == 1
    stop_at(-1)
    assert main(["fit", *FIT, f"--run_dir={tmp_path / 'r'}", "--ckpt_path=last"]) == 0
    content = report(tmp_path / "r")
    assert content["not_tested"] is None
    assert content["epochs"] == 4
    assert content["threshold"]["score"] is not None


def test_no_time_at_all_is_said(tmp_path: Path, capsys: Capture) -> None:
    assert main(["fit", *FIT, f"--run_dir={tmp_path / 'r'}", "--trainer.max_time=00:00:00:00"]) == 1
    assert "the fit took no step (trainer.max_time): DeepSAD is not trained" in capsys.readouterr().err
    assert report(tmp_path / "r")["test_sets"] == {}


def test_a_trial_has_no_results_of_a_first_phase(tmp_path: Path) -> None:
    assert main(["fit", *FIT, f"--run_dir={tmp_path / 'r'}", "--trainer.fast_dev_run=true"]) == 0
    content = report(tmp_path / "r")
    assert content["test_sets"] == {}
    assert "trial (trainer.fast_dev_run)" in content["not_tested"]


@pytest.mark.parametrize("epochs", [2, 4])
def test_a_radius_that_has_not_moved_is_said(make_trainer: MakeTrainer, epochs: int) -> None:
    detector = SoftBoundaryDeepSVDD(
        encoder=partial(MLPEncoder, dense=[8], rep_dim=2),
        preprocessing=StandardizeFeatures,
        pretraining=AutoencoderPretraining(epochs=1),
        warm_up_epochs=2,
    )
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=64, seed=0)
    make_trainer(max_epochs=epochs).fit(detector, datamodule=data)
    said = ["training ended within model.warm_up_epochs=2: the radius is 0"] if epochs == 2 else []
    assert detector.remarks() == said


@pytest.mark.parametrize("epochs", [1, 2])
def test_negatives_that_never_came_are_said(make_trainer: MakeTrainer, epochs: int) -> None:
    detector = AMA(
        latent_dim=4,
        encoder=partial(StridedEncoder, width=4),
        generator=partial(ResidualGenerator, width=4),
        critic=partial(ResidualCritic, width=4),
        negatives=Negatives(warm_up_epochs=1),
    )
    data = OneVsAll(Digits(), "3", batch_size=32, seed=0)
    make_trainer(max_epochs=epochs, limit_train_batches=1).fit(detector, datamodule=data)
    said = ["training ended within model.negatives.warm_up_epochs=1: no negatives"] if epochs == 1 else []
    assert detector.remarks() == said


# ---- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trainer.limit_val_batches=0"], "trainer.limit_val_batches=0 switches it off"),
        (["--trainer.check_val_every_n_epoch=1000"], "check_val_every_n_epoch=1000 leaves none in epochs 2 to 3"),
        (["--trainer.check_val_every_n_epoch=5"], "check_val_every_n_epoch=5 leaves none in epochs 2 to 3"),
        (["--trainer.val_check_interval=1000"], "val_check_interval=1000 must not exceed the"),
        (
            ["--trainer.val_check_interval=1000", "--trainer.check_val_every_n_epoch=null"],
            "val_check_interval=1000 leaves none in epochs 2 to 3",
        ),
        (["--data.validation_fraction=0"], "data.validation_fraction must be above 0"),
        (["--data.validation_anomalies=0"], "data.validation_anomalies must be above 0"),
    ],
)
def test_a_monitor_that_sees_nothing_is_refused(
    tmp_path: Path, capsys: Capture, options: list[str], words: str
) -> None:
    arguments = [*FIT, *VALIDATED, "--monitor=val/auroc", f"--run_dir={tmp_path / 'r'}", *options]
    refused(capsys, ["fit", *arguments], "monitor=val/auroc", words)
    assert not (tmp_path / "r").exists()


def test_the_last_epoch_alone_may_be_validated(tmp_path: Path) -> None:
    options = [*VALIDATED, "--monitor=val/auroc", "--trainer.check_val_every_n_epoch=4", f"--run_dir={tmp_path / 'r'}"]
    assert main(["fit", *FIT, *options]) == 0
    assert (tmp_path / "r/checkpoints/best.ckpt").exists()
    assert report(tmp_path / "r")["selection"] == "oracle-ood"


def test_selection_is_what_was_selected(tmp_path: Path, stop_at: Callable[[int], None]) -> None:
    stop_at(2)
    options = [*VALIDATED, "--monitor=val/auroc", "--trainer.check_val_every_n_epoch=4", f"--run_dir={tmp_path / 'r'}"]
    assert main(["fit", *FIT, *options]) == 0
    content = report(tmp_path / "r")
    assert not (tmp_path / "r/checkpoints/best.ckpt").exists()
    assert content["selection"] == "none"
    assert "monitor=val/auroc selected nothing" in content["notes"][0]
    assert content["epochs"] == 3


# ---- callbacks that watch --------------------------------------------------------------------------------------------


def watching(name: str, **arguments: object) -> list[str]:
    return [f"--trainer.callbacks={name}", *(f"--trainer.callbacks.{k}={v}" for k, v in arguments.items())]


@pytest.mark.parametrize("strict", [True, False])
def test_early_stopping_counts_from_the_objective_on(make_trainer: MakeTrainer, strict: bool) -> None:
    stopping = pl.callbacks.EarlyStopping("val/score_mean", patience=2, min_delta=1e9, strict=strict)
    detector = DeepSVDD(
        encoder=partial(MLPEncoder, dense=[8], rep_dim=2),
        preprocessing=StandardizeFeatures,
        pretraining=AutoencoderPretraining(epochs=4),
    )
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=64, seed=0, validation_fraction=0.2)
    make_trainer(max_epochs=20, callbacks=[stopping]).fit(detector, datamodule=data)
    assert stopping.stopped_epoch == 6  # the best is that of epoch 4
    assert not detector.threshold.isnan()


def test_the_loss_of_a_first_phase_stops_nothing(make_trainer: MakeTrainer) -> None:
    stopping = pl.callbacks.EarlyStopping("train/loss", patience=1, min_delta=1e9)
    detector = DeepSVDD(
        encoder=partial(MLPEncoder, dense=[8], rep_dim=2),
        preprocessing=StandardizeFeatures,
        pretraining=AutoencoderPretraining(epochs=4),
    )
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=64, seed=0)
    make_trainer(max_epochs=20, callbacks=[stopping]).fit(detector, datamodule=data)
    assert stopping.stopped_epoch == 5


@pytest.mark.parametrize("monitor", ["val/auroc", "train/loss"])
def test_a_users_checkpoint_waits_for_the_objective(tmp_path: Path, monitor: str) -> None:
    options = watching("ModelCheckpoint", monitor=monitor, mode="max", save_top_k=-1, filename="{epoch}")
    assert main(["fit", *FIT, *VALIDATED, *options, f"--run_dir={tmp_path / 'r'}"]) == 0
    kept = sorted(p.name for p in (tmp_path / "r/checkpoints").glob("epoch=*"))
    assert kept == ["epoch=2.ckpt", "epoch=3.ckpt"]


@pytest.mark.parametrize("name", slow_but(["EarlyStopping"], ["EarlyStopping", "ModelCheckpoint"]))
@pytest.mark.parametrize(
    ("monitor", "words"),
    [
        ("val_loss", "must be train/loss, val/score_mean or"),
        ("train/los", "nearest: train/loss"),
        ("val/aurok", "nearest: val/auroc"),
    ],
)
def test_a_metric_that_there_never_is_is_named(
    tmp_path: Path, capsys: Capture, name: str, monitor: str, words: str
) -> None:
    arguments = [*FIT, *VALIDATED, *watching(name, monitor=monitor), f"--run_dir={tmp_path / 'r'}"]
    refused(capsys, ["fit", *arguments], f"trainer.callbacks: {name}: monitor={monitor} is not logged", words)
    assert not (tmp_path / "r").exists()


def test_a_curve_that_there_is_not_is_named_after_an_epoch(tmp_path: Path, capsys: Capture) -> None:
    config = ["--config", str(config_of("alad/digits")), *options_of("alad/digits", 1, 1)]
    watch = watching("EarlyStopping", monitor="train/encoder")
    words = ("monitor=train/encoder is not logged: what is logged is", "train/encoder_generator")
    refused(capsys, ["fit", *config, *watch, f"--run_dir={tmp_path / 'r'}"], *words)


class OnPlateau(DeepSVDD):
    """A schedule of the user's own, by held-out samples."""

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1e9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/score_mean"}}


def test_a_schedule_by_held_out_samples_waits(make_trainer: MakeTrainer) -> None:
    detector = OnPlateau(
        encoder=partial(MLPEncoder, dense=[8], rep_dim=2),
        preprocessing=StandardizeFeatures,
        pretraining=AutoencoderPretraining(epochs=2),
        optimizer=partial(Adam, lr=1e-3),
    )
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=64, seed=0, validation_fraction=0.2)
    trainer = make_trainer(max_epochs=5)
    with pytest.warns(RuntimeWarning, match="not available"):
        trainer.fit(detector, datamodule=data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-6)


# ---- shorter fits, and those that are over ---------------------------------------------------------------------------


def test_a_shorter_fit_has_a_shorter_first_phase(tmp_path: Path, capsys: Capture) -> None:
    run, again = tmp_path / "r", tmp_path / "again"
    assert main(["fit", *CONFIG, "--trainer.max_epochs=4", f"--run_dir={run}"]) == 0
    said = "model.pretraining.epochs is 2 here, in proportion to 60 of 120 epochs"
    assert said in capsys.readouterr().out
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["pretraining"]["epochs"] == 2
    assert load_detector(run).arguments["pretraining"].epochs == 2
    assert main(["fit", "--config", str(run / "config.yaml"), f"--run_dir={again}"]) == 0
    assert said not in capsys.readouterr().out
    assert (again / "scores.csv").read_text() == (run / "scores.csv").read_text()


def test_a_shorter_fit_may_go_on_for_longer(tmp_path: Path) -> None:
    run = f"--run_dir={tmp_path / 'r'}"
    assert main(["fit", *CONFIG, "--trainer.max_epochs=4", run]) == 0
    assert main(["fit", *CONFIG, "--trainer.max_epochs=6", run, "--ckpt_path=last"]) == 0
    config = yaml.safe_load((tmp_path / "r/config.yaml").read_text())
    assert (config["model"]["init_args"]["pretraining"]["epochs"], config["trainer"]["max_epochs"]) == (2, 6)


@pytest.mark.parametrize("option", ["--model.pretraining.epochs=60", "--model.init_args.pretraining.epochs=60"])
def test_a_first_phase_that_was_asked_for_stays(tmp_path: Path, capsys: Capture, option: str) -> None:
    arguments = [*CONFIG, "--trainer.max_epochs=10", option, f"--run_dir={tmp_path / 'r'}"]
    refused(capsys, ["fit", *arguments], "--trainer.max_epochs=120 or --model.pretraining.epochs=5")


def test_a_longer_fit_than_its_first_phase_is_left_alone(tmp_path: Path) -> None:
    arguments = [*CONFIG, "--trainer.max_epochs=61", "--trainer.limit_train_batches=1", f"--run_dir={tmp_path / 'r'}"]
    assert main(["fit", *arguments]) == 0
    config = yaml.safe_load((tmp_path / "r/config.yaml").read_text())
    assert config["model"]["init_args"]["pretraining"]["epochs"] == 60


def test_a_fit_that_is_over_is_not_gone_on_with(tmp_path: Path, capsys: Capture) -> None:
    run = f"--run_dir={tmp_path / 'r'}"
    assert main(["fit", *FIT, run]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    words = ("trainer.max_epochs must exceed its 4 epochs, got 4", "adlightning test")
    refused(capsys, ["fit", *FIT, run, "--ckpt_path=last"], *words)
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == before


def test_the_configuration_of_a_run_that_went_on_repeats_it(tmp_path: Path) -> None:
    run, again = tmp_path / "r", tmp_path / "again"
    assert main(["fit", *FIT[:-2], "--trainer.max_epochs=3", FIT[-1], f"--run_dir={run}"]) == 0
    assert main(["fit", *FIT, f"--run_dir={run}", "--ckpt_path=last"]) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["ckpt_path"] is None
    assert main(["fit", "--config", str(run / "config.yaml"), f"--run_dir={again}"]) == 0
    assert report(again)["epochs"] == 4
    assert (again / "scores.csv").read_text() == (run / "scores.csv").read_text()
