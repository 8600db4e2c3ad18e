"""What goes wrong on the command line: one message before training, nothing lost, nothing claimed that is not so."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from refusals import Touch, refused
from short_fits import slow_but

from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "configs/autoencoder/digits.yaml")
SAD = str(ROOT / "configs/deep_sad/digits.yaml")
TABLE = str(ROOT / "configs/autoencoder/table.yaml")
FOLDER = str(ROOT / "configs/autoencoder/folder.yaml")
SHORT = [
    "--plots=false",
    "--trainer.max_epochs=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]

CONTAMINATION = ["--model.threshold=Contamination", "--model.threshold.share=0.1"]
Capture = pytest.CaptureFixture[str]


def table(path: Path, **columns: Any) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"])
    frame["label"] = ["normal"] * 50 + ["anomaly"] * 10
    frame["id"] = [f"row-{i}" for i in range(60)]
    frame.assign(**columns).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    data = [f"--data.path={table(folder / 't.csv')}", "--data.label_column=label", "--data.name_column=id"]
    assert main(["fit", "--config", TABLE, *data, f"--run_dir={folder / 'run'}", "--seed_everything=3", *SHORT]) == 0
    return folder / "run"


# ---- the split of training is the split of testing ------------------------------------------------


@pytest.mark.parametrize("verb", slow_but(["test"], ["test", "predict", "validate"]))
@pytest.mark.parametrize("option", ["--seed_everything=0", "--data.test_fraction=0.3"])
def test_another_split_than_in_training_is_refused(
    table_run: Path, tmp_path: Path, capsys: Capture, verb: str, option: str
) -> None:
    arguments = [verb, f"--ckpt_path={table_run}", option, f"--run_dir={tmp_path / 'r'}", *SHORT]
    refused(capsys, arguments, "not split as in training", "seed 3 then", "--data.seed=3")


def test_another_test_file_may_be_tested(table_run: Path, tmp_path: Path) -> None:
    checkpoint, other = f"--ckpt_path={table_run}", f"--data.test_path={table(tmp_path / 'o.csv')}"
    assert main(["test", checkpoint, other, f"--run_dir={tmp_path / 'r'}", *SHORT]) == 0
    assert json.loads((tmp_path / "r/metrics.json").read_text())["samples"]["test"] == 60


# ---- the threshold belongs to the weights ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "source"),
    [
        (["--trainer.max_epochs=4", "--trainer.check_val_every_n_epoch=3"], "validation"),
        (["--trainer.limit_val_batches=0"], "validation"),
        (["--data.validation_fraction=0", "--trainer.max_epochs=-1", "--trainer.max_steps=7"], "training"),
        (
            [*CONTAMINATION, "--monitor=val/score_mean"],
            "training",
        ),
        (["--model.threshold=FixedThreshold", "--model.threshold.value=0.05"], "given"),
    ],
)
def test_the_stored_threshold_is_that_of_the_stored_weights(tmp_path: Path, options: list[str], source: str) -> None:
    names = [option.partition("=")[0] for option in options]
    short = [option for option in SHORT if option.partition("=")[0] not in names]
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'r'}", *short, *options]) == 0
    report = json.loads((tmp_path / "r/metrics.json").read_text())["threshold"]
    assert report["fitted_on"] == source
    detector = load_detector(tmp_path / "r")
    assert detector.threshold.item() == pytest.approx(report["score"])
    # read the same checkpoint's split again and fit the rule by hand
    from adlightning.data.one_vs_all import OneVsAll
    from adlightning.data.sources import Digits

    fraction = 0.0 if "--data.validation_fraction=0" in options else 0.1
    data = OneVsAll(Digits(), normal_class=8, validation_fraction=fraction, seed=0)
    data.setup("fit")
    x = data.train_samples.x
    assert isinstance(x, torch.Tensor)
    rows = data.split.validation if source == "validation" else data.split.train
    with torch.no_grad():
        scores = detector.anomaly_score(x[torch.from_numpy(rows)]).double().numpy()
    expected = {"validation": np.quantile(scores, 0.95), "given": 0.05}
    share = 0.1 if "Contamination" in str(options) else 0.05
    assert report["score"] == pytest.approx(expected.get(source, np.quantile(scores, 1 - share)), rel=1e-4)


# ---- selection ------------------------------------------------------------------------------------


def test_a_mean_score_is_selected_where_it_is_smallest(tmp_path: Path) -> None:
    options = ["--monitor=val/score_mean", "--model.optimizer.lr=0.2", *SHORT, "--trainer.max_epochs=5"]
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'r'}", *options]) == 0
    curve = pd.read_csv(tmp_path / "r/logs/version_0/metrics.csv")["val/score_mean"].dropna().to_numpy()
    report = json.loads((tmp_path / "r/metrics.json").read_text())
    assert report["selection"] == "val"
    assert report["epochs"] == int(curve.argmin()) + 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--monitor=val/aurok"], ["monitor must be one of", "val/auroc", "val/aurok"]),
        (["--monitor=val/auroc"], ["monitor=val/auroc", "data.validation_anomalies must be above 0"]),
        (["--monitor=val/score_mean", "--data.validation_fraction=0"], ["data.validation_fraction must be above 0"]),
        (["--monitor=val/score_mean", "--trainer.enable_checkpointing=false"], ["enable_checkpointing"]),
    ],
)
def test_a_monitor_that_selects_nothing_is_refused(
    tmp_path: Path, capsys: Capture, options: list[str], words: list[str]
) -> None:
    refused(capsys, ["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'r'}", *SHORT, *options], *words)
    assert not (tmp_path / "r").exists()


# ---- nothing is lost ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that no test changes."""
    run = tmp_path_factory.mktemp("kept") / "run"
    assert main(["fit", "--config", DIGITS, f"--run_dir={run}", *SHORT]) == 0
    return run


@pytest.fixture
def digits_run(tmp_path: Path) -> Path:
    assert main(["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'run'}", *SHORT]) == 0
    return tmp_path / "run"


def test_going_on_keeps_the_older_results(digits_run: Path) -> None:
    before = {name: (digits_run / name).read_text() for name in ("config.yaml", "metrics.json", "scores.csv")}
    config = str(digits_run / "config.yaml")
    assert main(["fit", "--config", config, "--ckpt_path=last", "--trainer.max_epochs=4"]) == 0
    for name, text in before.items():
        stem, _, suffix = name.partition(".")
        assert (digits_run / f"{stem}-1.{suffix}").read_text() == text
        assert (digits_run / name).read_text() != text
    assert yaml.safe_load((digits_run / "config.yaml").read_text())["trainer"]["max_epochs"] == 4
    assert json.loads((digits_run / "metrics.json").read_text())["epochs"] == 4


def test_going_on_ends_where_an_undisturbed_fit_does(digits_run: Path, tmp_path: Path) -> None:
    arguments = ["fit", "--config", DIGITS, *SHORT, "--trainer.max_epochs=4"]
    assert main([*arguments, f"--run_dir={digits_run}", "--ckpt_path=last"]) == 0
    assert main([*arguments, f"--run_dir={tmp_path / 'whole'}"]) == 0
    assert (digits_run / "scores.csv").read_text() == (tmp_path / "whole/scores.csv").read_text()


def test_only_a_runs_own_folder_is_gone_on_in(kept_run: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "scores.csv").write_text("mine")
    checkpoint = f"--ckpt_path={kept_run / 'checkpoints/last.ckpt'}"
    refused(capsys, ["fit", "--config", DIGITS, f"--run_dir={tmp_path}", checkpoint, *SHORT], "is not empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/scores.csv").write_text("mine")
    arguments = ["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'other'}", "--ckpt_path=last", *SHORT]
    refused(capsys, arguments, "no checkpoint at")
    assert (tmp_path / "scores.csv").read_text() == (tmp_path / "other/scores.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--model.optimizer.lr=0.5", ["model.optimizer.lr=0.5", "a fit goes on with what it began with, 0.001"]),
        ("--data.normal_class=3", ["not split as in training"]),
    ],
)
def test_going_on_with_other_settings_is_refused(
    kept_run: Path, capsys: Capture, option: str, words: list[str]
) -> None:
    before = {path: path.read_bytes() for path in kept_run.rglob("*") if path.is_file()}
    arguments = ["fit", "--config", DIGITS, f"--run_dir={kept_run}", "--ckpt_path=last", *SHORT, option]
    refused(capsys, arguments, *words)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_refused_fit_leaves_no_folder_behind(tmp_path: Path, capsys: Capture) -> None:
    arguments = ["fit", "--config", TABLE, f"--run_dir={tmp_path / 'r'}", *SHORT]
    refused(capsys, [*arguments, f"--data.path={tmp_path / 'none.csv'}"], "none.csv")
    assert not (tmp_path / "r").exists()
    assert main([*arguments, f"--data.path={table(tmp_path / 't.csv')}", "--data.drop_columns=[label, id]"]) == 0


# ---- data that cannot be trained on ---------------------------------------------------------------


def image(path: Path, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(sum(str(path).encode())).integers(0, 255, size).astype(np.uint8)).save(path)


@pytest.mark.parametrize("fault", ["floats", "corrupt", "empty", "missing"])
def test_folders_that_cannot_be_trained_on(tmp_path: Path, capsys: Capture, fault: str) -> None:
    words = {"floats": ["odd.tif", "white"], "corrupt": ["bad.png"], "empty": ["train"], "missing": ["nowhere"]}
    root = tmp_path / ("nowhere" if fault == "missing" else "images")
    if fault != "missing":
        (root / "train/normal").mkdir(parents=True)
    if fault not in ("missing", "empty"):
        for i in range(20):
            image(root / f"train/normal/{i}.png")
    if fault == "floats":
        Image.fromarray(np.full((16, 16), 0.5, dtype=np.float32)).save(root / "train/normal/odd.tif")
    if fault == "corrupt":
        whole = (root / "train/normal/0.png").read_bytes()
        (root / "train/normal/bad.png").write_bytes(whole[: len(whole) // 2])
    arguments = ["fit", "--config", FOLDER, f"--data.root={root}", f"--run_dir={tmp_path / 'r'}", *SHORT]
    refused(capsys, arguments, *words[fault])
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"b": [float("nan")] + [1.0] * 59}, ["b", "missing"]),
        ({"b": [float("inf")] + [1.0] * 59}, ["b", "inf"]),
        ({"b": ["long"] * 60}, ["b", "long"]),
        ({"b": [2.0] * 60}, ["b", "constant_features"]),
        ({"label": ["odd"] * 60}, ["label", "odd"]),
    ],
)
def test_tables_that_cannot_be_trained_on(
    tmp_path: Path, capsys: Capture, columns: dict[str, Any], words: list[str]
) -> None:
    path = table(tmp_path / "t.csv", **columns)
    data = [f"--data.path={path}", "--data.label_column=label", "--data.drop_columns=[id]"]
    refused(capsys, ["fit", "--config", TABLE, *data, f"--run_dir={tmp_path / 'r'}", *SHORT], *words)


def test_a_missing_column_is_named(tmp_path: Path, capsys: Capture) -> None:
    data = [f"--data.path={table(tmp_path / 't.csv')}", "--data.label_column=target"]
    refused(capsys, ["fit", "--config", TABLE, *data, f"--run_dir={tmp_path / 'r'}", *SHORT], "target", "label")


def test_normal_only_data_have_no_ranking_and_say_so(tmp_path: Path, capsys: Capture) -> None:
    for i in range(30):
        image(tmp_path / f"images/train/normal/{i}.png")
    fit = [
        "fit",
        "--config",
        FOLDER,
        f"--data.root={tmp_path / 'images'}",
        "--model.encoder.conv_channels=[8,4]",
        *SHORT,
    ]
    assert main([*fit, f"--run_dir={tmp_path / 'a'}"]) == 0
    assert "nothing was tested: the data have no test samples" in capsys.readouterr().out
    report = json.loads((tmp_path / "a/metrics.json").read_text())
    assert report["test_sets"] == {}
    assert report["threshold"]["score"] > 0
    refused(capsys, ["test", f"--ckpt_path={tmp_path / 'a'}", *SHORT], "nothing to test")

    for i in range(5):
        image(tmp_path / f"images/test/normal/{i}.png")
    assert main([*fit, f"--run_dir={tmp_path / 'b'}"]) == 0
    assert "no ranking metrics" in capsys.readouterr().out
    test = json.loads((tmp_path / "b/metrics.json").read_text())["test_sets"]["test"]
    assert test["metrics"] == {}
    assert "note" in test
    assert "false_positive_rate" in test["at_threshold"]


# ---- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--model.eta=-1", ["eta must be positive and finite, got -1.0"]),
        ("--model.threshold_value=2", ["threshold_value"]),
        ("--model.pretraining.epochs=-3", ["pretraining.epochs must not be negative"]),
        ("--data.device_budget_mb=-1", ["device_budget_mb must not be negative, got -1"]),
        ("--trainer.precision=bf16-true", ["trainer.precision must be 32-true, 16-mixed or bf16-mixed"]),
        pytest.param(
            *("--trainer.accelerator=gpu", ["gpu"]),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="here it is no bad argument"),
        ),
    ],
)
def test_bad_arguments_are_one_short_message(tmp_path: Path, capsys: Capture, option: str, words: list[str]) -> None:
    error = refused(capsys, ["fit", "--config", SAD, f"--run_dir={tmp_path / 'r'}", option], *words)
    if option.startswith(("--model", "--data")):
        assert "Union" not in error
        assert len(error.strip().splitlines()) <= 3


def test_no_labelled_anomalies_is_a_setting_like_any_other(tmp_path: Path) -> None:
    arguments = [
        "--data.labelled_anomaly_ratio=0",
        "--model.pretraining.epochs=1",
        f"--run_dir={tmp_path / 'r'}",
        *SHORT,
    ]
    assert main(["fit", "--config", SAD, *arguments]) == 0


# ---- checkpoints from elsewhere -------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["fit", "test"])
@pytest.mark.parametrize("fault", ["truncated", "hostile", "other"])
def test_broken_checkpoints_are_refused(kept_run: Path, tmp_path: Path, capsys: Capture, verb: str, fault: str) -> None:
    path = tmp_path / "bad.ckpt"
    content = (kept_run / "checkpoints/last.ckpt").read_bytes()
    hostile = pickle.dumps(Touch(tmp_path / "was_run"))
    path.write_bytes({"truncated": content[:5000], "hostile": hostile, "other": b"hello"}[fault])
    arguments = [verb, "--config", DIGITS, f"--ckpt_path={path}", f"--run_dir={tmp_path / 'r'}", *SHORT]
    refused(capsys, arguments, "bad.ckpt", "refused")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"class_path": "evilmod.Data", "init_args": {}}, ["evilmod.Data", "refused"]),
        ({"init_args": {"source": "${oc.env:HOME}"}}, ["interpolation", "refused"]),
    ],
)
def test_a_checkpoints_configuration_is_not_trusted(
    kept_run: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, section: Any, words: list[str]
) -> None:
    (tmp_path / "evilmod.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\nclass Data: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    checkpoint = torch.load(kept_run / "checkpoints/last.ckpt", weights_only=True)
    config = yaml.safe_load(checkpoint["adlightning"]["config"])
    checkpoint["adlightning"]["config"] = yaml.safe_dump({**config, "data": section})
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    refused(capsys, ["test", f"--ckpt_path={tmp_path / 'evil.ckpt'}", *SHORT], *words)
    assert "evilmod" not in sys.modules
    assert not (tmp_path / "was_run").exists()


def test_data_of_another_kind_are_refused_by_what_was_trained_on(
    table_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    for part in ("train/normal", "test/normal", "test/anomaly"):
        image(tmp_path / f"images/{part}/0.png")
    data = ["--data=FolderData", f"--data.root={tmp_path / 'images'}", "--data.validation_fraction=0"]
    image(tmp_path / "images/train/normal/1.png")
    arguments = ["test", f"--ckpt_path={table_run}", *data, f"--run_dir={tmp_path / 'r'}", *SHORT]
    refused(capsys, arguments, "trained on 3 features", "the data are 1x16x16 images")


def test_scores_have_the_names_of_the_name_column(table_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    data = table(tmp_path / "t.csv")
    assert main(["score", f"--ckpt_path={table_run}", f"--data={data}", f"--out={out}", "--device=cpu"]) == 0
    assert list(pd.read_csv(out).name) == [f"row-{i}" for i in range(60)]


def test_score_checks_its_device_and_plots_first(table_run: Path, tmp_path: Path, capsys: Capture) -> None:
    data, out = f"--data={table(tmp_path / 't.csv')}", f"--out={tmp_path / 's.csv'}"
    score = ["score", f"--ckpt_path={table_run}", data, out]
    refused(capsys, [*score, "--device=nonsense"], "device: nonsense")
    refused(capsys, [*score, "--device=cpu", f"--plots={tmp_path / 't.csv'}"], "plots:")
    assert not (tmp_path / "s.csv").exists()
