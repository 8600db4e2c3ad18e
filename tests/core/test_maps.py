"""Maps of what a reconstruction leaves, and scores that are a reduction of them, of every method that rebuilds."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from small_detectors import GENERATIVE

import adlightning as ad
from adlightning.__main__ import main
from adlightning.core.maps import MaximumOfMap, MeanOfMap
from adlightning.networks import FullyConvolutional
from adlightning.networks.patches import RawPatches

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


@pytest.mark.usefixtures("onnx_parsed_once")
@pytest.mark.parametrize(
    "detector",
    [
        ad.PatchKNN(partial(RawPatches, size=4, stride=2)),
        pytest.param(ad.PCA(), marks=pytest.mark.slow),
        pytest.param(ad.Autoencoder(), marks=pytest.mark.slow),
        ad.FCDD(partial(FullyConvolutional, stages=((8,), (8,)), kernel=3)),
    ],
)
def test_an_exported_graph_gives_maps_on_request(detector: ad.AnomalyDetector, tmp_path: Path) -> None:
    run = ad.fit(detector, ad.Arrays(images(24), batch_size=12), 2, progress=False)
    run.save(tmp_path / "d.ckpt")
    arguments = ["export", f"--ckpt_path={tmp_path / 'd.ckpt'}", "--with_map"]
    assert main([*arguments, "--format=onnx", f"--out={tmp_path / 'm.onnx'}"]) == 0
    x = images(5, seed=1)
    scores, maps = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(["scores", "maps"], {"x": x})
    wanted = run.detector.heatmaps(x)
    assert np.abs(maps - wanted).max() <= 1e-5 * np.abs(wanted).max()
    np.testing.assert_allclose(scores, run.detector.score(x), rtol=1e-4)
    if isinstance(detector, ad.PatchKNN):
        assert main([*arguments, "--format=torch", f"--out={tmp_path / 'm.pt2'}"]) == 0
        found = torch.export.load(tmp_path / "m.pt2").module()(torch.from_numpy(x))
        np.testing.assert_allclose(found["maps"].detach(), wanted, rtol=1e-4, atol=1e-6)


def test_a_detector_without_maps_exports_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ad.fit(ad.PCA(), ad.Arrays(images(24)[:, 0, 0]), progress=False)
    run.save(tmp_path / "d.ckpt")
    assert main(["export", f"--ckpt_path={tmp_path / 'd.ckpt'}", "--with_map", "--format=onnx"]) == 2
    assert "with_map: PCA does not say where an image is anomalous" in capsys.readouterr().err
