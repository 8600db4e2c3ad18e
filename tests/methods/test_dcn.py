"""DCN and DeepCluster: losses, centres and whitening by hand, and what an epoch of each does to its clusters."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.data.labelled import AnomalyLabelled
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods import DCN, DeepCluster
from adlightning.methods.dcn import dcn_loss, moved_centers
from adlightning.methods.deep_cluster import Space, cluster_means, pca_whitening, pseudo_label_loss
from adlightning.methods.parts.clusters import kmeans_centers, nearest_center
from adlightning.networks import MLPEncoder
from adlightning.testing import Blobs


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def fit(make_trainer: MakeTrainer, detector: AnomalyDetector, epochs: int, *watching: pl.Callback) -> AnomalyLabelled:
    pl.seed_everything(0, verbose=False)
    data = AnomalyLabelled(Blobs(), batch_size=32, seed=0, validation_fraction=0.0)
    make_trainer(max_epochs=epochs, callbacks=list(watching)).fit(detector, datamodule=data)
    return data


def training_samples(data: AnomalyLabelled) -> Tensor:
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    return x[torch.from_numpy(data.split.train[data.split.known != KNOWN_ANOMALY])]


# ---- clusters --------------------------------------------------------------------------------------------------------


def test_the_nearest_centre_by_hand() -> None:
    z, centers = torch.tensor([[0.0, 1.0], [5.0, 4.0]]), torch.tensor([[0.0, 0.0], [5.0, 7.0]])
    distances, which = nearest_center(z, centers)
    assert (distances.tolist(), which.tolist()) == ([1.0, 9.0], [0, 1])


def test_kmeans_finds_what_lies_apart() -> None:
    x = torch.cat([torch.randn(20, 2, generator=generator()) + shift for shift in (0, 50, 100)])
    centers = kmeans_centers(x, 3, seed=0, n_init=3)
    expected = torch.stack([part.mean(dim=0) for part in x.split(20)])
    torch.testing.assert_close(centers[centers[:, 0].argsort()], expected)


@pytest.mark.parametrize("x", [torch.ones(6, 2), torch.tensor([[0.0, 0.0], [1.0, 1.0]])])
def test_fewer_samples_than_clusters_give_the_same_centre_several_times(x: Tensor) -> None:
    centers = kmeans_centers(x, 4, seed=0, n_init=1)
    assert centers.shape == (4, 2)
    assert nearest_center(x, centers)[0].max() == 0


@pytest.mark.parametrize("cls", [DCN, DeepCluster])
def test_more_clusters_than_samples_are_refused(make_trainer: MakeTrainer, cls: type[DCN | DeepCluster]) -> None:
    with pytest.raises(ValueError, match=r"n_clusters must be at most \d+, the number of training samples, got 500"):
        fit(make_trainer, cls(n_clusters=500), 60)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DCN(n_clusters=0), "n_clusters must be at least 1, got 0"),
        (lambda: DCN(clustering_weight=-1.0), "clustering_weight must not be negative, got -1"),
        (lambda: DCN(initial_count=0), "initial_count must be at least 1, got 0"),
        (lambda: DeepCluster(n_clusters=1), "n_clusters must be at least 2, got 1"),
        (lambda: DeepCluster(pca_dim=0), "pca_dim must be at least 1, got 0"),
    ],
)
def test_what_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# ---- DCN -------------------------------------------------------------------------------------------------------------


def test_dcns_loss_by_hand() -> None:
    x, other = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    loss = dcn_loss(x, other, torch.tensor([4.0, 2.0]), clustering_weight=0.5)
    assert loss.item() == pytest.approx(((5 + 0.25 * 4) + (1 + 0.25 * 2)) / 2)


def test_centres_move_as_if_they_took_their_codes_one_after_the_other() -> None:
    codes = torch.randn(9, 2, generator=generator())
    centers, counts = torch.randn(3, 2, generator=generator()), torch.tensor([1.0, 5.0, 2.0])
    which = torch.tensor([0, 0, 2, 0, 2, 2, 2, 0, 0])
    one, taken = centers.clone(), counts.clone()
    for z, k in zip(codes, which, strict=True):
        taken[k] += 1
        one[k] -= (one[k] - z) / taken[k]
    chosen = torch.nn.functional.one_hot(which, 3).float()
    torch.testing.assert_close(moved_centers(centers, counts, chosen.T @ codes, chosen.sum(dim=0)), one)
    assert torch.equal(one[1], centers[1])  # nothing was nearest to it


class _Centres(pl.Callback):
    """Centres and codes of the training samples when an epoch begins."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, i: int) -> None:
        assert isinstance(pl_module, DCN)
        self.seen += [(pl_module.ready_to_score(), pl_module.centers.clone())] if i == 0 else []


def test_dcn_sets_its_centres_after_the_first_phase_and_moves_them_from_there(make_trainer: MakeTrainer) -> None:
    watch = _Centres()
    detector = DCN(encoder=partial(MLPEncoder, rep_dim=2), pretrain_epochs=2, n_clusters=3)
    data = fit(make_trainer, detector, 4, watch)
    assert [ready for ready, _ in watch.seen] == [False, False, True, True]
    assert not torch.equal(watch.seen[2][1], watch.seen[3][1])
    assert detector.counts.sum() == 3 * 100 + 2 * sum(len(batch.index) for batch in data.train_dataloader())
    with torch.no_grad():
        detector.eval()
        x = training_samples(data)
        distances = torch.cdist(detector.encoder(detector.preprocess(x)), detector.centers).min(dim=1).values
    torch.testing.assert_close(detector.anomaly_score(x), distances, rtol=1e-3, atol=1e-3)


def test_a_fit_of_dcn_that_ends_in_the_first_phase_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"max_epochs counts the first phase and must exceed model.pretrain_epochs=25"):
        fit(make_trainer, DCN(), 25)


# ---- DeepCluster -----------------------------------------------------------------------------------------------------


def test_pseudo_labels_weigh_by_the_inverse_size_of_their_cluster() -> None:
    loss = pseudo_label_loss(torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx(math.log(2) * (4 / (2 * 3) + 4 / (2 * 1)) / 2)
    logits = torch.tensor([[2.0, 0.0]])
    even = pseudo_label_loss(logits, torch.tensor([0]), torch.tensor([5.0, 5.0]))
    assert even.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_whitened_features_have_unit_variance_and_directions_without_any_are_left_out() -> None:
    features = torch.randn(400, 3, generator=generator(), dtype=torch.float64) * torch.tensor([5.0, 0.1, 1.0]) + 7
    features = torch.cat([features, features[:, :1]], dim=1)  # of rank 3
    mean, projection = pca_whitening(features, 4)
    white = (features - mean) @ projection.T
    covariance = white.T @ white / 400
    torch.testing.assert_close(covariance, torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])).double())
    assert not projection[3].any()
    assert pca_whitening(features, 2)[1].shape == (2, 4)
    assert not pca_whitening(torch.ones(5, 2), 2)[1].any()


class _Names(pl.Callback):
    """What the first batch of each epoch is to be called, and the layer that learns it."""

    def __init__(self) -> None:
        self.layers: list[Tensor] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TrainBatch, i: int
    ) -> None:
        assert isinstance(pl_module, DeepCluster)
        if i:
            return
        assert not pl_module.ready_to_score()
        self.layers.append(pl_module.top_layer.weight.detach().clone())
        assert not any(pl_module.top_layer.weight in opt.state for opt in trainer.optimizers)
        labels, sizes = pl_module._pseudo_labels, pl_module._sizes
        indices, clusters = pl_module.find_clusters()  # the same weights, the same seed
        assert torch.equal(labels[indices], clusters)
        assert torch.equal(sizes, clusters.bincount(minlength=pl_module.n_clusters).float())
        pl_module.forget_fit()


@pytest.mark.parametrize("scored", ["whitened", "normalised"])
def test_every_epoch_of_deep_cluster_has_its_own_clusters_and_layer(make_trainer: MakeTrainer, scored: Space) -> None:
    watch, detector = _Names(), DeepCluster(encoder=partial(MLPEncoder, rep_dim=6), n_clusters=5, scored=scored)
    data = fit(make_trainer, detector, 3, watch)
    assert len(watch.layers) == 3
    assert all(layer.std().item() == pytest.approx(0.01, rel=0.5) for layer in watch.layers)
    assert not torch.equal(watch.layers[0], watch.layers[1])
    x = training_samples(data)
    with torch.no_grad():
        detector.eval()
        features = detector.whitened(detector.encoder(detector.preprocess(x)))
    torch.testing.assert_close(features.square().mean(), torch.tensor(1.0))
    if scored == "normalised":
        features = features / features.norm(dim=1, keepdim=True)
    distances = torch.cdist(features, detector.centers).min(dim=1).values
    torch.testing.assert_close(detector.anomaly_score(x), distances, rtol=1e-3, atol=1e-3)


def test_means_of_clusters_by_hand() -> None:
    x, clusters = torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 0, 2])
    assert cluster_means(x, clusters, torch.tensor([2, 0, 1])).tolist() == [[1.0], [1.0], [5.0]]
