"""Known normals beside unlabelled samples: who trains, what is known of them, who is scored, and what a row says."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeTrainer
from PIL import Image
from torch import Tensor

from adlightning.core.contracts import TrainBatch
from adlightning.data.composition import Indices
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources import ImageFolder, Table
from adlightning.data.sources.base import Part, Samples
from adlightning.data.unlabelled import (
    InductiveLabelled,
    InductiveOneVsAll,
    TransductiveLabelled,
    TransductiveOneVsAll,
)
from adlightning.methods import Autoencoder
from adlightning.networks import LeNetEncoder
from adlightning.testing import Blobs, Stripes


def ready(data: AnomalyDataModule) -> AnomalyDataModule:
    data.setup("fit")
    return data


def pixels(samples: Any, rows: Indices) -> set[bytes]:
    assert isinstance(samples.x, Tensor)
    return {samples.x[int(row)].numpy().tobytes() for row in rows}


def rows_known_as(data: AnomalyDataModule, known: int) -> Indices:
    rows: Indices = data.split.train[data.split.known == known]
    return rows


def test_transductive_trains_on_the_test_set_without_its_labels() -> None:
    data = ready(TransductiveOneVsAll(source=Stripes(), normal_class="middle", validation_fraction=0.1, seed=0))
    assert data.protocol == "transductive"
    assert "unlabelled: the test set itself" in data.input_spec.description
    normal = rows_known_as(data, 1)
    assert len(normal) == 54
    assert (data.train_samples.y[normal] == 1).all()
    assert not set(normal) & set(data.split.validation)
    # every test image, and nothing else
    assert pixels(data.train_samples, rows_known_as(data, 0)) == pixels(data.test_samples, data.split.test)
    assert len(rows_known_as(data, 0)) == len(data.split.test) == 90
    plain = ready(OneVsAll(Stripes(), "middle", validation_fraction=0.1, seed=0))
    assert pixels(plain.train_samples, plain.split.train) == pixels(data.train_samples, normal)
    assert data.split.test_labels.tolist() == plain.split.test_labels.tolist()


def test_training_never_sees_a_label_of_the_test_set() -> None:
    data = ready(TransductiveOneVsAll(source=Stripes(), normal_class=0, seed=0))
    for batch in data.train_dataloader():
        assert isinstance(batch, TrainBatch)
        names = [data.train_samples.names[int(row)] for row in batch.index]
        of_test = torch.tensor([name.startswith("test/") for name in names])
        assert of_test.any()
        assert (batch.known == torch.where(of_test, 0, 1)).all()


def test_polluters_and_labelled_anomalies_stay_what_they_are_taken_for() -> None:
    data = ready(
        TransductiveOneVsAll(
            source=Stripes(),
            normal_class=0,
            pollution_ratio=0.2,
            labelled_anomaly_ratio=0.1,
            labelled_classes=[2],
            validation_fraction=0.0,
            seed=0,
        )
    )
    y = data.train_samples.y
    assert sorted(set(y[rows_known_as(data, 1)])) == [0, 1, 2]  # polluters are taken for normal
    assert set(y[rows_known_as(data, -1)]) == {2}


def test_the_inductive_twin_scores_what_it_did_not_train_on() -> None:
    data = ready(InductiveOneVsAll(source=Stripes(), normal_class=0, unlabelled_fraction=0.25, seed=3))
    assert data.protocol == "inductive"
    unlabelled, tested = (
        pixels(data.train_samples, rows_known_as(data, 0)),
        pixels(data.test_samples, data.split.test),
    )
    assert len(unlabelled) == 22
    assert len(tested) == 68
    assert not unlabelled & tested
    whole = ready(OneVsAll(Stripes(), 0, seed=3))
    assert unlabelled | tested == pixels(whole.test_samples, whole.split.test)
    label = dict(zip(whole.split.test.tolist(), whole.split.test_labels.tolist(), strict=True))
    assert [label[row] for row in data.split.test.tolist()] == data.split.test_labels.tolist()
    assert sorted(set(label.values())) == sorted(set(data.split.test_labels.tolist())) == [0, 1]


def test_the_share_depends_on_the_seed_only() -> None:
    def tested(seed: int) -> list[int]:
        data = ready(InductiveOneVsAll(source=Stripes(), normal_class=0, seed=seed))
        return [int(row) for row in data.split.test]

    assert tested(1) == tested(1)
    assert tested(1) != tested(2)


@pytest.mark.parametrize("cls", [TransductiveOneVsAll, InductiveOneVsAll])
def test_a_share_of_the_unlabelled_samples_is_held_out(
    cls: type[TransductiveOneVsAll] | type[InductiveOneVsAll],
) -> None:
    options: dict[str, Any] = {"source": Stripes(), "normal_class": 0, "seed": 3}
    whole, parted = ready(cls(**options)), ready(cls(unlabelled_validation_fraction=0.25, **options))
    held_out = parted.split.held_out_unlabelled
    assert len(held_out) == len(rows_known_as(whole, 0)) // 4
    assert not set(held_out) & {*parted.split.train, *parted.split.validation}
    assert {*held_out, *rows_known_as(parted, 0)} == set(rows_known_as(whole, 0))
    assert rows_known_as(parted, 1).tolist() == rows_known_as(whole, 1).tolist()
    assert parted.split.validation.tolist() == whole.split.validation.tolist()
    assert parted.split.test.tolist() == whole.split.test.tolist()
    assert parted.split_fingerprint() != whole.split_fingerprint()
    batches = list(parted.held_out_unlabelled(torch.device("cpu")))
    assert torch.cat([batch.index for batch in batches]).tolist() == held_out.tolist()
    assert (torch.cat([batch.known for batch in batches]) == 0).all()
    assert torch.equal(torch.cat([batch.x for batch in batches]), parted.train_images(held_out))
    assert not list(whole.held_out_unlabelled(torch.device("cpu")))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 0.001])
def test_a_share_that_leaves_a_part_empty_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="unlabelled_validation_fraction must"):
        ready(TransductiveOneVsAll(source=Stripes(), unlabelled_validation_fraction=fraction, seed=0))


def test_a_test_with_another_share_would_score_training_samples_and_is_refused(make_trainer: MakeTrainer) -> None:
    def data(cls: type[AnomalyDataModule], seed: int) -> AnomalyDataModule:
        return cls(source=Stripes(), normal_class=0, validation_fraction=0.0, seed=seed)  # type: ignore[call-arg]

    for cls, refused in (InductiveOneVsAll, True), (TransductiveOneVsAll, False):
        trainer = make_trainer(max_epochs=1)
        detector = Autoencoder(encoder=partial(LeNetEncoder, conv_channels=(2,), rep_dim=16))
        trainer.fit(detector, datamodule=data(cls, 0))
        path = Path(trainer.default_root_dir) / f"{cls.__name__}.ckpt"
        trainer.save_checkpoint(path)
        if refused:
            with pytest.raises(ValueError, match="the data are not split as in training"):
                trainer.test(
                    Autoencoder(encoder=partial(LeNetEncoder, conv_channels=(2,), rep_dim=16)),
                    data(cls, 1),
                    path,
                    weights_only=True,
                )
        else:
            trainer.test(
                Autoencoder(encoder=partial(LeNetEncoder, conv_channels=(2,), rep_dim=16)),
                data(cls, 1),
                path,
                weights_only=True,
            )


def test_unlabelled_samples_of_another_source() -> None:
    data = ready(InductiveOneVsAll(source=Stripes(), normal_class=0, unlabelled=Stripes(n_train=7), seed=0))
    assert len(rows_known_as(data, 0)) == 21
    names = data.train_samples.names
    assert names[rows_known_as(data, 0)[0]] == "unlabelled/train/0"
    assert len(data.split.test) == 90
    assert data.input_spec.description == "stripes, normal class left, unlabelled: stripes"
    with pytest.raises(ValueError, match=r"unlabelled: its samples must be like the source's; .*16x16.*6 features"):
        ready(InductiveOneVsAll(source=Stripes(), normal_class=0, unlabelled=Blobs()))


def test_unlabelled_samples_that_are_scored_or_held_out_are_left_out() -> None:
    image = ready(InductiveOneVsAll(source=Stripes(), normal_class=0, unlabelled=Stripes(), validation_fraction=0.2))
    assert len(rows_known_as(image, 0)) == 180 - 12  # all training images but the normals held out
    held_out = pixels(image.train_samples, image.split.validation)
    assert not pixels(image.train_samples, image.split.train) & held_out
    options: dict[str, Any] = {"labelled_anomaly_ratio": 0.0, "validation_fraction": 0.2, "seed": 0}
    table = ready(InductiveLabelled(source=Blobs(), unlabelled=Blobs(), **options))
    scored = np.concatenate([table.split.test, table.split.validation])
    assert len(rows_known_as(table, 0)) == 240 - len(scored)
    assert not pixels(table.train_samples, table.split.train) & pixels(table.train_samples, scored)

    class OnlyTested(Stripes):
        def load(self, part: Part) -> Samples:
            return super().load("test")

    with pytest.raises(ValueError, match="all samples of stripes are tested or held out"):
        ready(InductiveOneVsAll(source=Stripes(), normal_class=0, unlabelled=OnlyTested()))


def test_a_folder_of_images_is_not_its_own_unlabelled_one(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (i, len(name), 0)).save(tmp_path / name / f"{i}.png")
    options: dict[str, Any] = {"root": str(tmp_path), "memory_budget_mb": 0}
    data = InductiveOneVsAll(source=ImageFolder(**options), normal_class="cat", unlabelled=ImageFolder(**options))
    data.validation_fraction = 0.0
    with pytest.raises(ValueError, match="its root must be another folder"):
        ready(data)


def test_tables_with_a_held_out_test_set() -> None:
    plain = ready(AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, seed=0))
    data = ready(TransductiveLabelled(source=Blobs(), labelled_anomaly_ratio=0.0, seed=0))
    assert data.protocol == "transductive"
    assert data.split.test.tolist() == plain.split.test.tolist() == rows_known_as(data, 0).tolist()
    assert rows_known_as(data, 1).tolist() == plain.split.train.tolist()
    half = ready(InductiveLabelled(source=Blobs(), labelled_anomaly_ratio=0.0, seed=0))
    assert half.protocol == "inductive"
    assert sorted([*half.split.test, *rows_known_as(half, 0)]) == plain.split.test.tolist()
    assert not set(half.split.test) & set(half.split.train)
    assert not set(half.split.test) & set(half.split.validation)


@pytest.mark.parametrize("labels", [True, False])
def test_own_tables_of_normal_and_of_unlabelled_rows(tmp_path: Path, labels: bool) -> None:
    rng = np.random.default_rng(0)
    normal = pd.DataFrame(rng.normal(size=(30, 3)), columns=list("abc"))
    normal = normal.assign(y=[0] * 20 + [1] * 10) if labels else normal
    normal.to_csv(tmp_path / "normal.csv", index=False)
    pd.DataFrame(rng.normal(size=(12, 3)), columns=list("abc")).to_csv(tmp_path / "mixed.csv", index=False)
    source = Table(str(tmp_path / "normal.csv"), label_column="y" if labels else None)
    mixed = Table(str(tmp_path / "mixed.csv"))
    data = ready(InductiveLabelled(source=source, unlabelled=mixed, validation_fraction=0.0, seed=0))
    # with labels a share of them is tested; without any, all rows are taken for normal
    assert len(rows_known_as(data, 1)) == (12 if labels else 30)
    assert len(rows_known_as(data, 0)) == 12
    assert len(data.split.test) == (12 if labels else 0)


def test_refusals() -> None:
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match=rf"unlabelled_fraction must lie in \(0, 1\), got {fraction}"):
            InductiveOneVsAll(source=Stripes(), unlabelled_fraction=fraction)
    with pytest.raises(ValueError, match=r"unlabelled_fraction must leave both parts a sample, got 0\.001 of 90"):
        ready(InductiveOneVsAll(source=Stripes(), unlabelled_fraction=0.001))
    for cls in (TransductiveLabelled, InductiveLabelled):
        with pytest.raises(
            ValueError, match=r"test_split: the \w+ protocol needs a clean split, got one that is leaky"
        ):
            cls(source=Blobs(), test_split="legacy_leaky")


class _Contrast(Autoencoder):
    needs_unlabelled = True


def test_batches_of_both_streams_for_a_method_that_contrasts_them(make_trainer: MakeTrainer) -> None:
    seen: list[TrainBatch] = []

    class Contrast(_Contrast):
        def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
            seen.append(batch)
            return super().training_step(batch, batch_idx)

    data = TransductiveOneVsAll(
        source=Stripes(), normal_class=0, batch_size=25, drop_last=False, validation_fraction=0.0, seed=0
    )
    make_trainer(max_epochs=2).fit(
        Contrast(encoder=partial(LeNetEncoder, conv_channels=(2,), rep_dim=16)), datamodule=data
    )
    assert [batch.known.tolist() for batch in seen[:3]] == [[1] * 25 + [0] * 25] * 2 + [[1] * 10 + [0] * 25]
    for epoch in (seen[:3], seen[3:]):  # one pass over the normals
        index = torch.cat([batch.index[batch.known == 1] for batch in epoch])
        assert sorted(index.tolist()) == list(range(60))
    others = [torch.cat([b.index[b.known == 0] for b in epoch]).tolist() for epoch in (seen[:3], seen[3:])]
    assert all(len(set(rows)) == 75 for rows in others)  # of 90, none twice
    assert others[0] != others[1]


def test_a_method_that_contrasts_is_refused_where_one_kind_is_missing(make_trainer: MakeTrainer) -> None:
    for data, counts in (
        (OneVsAll(Stripes(), 0, validation_fraction=0.0), "got 0 and 60"),
        (AnomalyLabelled(Blobs(), validation_fraction=0.0, seed=0), "got 120 and 0"),
    ):
        detector = _Contrast()
        with pytest.raises(ValueError, match=f"_Contrast needs known normals and unlabelled samples.*{counts}"):
            make_trainer().fit(detector, datamodule=data)


def test_the_threshold_is_the_known_normals_own(make_trainer: MakeTrainer) -> None:
    data = TransductiveOneVsAll(source=Stripes(), normal_class=0, validation_fraction=0.0, seed=0)
    detector = _Contrast(encoder=partial(LeNetEncoder, conv_channels=(2,), rep_dim=16))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    detector.eval()
    rows = rows_known_as(data, 1)
    assert isinstance(data.train_samples.x, Tensor)
    with torch.no_grad():
        scores = detector.anomaly_score(data.train_samples.x[torch.from_numpy(rows)]).numpy()
    assert detector.threshold.item() == pytest.approx(np.quantile(scores.astype(np.float64), 0.95), rel=1e-6)
