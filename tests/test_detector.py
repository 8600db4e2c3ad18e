"""What every detector promises: scores without company, the right sign, moving weights, a checkpoint that is whole."""

from __future__ import annotations

import pickle
from functools import partial
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import Blobs, MakeTrainer, Stripes
from refusals import Touch
from torch import Tensor
from torch.optim import SGD, Adam

from adlightning.checkpoints.loading import load_detector, read_checkpoint
from adlightning.core.collapse import TrainingCollapse
from adlightning.core.contracts import InputSpec
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import ranking_metrics
from adlightning.core.parts import described
from adlightning.core.thresholds import Contamination, FixedThreshold, NormalQuantile, ThresholdRule
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.unlabelled import TransductiveLabelled, TransductiveOneVsAll
from adlightning.methods import (
    DROCC,
    DROCCLF,
    DROCCOE,
    GOAD,
    SSDGM,
    Autoencoder,
    BinaryClassifier,
    DeepSAD,
    DeepSVDD,
    DensityRatio,
    DROCCRand,
    GeometricTransforms,
    SoftBoundaryDeepSVDD,
    StackedSSDGM,
)
from adlightning.methods.goad import AffineMaps
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.methods.stacked_ss_dgm import M1Pretraining
from adlightning.networks import LeNetEncoder, MLPEncoder, PlainMLP
from adlightning.preprocessing import Identity, StandardizeFeatures, UnitRange


def adam(lr: float) -> Any:
    return partial(Adam, lr=lr, weight_decay=1e-6)


def on_mlp(lr: float, dropout: float) -> dict[str, Any]:
    return {
        "encoder": partial(PlainMLP, dense=(32,), dropout=dropout),
        "optimizer": partial(SGD, lr=lr, weight_decay=1e-3),
    }


SPHERE = {"pretraining": AutoencoderPretraining(epochs=4, optimizer=adam(1e-3)), "optimizer": adam(1e-3)}
DGM = {"hidden": (32, 16), "latent_dim": 8, "optimizer": adam(3e-3)}
RANDOM_SHELL = {"optimizer": partial(Adam, lr=1e-2)}
SHELL = {**RANDOM_SHELL, "ascent": Ascent(steps=5, step_size=0.1)}
METHODS: dict[str, tuple[type[AnomalyDetector], dict[str, Any]]] = {
    "autoencoder": (Autoencoder, {"optimizer": adam(3e-3)}),
    "deep_svdd": (DeepSVDD, SPHERE),
    "soft_boundary": (SoftBoundaryDeepSVDD, {**SPHERE, "warm_up_epochs": 2}),
    "deep_sad": (DeepSAD, SPHERE),
    "binary_classifier": (BinaryClassifier, {"optimizer": adam(3e-3)}),
    "drocc": (DROCC, SHELL),
    "drocc_rand": (DROCCRand, RANDOM_SHELL),
    "drocc_oe": (DROCCOE, SHELL),
    "drocc_lf": (DROCCLF, SHELL),
    "goad": (GOAD, {"maps": AffineMaps(number=32)}),
    "ss_dgm": (SSDGM, DGM),
    "stacked_ss_dgm": (StackedSSDGM, {**DGM, "pretraining": M1Pretraining(epochs=4, optimizer=adam(3e-3))}),
    "density_ratio": (DensityRatio, on_mlp(lr=0.1, dropout=0.1)),
    "geometric_transforms": (GeometricTransforms, on_mlp(lr=0.05, dropout=0.0)),
}
KINDS: dict[str, dict[str, Any]] = {
    "image": {"encoder": partial(LeNetEncoder, rep_dim=16), "preprocessing": UnitRange},
    "table": {"encoder": partial(MLPEncoder, dense=(16,), rep_dim=4), "preprocessing": StandardizeFeatures},
}
# The paper's network for tables has no BatchNorm, which would see normal samples and negatives in batches of their own.
SHELL_ON_TABLE = {
    "encoder": partial(MLPEncoder, rep_dim=32, leakiness=0, bias=True),
    "head": Head(activation="leaky_relu", leakiness=0),
    "radius": 3.0,
}
ONLY = {"goad": "table", "geometric_transforms": "image"}
LIKELIHOOD = {"image": "bernoulli", "table": "gaussian"}
SCORING = {
    **{name: ["sphere.encoder"] for name in ("deep_svdd", "soft_boundary", "deep_sad")},
    **{name: ["encoder", "head"] for name in METHODS if name == "binary_classifier" or name.startswith("drocc")},
    "ss_dgm": ["encoder", "head"],
    "density_ratio": ["net"],
    "geometric_transforms": ["net"],
    "stacked_ss_dgm": ["m1.encoder", "classifier"],
}
CASES = [(method, kind) for method in METHODS for kind in KINDS if method not in ONLY or kind == ONLY[method]]


def make_data(kind: str, method: str = "", **options: Any) -> AnomalyDataModule:
    """Of a kind; for a method that needs unlabelled samples those of the test set are among them."""
    unlabelled = method in METHODS and METHODS[method][0].needs_unlabelled
    if kind == "image":
        labels = {"labelled_anomaly_ratio": 0.1, "labelled_classes": ["middle"]}
        images = TransductiveOneVsAll if unlabelled else OneVsAll
        batch_size = 128 if method == "geometric_transforms" else 16  # each image is there 72 times
        options = {"batch_size": batch_size, **labels, **options}
        return images(source=Stripes(), normal_class="left", seed=0, **options)
    table = TransductiveLabelled if unlabelled else AnomalyLabelled
    return table(source=Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0, **options)


def make_detector(method: str, kind: str, **options: Any) -> AnomalyDetector:
    cls, arguments = METHODS[method]
    taken = signature(cls).parameters  # some have networks of their own
    arguments = {name: value for name, value in KINDS[kind].items() if name in taken} | arguments
    if "drocc" in method and kind == "table":
        arguments |= SHELL_ON_TABLE
    if "ss_dgm" in method:
        arguments["likelihood"] = LIKELIHOOD[kind]
    torch.manual_seed(0)
    return cls(**{**arguments, **options})


def train(
    make_trainer: MakeTrainer, method: str, kind: str, epochs: int = 12, **options: Any
) -> tuple[pl.Trainer, AnomalyDetector, AnomalyDataModule]:
    pl.seed_everything(0, verbose=False)
    detector = make_detector(method, kind, **options)
    data = make_data(kind, method)
    trainer = make_trainer(max_epochs=epochs)
    trainer.fit(detector, datamodule=data)
    return trainer, detector, data


def raw_test_input(data: AnomalyDataModule) -> Tensor:
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    return x[torch.from_numpy(data.split.test)]


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_anomalies_score_higher(make_trainer: MakeTrainer, method: str, kind: str) -> None:
    trainer, detector, data = train(make_trainer, method, kind)
    trainer.test(detector, datamodule=data, verbose=False)
    scored = detector.results["test"]
    assert ranking_metrics(scored.scores, scored.labels)["auroc"] > 0.9
    assert len(scored.scores) == len(data.split.test)


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_scores_depend_neither_on_batch_size_nor_order_nor_company(
    make_trainer: MakeTrainer, method: str, kind: str
) -> None:
    _, detector, data = train(make_trainer, method, kind, epochs=6)
    x = raw_test_input(data)
    detector.eval()
    with torch.no_grad():
        whole = detector.anomaly_score(x)
        single = torch.cat([detector.anomaly_score(x[i : i + 1]) for i in range(len(x))])
        order = torch.randperm(len(x))
        shuffled = detector.anomaly_score(x[order])
    assert whole.shape == (len(x),)
    torch.testing.assert_close(single, whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_training_moves_every_weight_that_the_score_uses(make_trainer: MakeTrainer, method: str, kind: str) -> None:
    detector = make_detector(method, kind)
    data = make_data(kind, method)
    data.setup("fit")
    detector.configure_for(data.input_spec)
    names = SCORING.get(method, ["encoder"])
    weights = {f"{name}.{k}": w for name in names for k, w in detector.get_submodule(name).named_parameters()}
    before = {name: weight.clone() for name, weight in weights.items()}
    make_trainer(max_epochs=6).fit(detector, datamodule=data)
    assert all(not torch.equal(before[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(("method", "kind"), CASES)
def test_one_checkpoint_is_a_whole_detector(make_trainer: MakeTrainer, method: str, kind: str, tmp_path: Path) -> None:
    trainer, detector, data = train(make_trainer, method, kind, epochs=6)
    path = tmp_path / "detector.ckpt"
    trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = load_detector(path)
    assert type(loaded) is type(detector)
    assert described(loaded.arguments) == described(detector.arguments)
    assert torch.isfinite(loaded.threshold)
    x = raw_test_input(data)
    detector.eval()
    with torch.no_grad():
        assert torch.equal(loaded.anomaly_score(x), detector.anomaly_score(x))
    assert loaded.threshold == detector.threshold


@pytest.mark.parametrize("method", list(METHODS))
def test_same_seed_same_scores(make_trainer: MakeTrainer, method: str) -> None:
    scores = []
    for _ in range(2):
        kind = "table" if (method, "table") in CASES else "image"
        trainer, detector, data = train(make_trainer, method, kind, epochs=6)
        trainer.test(detector, datamodule=data, verbose=False)
        scores.append(detector.results["test"].scores)
    assert np.array_equal(scores[0], scores[1])


@pytest.mark.parametrize(("phase", "first_leg"), [("pretraining", 2), ("boundary", 4), ("objective", 6)])
def test_a_resumed_fit_ends_where_an_undisturbed_one_does(
    make_trainer: MakeTrainer, tmp_path: Path, phase: str, first_leg: int
) -> None:
    _, undisturbed, _ = train(make_trainer, "soft_boundary", "table", epochs=9)
    pl.seed_everything(0, verbose=False)
    path = tmp_path / "first.ckpt"
    saver = _SaveAt(first_leg, path)
    detector = make_detector("soft_boundary", "table")
    make_trainer(max_epochs=9, callbacks=[saver]).fit(detector, datamodule=make_data("table"))
    resumed = make_detector("soft_boundary", "table", optimizer=adam(1e-3))
    make_trainer(max_epochs=9).fit(resumed, datamodule=make_data("table"), ckpt_path=path, weights_only=True)
    expected = undisturbed.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


class _SaveAt(pl.Callback):
    def __init__(self, epochs: int, path: Path) -> None:
        self.epochs, self.path = epochs, path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            self.saved = True
            trainer.save_checkpoint(self.path)


def test_without_validation_the_threshold_comes_from_training_scores(make_trainer: MakeTrainer) -> None:
    detector, data = make_detector("autoencoder", "table"), make_data("table", validation_fraction=0.0)
    make_trainer(max_epochs=2).fit(detector, datamodule=data)
    detector.eval()
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    with torch.no_grad():
        scores = detector.anomaly_score(x[torch.from_numpy(data.split.train[data.split.known == 0])])
    share = (scores > detector.threshold).float().mean()
    assert share == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("rule", [FixedThreshold(1.25), Contamination(0.1), NormalQuantile(0.9)])
def test_threshold_rules_reach_the_checkpoint(make_trainer: MakeTrainer, rule: ThresholdRule) -> None:
    _, detector, _ = train(make_trainer, "autoencoder", "table", epochs=2, threshold=rule)
    assert torch.isfinite(detector.threshold)
    if isinstance(rule, FixedThreshold):
        assert detector.threshold == 1.25


def test_nan_scores_stop_training_and_name_the_epoch(make_trainer: MakeTrainer) -> None:
    detector = make_detector("autoencoder", "table", optimizer=adam(1e30))
    with pytest.raises(TrainingCollapse, match=r"epoch \d+: .* NaN or infinite.*learning rate"):
        make_trainer(max_epochs=5).fit(detector, datamodule=make_data("table"))


class _Constant(AnomalyDetector):
    """A detector that maps everything to one point."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight.square().sum()

    def anomaly_score(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_constant_scores_stop_training_and_name_the_epoch(make_trainer: MakeTrainer) -> None:
    with pytest.raises(TrainingCollapse, match="epoch 0: all 3 scores are the same"):
        make_trainer(max_epochs=2).fit(_Constant(), datamodule=make_data("image"))


def test_a_checkpoint_of_another_class_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer, _, data = train(make_trainer, "deep_sad", "table", epochs=5)
    trainer.save_checkpoint(tmp_path / "sad.ckpt")
    with pytest.raises(ValueError, match=r"holds a .*\.DeepSAD, not a .*\.DeepSVDD"):
        make_trainer().test(
            make_detector("deep_svdd", "table"), datamodule=data, ckpt_path=tmp_path / "sad.ckpt", weights_only=True
        )


def test_data_of_another_size_are_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer, _, _ = train(make_trainer, "deep_sad", "table", epochs=5)
    trainer.save_checkpoint(tmp_path / "sad.ckpt")
    detector = load_detector(tmp_path / "sad.ckpt")
    with pytest.raises(ValueError, match=r"trained on 6 features.*the data are 1x16x16 images"):
        make_trainer().test(detector, datamodule=make_data("image"))


def test_other_columns_of_the_same_number_are_refused() -> None:
    detector = make_detector("deep_sad", "table")
    detector.configure_for(InputSpec("table", (2,), features=("a", "b")))
    with pytest.raises(ValueError, match="missing columns: 'b'"):
        detector.configure_for(InputSpec("table", (2,), features=("a", "c")))


def test_truncated_checkpoints_are_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer, _, _ = train(make_trainer, "deep_sad", "table", epochs=5)
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    broken = tmp_path / "broken.ckpt"
    content = (tmp_path / "whole.ckpt").read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"broken\.ckpt is truncated, corrupt or holds pickled objects"):
        read_checkpoint(broken)


@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_hostile_checkpoints_are_refused_and_run_nothing(tmp_path: Path, save: Any) -> None:
    path, target = tmp_path / "hostile.ckpt", tmp_path / "was_run"
    save({"state_dict": {}, "adlightning": Touch(target)}, path)
    with pytest.raises(ValueError, match="refused"):
        load_detector(path)
    assert not target.exists()


def test_a_checkpoint_that_is_no_detectors_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint of an adlightning detector"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "nowhere")


def test_ranks_and_epochs_draw_different_random_numbers() -> None:
    def drawn(rank: int, epoch: int, drawn_before: int = 0) -> float:
        detector = Autoencoder(partial(MLPEncoder, dense=(4,), rep_dim=2), preprocessing=Identity)
        detector.configure_for(InputSpec("table", (6,)))
        detector._trainer = SimpleNamespace(global_rank=rank, current_epoch=epoch)  # type: ignore[assignment]
        torch.manual_seed(5)
        detector.on_fit_start()
        torch.rand(drawn_before)
        detector.on_train_epoch_start()
        return torch.rand(1).item()

    assert drawn(0, 0) == drawn(0, 0, drawn_before=3)  # as a fit that goes on from a checkpoint
    assert len({drawn(rank, epoch) for rank in range(2) for epoch in range(2)}) == 4


def test_a_sample_of_several_test_sets_is_scored_once(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneSetAClass(OneVsAll):
        @property
        def test_sets(self) -> dict[str, Any]:
            y = self.test_samples.y
            return {name: np.flatnonzero((y == 0) | (y == label)) for label, name in ((1, "middle"), (2, "right"))}

    detector = make_detector("deep_svdd", "image", pretraining=AutoencoderPretraining(epochs=0))
    data = OneSetAClass(Stripes(), 0, seed=0)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    scored: list[int] = []
    whole = type(detector)._score_step

    def counting(self: AnomalyDetector, batch: Any, name: str) -> Tensor:
        scored.extend(batch.index.tolist())
        return whole(self, batch, name)

    monkeypatch.setattr(AnomalyDetector, "_score_step", counting)
    logged = trainer.test(detector, datamodule=data, verbose=False)[0]
    assert sorted(scored) == list(range(90))
    middle, right = detector.results["middle"], detector.results["right"]
    assert middle.index.tolist() == list(range(60))
    assert right.index.tolist() == [*range(30), *range(60, 90)]
    assert middle.scores[:30].tolist() == right.scores[:30].tolist()
    assert right.labels.tolist() == [0] * 30 + [1] * 30
    for name, samples in detector.results.items():
        assert logged[f"test/{name}/auroc"] == pytest.approx(ranking_metrics(samples.scores, samples.labels)["auroc"])
    trainer.predict(detector, datamodule=data)
    assert detector.results["right"].scores.tolist() == right.scores.tolist()
