"""Detectors learn, set thresholds, say when they collapse, and refuse checkpoints and data of others."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MakeTrainer
from refusals import Touch
from small_detectors import CASES, adam, make_data, make_detector, train
from torch import Tensor

from adlightning.checkpoints.loading import load_detector, read_checkpoint
from adlightning.core.collapse import TrainingCollapse
from adlightning.core.contracts import InputSpec, Kind
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import ranking_metrics
from adlightning.core.thresholds import Contamination, FixedThreshold, NormalQuantile, ThresholdRule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import (
    Autoencoder,
)
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import Identity
from adlightning.testing import Stripes


def _quick_and_slow() -> list[Any]:
    """Each method on one kind of data, the table where it takes one, and a few on images too."""
    few = ("autoencoder", "deep_sad", "drocc")
    again = {case for case in CASES if case[1] == "image" and (case[0], "table") in CASES and case[0] not in few}
    return [pytest.param(*case, marks=[pytest.mark.slow] if case in again else []) for case in CASES]


@pytest.mark.parametrize(("method", "kind"), _quick_and_slow())
def test_anomalies_score_higher(make_trainer: MakeTrainer, method: str, kind: Kind) -> None:
    trainer, detector, data = train(make_trainer, method, kind)
    trainer.test(detector, datamodule=data, verbose=False)
    scored = detector.results["test"]
    assert ranking_metrics(scored.scores, scored.labels)["auroc"] > 0.9
    assert len(scored.scores) == len(data.split.test)


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
        detector.median_normal.zero_()  # there are no data to take it of
        detector._trainer = SimpleNamespace(  # type: ignore[assignment]
            global_rank=rank,
            current_epoch=epoch,
            ckpt_path=None,
            datamodule=SimpleNamespace(synthetic_anomalies=None, train_transforms=None),
        )
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
