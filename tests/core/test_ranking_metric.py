"""The ranking metrics as torchmetrics metrics: our numbers, where torchmetrics' own are the same, and where not."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Metric
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinarySensitivityAtSpecificity,
    BinarySpecificityAtSensitivity,
)
from torchmetrics.functional.retrieval import retrieval_r_precision

from adlightning.core import ranking_metric
from adlightning.core.metrics import ranking_metrics
from adlightning.core.ranking_metric import NAMES, Ranked, RankingMetric, ranking_collection

SAME: dict[str, tuple[Callable[[], Metric], Callable[[Any], float]]] = {
    "auroc": (BinaryAUROC, float),
    "average_precision": (BinaryAveragePrecision, float),
    "fpr_at_95_tpr": (partial(BinarySpecificityAtSensitivity, 0.95), lambda found: 1 - float(found[0])),
    "recall_at_3_fpr": (partial(BinarySensitivityAtSpecificity, 0.97), lambda found: float(found[0])),
    "recall_at_5_fpr": (partial(BinarySensitivityAtSpecificity, 0.95), lambda found: float(found[0])),
}
"""What of torchmetrics is our number, and how it is read."""


def samples(seed: int, n_normal: int, n_anomalous: int, decimals: int) -> tuple[Tensor, Tensor]:
    """Scores around 30, with ties where there are few decimals; some samples have no label."""
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1, -1], [n_normal, n_anomalous, 3])
    s = np.round(rng.normal(30, 1, len(y)) + (y == 1) * rng.normal(), decimals)
    order = rng.permutation(len(y))
    return torch.from_numpy(s[order]), torch.from_numpy(y[order])


def filled(metric: Metric, scores: Tensor, labels: Tensor) -> Metric:
    for part in torch.arange(len(scores)).split(7):
        metric.update(scores[part], labels[part])
    return metric


def test_examples_run() -> None:
    assert doctest.testmod(ranking_metric).attempted > 5
    assert doctest.testmod(ranking_metric).failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_batches_give_the_number_of_the_whole(name: str) -> None:
    scores, labels = samples(0, 30, 12, 1)
    assert filled(RankingMetric(name), scores, labels).compute().item() == ranking_metrics(scores, labels)[name]
    assert RankingMetric(name).higher_is_better is (name != "fpr_at_95_tpr")


def test_a_collection_keeps_the_scores_once() -> None:
    scores, labels = samples(1, 20, 9, 2)
    collection = ranking_collection(prefix="val/")
    collection.update(scores, labels)
    collection.update(scores + 1, labels)
    values = ranking_metrics(torch.cat([scores, scores + 1]), torch.cat([labels, labels]))
    assert {name: value.item() for name, value in collection.compute().items()} == {
        f"val/{name}": value for name, value in values.items()
    }
    assert len(collection.compute_groups) == 1
    collection.reset()
    assert all(value.isnan() for value in collection.compute().values())


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match=r"name must be one of auroc, .*, got 'auc'"):
        RankingMetric("auc")
    with pytest.raises(ValueError, match=r"preds and target must both have shape \(B,\)"):
        RankingMetric().update(torch.zeros(3, 1), torch.zeros(3))


def test_one_class_alone_is_nan() -> None:
    metric = RankingMetric()
    metric.update(torch.rand(4), torch.zeros(4))
    assert metric.compute().isnan()


# ---- beside torchmetrics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAME)
def test_torchmetrics_on_ranks_gives_our_number(name: str) -> None:
    make, read = SAME[name]
    for seed, (n_normal, n_anomalous) in enumerate([(1, 1), (20, 20), (40, 100), (100, 40), (33, 67), (57, 5)] * 5):
        scores, labels = samples(seed, n_normal, n_anomalous, decimals=seed % 3)
        found = read(filled(Ranked(make()), scores, labels).compute())
        assert found == pytest.approx(ranking_metrics(scores, labels)[name], abs=1e-6), (n_normal, n_anomalous)


def test_torchmetrics_on_raw_scores_does_not() -> None:
    scores, labels = torch.tensor([20.0, 25.0, 35.0, 40.0]), torch.tensor([0, 0, 1, 1])
    assert BinaryAUROC()(scores, labels) == 0.5
    assert ranking_metrics(scores, labels)["auroc"] == Ranked(BinaryAUROC())(scores, labels) == 1.0


def test_recall_of_normals_counts_as_the_released_code_does() -> None:
    # Of 20 anomalies 5 % are one. The released rule takes the 20th highest as threshold and accepts none of them.
    anomalies, normals = torch.arange(20.0), torch.tensor([-1.0, 0.5, 1.5])
    scores, labels = torch.cat([anomalies, normals]), torch.tensor([1] * 20 + [0] * 3)
    assert ranking_metrics(scores, labels)["normal_recall_at_5_fpr"] == pytest.approx(1 / 3)
    swapped = Ranked(BinarySensitivityAtSpecificity(0.95))
    assert swapped(-scores, 1 - labels)[0] == pytest.approx(2 / 3)


def test_f1_at_contamination_counts_ties_and_r_precision_does_not() -> None:
    scores, labels = torch.tensor([5.0, 5.0, 5.0, 1.0]), torch.tensor([0, 0, 1, 0])
    assert ranking_metrics(scores, labels)["f1_at_contamination"] == pytest.approx(2 / (3 + 1))
    ranks = torch.from_numpy(rankdata(scores) / len(scores))
    assert retrieval_r_precision(ranks, labels.bool()) in (0.0, 1.0)


# ---- in modules of others -------------------------------------------------------------------------------------------


class Plain(pl.LightningModule):
    """A module that is none of ours: it scores tables by a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.auroc = RankingMetric("auroc")
        self.theirs = Ranked(BinaryAveragePrecision())
        self.every = ranking_collection(prefix="val/every/")

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean()  # type: ignore[no-any-return]

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        scores = self.layer(batch[0])[:, 0] * 50
        for metric in (self.auroc, self.theirs, self.every):
            metric.update(scores, batch[1])
        self.log("val/auroc", self.auroc)
        self.log("val/theirs", self.theirs)
        self.log_dict(self.every)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_plain_module_logs_them(make_trainer: MakeTrainer) -> None:
    x, y = torch.randn(50, 2, generator=torch.manual_seed(0)), torch.arange(50) % 3 == 0
    data = TensorDataset(x, y.long())
    module, trainer = Plain(), make_trainer(max_epochs=2)
    trainer.fit(module, DataLoader(data, 10), DataLoader(data, 7))
    values = ranking_metrics(module.layer(x)[:, 0].detach() * 50, y.long())
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["val/auroc"] == pytest.approx(values["auroc"])
    assert logged["val/theirs"] == pytest.approx(values["average_precision"])
    assert {name: logged[f"val/every/{name}"] for name in values} == pytest.approx(values)


def compute_on_a_rank(rank: int, folder: Path) -> None:
    init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=3)
    scores, labels = samples(3, 30, 10, 1)
    shares = [slice(0, 11), slice(11, None), slice(0, 0)]  # the last rank saw nothing
    metrics = {"ours": RankingMetric("average_precision"), "theirs": Ranked(BinaryAUROC())}
    for metric in metrics.values():
        if rank < 2:
            metric.update(scores[shares[rank]], labels[shares[rank]])
    torch.save({name: float(metric.compute()) for name, metric in metrics.items()}, folder / f"{rank}.pt")
    destroy_process_group()


def test_ranks_compute_over_all_of_them(tmp_path: Path) -> None:
    start_processes(compute_on_a_rank, (tmp_path,), nprocs=3, start_method="fork")
    scores, labels = samples(3, 30, 10, 1)
    values = ranking_metrics(scores, labels)
    for rank in range(3):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["ours"] == values["average_precision"]
        assert found["theirs"] == pytest.approx(values["auroc"])
