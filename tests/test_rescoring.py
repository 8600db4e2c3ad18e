"""A trained detector scored with other arguments of its scores: as if it had been trained with them from the start."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeTrainer
from short_fits import QUIET, options_of

from adlightning import methods, shallow
from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector
from adlightning.core.detector import AnomalyDetector
from adlightning.core.thresholds import FixedThreshold
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources import Digits

ROOT = Path(__file__).parents[1]
OTHER = "--model.search.n_steps=3"
NO_PLOTS = "--plots=false"
CLASSES = [
    cls
    for package in (methods, shallow)
    for cls in vars(package).values()
    if inspect.isclass(cls) and issubclass(cls, AnomalyDetector)
]


def fit(run: Path, *options: str) -> Path:
    arguments = [*options_of("adgan/digits", 1, 2), "--data.batch_size=32", "--data.eval_batch_size=200", *options]
    assert main(["fit", "--config", str(ROOT / "configs/adgan/digits.yaml"), f"--run_dir={run}", *arguments]) == 0
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ADGAN on digits whose search takes one step."""
    return fit(tmp_path_factory.mktemp("adgan") / "run")


def read_report(run: Path) -> Any:
    return json.loads((run / "metrics.json").read_text())


def test_it_scores_as_if_it_had_been_trained_to(run: Path, tmp_path: Path) -> None:
    fit(tmp_path / "from_start", OTHER)
    assert main(["test", f"--ckpt_path={run}", OTHER, f"--run_dir={tmp_path / 'rescored'}", *QUIET, NO_PLOTS]) == 0
    wanted, got = read_report(tmp_path / "from_start"), read_report(tmp_path / "rescored")
    assert got["notes"] == ["scored with search.n_steps=3 (trained with 1)", *wanted["notes"]]
    assert got["threshold"] == wanted["threshold"]
    assert got["test_sets"] == wanted["test_sets"]
    assert got["threshold"]["score"] != read_report(run)["threshold"]["score"]
    for name in ("rescored", "from_start"):
        assert (tmp_path / name / "scores.csv").read_text() == (tmp_path / "from_start/scores.csv").read_text()


def test_predict_and_score_and_python_agree(run: Path, tmp_path: Path) -> None:
    assert main(["predict", f"--ckpt_path={run}", OTHER, f"--run_dir={tmp_path / 'predicted'}", *QUIET]) == 0
    predicted = pd.read_csv(tmp_path / "predicted/scores.csv")
    assert set(predicted["verdict"]) <= {"normal", "anomaly"}
    images = np.random.default_rng(0).integers(0, 256, (3, *load_detector(run).built_for.shape), dtype=np.uint8)
    np.save(tmp_path / "x.npy", np.moveaxis(images, 1, -1))
    data = [f"--ckpt_path={run}", f"--data={tmp_path / 'x.npy'}"]
    assert main(["score", *data, f"--out={tmp_path / 'out.csv'}", "--set", "search.n_steps=3"]) == 0
    scored = pd.read_csv(tmp_path / "out.csv")
    detector = load_detector(run, scoring={"search.n_steps": 3})
    np.testing.assert_allclose(scored["score"], detector.score(images), rtol=1e-6)
    assert not np.allclose(detector.score(images), load_detector(run).score(images))
    assert scored["verdict"].isna().all()
    with pytest.raises(ValueError, match=r"it has search\.n_steps=3 .trained with 1.: `test` fits one"):
        detector.predict(images)


def test_a_threshold_that_is_given_needs_no_samples(run: Path) -> None:
    detector = load_detector(run, scoring={"threshold": FixedThreshold(2.5), "score_type": "critic"})
    assert detector.threshold.item() == 2.5
    assert detector.rescored == [
        "score_type=critic (trained with inversion)",
        "threshold=FixedThreshold (trained with NormalQuantile)",
    ]


def test_another_rule_for_the_same_scores_needs_their_samples(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"threshold=Contamination .trained with NormalQuantile. needs the samples"):
        load_detector(run, scoring={"threshold": "Contamination"})
    few = r"threshold=FalsePositiveRate with rate=0\.01 needs at least 99 held-out normal samples, there are 11"
    with pytest.raises(ValueError, match=few):
        load_detector(run, scoring={"threshold": "FalsePositiveRate"})
    other = load_detector(run, scoring={"threshold.quantile": 0.5})
    images = np.zeros((2, *load_detector(run).built_for.shape[1:]), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    data = ["score", f"--ckpt_path={run}", f"--data={tmp_path / 'x.npy'}", f"--out={tmp_path / 'out.csv'}"]
    assert main([*data, "--set", "threshold=FixedThreshold", "--set", "threshold.value=1000000.0"]) == 0
    assert pd.read_csv(tmp_path / "out.csv")["verdict"].tolist() == ["normal", "normal"]
    arguments = [f"--ckpt_path={run}", f"--run_dir={tmp_path / 't'}", "--model.threshold.quantile=0.5", *QUIET]
    assert main(["test", *arguments, NO_PLOTS]) == 0
    trained, now = read_report(run), read_report(tmp_path / "t")
    assert now["threshold"]["score"] < trained["threshold"]["score"]
    assert now["threshold"]["score"] == pytest.approx(other.threshold.item())
    assert now["test_sets"]["test"]["metrics"] == trained["test_sets"]["test"]["metrics"]
    capsys.readouterr()


def test_scoring_that_changes_nothing_keeps_the_threshold(run: Path) -> None:
    detector = load_detector(run, scoring={"search.n_steps": 1})
    assert detector.rescored == []
    assert detector.threshold.item() == load_detector(run).threshold.item()


@pytest.mark.parametrize(
    ("scoring", "words"),
    [
        ({"latent_dim": 3}, "latent_dim cannot be chosen when scoring, since ADGAN was trained with it: choose among"),
        (
            {"steps": 3},
            "since ADGAN has no argument steps: choose among search, score_type, .*, threshold",
        ),
        ({"search.n_step": 3}, "search.n_step: there is no n_step, there are .*; nearest: n_steps"),
        ({"score_type.x": 3}, "score_type.x cannot be set: score_type is 'inversion', which has no arguments"),
        ({"search.n_steps": -1}, "search.n_steps must not be negative, got -1"),
        ({"search.n_steps": "many"}, "n_steps must be int, got 'many'"),
        ({"score_type": "best"}, "^score_type cannot be chosen when scoring: .*score_type must be"),
        ({"threshold": "Nothing"}, "threshold: there is no Nothing, there are NormalQuantile, FalsePositiveRate, "),
        ({"threshold": "normalquantile"}, "threshold: there is no .*; nearest: NormalQuantile"),
        ({"threshold": "ThresholdRule"}, "threshold: there is no ThresholdRule, there are NormalQuantile"),
        ({"threshold": "os.system"}, "threshold: there is no os.system, there are NormalQuantile"),
        ({"threshold.quantile": 2}, r"^threshold.quantile cannot be chosen .*quantile must lie in \(0, 1\), got 2"),
    ],
)
def test_what_cannot_be_chosen_is_refused_by_name(run: Path, scoring: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_detector(run, scoring=scoring)


def test_what_is_trained_again_scores_as_it_is_trained(run: Path, make_trainer: MakeTrainer) -> None:
    detector = load_detector(run, scoring={"search.n_steps": 0})
    assert detector.rescored
    data = OneVsAll(Digits(), 0, batch_size=32, eval_batch_size=200)
    make_trainer(max_epochs=1, limit_train_batches=1).fit(detector, datamodule=data)
    assert detector.rescored == []


def test_what_training_depends_on_stays_as_it_was(run: Path, tmp_path: Path) -> None:
    arguments = ["test", f"--ckpt_path={run}", f"--run_dir={tmp_path / 't'}", "--model.latent_dim=3", *QUIET]
    with pytest.warns(UserWarning, match=r"model\.latent_dim=3 is ignored: the checkpoint was trained with"):
        assert main([*arguments, NO_PLOTS]) == 0
    assert not any("scored with" in note for note in read_report(tmp_path / "t")["notes"])


def test_a_threshold_is_not_fitted_to_samples_that_were_trained_on(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--ckpt_path={run}", f"--run_dir={tmp_path / 't'}", "--data.seed=77", *QUIET]
    assert main(["test", *arguments, OTHER]) == 2
    assert "the data are not split as in training" in capsys.readouterr().err


@pytest.mark.parametrize("cls", CLASSES)
def test_arguments_of_scores_are_arguments(cls: type[AnomalyDetector]) -> None:
    assert set(cls.scoring_arguments) <= inspect.signature(cls).parameters.keys() - {"threshold"}


def test_a_score_needs_key_and_value(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"--ckpt_path={run}", "--data=x.npy", f"--out={tmp_path / 'out.csv'}"]
    assert main(["score", *arguments, "--set", "search.n_steps"]) == 2
    assert "set: 'search.n_steps' must be KEY=VALUE" in capsys.readouterr().err
