"""Datamodules: who trains, who is held out, who is tested; and batches that cannot leak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from adlightning.core.contracts import EvalBatch, TrainBatch
from adlightning.data.composition import Split
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll, class_index
from adlightning.data.own_data import FolderData, TableData
from adlightning.data.sources import NoisySine
from adlightning.testing import Blobs, Stripes


def ready(data: AnomalyDataModule) -> AnomalyDataModule:
    data.prepare_data()
    data.setup("fit")
    return data


def test_training_batches_carry_no_label_and_only_what_is_known() -> None:
    data = ready(OneVsAll(Stripes(), "left", labelled_anomaly_ratio=0.2, labelled_classes=["right"], batch_size=10))
    assert TrainBatch._fields == ("x", "known", "index")
    y = data.train_samples.y
    for batch in data.train_dataloader():
        assert isinstance(batch, TrainBatch)
        assert (y[batch.index[batch.known == 0]] == 0).all()
        assert (y[batch.index[batch.known == -1]] == 2).all()


def test_evaluation_covers_the_official_test_part_with_its_labels() -> None:
    data = ready(OneVsAll(Stripes(), ["left", "middle"], eval_batch_size=7))
    batches = list(data.test_dataloader()[0])
    assert all(isinstance(batch, EvalBatch) for batch in batches)
    index = torch.cat([batch.index for batch in batches])
    label = torch.cat([batch.label for batch in batches])
    assert index.tolist() == list(range(90))
    assert label.tolist() == [0] * 60 + [1] * 30
    assert data.input_spec.description == "stripes, normal class left, middle"


def test_validation_is_held_out_of_training() -> None:
    data = ready(OneVsAll(Stripes(), 0, validation_fraction=0.25, validation_anomalies=5, seed=3))
    assert not set(data.split.train) & set(data.split.validation)
    assert sorted(data.split.validation_labels) == [0] * 15 + [1] * 5
    assert data.counts()["train"] == 45


def test_the_seed_is_the_runs_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def held_out(seed: int | None) -> list[int]:
        return sorted(ready(OneVsAll(Stripes(), 0, validation_fraction=0.5, seed=seed)).split.validation.tolist())

    pl.seed_everything(5, verbose=False)
    assert held_out(None) == held_out(5)
    assert held_out(None) != held_out(6)


def test_a_source_without_test_part_is_split_and_disjoint() -> None:
    data = ready(AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.05, seed=0))
    assert not set(data.split.train) & set(data.split.test)
    assert data.counts()["test_anomalies"] == 16
    assert data.protocol == "clean"


def test_the_leaky_split_says_so() -> None:
    data = ready(AnomalyLabelled(Blobs(), test_split="legacy_leaky", labelled_anomaly_ratio=0.0, seed=0))
    assert data.protocol == "leaky"
    assert set(data.split.train) & set(data.split.test)


@pytest.mark.parametrize("test_split", ["stratified", "legacy_leaky"])
def test_scaling_with_anomalies_sees_the_whole_training_part_and_no_other_sample(test_split: Any) -> None:
    options: dict[str, Any] = {"test_split": test_split, "labelled_anomaly_ratio": 0.05, "seed": 0}
    alone = ready(AnomalyLabelled(Blobs(), **options))
    data = ready(AnomalyLabelled(Blobs(), scale_with_anomalies=True, eval_batch_size=7, **options))
    normals = torch.cat(list(alone.preprocessing_batches(torch.device("cpu"))))
    everything = torch.cat(list(data.preprocessing_batches(torch.device("cpu"))))
    assert len(normals) == (data.split.known == 0).sum()
    assert len(everything) - len(normals) == 24  # of 40 anomalies, as 16 are tested
    assert torch.equal(everything[: len(normals)], normals)
    added = np.concatenate([data.split.train[data.split.known == -1], data.split.unused_anomalies])
    assert torch.equal(everything[len(normals) :], data.train_images(added))
    assert not set(data.split.unused_anomalies) & set(data.split.train)


def test_the_balanced_split_tests_all_anomalies_and_trains_on_unlabelled_normals() -> None:
    data = ready(AnomalyLabelled(Blobs(), test_split="balanced", validation_fraction=0.1, seed=0))
    assert data.counts() == {
        **{"train": 144, "train_known_anomalies": 0, "train_known_normals": 0},
        **{"validation": 16, "test": 80, "test_anomalies": 40},
    }
    assert not set(data.split.test) & (set(data.split.train) | set(data.split.validation))
    assert data.protocol == "clean"
    assert data.tests_on_training_part


@pytest.mark.parametrize(
    "options",
    [
        {"labelled_anomaly_ratio": 0.1},
        {"pollution_ratio": 0.1},
        {"validation_anomalies": 3},
        {"scale_with_anomalies": True},
    ],
)
def test_the_balanced_split_leaves_no_anomalies_for_training(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be 0 with test_split=balanced, .*, got {options[name]}"):
        AnomalyLabelled(Blobs(), test_split="balanced", **options)
    AnomalyLabelled(Blobs(), test_split="balanced", labelled_anomaly_ratio=0.0)


def test_an_unknown_test_split_is_refused_at_once() -> None:
    with pytest.raises(
        ValueError, match="test_split must be one of stratified, balanced, half_normals, legacy_leaky, got 'half'"
    ):
        AnomalyLabelled(Blobs(), test_split="half")  # type: ignore[arg-type]


def test_a_source_with_known_anomalies_and_its_own_test_part_keeps_both() -> None:
    data = ready(AnomalyLabelled(NoisySine(n_train=20, n_train_anomalies=10, n_test=5), validation_fraction=0.1))
    assert data.counts() | {"train_known_anomalies": 10, "train_known_normals": 18, "test": 10} == data.counts()
    assert data.test_samples.names[0] == "test/0"


def test_names_or_indices_of_classes() -> None:
    classes = ("cat", "dog", "3d")
    assert class_index("dog", classes, "normal_class") == 1
    assert class_index(0, classes, "normal_class") == class_index("0", classes, "normal_class") == 0
    for unknown in ("cow", 3, -1, "1.0", "01", "9" * 5000, "\N{ARABIC-INDIC DIGIT ONE}"):
        with pytest.raises(ValueError, match=r"normal_class: there is no class .*cat, dog, 3d .or indices 0 to 2"):
            class_index(unknown, classes, "normal_class")


@pytest.mark.parametrize(
    ("classes", "given", "index"),
    [
        (("001", "008", "010"), "010", 2),
        (("001", "008", "010"), 8, "write the name, '008', perhaps"),
        (("001", "008", "010"), 1, "write the name, '001', perhaps"),
        (("001", "008", "010"), 0, "write the name, '001' for instance"),
        (("001", "8"), 8, 1),
        (("cat", "dog"), np.int64(1), 1),
        (("cat", "7"), 0, "write the name, '7' for instance"),
        (("cat", "1e5"), 100000, "write the name, '1e5', perhaps"),
        (("cat", "0x1F"), "31", "write the name, '0x1F', perhaps"),
        (("cat", "1_000"), 1, "write the name"),
        (("cat", "2020-01-01"), 0, "write the name"),
        (("cat", "null"), None, "got None: put a name into quotes"),
        (("cat", "True"), True, "got True: put a name into quotes"),
        (("cat", "1.5"), 1.5, "got 1.5: put a name into quotes"),
    ],
)
def test_an_index_is_refused_where_names_are_numbers(classes: tuple[str, ...], given: Any, index: int | str) -> None:
    if isinstance(index, int):
        assert class_index(given, classes, "labelled_classes") == index
    else:
        with pytest.raises(ValueError, match=rf"^labelled_classes.*{index}"):
            class_index(given, classes, "labelled_classes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal_class": "up"}, "normal_class: there is no class 'up'; classes are left, middle, right"),
        ({"normal_class": [0, 1, 2]}, "normal_class"),
        ({"labelled_anomaly_ratio": 1.0, "n_labelled_classes": 1}, r"labelled_anomaly_ratio must lie in \[0, 1\)"),
        ({"labelled_anomaly_ratio": -0.1, "n_labelled_classes": 1}, r"labelled_anomaly_ratio must lie in \[0, 1\)"),
        ({"labelled_anomaly_ratio": 0.1}, "labelled_anomaly_ratio"),
        ({"labelled_anomaly_ratio": 0.9, "n_labelled_classes": 1}, "labelled_anomaly_ratio"),
        ({"pollution_ratio": 0.9}, "pollution_ratio"),
        ({"validation_fraction": 1.0}, r"validation_fraction must lie in \[0, 1\), got 1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_named_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ready(OneVsAll(Stripes(), **{"normal_class": 0, **options}))


def make_folder(root: Path, parts: dict[str, int], size: tuple[int, int] = (16, 16)) -> Path:
    rng = np.random.default_rng(0)
    for part, n in parts.items():
        (root / part).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / part / f"{i}.png")
    return root


def test_folder_with_normals_only_has_nothing_to_test(tmp_path: Path) -> None:
    data = ready(FolderData(str(make_folder(tmp_path, {"train/normal": 20}))))
    assert data.test_names == []
    assert data.test_dataloader() == []
    assert data.counts() | {"validation": 2, "train": 18} == data.counts()
    assert data.split.known.tolist() == [1] * 18


def test_folder_with_every_part(tmp_path: Path) -> None:
    parts = {"train/normal": 20, "train/anomaly": 4, "train/unlabelled": 6, "test/normal": 5, "test/anomaly": 3}
    data = ready(FolderData(str(make_folder(tmp_path, parts)), resize=8, channels=1, validation_fraction=0.0))
    assert data.input_spec.shape == (1, 8, 8)
    assert sorted(data.split.known.tolist()) == [-1] * 4 + [0] * 6 + [1] * 20
    assert data.counts()["test_anomalies"] == 3
    names = [data.sample_names("test")[i] for i in data.split.test]
    assert all(name.startswith("test/") for name in names)


def test_a_folder_of_close_negatives_is_tested_as_anomalies(tmp_path: Path) -> None:
    parts = {"train/normal": 10, "test/normal": 3, "test/anomaly": 2, "test/close": 4}
    data = ready(FolderData(str(make_folder(tmp_path, parts))))
    of = [data.sample_names("test")[i] for i in data.split.test[data.split.test_labels == 1]]
    assert sum(name.startswith("test/close/") for name in of) == 4
    assert data.counts()["test_anomalies"] == 6


def test_a_folder_over_the_memory_budget_is_decoded_by_workers_alike(tmp_path: Path) -> None:
    root = str(make_folder(tmp_path, {"train/normal": 6, "test/normal": 3, "test/anomaly": 3}, size=(400, 400)))
    batches = []
    for budget in (0, 100):
        data = ready(FolderData(root, resize=400, memory_budget_mb=budget, validation_fraction=0.0, num_workers=1))
        assert isinstance(data.test_samples.x, torch.Tensor) == (budget == 100)
        batches.append(next(iter(data.test_dataloader()[0])))
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


def make_table(path: Path, labels: list[Any] | None, n: int = 40) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    if labels is not None:
        frame["label"] = labels
    frame.to_csv(path, index=False)
    return path


def test_a_table_without_labels_has_nothing_to_test(tmp_path: Path) -> None:
    data = ready(TableData(str(make_table(tmp_path / "t.csv", None))))
    assert data.test_names == []
    assert data.split.known.tolist() == [0] * 36
    assert data.input_spec.features == ("a", "b", "c")


def test_a_table_with_labels_holds_some_out(tmp_path: Path) -> None:
    labels = ["normal"] * 25 + ["anomaly"] * 5 + [None] * 10
    data = ready(TableData(str(make_table(tmp_path / "t.csv", labels)), label_column="label"))
    assert data.counts()["test"] == 12
    assert data.counts()["test_anomalies"] == 2
    assert sorted(set(data.split.known.tolist())) == [-1, 0, 1]
    assert not set(data.split.train) & set(data.split.test)


def test_some_of_the_test_samples_at_random() -> None:
    def split(n_test: int | None, seed: int = 0) -> Split:
        data = OneVsAll(Stripes(), "middle", n_test=n_test, seed=seed)
        data.setup("fit")
        return data.split

    whole, some = split(None), split(20)
    assert some.test.tolist() == sorted(set(some.test.tolist()))
    assert len(some.test) == 20
    labels = dict(zip(whole.test.tolist(), whole.test_labels.tolist(), strict=True))
    assert [labels[row] for row in some.test.tolist()] == some.test_labels.tolist()
    assert some.train.tolist() == whole.train.tolist()
    assert split(20).test.tolist() == some.test.tolist() != split(20, seed=1).test.tolist()
    with pytest.raises(ValueError, match="n_test must be at most 90, the number of test samples, got 91"):
        split(91)
    with pytest.raises(ValueError, match="n_test must be at least 2, or null for all, got 1"):
        OneVsAll(Stripes(), 0, n_test=1)
