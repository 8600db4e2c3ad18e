"""Densities of scores: which groups are drawn, of which score, and what a flat or broken one does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adlightning.callbacks import densities
from adlightning.callbacks.densities import densities_plot, write_densities
from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ScoredSamples
from adlightning.methods import AMA, DeepSVDD
from adlightning.methods.ama.settings import Negatives
from adlightning.networks import LeNetEncoder
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.testing import Stripes

SPEC = InputSpec("image", (1, 16, 16), "stripes")
X = Stripes().load("test").x
LABELS = np.repeat([0, 1], 20)
ONE = ScoredSamples(np.linspace(1, 2, 40), LABELS, np.arange(40))
OTHER = ScoredSamples(np.linspace(3, 4, 40), LABELS, np.arange(40, 80))


def read(index: NDArray[np.int64]) -> Tensor:
    assert isinstance(X, Tensor)
    return X[torch.from_numpy(index)]


def drawn(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    detector: Any,
    results: dict[str, ScoredSamples],
    images: Any = read,
    training: Any = None,
) -> tuple[dict[str, NDArray[np.float64]], str]:
    """The groups that are drawn in the end, and the words on their axis."""
    detector.configure_for(SPEC)
    detector._trainer = SimpleNamespace(datamodule=SimpleNamespace(input_spec=SPEC))
    seen: list[Any] = []

    def watched(*given: Any) -> Path:
        seen.append(given)
        return densities_plot(*given)

    monkeypatch.setattr(densities, "densities_plot", watched)
    for written in write_densities(path, detector, results, dict.fromkeys(results, images), training):
        with Image.open(written) as image:
            assert image.format == "PNG"
    return (dict(seen[-1][1]), seen[-1][2]) if seen else ({}, "")


def test_several_test_sets_share_their_normals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    groups, axis = drawn(
        monkeypatch, tmp_path / "d.png", DeepSVDD(encoder=partial(LeNetEncoder, rep_dim=16)), {"one": ONE, "two": OTHER}
    )
    assert axis == "anomaly score"
    assert list(groups) == ["normal", "one", "two"]
    np.testing.assert_array_equal(groups["normal"], ONE.scores[:20])
    np.testing.assert_array_equal(groups["two"], OTHER.scores[20:])


def test_one_test_set_is_drawn_for_ama_alone_and_by_r(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert drawn(
        monkeypatch, tmp_path / "none.png", DeepSVDD(encoder=partial(LeNetEncoder, rep_dim=16)), {"test": ONE}
    ) == ({}, "")
    torch.manual_seed(0)
    detector = AMA(
        latent_dim=4,
        encoder=partial(StridedEncoder, width=4),
        generator=partial(ResidualGenerator, width=8),
        critic=partial(ResidualCritic, width=6),
        first_scored_epoch=0,
    )
    training = (np.arange(40, 60), read)
    groups, axis = drawn(monkeypatch, tmp_path / "d.png", detector, {"test": ONE}, training=training)
    assert axis == "R-score"
    assert list(groups) == ["normal", "training", "anomaly"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.png", "latent_norms.png"]
    with torch.no_grad():
        expected = detector.eval().r_scores(read(np.arange(20, 40))).double().numpy()
        trained = detector.r_scores(read(training[0])).double().numpy()
        norms = detector.encoder(detector.preprocess(read(training[0]))).norm(dim=1)
        torch.testing.assert_close(detector.latent_norms(read(training[0])), norms)
    np.testing.assert_allclose(groups["anomaly"], expected, rtol=1e-5)
    np.testing.assert_allclose(groups["training"], trained, rtol=1e-5)


def test_where_latents_are_thought_to_lie() -> None:
    assert Negatives(delta=0.5).expected_norms(16) == {"sqrt(d)": 4, "end of the annulus": 3.5}
    assert Negatives(delta=0.5, direction="outward").expected_norms(16)["end of the annulus"] == 4.5
    assert Negatives(kind="sipple").expected_norms(16) == {"sqrt(d)": 4}


def test_flat_and_broken_scores_are_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flat = ScoredSamples(np.ones(40), LABELS, np.arange(40))
    broken = ScoredSamples(np.full(40, np.nan), LABELS, np.arange(40))
    assert list(
        drawn(
            monkeypatch,
            tmp_path / "d.png",
            DeepSVDD(encoder=partial(LeNetEncoder, rep_dim=16)),
            {"a": flat, "b": broken},
        )[0]
    ) == [
        "normal",
        "a",
        "b",
    ]
    assert drawn(
        monkeypatch, tmp_path / "e.png", DeepSVDD(encoder=partial(LeNetEncoder, rep_dim=16)), {"a": broken, "b": broken}
    ) == ({}, "")
    with pytest.raises(ValueError, match="none among 40"):
        densities_plot(tmp_path / "f.png", {"normal": broken.scores}, "score", "title")
