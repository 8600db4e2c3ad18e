"""The export verb: one graph from raw input to scores, equal to the verb `score`, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from configured import detector_of
from numpy.typing import NDArray
from PIL import ExifTags, Image
from refusals import is_refusal
from short_fits import PHASES, argument, detector_arguments, slow_but
from sklearn.datasets import load_digits
from torch import Tensor

import adlightning
from adlightning import methods, shallow
from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector
from adlightning.cli import export
from adlightning.core.contracts import InputSpec
from adlightning.core.detector import AnomalyDetector
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.own_data import FolderData, TableData
from adlightning.data.sources import Digits, Sphere
from adlightning.data.synthetic import CutPaste
from adlightning.data.unlabelled import TransductiveOneVsAll
from adlightning.methods import ADGAN, DROCC, GOAD, VAE, DeepSAD, DeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import LeNetEncoder, LSTMEncoder, MLPEncoder
from adlightning.networks.gan import DCGANCritic
from adlightning.networks.goad import GOADEncoder
from adlightning.preprocessing import GlobalContrastL1, StandardizeFeatures, SymmetricRange, UnitRange

pytestmark = pytest.mark.usefixtures("onnx_parsed_once")

ROOT = Path(__file__).parents[1]
QUICK: dict[str, Any] = {
    **{"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "accelerator": "cpu"},
    **{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
}
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").glob("*/digits.yaml"))
SPHERE = "configs/goad/sphere.yaml"
REFUSED = {"ADGAN", "AnoGAN", "SScore", *shallow.__all__}

DATA = {cls.__name__: cls for cls in (OneVsAll, TransductiveOneVsAll, AnomalyLabelled, TableData, FolderData)}
DETECTORS = {name: getattr(module, name) for module in (methods, shallow) for name in module.__all__}
# Fits to all training images, and steps within a step, which take seconds.
FEWER: dict[str, dict[str, Any]] = {
    "GeometricTransforms": {"threshold": "Contamination", "threshold.share": 0.1},
    "AMA": {"critic_turns.steps": 1},
    "SemiSupervisedAMA": {"critic_turns.steps": 1},
    "WAIC": {"n_members": 2, "critic_turns.steps": 1},
    "DensityWAIC": {"n_members": 2, "density.steps": 1},
    "ADGAN": {"search.n_steps": 1, "search.n_seeds": 1, "generator.width": 8, "critic.width": 8},
}

Fit = Callable[[str], Path]


def model_of(config: str) -> dict[str, Any]:
    model: dict[str, Any] = yaml.safe_load((ROOT / config).read_text())["model"]
    return model


WAYS = ("deep_sad", "vae", "density_ratio")
"""A distance, a residual, a ratio."""
EXPORTED = [*(config for config in CONFIGS if model_of(config)["class_path"] not in REFUSED), SPHERE]


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Run folders of short fits, one a config."""

    @cache
    def run(config: str) -> Path:
        content = yaml.safe_load((ROOT / config).read_text())
        name, init = content["model"]["class_path"], detector_arguments(content)
        phases = {phase: 0 for phase in PHASES if argument(init, phase)}
        arguments = content["data"]["init_args"]
        arguments |= {"source": Sphere(radius=1.2) if config == SPHERE else Digits(), "batch_size": 10}
        if "synthetic_anomalies" in arguments:
            arguments["synthetic_anomalies"] = CutPaste()
        arguments |= {"validation_fraction": 0.95} if name == "GeometricTransforms" else {}
        folder = tmp_path_factory.mktemp("run")
        return fitted(detector_of(content["model"], **phases, **FEWER.get(name, {})), content["data"], folder)

    return run


def fitted(detector: AnomalyDetector, data: dict[str, Any], folder: Path) -> Path:
    """A folder with the checkpoint of a short fit."""
    torch.manual_seed(0)
    trainer = pl.Trainer(**QUICK, default_root_dir=folder)
    trainer.fit(detector, datamodule=DATA[data["class_path"]](**data["init_args"]))
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder


@pytest.mark.parametrize("channels", slow_but([1], [1, 3]))
def test_the_documented_reader_gives_the_scores_of_the_verb(
    channels: Literal[1, 3], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pillow and NumPy alone, on files of other sizes, shapes, modes and orientations."""
    rng = np.random.default_rng(0)
    (tmp_path / "train" / "normal").mkdir(parents=True)
    turned = Image.Exif()
    for i, mode in enumerate(("L", "RGB", "P", "RGBA", "CMYK", "LA", "1", "L", "RGB", "P") * 3):
        image = Image.fromarray(rng.integers(0, 256, (9 + i, 31, 3), dtype=np.uint8)).convert(mode)
        turned[ExifTags.Base.Orientation] = 1 + i % 8
        suffix = {"CMYK": "tif", "RGBA": "webp", "LA": "png", "1": "tif", "P": "png"}.get(mode, ("jpg", "png")[i % 2])
        image.save(tmp_path / "train" / "normal" / f"{i}.{suffix}", exif=turned)
    deep = Image.fromarray(rng.integers(0, 4096, (20, 31), dtype=np.uint16))
    deep.save(tmp_path / "train" / "normal" / "deep.png", exif=turned)
    data: dict[str, Any] = {"root": str(tmp_path), "resize": (16, 24), "channels": channels, "batch_size": 8}
    data["white"] = 4095
    data |= {"resize_mode": {1: "crop", 3: "pad"}[channels], "background": {1: None, 3: "grey"}[channels]}
    detector = DeepSAD(partial(LeNetEncoder, conv_channels=(4, 4), rep_dim=4), pretraining=AT_ONCE)
    run = fitted(detector, {"class_path": "FolderData", "init_args": data}, tmp_path)
    assert main(["export", f"--ckpt_path={run}", "--format=onnx", f"--out={tmp_path / 'model.onnx'}"]) == 0
    assert main(["export", f"--ckpt_path={run}", "--format=torch", f"--out={tmp_path / 'model.pt2'}"]) == 0
    assert main(["score", f"--ckpt_path={run}", f"--data={tmp_path}", f"--out={tmp_path / 's.csv'}"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    about = session.get_modelmeta().custom_metadata_map
    frame = pd.read_csv(tmp_path / "s.csv")
    blocks = (ROOT / "docs" / "own_data.md").read_text().split("with Pillow and NumPy alone:")[1].split("\nA colour")[0]
    names: dict[str, Any] = {"paths": [tmp_path / name for name in frame["name"]], "about": about, "json": json}
    exec(textwrap.dedent(blocks), names)
    assert names["x"].shape == (31, channels, 16, 24)
    scores = session.run(["scores"], {"x": names["x"]})[0]
    np.testing.assert_allclose(scores, frame["score"], rtol=1e-5)
    extra = {export.METADATA: ""}
    graph = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    given = {name: values.detach() for name, values in graph(torch.from_numpy(names["x"])).items()}
    np.testing.assert_allclose(given["scores"], frame["score"], rtol=1e-5)
    np.testing.assert_allclose(given["p_values"], frame["p_value"], rtol=1e-5)
    how = json.loads(about["image_files"])
    assert json.loads(extra[export.METADATA])["image_files"] == how
    assert how["resize"] == [16, 24]
    assert (how["resize_mode"], how["white"]) == (data["resize_mode"], 4095)
    assert how["filter"] == "PIL.Image.Resampling.BILINEAR"


def test_the_documented_array_of_a_table_with_categories_gives_the_scores_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["length", "mass"])
    frame["line"] = rng.choice(["A", "B", ""], 60)
    frame.loc[7, "mass"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    detector = DeepSVDD(partial(MLPEncoder, rep_dim=4), preprocessing=StandardizeFeatures, pretraining=AT_ONCE)
    arguments = {"path": str(tmp_path / "t.csv"), "missing": "median", "categorical": "one_hot"}
    run = fitted(detector, {"class_path": "TableData", "init_args": arguments}, tmp_path)
    new = frame.replace({"line": {"B": "Z"}})  # a category that training had not
    new.to_csv(tmp_path / "new.csv", index=False)
    assert main(["export", f"--ckpt_path={run}", "--format=onnx", f"--out={tmp_path / 'm.onnx'}"]) == 0
    with pytest.warns(UserWarning, match="'Z'"):
        assert (
            main(["score", f"--ckpt_path={run}", f"--data={tmp_path / 'new.csv'}", f"--out={tmp_path / 's.csv'}"]) == 0
        )
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    block = (ROOT / "docs" / "own_data.md").read_text().split("a missing number as NaN:")[1].split("\nWith torch")[0]
    names: dict[str, Any] = {"json": json}
    exec(textwrap.dedent(block), names)
    x = names["as_array"](pd.read_csv(tmp_path / "new.csv"), session.get_modelmeta().custom_metadata_map)
    scores = session.run(["scores"], {"x": x})[0]
    np.testing.assert_allclose(scores, pd.read_csv(tmp_path / "s.csv")["score"], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("table") / "train.csv"
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["length", "width", "mass"])
    frame.assign(label="normal").to_csv(file, index=False)
    detector = DeepSAD(partial(MLPEncoder, rep_dim=4), preprocessing=StandardizeFeatures, pretraining=AT_ONCE)
    arguments = {"path": str(file), "label_column": "label"}
    return fitted(detector, {"class_path": "TableData", "init_args": arguments}, file.parent)


def raw_input(run: Path) -> Tensor:
    """Digits, or points in and around a ball."""
    spec = load_detector(run).input_spec
    assert spec is not None
    if spec.kind == "image":
        return torch.from_numpy((load_digits().images[:6, None] * 255 / 16).astype(np.uint8))
    return torch.from_numpy(np.random.default_rng(0).normal(size=(6, *spec.shape)).astype(np.float32))


def verb(run: Path, form: str, *options: str) -> int:
    return main(["export", f"--ckpt_path={run}", f"--format={form}", *options])


def session_of(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def assert_same(
    scores: NDArray[np.float32], wanted: NDArray[np.float64], of: NDArray[np.float64] | None = None
) -> None:
    """Equal to 1e-5 of the largest of scores: a small one may be a difference of large numbers, as AMA's is."""
    assert scores.dtype == np.float32
    assert scores.shape == wanted.shape
    assert np.abs(scores - wanted).max() <= 1e-5 * np.abs(wanted if of is None else of).max()


# ---- what is exported ----------------------------------------------------------------------------------------------


def test_detectors_whose_score_is_no_forward_pass_say_so() -> None:
    assert {name for name, cls in DETECTORS.items() if isinstance(cls.score_needs, str)} == REFUSED
    assert {model_of(config)["class_path"] for config in EXPORTED} == DETECTORS.keys() - REFUSED
    assert ADGAN(score_type="critic").score_needs is None
    assert "score_samples: 3" in str(VAE(score_samples=3).score_needs)


@pytest.mark.parametrize("config", slow_but([f"configs/{method}/digits.yaml" for method in WAYS], EXPORTED))
def test_onnx_scores_raw_input_as_the_verb_score_does(config: str, fit: Fit, tmp_path: Path) -> None:
    run, file = fit(config), tmp_path / "model.onnx"
    assert verb(run, "onnx", f"--out={file}") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # weights inside
    detector, session, x = load_detector(run), session_of(file), raw_input(run)
    wanted = detector.score(x, batch_size=4)
    assert_same(session.run(["scores"], {"x": x.numpy()})[0], wanted)
    assert_same(session.run(["scores"], {"x": x[:1].numpy()})[0], wanted[:1], of=wanted)
    described = session.get_modelmeta().custom_metadata_map
    assert described["class"] == type(detector).__name__
    assert float(described["threshold"]) == detector.threshold.item()


@pytest.mark.parametrize("method", ["deep_sad", "vae", "goad"])
def test_a_pt2_scores_raw_input_as_the_verb_score_does(method: str, fit: Fit, tmp_path: Path) -> None:
    run, file = fit(SPHERE if method == "goad" else f"configs/{method}/digits.yaml"), tmp_path / "model.pt2"
    assert verb(run, "torch", f"--out={file}") == 0
    extra = {"adlightning.json": ""}
    module, x = torch.export.load(file, extra_files=extra).module(), raw_input(run)
    scores = module(x)["scores"].numpy()  # no weight wants a gradient
    wanted = load_detector(run).score(x, batch_size=4)
    assert_same(scores, wanted)
    threshold = json.loads(extra["adlightning.json"])["threshold"]
    assert ((scores > threshold) == (wanted > threshold)).all()


def test_an_exported_file_gives_the_verdicts_of_the_verb_score(table_run: Path, tmp_path: Path) -> None:
    assert verb(table_run, "onnx", f"--out={tmp_path / 'model.onnx'}") == 0
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(50, 3)) * 1.5, columns=["mass", "length", "width"])
    frame.to_csv(tmp_path / "new.csv", index=False)
    files = [f"--data={tmp_path / 'new.csv'}", f"--out={tmp_path / 'scores.csv'}"]
    assert main(["score", f"--ckpt_path={table_run}", "--device=cpu", *files]) == 0
    session, wanted = session_of(tmp_path / "model.onnx"), pd.read_csv(tmp_path / "scores.csv")
    described = session.get_modelmeta().custom_metadata_map
    assert described["class"] == "DeepSAD"
    assert described["adlightning"] == adlightning.__version__
    assert described["input"].startswith("3 features")
    assert json.loads(described["features"]) == ["length", "width", "mass"]
    x = frame[json.loads(described["features"])].to_numpy(described["dtype"])
    scores, p = session.run(["scores", "p_values"], {"x": x})
    assert_same(scores, wanted.score.to_numpy())
    np.testing.assert_allclose(p, wanted.p_value, rtol=1e-5)
    verdicts = np.where(scores > float(described["threshold"]), "anomaly", "normal")
    assert list(verdicts) == list(wanted.verdict)
    assert set(verdicts) == {"anomaly", "normal"}


READY = {"sphere.center_is_set", "has_centers"}
IMAGES, SERIES = InputSpec("image", (1, 28, 28)), InputSpec("series", (4, 3))
TABLE = InputSpec("table", (5,))
AT_ONCE = AutoencoderPretraining(epochs=0)
CONTRAST = partial(GlobalContrastL1, resize=32, pad=2)
NARROW = partial(DCGANCritic, width=8)
VARIANTS: dict[str, Callable[[], tuple[AnomalyDetector, InputSpec]]] = {
    "resized, contrast": lambda: (DeepSVDD(preprocessing=CONTRAST, pretraining=AT_ONCE), IMAGES),
    "lstm": lambda: (DROCC(partial(LSTMEncoder, rep_dim=8, bias=True), preprocessing=StandardizeFeatures), SERIES),
    "epsilon": lambda: (GOAD(encoder=partial(GOADEncoder, n_layers=2), epsilon=1e-3, distance_floor=0.1), TABLE),
    "critic": lambda: (ADGAN(critic=NARROW, score_type="critic", preprocessing=SymmetricRange), IMAGES),
}


def built(make: Callable[[], tuple[AnomalyDetector, InputSpec]]) -> AnomalyDetector:
    """A detector with random weights, as if it were trained."""
    torch.manual_seed(0)
    detector, spec = make()
    detector.configure_for(spec)
    detector.preprocess.fit(lambda: [export.random_input(spec, 50)])
    for name in READY & dict(detector.named_buffers()).keys():
        detector.get_buffer(name).fill_(True)
    return detector.eval()


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_arguments_export_as_well(variant: str) -> None:
    detector = built(VARIANTS[variant])
    exported = export.as_onnx(export.trace(detector), export.describe(detector))
    assert export.largest_deviation(detector, exported.run) <= 1e-5


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["torch", "onnx"])
def test_other_detectors_are_refused(form: str, fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--out={tmp_path / 'model'}"]
    searched = fit("configs/adgan/digits.yaml")
    is_refusal(capsys, verb(searched, form, *options), "ckpt_path must be", "ADGAN, whose score needs a search")
    is_refusal(capsys, verb(fit("configs/kde/digits.yaml"), form, *options), "KDE, whose score needs an estimator")
    assert not list(tmp_path.iterdir())


def test_the_file_is_beside_the_checkpoint_and_what_exists_is_not_overwritten(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit("configs/deep_sad/digits.yaml")
    assert verb(run, "torch") == 0
    file = run / "last.pt2"
    content = file.read_bytes()
    assert os.fsencode(ROOT) not in content
    is_refusal(capsys, verb(run, "torch"), "out:", "last.pt2 exists already")
    assert file.read_bytes() == content
    is_refusal(capsys, verb(run, "onnx", f"--out={tmp_path / 'no' / 'model.onnx'}"), "out: there is no folder")
    is_refusal(capsys, verb(tmp_path, "onnx"), "ckpt_path: no checkpoint at")
    with pytest.raises(ValueError, match="format must be one of torch, onnx, got 'tflite'"):
        export.export(str(run), "tflite")  # type: ignore[arg-type]


def test_a_failure_leaves_nothing_behind(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = fit("configs/deep_sad/digits.yaml"), f"--out={tmp_path / 'model'}"
    with monkeypatch.context() as patch:
        patch.setattr(export, "find_spec", lambda name: None)
        is_refusal(capsys, verb(run, "onnx", out), "onnxscript", "pip install 'adlightning[export]'")
    with monkeypatch.context() as patch:
        patch.setattr(export, "ONNX_LIMIT", 1000)
        is_refusal(capsys, verb(run, "onnx", out), "format must be torch for", "got onnx")
    with monkeypatch.context() as patch:
        patch.setattr(export, "TOLERANCE", -1.0)
        is_refusal(capsys, verb(run, "torch", out), "format: the scores of the torch graph must be those of DeepSAD")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert verb(run, "torch", out) == 1
        error = capsys.readouterr().err
        assert "the disk is full" in error
        assert "model cannot be written, No space left on device: nothing of it is kept" in error
    assert not list(tmp_path.iterdir())


class Branching(DeepSVDD):
    """A detector of one's own, whose score looks at its values."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores = super().anomaly_score(x)
        return scores if scores.max() > 1 else -scores


def test_a_score_that_branches_by_its_values_is_refused() -> None:
    detector = built(lambda: (Branching(preprocessing=UnitRange, pretraining=AT_ONCE), IMAGES))
    with pytest.raises(ValueError, match="ckpt_path: the score of Branching cannot be traced"):
        export.trace(detector)


def test_the_verb_needs_no_torch_to_say_how_it_is_used() -> None:
    code = "import sys, adlightning.cli.export; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
