"""What each value adds to a score: exact where that is known, and complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import adlightning as ad
from adlightning.__main__ import main
from adlightning.callbacks.attributions import beside_the_median
from adlightning.core.attribution import MOST_ROWS, median_normal
from adlightning.core.encoding import Columns
from adlightning.methods.parts.hypersphere import AutoencoderPretraining

AT_ONCE = AutoencoderPretraining(epochs=0)


class Weighted(ad.AnomalyDetector):
    """A score whose gradients are known: a weighted sum of squares of raw values."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.weight = torch.nn.Parameter(torch.arange(1.0, 1 + shape[-1]))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 0 * self.weight.sum()

    def anomaly_score(self, x: Tensor) -> Tensor:
        return (self.weight * x.square()).flatten(1).sum(1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def normals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 1.0, size=shape)


def fitted(detector: ad.AnomalyDetector, x: np.ndarray, epochs: int = 3) -> ad.AnomalyDetector:
    return ad.fit(detector, ad.Arrays(x), epochs, progress=False).detector


@pytest.mark.parametrize("shape", [(3,), (5, 2)])
def test_shares_are_those_of_a_score_that_is_known(shape: tuple[int, ...]) -> None:
    detector = fitted(Weighted(), normals(90, *shape))
    x = normals(7, *shape, seed=1)
    found = detector.explain(x)
    weight = np.arange(1.0, 1 + shape[-1])
    wanted = weight * (x.astype(np.float32) ** 2.0 - found.baseline**2.0)
    np.testing.assert_allclose(found.values, wanted, rtol=1e-3, atol=1e-5)
    assert found.complete
    assert found.missed().max() < 1e-4
    np.testing.assert_allclose(found.scores, detector.score(x))


@pytest.mark.parametrize("detector", [ad.DeepSVDD(pretraining=AT_ONCE), ad.DROCC()], ids=lambda d: type(d).__name__)
def test_they_add_up_and_find_the_value_that_is_off(detector: ad.AnomalyDetector) -> None:
    trained = fitted(detector, normals(200, 4), 8)
    x = normals(6, 4, seed=2)
    x[0, 2] += 9
    found = trained.explain(x)
    assert found.missed()[0] < 0.01
    if not isinstance(detector, ad.DROCC):
        assert found.values[0].argmax() == 2


@pytest.mark.parametrize("detector", [ad.NearestNeighbor(), ad.IsolationForest()], ids=lambda d: type(d).__name__)
def test_a_score_without_gradients_is_compared_with_the_median_in_a_value_s_place(detector: ad.AnomalyDetector) -> None:
    trained = fitted(detector, normals(100, 3))
    x = normals(4, 3, seed=3)
    x[1, 0] -= 8
    found = trained.explain(x)
    assert not found.complete
    assert found.values[1].argmax() == 0
    for column in range(3):
        changed = x.copy()
        changed[:, column] = found.baseline[column]
        wanted = trained.score(x) - trained.score(changed)
        np.testing.assert_allclose(found.values[:, column], wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("detector", [ad.DeepSVDD(pretraining=AT_ONCE), ad.NearestNeighbor()])
def test_values_too_far_out_to_be_scored_are_the_reason(detector: ad.AnomalyDetector) -> None:
    detector = fitted(detector, normals(60, 4))
    x = np.tile(normals(1, 4, seed=1), (3, 1))
    x[1, 2] = 1e20
    x[2, [0, 3]] = -1e30, 1e25
    found, near = detector.explain(x), detector.explain(x[:1])
    most = float(torch.finfo(torch.float32).max)
    np.testing.assert_allclose(found.values[0], near.values[0], rtol=1e-5)
    np.testing.assert_allclose(found.values[1:], [[0, 0, most, 0], [most / 2, 0, 0, most / 2]])


def test_a_score_that_overflows_on_the_way_is_compared_with_the_median_in_a_value_s_place() -> None:
    found = fitted(Weighted(preprocessing=ad.Identity), normals(60, 3)).explain(np.array([[1.0, 1e25, 1.0]]))
    assert np.isfinite(found.values).all()
    assert found.values[0].argmax() == 1


def test_the_median_is_of_normals_and_of_all_parts_of_many() -> None:
    x = np.concatenate([normals(40, 2), normals(10, 2) + 50])
    known = np.where(np.arange(50) >= 40, -1, 0)
    data = ad.Arrays(x, known=known, validation_fraction=0)
    run = ad.fit(ad.DeepSAD(pretraining=AT_ONCE), data, 2, progress=False)
    np.testing.assert_allclose(run.detector.median_normal, np.median(x[:40].astype(np.float32), axis=0))
    many = torch.arange(3.0 * MOST_ROWS)[:, None]
    found = median_normal(many.split(777), len(many))
    assert found.item() == pytest.approx(1.5 * MOST_ROWS, rel=1e-3)


def test_images_are_refused() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 8, 8), dtype=np.uint8)
    detector = fitted(ad.NearestNeighbor(), images)
    with pytest.raises(ValueError, match="NearestNeighbor scores images: attributions are of tables and series"):
        detector.explain(images)


def test_the_verb_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame(normals(120, 3), columns=["mass", "flow (l/s)", "rpm"])
    data = ad.Arrays(frame, validation_fraction=0.3)
    run = ad.fit(ad.DeepSVDD(pretraining=AT_ONCE), data, 8, progress=False)
    run.save(tmp_path / "d.ckpt")
    new = pd.DataFrame(normals(9, 3, seed=4), columns=["rpm", "mass", "flow (l/s)"])  # in another order
    new.loc[5, "rpm"] = 30
    new.to_csv(tmp_path / "new.csv", index=False)
    files = [f"--ckpt_path={tmp_path / 'd.ckpt'}", f"--data={tmp_path / 'new.csv'}", f"--out={tmp_path / 'why.csv'}"]
    assert main(["explain", *files, "--plots", "--top=2"]) == 0
    why = pd.read_csv(tmp_path / "why.csv")
    found = run.detector.explain(new)
    columns = ["adds mass", "adds flow (l/s)", "adds rpm"]
    assert list(why.columns) == ["name", "score", "p_value", "verdict", "because", *columns]
    np.testing.assert_allclose(why[columns], found.values, rtol=1e-6, atol=1e-9)
    assert why["because"][5].startswith("rpm = 30 (normally ")
    assert why["verdict"][5] == "anomaly"
    drawn = sorted(path.name for path in (tmp_path / "why_plots").iterdir())
    assert len(drawn) == 2
    assert drawn[0] == "001_5.png"
    assert "the median normal sample has the score" in capsys.readouterr().out
    assert main(["explain", *files]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_value_and_its_median_are_told_apart_in_words() -> None:
    columns = Columns(categorical="one_hot", dates=("day",), categories=((), ("a/b", "c"), ()))
    assert beside_the_median(1.70412e9, 1.71144e9, 0, "day", columns) == ("2024-01-01T14:40:00", "2024-03-26T08:00:00")
    assert beside_the_median(1e20, 0.0, 0, "day", columns) == ("1e+20", "1970-01-01")
    assert beside_the_median(-1, 0, 1, "kind", columns) == ("another", "'a/b'")
    assert beside_the_median(np.nan, 2.5, 2, "x", columns) == ("missing", "2.5")
    assert beside_the_median(1000001.0, 1000002.0, 2, "x", columns) == ("1000001", "1000002")
    assert beside_the_median(3.0, 3.0, 0, "x") == ("3", "3")


def test_of_a_series_the_steps_are_said(tmp_path: Path) -> None:
    run = ad.fit(ad.NearestNeighbor(), ad.Arrays(normals(40, 6, 2)), progress=False)
    run.save(tmp_path / "d.ckpt")
    new = normals(3, 6, 2, seed=5).astype(np.float32)
    new[1, 4, 1] += 20
    np.save(tmp_path / "new.npy", new)
    files = [f"--ckpt_path={tmp_path / 'd.ckpt'}", f"--data={tmp_path / 'new.npy'}", f"--out={tmp_path / 'why.csv'}"]
    assert main(["explain", *files, "--plots", str(tmp_path / "p")]) == 0
    why = pd.read_csv(tmp_path / "why.csv")
    assert why["because"][1].startswith("channel 1 at step 4 = ")
    assert why[[f"adds step {i}" for i in range(6)]].iloc[1].argmax() == 4
    assert len(list((tmp_path / "p").iterdir())) == 3


def test_windows_are_explained_and_rows_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"time": range(120), "u": normals(120), "v": normals(120, seed=2)})
    ad.fit(ad.NearestNeighbor(), ad.Windows.from_frame(frame, time_column="time", length=8), progress=False).save(
        tmp_path / "d.ckpt"
    )
    frame.to_csv(tmp_path / "new.csv", index=False)
    files = [f"--ckpt_path={tmp_path / 'd.ckpt'}", f"--data={tmp_path / 'new.csv'}", f"--out={tmp_path / 'why.csv'}"]
    assert main(["explain", *files]) == 0
    assert "p-values and verdicts are of rows" in capsys.readouterr().out
    why = pd.read_csv(tmp_path / "why.csv")
    assert list(why.columns) == ["name", "score", "because", *(f"adds step {i}" for i in range(8))]
    assert why["name"][0] == "row 0 to row 7"


def test_rows_that_cannot_be_explained_are_left_out_as_in_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ad.fit(ad.NearestNeighbor(), ad.Arrays(pd.DataFrame(normals(40, 2), columns=["a", "b"])), progress=False)
    run.save(tmp_path / "d.ckpt")
    (tmp_path / "new.csv").write_text("a;b;note\n1,5;2,5;x\n;1,0;y\n9,5;1,5;z\n")
    files = [f"--ckpt_path={tmp_path / 'd.ckpt'}", f"--data={tmp_path / 'new.csv'}", f"--out={tmp_path / 'why.csv'}"]
    assert main(["explain", *files]) == 2
    assert "leave them out (drop_columns)" in capsys.readouterr().err
    written = ["--separator", "semicolon", "--decimal", "comma", "--on_bad", "skip", "--drop_columns", "note"]
    assert main(["explain", *files, *written, "--plots"]) == 0
    assert "1 of 3 are skipped, 1 for one, since" in capsys.readouterr().out
    why = pd.read_csv(tmp_path / "why.csv")
    assert why["name"].tolist() == [0, 1, 2]
    assert why["because"].isna().tolist() == [False, True, False]
    assert why["because"][2].startswith("a = 9.5 ")
    assert "'a' has no value" in why["skipped"][1]
    assert sorted(path.name for path in (tmp_path / "why_plots").iterdir()) == ["001_2.png", "002_0.png"]
