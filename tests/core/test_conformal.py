"""P-values are uniform on normals, and the rules on them keep their rates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

import adlightning as ad
from adlightning.__main__ import main
from adlightning.core.collapse import TrainingCollapse
from adlightning.core.conformal import discoveries, p_values, p_values_in_a_graph
from adlightning.core.thresholds import FalseDiscoveryRate, FalsePositiveRate, fit_threshold
from adlightning.methods.parts.hypersphere import AutoencoderPretraining

AT_ONCE = AutoencoderPretraining(epochs=0)
HELD_OUT = np.array([1.0, 2.0, 2.0, 5.0])


def table(n: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3))


def test_values_by_hand() -> None:
    scores = [0.0, 1.0, 1.5, 2.0, 5.0, 5.1]
    wanted = [1.0, 1.0, 0.8, 0.8, 0.4, 0.2]
    assert p_values(scores, HELD_OUT).tolist() == pytest.approx(wanted)
    in_a_graph = p_values_in_a_graph(torch.tensor(scores), torch.from_numpy(HELD_OUT).float())
    assert in_a_graph.tolist() == pytest.approx(wanted)
    assert p_values([3.0], []).tolist() == [1.0]


def test_benjamini_and_hochberg_by_hand() -> None:
    p = [0.01, 0.04, 0.03, 0.5]  # sorted 0.01, 0.03, 0.04, 0.5 against 0.0125, 0.025, 0.0375, 0.05
    assert discoveries(p, 0.05).tolist() == [True, False, False, False]
    assert discoveries(p, 0.0534).tolist() == [True, True, True, False]  # the third alone is small enough
    assert not discoveries([0.9, 0.8], 0.05).any()
    assert discoveries([], 0.05).tolist() == []


@pytest.mark.parametrize("n", [1, 29, 58, 130, 201])
@pytest.mark.parametrize(("rate", "held_out"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.3, 9)])
def test_a_p_value_that_meets_the_rate_is_a_discovery_whatever_the_rounding(rate: float, held_out: int, n: int) -> None:
    scores, reference = np.ones(n), np.linspace(-1, 0, held_out)
    assert discoveries(p_values(scores, reference), rate).all()
    assert FalseDiscoveryRate(rate).over(scores, reference, math.inf) == 0


def test_they_are_uniform_on_normals() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([p_values(rng.normal(size=5), np.sort(rng.normal(size=19))) for _ in range(4000)])
    for share in (0.05, 0.1, 0.5, 0.95):
        assert np.mean(drawn <= share + 1e-12) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_the_false_positive_rate_is_kept_on_average(rate: float) -> None:
    rng, rule = np.random.default_rng(1), FalsePositiveRate(rate)
    alarms = [np.mean(rng.exponential(size=50) > fit_threshold(rule, rng.exponential(size=24))) for _ in range(4000)]
    kept = math.floor(rate * 25) / 25
    assert np.mean(alarms) == pytest.approx(kept, abs=0.006)
    assert kept <= rate


def test_the_threshold_is_that_of_the_p_value() -> None:
    held_out = np.sort(np.round(np.random.default_rng(2).normal(size=60), 1))  # with ties
    scores = np.linspace(-3, 3, 301).round(2)
    for rate in (0.02, 0.1, 0.37, 0.9):
        threshold = fit_threshold(FalsePositiveRate(rate), held_out)
        assert np.array_equal(scores > threshold, p_values(scores, held_out) <= rate)
        over = FalseDiscoveryRate(rate).over(scores, held_out, threshold)
        assert np.array_equal(scores > over, discoveries(p_values(scores, held_out), rate))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_the_false_discovery_rate_is_kept_on_average(share: float) -> None:
    rng, rule, n = np.random.default_rng(3), FalseDiscoveryRate(0.1), 200
    false, found = [], []
    for _ in range(1500):
        held_out, anomalous = np.sort(rng.normal(size=500)), rng.random(n) < share
        scores = rng.normal(size=n) + 4 * anomalous
        flagged = scores > rule.over(scores, held_out, fit_threshold(rule, held_out))
        false.append((flagged & ~anomalous).sum() / max(flagged.sum(), 1))
        found.append(flagged[anomalous].mean() if anomalous.any() else math.nan)
    assert np.mean(false) <= 0.1 + 0.01
    if share:
        assert np.nanmean(found) > 0.7


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 99), (0.05, 19), (0.5, 1), (0.3, 3)])
def test_too_few_held_out_samples_are_said(rate: float, needed: int) -> None:
    rule = FalsePositiveRate(rate)
    assert rule.refusal(needed) is None
    assert f"needs at least {needed} held-out normal samples, there are {needed - 1}" in str(rule.refusal(needed - 1))
    assert fit_threshold(rule, np.arange(needed, dtype=float)) == needed - 1
    with pytest.raises(ValueError, match=f"needs at least {needed} held-out"):
        fit_threshold(rule, np.arange(needed + 2, dtype=float), np.arange(needed + 2) >= needed - 1)


def test_a_fit_with_too_few_held_out_samples_does_not_start() -> None:
    data = ad.Arrays(table(60), validation_fraction=0.2)
    with pytest.raises(ValueError, match=r"rate=0\.01 needs at least 99 held-out .* there are 12: hold out more"):
        ad.fit(ad.NearestNeighbor(threshold=FalsePositiveRate()), data, progress=False)
    with pytest.raises(ValueError, match=r"there are 0: .*take another rule"):
        ad.fit(ad.NearestNeighbor(threshold=FalsePositiveRate()), ad.Arrays(table(60), validation_fraction=0))


@pytest.mark.usefixtures("onnx_parsed_once")
def test_a_detector_has_p_values_wherever_it_has_scores(tmp_path: Path) -> None:
    x = np.concatenate([table(50, seed=1), table(3, seed=2) + 9])
    labels = np.arange(53) >= 50
    data = ad.Arrays(table(), x, labels, validation_fraction=0.25)
    run = ad.fit(
        ad.DeepSVDD(pretraining=AT_ONCE, threshold=FalseDiscoveryRate(0.3)),
        data,
        5,
        run_dir=tmp_path / "run",
        progress=False,
    )
    p = run.detector.p_value(x)
    assert p.shape == (53,)
    assert p.min() >= 1 / 101
    assert p[50:].max() < p[:50].min() + 0.05
    written = pd.read_csv(tmp_path / "run" / "scores.csv")
    assert np.allclose(written["p_value"], p)
    assert np.array_equal(written["verdict"] == "anomaly", discoveries(p, 0.3))
    assert np.array_equal(run.detector.predict(x), discoveries(p, 0.3))
    report = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert report["p_values"] == {"held_out": 100, "smallest": 1 / 101}
    assert report["test_sets"]["test"]["at_threshold"]["flagged"] == discoveries(p, 0.3).sum()
    loaded = ad.load_detector(tmp_path / "run")
    assert np.array_equal(loaded.p_value(x), p)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    arguments = [f"--ckpt_path={tmp_path / 'run'}", f"--data={tmp_path / 'x.npy'}", f"--out={tmp_path / 's.csv'}"]
    assert main(["score", *arguments]) == 0
    assert np.allclose(pd.read_csv(tmp_path / "s.csv")["p_value"], p)
    assert main(["export", f"--ckpt_path={tmp_path / 'run'}", "--format=onnx", f"--out={tmp_path / 'm.onnx'}"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert np.allclose(session.run(["p_values"], {"x": x.astype(np.float32)})[0], p, atol=0.02)


@pytest.mark.usefixtures("onnx_parsed_once")
def test_without_held_out_samples_there_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ad.fit(
        ad.DeepSVDD(pretraining=AT_ONCE), ad.Arrays(table(50), table(4), validation_fraction=0), 5, progress=False
    )
    with pytest.raises(ValueError, match=r"cannot give p-values: no normal samples were held out of its training"):
        run.detector.p_value(table(4))
    assert run.scores["p_value"].isna().all()
    run.save(tmp_path / "d.ckpt")
    np.save(tmp_path / "x.npy", table(4).astype(np.float32))
    files = [f"--data={tmp_path / 'x.npy'}", f"--out={tmp_path / 's.csv'}", f"--ckpt_path={tmp_path / 'd.ckpt'}"]
    assert main(["score", *files]) == 0
    assert "no p-values: no normal samples were held out" in " ".join(capsys.readouterr().out.split())
    assert main(["export", f"--ckpt_path={tmp_path / 'd.ckpt'}", "--format=onnx", f"--out={tmp_path / 'm.onnx'}"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert [each.name for each in session.get_outputs()] == ["scores"]


class UnsureOfFarOnes(ad.AnomalyDetector):
    """A score that is no number from a value of 8 on."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return 0 * self.weight.sum()

    def anomaly_score(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 0] < 8, x[:, 0], torch.nan) * self.weight

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_held_out_scores_that_are_no_numbers_end_the_fit_whatever_the_rule() -> None:
    x = table(40)
    x[held_out_rows(x), 0] = 9
    detector = UnsureOfFarOnes(threshold=ad.Contamination(0.1))
    with pytest.raises(TrainingCollapse, match="of 8 scores are NaN"):
        ad.fit(detector, ad.Arrays(x, validation_fraction=0.2), 1, progress=False)


def held_out_rows(x: np.ndarray) -> Any:
    """Which rows a fit of these samples holds out."""
    data = ad.Arrays(x, validation_fraction=0.2)
    run = ad.fit(ad.NearestNeighbor(), data, progress=False)
    return run.data.split.validation


def test_score_says_when_a_lone_anomaly_would_go_unnoticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ad.fit(ad.NearestNeighbor(), ad.Arrays(table(200), validation_fraction=0.2), progress=False).save(
        tmp_path / "d.ckpt"
    )
    np.save(tmp_path / "x.npy", table(100).astype(np.float32))
    files = [f"--data={tmp_path / 'x.npy'}", f"--out={tmp_path / 's.csv'}", f"--ckpt_path={tmp_path / 'd.ckpt'}"]
    assert main(["score", *files, "--set", "threshold=FalseDiscoveryRate"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "over 100 samples gives alarm only where 49 or more exceed all 40 held-out normal samples" in said


def test_a_file_whose_held_out_scores_are_none_is_refused(tmp_path: Path) -> None:
    detector = ad.fit(
        ad.DeepSVDD(pretraining=AT_ONCE), ad.Arrays(table(50), validation_fraction=0.2), 5, progress=False
    )
    detector.save(tmp_path / "d.ckpt")
    checkpoint = torch.load(tmp_path / "d.ckpt", weights_only=True)
    for scores, words in (
        (torch.arange(10.0).flip(0), "held_out_scores must be finite and sorted"),
        (torch.full((10,), torch.nan), "held_out_scores must hold finite numbers"),
        (torch.tensor(3.0), r"held_out_scores must have the shape"),
        (torch.zeros(2, 5), r"held_out_scores must have the shape \(0,\)"),
        (torch.arange(10), r"held_out_scores must have the shape \(0,\) of torch.float32"),
    ):
        checkpoint["state_dict"]["held_out_scores"] = scores
        torch.save(checkpoint, tmp_path / "other.ckpt")
        with pytest.raises(ValueError, match=words):
            ad.load_detector(tmp_path / "other.ckpt")
