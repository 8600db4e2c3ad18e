"""DROCC: loss, projection and ascent by hand, BatchNorm during ascent, the phases, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from conftest import Blobs, MakeTrainer, Stripes
from torch import Tensor, nn

from adlightning.contracts import InputSpec, TrainBatch
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import OneVsAll
from adlightning.data.sources.base import Part, Samples
from adlightning.objectives import DROCC, DROCCOE, DROCCRand
from adlightning.objectives.drocc import ascend, unit_gradient
from adlightning.objectives.shell import normality_loss, project_to_shell, sample_norm

MLP: dict[str, Any] = {
    "network": "mlp",
    "rep_dim": 16,
    "leakiness": 0.0,
    "encoder_bias": True,
    "head_activation": "leaky_relu",
    "preprocessing": "identity",
}


def built(cls: type[DROCCRand] = DROCC, shape: tuple[int, ...] = (6,), **options: Any) -> DROCCRand:
    torch.manual_seed(0)
    detector = cls(**{**MLP, **options})
    detector.configure_for(InputSpec("table" if len(shape) == 1 else "image", shape))
    return detector


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- the loss --------------------------------------------------------------------------------------------------------


def test_normality_loss_by_hand() -> None:
    # normal at f = ln 3, so p = 3/4: -ln 3/4; anomalous at f = ln 3: -ln 1/4; normal at f = 0: ln 2
    logits = torch.tensor([math.log(3), math.log(3), 0.0])
    expected = (math.log(4 / 3) + math.log(4) + math.log(2)) / 3
    assert normality_loss(logits, torch.tensor([True, False, True])).item() == pytest.approx(expected)


def test_a_batch_costs_the_cross_entropy_of_its_samples_plus_mu_times_that_of_their_negatives() -> None:
    class Fixed(DROCCRand):
        def offsets(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 2.0)

    detector = built(Fixed, mu=0.5, shape=(2,))
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    batch = TrainBatch(x, torch.zeros(2, dtype=torch.long), torch.arange(2))
    detector.__dict__["_current_epoch"] = 0
    detector._trainer = _AtEpoch(0)  # type: ignore[assignment]
    f, g = detector.logits(x), detector.logits(x + 2)
    expected = nn.functional.softplus(-f).mean() + 0.5 * nn.functional.softplus(g).mean()
    assert detector.training_step(batch, 0).item() == pytest.approx(expected.item())


class _AtEpoch:
    """As much of a Trainer as a training step asks for."""

    def __init__(self, epoch: int) -> None:
        self.current_epoch, self.world_size, self.training = epoch, 1, True


def test_warm_up_epochs_leave_the_negatives_out() -> None:
    detector = built(DROCCRand, warm_up_epochs=2)
    x = torch.randn(8, 6, generator=generator())
    batch = TrainBatch(x, torch.zeros(8, dtype=torch.long), torch.arange(8))
    losses = []
    for epoch in (1, 2):
        detector._trainer = _AtEpoch(epoch)  # type: ignore[assignment]
        losses.append(detector.training_step(batch, 0).item())
    alone = normality_loss(detector.logits(x), torch.ones(8)).item()
    assert losses[0] == pytest.approx(alone)
    assert losses[1] > alone + 0.1


# ---- the shell -------------------------------------------------------------------------------------------------------


def test_projection_by_hand() -> None:
    h = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.6, 0.8], [0.9, 1.2]])  # norms 5, 0.5, 1, 1.5
    expected = [[1.2, 1.6], [0.6, 0.8], [0.6, 0.8], [0.9, 1.2]]
    assert project_to_shell(h, radius=1.0, gamma=2.0).tolist() == [pytest.approx(row) for row in expected]


def test_projection_with_gamma_1_is_onto_the_sphere() -> None:
    h = torch.randn(50, 3, 4, 4, generator=generator())
    norms = sample_norm(project_to_shell(h, radius=8.0, gamma=1.0))
    assert norms.shape == (50, 1, 1, 1)
    assert torch.allclose(norms, torch.tensor(8.0))


def test_projection_is_the_nearest_point_of_the_shell() -> None:
    h = torch.randn(40, 3, generator=generator()) * torch.rand(40, 1, generator=generator(1)) * 4
    projected = project_to_shell(h, radius=1.0, gamma=1.5)
    directions = nn.functional.normalize(torch.randn(4000, 3, generator=generator(2)), dim=1)
    others = directions * (1 + 0.5 * torch.rand(4000, 1, generator=generator(3)))
    assert ((h - projected).norm(dim=1) <= torch.cdist(h, others).min(dim=1).values + 1e-6).all()


def test_projection_leaves_a_zero_offset_at_zero() -> None:
    assert project_to_shell(torch.zeros(2, 3), radius=1.0, gamma=2.0).tolist() == [[0.0] * 3] * 2


# ---- ascent ----------------------------------------------------------------------------------------------------------


def test_unit_gradient_is_the_direction_of_the_loss_towards_label_0() -> None:
    detector = built()
    points = torch.randn(10, 6, generator=generator(), requires_grad=True)
    loss = normality_loss(detector.logits(points), torch.zeros(10))  # what Algorithm 1 ascends
    (gradient,) = torch.autograd.grad(loss, points)
    expected = gradient / gradient.norm(dim=1, keepdim=True)
    assert torch.allclose(unit_gradient(detector.logits, points), expected, atol=1e-5)


def test_unit_gradient_survives_where_the_loss_is_flat_and_is_zero_where_there_is_none() -> None:
    points = torch.tensor([[1.0, 2.0], [-1.0, 2.0]])
    direction = unit_gradient(lambda x: x.relu() @ torch.tensor([1.0, 0.0]) - 1e4, points)
    assert direction.tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_ascent_by_hand() -> None:
    # f = x_1: each step adds (0.5, 0); two steps from (0, 1) reach (1, 1), sqrt 2 long, projected to length 1
    x, h = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
    arguments: dict[str, Any] = {"steps": 2, "step_size": 0.5, "project": lambda h: project_to_shell(h, 1.0, 1.0)}
    once = ascend(lambda p: p[:, 0], x, h, project_every="end", **arguments)
    assert once.tolist() == [pytest.approx([math.sqrt(0.5)] * 2)]
    # projected after each step: (0.5, 1) to length 1 is (1, 2) / sqrt 5; then (1 / sqrt 5 + 0.5, 2 / sqrt 5)
    a, b = 1 / math.sqrt(5) + 0.5, 2 / math.sqrt(5)
    twice = ascend(lambda p: p[:, 0], x, h, project_every=1, **arguments)
    assert twice.tolist() == [pytest.approx([a / math.hypot(a, b), b / math.hypot(a, b)])]


@pytest.mark.parametrize(("every", "calls"), [(1, 7), (3, 3), (7, 1), (10, 1), ("end", 1)])
def test_ascent_always_ends_on_a_projection(every: Any, calls: int) -> None:
    projected: list[Tensor] = []

    def project(h: Tensor) -> Tensor:
        projected.append(h)
        return h

    x, h = torch.zeros(2, 3), torch.ones(2, 3)
    ascend(lambda p: p.sum(dim=1), x, h, steps=7, step_size=0.1, project=project, project_every=every)
    assert len(projected) == calls


def test_ascent_finds_points_that_look_more_normal_within_the_shell() -> None:
    detector = built(radius=1.5, gamma=2.0, ascent_step_size=0.1)
    x = torch.randn(64, 6, generator=generator())
    torch.manual_seed(1)
    h = detector.offsets(x)
    torch.manual_seed(1)
    start = project_to_shell(detector.noise_like(x), 1.5, 2.0)
    assert ((h.norm(dim=1) >= 1.5 - 1e-5) & (h.norm(dim=1) <= 3.0 + 1e-5)).all()
    assert (detector.logits(x + h) > detector.logits(x + start)).float().mean() > 0.95


def test_ascent_treats_each_sample_alone() -> None:
    detector = built(ascent_steps=3)
    x, h = torch.randn(2, 8, 6, generator=generator()).unbind()
    arguments: dict[str, Any] = {"steps": 5, "step_size": 0.1, "project": detector.project, "project_every": 2}
    together = ascend(detector.logits, x, h, **arguments)
    alone = torch.cat([ascend(detector.logits, x[i : i + 1], h[i : i + 1], **arguments) for i in range(8)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_ascent_leaves_no_gradients_on_weights_and_weights_trainable() -> None:
    detector = built()
    h = detector.offsets(torch.randn(8, 6, generator=generator()))
    assert not h.requires_grad
    assert all(weight.grad is None and weight.requires_grad for weight in detector.parameters())


def test_random_negatives_are_in_the_shell_and_take_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = built(DROCCRand, radius=2.0, gamma=1.5)
    monkeypatch.setattr(torch.autograd, "grad", None)
    norms = detector.offsets(torch.randn(200, 6, generator=generator())).norm(dim=1)
    assert ((norms >= 2 - 1e-5) & (norms <= 3 + 1e-5)).all()


def test_noise_is_standard_normal_or_shifted() -> None:
    torch.manual_seed(0)
    x = torch.zeros(20_000, 1)
    normal, shifted = built(noise="normal").noise_like(x), built(noise="shifted").noise_like(x)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0, 1), abs=0.03)
    assert (shifted.mean().item(), shifted.std().item()) == pytest.approx((-1, 2), abs=0.06)


# ---- BatchNorm during ascent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "moves", "trains_after"), [("eval", False, True), ("train", True, True), ("frozen", False, False)]
)
def test_batch_norm_during_ascent(mode: str, moves: bool, trains_after: bool) -> None:
    options: dict[str, Any] = {"network": "lenet", "conv_channels": (4,), "encoder_bias": False}
    detector = built(shape=(1, 8, 8), ascent_batch_norm=mode, ascent_steps=2, **options)
    (norm,) = [layer for layer in detector.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    detector.train()
    detector.offsets(torch.randn(8, 1, 8, 8, generator=generator()))
    assert torch.equal(norm.running_mean, before) is not moves
    assert norm.training is trains_after
    assert detector.encoder.training
    detector.on_train_epoch_start()
    assert norm.training


# ---- arguments and data ----------------------------------------------------------------------------------------------


def test_the_radius_follows_the_number_of_features_unless_given() -> None:
    assert built(shape=(16,)).shell_radius == 2.0
    assert built(shape=(16,), radius=0.3).shell_radius == 0.3


def test_learning_rate_milestones_count_after_the_warm_up() -> None:
    detector = built(lr=1.0, lr_milestones=(2, 4), warm_up_epochs=3)
    assert [round(detector.learning_rate(epoch), 6) for epoch in range(8)] == [1, 1, 1, 1, 1, 0.1, 0.1, 0.01]


def test_sgd_with_momentum_is_an_option(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=1)
    detector = DROCC(**{**MLP, "preprocessing": "standardize"}, optimizer="sgd", momentum=0.9, ascent_steps=1, lr=0.01)
    trainer.fit(detector, datamodule=AnomalyLabelled(Blobs(), batch_size=32, seed=0))
    optimizer = trainer.optimizers[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 0.0}, "radius must be positive, or null for sqrt.d. / 2, got 0.0"),
        ({"gamma": 0.5}, "gamma must be at least 1, got 0.5"),
        ({"mu": -1.0}, "mu must not be negative, got -1.0"),
        ({"warm_up_epochs": -1}, "warm_up_epochs must not be negative, got -1"),
        ({"noise": "pink"}, "noise must be normal or shifted, got 'pink'"),
        ({"selection": "val"}, "selection must be none or oracle, got 'val'"),
        ({"ascent_steps": 0}, "ascent_steps must be at least 1, got 0"),
        ({"ascent_step_size": 0.0}, "ascent_step_size must be positive, got 0.0"),
        ({"project_every": 0}, "project_every must be at least 1, or end, got 0"),
        ({"project_every": "never"}, "project_every must be at least 1, or end, got 'never'"),
        ({"ascent_batch_norm": "off"}, "ascent_batch_norm must be eval, train or frozen, got 'off'"),
        ({"momentum": 0.9}, "momentum must be 0 with optimizer adam, got 0.9"),
        ({"optimizer": "lion"}, "optimizer must be adam or sgd, got lion"),
        ({"head_dense": [0]}, "head_dense must be at least 1, got 0"),
        ({"head_activation": "relu"}, "head_activation must be none or leaky_relu, got 'relu'"),
        ({"encoder_weights": "a.pt"}, "encoder_weights needs network mobilenet_v2 and encoder_bias, got a.pt"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DROCC(**{**MLP, **options})


def test_outlier_exposure_needs_known_anomalies(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="DROCCOE needs known anomalies"):
        make_trainer(max_epochs=1).fit(
            DROCCOE(conv_channels=(8, 4)), datamodule=OneVsAll(Stripes(), 0, batch_size=16, seed=0)
        )


def test_the_networks_of_the_paper() -> None:
    head: dict[str, Any] = {"head_dense": (64,), "head_activation": "leaky_relu", "head_bias": False}
    cifar = DROCC(conv_channels=(32, 64, 128), rep_dim=128, **head)
    cifar.configure_for(InputSpec("image", (3, 32, 32)))
    # 3*32*25 + 32*64*25 + 64*128*25 convolutions, 2048*128 + 128*64 + 64 dense
    assert sum(weight.numel() for weight in cifar.parameters()) == 2400 + 51_200 + 204_800 + 262_144 + 8192 + 64
    table = built(rep_dim=128)
    assert sum(weight.numel() for weight in table.parameters()) == 6 * 128 + 128 + 128 + 1


def test_a_compiled_network_gives_the_same_offsets_and_scores() -> None:
    x = torch.randn(8, 6, generator=generator())
    results = []
    for compiled in (False, True):
        detector = built(compile_network=compiled, ascent_steps=3)
        torch.manual_seed(1)
        h = detector.offsets(x)
        loss = detector.negatives_loss(x)
        loss.backward()
        results.append((h, detector.anomaly_score(x).detach(), next(detector.encoder.parameters()).grad))
    for eager, compiled_result in zip(*results, strict=True):
        assert eager is not None
        assert torch.allclose(eager, compiled_result, atol=1e-5)


def test_pretrained_weights_are_loaded_before_the_first_step_and_once(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "weights.pt")

    def detector() -> DROCCRand:
        torch.manual_seed(0)
        options: dict[str, Any] = {"network": "mobilenet_v2", "rep_dim": 1280, "encoder_bias": True}
        weights = str(tmp_path / "weights.pt")
        return DROCCRand(**options, encoder_weights=weights, preprocessing="standardize_channels", lr=1e-9)

    def data() -> OneVsAll:
        return OneVsAll(Coloured(), 0, batch_size=16, seed=0)

    first = detector()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(first, datamodule=data())
    saved = torch.load(tmp_path / "weights.pt", weights_only=True)["features.0.0.weight"]
    assert torch.allclose(next(first.encoder.parameters()), saved, atol=1e-6)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "weights.pt").unlink()  # a checkpoint does not need them any more
    second = detector()
    make_trainer(max_epochs=2).fit(second, datamodule=data(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert torch.allclose(next(second.encoder.parameters()), saved, atol=1e-6)


class Coloured(Stripes):
    """The stripes with three channels."""

    def __init__(self) -> None:
        super().__init__(n_train=20, n_test=4)

    def input_spec(self) -> InputSpec:
        return InputSpec("image", (3, 16, 16))

    def load(self, part: Part) -> Samples:
        samples = super().load(part)
        assert isinstance(samples.x, Tensor)
        return replace(samples, x=samples.x.expand(-1, 3, -1, -1).contiguous())
