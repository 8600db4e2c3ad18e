"""DROCC: loss, projection and ascent by hand, BatchNorm during ascent, compilation, the phases, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torchvision
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, MultiStepLR

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources.base import Part, Samples
from adlightning.labels import KNOWN_ANOMALY, KNOWN_NORMAL, UNLABELLED
from adlightning.methods import DROCC, DROCCLF, DROCCOE, DROCCRand
from adlightning.methods.drocc import ascend, normality_loss, unit_gradient
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.neighborhood import project_to_shell, sample_norm
from adlightning.networks import LeNetEncoder, LSTMEncoder, MLPEncoder, MobileNetV2Encoder
from adlightning.preprocessing import Identity, StandardizeChannels, StandardizeFeatures
from adlightning.testing import Blobs, Stripes

ENCODER = partial(MLPEncoder, rep_dim=16, leakiness=0.0, bias=True)
MLP: dict[str, Any] = {
    "encoder": ENCODER,
    "head": Head(activation="leaky_relu", leakiness=0.0),
    "preprocessing": Identity,
    "radius": None,
}
LENET: dict[str, Any] = {"encoder": partial(LeNetEncoder, conv_channels=(4,))}
FIVE = Ascent(steps=5, step_size=0.1)


def built(cls: type[DROCC] = DROCC, shape: tuple[int, ...] = (6,), **options: Any) -> DROCC:
    torch.manual_seed(0)
    detector = cls(**{**MLP, **options})
    kind: Any = {1: "table", 2: "series", 3: "image"}[len(shape)]
    detector.configure_for(InputSpec(kind, shape))
    return detector


def built_with_batch_norm(cls: type[DROCC] = DROCC, **options: Any) -> DROCC:
    """In training mode, with running statistics far from those of any batch; most noise starts within radius 4."""
    detector = built(cls, **{"encoder": partial(ENCODER, dense=(8,)), "radius": 4.0, "ascent": FIVE, **options})
    (norm,) = [layer for layer in detector.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.linspace(-2, 2, 8))
    norm.running_var.copy_(torch.linspace(0.5, 4, 8))
    return detector.train()


def loss_of(detector: DROCC, batch: TrainBatch) -> Tensor:
    """What a training step costs where it returns nothing else."""
    loss = detector.training_step(batch, 0)
    assert isinstance(loss, Tensor)
    return loss


def train_batch(x: Tensor, known: list[int]) -> TrainBatch:
    return TrainBatch(x, torch.tensor(known), torch.arange(len(x)))


def forwards(detector: DROCC) -> list[bool]:
    """Fills up with a bool for each forward of the network from now on: whether any of its weights takes gradients."""
    seen: list[bool] = []
    detector.encoder.register_forward_hook(
        lambda *_: seen.append(any(weight.requires_grad for weight in detector.parameters()))
    )
    return seen


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
    batch = train_batch(x, [UNLABELLED] * 2)
    detector._trainer = _AtEpoch(0)  # type: ignore[assignment]
    f, g = detector.logits(x), detector.logits(x + 2)
    expected = nn.functional.softplus(-f).mean() + 0.5 * nn.functional.softplus(g).mean()
    assert loss_of(detector, batch).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("cls", [DROCCOE, DROCCLF])
def test_known_anomalies_are_trained_as_anomalies_and_get_no_negatives(
    cls: type[DROCC], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = built(cls, mu=0.5)
    detector._trainer = _AtEpoch(0)  # type: ignore[assignment]
    monkeypatch.setattr(detector, "offsets", lambda x: torch.full_like(x, 2.0))
    x = torch.randn(4, 6, generator=generator())
    normal = torch.tensor([True, False, True, False])
    loss = loss_of(detector, train_batch(x, [KNOWN_NORMAL, KNOWN_ANOMALY, UNLABELLED, KNOWN_ANOMALY]))
    softplus = nn.functional.softplus
    samples = (softplus(-detector.logits(x[normal])).sum() + softplus(detector.logits(x[~normal])).sum()) / 4
    negatives = softplus(detector.logits(x[normal] + 2)).mean()
    assert loss.item() == pytest.approx((samples + 0.5 * negatives).item())


@pytest.mark.parametrize("cls", [DROCCOE, DROCCLF])
@pytest.mark.parametrize("n_normal", [0, 1])
def test_without_two_normal_samples_the_cross_entropy_is_all_and_the_network_runs_as_often(
    cls: type[DROCC], n_normal: int
) -> None:
    x = torch.randn(6, 6, generator=generator())
    detector, alone = built_with_batch_norm(cls), built_with_batch_norm(cls)
    detector._trainer = _AtEpoch(0)  # type: ignore[assignment]
    seen = forwards(detector)
    detector.training_step(train_batch(x, [UNLABELLED] * 6), 0)
    usual = list(seen)
    detector = built_with_batch_norm(cls)
    detector._trainer = _AtEpoch(0)  # type: ignore[assignment]
    seen = forwards(detector)
    known = [UNLABELLED] * n_normal + [KNOWN_ANOMALY] * (6 - n_normal)
    loss = loss_of(detector, train_batch(x, known))
    assert seen == usual  # other ranks, in step with this one, may synchronise each forward
    expected = normality_loss(alone.logits(x), torch.tensor(known) != KNOWN_ANOMALY)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    expected.backward()
    for ours, theirs in zip(detector.parameters(), alone.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


@pytest.mark.parametrize("joint", [False, True])
def test_batch_norm_normalises_samples_and_negatives_apart_or_together(joint: bool) -> None:
    class Fixed(DROCCRand):
        def offsets(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 2.0)

    options: dict[str, Any] = {"radius": 4.0, "mu": 0.5, "joint_batches": joint}
    options["encoder"] = partial(ENCODER, dense=(8,))
    detector, alone = (built(Fixed, **options).train() for _ in range(2))
    detector._trainer = _AtEpoch(0)  # type: ignore[assignment]
    x = torch.randn(8, 6, generator=generator())
    loss = loss_of(detector, train_batch(x, [UNLABELLED] * 8))
    if joint:
        f, g = alone.logits(torch.cat([x, x + 2])).split(8)
    else:
        f, g = alone.logits(x), alone.logits(x + 2)
        assert torch.allclose(f, g, atol=1e-5)  # a shift of a whole batch is lost to its own statistics
    expected = nn.functional.softplus(-f).mean() + 0.5 * nn.functional.softplus(g).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, value in detector.state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name], equal_nan=True)  # running statistics as well


class _AtEpoch:
    """As much of a Trainer as a training step asks for."""

    def __init__(self, epoch: int) -> None:
        self.current_epoch, self.world_size, self.training = epoch, 1, True
        self.lr_scheduler_configs: list[Any] = []


def test_warm_up_epochs_leave_the_negatives_out() -> None:
    detector = built(DROCCRand, warm_up_epochs=2)
    x = torch.randn(8, 6, generator=generator())
    batch = train_batch(x, [UNLABELLED] * 8)
    losses = []
    for epoch in (1, 2):
        detector._trainer = _AtEpoch(epoch)  # type: ignore[assignment]
        losses.append(loss_of(detector, batch).item())
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
    project: Callable[[Tensor], Tensor] = lambda h: project_to_shell(h, 1.0, 1.0)  # noqa: E731
    once = ascend(lambda p: p[:, 0], x, h, Ascent(steps=2, step_size=0.5, project_every="end"), project)
    assert once.tolist() == [pytest.approx([math.sqrt(0.5)] * 2)]
    # projected after each step: (0.5, 1) to length 1 is (1, 2) / sqrt 5; then (1 / sqrt 5 + 0.5, 2 / sqrt 5)
    a, b = 1 / math.sqrt(5) + 0.5, 2 / math.sqrt(5)
    twice = ascend(lambda p: p[:, 0], x, h, Ascent(steps=2, step_size=0.5, project_every=1), project)
    assert twice.tolist() == [pytest.approx([a / math.hypot(a, b), b / math.hypot(a, b)])]


@pytest.mark.parametrize(("every", "calls"), [(1, 7), (3, 3), (7, 1), (10, 1), ("end", 1)])
def test_ascent_always_ends_on_a_projection(every: Any, calls: int) -> None:
    projected: list[Tensor] = []

    def project(h: Tensor) -> Tensor:
        projected.append(h)
        return h

    x, h = torch.zeros(2, 3), torch.ones(2, 3)
    ascend(lambda p: p.sum(dim=1), x, h, Ascent(steps=7, step_size=0.1, project_every=every), project)
    assert len(projected) == calls


def test_ascent_finds_points_that_look_more_normal_within_the_shell() -> None:
    detector = built(radius=1.5, gamma=2.0, ascent=Ascent(step_size=0.1))
    x = torch.randn(64, 6, generator=generator())
    torch.manual_seed(1)
    h = detector.offsets(x)
    torch.manual_seed(1)
    start = project_to_shell(detector.noise_like(x), 1.5, 2.0)
    assert ((h.norm(dim=1) >= 1.5 - 1e-5) & (h.norm(dim=1) <= 3.0 + 1e-5)).all()
    assert (detector.logits(x + h) > detector.logits(x + start)).float().mean() > 0.95


def test_ascent_treats_each_sample_alone() -> None:
    detector = built()
    x, h = torch.randn(2, 8, 6, generator=generator()).unbind()
    arguments = Ascent(steps=5, step_size=0.1, project_every=2), detector.projection(x)
    together = ascend(detector.logits, x, h, *arguments)
    alone = torch.cat([ascend(detector.logits, x[i : i + 1], h[i : i + 1], *arguments) for i in range(8)])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize(("cls", "n_forwards"), [(DROCC, 3), (DROCCLF, 4)])  # DROCC-LF: and one for the influence
def test_ascent_takes_no_gradients_for_weights_and_leaves_them_trainable(cls: type[DROCC], n_forwards: int) -> None:
    detector = built(cls, ascent=Ascent(steps=3))
    first, *others = detector.parameters()
    first.requires_grad_(False)  # frozen by its user, and to stay so
    seen = forwards(detector)
    h = detector.offsets(torch.randn(8, 6, generator=generator()))
    assert seen == [False] * n_forwards
    assert not h.requires_grad
    assert not first.requires_grad
    assert all(weight.grad is None and weight.requires_grad for weight in others)


def test_weights_are_trainable_after_an_ascent_that_failed() -> None:
    detector = built()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        detector.offsets(torch.zeros(8, 7))
    assert all(weight.requires_grad for weight in detector.parameters())


@pytest.mark.parametrize("every", [1, 3, "end"])
def test_a_detector_projects_every_so_many_steps(every: Any) -> None:
    x = torch.randn(16, 6, generator=generator())
    ascent = Ascent(steps=7, step_size=0.5, project_every=every)
    detector = built(ascent=ascent, radius=1.0, gamma=1.0)
    torch.manual_seed(1)
    ours = detector.offsets(x)

    def by_hand(project_every: Any) -> Tensor:
        torch.manual_seed(1)
        project: Callable[[Tensor], Tensor] = lambda h: project_to_shell(h, 1.0, 1.0)  # noqa: E731
        h = torch.randn_like(x)
        return ascend(detector.logits, x, h, replace(ascent, project_every=project_every), project)

    agrees = {other: torch.allclose(ours, by_hand(other), atol=1e-5) for other in (1, 3, "end")}
    assert agrees == {other: other == every for other in (1, 3, "end")}


@pytest.mark.parametrize("cls", [DROCC, DROCCOE, DROCCLF])
def test_five_steps_of_a_fifth_of_the_radius_unless_given(cls: type[DROCC]) -> None:
    x = torch.randn(4, 6, generator=generator())
    results = []
    given: dict[str, Any] = {"ascent": Ascent(steps=5, step_size=0.1, project_every=5)}
    for options in ({}, given):
        detector = built(cls, radius=0.5, **options)
        torch.manual_seed(1)
        results.append(detector.offsets(x))
    assert torch.equal(*results)


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


@pytest.mark.parametrize("is_synchronised", [False, True])
@pytest.mark.parametrize(
    ("mode", "moves", "trains_after"), [("eval", False, True), ("train", True, True), ("frozen", False, False)]
)
def test_batch_norm_during_ascent(
    mode: Any, moves: bool, trains_after: bool, is_synchronised: bool, make_trainer: MakeTrainer
) -> None:
    detector = built(shape=(1, 8, 8), ascent=Ascent(batch_norm=mode, steps=2), **LENET)
    detector.trainer = make_trainer()
    detector.on_train_epoch_start()  # of an earlier fit
    if is_synchronised:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(detector)  # as `trainer.sync_batchnorm` does, after `build`
    kind = nn.SyncBatchNorm if is_synchronised else nn.BatchNorm2d
    (norm,) = [layer for layer in detector.modules() if isinstance(layer, kind)]
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    detector.train()
    detector.offsets(torch.randn(8, 1, 8, 8, generator=generator()))
    assert torch.equal(norm.running_mean, before) is not moves
    assert norm.training is trains_after
    assert detector.encoder.training
    detector.on_train_epoch_start()
    assert norm.training


@pytest.mark.parametrize("cls", [DROCC, DROCCLF])
@pytest.mark.parametrize(("mode", "is_alone"), [("eval", True), ("frozen", True), ("train", False)])
def test_samples_are_coupled_in_ascent_by_batch_statistics_only(
    cls: type[DROCC], mode: Any, is_alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = built_with_batch_norm(cls, ascent=replace(FIVE, batch_norm=mode))
    x, noise = torch.randn(2, 6, 6, generator=generator()).unbind()

    def offsets(rows: slice) -> Tensor:
        monkeypatch.setattr(detector, "noise_like", lambda _: noise[rows])
        return detector.offsets(x[rows])

    pairs = torch.cat([offsets(slice(i, i + 2)) for i in (0, 2, 4)])
    assert torch.allclose(offsets(slice(0, 6)), pairs, atol=1e-4) is is_alone


def steepest(logits_of: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """The released code's direction: of the batch's mean cross-entropy towards label 0."""
    points = points.detach().requires_grad_()
    logits = logits_of(points)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
    return nn.functional.normalize(torch.autograd.grad(loss, points)[0])


def test_coupled_by_batch_norm_the_direction_is_that_of_the_loss_of_the_batch() -> None:
    detector = built_with_batch_norm()
    points = 3 * torch.randn(8, 6, generator=generator())
    expected = steepest(detector.logits, points)
    assert torch.allclose(unit_gradient(detector.logits, points, coupled=True), expected, atol=1e-5)
    assert not torch.allclose(unit_gradient(detector.logits, points), expected, atol=1e-2)


def test_ascent_in_train_mode_is_that_of_the_released_code() -> None:
    x = torch.randn(8, 6, generator=generator())
    detector, other = (built_with_batch_norm(ascent=replace(FIVE, batch_norm="train", step_size=0.5)) for _ in range(2))
    torch.manual_seed(1)
    ours = detector.offsets(x)
    torch.manual_seed(1)
    h = torch.randn_like(x)
    for _ in range(5):
        h = h + 0.5 * steepest(other.logits, x + h)
    assert torch.allclose(ours, project_to_shell(h, 4.0, 2.0), atol=1e-4)


@pytest.mark.parametrize("mode", ["eval", "frozen"])
def test_ascent_on_running_statistics_goes_on_where_the_loss_is_flat(mode: Any) -> None:
    x = torch.randn(8, 6, generator=generator())
    detector = built_with_batch_norm(ascent=replace(FIVE, batch_norm=mode, step_size=0.5))
    (bias,) = [weight for name, weight in detector.named_parameters() if name.startswith("head") and weight.ndim == 1]
    nn.init.constant_(bias, -500.0)
    torch.manual_seed(1)
    ours = detector.offsets(x)
    torch.manual_seed(1)
    h, detector = torch.randn_like(x), detector.eval()
    for _ in range(5):
        points = (x + h).requires_grad_()
        h = h + 0.5 * nn.functional.normalize(torch.autograd.grad(detector.logits(points).sum(), points)[0])
    assert torch.allclose(ours, project_to_shell(h, 4.0, 2.0), atol=1e-4)


# ---- arguments and data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "radius"),
    [((16,), {}, 2.0), ((4, 8, 8), LENET, 8.0), ((9, 4), {"encoder": partial(LSTMEncoder, bias=True)}, 3.0)],
)
def test_the_radius_follows_the_number_of_features_or_pixels_unless_given(
    shape: tuple[int, ...], options: dict[str, Any], radius: float
) -> None:
    assert built(shape=shape, **options).shell_radius == radius
    assert built(shape=shape, radius=0.3, **options).shell_radius == 0.3
    norms = sample_norm(built(DROCCRand, shape, gamma=1.0, **options).offsets(torch.zeros(3, *shape)))
    assert torch.allclose(norms, torch.tensor(radius))


@pytest.mark.parametrize("cls", [DROCCRand, DROCC, DROCCOE, DROCCLF])
def test_there_is_no_weight_decay_and_no_glorot_unless_given(cls: type[DROCC]) -> None:
    detector = built(cls)
    (group,) = detector.configure_optimizers()["optimizer"].param_groups
    assert group["weight_decay"] == 0
    decaying = built(cls, optimizer=partial(Adam, lr=1e-3, weight_decay=0.5))
    (given,) = decaying.configure_optimizers()["optimizer"].param_groups
    assert given["weight_decay"] == 0.5
    weight, framework, glorot = (
        next(other.encoder.parameters())
        for other in (detector, built(cls, weight_init="framework"), built(cls, weight_init="glorot"))
    )
    assert torch.equal(weight, framework)
    assert not torch.equal(weight, glorot)


class Rates(pl.Callback):
    """The learning rate of each epoch, or of each step."""

    def __init__(self, of_steps: bool = False) -> None:
        self.of_steps, self.seen = of_steps, list[float]()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, i: int) -> None:
        if self.of_steps or i == 0:
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_schedule_begins_after_the_warm_up(make_trainer: MakeTrainer) -> None:
    schedule: dict[str, Any] = {
        "optimizer": partial(Adam, lr=1.0),
        "lr_scheduler": partial(MultiStepLR, milestones=[2, 4]),
    }
    detector, rates = DROCCRand(**{**MLP, **schedule}, warm_up_epochs=3), Rates()
    fit_blobs(make_trainer, detector, max_epochs=8, callbacks=[rates])
    assert rates.seen == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.01])


def test_a_schedule_by_steps_begins_after_the_warm_up(make_trainer: MakeTrainer) -> None:
    schedule: dict[str, Any] = {"optimizer": partial(Adam, lr=1.0), "lr_scheduler_interval": "step"}
    schedule["lr_scheduler"] = partial(ExponentialLR, gamma=0.5)
    detector, rates = DROCCRand(**{**MLP, **schedule}, warm_up_epochs=2), Rates(of_steps=True)
    fit_blobs(make_trainer, detector, max_epochs=3, limit_train_batches=2, callbacks=[rates])
    assert rates.seen == [1, 1, 1, 1, 1, 0.5]


def test_sgd_with_momentum_is_an_option(make_trainer: MakeTrainer) -> None:
    detector = DROCC(**MLP, optimizer=partial(SGD, lr=0.01, momentum=0.9), ascent=Ascent(steps=1))
    optimizer = fit_blobs(make_trainer, detector).optimizers[0]
    assert isinstance(optimizer, SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.9


class TwoLayers(nn.Module):
    """An encoder of one's own."""

    def __init__(self, shape: tuple[int, ...], width: int = 5) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(shape[0], width), nn.Tanh(), nn.LayerNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.net(x)
        return codes


@pytest.mark.parametrize("cls", [DROCC, DROCCLF])
def test_an_encoder_an_optimiser_and_a_schedule_of_ones_own_resume_to_the_bit(
    cls: type[DROCC], make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    def detector() -> DROCC:
        torch.manual_seed(0)
        return cls(
            encoder=partial(TwoLayers, width=7),
            head=Head(dense=(4,), activation="leaky_relu"),
            ascent=Ascent(steps=2, step_size=0.1),
            warm_up_epochs=1,
            optimizer=partial(AdamW, lr=1e-2),
            lr_scheduler=partial(CosineAnnealingLR, T_max=3),
            preprocessing=StandardizeFeatures,
        )

    whole, rates = detector(), Rates()
    fit_blobs(make_trainer, whole, max_epochs=4, callbacks=[rates, Saved(tmp_path / "first.ckpt", after=2)])
    assert rates.seen == pytest.approx([1e-2, 1e-2, 0.75e-2, 0.25e-2])
    assert [w.shape for w in whole.head.parameters()] == [(4, 7), (4,), (1, 4), (1,)]
    resumed = detector()
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)
    make_trainer(max_epochs=4).fit(resumed, datamodule=data, ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    loaded = load_detector(tmp_path / "first.ckpt", unfinished=True)
    assert isinstance(loaded, cls)
    assert isinstance(loaded.encoder, TwoLayers)


class Saved(pl.Callback):
    """A checkpoint after so many epochs."""

    def __init__(self, path: Path, after: int) -> None:
        self.path, self.after = path, after

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == self.after:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({"radius": bad}, f"radius must be positive and finite, neighbors, or null for sqrt.d. / 2, got {bad}")
            for bad in (0.0, -1.0, math.nan, math.inf)
        ),
        *(({"gamma": bad}, rf"gamma must lie in \[1, inf\), got {bad}") for bad in (0.5, math.nan, math.inf)),
        *(({"mu": bad}, rf"mu must lie in \[0, inf\), got {bad}") for bad in (-1.0, math.nan, math.inf)),
        ({"warm_up_epochs": -1}, "warm_up_epochs must not be negative, got -1"),
        ({"noise": "pink"}, "noise must be one of normal, shifted, got 'pink'"),
        ({"selection": "val"}, "selection must be one of none, oracle, got 'val'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DROCC(**{**MLP, **options})


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (Ascent, {"steps": 0}, "ascent.steps must be at least 1, got 0"),
        *(
            (Ascent, {"step_size": bad}, f"ascent.step_size must be positive and finite, got {bad}")
            for bad in (0.0, math.nan, math.inf)
        ),
        (Ascent, {"project_every": 0}, "ascent.project_every must be at least 1, or end, got 0"),
        (Ascent, {"project_every": "never"}, "ascent.project_every must be at least 1, or end, got 'never'"),
        (Ascent, {"batch_norm": "off"}, "ascent.batch_norm must be one of eval, train, frozen, got 'off'"),
        (Head, {"dense": [0]}, r"head.dense must be at least 1, got \[0\]"),
        (Head, {"activation": "relu"}, "head.activation must be one of none, leaky_relu, got 'relu'"),
        (Head, {"leakiness": 1.0}, r"head.leakiness must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_arguments_of_parts_are_refused(part: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**options)


def test_outlier_exposure_needs_known_anomalies(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="DROCCOE needs known anomalies"):
        make_trainer(max_epochs=1).fit(DROCCOE(), datamodule=OneVsAll(Stripes(), 0, batch_size=16, seed=0))


def test_the_networks_of_the_paper() -> None:
    cifar = DROCC(
        encoder=partial(LeNetEncoder, conv_channels=(32, 64, 128), rep_dim=128),
        head=Head(dense=(64,), activation="leaky_relu", bias=False),
    )
    cifar.configure_for(InputSpec("image", (3, 32, 32)))
    # 3*32*25 + 32*64*25 + 64*128*25 convolutions, 2048*128 + 128*64 + 64 dense
    assert sum(weight.numel() for weight in cifar.parameters()) == 2400 + 51_200 + 204_800 + 262_144 + 8192 + 64
    table = built(encoder=partial(ENCODER, rep_dim=128))
    assert sum(weight.numel() for weight in table.parameters()) == 6 * 128 + 128 + 128 + 1


# ---- compilation -----------------------------------------------------------------------------------------------------


def fit_blobs(make_trainer: MakeTrainer, detector: DROCC, **options: Any) -> pl.Trainer:
    trainer = make_trainer(**{"max_epochs": 1, **options})
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)
    trainer.fit(detector, datamodule=data)
    return trainer


# ---- the warm-up -----------------------------------------------------------------------------------------------------


class Readiness(pl.Callback):
    """Whether the detector was ready to score at the end of each epoch."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, DROCC)
        self.seen.append(pl_module.ready_to_score())


class StopAtOnce(pl.Callback):
    """A callback that ends a fit after its first step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = True


def warming(epochs: int, cls: type[DROCC] = DROCCRand) -> DROCC:
    return cls(**{**MLP, "preprocessing": StandardizeFeatures}, warm_up_epochs=epochs)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_fit_that_ends_within_the_warm_up_is_refused(make_trainer: MakeTrainer, epochs: int) -> None:
    readiness = Readiness()
    message = rf"trainer.max_epochs counts the first phase and must exceed model.warm_up_epochs=2, got {epochs}"
    with pytest.raises(ValueError, match=message):
        fit_blobs(make_trainer, warming(2), max_epochs=epochs, callbacks=[readiness])
    assert not readiness.seen


def test_a_trial_may_warm_up(make_trainer: MakeTrainer) -> None:
    assert fit_blobs(make_trainer, warming(2), fast_dev_run=True).global_step == 1


def test_a_fit_of_too_few_steps_for_the_warm_up_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"max_steps must exceed the \d+ steps of model\.warm_up_epochs=2"):
        fit_blobs(make_trainer, warming(2), max_epochs=-1, max_steps=1)


@pytest.mark.parametrize("cls", [DROCCRand, DROCC])
def test_a_detector_is_ready_to_score_after_the_warm_up_and_from_its_checkpoint(
    cls: type[DROCC], make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    readiness, detector = Readiness(), warming(2, cls)
    assert not detector.ready_to_score()
    trainer = fit_blobs(make_trainer, detector, max_epochs=3, callbacks=[readiness])
    assert readiness.seen == [False, False, True]
    trainer.save_checkpoint(tmp_path / "warm.ckpt")
    loaded = load_detector(tmp_path / "warm.ckpt")
    assert loaded.ready_to_score()
    assert not loaded.threshold.isnan()
    trainer = fit_blobs(make_trainer, early := warming(2, cls), max_epochs=3, callbacks=[StopAtOnce()])
    trainer.save_checkpoint(tmp_path / "early.ckpt")
    assert early.threshold.isnan()
    assert not load_detector(tmp_path / "early.ckpt", unfinished=True).ready_to_score()
    assert warming(0, cls).ready_to_score()


# ---- pretrained weights ----------------------------------------------------------------------------------------------


def test_pretrained_weights_are_loaded_before_the_first_step_and_once(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), tmp_path / "weights.pt")

    def detector() -> DROCCRand:
        torch.manual_seed(0)
        encoder = partial(MobileNetV2Encoder, affine=True, weights=str(tmp_path / "weights.pt"))
        return DROCCRand(encoder=encoder, preprocessing=StandardizeChannels, optimizer=partial(Adam, lr=1e-9))

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
