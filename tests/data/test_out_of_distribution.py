"""One source is normal, every other one a test set of anomalies of its own; draws, disjointness, matching images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeTrainer
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from adlightning.__main__ import main
from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.metrics import ranking_metrics
from adlightning.data.joining import in_memory, matched
from adlightning.data.out_of_distribution import OutOfDistribution
from adlightning.data.sources import Digits, FlatFolder, ImageFolder, Npz, UniformNoise
from adlightning.data.sources.base import ClassSource, Part, Samples
from adlightning.data.splits import drawn_anomalies
from adlightning.methods.deep_svdd import DeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.preprocessing.images import resized
from adlightning.shallow import NearestNeighbor
from adlightning.testing import Stripes

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]


class Numbered(ClassSource):
    """Test images whose first two pixels hold their number and whose third one says which source they are of."""

    classes = ("a", "b")

    def __init__(self, n: int = 100, mark: int = 7, shape: tuple[int, int, int] = (1, 16, 16)) -> None:
        self.n, self.mark, self.shape, self.name = n, mark, shape, f"numbered {mark}"

    def input_spec(self) -> InputSpec:
        return InputSpec("image", self.shape)

    def load(self, part: Part) -> Samples:
        if part == "train":
            raise SourceError(f"{self.name} has no training part")
        x = torch.zeros(self.n, *self.shape, dtype=torch.uint8)
        number = torch.arange(self.n)
        x[:, 0, 0, 0], x[:, 0, 0, 1], x[:, 0, 0, 2] = number // 256, number % 256, self.mark
        return Samples(x, np.arange(self.n) % 2, tuple(f"test/{i}" for i in range(self.n)))


def ready(data: OutOfDistribution) -> OutOfDistribution:
    data.prepare_data()
    data.setup("fit")
    return data


def make(source: ClassSource | None = None, anomalies: Any = None, **options: Any) -> OutOfDistribution:
    anomalies = anomalies or {"one": Numbered(mark=1), "two": Numbered(300, mark=2)}
    return ready(OutOfDistribution(source or Stripes(), anomalies, **{"seed": 0, **options}))


def names_of(data: OutOfDistribution, name: str) -> list[str]:
    return [data.sample_names(name)[i] for i in data.test_sets[name]]


def anomalies_of(data: OutOfDistribution, name: str) -> list[str]:
    return [n for n in names_of(data, name) if n.startswith(f"{name}/")]


def pixels(x: Tensor | Any, rows: np.ndarray[Any, Any]) -> list[bytes]:
    return [x[int(row)].numpy().tobytes() for row in rows]


# ---- who is tested --------------------------------------------------------------------------------------------------


def test_every_anomaly_source_is_a_test_set_with_all_normal_images() -> None:
    data = make()
    assert data.test_names == ["one", "two"]
    normal = [f"test/{i}" for i in range(90)]
    for name, mark in ("one", 1), ("two", 2):
        assert names_of(data, name)[:90] == normal
        assert len(anomalies_of(data, name)) == len(names_of(data, name)) - 90 == 18  # 20 % of 90
        images = data.test_images(name, data.test_sets[name][90:])
        assert images is not None
        assert images[:, 0, 0, 2].tolist() == [mark] * 18
        numbers = (256 * images[:, 0, 0, 0].int() + images[:, 0, 0, 1]).tolist()
        assert [f"{name}/test/{i}" for i in numbers] == anomalies_of(data, name)
    assert data.input_spec.description == "stripes"
    assert data.protocol == "clean"


def test_batches_hold_every_image_once_with_its_label() -> None:
    data = make()
    (loader,) = data.test_dataloader()
    batches = list(loader)
    label = dict(
        zip(torch.cat([b.index for b in batches]).tolist(), torch.cat([b.label for b in batches]).tolist(), strict=True)
    )
    assert len(label) == sum(len(b.index) for b in batches) == 90 + 18 + 18
    for name in data.test_names:
        assert [label[i] for i in data.test_sets[name]] == [0] * 90 + [1] * 18
    assert data.counts() | {"train": 171, "validation": 9, "test": 126, "test_anomalies": 36} == data.counts()


def test_all_training_images_are_unlabelled_normals() -> None:
    data = make(validation_fraction=0.25)
    assert set(data.split.known) == {0}
    assert sorted([*data.split.train, *data.split.validation]) == list(range(180))
    assert data.split.validation_labels.tolist() == [0] * 45
    assert not data.validates_on_tested_kinds


def test_normal_classes_leave_the_others_unused() -> None:
    data = make(normal_class=["left", 2], validation_fraction=0.0)
    assert set(data.train_samples.y[data.split.train]) == {0, 2}
    assert names_of(data, "one")[:60] == [f"test/{i}" for i in (*range(30), *range(60, 90))]
    assert len(anomalies_of(data, "one")) == 12
    assert data.input_spec.description == "stripes, normal class left, right"


def test_without_a_ratio_all_anomalies_are_tested() -> None:
    data = make(anomaly_ratio=None, validation_anomalies=30, validation_source="one")
    assert len(anomalies_of(data, "two")) == 300
    assert len(anomalies_of(data, "one")) == 70
    assert len(data.test_sets["two"]) == 390


# ---- disjointness and draws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.2, 0.7, None])
def test_training_validation_and_test_are_disjoint(ratio: float | None) -> None:
    data = make(anomaly_ratio=ratio, validation_anomalies=30, validation_source="one", validation_fraction=0.2)
    split = data.split
    train, validation = pixels(data.train_samples.x, split.train), pixels(data.train_samples.x, split.validation)
    test = pixels(data.test_samples.x, split.test)
    assert split.validation_labels.tolist() == [0] * 36 + [1] * 30
    held_out = [data.train_samples.names[i] for i in split.validation[36:]]
    assert all(name.startswith("one/test/") for name in held_out)
    assert not set(held_out) & set(anomalies_of(data, "one"))
    assert len(set(held_out)) == 30
    for part, other in ((train, validation), (train, test), (validation, test)):
        assert not set(part) & set(other)
    assert not set(split.train) & set(split.validation)
    assert data.validates_on_tested_kinds


def test_a_source_that_is_there_twice_leaves_no_validation_image_in_the_other_test_set() -> None:
    twice = {"one": Numbered(mark=1), "again": Numbered(mark=1)}
    data = make(anomalies=twice, validation_anomalies=40, validation_source="again", anomaly_ratio=0.5)
    held_out = {data.train_samples.names[i].removeprefix("again/") for i in data.split.validation[-40:]}
    assert not held_out & {name.removeprefix("one/") for name in anomalies_of(data, "one")}


def test_the_seed_alone_decides_and_no_other_source_has_an_influence() -> None:
    first = make(seed=5)
    torch.manual_seed(1)
    assert anomalies_of(make(seed=5), "two") == anomalies_of(first, "two")
    assert anomalies_of(make(seed=6), "two") != anomalies_of(first, "two")
    alone = make(anomalies={"two": Numbered(300, mark=2)}, seed=5)
    assert anomalies_of(alone, "two") == anomalies_of(first, "two")
    others = {"zero": Numbered(50, mark=3), "noise": UniformNoise(40), "two": Numbered(300, mark=2)}
    more = make(anomalies=others, seed=5, validation_anomalies=20, validation_source="two")
    assert anomalies_of(more, "two") == anomalies_of(first, "two")


def test_validation_anomalies_do_not_depend_on_the_ratio() -> None:
    def held_out(**options: Any) -> list[str]:
        data = make(validation_anomalies=20, validation_source="two", **options)
        return [data.train_samples.names[i] for i in data.split.validation[-20:]]

    assert held_out() == held_out(anomaly_ratio=0.5) == held_out(anomaly_ratio=None)
    assert held_out() != held_out(seed=1)


def test_draws_are_without_replacement_and_uniform() -> None:
    counts = np.zeros(20)
    for seed in range(300):
        test, validation = drawn_anomalies(20, 5, 3, seed)
        assert len(np.unique(np.concatenate([test, validation]))) == 8
        assert (np.diff(test) > 0).all()
        assert (np.diff(validation) > 0).all()
        counts[test] += 1
    assert abs(counts - 75).max() < 5 * (300 * 0.25 * 0.75) ** 0.5


def test_the_fingerprint_tells_who_was_held_out() -> None:
    options: dict[str, Any] = {"validation_anomalies": 10, "validation_fraction": 0.0, "drop_last": False}
    prints = {
        make(validation_source=source, seed=seed, **options).split_fingerprint()
        for source, seed in (("one", 0), ("two", 0), ("one", 1), ("one", 0))
    }
    assert len(prints) == 3
    assert not make().tests_on_training_part
    assert make(validation_source="one", **options).tests_on_training_part


# ---- images of other sizes and channels -----------------------------------------------------------------------------


def random_images(n: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(np.uint8))


def samples_of(x: Any) -> Samples:
    return Samples(x, np.zeros(len(x), dtype=np.int64), tuple(str(i) for i in range(len(x))))


def as_tensor(samples: Samples) -> Tensor:
    assert isinstance(samples.x, Tensor)
    assert samples.x.dtype == torch.uint8
    return samples.x


def test_images_are_resized_as_the_preprocessing_resizes() -> None:
    for size in (40, 9):
        x = random_images(3, 1, size, size)
        assert torch.equal(as_tensor(matched(samples_of(x), (1, 16, 12))), resized(x, (16, 12)))
    x = random_images(3, 1, 16, 12)
    assert torch.equal(as_tensor(matched(samples_of(x), (1, 16, 12))), x)


def test_grey_becomes_colour_by_repetition() -> None:
    x = random_images(3, 1, 8, 8)
    assert torch.equal(as_tensor(matched(samples_of(x), (3, 8, 8))), x.repeat(1, 3, 1, 1))


def test_colour_becomes_grey_by_luma() -> None:
    x = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8)[:, :, None, None]
    grey = as_tensor(matched(samples_of(x), (1, 1, 1))).flatten().tolist()
    assert grey == [int(0.2989 * 255), int(0.587 * 255), int(0.114 * 255), int(0.9999 * 255)]
    x = random_images(3, 3, 20, 20)
    assert torch.equal(as_tensor(matched(samples_of(x), (1, 8, 8))), resized(rgb_to_grayscale(x), (8, 8)))


def test_lazy_images_match_as_those_in_memory_do() -> None:
    class Lazy:
        def __init__(self, x: Tensor) -> None:
            self.x = x

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, index: int) -> Tensor:
            return self.x[index]

    x = random_images(5, 3, 20, 30)
    lazy = matched(samples_of(Lazy(x)), (1, 8, 8))
    assert not isinstance(lazy.x, Tensor)
    assert torch.equal(as_tensor(in_memory(lazy)), as_tensor(matched(samples_of(x), (1, 8, 8))))


@pytest.mark.parametrize("budget", [0, 100])
def test_folders_are_matched_in_memory_and_lazily_alike(tmp_path: Path, budget: int) -> None:
    rng = np.random.default_rng(0)
    for folder, n, shape in (("n/train/good", 12, (12, 10)), ("n/test/good", 10, (12, 10)), ("other", 6, (20, 24, 3))):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(tmp_path / folder / f"{i}.png")
    normal = ImageFolder(str(tmp_path / "n"), memory_budget_mb=budget)
    other = FlatFolder(str(tmp_path / "other"), memory_budget_mb=budget)
    options: dict[str, Any] = {"num_workers": 0, "validation_anomalies": 1}
    data = make(normal, {"other": other}, validation_fraction=0.2, **options)
    assert isinstance(data.test_samples.x, Tensor) == (budget > 0)
    batch = next(iter(data.test_dataloader()[0]))
    assert batch.x.shape == (12, 1, 12, 10)
    whole = in_memory(matched(FlatFolder(str(tmp_path / "other")).load("test"), (1, 12, 10)))
    rows = [int(name.removeprefix("other/")[0]) for name in anomalies_of(data, "other")]
    assert torch.equal(batch.x[10:], as_tensor(whole)[rows])
    held_out = next(iter(data.val_dataloader()[0]))
    assert held_out.label.tolist() == [0, 0, 1]


def test_noise_takes_the_shape_of_the_normal_images() -> None:
    data = make(anomalies={"noise": UniformNoise()}, anomaly_ratio=0.5)
    images = data.test_images("noise", data.test_sets["noise"][90:])
    assert images is not None
    assert images.shape == (45, 1, 16, 16)
    assert images.float().mean().item() == pytest.approx(127.5, abs=5)


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anomalies": {"a/b": Numbered()}}, "names must be of letters, digits and any of .*, got 'a/b'"),
        ({"anomaly_ratio": 0.0}, "anomaly_ratio must be positive, or null for all, got 0.0"),
        ({"validation_anomalies": -1}, "validation_anomalies must not be negative, got -1"),
        ({"validation_source": "three"}, "validation_source must be one of anomaly_sources, one, two, got 'three'"),
        ({"validation_anomalies": 5}, "validation_source must say where .* come from: one of one, two"),
        ({"normal_class": "up"}, "normal_class: there is no class 'up'; classes are left, middle, right"),
        ({"anomaly_ratio": 0.001}, "must amount to at least one anomaly, got 0.001 of 90 normal test images"),
        ({"anomaly_ratio": 2.0}, "anomaly_ratio=2.0 .* more than one has: 180 anomalies are needed, there are 100"),
        (
            {"validation_anomalies": 90, "validation_source": "one"},
            "validation_anomalies=90 ask for more than one has: 108 anomalies are needed, there are 100",
        ),
        (
            {"anomalies": {"odd": Numbered(shape=(2, 16, 16))}},
            "anomaly_sources: odd does not go with 1x16x16 images.*: images of 2 channels cannot be made images of 1",
        ),
    ],
)
def test_bad_settings_are_named_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_something_else_than_images_is_refused(tmp_path: Path) -> None:
    arrays = {f"{part}_features": np.ones((6, 3)) for part in ("train", "test")}
    labels = {f"{part}_labels": np.arange(6) % 2 for part in ("train", "test")}
    np.savez(tmp_path / "table.npz", **arrays, **labels)  # type: ignore[arg-type]
    table = Npz(str(tmp_path / "table.npz"))
    with pytest.raises(ValueError, match="source must hold images, got 3 features"):
        make(table)
    with pytest.raises(ValueError, match="anomaly_sources: table must hold images, got 3 features"):
        make(anomalies={"table": table})
    with pytest.raises(ValueError, match="anomaly_sources must name at least one source"):
        OutOfDistribution(Stripes(), {})


# ---- runs -----------------------------------------------------------------------------------------------------------


def test_one_fit_tests_every_set(make_trainer: MakeTrainer) -> None:
    anomalies = {"far": UniformNoise(200), "digits": Digits()}
    data = OutOfDistribution(Stripes(), anomalies, seed=0, batch_size=32, eval_batch_size=50)
    detector = NearestNeighbor()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    logged = trainer.test(detector, datamodule=data, verbose=False)[0]
    for name in anomalies:
        scored = detector.results[name]
        assert scored.index.tolist() == sorted(data.test_sets[name])
        assert scored.labels.tolist() == [0] * 90 + [1] * 18
        assert logged[f"test/{name}/auroc"] == ranking_metrics(scored.scores, scored.labels)["auroc"] > 0.9


def test_an_oracle_chooses_on_all_test_sets_together() -> None:
    data = make()
    labels = torch.cat([batch.label for batch in data.oracle_batches(torch.device("cpu"))])
    assert labels.tolist() == [0] * 90 + [1] * 36


def test_training_moves_on_normal_images_alone(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    step = DeepSVDD.training_step

    def watching(self: DeepSVDD, batch: Any, batch_idx: int) -> Tensor:
        seen.update(batch.index.tolist())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(DeepSVDD, "training_step", watching)
    data = make(validation_anomalies=30, validation_source="one", validation_fraction=0.1, drop_last=False)
    make_trainer(max_epochs=1).fit(DeepSVDD(pretraining=AutoencoderPretraining(epochs=0)), datamodule=data)
    assert seen == set(data.split.train.tolist())
    assert max(seen) < 180


CONFIG = """
trainer: {max_epochs: 2}
model: {class_path: DeepSVDD, init_args: {pretraining: {epochs: 0}}}
data:
  class_path: OutOfDistribution
  init_args:
    source: Digits
    normal_class: [0, 1]
    anomaly_ratio: 0.5
    validation_fraction: 0.1
    anomaly_sources:
      uniform: {class_path: UniformNoise, init_args: {n: 300}}
      gaussian: GaussianNoise
"""


def test_a_run_folder_has_each_test_set_and_its_checkpoint_tests_them_again(tmp_path: Path) -> None:
    (tmp_path / "ood.yaml").write_text(CONFIG)
    run = tmp_path / "run"
    fit = ["fit", "--config", str(tmp_path / "ood.yaml"), f"--run_dir={run}", *QUIET]
    assert main([*fit, "--data.anomaly_sources.uniform.seed=4"]) == 0
    report = json.loads((run / "metrics.json").read_text())
    assert report["selection"] == "none"
    assert {name: (test["normal"], test["anomalies"]) for name, test in report["test_sets"].items()} == {
        "uniform": (119, 59),
        "gaussian": (119, 59),
    }
    scores = pd.read_csv(run / "scores.csv")
    for name, rows in scores.groupby("test_set"):
        assert len(rows) == 178
        assert rows.loc[rows.label == 1, "name"].str.startswith(f"{name}/test/").all()
        auroc = ranking_metrics(rows.score, rows.label)["auroc"]
        assert report["test_sets"][name]["metrics"]["auroc"]["value"] == pytest.approx(auroc)
        for plot in ("roc", "scores", "most_anomalous", "least_anomalous"):
            assert (run / "plots" / str(name) / f"{plot}.png").is_file()
    again = tmp_path / "again"
    assert main(["test", f"--ckpt_path={run}", f"--run_dir={again}", "--plots=false", *QUIET]) == 0
    assert (again / "scores.csv").read_text() == (run / "scores.csv").read_text()


@pytest.mark.parametrize(("monitor", "selection"), [("val/auroc", "oracle-ood"), ("val/score_mean", "val")])
def test_a_checkpoint_chosen_by_tested_kinds_says_so(
    tmp_path: Path, monitor: str, selection: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ood.yaml").write_text(CONFIG)
    options = [f"--monitor={monitor}", "--data.validation_anomalies=10", "--data.validation_source=uniform"]
    run = tmp_path / "run"
    arguments = ["fit", "--config", str(tmp_path / "ood.yaml"), f"--run_dir={run}", "--plots=false", *options, *QUIET]
    assert main(arguments) == 0
    assert json.loads((run / "metrics.json").read_text())["selection"] == selection
    other = [
        "test",
        f"--ckpt_path={run}",
        "--data.seed=1",
        "--data.validation_fraction=0",
        f"--run_dir={tmp_path / 'o'}",
    ]
    assert main([*other, *QUIET]) == 2  # anomalies that chose the checkpoint would be tested
    assert "the data are not split as in training" in capsys.readouterr().err
    again = tmp_path / "again"
    assert main(["test", f"--ckpt_path={run}", f"--run_dir={again}", "--plots=false", *QUIET]) == 0
    assert json.loads((again / "metrics.json").read_text())["selection"] == selection
