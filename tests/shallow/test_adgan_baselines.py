"""Classic methods of ADGAN's Table 1 from their configs: AlexNet's weights by file and by name, LSUN's databases."""

from __future__ import annotations

import io
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import models

from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector
from adlightning.shallow import ShallowDetector

ROOT = Path(__file__).parents[2]
QUICK = ["--plots=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's file of the ImageNet weights


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with AlexNet's convolutions, drawn at random; the layers behind them are not looked at."""
    torch.manual_seed(0)
    convolutions = {f"features.{name}": value for name, value in _convolutions().items()}
    file = tmp_path_factory.mktemp("hub") / "hub" / "checkpoints" / ALEXNET
    file.parent.mkdir(parents=True)
    torch.save(convolutions, file)
    return file


def _convolutions() -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = models.AlexNet(num_classes=1).features.state_dict()
    return state


def fit(config: str, folder: Path, *options: str) -> pd.DataFrame:
    """Scores of the test set after a fit."""
    assert main(["fit", f"--config={ROOT / 'configs' / config}", f"--run_dir={folder}", *options, *QUICK]) == 0
    return pd.read_csv(folder / "scores.csv")


@pytest.mark.parametrize(("method", "by"), [("kde", "file"), pytest.param("ocsvm", "name", marks=pytest.mark.slow)])
def test_alexnets_features_by_file_and_by_name_end_to_end(
    method: str, by: str, alexnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(alexnet.parents[2]))
    # digits in the place of MNIST; images of 64 pixels are the smallest that AlexNet takes
    small = ["--data.source=Digits", "--data.normal_class=8", "--model.preprocessing.resize=64"]
    small += ["--model.features.components=10", "--data.n_test=100"]
    weights = str(alexnet) if by == "file" else "DEFAULT"
    scores = fit(f"{method}/mnist_alexnet.yaml", tmp_path / "run", *small, f"--model.features.weights={weights}")
    assert len(scores) == 100
    assert np.isfinite(scores.score).all()
    assert scores.score[scores.label == 1].mean() > scores.score[scores.label == 0].mean()

    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    detector = load_detector(checkpoint)
    assert isinstance(detector, ShallowDetector)
    taken, given = detector.feature_map.network.state_dict(), torch.load(alexnet, weights_only=True)
    assert all(torch.equal(taken[f"extractor.{name}"], value) for name, value in given.items())

    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    out = tmp_path / "noise.csv"
    asked = [f"--ckpt_path={checkpoint}", f"--data={tmp_path / 'images'}", f"--out={out}", "--device=cpu"]
    assert main(["score", *asked]) == 0
    expected = detector.score(torch.from_numpy(pixels)[:, None])
    np.testing.assert_allclose(pd.read_csv(out).score, expected, rtol=1e-4)


@pytest.mark.skipif(find_spec("lmdb") is None, reason="needs lmdb")
@pytest.mark.parametrize(
    "config",
    [
        "isolation_forest/lsun_pca.yaml",
        *(pytest.param(f"{name}/lsun_pca.yaml", marks=pytest.mark.slow) for name in ("kde", "ocsvm", "gmm")),
        *(pytest.param(f"{name}/lsun_alexnet.yaml", marks=pytest.mark.slow) for name in ("kde", "ocsvm")),
    ],
)
def test_lsun_is_read_from_its_databases_and_a_part_of_it_trained_on(
    config: str, alexnet: Path, tmp_path: Path
) -> None:
    for scene, level in (("bedroom", 60), ("tower", 200)):
        write(tmp_path / "lsun" / f"{scene}_train_lmdb", 60, level)
        write(tmp_path / "lsun" / f"{scene}_val_lmdb", 12, level)
    is_alexnet = "alexnet" in config
    options = ["--model.features.components=3", "--data.source.scenes=[bedroom, tower]"]
    options += [f"--data.source.root={tmp_path / 'lsun'}", "--data.source.train_per_scene=40"]
    options += [f"--data.source.resize={64 if is_alexnet else 16}"]
    if is_alexnet:
        options += [f"--model.features.weights={alexnet}", "--model.preprocessing.resize=64"]
    if config.startswith("gmm"):
        options += ["--model.n_components=[2]"]
    scores = fit(config, tmp_path / "run", *options)
    assert len(scores) == 24
    assert scores.score[scores.label == 1].min() > scores.score[scores.label == 0].max()
    counts = json.loads((tmp_path / "run/metrics.json").read_text())["samples"]
    assert (counts["train"], counts["validation"]) == (38, 2)  # of 40, bedrooms alone


def write(folder: Path, n: int, level: int) -> None:
    """A database of photographs of noise about a grey value."""
    import lmdb

    folder.mkdir(parents=True)
    rng = np.random.default_rng(level + n)
    database = lmdb.open(str(folder))
    with database.begin(write=True) as transaction:
        for i in range(n):
            pixels, buffer = rng.integers(level - 50, level + 50, (20, 24, 3)).astype(np.uint8), io.BytesIO()
            Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
            transaction.put(f"key{i:03}".encode(), buffer.getvalue())
    database.close()
