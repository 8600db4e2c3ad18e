"""GOAD: losses and scores by hand, maps, weights, the centres of a fit wherever it ends, and what is refused."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.callbacks.checkpoints import LastCheckpoint
from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.core.parts import described
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.loading import IndexBatches
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import GOAD, goad
from adlightning.methods.goad import AffineMaps, map_log_probabilities, relative_distances, triplet_center_loss
from adlightning.networks import GOADEncoder
from adlightning.preprocessing import Identity, StandardizeFeatures, StandardizeMinMax, UnitRange
from adlightning.testing import Blobs, Stripes

MAPS = AffineMaps(number=12, dim=6)
UNMOVED = AffineMaps(number=12, dim=6, translation=False)


def phi(rep_dim: int = 4, n_layers: int = 1) -> Any:
    return partial(GOADEncoder, rep_dim=rep_dim, n_layers=n_layers)


SMALL: dict[str, Any] = {"maps": MAPS, "encoder": phi()}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def embeddings(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator())


def built(n_features: int = 3, **options: Any) -> GOAD:
    torch.manual_seed(0)
    detector = GOAD(**{**SMALL, "preprocessing": Identity, **options})
    detector.configure_for(InputSpec("table", (n_features,)))
    return detector


def data(**options: Any) -> AnomalyLabelled:
    return AnomalyLabelled(Blobs(), **{"batch_size": 32, "drop_last": False, "seed": 0, **options})


def fit(make_trainer: MakeTrainer, datamodule: AnomalyLabelled, epochs: int = 1, **options: Any) -> GOAD:
    pl.seed_everything(0, verbose=False)
    detector = GOAD(**{**SMALL, **options})
    make_trainer(max_epochs=epochs).fit(detector, datamodule=datamodule)
    return detector.eval()


def training_samples(datamodule: AnomalyLabelled) -> Tensor:
    x = datamodule.train_samples.x
    assert isinstance(x, Tensor)
    return x[torch.from_numpy(datamodule.split.train[datamodule.split.known != -1])]


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_triplet_center_loss_by_hand() -> None:
    # centres 1 and 5; squared distances from the own and from the other: 1 and 25, 1 and 9 (both samples)
    z = torch.tensor([[[0.0], [4.0]], [[2.0], [6.0]]])
    assert triplet_center_loss(z, 1.0) == 0
    assert triplet_center_loss(z, 10.0).item() == pytest.approx((0 + 2 + 2 + 0) / 4)
    assert triplet_center_loss(z, 30.0).item() == pytest.approx((6 + 22 + 22 + 6) / 4)


@pytest.mark.parametrize("n_samples", [2, 5])
def test_triplet_center_loss_and_its_gradient_are_those_of_the_formula(n_samples: int) -> None:
    z = embeddings(n_samples, 4, 3).requires_grad_()
    expected = torch.zeros(())
    centers = z.mean(dim=0)
    for sample in z:
        for m in range(4):
            d = (sample[m] - centers).square().sum(dim=1)
            expected = expected + (d[m] + 0.5 - min(d[k] for k in range(4) if k != m)).clamp_min(0) / (n_samples * 4)
    loss = triplet_center_loss(z, 0.5)
    assert loss.item() > 0
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, z)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("embedding", ["output", "activated"])
def test_loss_and_score_see_the_leaky_relu_of_what_phi_gives_or_what_it_gives(embedding: Any) -> None:
    detector = built(embedding=embedding, margin=2.0, triplet_weight=0.3, centers="running", maps=UNMOVED)
    x = embeddings(5, 3)
    loss = detector.training_step(TrainBatch(x, torch.zeros(5), torch.arange(5)), 0)
    maps, w = detector.map_weights.double().numpy(), next(detector.encoder.parameters()).detach().double().numpy()
    raw = np.stack([x.double().numpy() @ maps[m] @ w.T for m in range(12)], axis=1)
    activated = np.where(raw > 0, raw, 0.2 * raw)
    z = activated if embedding == "activated" else raw
    of_head = [weight.detach().double().numpy() for weight in detector.head.parameters()]
    logits = activated @ of_head[0].T + of_head[1]  # the head names the map by the leaky ReLU either way
    distances = ((z[:, :, None] - z.mean(axis=0)) ** 2).sum(axis=3)
    total = 0.0
    for b in range(5):
        for m in range(12):
            others = [distances[b, m, k] for k in range(12) if k != m]
            total += 0.3 * max(0.0, distances[b, m, m] + 2.0 - min(others))
            total += np.log(np.exp(logits[b, m]).sum()) - logits[b, m, m]
    assert loss.item() == pytest.approx(total / 60, rel=1e-5)
    torch.testing.assert_close(detector._batch_means, torch.from_numpy(z.mean(axis=0)).float())
    centers = embeddings(12, 4)
    detector.map_centers.copy_(centers)
    detector.has_centers.fill_(True)
    to_centers = ((z[:, :, None] - centers.double().numpy()) ** 2).sum(axis=3)
    log_p = -to_centers - np.log(np.exp(-to_centers).sum(axis=2, keepdims=True))
    score = -np.trace(log_p, axis1=1, axis2=2)
    with torch.no_grad():
        torch.testing.assert_close(detector.anomaly_score(x), torch.from_numpy(score).float(), rtol=1e-4, atol=1e-4)


def test_the_gradient_of_the_loss_pulls_maps_apart_and_samples_together() -> None:
    z = embeddings(8, 3, 2).requires_grad_()
    loss = triplet_center_loss(z, 1.0)
    loss.backward()
    assert z.grad is not None
    assert triplet_center_loss(z.detach() - 0.1 * z.grad, 1.0) < loss


def test_the_loss_of_a_batch_is_the_weighted_triplet_loss_plus_the_heads_cross_entropy() -> None:
    detector = built(triplet_weight=0.25, margin=2.0)
    x = embeddings(5, 3)
    z = detector.embed(x)
    log_p = detector.head(z).log_softmax(dim=2)
    cross_entropy = -torch.stack([log_p[:, m, m] for m in range(12)]).mean()
    loss = detector.training_step(TrainBatch(x, torch.zeros(5), torch.arange(5)), 0)
    assert loss.item() == pytest.approx((0.25 * triplet_center_loss(z, 2.0) + cross_entropy).item())


# ---- the score -------------------------------------------------------------------------------------------------------


def test_log_probabilities_by_hand() -> None:
    # centres 0 and 2; z = 0.5 under map 0: distances 1/4 and 9/4; z = 2 under map 1: 4 and 0
    z, centers = torch.tensor([[[0.5], [2.0]]]), torch.tensor([[0.0], [2.0]])
    e = math.exp
    expected = [[e(-0.25) / (e(-0.25) + e(-2.25)), 1 / (1 + e(-4))]]
    torch.testing.assert_close(map_log_probabilities(z, centers), torch.tensor(expected).log())
    floored = [[e(-1) / (e(-1) + e(-2.25)), e(-1) / (e(-1) + e(-4))]]
    torch.testing.assert_close(map_log_probabilities(z, centers, distance_floor=1.0), torch.tensor(floored).log())
    added = [[(e(-0.25) + 0.1) / (e(-0.25) + e(-2.25) + 0.2), 1.1 / (1.2 + e(-4))]]
    torch.testing.assert_close(map_log_probabilities(z, centers, epsilon=0.1), torch.tensor(added).log())
    both = [[(e(-1) + 0.1) / (e(-1) + e(-2.25) + 0.2), (e(-1) + 0.1) / (e(-1) + e(-4) + 0.2)]]
    result = map_log_probabilities(z, centers, epsilon=0.1, distance_floor=1.0)
    torch.testing.assert_close(result, torch.tensor(both).log())


def test_far_from_all_centres_epsilon_leaves_no_map_more_likely() -> None:
    z, centers = torch.tensor([[[-50.0], [-50.0]]]), torch.tensor([[0.0], [2.0]])
    assert map_log_probabilities(z, centers)[0, 0] > -1e-3  # sure of the nearer centre
    even = torch.full((1, 2), -math.log(2))
    torch.testing.assert_close(map_log_probabilities(z, centers, epsilon=1e-6), even)


def test_distances_keep_their_digits_far_from_the_centres_and_under_autocast() -> None:
    z, centers = 1000 + embeddings(4, 5, 3), 0.1 * embeddings(5, 3)
    exact = (z.double()[:, :, None] - centers.double()).square().sum(dim=3) - z.double().square().sum(2, keepdim=True)
    torch.testing.assert_close(relative_distances(z, centers).double(), exact, rtol=1e-5, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(relative_distances(z, centers), relative_distances(z, centers).float())
        torch.testing.assert_close(relative_distances(z, centers).double(), exact, rtol=1e-5, atol=1e-3)


def test_the_score_is_the_sum_over_the_maps_and_no_chunk_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, x = built(), embeddings(9, 3)
    detector.map_centers.copy_(embeddings(12, 4))
    detector.has_centers.fill_(True)
    expected = -map_log_probabilities(detector.embed(x), detector.map_centers).sum(dim=1)
    with torch.no_grad():
        torch.testing.assert_close(detector.anomaly_score(x), expected)
        monkeypatch.setattr(goad, "CHUNK", 2 * 12 * 12)
        assert [len(part) for part in detector._chunks(x)] == [2, 2, 2, 2, 1]
        torch.testing.assert_close(detector.anomaly_score(x), expected)
        assert detector.anomaly_score(x[:0]).shape == (0,)


@pytest.mark.parametrize("option", ["epsilon", "distance_floor"])
def test_the_options_of_the_score_reach_it(option: str) -> None:
    x = embeddings(4, 3)
    options: dict[str, Any] = {option: 0.5}
    plain, changed = built(), built(**options)
    for detector in (plain, changed):
        detector.map_centers.copy_(embeddings(12, 4))
        detector.has_centers.fill_(True)
    assert not torch.allclose(plain.anomaly_score(x), changed.anomaly_score(x))


# ---- maps and network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maps", [MAPS, UNMOVED])
def test_samples_are_mapped_and_moved_and_the_maps_are_in_the_checkpoint(maps: AffineMaps) -> None:
    detector, x = built(maps=maps, encoder=phi(n_layers=2)), embeddings(2, 3)
    assert ("map_shifts" in detector.state_dict()) == maps.translation
    assert "map_weights" in detector.state_dict()
    z = detector.embed(x)
    first, second = detector.encoder.parameters()
    for m in range(12):
        mapped = x @ detector.map_weights[m] + (0 if detector.map_shifts is None else detector.map_shifts[m])
        hidden = F.leaky_relu(mapped @ first.T, 0.2)
        torch.testing.assert_close(z[:, m], hidden @ second.T)


def test_maps_are_standard_normal_and_drawn_from_the_seed() -> None:
    maps = AffineMaps(number=50, dim=20)
    detector = built(n_features=10, maps=maps)
    assert detector.map_shifts is not None
    for drawn in (detector.map_weights, detector.map_shifts):
        assert drawn.mean().item() == pytest.approx(0, abs=0.1)
        assert drawn.std().item() == pytest.approx(1, abs=0.1)
        assert drawn.flatten().unique().numel() == drawn.numel()
    assert torch.equal(built(n_features=10, maps=maps).map_weights, detector.map_weights)


@pytest.mark.parametrize("n_layers", [1, 5])
def test_the_network_has_so_many_layers_without_biases(n_layers: int) -> None:
    detector = built(encoder=phi(n_layers=n_layers))
    weights = [tuple(w.shape) for w in detector.encoder.parameters()]
    assert weights == [(4, 6), *[(4, 4)] * (n_layers - 1)]
    assert [tuple(w.shape) for w in detector.head.parameters()] == [(12, 4), (12,)]


def test_initial_weights() -> None:
    sizes: dict[str, Any] = {"maps": AffineMaps(number=2, dim=300), "encoder": phi(rep_dim=200)}
    glorot = next(built(**sizes).encoder.parameters())
    assert glorot.std().item() == pytest.approx(math.sqrt(2) * math.sqrt(2 / 500), rel=0.02)
    assert glorot.abs().max() > 3 * glorot.std()  # normal, not uniform
    framework = next(built(**sizes, weight_init="framework").encoder.parameters())
    assert framework.abs().max().item() == pytest.approx(1 / math.sqrt(300), rel=0.01)


def test_adam_has_the_released_codes_betas_unless_another_optimiser_is_given() -> None:
    optimizer = built().configure_optimizers()["optimizer"]
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, Adam)
    assert (group["betas"], group["lr"], group["weight_decay"]) == ((0.5, 0.999), 1e-3, 0)
    assert isinstance(built(optimizer=partial(SGD, lr=0.1)).configure_optimizers()["optimizer"], SGD)


class Own(nn.Module):
    """A user's encoder of mapped samples (B, D)."""

    def __init__(self, shape: tuple[int, ...], width: int = 5) -> None:
        super().__init__()
        (n_features,) = shape
        self.layer = nn.Linear(n_features, width)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 2
        z: Tensor = self.layer(x).tanh()
        return z


def test_an_encoder_of_ones_own_starts_as_it_came_and_resumes_with_another_optimiser(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    torch.randn(12, 3, 6), torch.randn(12, 6)
    own, detector = Own((6,)), built(encoder=Own)
    assert torch.equal(detector.encoder.get_parameter("layer.weight"), own.layer.weight)
    x = embeddings(3, 3)
    shifts = detector.map_shifts
    assert isinstance(shifts, torch.Tensor)
    mapped = torch.einsum("bi,mij->bmj", x, detector.map_weights) + shifts
    torch.testing.assert_close(detector.embed(x), detector.encoder(mapped.flatten(0, 1)).view(3, 12, 5))
    options: dict[str, Any] = {"encoder": Own, "optimizer": partial(AdamW, lr=0.01)}
    options["lr_scheduler"] = partial(CosineAnnealingLR, T_max=3)
    whole = fit(make_trainer, data(), epochs=3, **options)
    pl.seed_everything(0, verbose=False)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(GOAD(**{**SMALL, **options}), datamodule=data())
    assert isinstance(trainer.optimizers[0], AdamW)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * (1 + math.cos(2 * math.pi / 3)) / 2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    resumed = GOAD(**{**SMALL, **options})
    make_trainer(max_epochs=3).fit(resumed, datamodule=data(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    wanted = whole.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.state_dict().items())


# ---- centres ---------------------------------------------------------------------------------------------------------


def test_trained_centres_are_the_means_over_the_training_set(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goad, "CHUNK", 7 * 12 * 12)
    datamodule = data(eval_batch_size=50)
    detector = fit(make_trainer, datamodule, epochs=2)
    with torch.no_grad():
        expected = detector.embed(detector.preprocess(training_samples(datamodule))).double().mean(dim=0)
    torch.testing.assert_close(detector.map_centers.double(), expected, rtol=1e-5, atol=1e-5)
    assert detector.map_centers.requires_grad is False


def test_running_centres_average_the_means_of_the_last_epochs_batches(make_trainer: MakeTrainer) -> None:
    datamodule = data(batch_size=50, validation_fraction=0.0)
    detector = fit(make_trainer, datamodule, epochs=2, centers="running", optimizer=partial(Adam, lr=1e-12))
    order = datamodule.train_dataloader().batch_sampler
    assert isinstance(order, IndexBatches)
    order.set_epoch(1)
    x = training_samples(datamodule)
    batches = [detector.embed(detector.preprocess(x[positions])).mean(dim=0) for positions in order]
    assert len({len(positions) for positions in order}) == 2  # or else it is the mean over the training set
    torch.testing.assert_close(detector.map_centers, torch.stack(batches).mean(dim=0), rtol=1e-5, atol=1e-5)


class _Watch(pl.Callback):
    """Whether scores at each validation are of the weights as they are, and what was logged."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.aurocs: list[float] = []
        self.centers: list[Tensor] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, GOAD)
        if trainer.sanity_checking:
            assert not pl_module.ready_to_score()
            return
        self.aurocs.append(float(trainer.callback_metrics["val/auroc"]))
        with torch.no_grad():
            now = pl_module.embed(pl_module.preprocess(self.x)).mean(dim=0)
        torch.testing.assert_close(pl_module.map_centers, now, rtol=1e-4, atol=1e-4)
        self.centers.append(pl_module.map_centers.clone())


@pytest.mark.parametrize(
    ("options", "validations"), [({"max_epochs": 3}, 3), ({"val_check_interval": 2, "max_epochs": 1}, 2)]
)
def test_every_validation_scores_by_centres_of_its_weights(
    make_trainer: MakeTrainer, options: dict[str, Any], validations: int
) -> None:
    datamodule = data(validation_fraction=0.1, validation_anomalies=5)
    datamodule.setup("fit")
    watch = _Watch(training_samples(datamodule))
    make_trainer(callbacks=[watch], num_sanity_val_steps=1, **options).fit(GOAD(**SMALL), datamodule=datamodule)
    assert len(watch.aurocs) == validations
    assert not any(torch.equal(a, b) for a, b in zip(watch.centers, watch.centers[1:], strict=False))


class _ReadEachEpochsCheckpoint(pl.Callback):
    def __init__(self, path: Path, x: Tensor) -> None:
        self.path, self.x, self.n_read = path, x, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch:
            loaded = load_detector(self.path, unfinished=True)
            assert isinstance(loaded, GOAD)
            assert loaded.ready_to_score()
            with torch.no_grad():
                means = loaded.embed(loaded.preprocess(self.x)).mean(dim=0)
            torch.testing.assert_close(loaded.map_centers, means, rtol=1e-4, atol=1e-4)
            self.n_read += 1


def test_without_validation_every_epochs_checkpoint_has_centres_of_its_weights(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    datamodule = data(validation_fraction=0.0)
    datamodule.setup("fit")
    read = _ReadEachEpochsCheckpoint(tmp_path / "checkpoints" / "last.ckpt", training_samples(datamodule))
    callbacks = [read, LastCheckpoint(tmp_path / "checkpoints")]
    trainer = make_trainer(max_epochs=3, callbacks=callbacks, enable_checkpointing=True)
    trainer.fit(GOAD(**SMALL), datamodule=datamodule)
    assert read.n_read == 2


class _StopAfter(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step >= 2


@pytest.mark.parametrize("centers", ["trained", "running"])
@pytest.mark.parametrize("fraction", [0.0, 0.1])
@pytest.mark.parametrize(
    "options", [{}, {"max_steps": 2, "max_epochs": -1}, {"callbacks": [_StopAfter()]}, {"limit_train_batches": 1}]
)
def test_wherever_training_ends_the_checkpoint_is_a_whole_detector(
    make_trainer: MakeTrainer, tmp_path: Path, options: dict[str, Any], fraction: float, centers: Any
) -> None:
    callbacks = [*options.get("callbacks", []), LastCheckpoint(tmp_path / "checkpoints")]
    detector, datamodule = GOAD(**SMALL, centers=centers), data(validation_fraction=fraction)
    trainer = make_trainer(**{**options, "callbacks": callbacks, "enable_checkpointing": True})
    trainer.fit(detector, datamodule=datamodule)
    path = tmp_path / "whole.ckpt"
    trainer.save_checkpoint(path)
    x = training_samples(datamodule)
    for loaded in (load_detector(path), load_detector(tmp_path / "checkpoints" / "last.ckpt")):
        assert loaded.ready_to_score()
        assert torch.equal(loaded.anomaly_score(x), detector.eval().anomaly_score(x))
        assert loaded.threshold == detector.threshold
        assert torch.isfinite(loaded.threshold)
        assert described(loaded.arguments) == described(detector.arguments)


@pytest.mark.parametrize("centers", ["trained", "running"])
def test_a_resumed_fit_ends_where_an_undisturbed_one_does(
    make_trainer: MakeTrainer, tmp_path: Path, centers: Any
) -> None:
    undisturbed = fit(make_trainer, data(), epochs=3, centers=centers)
    pl.seed_everything(0, verbose=False)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(GOAD(**SMALL, centers=centers), datamodule=data())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    options: dict[str, Any] = {"ckpt_path": tmp_path / "two.ckpt", "weights_only": True}
    resumed = GOAD(**SMALL, centers=centers)
    make_trainer(max_epochs=3).fit(resumed, datamodule=data(), **options)
    wanted = undisturbed.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.state_dict().items())
    with pytest.raises(ValueError, match="nothing is left to train"):
        make_trainer(max_epochs=2).fit(GOAD(**SMALL, centers=centers), datamodule=data(), **options)


def test_a_second_fit_of_the_same_detector_sets_its_centres_anew(make_trainer: MakeTrainer) -> None:
    datamodule = data()
    detector = fit(make_trainer, datamodule)
    first = detector.map_centers.clone()
    make_trainer(max_epochs=1).fit(detector, datamodule=datamodule)
    assert not torch.equal(detector.map_centers, first)


def test_a_batch_of_two_is_enough(make_trainer: MakeTrainer) -> None:
    datamodule = data(batch_size=2)
    detector = fit(make_trainer, datamodule)
    assert torch.isfinite(detector.anomaly_score(training_samples(datamodule))).all()


def test_half_precision_fits_and_ranks(make_trainer: MakeTrainer) -> None:
    pl.seed_everything(0, verbose=False)
    datamodule = data()
    trainer, detector = make_trainer(max_epochs=4, precision="bf16-mixed"), GOAD(**SMALL)
    trainer.fit(detector, datamodule=datamodule)
    trainer.test(detector, datamodule=datamodule, verbose=False)
    scored = detector.results["test"]
    assert np.isfinite(scored.scores).all()
    assert scored.scores[scored.labels == 1].mean() > scored.scores[scored.labels == 0].mean()


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -1.0}, r"margin must not be negative, got -1\.0"),
        ({"triplet_weight": math.inf}, "triplet_weight must not be negative, got inf"),
        ({"epsilon": -0.1}, r"epsilon must not be negative, got -0\.1"),
        ({"distance_floor": math.nan}, "distance_floor must not be negative, got nan"),
        ({"centers": "none"}, "centers must be one of trained, running, got 'none'"),
        ({"embedding": "relu"}, "embedding must be one of output, activated, got 'relu'"),
        ({"weight_init": "zeros"}, "weight_init must be one of glorot, framework, got 'zeros'"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GOAD(**options)


def test_what_the_maps_and_the_encoder_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"maps\.number must be at least 2, got 1"):
        AffineMaps(number=1)
    with pytest.raises(ValueError, match=r"maps\.dim must be at least 1, got 0"):
        AffineMaps(dim=0)
    with pytest.raises(ValueError, match="rep_dim must be at least 1, got 0"):
        built(encoder=phi(rep_dim=0))
    with pytest.raises(ValueError, match="n_layers must be at least 1, got 0"):
        built(encoder=phi(n_layers=0))
    for preprocessing in (None, StandardizeFeatures):
        with pytest.raises(
            ValueError, match=r"centers must be running with .* n_layers: 1, embedding: output, .* standardised"
        ):
            built(maps=UNMOVED, preprocessing=preprocessing)


@pytest.mark.parametrize(
    "options",
    [
        *({"centers": "running"}, {"encoder": phi(n_layers=2)}, {"preprocessing": StandardizeMinMax}, {"maps": MAPS}),
        {"embedding": "activated"},
    ],
)
def test_maps_without_translation_are_taken_where_their_centres_differ(
    make_trainer: MakeTrainer, options: dict[str, Any]
) -> None:
    detector = fit(make_trainer, data(batch_size=50), **{"maps": UNMOVED, **options})
    assert torch.pdist(detector.map_centers).min() > 1e-3


@pytest.mark.parametrize("preprocessing", [StandardizeFeatures, UnitRange, Identity])
def test_images_are_refused_whatever_the_preprocessing(make_trainer: MakeTrainer, preprocessing: Any) -> None:
    images = OneVsAll(Stripes(), normal_class="left", batch_size=16, seed=0)
    with pytest.raises(ValueError, match=r"GOAD's network input must be tables \(D,\).*1x16x16 images"):
        make_trainer().fit(GOAD(preprocessing=preprocessing), datamodule=images)


def test_series_are_refused() -> None:
    with pytest.raises(ValueError, match=r"network input must be tables \(D,\).*10x3 series"):
        GOAD().configure_for(InputSpec("series", (10, 3)))
