"""Pictures of what a detector makes: which are written for whom, of which samples, and in which range."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from adlightning.callbacks import generated
from adlightning.callbacks.generated import write_generated
from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ScoredSamples
from adlightning.methods import ADGAN, Autoencoder, DeepSVDD, Likelihood
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.methods.parts.inversion import LatentSearch
from adlightning.networks import LeNetEncoder
from adlightning.networks.gan import DCGANCritic, DCGANGenerator
from adlightning.preprocessing import SymmetricRange
from adlightning.testing import Stripes

SPEC = InputSpec("image", (1, 16, 16))
X = Stripes().load("test").x
SCORED = ScoredSamples(np.linspace(5, 1, 90), np.repeat([0, 1, 1], 30), np.arange(90))


class Silent(nn.Module):
    """A density that draws no samples."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return -x.sum(dim=(1, 2, 3))


class Drawing(Silent):
    """One that does."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.rand(n, *self.shape, generator=generator)


def read(index: NDArray[np.int64]) -> Tensor:
    assert isinstance(X, Tensor)
    return X[torch.from_numpy(index)]


def rows_drawn(
    monkeypatch: pytest.MonkeyPatch, folder: Path, detector: Any, scored: ScoredSamples = SCORED
) -> dict[str, tuple[list[Tensor], Any]]:
    """What is drawn in each file: rows of images, and captions."""
    detector.configure_for(SPEC)
    drawn: dict[str, tuple[list[Tensor], Any]] = {}
    draw = generated.rows_of_images

    def watched(path: Path, rows: Any, captions: Any, *rest: Any) -> Path:
        drawn[path.name] = (list(rows), captions)
        return draw(path, rows, captions, *rest)

    monkeypatch.setattr(generated, "rows_of_images", watched)
    for path in write_generated(folder, detector, scored, read, "a title"):
        with Image.open(path) as image:
            assert image.format == "PNG"
    return drawn


def test_adgan_shows_reconstructions_search_and_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    detector = ADGAN(
        partial(DCGANGenerator, width=4),
        partial(DCGANCritic, width=4),
        latent_dim=8,
        search=LatentSearch(n_seeds=2, n_steps=20),
        preprocessing=SymmetricRange,
    )
    drawn = rows_drawn(monkeypatch, tmp_path, detector)
    assert set(drawn) == {"reconstructions.png", "filmstrip.png", "generated.png"}
    rows, captions = drawn["reconstructions.png"]
    scores = SCORED.scores[[29, 26, 23, 19, 16, 13, 10, 6, 3, 0]]  # the 30 normals, from the least anomalous on
    assert captions[0] == [f"{score:.4g}" for score in scores]
    chosen = read(np.array([29, 26, 23, 19, 16, 13, 10, 6, 3, 0]))
    torch.testing.assert_close(rows[0], chosen.float() / 127.5 - 1)
    torch.testing.assert_close(rows[1], detector.eval().reconstructions(chosen))
    assert [len(row) for row in rows] == [10] * 4
    rows, captions = drawn["filmstrip.png"]
    assert captions[0] == ["normal", *(f"step {n}" for n in (0, 2, 4, 7, 9, 11, 13, 16, 18, 20))]
    assert [len(row) for row in rows] == [11, 11]
    torch.testing.assert_close(rows[0][-1], detector.reconstructions(read(np.array([15])))[0], rtol=1e-4, atol=1e-5)
    assert [len(row) for row in drawn["generated.png"][0]] == [10] * 6


def test_an_autoencoder_reconstructs_and_a_hypersphere_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"encoder": partial(LeNetEncoder, conv_channels=(4,), rep_dim=16)}
    assert set(rows_drawn(monkeypatch, tmp_path, Autoencoder(**options))) == {"reconstructions.png"}
    assert not rows_drawn(monkeypatch, tmp_path, DeepSVDD(**options, pretraining=AutoencoderPretraining(epochs=1)))


def test_a_density_shows_its_samples_where_it_draws_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (drawn,) = rows_drawn(monkeypatch, tmp_path, Likelihood(density=Drawing)).items()
    assert drawn[0] == "generated.png"
    assert [len(row) for row in drawn[1][0]] == [10] * 6
    assert not rows_drawn(monkeypatch, tmp_path, Likelihood(density=Silent))


def test_one_kind_without_the_other_and_scores_that_are_not_finite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"encoder": partial(LeNetEncoder, conv_channels=(4,), rep_dim=16)}
    normals = ScoredSamples(SCORED.scores[:3], SCORED.labels[:3], SCORED.index[:3])
    drawn = rows_drawn(monkeypatch, tmp_path, Autoencoder(**options), normals)
    assert [len(row) for row in drawn["reconstructions.png"][0]] == [3, 3]
    broken = ScoredSamples(np.full(90, np.nan), SCORED.labels, SCORED.index)
    assert not rows_drawn(monkeypatch, tmp_path, Autoencoder(**options), broken)
