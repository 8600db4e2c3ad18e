"""Serve an exported detector: images or rows in, scores, p-values, verdicts out. Needs onnxruntime and litserve.

adlightning export --ckpt_path RUN --format onnx --out model.onnx
python server.py model.onnx --port 8000
"""

import argparse
import base64
import io
import json
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import HTTPException
from PIL import Image

MAX_SAMPLES = 1024
MAX_BYTES = 2**24  # of a request
Image.MAX_IMAGE_PIXELS = 2**26  # Pillow refuses an image of twice as many


class Scorer(litserve.LitAPI):
    """`{"rows": [[...], ...]}` or `{"images": [BASE64 of a file, ...]}` to a score, a p-value, a verdict each."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model

    def setup(self, device: str) -> None:
        self.session = onnxruntime.InferenceSession(self.model, providers=onnxruntime.get_available_providers())
        said = self.session.get_modelmeta().custom_metadata_map
        self.threshold = json.loads(said["threshold"])
        self.input = self.session.get_inputs()[0]

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        samples = request.get("rows") or request.get("images") or []
        if not 1 <= len(samples) <= MAX_SAMPLES:
            raise HTTPException(413, f"a request must hold 1 to {MAX_SAMPLES} samples, got {len(samples)}")
        try:
            x = np.stack([self._image(text) for text in samples]) if "images" in request else np.asarray(samples)
            x = x.astype({"tensor(uint8)": np.uint8, "tensor(double)": np.float64}.get(self.input.type, np.float32))
        except (TypeError, ValueError, OSError, Image.DecompressionBombError) as error:
            raise HTTPException(422, f"these are no samples: {error}") from error
        if list(x.shape[1:]) != self.input.shape[1:] or not np.isfinite(x).all():
            raise HTTPException(422, f"a sample must be {self.input.shape[1:]} finite numbers, got {list(x.shape[1:])}")
        return x

    def _image(self, text: str) -> np.ndarray:
        channels, height, width = self.input.shape[1:]
        image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
        if image.size != (width, height):
            raise ValueError(f"images must be {width} x {height}, got {image.width} x {image.height}")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)

    def predict(self, x: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self.session.run(None, {self.input.name: x})
        return outputs

    def encode_response(self, outputs: list[np.ndarray]) -> dict[str, Any]:
        scores, *p_values = outputs  # p-values where normal samples were held out of training
        verdicts = ["anomaly" if score > self.threshold else "normal" for score in scores]
        said = {"scores": scores.tolist(), "verdicts": verdicts, "threshold": self.threshold}
        return said | ({"p_values": p_values[0].tolist()} if p_values else {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1")
    given = parser.parse_args()
    server = litserve.LitServer(Scorer(given.model), accelerator="auto", max_payload_size=MAX_BYTES)
    server.run(host=given.host, port=given.port, generate_client_file=False)
