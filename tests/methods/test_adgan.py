"""ADGAN and AnoGAN: the WGAN's losses and turns, the search against a loop over pairs, scores, and what is refused."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from gan_cases import images, stripes
from torch import Tensor, nn

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.methods import ADGAN, AnoGAN
from adlightning.methods.adgan import prior_surprise
from adlightning.methods.anogan import anogan_loss
from adlightning.methods.parts.adversarial import between, gradient_penalty
from adlightning.methods.parts.inversion import Inversion, pairs_that_fit, squared_distance, starting_latents
from adlightning.methods.parts.searching import mean_over_seeds
from adlightning.methods.parts.wgan import critic_loss, critic_steps_due, generator_loss
from adlightning.networks.gan import DCGANCritic, DCGANGenerator, stages

SMALL: dict[str, Any] = {"latent_dim": 8, "width": 4, "preprocessing": "symmetric", "critic_bursts": False}
SPEC = InputSpec("image", (1, 16, 16))


def built(cls: type[ADGAN] | type[AnoGAN] = ADGAN, **options: Any) -> ADGAN | AnoGAN:
    torch.manual_seed(0)
    detector = cls(**{**SMALL, **options})
    detector.configure_for(SPEC)
    # statistics and weights of a network that was trained
    for module in detector.generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
    return detector.eval()


# ---- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "expected"), [(8, (4, 1)), (16, (4, 2)), (28, (7, 2)), (32, (4, 3)), (64, (4, 4)), (48, (6, 3))]
)
def test_side_is_a_first_map_and_doublings(side: int, expected: tuple[int, int]) -> None:
    assert stages(side) == expected


@pytest.mark.parametrize("side", [4, 7, 9, 30, 18])
def test_other_sides_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match=f"side of 4 to 7 times a power of 2 .* got {side}"):
        stages(side)


@pytest.mark.parametrize("kernel_size", [3, 4])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_generator_and_critic_fit_images_of_each_size(shape: tuple[int, int, int], kernel_size: int) -> None:
    generator = DCGANGenerator(shape, latent_dim=5, width=2, kernel_size=kernel_size)
    critic = DCGANCritic(shape, width=2, kernel_size=kernel_size)
    made = generator(torch.randn(3, 5))
    assert made.shape == (3, *shape)
    assert made.abs().max() <= 1
    assert critic(made).shape == (3,)


def test_paper_size_of_the_generator_for_32_pixels() -> None:
    widths = [m.out_channels for m in DCGANGenerator((3, 32, 32), 256).modules() if isinstance(m, nn.ConvTranspose2d)]
    assert widths == [256, 128, 64, 3]


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="square images"):
        DCGANGenerator((1, 16, 32), 8)


# ---- the WGAN --------------------------------------------------------------------------------------------------------


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([0.5, -0.5, 3.0])
    assert critic_loss(real, fake).item() == pytest.approx(1 - 2)
    assert generator_loss(fake).item() == pytest.approx(-1)


def test_gradient_penalty_by_hand() -> None:
    x = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]], requires_grad=True)
    values = x.flatten(1).square().sum(dim=1) / 2  # gradient x, norms 5 and 0
    penalty = gradient_penalty(values, x)
    assert penalty.item() == pytest.approx(((5 - 1) ** 2 + (0 - 1) ** 2) / 2, rel=1e-5)
    penalty.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    # d/dx mean (||x|| - 1)^2 = (||x|| - 1) x / ||x||, of two samples
    assert torch.allclose(x.grad[0], torch.tensor([[4 * 3 / 5, 4 * 4 / 5]]), atol=1e-4)


def test_points_between_are_on_the_lines_one_a_pair() -> None:
    real, fake = torch.zeros(50, 2, 3), torch.ones(50, 2, 3)
    middle = between(real, fake)
    assert middle.requires_grad
    shares = middle.detach().flatten(1)
    assert torch.equal(shares, shares[:, :1].expand_as(shares))
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares[:, 0].unique().numel() == 50


def test_turns_of_the_critic() -> None:
    due = [critic_steps_due(n, 5, bursts=True) for n in (0, 24, 25, 499, 500, 501, 1000)]
    assert due == [100, 100, 5, 5, 100, 5, 100]
    assert critic_steps_due(0, 5, bursts=False) == 5
    assert critic_steps_due(0, 200, bursts=True) == 200


@pytest.mark.parametrize("lipschitz", ["clipping", "penalty"])
def test_a_batch_moves_the_critic_and_the_fifth_the_generator(make_trainer: MakeTrainer, lipschitz: Any) -> None:
    torch.manual_seed(0)
    detector = ADGAN(**SMALL, lipschitz=lipschitz, critic_steps=2, clip=0.02)
    seen: list[tuple[bool, bool]] = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            self.before = copy.deepcopy([detector.critic.state_dict(), detector.generator.state_dict()])

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            now = [detector.critic.state_dict(), detector.generator.state_dict()]
            moved = [
                any(not torch.equal(after[key], old[key]) for key in old if "weight" in key)
                for old, after in zip(self.before, now, strict=True)
            ]
            seen.append((moved[0], moved[1]))

    make_trainer(max_epochs=2, callbacks=[Watch()]).fit(detector, datamodule=stripes())
    assert seen == [(True, False), (True, True)] * 3
    assert detector.steps_taken.tolist() == [0, 3]
    assert len(detector.curves.rows) == 6
    largest = max(weight.abs().max().item() for weight in detector.critic.parameters())
    assert (largest <= 0.02) == (lipschitz == "clipping")
    has_batch_norm = any(isinstance(m, nn.BatchNorm2d) for m in detector.critic.modules())
    assert has_batch_norm == (lipschitz == "clipping")


def test_a_resumed_run_takes_its_turns_where_it_stood(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def fit(epochs: int, **options: Any) -> ADGAN:
        torch.manual_seed(0)
        detector = ADGAN(**SMALL, critic_steps=2)
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(detector, datamodule=stripes(), **options)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return detector

    assert fit(1).steps_taken.tolist() == [1, 1]
    assert fit(2, ckpt_path=tmp_path / "last.ckpt").steps_taken.tolist() == [0, 3]


@pytest.mark.parametrize("lipschitz", ["clipping", "penalty"])
def test_both_players_move_in_half_precision(make_trainer: MakeTrainer, lipschitz: Any) -> None:
    torch.manual_seed(0)
    options = {**SMALL, "critic_steps": 1, "optimizer": "adam", "lr": 1e-3, "lipschitz": lipschitz}
    detector, data = ADGAN(**options, n_steps=1), stripes()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    before = copy.deepcopy(dict(detector.named_parameters()))
    make_trainer(max_epochs=1, precision="bf16-mixed").fit(detector, datamodule=data)
    for name, weight in detector.named_parameters():
        assert weight.isfinite().all()
        assert not torch.equal(weight, before[name]), name


def test_learning_rates_follow_the_epochs_and_gradients_are_bounded(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    detector = ADGAN(**SMALL, critic_steps=1, lr=1e-3, lr_milestones=[1], max_gradient_norm=1e-3)
    norms: list[float] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())

    trainer = make_trainer(max_epochs=2, callbacks=[Watch()])
    trainer.fit(detector, datamodule=stripes())
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [pytest.approx(1e-4)] * 2
    assert max(norms) == pytest.approx(1e-3, rel=1e-2)


# ---- the search ------------------------------------------------------------------------------------------------------


def loop(search: Inversion, generator: nn.Module, x: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Latents and losses of the search, one pair at a time, each with a copy of the generator and optimisers."""
    latents, losses = [], []
    for sample, start in zip(x, starts, strict=True):
        network, z = copy.deepcopy(generator).eval(), start[None].clone().requires_grad_()
        groups = [{"params": [z], "lr": search.lr_latent}]
        if search.lr_weights:
            groups.append({"params": list(network.parameters()), "lr": search.lr_weights})
        optimizers = [torch.optim.Adam([group], betas=search.betas) for group in groups]
        for _ in range(search.n_steps):
            for turn in [[o] for o in optimizers] if search.alternating else [optimizers]:
                network.zero_grad()
                z.grad = None
                (network(z) - sample[None]).square().sum().backward()
                for optimizer in turn:
                    optimizer.step()
        latents.append(z.detach()[0])
        losses.append((network(z) - sample[None]).square().sum().detach())
    return torch.stack(latents), torch.stack(losses)


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize("lr_weights", [0.0, 1e-2])
def test_the_search_equals_a_loop_over_pairs(lr_weights: float, alternating: bool) -> None:
    generator = built().generator
    before = copy.deepcopy(generator.state_dict())
    torch.manual_seed(1)
    x, starts = torch.rand(5, 1, 16, 16) * 2 - 1, torch.randn(5, 8)
    search = Inversion(4, lr_latent=0.25, lr_weights=lr_weights, alternating=alternating)
    latents, losses, made = search(generator, x, starts, chunk_size=2)
    expected_latents, expected_losses = loop(search, generator, x, starts)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-4, atol=0)
    torch.testing.assert_close(latents, expected_latents, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(squared_distance(made, x), losses)
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name])


def test_weights_and_updates_at_one_point_matter() -> None:
    generator = built().generator
    torch.manual_seed(1)
    x, starts = torch.rand(2, 1, 16, 16) * 2 - 1, torch.randn(2, 8)

    def losses(**options: Any) -> Tensor:
        return Inversion(4, **options)(generator, x, starts, 2)[1]

    both = losses(lr_weights=1e-2)
    assert (both < losses(lr_weights=0.0)).all()
    assert not torch.allclose(both, losses(lr_weights=1e-2, alternating=True), rtol=1e-3)


def test_every_step_is_told() -> None:
    steps: list[tuple[int, int]] = []
    generator = built().generator
    x, starts = torch.zeros(3, 1, 16, 16), torch.randn(3, 8)
    for alternating in (False, True):
        steps.clear()
        Inversion(2, alternating=alternating)(generator, x, starts, 3, lambda i, made: steps.append((i, len(made))))
        assert steps == [(0, 3), (1, 3), (2, 3)]


def test_latents_are_drawn_by_what_is_in_a_sample() -> None:
    x = images(4)
    latents = starting_latents(x, 3, 8, seed=0)
    assert latents.shape == (4, 3, 8)
    assert torch.equal(starting_latents(x[[2, 0]], 1, 8, seed=0), latents[[2, 0], :1])
    flat = latents.flatten(0, 1)
    assert len(flat.unique(dim=0)) == 12
    assert not torch.equal(starting_latents(x, 3, 8, seed=1), latents)
    many = starting_latents(images(200), 2, 64, seed=0)
    assert abs(many.mean().item()) < 0.02
    assert many.std().item() == pytest.approx(1, abs=0.02)


def test_chunks_on_a_cpu_take_half_a_gibibyte() -> None:
    with torch.device("meta"):
        paper, huge = DCGANGenerator((3, 32, 32), 256), DCGANGenerator((3, 64, 64), 4096, 512)
    assert 5 <= pairs_that_fit(paper, 3072, torch.device("cpu")) <= 15
    assert pairs_that_fit(huge, 12288, torch.device("cpu")) == 1


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_parts_of_the_scores_by_hand() -> None:
    assert mean_over_seeds(torch.tensor([1.0, 3.0, 10.0, 20.0]), 2).tolist() == [2, 15]
    assert prior_surprise(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).tolist() == [12.5, 0.5]
    made, x = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[0.5, 1.0]]])
    made_features, features = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    assert anogan_loss(made, x, made_features, features, 0.1).tolist() == pytest.approx([0.9 * 2.5 + 0.1 * 4])


def test_score_is_the_mean_of_the_searches_of_each_seed() -> None:
    detector, x = built(n_seeds=3, n_steps=2), images(4)
    starts = starting_latents(x, 3, 8, seed=0)
    prepared = x.float() / 127.5 - 1
    search = Inversion(2)
    by_seed = torch.stack([search(detector.generator, prepared, starts[:, j], 4)[1] for j in range(3)])
    torch.testing.assert_close(detector.anomaly_score(x), by_seed.mean(dim=0))
    assert torch.equal(detector.reconstructions(x), detector.search(x)[2].view(4, 3, 1, 16, 16)[:, 0])


@pytest.mark.parametrize(
    "options", [{"score_type": "inversion"}, {"score_type": "critic"}, {"score_type": "prior"}, None]
)
def test_scores_do_not_depend_on_batch_chunk_or_company(options: dict[str, Any] | None) -> None:
    detector = built(AnoGAN, n_steps=3) if options is None else built(n_seeds=2, n_steps=3, **options)
    x = images(7)
    whole = detector.anomaly_score(x)
    detector.chunk_size = 3
    order = torch.tensor([4, 2, 6, 0])
    torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(detector.anomaly_score(x[3:4]), whole[3:4], rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        torch.testing.assert_close(detector.anomaly_score(x.clone()), whole, rtol=1e-5, atol=1e-6)
    assert whole.std() > 0


def test_what_the_generator_makes_is_more_normal_than_noise() -> None:
    detector = built(n_seeds=2, n_steps=20)
    torch.manual_seed(3)
    with torch.no_grad():
        made = ((detector.generator(torch.randn(10, 8)) + 1) * 127.5).round().to(torch.uint8)
    assert detector.anomaly_score(made).max() < detector.anomaly_score(images(10)).min()


def test_the_critics_score_is_its_negative_value() -> None:
    detector, x = built(score_type="critic"), images(3)
    torch.testing.assert_close(detector.anomaly_score(x), -detector.critic(x.float() / 127.5 - 1))


def test_anogan_takes_the_critics_features_and_leaves_the_generator() -> None:
    detector, x = built(AnoGAN, n_steps=3, feature_weight=0.3), images(2)
    latents, losses, made = detector.search(x)
    prepared, features = x.float() / 127.5 - 1, detector.critic.features
    torch.testing.assert_close(made, detector.generator(latents))
    torch.testing.assert_close(losses, anogan_loss(made, prepared, features(made), features(prepared), 0.3))
    assert (losses < anogan_loss(*_at_start(detector, x), 0.3)).all()


def _at_start(detector: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    made = detector.generator(starting_latents(x, 1, 8, 0).flatten(0, 1)).detach()
    prepared, features = x.float() / 127.5 - 1, detector.critic.features
    return made, prepared, features(made), features(prepared)


@pytest.mark.parametrize("cls", [ADGAN, AnoGAN])
def test_fit_test_checkpoint_and_scores_from_it(make_trainer: MakeTrainer, tmp_path: Path, cls: Any) -> None:
    torch.manual_seed(0)
    detector, data = cls(**SMALL, n_steps=2, critic_steps=1), stripes(validation_fraction=0.2)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector, datamodule=data)
    trainer.save_checkpoint(tmp_path / "adgan.ckpt")
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"].scores
    assert len(tested) == 90
    loaded = load_detector(tmp_path / "adgan.ckpt")
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    torch.testing.assert_close(loaded.anomaly_score(x), torch.from_numpy(tested).float(), rtol=1e-5, atol=1e-6)
    assert math.isfinite(detector.threshold.item())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_seeds": 0}, "n_seeds must be at least 1, got 0"),
        ({"n_steps": -1}, "n_steps must not be negative, got -1"),
        ({"lr_latent": 0.0}, "lr_latent must be positive and finite, got 0"),
        ({"lr_weights": -1e-5}, "lr_weights must not be negative and be finite, got -1e-05"),
        ({"search_betas": (0.5,)}, r"search_betas must be two numbers in \[0, 1\), got \[0.5\]"),
        ({"search_seed": -1}, "search_seed must lie in"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"score_type": "energy"}, "score_type must be one of inversion, critic, prior, got 'energy'"),
        ({"lipschitz": "hope"}, "lipschitz must be one of clipping, penalty, got 'hope'"),
        ({"optimizer": "sgd"}, "optimizer must be one of rmsprop, adam, got 'sgd'"),
        ({"clip": 0.0}, "clip must be positive and finite, got 0"),
        ({"critic_steps": 0}, "critic_steps must be at least 1, got 0"),
        ({"lr_milestones": [-1]}, "lr_milestones must not be negative"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive, or null"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ADGAN(**{**SMALL, **options})


def test_feature_weight_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"feature_weight must lie in \[0, 1\], got 2"):
        AnoGAN(feature_weight=2)
