"""Lightning's options and callbacks: each works, with a plain fit's results where it changes none, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback
from refusals import Capture, refused
from short_fits import QUIET, ROOT, slow_but

from adlightning.__main__ import main
from adlightning.core.lightning_features import BY_HAND, OPTIONS_BY_HAND, REFUSED

FEW = ["--trainer.max_epochs=2", "--trainer.limit_train_batches=2", *QUIET, "--plots=false"]
BY_ITSELF = ["--config", str(ROOT / "configs/autoencoder/digits.yaml"), *FEW]
MANUAL = ["--config", str(ROOT / "configs/fence_gan/digits.yaml"), *FEW, "--model.pretrain_epochs=1"]

SAME = [
    "trainer.accumulate_grad_batches=1",
    "trainer.benchmark=true",
    "trainer.callbacks=DeviceStatsMonitor --trainer.callbacks.cpu_stats=false",
    "trainer.callbacks=LearningRateMonitor",
    "trainer.callbacks=ModelSummary --trainer.callbacks.max_depth=2",
    "trainer.callbacks=RichModelSummary",
    "trainer.detect_anomaly=true",
    "trainer.deterministic=true",
    "trainer.enable_checkpointing=false",
    "trainer.inference_mode=false",
    "trainer.logger=false",
    "trainer.max_time=00:01:00:00",
    "trainer.min_epochs=1",
    "trainer.num_sanity_val_steps=2",
    "trainer.profiler=simple",
    "trainer.reload_dataloaders_every_n_epochs=1",
    "trainer.sync_batchnorm=true",
    "trainer.use_distributed_sampler=true",
]
"""Options that change no result."""

OTHER = ["trainer.overfit_batches=1", "trainer.min_steps=5", "trainer.callbacks=WeightAveraging"]
OTHER += ["trainer.callbacks=EMAWeightAveraging --trainer.callbacks.decay=0.9"]
OTHER_BY_ITSELF = [
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=0.5",
    "trainer.gradient_clip_val=0.5 --trainer.gradient_clip_algorithm=value",
    "trainer.callbacks=SpikeDetection",
    "trainer.callbacks=MemoryFormat --trainer.callbacks.memory_format=channels_last",
    "trainer.callbacks=CompileNetworks --trainer.callbacks.backend=aot_eager",
    "trainer.callbacks=GradientAccumulationScheduler --trainer.callbacks.scheduling={1: 2}",
]
QUICK = (
    "trainer.overfit_batches=1",
    "trainer.callbacks=EMAWeightAveraging --trainer.callbacks.decay=0.9",
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=0.5",
    "trainer.callbacks=MemoryFormat --trainer.callbacks.memory_format=channels_last",
)


def options(written: str) -> list[str]:
    return [f"--{part}" for part in written.split(" --")]


def fitted(kind: list[str], run: Path, written: str) -> str:
    names = {option.partition("=")[0] for option in options(written)}
    kept = [option for option in kind if option.partition("=")[0] not in names]
    assert main(["fit", *kept, *options(written), f"--run_dir={run}"]) == 0
    assert json.loads((run / "metrics.json").read_text())["threshold"]["score"] is not None
    return (run / "scores.csv").read_text()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("plain")
    seeded = "seed_everything=0"
    return {"auto": fitted(BY_ITSELF, folder / "a", seeded), "manual": fitted(MANUAL, folder / "m", seeded)}


@pytest.mark.parametrize("written", slow_but(SAME[1::3], SAME))
def test_what_only_watches_changes_no_score(written: str, tmp_path: Path, plain: dict[str, str]) -> None:
    assert fitted(BY_ITSELF, tmp_path / "r", written) == plain["auto"]


@pytest.mark.parametrize("written", slow_but(SAME[:1] + SAME[3:4] + SAME[9:10], SAME))
def test_it_changes_none_of_several_players_either(written: str, tmp_path: Path, plain: dict[str, str]) -> None:
    assert fitted(MANUAL, tmp_path / "r", written) == plain["manual"]


@pytest.mark.parametrize("written", slow_but(QUICK, [*OTHER, *OTHER_BY_ITSELF]))
def test_what_changes_training_works(written: str, tmp_path: Path) -> None:
    fitted(BY_ITSELF, tmp_path / "r", written)
    if written in OTHER:
        fitted(MANUAL, tmp_path / "m", written)


_NEED = {"StochasticWeightAveraging": ["swa_lrs=0.01"], "ModelPruning": ["pruning_fn=l1_unstructured", "amount=0.5"]}


def given(name: str) -> list[str]:
    return [f"--trainer.callbacks={name}", *(f"--trainer.callbacks.{part}" for part in _NEED.get(name, []))]


@pytest.mark.parametrize("name", [kind.__name__ for kind in REFUSED])
@pytest.mark.parametrize("kind", ["auto", "manual"])
def test_what_does_not_fit_a_detector_is_refused(kind: str, name: str, tmp_path: Path, capsys: Capture) -> None:
    arguments = [*(BY_ITSELF if kind == "auto" else MANUAL), *given(name), f"--run_dir={tmp_path / 'r'}"]
    refused(capsys, ["fit", *arguments], f"trainer.callbacks: {name} is refused: it ")
    assert not (tmp_path / "r").exists()


def _by_hand() -> list[tuple[str, str]]:
    callbacks: dict[type[Callback], str] = BY_HAND
    scheduling = {"GradientAccumulationScheduler": " --trainer.callbacks.scheduling={1: 2}"}
    named = [kind.__name__ for kind in callbacks]
    written = [(f"trainer.callbacks={name}{scheduling.get(name, '')}", f"{name} is refused: it ") for name in named]
    return [*written, *((f"trainer.{option}=2", f"trainer.{option} must not be given") for option in OPTIONS_BY_HAND)]


@pytest.mark.parametrize(("written", "words"), _by_hand())
def test_what_needs_one_optimiser_is_refused_with_several(
    written: str, words: str, tmp_path: Path, capsys: Capture
) -> None:
    refused(capsys, ["fit", *MANUAL, *options(written), f"--run_dir={tmp_path / 'r'}"], words, "FenceGAN", "several")
    assert not (tmp_path / "r").exists()


def test_a_row_says_what_was_left_out_of_training(tmp_path: Path) -> None:
    run, note = tmp_path / "r", "trained on 2 of an epoch's 3 batches (trainer.limit_train_batches)"
    limited = ["fit", *BY_ITSELF, f"--run_dir={run}"]
    assert main(limited) == 0
    assert main(["test", f"--ckpt_path={run}", *QUIET, "--plots=false", f"--run_dir={tmp_path / 't'}"]) == 0
    for folder in (run, tmp_path / "t"):
        assert note in json.loads((folder / "metrics.json").read_text())["notes"]
    assert main([*limited, "--ckpt_path=last", "--trainer.max_epochs=3", "--trainer.limit_train_batches=1.0"]) == 0
    assert not [text for text in json.loads((run / "metrics.json").read_text())["notes"] if "trained on" in text]


def test_a_row_says_what_was_left_out_of_the_test(tmp_path: Path, capsys: Capture) -> None:
    limits = ["--data.eval_batch_size=100", "--trainer.limit_test_batches=1"]
    assert main(["fit", *BY_ITSELF, *limits, f"--run_dir={tmp_path / 'r'}"]) == 0
    assert main(["test", f"--ckpt_path={tmp_path / 'r'}", *QUIET, "--plots=false", f"--run_dir={tmp_path / 't'}"]) == 0
    fit, test = (json.loads((tmp_path / run / "metrics.json").read_text())["notes"] for run in ("r", "t"))
    assert "tested on 1 of 6 batches (trainer.limit_test_batches=1)" in fit
    assert "tested on 1 of 6 batches" in capsys.readouterr().out
    assert not [note for note in test if "tested on" in note]


def test_barebones_is_refused(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["fit", *BY_ITSELF, "--trainer.barebones=true", f"--run_dir={tmp_path / 'r'}"]
    refused(capsys, arguments, "trainer.barebones must be false")


def test_a_timer_of_lightnings_ends_a_fit_in_its_first_phase_without_results(tmp_path: Path, capsys: Capture) -> None:
    timer = ["--trainer.callbacks=Timer", "--trainer.callbacks.duration=00:00:00:00"]
    assert main(["fit", *MANUAL, *timer, f"--run_dir={tmp_path / 'r'}"]) == 1
    assert "FenceGAN is not trained" in capsys.readouterr().err
    assert json.loads((tmp_path / "r/metrics.json").read_text())["test_sets"] == {}
