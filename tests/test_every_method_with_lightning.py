"""Lightning's features with every method: a short fit ends with a plain one's weights, with others, or is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    WeightAveraging,
)
from pytorch_lightning.loggers import CSVLogger
from short_fits import PHASES, ROOT, SMALL, argument, detector_arguments, slow_but
from torch import Tensor, nn

from adlightning import methods
from adlightning.callbacks.networks import CompileNetworks, MemoryFormat
from adlightning.checkpoints.loading import load_detector
from adlightning.cli import registry
from adlightning.cli.parser import AnomalyParser
from adlightning.cli.parsing import PARSER_MODE
from adlightning.core.detector import AnomalyDetector
from adlightning.core.fitted_once import FittedOnce
from adlightning.core.scoring import in_training_step
from adlightning.data.modules import AnomalyDataModule

EPOCHS, BATCHES = 2, 2


def _cases() -> list[str]:
    """The digits' config of every method that trains, GOAD's of a table, a shallow one on an autoencoder's codes."""
    configs = {path: yaml.safe_load(path.read_text()) for path in ROOT.glob("configs/*/digits.yaml")}
    names = {path.parent.name: its["model"]["class_path"] for path, its in configs.items()}
    trained = {name: cls for name, cls in names.items() if cls in methods.__all__}
    ours = sorted(name for name, cls in trained.items() if not issubclass(getattr(methods, cls), FittedOnce))
    return [*(f"{name}/digits" for name in ours), "goad/sphere", "ocsvm/digits_hybrid"]


CASES = _cases()
QUICK = (
    *("autoencoder/digits", "deep_sad/digits", "soft_boundary_deep_svdd/digits", "density_ratio/digits"),
    *("goad/sphere", "ama/digits", "adgan/digits", "alad/digits", "ocsvm/digits_hybrid"),
)
"""One of each way through a fit."""
IMAGES = [case for case in QUICK if "digits" in case]
SEARCHES = ("adgan/digits", "anogan/digits")
"""Their score is a search with a network that has BatchNorms."""


@cache
def parsed(case: str) -> tuple[AnomalyDetector, AnomalyDataModule]:
    """A small detector and its data."""
    registry.import_all()
    config = yaml.safe_load((ROOT / f"configs/{case}.yaml").read_text())
    init = detector_arguments(config)
    small = [f"--model.{phase}=1" for phase in PHASES if argument(init, phase)]
    small += [f"--model.{name}={value}" for name, value in SMALL.items() if argument(init, name) is not None]
    small += ["--model.encoder=PlainMLP"] if case.startswith("geometric") else []
    parser = AnomalyParser(exit_on_error=False, parser_mode=PARSER_MODE)
    for name, cls in (("model", AnomalyDetector), ("data", AnomalyDataModule)):
        parser.add_lightning_class_args(cls, name, subclass_mode=True)
    written = {part: yaml.safe_dump(config[part], default_flow_style=True, width=10**6) for part in ("model", "data")}
    given = [f"--{part}={text}" for part, text in written.items()]
    made = parser.instantiate(parser.parse_args([*given, *small, "--data.validation_fraction=0"]))
    return made.model, made.data


class Seen(pl.Callback):
    """Which samples each epoch's batches held."""

    def __init__(self) -> None:
        self.index: list[list[int]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.index.append([])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.index[-1] += batch.index.tolist()


def fitted(case: str, change: Callable[[AnomalyDetector], Any] | None = None, **options: Any) -> AnomalyDetector:
    """A detector after a short fit of all phases; something may be changed of its networks before."""
    model, data = parsed(case)
    pl.seed_everything(0, verbose=False)
    detector = type(model)(**model.arguments)
    if change is not None:
        data.setup("fit")
        detector.configure_for(data.input_spec)
        change(detector)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"accelerator": "cpu", "enable_model_summary": False, "max_epochs": EPOCHS, "limit_train_batches": BATCHES}
    pl.Trainer(**{**quiet, **options}).fit(detector, datamodule=data)
    assert detector.threshold.isfinite()
    return detector


@cache
def plain(case: str) -> dict[str, Tensor]:
    return fitted(case).state_dict()


def agrees(case: str, detector: AnomalyDetector) -> bool:
    """Whether all trained weights are those of a plain fit."""
    return all(torch.equal(weight, plain(case)[name]) for name, weight in detector.named_parameters())


FEATURES: dict[str, tuple[Literal["same", "other"], Callable[[Path], dict[str, Any]]]] = {
    "LearningRateMonitor": (
        "same",
        lambda folder: {"callbacks": [LearningRateMonitor()], "logger": CSVLogger(folder), "log_every_n_steps": 1},
    ),
    "EarlyStopping": ("same", lambda _: {"callbacks": [EarlyStopping("train/loss", patience=5)]}),
    "ModelCheckpoint": (
        "same",
        lambda folder: {"callbacks": [ModelCheckpoint(folder, filename="own")], "enable_checkpointing": True},
    ),
    "gradient_clip_val": ("other", lambda _: {"gradient_clip_val": 1e-4}),
    "accumulate_grad_batches": ("other", lambda _: {"accumulate_grad_batches": 2}),
    "overfit_batches": ("other", lambda _: {"overfit_batches": 1, "limit_train_batches": None}),
    "WeightAveraging": ("other", lambda _: {"callbacks": [WeightAveraging()]}),
    "EMAWeightAveraging": ("other", lambda _: {"callbacks": [EMAWeightAveraging(decay=0.5)]}),
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("case", slow_but(QUICK, CASES))
def test_a_fit_with_it_ends_as_it_should(case: str, feature: str, tmp_path: Path) -> None:
    expected, make = FEATURES[feature]
    by_hand = not parsed(case)[0].automatic_optimization
    if by_hand and feature in ("gradient_clip_val", "accumulate_grad_batches"):
        with pytest.raises(
            ValueError, match=rf"trainer\.{feature} must not be given for .*, which has several optimis"
        ):
            fitted(case, **make(tmp_path))
        return
    if case in SEARCHES and "Averaging" in feature:
        with pytest.raises(ValueError, match=f"{feature} is refused: the networks have BatchNorms"):
            fitted(case, **make(tmp_path))
        return
    if case == "alad/digits" and "Averaging" in feature:
        with pytest.raises(ValueError, match=rf"{feature} is refused: ALAD .* averages of its own \(model.ema_decay="):
            fitted(case, **make(tmp_path))
        return
    seen, options = Seen(), make(tmp_path)
    detector = fitted(case, **{**options, "callbacks": [seen, *options.get("callbacks", [])]})
    assert agrees(case, detector) == (expected == "same")
    if feature == "overfit_batches":
        assert seen.index[0] == seen.index[1]
    elif feature == "ModelCheckpoint":
        assert load_detector(tmp_path / "own.ckpt", unfinished=True).input_spec == detector.input_spec
    elif feature == "LearningRateMonitor":
        (rates,) = tmp_path.rglob("metrics.csv")
        assert "lr-" in rates.read_text()


@pytest.mark.parametrize("case", slow_but(IMAGES, [case for case in CASES if "digits" in case]))
def test_networks_may_be_laid_out_otherwise(case: str) -> None:
    if not any(weight.dim() == 4 for weight in plain(case).values()):
        with pytest.raises(ValueError, match="MemoryFormat changes nothing: this"):
            fitted(case, callbacks=[MemoryFormat("channels_last")])
        return
    as_made = all(weight.is_contiguous() for weight in plain(case).values())
    layout = MemoryFormat("channels_last" if as_made else "contiguous")
    found = dict(fitted(case, callbacks=[layout]).named_parameters())
    assert all(weight.is_contiguous() for weight in found.values()) is not as_made
    weights, expected = (torch.cat([of[name].flatten() for name in found]) for of in (found, plain(case)))
    # rounding decides where a bias goes that a BatchNorm takes out again: not weight by weight
    assert (weights - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("case", slow_but(QUICK, CASES))
def test_only_training_steps_run_compiled_networks(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: set[str] = set()
    detector = parsed(case)[0]

    def fake(call: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def compiled(*args: Any) -> Any:
            (name,) = [name for name, part in detector.named_modules() if part is getattr(call, "__self__", None)]
            assert in_training_step(detector)
            ran.add(name)
            return call(*args)

        return compiled if isinstance(getattr(call, "__self__", None), nn.Module) else call

    def note(made: AnomalyDetector) -> None:
        nonlocal detector
        detector = made

    monkeypatch.setattr(torch, "compile", fake)
    kept = ModelCheckpoint(tmp_path, filename="own")
    if case == "dsebm/digits":
        with pytest.raises(ValueError, match="can compile nothing of DSEBM: energy has gradients taken twice"):
            fitted(case, note, callbacks=[CompileNetworks()])
        return
    found = fitted(case, note, callbacks=[CompileNetworks(), kept], enable_checkpointing=True)
    assert agrees(case, found)
    assert ran
    assert not ran & set(found.differentiated_twice)
    assert agrees(case, load_detector(tmp_path / "own.ckpt", unfinished=True))  # under the same names
    assert agrees(case, copy.deepcopy(found))


COMPILED = ["autoencoder/digits", "deep_sad/digits", "drocc/digits"]


@pytest.mark.parametrize("case", COMPILED)
def test_a_compiled_fit_ends_with_a_plain_ones_weights(case: str) -> None:
    found = fitted(case, callbacks=[CompileNetworks(backend="aot_eager")])  # all but the C++ compiler
    for name, weight in found.named_parameters():
        torch.testing.assert_close(weight, plain(case)[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_detector_may_be_compiled_as_a_whole() -> None:
    model, data = parsed("autoencoder/digits")
    pl.seed_everything(0, verbose=False)
    detector = type(model)(**model.arguments)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=EPOCHS, limit_train_batches=BATCHES, enable_progress_bar=False, **options)
    trainer.fit(torch.compile(detector, backend="eager"), datamodule=data)  # type: ignore[arg-type]
    assert agrees("autoencoder/digits", detector)
