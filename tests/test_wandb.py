"""A W&B run, offline and read back from disk: it says what the run folder says, and begins only where a fit does."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
import yaml
from offline_wandb import OfflineRun
from pytorch_lightning.loggers import WandbLogger
from refusals import Capture, refused
from torch import nn

from adlightning.__main__ import main
from adlightning.benchmark.code import code_version
from adlightning.callbacks.wandb_mapping import group_of, name_of, summary_of, tags_of
from adlightning.callbacks.wandb_report import call_by, learning_rates

ROOT = Path(__file__).parents[1]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
TO_WANDB = ["--trainer.logger=WandbLogger", "--trainer.logger.log_model=true", "--trainer.logger.tags=[mine]"]

REPORT: dict[str, Any] = {
    "detector": "DROCC",
    "data": "CIFAR10, normal class cat",
    "protocol": "clean",
    "notes": ["trained on 5 of an epoch's 9 batches"],
    "selection": "none",
    "test_sets": {
        "test": {
            "normal": 2,
            "anomalies": 3,
            "metrics": {"auroc": {"value": 0.75, "interval": [0.5, 1.0]}},
            "at_threshold": {"recall": 0.25, "flagged": 1},
        }
    },
    "threshold": {"rule": "NormalQuantile", "score": None, "fitted_on": "validation"},
    "seed": 3,
    "seconds": {"fit": 1.5},
}


def arguments(folder: Path, *options: str, config: str = "density_ratio/digits") -> list[str]:
    return ["fit", "--config", str(ROOT / f"configs/{config}.yaml"), f"--run_dir={folder}", *QUIET, *options]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with step curves, a validation metric that selects, and a test that is transductive."""
    wandb.teardown()  # other tests of this process may have begun a session, whose mode would stay
    folder = tmp_path_factory.mktemp("wandb") / "run"
    options = ["--trainer.max_epochs=3", "--monitor=val/divergence", "--data.unlabelled_validation_fraction=0.2"]
    assert main(arguments(folder, *options, *TO_WANDB)) == 0
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return report


@pytest.fixture(scope="module")
def run(folder: Path) -> OfflineRun:
    return OfflineRun(folder)


# ---- one mapping ----------------------------------------------------------------------------------------------------


def test_every_value_of_a_report_has_a_name() -> None:
    assert summary_of(REPORT) == {
        "detector": "DROCC",
        "data": "CIFAR10, normal class cat",
        "protocol": "clean",
        "notes": ["trained on 5 of an epoch's 9 batches"],
        "selection": "none",
        "test/normal": 2,
        "test/anomalies": 3,
        "test/auroc": 0.75,
        "test/auroc/low": 0.5,
        "test/auroc/high": 1.0,
        "test/at_threshold/recall": 0.25,
        "test/at_threshold/flagged": 1,
        "threshold/rule": "NormalQuantile",
        "threshold/score": None,
        "threshold/fitted_on": "validation",
        "seed": 3,
        "seconds/fit": 1.5,
    }
    test = REPORT["test_sets"]["test"]
    several = summary_of(REPORT | {"test_sets": {"mnist": test, "noise": test}})
    assert {"test/mnist/auroc", "test/noise/auroc/low"} <= several.keys()


def test_names_and_tags() -> None:
    assert name_of(REPORT) == "DROCC CIFAR10, normal class cat, seed 3"
    assert name_of(REPORT, trial="a1b2") == "DROCC CIFAR10, normal class cat, seed 3 a1b2"
    assert len(name_of(REPORT | {"data": "x" * 200})) == 128
    assert group_of(REPORT) == "DROCC CIFAR10, normal class cat"
    own = ["DROCC", "CIFAR10", "normal class cat", "seed 3"]
    assert tags_of(REPORT) == [*own, "clean"]
    assert tags_of(REPORT | {"selection": "oracle-ood"}) == [*own, "clean", "oracle-ood"]
    assert tags_of(REPORT | {"protocol": "transductive", "selection": "val"}) == [*own, "transductive"]
    assert max(map(len, tags_of(REPORT | {"data": "x" * 200}))) == 64


def test_learning_rates_have_lightnings_names() -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(4)]
    groups: list[dict[str, Any]] = [{"params": weights[2:3]}, {"params": weights[3:], "lr": 0.5}]
    turns = [torch.optim.SGD(weights[:1], lr=0.1), torch.optim.SGD(weights[1:2], lr=0.2)]
    optimizers = [*turns, torch.optim.Adam(groups, lr=0.3)]
    trainer: Any = type("Trainer", (), {"optimizers": optimizers})()
    assert learning_rates(trainer) == {"lr-SGD": 0.1, "lr-SGD-1": 0.2, "lr-Adam/pg1": 0.3, "lr-Adam/pg2": 0.5}


def test_what_the_user_or_an_agent_names_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"WANDB_RUN_GROUP": "mine", "WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "a1b2"}
    for variable in ("WANDB_NAME", "WANDB_JOB_TYPE", *variables):
        monkeypatch.delenv(variable, raising=False)
    logger = WandbLogger(job_type="ours")
    call_by(logger, REPORT, "fit")
    named = {"name": name_of(REPORT), "group": group_of(REPORT), "job_type": "ours"}
    assert {key: logger._wandb_init[key] for key in named} == named
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    trial = WandbLogger()
    call_by(trial, REPORT, "fit")
    named = {"name": name_of(REPORT, "a1b2"), "group": "mine", "job_type": "sweep"}
    assert {key: trial._wandb_init[key] for key in named} == named


# ---- a run ----------------------------------------------------------------------------------------------------------


def test_the_summary_is_metrics_json_key_by_key(run: OfflineRun, report: dict[str, Any]) -> None:
    summary = run.summary
    expected = summary_of(report)
    assert {name: summary.get(name, "missing") for name in expected} == expected
    assert {"split", "device", "peak_memory_mb/host", "seconds/fit", "seconds/test", "versions/code"} <= expected.keys()
    assert {"threshold/fitted_on", "test/at_threshold/recall", "test/auroc/low", "selection"} <= expected.keys()


def test_the_configuration_is_that_of_the_run_and_describes_it(
    run: OfflineRun, report: dict[str, Any], folder: Path
) -> None:
    config = run.config
    own = yaml.safe_load((folder / "config.yaml").read_text())
    assert {name: config[name] for name in own} == own
    assert config["run"] == {name: report[name] for name in config["run"]}
    assert {"protocol", "selection", "split", "threshold", "versions", "device", "seed"} <= config["run"].keys()
    assert report["versions"]["code"] == code_version(own)


def test_names_groups_and_tags_come_of_method_data_class_and_seed(run: OfflineRun) -> None:
    data = "Digits, normal class 8, unlabelled: the test set itself"
    assert run.run.display_name == f"DensityRatio {data}, seed 0"
    assert (run.run.run_group, run.run.job_type, run.run.project) == (f"DensityRatio {data}", "fit", "adlightning")
    source, _, rest = data.partition(", ")
    assert list(run.run.tags) == ["mine", "DensityRatio", source, rest, "seed 0", "transductive"]


def test_metrics_keep_their_best_and_their_last_value(run: OfflineRun) -> None:
    metrics, summary = run.metrics, run.summary
    for name, best in {
        "train/loss": "min",
        "val/divergence": "min",
        "val/auroc": "max",
        "val/fpr_at_95_tpr": "min",
    }.items():
        assert getattr(metrics[name].summary, best)
        assert metrics[name].summary.last
    logged = [row["val/divergence"] for row in run.history if "val/divergence" in row]
    assert len(logged) == 3
    assert summary["val/divergence"] == {"min": min(logged), "last": logged[-1]}


def test_curves_by_epoch_and_by_step_and_learning_rates(run: OfflineRun, folder: Path) -> None:
    history = run.history
    assert [row["lr-SGD"] for row in history if "lr-SGD" in row] == [0.1] * 3
    assert sum("train/loss" in row for row in history) == 3
    rows = [row for row in history if "steps/step" in row]
    columns = (folder / "curves.csv").read_text().splitlines()
    assert [row["steps/step"] for row in rows] == list(range(len(columns) - 1))
    assert {f"steps/{name}" for name in columns[0].split(",")} <= rows[-1].keys()
    assert run.metrics["steps/*"].step_metric == "steps/step"


def test_every_plot_and_the_scores_are_there(run: OfflineRun, folder: Path) -> None:
    plots = {f"plots/{path.stem}" for path in (folder / "plots").glob("*.png")}
    assert {"plots/loss", "plots/curves", "plots/roc", "plots/scores", "plots/most_anomalous"} <= plots
    assert plots <= {name.partition(".")[0] for name in run.summary}
    assert list(folder.rglob("media/table/scores/test*.table.json"))


def test_files_and_the_tested_checkpoint_are_artifacts_that_name_the_split(
    run: OfflineRun, report: dict[str, Any], folder: Path
) -> None:
    results, model = run.artifacts["results"], run.artifacts["model"]
    assert {entry.path for entry in results.manifest.contents} == {"config.yaml", "metrics.json", "scores.csv"}
    (entry,) = model.manifest.contents
    assert entry.path == "best.ckpt"
    assert set(model.aliases) == {"latest", "best"}
    assert model.name == f"model-{run.run.run_id}"
    for artifact in (results, model):
        assert json.loads(artifact.metadata)["split"] == report["split"]
        assert {entry.local_path.startswith(str(folder)) for entry in artifact.manifest.contents} == {True}
    held = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["adlightning"]["training"]["split"]
    assert held == report["split"]


# ---- where no run begins --------------------------------------------------------------------------------------------


@pytest.fixture
def begins_none(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    @functools.wraps(wandb.init)  # whose arguments are the logger's options
    def begin(**_: Any) -> None:
        raise AssertionError("a run begins")

    monkeypatch.setattr(wandb, "init", begin)
    yield
    assert wandb.run is None


@pytest.mark.usefixtures("begins_none")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--monitor=val/divergence", "needs held-out unlabelled samples"),
        ("--trainer.enable_checkpointing=false", "trainer.logger.log_model needs checkpoints, and none is kept"),
        ("--trainer.logger.project=a/b", "trainer.logger.project: W&B refuses 'a/b': Invalid project name"),
        (f"--trainer.logger.tags=[{'x' * 70}]", "trainer.logger.tags: W&B refuses"),
    ],
)
def test_a_refused_setting_begins_no_run_and_leaves_no_folder(
    tmp_path: Path, capsys: Capture, option: str, words: str
) -> None:
    refused(capsys, arguments(tmp_path / "run", *TO_WANDB, option), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("begins_none")
def test_a_trial_begins_none(tmp_path: Path) -> None:
    trial = ["--trainer.fast_dev_run=true", "--trainer.logger=WandbLogger"]
    assert main(arguments(tmp_path / "run", *trial, config="deep_sad/digits")) == 0
