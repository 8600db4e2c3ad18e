"""AMA: each term by hand, where gradients go, negatives and where they lie, turns, scores, and what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import scipy.stats
import torch
from conftest import MakeTrainer
from gan_cases import (
    OWN_OPTIMIZERS,
    OWN_SCHEDULE,
    Columns,
    OwnCritic,
    OwnEncoder,
    OwnGenerator,
    Rates,
    images,
    own_parts_train_score_and_are_resumed,
    stripes,
)
from pytorch_lightning.cli import ReduceLROnPlateau as MonitoredPlateau
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ranking_metrics
from adlightning.core.parts import described
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import AMA, SemiSupervisedAMA
from adlightning.methods.ama import CriticTurns, Interpolation, Negatives
from adlightning.methods.ama.detector import (
    a_score,
    atypical_latents,
    corners,
    mean_over,
    overwritten,
    r_score,
    reconstruction_terms,
    simplex_weights,
)
from adlightning.methods.parts.adversarial import GradientPenalty, gradient_penalty
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.preprocessing import SymmetricRange, UnitRange

NO_NEGATIVES = Negatives(kind="none")


def networks(encoder: int, generator: int, critic: int, spectral_norm: bool = True) -> dict[str, Any]:
    """Networks of these widths."""
    return {
        "encoder": partial(StridedEncoder, width=encoder),
        "generator": partial(ResidualGenerator, width=generator),
        "critic": partial(ResidualCritic, width=critic, spectral_norm=spectral_norm),
    }


def adam(lr: float) -> dict[str, Any]:
    """The paper's optimisers with another learning rate."""
    betas = {"critic": (0.0, 0.9), "generator": (0.0, 0.9), "encoder": (0.5, 0.9)}
    return {f"{name}_optimizer": partial(Adam, lr=lr, betas=pair) for name, pair in betas.items()}


SMALL: dict[str, Any] = {"latent_dim": 4, **networks(4, 8, 6)}
QUICK: dict[str, Any] = {**SMALL, "critic_turns": CriticTurns(steps=2), "first_scored_epoch": 0, **adam(1e-3)}
AT_ONCE: dict[str, Any] = {"negatives": Negatives(warm_up_epochs=0)}
CPU = torch.device("cpu")
SPEC = InputSpec("image", (1, 16, 16))


def built(**options: Any) -> AMA:
    torch.manual_seed(0)
    detector = AMA(**{**SMALL, **AT_ONCE, **options})
    detector.configure_for(SPEC)
    return detector


def training_images(data: OneVsAll) -> Tensor:
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    return x[torch.from_numpy(data.split.train)]


# ---- terms by hand ---------------------------------------------------------------------------------------------------


def test_reconstruction_terms_by_hand() -> None:
    real, made = torch.tensor([3.0, 1.0, 2.0, 0.0]), torch.tensor([1.0, 2.0, -1.0, -4.0])
    none, some = torch.zeros(4, dtype=torch.bool), torch.tensor([False, False, True, True])
    assert reconstruction_terms(real, made, none, 5).item() == pytest.approx((2 - 1 + 3 + 4) / 4)
    assert reconstruction_terms(real, made, some, 5).item() == pytest.approx((2 - 1 - 5 * (3 + 4)) / 4)
    assert mean_over(real, ~some).item() == pytest.approx(2)
    assert mean_over(real, none).item() == 0


def test_pixel_gradient_penalty_by_hand() -> None:
    # two channels, one pixel whose gradient is (3, 4) and one of (0, 0)
    x = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]], requires_grad=True)
    penalty = gradient_penalty(x.flatten(1).square().sum(dim=1) / 2, x, per_pixel=True)
    assert penalty.item() == pytest.approx(((5 - 1) ** 2 + 1) / 2, rel=1e-5)
    penalty.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_scores_by_hand() -> None:
    assert r_score(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 2.0]])).tolist() == [5]
    assert a_score(torch.tensor([1.0, 4.0]), torch.tensor(3.0)).tolist() == [4, 1]


def test_the_a_score_falls_as_the_normal_density_rises() -> None:
    r, mean, std = np.linspace(-4, 9, 50), 2.3, 1.7
    density = scipy.stats.norm.pdf(r, mean, std)
    scores = a_score(torch.from_numpy(r), torch.tensor(mean, dtype=torch.float64)).numpy()
    assert (np.argsort(scores) == np.argsort(-density)).all()
    np.testing.assert_allclose(np.exp(-scores / (2 * std**2)) / (std * math.sqrt(2 * math.pi)), density, rtol=1e-6)
    far = torch.tensor([1e3, 2e3])  # the density is 0 at both
    assert a_score(far, torch.tensor(0.0))[1] > a_score(far, torch.tensor(0.0))[0]


def test_weights_of_the_simplex() -> None:
    torch.manual_seed(0)
    paper, code = (simplex_weights(2000, 3, form, CPU) for form in ("normalized", "remainder"))
    for weights in (paper, code):
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(2000))
        assert weights.min() >= 0
        assert weights.mean(dim=0).tolist() == pytest.approx([1 / 3] * 3, abs=0.02)  # corners are alike
    # a_1 / (a_1 + a_2 + a_3) comes near 1; of the code's weights two are 0.5 at most, and one is 1 - (two of U(0, 0.5))
    assert paper.max() > 0.9
    middle = code.sort(dim=1).values
    assert middle[:, :2].max() <= 0.5
    assert code.square().sum(dim=1).mean().item() == pytest.approx(2 / 12 + (1 / 4 + 2 / 48), abs=0.01)


def test_samples_are_mixed_with_normals() -> None:
    torch.manual_seed(0)
    negative = torch.zeros(50, dtype=torch.bool)
    negative[10:20] = True
    chosen = corners(negative, 3)
    assert not negative[chosen].any()
    assert torch.equal(chosen[~negative, 0], torch.arange(50)[~negative])
    assert chosen[:, 1:].unique().numel() > 30
    assert corners(torch.ones(4, dtype=torch.bool), 2).shape == (4, 2)


# ---- negatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "low", "high"), [("inward", 1.5, 2.0), ("outward", 2.0, 2.5)])
@pytest.mark.parametrize("radius", ["sqrt_dim", "empirical"])
def test_atypical_latents_lie_in_the_annulus_in_the_directions_of_real_ones(
    direction: Any, radius: Any, low: float, high: float
) -> None:
    torch.manual_seed(0)
    latents = torch.randn(2001, 4)
    if radius == "empirical":
        latents *= 2 / latents.norm(dim=1).median()
    positions = torch.randint(2001, (2000,))
    made = atypical_latents(latents, positions, Negatives(direction=direction, delta=0.5, radius=radius))
    norms = made.norm(dim=1)
    assert low - 1e-5 <= norms.min() < low + 0.01
    assert high - 0.01 < norms.max() <= high + 1e-5
    assert norms.mean().item() == pytest.approx((low + high) / 2, abs=0.01)
    torch.testing.assert_close(torch.cosine_similarity(made, latents[positions]), torch.ones(2000))
    inside = Negatives(delta=5.0, radius="empirical")  # thicker than the radius: the rest is at the origin
    norms = atypical_latents(latents, positions, inside).norm(dim=1)
    assert norms.min() == 0
    assert norms.max() <= latents.norm(dim=1).median() + 1e-6


def test_other_atypical_latents() -> None:
    torch.manual_seed(0)
    latents, all_of_them = torch.randn(2000, 6), torch.arange(2000)

    def made(kind: Any, direction: Any = "inward") -> Tensor:
        return atypical_latents(latents, all_of_them, Negatives(kind=kind, direction=direction))

    shares = made("scaled").norm(dim=1) / latents.norm(dim=1)
    assert 0 < shares.min() < 0.01
    assert 0.49 < shares.max() <= 0.5
    assert (made("scaled", "outward").norm(dim=1) / latents.norm(dim=1)).min() >= 2
    cube = made("sipple")
    assert cube.min().item() == pytest.approx(-1, abs=0.01)
    assert cube.max().item() == pytest.approx(1, abs=0.01)
    assert cube.norm(dim=1).max() <= math.sqrt(6)
    batch = torch.tensor([[3.0, -0.5], [1.0, 2.0]])
    small = atypical_latents(batch, torch.zeros(2000, dtype=torch.long), Negatives(kind="sipple_code"))
    assert small.shape == (2000, 2)
    assert small.min() >= 0
    assert small.max().item() == pytest.approx(0.5, abs=0.01)


def test_overwritten_samples_are_the_drawn_ones() -> None:
    x, made = torch.zeros(5, 1, 2, 2), torch.arange(1.0, 4.0).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    mixed, negative = overwritten(x, made, torch.tensor([3, 0, 3]))
    assert negative.tolist() == [True, False, False, True, False]
    assert mixed[:, 0, 0, 0].tolist() == [2, 0, 0, 3, 0]


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"delta": 0.5}, 1.5, 2.0),
        ({"delta": 0.5, "direction": "outward"}, 2.0, 2.5),
        ({"delta": 1e-3, "radius": "empirical"}, None, None),
        ({"kind": "sipple"}, 0.0, 2.0),
        ({"kind": "sipple_code"}, 0.0, 0.2),
    ],
)
def test_negatives_are_a_share_of_the_batch_made_in_eval_mode(
    options: dict[str, Any], low: float | None, high: float | None
) -> None:
    detector = built(negatives=Negatives(share=0.1, warm_up_epochs=0, **options))
    of_encoder: list[Tensor] = []
    of_generator: list[Tensor] = []
    detector.encoder.register_forward_hook(lambda *_: of_encoder.append(_[-1]))
    detector.generator.register_forward_hook(lambda *_: of_generator.append(_[1][0]))
    networks = torch.nn.ModuleList(detector.players.networks.values())
    before = copy.deepcopy(networks.state_dict())
    x = detector.preprocess(images(100))
    mixed, negative = detector.with_negatives(x, torch.zeros(100))
    (latents,), (made,) = of_encoder, of_generator
    assert len(made) == 10
    assert 5 <= negative.sum() <= 10
    assert torch.equal(mixed[~negative], x[~negative])
    assert not mixed.requires_grad
    norms = made.norm(dim=1)
    median = latents.norm(dim=1).median().item()
    assert (median - 2e-3 if low is None else low) - 1e-5 <= norms.min()
    assert norms.max() <= (median + 1e-6 if high is None else high) + 1e-5
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())
    assert detector.encoder.training
    assert detector.generator.training
    expected = detector.eval().generator(made)
    distances = torch.cdist(mixed[negative].flatten(1), expected.flatten(1)).min(dim=1).values
    assert distances.max() < 1e-3
    torch.testing.assert_close(detector.encoder(x), latents)


@pytest.mark.parametrize("options", [{"kind": "none"}, {"warm_up_epochs": 1}, {"weight": 0.0}])
def test_there_are_no_negatives_without_need(options: dict[str, Any]) -> None:
    x, negatives = torch.randn(10, 1, 16, 16), Negatives(**{"warm_up_epochs": 0, **options})
    mixed, negative = built(negatives=negatives).with_negatives(x, torch.zeros(10))
    assert mixed is x
    assert not negative.any()


def test_a_fit_that_ends_before_there_are_negatives_says_so(make_trainer: MakeTrainer) -> None:
    with pytest.warns(UserWarning, match=r"max_epochs=1 ends within model.negatives.warm_up_epochs=10: no negatives"):
        make_trainer(max_epochs=1).fit(AMA(**QUICK), datamodule=stripes())


def test_a_last_batch_too_small_for_a_negative_has_none() -> None:
    x = torch.randn(9, 1, 16, 16)
    mixed, negative = built().with_negatives(x, torch.zeros(9))
    assert mixed is x
    assert negative.tolist() == [False] * 9
    assert built().with_negatives(torch.randn(10, 1, 16, 16), torch.zeros(10))[1].sum() == 1


def test_negatives_begin_after_the_warm_up(make_trainer: MakeTrainer) -> None:
    seen: list[int] = []

    class Watched(AMA):
        def with_negatives(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
            x, negative = super().with_negatives(x, known)
            seen.append(int(negative.sum()))
            return x, negative

    torch.manual_seed(0)
    make_trainer(max_epochs=3).fit(Watched(**QUICK, negatives=Negatives(warm_up_epochs=1)), datamodule=stripes())
    assert seen[:3] == [0, 0, 0]
    assert all(1 <= n <= 2 for n in seen[3:])


def test_known_anomalies_take_the_place_of_generated_negatives(make_trainer: MakeTrainer) -> None:
    x, known = torch.randn(4, 1, 16, 16), torch.tensor([0, -1, 1, -1])
    detector = SemiSupervisedAMA(**QUICK)
    detector.configure_for(SPEC)
    same, negative = detector.with_negatives(x, known)
    assert same is x
    assert negative.tolist() == [False, True, False, True]
    labels = {"labelled_anomaly_ratio": 0.1, "labelled_classes": ["middle"]}
    make_trainer(max_epochs=1).fit(detector, datamodule=stripes(**labels))
    data = stripes(**labels)
    data.setup("fit")
    rows, known_rows = data.training_rows()
    raw = data.train_samples.x
    assert isinstance(raw, Tensor)
    normals = raw[torch.from_numpy(rows[known_rows != -1])]
    with torch.no_grad():
        r = detector.eval().r_scores(normals)
    assert len(rows) > len(normals) > 0
    assert detector.r_mean.item() == pytest.approx(r.mean().item(), rel=1e-4)
    with pytest.raises(ValueError, match="SemiSupervisedAMA needs known anomalies"):
        make_trainer().fit(SemiSupervisedAMA(**QUICK), datamodule=stripes())


# ---- gradients and turns ---------------------------------------------------------------------------------------------


class Watch(pl.Callback):
    """The gradients that each optimiser steps by, in order, and whose weights had moved since the step before."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Tensor]] = []
        self.moved: list[set[str]] = []
        self.before: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        names = list(pl_module.players.networks)
        gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
        self.steps.append((names[trainer.optimizers.index(optimizer)], torch.cat(gradients).clone()))
        now = {
            name: torch.cat([p.detach().flatten() for p in player.parameters()]).clone()
            for name, player in pl_module.players.networks.items()
        }
        self.moved.append({name for name in self.before if not torch.equal(now[name], self.before[name])})
        self.before = now

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.steps]


def watched(make_trainer: MakeTrainer, batches: int = 1, **options: Any) -> Watch:
    torch.manual_seed(0)
    detector, watch = AMA(**{**QUICK, **AT_ONCE, **options}), Watch()
    pl.seed_everything(1, verbose=False)
    make_trainer(max_epochs=1, limit_train_batches=batches, callbacks=[watch]).fit(detector, datamodule=stripes())
    return watch


def test_players_move_in_turn(make_trainer: MakeTrainer) -> None:
    watch = watched(make_trainer, batches=2, critic_turns=CriticTurns(steps=3))
    turn = ["critic"] * 3 + ["encoder", "generator"]
    assert watch.order == turn * 2
    assert watch.moved[1:] == [{name} for name in watch.order[:-1]]


def test_fresh_batches_are_a_step_each(make_trainer: MakeTrainer) -> None:
    watch = watched(make_trainer, batches=3, critic_turns=CriticTurns(steps=3, fresh_batches=True))
    assert watch.order == ["critic"] * 3 + ["encoder", "generator"]


def gradients(watch: Watch, player: str) -> Tensor:
    return next(gradient for name, gradient in watch.steps if name == player)


def test_interpolated_images_train_whom_they_shall(make_trainer: MakeTrainer) -> None:
    who: list[Any] = ["none", "G", "EG"]
    none, generator, both = (
        watched(make_trainer, interpolation=Interpolation(gradient=player), negatives=NO_NEGATIVES) for player in who
    )
    for watch in (generator, both):
        assert torch.equal(gradients(watch, "critic"), gradients(none, "critic"))
        assert not torch.allclose(gradients(watch, "generator"), gradients(none, "generator"), rtol=1e-3)
    torch.testing.assert_close(gradients(generator, "encoder"), gradients(none, "encoder"), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gradients(both, "encoder"), gradients(none, "encoder"), rtol=1e-3)
    left_out = watched(make_trainer, interpolation=Interpolation(weight=0.0), negatives=NO_NEGATIVES)
    assert not torch.allclose(gradients(left_out, "critic"), gradients(none, "critic"), rtol=1e-3)


def test_the_norms_train_the_encoder_alone(make_trainer: MakeTrainer) -> None:
    free, bound = (watched(make_trainer, lambda_reg=weight) for weight in (0.0, 1.0))
    assert torch.equal(gradients(free, "generator"), gradients(bound, "generator"))
    assert not torch.allclose(gradients(free, "encoder"), gradients(bound, "encoder"), rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"penalty": GradientPenalty(mode="per_pixel")}, {"penalty": GradientPenalty(weight=0.0)}, {"mirrored": False}],
)
def test_penalties_and_pairs_change_what_the_critic_learns(make_trainer: MakeTrainer, options: dict[str, Any]) -> None:
    usual, other = gradients(watched(make_trainer), "critic"), gradients(watched(make_trainer, **options), "critic")
    assert usual.shape != other.shape or not torch.allclose(usual, other, rtol=1e-3)


def test_the_penalty_bounds_the_critics_gradient_along_the_second_image(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    options = {
        **networks(4, 8, 6, spectral_norm=False),
        "interpolation": Interpolation(weight=0.0),
        "negatives": NO_NEGATIVES,
        "critic_turns": CriticTurns(steps=100),
        **adam(3e-3),
    }
    norms = []
    for weight in (0.0, 10.0):
        detector = AMA(**{**QUICK, **options, "penalty": GradientPenalty(weight=weight)})
        make_trainer(max_epochs=1, limit_train_batches=1).fit(detector, datamodule=stripes())
        x = torch.full((1, 1, 16, 16), 0.5)
        pairs = detector.eval().pairs(x, x + 0.1).requires_grad_()
        (gradient,) = torch.autograd.grad(detector.critic(pairs).sum(), pairs)
        norms.append(gradient.norm().item())
    assert norms[1] < 3 < norms[0]


# ---- fits and scores -------------------------------------------------------------------------------------------------


def fitted(make_trainer: MakeTrainer, epochs: int = 2, seed: int = 0, **options: Any) -> tuple[AMA, OneVsAll]:
    pl.seed_everything(seed, verbose=False)
    detector, data = AMA(**{**QUICK, "negatives": Negatives(warm_up_epochs=1), **options}), stripes()
    make_trainer(max_epochs=epochs).fit(detector, datamodule=data)
    return detector.eval(), data


@pytest.mark.parametrize("options", [{}, {"mirrored": False}, {"score_type": "R"}])
def test_moments_and_scores_follow_the_definition(make_trainer: MakeTrainer, options: dict[str, Any]) -> None:
    detector, data = fitted(make_trainer, **options)
    x = images(6)
    with torch.no_grad():
        prepared = x.float() / 127.5 - 1
        made = detector.generator(detector.encoder(prepared))
        torch.testing.assert_close(detector.reconstructions(x), made)
        real, other = prepared, made
        if detector.mirrored:
            real, other = torch.cat([prepared, prepared], dim=1), torch.cat([prepared, made], dim=1)
        r = (detector.critic.features(real) - detector.critic.features(other)).abs().sum(dim=1)
        train = detector.r_scores(training_images(data)).double()
        assert detector.r_mean.item() == pytest.approx(train.mean().item(), rel=1e-4)
        assert detector.r_std.item() == pytest.approx(train.std(correction=0).item(), rel=1e-3)
        expected = r if detector.score_type == "R" else (r - train.mean()).square().float()
        torch.testing.assert_close(detector.anomaly_score(x), expected, rtol=1e-3, atol=1e-4)


def test_scores_do_not_depend_on_batch_or_company(make_trainer: MakeTrainer) -> None:
    detector, _ = fitted(make_trainer)
    x, order = images(9), torch.tensor([4, 2, 7, 0])
    with torch.no_grad():
        whole = detector.anomaly_score(x)
        torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(detector.anomaly_score(x[3:4]), whole[3:4], rtol=1e-4, atol=1e-5)
    assert whole.std() > 0


def test_learning_lowers_the_error_of_reconstruction(make_trainer: MakeTrainer) -> None:
    def error(epochs: int) -> float:
        detector, data = fitted(make_trainer, epochs, critic_turns=CriticTurns(steps=3), **adam(3e-3))
        x = training_images(data)[:20]
        with torch.no_grad():
            return float((detector.reconstructions(x) - detector.preprocess(x)).square().mean())

    assert error(8) < 0.5 * error(1)


def test_anomalies_score_higher(make_trainer: MakeTrainer) -> None:
    pl.seed_everything(0, verbose=False)
    options = {**QUICK, **networks(8, 8, 8), "critic_turns": CriticTurns(steps=3), **adam(3e-3)}
    detector, data = AMA(**options, negatives=Negatives(warm_up_epochs=1)), stripes()
    trainer = make_trainer(max_epochs=8)
    trainer.fit(detector, datamodule=data)
    for score in ("A", "R"):
        detector.score_type = score
        trainer.test(detector, datamodule=data, verbose=False)
        tested = detector.results["test"]
        assert ranking_metrics(tested.scores, tested.labels)["auroc"] > 0.9, score


def test_checkpoint_round_trip(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = AMA(**QUICK), stripes(validation_fraction=0.2)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector, datamodule=data)
    trainer.save_checkpoint(tmp_path / "ama.ckpt")
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"].scores
    assert len(tested) == 90
    loaded = load_detector(tmp_path / "ama.ckpt")
    assert isinstance(loaded, AMA)
    assert loaded.ready_to_score()
    assert described(loaded.arguments) == described(detector.arguments)
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    with torch.no_grad():
        torch.testing.assert_close(loaded.anomaly_score(x), torch.from_numpy(tested).float(), rtol=1e-4, atol=1e-5)
    assert math.isfinite(detector.threshold.item())


def test_a_resumed_run_goes_on_with_its_turns_and_its_negatives(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def fit(epochs: int, **options: Any) -> tuple[AMA, Watch]:
        torch.manual_seed(0)
        turns = CriticTurns(steps=2, fresh_batches=True)
        detector = AMA(**{**QUICK, "critic_turns": turns}, negatives=Negatives(warm_up_epochs=1))
        watch = Watch()
        trainer = make_trainer(max_epochs=epochs, callbacks=[watch])
        trainer.fit(detector, datamodule=stripes(), **options)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return detector, watch

    first, watch = fit(1)
    assert watch.order == ["critic", "critic", "encoder", "generator", "critic"]
    second, watch = fit(2, ckpt_path=tmp_path / "last.ckpt")
    assert watch.order == ["critic", "encoder", "generator", "critic", "critic", "encoder", "generator"]
    assert second.has_fit
    assert not torch.equal(second.r_mean, first.r_mean)


def test_every_validation_has_scores_of_its_own_weights_from_the_first_scored_epoch_on(
    make_trainer: MakeTrainer,
) -> None:
    logged: list[bool] = []
    means: list[float] = []

    class Look(pl.Callback):
        def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            logged.append(pl_module.ready_to_score())
            means.append(pl_module.r_mean.item())

    torch.manual_seed(0)
    detector = AMA(**{**QUICK, "first_scored_epoch": 1})
    data = stripes(validation_fraction=0.2, validation_anomalies=10, batch_size=16)
    trainer = make_trainer(max_epochs=3, callbacks=[Look()], val_check_interval=0.34)
    trainer.fit(detector, datamodule=data)
    assert logged == [False] * 3 + [True] * 6
    assert len(set(means[3:])) == 6
    assert 0 <= trainer.callback_metrics["val/auroc"] <= 1
    early = AMA(**{**QUICK, "first_scored_epoch": 50})
    make_trainer(max_epochs=1).fit(early, datamodule=stripes(validation_fraction=0.2))
    assert early.ready_to_score()
    assert torch.isfinite(early.threshold)


def test_half_precision(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    detector, data = AMA(**QUICK, **AT_ONCE), stripes()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    before = copy.deepcopy(dict(detector.named_parameters()))
    make_trainer(max_epochs=1, precision="bf16-mixed").fit(detector, datamodule=data)
    assert torch.isfinite(detector.r_mean)
    for name, weight in detector.named_parameters():
        assert weight.isfinite().all()
        assert not torch.equal(weight, before[name]), name


@pytest.mark.parametrize(("kind", "lambda_reg", "warned"), [("annulus", 100.0, True), ("none", 1.0, False)])
def test_latents_far_from_the_annulus_are_told_of_once(
    make_trainer: MakeTrainer, kind: Any, lambda_reg: float, warned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    torch.manual_seed(0)
    negatives = Negatives(kind=kind, warm_up_epochs=1, delta=0.5)
    detector = AMA(**{**QUICK, **adam(1e-2), "latent_dim": 16, "negatives": negatives, "lambda_reg": lambda_reg})
    make_trainer(max_epochs=4).fit(detector, datamodule=stripes())
    told = [str(w.message) for w in recwarn if "median norm of latents" in str(w.message)]
    assert len(told) == int(warned)
    norms = [row["latent_norm"] for row in detector.curves.rows]
    assert len(norms) == 12
    if warned:
        assert norms[-1] < 2
        assert "sqrt(latent_dim) = 4" in told[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"first_scored_epoch": -1}, "first_scored_epoch must not be negative, got -1"),
        ({"lambda_reg": -1.0}, "lambda_reg must not be negative, got -1.0"),
        ({"lambda_reg": math.nan}, "lambda_reg must not be negative, got nan"),
        ({"score_type": "B"}, "score_type must be one of A, R, got 'B'"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive and finite, or null for no bound, got 0.0"),
        ({"negatives": Negatives(delta=2.1)}, r"negatives.delta must not exceed sqrt\(latent_dim\) = 2, got 2.1"),
        ({"encoder": StridedEncoder((1, 16, 16), 4)}, "encoder must be a subclass of Module"),
        ({"critic_optimizer": ResidualCritic}, "critic_optimizer must be a subclass of Optimizer"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AMA(**{**SMALL, **options})
    if "negatives" not in options:
        with pytest.raises(ValueError, match=message):
            SemiSupervisedAMA(**{**SMALL, **options})


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (CriticTurns, {"steps": 0}, "critic_turns.steps must be at least 1, got 0"),
        (Interpolation, {"points": 1}, "interpolation.points must be at least 2, got 1"),
        (Interpolation, {"simplex": "remainder", "points": 4}, "interpolation.points must be 2 or 3 with simplex: rem"),
        (Interpolation, {"weight": -1.0}, "interpolation.weight must not be negative, got -1.0"),
        (Interpolation, {"simplex": "flat"}, "interpolation.simplex must be one of normalized, remainder, got 'flat'"),
        (Interpolation, {"gradient": "D"}, "interpolation.gradient must be one of none, G, EG, got 'D'"),
        (GradientPenalty, {"weight": -1.0}, "weight must not be negative, got -1.0"),
        (GradientPenalty, {"mode": "sum"}, "mode must be one of per_sample, per_pixel, got 'sum'"),
        (Negatives, {"weight": -1.0}, "negatives.weight must not be negative, got -1.0"),
        (Negatives, {"warm_up_epochs": -1}, "negatives.warm_up_epochs must not be negative, got -1"),
        (
            Negatives,
            {"kind": "far"},
            "negatives.kind must be one of annulus, scaled, sipple, sipple_code, none, got 'f",
        ),
        (Negatives, {"direction": "up"}, "negatives.direction must be one of inward, outward, got 'up'"),
        (Negatives, {"radius": "one"}, "negatives.radius must be one of sqrt_dim, empirical, got 'one'"),
        (Negatives, {"delta": 0.0}, "negatives.delta must be positive and finite, got 0"),
        (Negatives, {"share": 0.0}, r"negatives.share must lie in \(0, 1\], got 0"),
        (Negatives, {"share": 1.1}, r"negatives.share must lie in \(0, 1\], got 1.1"),
    ],
)
def test_parts_outside_their_range_are_refused(part: type[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**options)
    if part is Negatives and "weight" in options:
        with pytest.raises(ValueError, match=r"lambda_neg must not be negative, got -1.0"):
            SemiSupervisedAMA(**SMALL, lambda_neg=-1.0)


def test_batches_without_a_negative_and_images_of_other_sides_are_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"negatives.share must amount to at least one .* got 0.04 of 20"):
        make_trainer().fit(AMA(**SMALL, negatives=Negatives(share=0.04)), datamodule=stripes())
    AMA(**SMALL, negatives=Negatives(delta=2.1, direction="outward"))
    for cls in (AMA, SemiSupervisedAMA):
        with pytest.raises(ValueError, match="square images"):
            cls(**SMALL).configure_for(InputSpec("image", (1, 16, 32)))
        for name in ("encoder", "generator", "critic"):
            thin = {**SMALL, name: partial(SMALL[name].func, width=0)}
            with pytest.raises(ValueError, match="width must be at least 1, got 0"):
                cls(**thin).configure_for(SPEC)


# ---- parts of one's own ----------------------------------------------------------------------------------------------


class Unfitting(OwnEncoder):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, 1:])


class Featureless(OwnCritic):
    features = None  # type: ignore[assignment]


def test_networks_optimisers_and_a_schedule_of_ones_own_train_score_and_are_resumed_to_the_bit(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    own: dict[str, Any] = {
        "encoder": OwnEncoder,
        "generator": partial(OwnGenerator, hidden=12),
        "critic": OwnCritic,
        "critic_optimizer": OWN_OPTIMIZERS["AdamW"],
        "generator_optimizer": OWN_OPTIMIZERS["SGD"],
        "encoder_optimizer": OWN_OPTIMIZERS["AdamW"],
        "lr_scheduler": OWN_SCHEDULE,
        "max_gradient_norm": 1.0,
    }
    first = {"critic": 2e-3, "generator": 1e-2, "encoder": 2e-3}
    whole = own_parts_train_score_and_are_resumed(
        make_trainer, tmp_path, lambda: AMA(**{**QUICK, **AT_ONCE, **own}), first
    )
    assert all(not p.requires_grad for p in whole.get_submodule("generator.frozen").parameters())


def rates_of(make_trainer: MakeTrainer, folder: Path, epochs: int, resumed: bool, **options: Any) -> list[list[float]]:
    """Learning rates of critic, generator and encoder at the start of each epoch; a checkpoint after them all."""
    torch.manual_seed(0)
    networks: dict[str, Any] = {"encoder": OwnEncoder, "generator": OwnGenerator, "critic": OwnCritic}
    rates, detector = Rates(), AMA(**{**QUICK, **AT_ONCE, **networks}, **options)
    trainer = make_trainer(max_epochs=epochs, callbacks=[rates])
    trainer.fit(detector, datamodule=stripes(), ckpt_path=folder / "last.ckpt" if resumed else None)
    trainer.save_checkpoint(folder / "last.ckpt")
    return [list(seen.values()) for seen in rates.rates]


def test_a_schedule_by_steps_goes_by_those_of_its_player(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    cycle = partial(OneCycleLR, max_lr=1e-2, total_steps=20)
    expected = Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, at = OneCycleLR(expected, max_lr=1e-2, total_steps=20), []
    for _ in range(18):
        at.append(expected.param_groups[0]["lr"])
        expected.step()
        schedule.step()
    # an epoch has three batches: six steps of the critic, three of the others
    wanted = [pytest.approx([at[6 * epoch], at[3 * epoch], at[3 * epoch]]) for epoch in range(3)]
    options: dict[str, Any] = {"lr_scheduler": cycle, "lr_scheduler_interval": "step"}
    assert rates_of(make_trainer, tmp_path, 2, resumed=False, **options) == wanted[:2]
    assert rates_of(make_trainer, tmp_path, 3, resumed=True, **options) == wanted[2:]


def test_a_schedule_may_watch_a_metric(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    halved = partial(ReduceLROnPlateau, threshold=1e9, patience=0, factor=0.5)  # no loss is a billion times better
    wanted = [pytest.approx([rate] * 3) for rate in (1e-3, 5e-4, 2.5e-4)]
    assert rates_of(make_trainer, tmp_path, 2, resumed=False, lr_scheduler=halved) == wanted[:2]
    assert rates_of(make_trainer, tmp_path, 3, resumed=True, lr_scheduler=halved) == wanted[2:]
    unknown = partial(MonitoredPlateau, monitor="train/lost")
    with pytest.raises(ValueError, match=r"monitor=train/lost is not logged: what is logged is .*train/loss"):
        rates_of(make_trainer, tmp_path, 1, resumed=False, lr_scheduler=unknown)
    unknown = partial(MonitoredPlateau, monitor="val/auroc")
    with pytest.raises(ValueError, match=r"monitor=val/auroc needs validation of the trained detector"):
        rates_of(make_trainer, tmp_path, 1, resumed=False, lr_scheduler=unknown)


WRONG: dict[str, Any] = {"depth": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic": Featureless}, r"critic must have a method features that gives \(B, n\) for \(B, 2, 16, 16\), Feat"),
        ({"critic": Columns}, r"critic must give \(B,\) for \(B, 2, 16, 16\), Columns gives \(B, 1\)"),
        ({"encoder": partial(OwnEncoder, **WRONG)}, "encoder cannot be made for .*depth"),
        ({"generator": OwnEncoder}, "generator cannot be made for 4, "),
        ({"encoder": Unfitting}, r"encoder: Unfitting does not take \(B, 1, 16, 16\): "),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AMA(**{**SMALL, **options}).configure_for(SPEC)


def test_sides_and_ranges_follow_the_data() -> None:
    resized = partial(SymmetricRange, resize=32)
    for shape, preprocessing in (((1, 8, 8), SymmetricRange), ((3, 28, 28), resized), ((3, 28, 28), UnitRange)):
        detector = AMA(**SMALL, preprocessing=preprocessing)
        detector.configure_for(InputSpec("image", shape))
        x: Sequence[int] = detector.reconstructions(torch.zeros(2, *shape, dtype=torch.uint8)).shape[1:]
        assert tuple(x) == ((3, 32, 32) if preprocessing is resized else shape)
    made = detector.reconstructions(torch.zeros(2, 3, 28, 28, dtype=torch.uint8))
    assert made.min() >= 0
