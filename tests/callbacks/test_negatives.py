"""The picture of negatives: of tables in the units of the search, of images beside them, of nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTrainer
from torch import Tensor

from adlightning.callbacks.negatives import write_negatives
from adlightning.core.detector import AnomalyDetector
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import DROCC
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.neighborhood import Neighborhood
from adlightning.networks import LeNetEncoder, MLPEncoder
from adlightning.shallow import NearestNeighbor
from adlightning.testing import Blobs, Stripes


class Watched(DROCC):
    """Notes what it is asked for."""

    asked: Tensor
    given: Tensor

    def negatives(self, x: Tensor) -> Tensor:
        self.asked, self.given = x, super().negatives(x)
        return self.given


def after_test(make_trainer: MakeTrainer, detector: AnomalyDetector, data: AnomalyDataModule) -> AnomalyDetector:
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    trainer.test(detector, datamodule=data, verbose=False)
    return detector


def table() -> AnomalyDataModule:
    return AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)


def drocc(**options: Any) -> Watched:
    return Watched(partial(MLPEncoder, rep_dim=8, bias=True), radius=1.0, ascent=Ascent(steps=2), **options)


@pytest.mark.parametrize("kind", ["relaxed", "strict"])
def test_of_a_table_negatives_lie_in_the_shell_of_the_samples_shown(
    kind: Any, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    detector = drocc(neighborhood=Neighborhood(kind))
    after_test(make_trainer, detector, table())
    state = torch.get_rng_state()
    path = tmp_path / "negatives.png"
    assert write_negatives(path, detector, (0, 1), "words") == [path]
    assert path.read_bytes().startswith(b"\x89PNG")
    assert torch.equal(torch.get_rng_state(), state)
    distance = (detector.given - detector.preprocess(detector.asked)).norm(dim=1)
    assert ((distance > 0.999) & (distance < 2.001)).all()
    assert detector.normals is None


def test_of_images_each_is_shown_above_its_negative(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    detector = Watched(partial(LeNetEncoder, conv_channels=(4,)), gamma=1.0, ascent=Ascent(steps=2))
    after_test(make_trainer, detector, OneVsAll(Stripes(), 0, batch_size=16, seed=0))
    assert write_negatives(tmp_path / "negatives.png", detector, None, "words")
    assert detector.asked.shape == detector.given.shape == (10, 1, 16, 16)


def test_nothing_is_drawn_without_negatives_or_features_to_draw(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path = tmp_path / "negatives.png"
    assert write_negatives(path, after_test(make_trainer, drocc(), table()), None, "words") == []
    other = after_test(make_trainer, NearestNeighbor(), table())
    assert write_negatives(path, other, (0, 1), "words") == []
    assert not path.exists()
