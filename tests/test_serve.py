"""examples/serve: an exported detector behind HTTP, asked over loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import adlightning as ad
from adlightning.cli.export import export

SERVE = Path(__file__).parents[1] / "examples" / "serve"
pytestmark = pytest.mark.slow  # each server starts two processes of Python

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(60, 3))
IMAGES = RNG.integers(0, 256, (20, 1, 6, 5), dtype=np.uint8)


@pytest.fixture(scope="module", params=["rows", "images"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """What a server takes, its address, and the folder with the checkpoint."""
    folder = tmp_path_factory.mktemp("serve")
    data = ad.Arrays(TABLE if request.param == "rows" else IMAGES)
    ad.fit(ad.Autoencoder(), data, max_epochs=1, progress=False).save(folder / "detector.ckpt")
    export(str(folder / "detector.ckpt"), "onnx", str(folder / "model.onnx"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVE / "server.py"), str(folder / "model.onnx"), "--port", str(port)]
    with subprocess.Popen(command, cwd=folder) as server:
        address = f"http://127.0.0.1:{port}"
        _wait(address, server)
        yield request.param, address, folder
        server.terminate()
        server.wait(30)


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None
        try:
            with urllib.request.urlopen(f"{address}/health"):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start within a minute")


def _refusal(address: str, content: object) -> tuple[int, str]:
    body = json.dumps(content).encode()
    request = urllib.request.Request(f"{address}/predict", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    return refused.value.code, refused.value.read().decode()


def test_the_client_gets_the_detector_s_scores_and_verdicts(served: tuple[str, str, Path]) -> None:
    kind, address, folder = served
    detector = ad.load_detector(folder / "detector.ckpt")
    if kind == "rows":
        files = [folder / "rows.csv"]
        pd.DataFrame(TABLE[:4], columns=["a", "b", "c"]).to_csv(files[0], index=False)
    else:
        files = [folder / f"{number}.png" for number in range(4)]
        for file, image in zip(files, IMAGES, strict=False):
            Image.fromarray(image[0]).save(file)
    x = TABLE[:4] if kind == "rows" else IMAGES[:4]
    command = [sys.executable, str(SERVE / "client.py"), address, *map(str, files)]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    np.testing.assert_allclose(said["scores"], detector.score(x), rtol=1e-4)
    assert [verdict == "anomaly" for verdict in said["verdicts"]] == detector.predict(x).tolist()
    assert said["threshold"] == pytest.approx(detector.threshold.item())


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ({}, 413, "must hold 1 to 1024 samples, got 0"),
        ({"rows": [[1.0]] * 2000}, 413, "got 2000"),
        ({"rows": [["x"]]}, 422, "these are no samples"),
        ({"rows": [[1.0, 2.0]]}, 422, "a sample must be"),
        ({"images": ["###"]}, 422, "these are no samples"),
        ({"images": [1]}, 422, "these are no samples"),
        ([1], 422, "valid dictionary"),
    ],
)
def test_what_is_no_request_is_refused(served: tuple[str, str, Path], content: object, code: int, words: str) -> None:
    said = _refusal(served[1], content)
    assert said[0] == code
    assert words in said[1]
