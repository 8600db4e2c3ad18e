"""Maps of what a reconstruction leaves, and scores that are a reduction of them, of every method that rebuilds."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from small_detectors import GENERATIVE

import adlightning as ad
from adlightning.core.maps import MaximumOfMap, MeanOfMap

REBUILDING = ("dcae", "vae", "skip_ganomaly", "adgan", "anogan", "ama", "conad")


def images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize("name", REBUILDING)
def test_a_map_is_at_the_images_size_and_a_score_its_reduction(name: str, tmp_path: Path) -> None:
    cls, arguments = GENERATIVE[name]
    detector = ad.fit(cls(**copy.deepcopy(arguments)), ad.Arrays(images(24), batch_size=12), 2, progress=False)
    maps = detector.detector.heatmaps(images(5, seed=1))
    assert maps.shape == (5, 16, 16)
    assert (maps >= 0).all()
    if "reduction" in cls.scoring_arguments:
        path = detector.save(tmp_path / "d.ckpt")
        again = ad.load_detector(path, scoring={"reduction": MaximumOfMap(sigma=1.0)})
        wanted = MaximumOfMap(sigma=1.0).reduce(torch.from_numpy(maps))
        np.testing.assert_allclose(again.score(images(5, seed=1)), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("detector", [ad.Autoencoder, ad.DCAE])
def test_the_mean_of_the_map_is_the_paper_s_score(detector: type[ad.AnomalyDetector]) -> None:
    run = ad.fit(detector(), ad.Arrays(images(24), batch_size=12), 2, progress=False)
    x = images(5, seed=1)
    np.testing.assert_allclose(run.detector.score(x), run.detector.heatmaps(x).mean(axis=(1, 2)), rtol=1e-4)


def test_a_reduction_is_an_argument_of_training_too() -> None:
    run = ad.fit(ad.Autoencoder(reduction=MeanOfMap()), ad.Arrays(images(24), batch_size=12), 2, progress=False)
    assert run.detector.threshold.isfinite()
    with pytest.raises(ValueError, match="reduction must be null but for images"):
        ad.fit(ad.Autoencoder(reduction=MeanOfMap()), ad.Arrays(images(24)[:, 0, 0]), 2, progress=False)
