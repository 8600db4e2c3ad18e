"""The decision boundary: which features, what is scored, and what is drawn."""

from __future__ import annotations

import math
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from adlightning.callbacks import boundary
from adlightning.callbacks.boundary import Plane, Points, boundary_axes, boundary_plot, central_sample, score_plane
from adlightning.callbacks.run_folder import RunFolder
from adlightning.callbacks.timing import Timing
from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.data.labelled import AnomalyLabelled
from adlightning.preprocessing import Identity
from adlightning.testing import Blobs

BLUE, RED, YELLOW, BLACK = (0, 114, 178), (213, 94, 0), (240, 228, 66), (0, 0, 0)
TABLE = InputSpec("table", (3,), "t.csv", features=("width", "height", "age"))
NUMBERED = InputSpec("table", (3,), "t.csv", features=("width", "2", "1e5"))
SQUARE = np.array([[0.0, 0.0], [1.0, 2.0]])
NONE = np.empty((0, 2))


def count(path: Path, colour: tuple[int, int, int]) -> int:
    with Image.open(path) as image:
        return int(np.sum(np.all(np.asarray(image.convert("RGB")) == colour, axis=-1)))


def test_the_module_itself_needs_no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["matplotlib", *(m for m in sys.modules if m.startswith("matplotlib."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "boundary_plot" in runpy.run_path(boundary.__file__)


# ---- which features --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "axes"),
    [
        (None, None),
        (["height", "width"], (1, 0)),
        ([0, "height"], (0, 1)),
        (["0", 2], (0, 2)),
    ],
)
def test_features_by_name_or_index(features: list[str | int] | None, axes: tuple[int, int] | None) -> None:
    assert boundary_axes(TABLE, features) == axes


def test_features_whose_names_are_numbers_go_by_name() -> None:
    assert boundary_axes(NUMBERED, ["1e5", "2"]) == (2, 1)
    assert boundary_axes(NUMBERED, [2, "width"]) == (1, 0)
    with pytest.raises(ValueError, match="no feature 0; features are 'width', '2', '1e5', by name since names are num"):
        boundary_axes(NUMBERED, [0, 1])


def test_a_table_of_two_features_has_its_plane_and_nothing_else_does() -> None:
    assert boundary_axes(InputSpec("table", (2,)), None) == (0, 1)
    assert boundary_axes(InputSpec("table", (2,)), [1, 0]) == (1, 0)
    assert boundary_axes(InputSpec("series", (2,)), None) is None


@pytest.mark.parametrize(
    ("spec", "features", "message"),
    [
        (TABLE, ["width", "depth"], r"no feature 'depth'; features are 'width', 'height', 'age' \(or indices 0 to 2\)"),
        (TABLE, ["width", 3], "there is no feature 3; features are 'width', 'height', 'age'"),
        (InputSpec("table", (4,)), ["a", 1], "there is no feature 'a'; features are 0 to 3, without names"),
        (TABLE, ["width"], r"must be two different features, got \['width'\]"),
        (TABLE, ["width", 0], r"must be two different features, got \['width', 0\]"),
        (TABLE, [], r"must be two different features, got \[\]"),
        (InputSpec("image", (1, 8, 8), "digits"), [0, 1], r"only a table .* the data are 1x8x8 images \(digits\)"),
    ],
)
def test_other_features_are_refused(spec: InputSpec, features: list[str | int], message: str) -> None:
    with pytest.raises(ValueError, match=f"boundary_features.*{message}"):
        boundary_axes(spec, features)


# ---- what is scored --------------------------------------------------------------------------------------------------


class Paraboloid(AnomalyDetector):
    """Scores that are known: twice the first raw feature plus the square of the third, plus the sum of the others."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.net = nn.Linear(1, 1)
        self.batch_sizes: list[int] = []

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        loss: Tensor = self.net(batch.x[:, :1]).square().mean()
        return loss

    def anomaly_score(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batch_sizes.append(len(x))
        return 2 * x[:, 0] + x[:, 2] ** 2 + x[:, [1, 3, 4, 5]].sum(dim=1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-9)


@pytest.fixture
def tested(make_trainer: MakeTrainer, tmp_path: Path) -> tuple[Paraboloid, Path]:
    detector, data = Paraboloid(preprocessing=Identity), AnomalyLabelled(Blobs(), eval_batch_size=7000)
    folder = RunFolder(tmp_path / "run", None, "none", Timing(), boundary_features=["a", "c"])
    trainer = make_trainer(max_epochs=1, callbacks=[folder])
    trainer.fit(detector, datamodule=data)
    trainer.test(detector, datamodule=data, verbose=False)
    return detector, tmp_path / "run"


def test_the_plane_is_scored_raw_in_evaluation_batches(tested: tuple[Paraboloid, Path]) -> None:
    detector, _ = tested
    held = torch.tensor([9.0, 1.0, 9.0, 2.0, 3.0, 4.0])
    detector.batch_sizes.clear()
    plane = score_plane(detector, held, (0, 2), np.array([[0.0, -10.0], [1.0, 10.0]]), ("a", "c"))
    assert (plane.x[0], plane.x[-1]) == (pytest.approx(-0.1), pytest.approx(1.1))
    assert (plane.y[0], plane.y[-1]) == (pytest.approx(-12), pytest.approx(12))
    expected = 2 * plane.x[None, :] + plane.y[:, None] ** 2 + 10
    np.testing.assert_allclose(plane.scores, expected, rtol=1e-5)
    assert detector.batch_sizes == [7000] * 5 + [5000]
    swapped = score_plane(detector, held, (2, 0), np.array([[-10.0, 0.0], [10.0, 1.0]]), ("c", "a"))
    np.testing.assert_allclose(swapped.scores, expected.T, rtol=1e-5)


def test_a_feature_that_never_varies_still_spans_a_plane(tested: tuple[Paraboloid, Path]) -> None:
    samples = np.array([[4.0, 0.0], [4.0, 0.0]])
    plane = score_plane(tested[0], torch.zeros(6), (0, 2), samples, ("a", "c"))
    assert (plane.x[0], plane.x[-1], plane.y[0], plane.y[-1]) == (2, 6, -0.5, 0.5)


def test_the_run_folder_holds_the_plane_at_a_central_training_sample(
    tested: tuple[Paraboloid, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, folder = tested
    assert count(folder / "plots/boundary.png", YELLOW) > 100
    seen: dict[str, Any] = {}

    def keep(path: Path, plane: Plane, points: Points, threshold: float | None, title: str) -> Path:
        seen.update(plane=plane, points=points, threshold=threshold, title=title)
        return path

    monkeypatch.setattr(boundary, "boundary_plot", keep)
    boundary.write_boundary(folder / "b.png", detector, detector.results["test"], (0, 2), "a run")
    plane, data = seen["plane"], detector.data
    rows, known = data.training_rows()
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    rows = rows[known != -1]
    others = x[rows][:, [1, 3, 4, 5]].numpy()
    row = rows[int((((others - np.median(others, axis=0)) / others.std(axis=0)) ** 2).sum(axis=1).argmin())]
    held = float(x[row, [1, 3, 4, 5]].sum())
    expected = 2 * plane.x[None, :] + plane.y[:, None] ** 2 + held
    np.testing.assert_allclose(plane.scores, expected, rtol=1e-4, atol=1e-4)
    sizes = [len(part) for part in seen["points"]]
    assert sizes == [int((known != -1).sum()), int((known == -1).sum()), int(data.split.test_labels.sum())]
    assert seen["threshold"] == detector.threshold.item()
    assert seen["title"] == f"a run: decision boundary, 4 other features as in training sample {row}"
    detector.threshold.fill_(math.nan)
    boundary.write_boundary(folder / "b.png", detector, detector.results["test"], (0, 2), "a run")
    assert seen["threshold"] is None
    assert seen["title"] == f"a run: anomaly score, 4 other features as in training sample {row}"


def test_a_boolean_column_is_held_at_a_value_that_occurs() -> None:
    samples = np.array([[0.0, 4.0], [0.0, 5.0], [0.0, 5.2], [1.0, 5.0], [0.0, 90.0], [0.0, -70.0]])
    assert central_sample(samples) == 1
    assert central_sample(np.full((3, 2), 7.0)) == 0


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def plane(scores: NDArray[np.float64] | None = None) -> Plane:
    """Scores that grow from 0 on the left to 1 on the right."""
    x, y = np.linspace(0, 1, 50), np.linspace(0, 2, 40)
    return Plane(x, y, np.tile(x, (40, 1)) if scores is None else scores, ("width", "cost $ \\frac"))


def test_normal_is_blue_anomalous_is_red_and_training_samples_are_yellow(tmp_path: Path) -> None:
    points = Points(np.array([[0.2, 1.0]] * 3), NONE, NONE)
    bare = boundary_plot(tmp_path / "bare.png", plane(), Points(NONE, NONE, NONE), 0.5, "a title")
    path = boundary_plot(tmp_path / "b.png", plane(), points, 0.5, "a title")
    with Image.open(bare) as image:
        middle = np.asarray(image.convert("RGB")).astype(int)[350]  # a line through the plane
    red_left, red_right = (
        bool((middle[part, 0] > middle[part, 2] + 20).any()) for part in (slice(120, 400), slice(500, 760))
    )
    assert (red_left, red_right) == (False, True)
    assert count(path, YELLOW) > count(bare, YELLOW) == 0
    assert min(count(bare, BLUE), count(bare, RED)) > 300


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_the_threshold_is_an_unbroken_line_whatever_its_sign(tmp_path: Path, shift: float) -> None:
    scores = plane().scores + shift
    path = boundary_plot(tmp_path / "b.png", plane(scores), Points(NONE, NONE, NONE), 0.5 + shift, "a title")
    with Image.open(path) as image:
        inner = np.asarray(image.convert("L"))[150:600, 300:600]  # within the plane, without its frame
    assert (inner.min(axis=1) < 60).all()


@pytest.mark.parametrize(("threshold", "missing", "there"), [(2.0, RED, BLUE), (-1.0, BLUE, RED), (1.0, RED, BLUE)])
def test_a_plane_on_one_side_of_the_threshold_has_one_colour(
    tmp_path: Path, threshold: float, missing: tuple[int, int, int], there: tuple[int, int, int]
) -> None:
    both = boundary_plot(tmp_path / "both.png", plane(), Points(SQUARE, NONE, NONE), 0.5, "a title")
    path = boundary_plot(tmp_path / "b.png", plane(), Points(SQUARE, NONE, NONE), threshold, "a title")
    assert count(path, there) > 300
    assert count(path, missing) < 0.9 * count(both, missing)  # left in the bar alone


@pytest.mark.parametrize(
    "scores", [None, np.zeros((40, 50)), np.geomspace(1e-12, 1e30, 2000).reshape(40, 50), np.full((40, 50), -3e5)]
)
def test_without_a_threshold_scores_are_grey(tmp_path: Path, scores: NDArray[np.float64] | None) -> None:
    path = boundary_plot(tmp_path / "b.png", plane(scores), Points(SQUARE, SQUARE, SQUARE), None, "a title")
    assert count(path, BLUE) == count(path, RED) == 0
    assert count(path, YELLOW) > 0


@pytest.mark.parametrize("threshold", [0.0, 1e-30, 1e12, -3e5])
def test_any_scores_and_threshold_can_be_drawn(tmp_path: Path, threshold: float) -> None:
    for number, scores in enumerate((np.zeros((40, 50)), np.geomspace(1e-12, 1e30, 2000).reshape(40, 50))):
        points = Points(np.zeros((5000, 2)), SQUARE, SQUARE)
        path = boundary_plot(tmp_path / f"{number}.png", plane(scores), points, threshold, "a title")
        assert count(path, BLACK) > 0


def test_points_without_a_finite_score_are_left_white_and_counted(tmp_path: Path) -> None:
    scores = plane().scores.copy()
    scores[:, 25:] = np.inf
    whole = boundary_plot(tmp_path / "whole.png", plane(), Points(NONE, NONE, NONE), 0.2, "a title")
    path = boundary_plot(tmp_path / "b.png", plane(scores), Points(NONE, NONE, NONE), 0.2, "a title")
    assert count(path, (255, 255, 255)) > count(whole, (255, 255, 255)) + 100_000
    with pytest.raises(ValueError, match="boundary needs a finite score, there is none among 2000"):
        boundary_plot(tmp_path / "boundary.png", plane(scores * np.nan), Points(NONE, NONE, NONE), 0.2, "a title")
