"""The verbs as a user runs them, in one process: from a config to a tested detector, and again from its checkpoint."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from pytorch_lightning.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]  # public all the same

from adlightning.__main__ import VERBS, main
from adlightning.checkpoints.loading import load_detector
from adlightning.cli.arguments import prepared
from adlightning.cli.fitting import MONITORS
from adlightning.cli.summary import TITLES
from adlightning.cli.trainer_verbs import run as run_verb
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import DeepSAD

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "configs/deep_sad/digits.yaml")
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]
SHORT = [*QUIET, "--trainer.max_epochs=4", "--model.pretraining.epochs=2"]
NO_PLOTS = "--plots=false"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    arguments = ["fit", "--config", DIGITS, "--data.normal_class=3", "--model.eta=2", f"--run_dir={folder}", *SHORT]
    assert main(arguments) == 0
    return folder


def metrics(folder: Path) -> dict[str, float]:
    report = json.loads((folder / "metrics.json").read_text())
    return {name: entry["value"] for name, entry in report["test_sets"]["test"]["metrics"].items()}


def test_fit_leaves_a_whole_run_folder(run: Path) -> None:
    for name in ("config.yaml", "checkpoints/last.ckpt", "scores.csv", "metrics.json", "logs/version_0/metrics.csv"):
        assert (run / name).is_file(), name
    for name in ("roc", "scores", "most_anomalous", "least_anomalous"):
        assert Image.open(run / "plots" / f"{name}.png").size[0] > 200
    report = json.loads((run / "metrics.json").read_text())
    assert report["selection"] == "none"
    assert report["protocol"] == "clean"
    assert report["threshold"]["fitted_on"] == "validation"
    assert report["seconds"].keys() == {"fit", "test"}
    assert report["peak_memory_mb"]["host"] > 100
    assert report["samples"]["train_known_anomalies"] > 0
    scores = pd.read_csv(run / "scores.csv")
    assert list(scores.columns) == ["index", "name", "label", "score", "p_value", "verdict", "test_set"]
    assert len(scores) == report["samples"]["test"]
    assert ((scores.verdict == "anomaly") == (scores.score > report["threshold"]["score"])).all()


def test_overrides_reach_the_run_and_its_saved_config(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["eta"] == 2.0
    assert config["data"]["init_args"]["normal_class"] == "3"
    assert load_detector(run).arguments["eta"] == 2.0


def test_interpolated_paths_see_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load(Path(DIGITS).read_text())
    config["run_dir"] = str(tmp_path) + "/class-${data.init_args.normal_class}/seed-${seed_everything}"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--data.normal_class=7", "--seed_everything=11", "--trainer.fast_dev_run=true", *QUIET, NO_PLOTS]
    assert main(["fit", "--config", str(tmp_path / "c.yaml"), *arguments, "--model.pretraining.epochs=0"]) == 0
    saved = yaml.safe_load((tmp_path / "class-7" / "seed-11" / "config.yaml").read_text())
    assert saved["run_dir"] == f"{tmp_path}/class-7/seed-11"
    assert saved["seed_everything"] == 11


def test_a_run_folders_config_can_be_run_again(run: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(run / "config.yaml"), f"--run_dir={tmp_path / 'again'}", NO_PLOTS]) == 0
    assert metrics(tmp_path / "again") == metrics(run)
    assert (tmp_path / "again/scores.csv").read_text() == (run / "scores.csv").read_text()


def test_test_works_from_the_checkpoint_alone(run: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "moved.ckpt"
    checkpoint.write_bytes((run / "checkpoints/last.ckpt").read_bytes())
    assert main(["test", "--ckpt_path", str(checkpoint), f"--run_dir={tmp_path / 'test'}", *QUIET, NO_PLOTS]) == 0
    assert metrics(tmp_path / "test") == metrics(run)


def test_validate_and_predict_work_with_a_run_folder(run: Path, tmp_path: Path) -> None:
    assert main(["validate", f"--ckpt_path={run}", f"--run_dir={tmp_path / 'validate'}", *QUIET]) == 0
    assert main(["predict", f"--ckpt_path={run}", f"--run_dir={tmp_path / 'predict'}", *QUIET]) == 0
    assert (tmp_path / "predict/scores.csv").read_text() == (run / "scores.csv").read_text()


def test_the_checkpoints_arguments_win_with_a_warning(run: Path, tmp_path: Path) -> None:
    arguments = [f"--ckpt_path={run}", "--model.eta=9", f"--run_dir={tmp_path / 't'}", *QUIET, NO_PLOTS]
    with pytest.warns(UserWarning, match=r"model\.eta=9.* is ignored: the checkpoint was trained with 2"):
        assert main(["test", *arguments]) == 0
    notes = json.loads((tmp_path / "t/metrics.json").read_text())["notes"]
    assert "model.eta=9.0 is ignored: the checkpoint was trained with 2.0" in notes


def test_monitor_selects_the_best_checkpoint_and_says_so(tmp_path: Path) -> None:
    arguments = ["--monitor=val/auroc", "--data.validation_anomalies=10", f"--run_dir={tmp_path / 'r'}", *SHORT]
    assert main(["fit", "--config", DIGITS, *arguments, NO_PLOTS]) == 0
    assert (tmp_path / "r/checkpoints/best.ckpt").is_file()
    assert json.loads((tmp_path / "r/metrics.json").read_text())["selection"] == "oracle-ood"


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path}", *SHORT]) == 2
    assert f"run_dir: {tmp_path} is not empty and nothing is overwritten" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "precious.txt"]


def test_a_run_folder_below_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'file' / 'run'}", *SHORT]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_run_folder_without_permission_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **options: mode != os.W_OK and access(path, mode, **options))
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'run'}", *SHORT]) == 2
    assert "no permission" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.normal_class=nine"], "normal_class: there is no class 'nine'; classes are 0, 1, 2"),
        (["--data.labelled_anomaly_ratio=1.5"], "labelled_anomaly_ratio must lie in [0, 1), got 1.5"),
        (["--trainer.max_epochs=2"], "--trainer.max_epochs=4 or --model.pretraining.epochs=1"),
        (["--model.eta=-1"], "eta must be positive and finite, got -1.0"),
    ],
)
def test_bad_input_is_one_message_before_training(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [argument for argument in SHORT if argument.partition("=")[0] != arguments[0].partition("=")[0]]
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'r'}", *short, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "r" / "checkpoints").exists()


@pytest.mark.parametrize("config", [[f"--config={DIGITS}"], ["-c", DIGITS]])
def test_a_config_after_the_options_that_it_would_undo_is_refused(
    capsys: pytest.CaptureFixture[str], config: list[str]
) -> None:
    assert main(["fit", "--data.normal_class=3", *config]) == 2
    assert "config must come before the options that override it, got --data.normal_class" in capsys.readouterr().err


def test_misspelt_options_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("--model.etta=1", "--data.normal_clas=1", "--trainer.maxx_epochs=1", "--model.encoder=LeNettEncoder"):
        with pytest.raises(SystemExit):
            main(["fit", "--config", DIGITS, wrong])
        assert wrong.partition("=")[0].split(".")[1] in capsys.readouterr().err


def test_a_checkpoint_of_another_class_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(ROOT / "configs/autoencoder/digits.yaml")
    assert main(["test", "--config", config, f"--ckpt_path={run}", *QUIET]) == 2
    assert "holds a DeepSAD, not a Autoencoder" in capsys.readouterr().err


def test_test_without_a_checkpoint_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--config", DIGITS, *QUIET]) == 2
    assert "ckpt_path" in capsys.readouterr().err


def test_training_that_collapses_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model.optimizer.lr=1e30", f"--run_dir={tmp_path / 'r'}", *QUIET, "--trainer.max_epochs=6"]
    assert main(["fit", "--config", str(ROOT / "configs/autoencoder/digits.yaml"), *arguments]) == 1
    assert "training failed: epoch" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)


def test_unknown_verbs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "there is no verb 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--model.help=DeepSAD", ["eta", "pretraining", "encoder", "threshold", "weight of labelled"]),
        ("--data.help=OneVsAll", ["normal_class", "pollution_ratio", "batch_size", "validation_fraction"]),
        ("--help=full", ["--run_dir", "--monitor", "--trainer.max_epochs", "--trainer.num_sanity_val_steps"]),
    ],
)
def test_help_of_methods_and_data_is_readable(
    option: str, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", option])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in expected)


def test_help_names_networks_and_not_the_layers_of_torch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--model.help=DeepSAD"])
    out = "".join(capsys.readouterr().out.split())
    assert "adlightning.TorchvisionEncoder" in out
    assert "anytorch.nn.Modulebyitsimportpath" in out
    assert "torch.optim.AdamW" in out
    assert "torch.nn.ReLU" not in out


def test_print_config_shows_the_resolved_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", DIGITS, "--data.normal_class=4", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["normal_class"] == "4"


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_the_short_help_names_options_that_there_are(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    short = capsys.readouterr().out
    assert max(map(len, short.splitlines())) <= 80
    with pytest.raises(SystemExit):
        main([verb, "--help=full"])
    there = capsys.readouterr().out
    of_parts = {
        f"--{key}.{name}"
        for key, cls in (("model", DeepSAD), ("data", OneVsAll), ("data", AnomalyDataModule))
        for name in signature(cls).parameters
    }
    named = {option.removesuffix("+") for option in re.findall(r"^  (--[\w.=+]+)", short, flags=re.MULTILINE)}
    assert len(named) > 15
    for option in named - {"--help=full", "--model.optimizer.lr"} - of_parts:
        assert re.search(rf"{re.escape(option)}\b", there), option


@pytest.mark.parametrize("arguments", [["--help"], ["score", "--help"], ["fit", "--help"], ["test", "-h"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from adlightning.__main__ import main\n"
        f"try: main({arguments})\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'wandb', 'matplotlib', 'pandas', 'sklearn') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.slow  # a process that imports Lightning anew
def test_starting_the_trainer_imports_neither_wandb_nor_matplotlib() -> None:
    # pytorch_lightning itself imports torchmetrics, which imports matplotlib: only what comes on top of it is ours
    code = (
        "import sys, pytorch_lightning; old = set(sys.modules)\n"
        "import adlightning.cli.trainer_verbs; print(*set(sys.modules) - old)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"wandb", "matplotlib", "matplotlib.pyplot"} & set(done.stdout.split())


def test_seeded_scores_do_not_depend_on_the_global_state(run: Path) -> None:
    detector = load_detector(run)
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (5, 1, 8, 8), dtype=np.uint8))
    torch.manual_seed(1)
    first = detector.anomaly_score(x)
    torch.manual_seed(2)
    assert torch.equal(detector.anomaly_score(x), first)


def test_slurm_does_not_requeue_with_a_checkpoint_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "1", "JOB_NAME": "fit", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    arguments = ["--config", DIGITS, f"--run_dir={tmp_path / 'run'}", "--trainer.fast_dev_run=true", *QUIET]
    cli = run_verb("fit", prepared("fit", arguments))
    environment = cli.trainer._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def test_a_slurm_job_that_does_not_fit_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")  # without --ntasks-per-node, which Lightning counts by
    monkeypatch.setenv("SLURM_JOB_NAME", "fit")
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'run'}", *QUIET]) == 2
    error = capsys.readouterr().err
    assert "cannot be used here" in error
    assert "ntasks-per-node" in error


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 3)), rng.uniform(-6, 6, size=(12, 3))])
    frame = pd.DataFrame(x, columns=["width", "height", "depth"]).assign(label=[0] * 60 + [1] * 12)
    frame.to_csv(folder / "three.csv", index=False)
    frame.drop(columns="depth").to_csv(folder / "two.csv", index=False)
    return folder


def fit_table(table: Path, run_dir: Path, *arguments: str) -> int:
    config = str(ROOT / "configs/ocsvm/table.yaml")
    data = [f"--data.path={table}", "--data.label_column=label", f"--run_dir={run_dir}"]
    return main(["fit", "--config", config, *data, *QUIET, *arguments])


@pytest.mark.parametrize(
    ("table", "option", "drawn"),
    [
        ("two.csv", [], True),
        ("three.csv", [], False),
        pytest.param("three.csv", ["--boundary_features=[depth, 0]"], True, marks=pytest.mark.slow),
        pytest.param("two.csv", ["--plots=false"], False, marks=pytest.mark.slow),
    ],
)
def test_the_boundary_is_drawn_for_two_features(
    tables: Path, tmp_path: Path, table: str, option: list[str], drawn: bool
) -> None:
    assert fit_table(tables / table, tmp_path / "run", *option) == 0
    assert (tmp_path / "run/plots/boundary.png").is_file() == drawn
    if not drawn and not option:
        arguments = ["test", f"--ckpt_path={tmp_path}/run", f"--run_dir={tmp_path}/test", *QUIET]
        assert main([*arguments, "--boundary_features=[width, height]"]) == 0
        assert Image.open(tmp_path / "test/plots/boundary.png").size[0] > 200


def test_a_boundary_over_features_that_are_not_there_is_refused_before_training(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit_table(tables / "three.csv", tmp_path / "run", "--boundary_features=[width, mass]") != 0
    message = (
        "boundary_features: there is no feature 'mass'; features are 'width', 'height', 'depth' (or indices 0 to 2)"
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_summary_says_who_is_positive(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(metrics(run)) == list(TITLES)
    assert {f"val/{name}" for name in TITLES} | {"val/score_mean"} == MONITORS.keys()
    assert [name for name, mode in MONITORS.items() if mode == "min"] == ["val/score_mean", "val/fpr_at_95_tpr"]
    assert main(["test", f"--ckpt_path={run}", f"--run_dir={run}/again", *QUIET, "--plots=false"]) == 0
    shown = capsys.readouterr().out
    for title in ("recall of normals, 3 % of anomalies accepted", "F1 of anomalies at true", "F1 of normals as in"):
        assert title in shown
