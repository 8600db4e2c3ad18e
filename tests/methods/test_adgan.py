"""ADGAN and AnoGAN: the WGAN's losses and turns, scores, and what is refused."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from gan_cases import images, stripes, trained_
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.methods import ADGAN, AnoGAN
from adlightning.methods.adgan import CriticTurns, critic_loss, generator_loss, prior_surprise
from adlightning.methods.anogan import anogan_loss
from adlightning.methods.parts.adversarial import (
    GradientPenalty,
    Lipschitz,
    WeightClipping,
    between,
    gradient_penalty,
)
from adlightning.methods.parts.inversion import Inversion, LatentSearch, starting_latents
from adlightning.networks.gan import DCGANCritic, DCGANEncoder, DCGANGenerator, any_stages, stages
from adlightning.preprocessing import SymmetricRange

SMALL: dict[str, Any] = {
    "latent_dim": 8,
    "generator": partial(DCGANGenerator, width=4),
    "critic": partial(DCGANCritic, width=4),
    "preprocessing": SymmetricRange,
    "critic_turns": CriticTurns(steps=1, bursts=False),
}
SPEC = InputSpec("image", (1, 16, 16))
TWO_STEPS = {ADGAN: LatentSearch(n_steps=2), AnoGAN: LatentSearch(1, 2, 0.01, lr_weights=0, betas=(0.9, 0.999))}


def in_turns(steps: int) -> dict[str, Any]:
    return {**SMALL, "critic_turns": CriticTurns(steps=steps, bursts=False)}


def optimizers(made: Any) -> dict[str, Any]:
    return {"critic_optimizer": made, "generator_optimizer": made}


def built(cls: type[ADGAN] = ADGAN, **options: Any) -> ADGAN:
    torch.manual_seed(0)
    detector = cls(**{**SMALL, **options})
    detector.configure_for(SPEC)
    trained_(detector.generator)
    return detector.eval()


def found(detector: ADGAN, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, losses and images that the search ends with."""
    return detector.inversion(detector.generator, x, detector.preprocess(x))


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
    generator = DCGANGenerator(5, shape, width=2, kernel_size=kernel_size)
    critic = DCGANCritic(shape, width=2, kernel_size=kernel_size)
    made = generator(torch.randn(3, 5))
    assert made.shape == (3, *shape)
    assert made.abs().max() <= 1
    assert critic(made).shape == (3,)


def test_paper_size_of_the_generator_for_32_pixels() -> None:
    widths = [m.out_channels for m in DCGANGenerator(256, (3, 32, 32)).modules() if isinstance(m, nn.ConvTranspose2d)]
    assert widths == [256, 128, 64, 3]


@pytest.mark.parametrize(
    ("shape", "first", "doublings", "width"),
    [
        ((1, 28, 28), (7, 7), 2, 64),
        ((3, 128, 128), (4, 4), 5, 16),
        ((3, 171, 256), (3, 4), 6, 8),
        ((1, 100, 30), (7, 2), 4, 32),
        ((1, 9, 30), (2, 4), 3, 64),
    ],
)
def test_images_of_any_size_are_encoded_and_made(
    shape: tuple[int, int, int], first: tuple[int, int], doublings: int, width: int
) -> None:
    assert any_stages(shape) == (first, doublings)
    encoder = DCGANEncoder(shape, code_dim=8, width=None).eval()
    assert encoder.features[0].out_channels == width
    assert encoder.mirrored("tanh").eval()(encoder(torch.zeros(2, *shape))).shape == (2, *shape)


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match="square images"):
        DCGANCritic((1, 16, 32))


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
    due = [CriticTurns(steps=5).due(n) for n in (0, 24, 25, 499, 500, 501, 1000)]
    assert due == [100, 100, 5, 5, 100, 5, 100]
    assert CriticTurns(steps=5, bursts=False).due(0) == 5
    assert CriticTurns(steps=200).due(0) == 200


def test_penalty_and_clipping_by_hand() -> None:
    torch.manual_seed(0)
    critic, x = nn.Linear(2, 1, bias=False), torch.ones(3, 2)
    critic.weight.data.copy_(torch.tensor([[3.0, -4.0]]))  # norm 5 wherever the points lie
    assert GradientPenalty(weight=0.5).penalty(critic, x, -x).item() == pytest.approx(0.5 * (5 - 1) ** 2, rel=1e-5)
    assert WeightClipping().penalty(critic, x, -x).item() == 0
    GradientPenalty().bound_(critic)
    assert critic.weight.tolist() == [[3, -4]]
    WeightClipping(bound=0.5).bound_(critic)
    assert critic.weight.tolist() == [[0.5, -0.5]]


@pytest.mark.parametrize("lipschitz", [WeightClipping(bound=0.02), GradientPenalty()])
def test_a_batch_moves_the_critic_and_the_fifth_the_generator(make_trainer: MakeTrainer, lipschitz: Lipschitz) -> None:
    torch.manual_seed(0)
    detector = ADGAN(**in_turns(2), lipschitz=lipschitz, search=TWO_STEPS[ADGAN])
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
    assert (largest <= 0.02) == isinstance(lipschitz, WeightClipping)
    has_batch_norm = any(isinstance(m, nn.BatchNorm2d) for m in detector.critic.modules())
    assert has_batch_norm == isinstance(lipschitz, WeightClipping)


def test_a_resumed_run_takes_its_turns_where_it_stood(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def fit(epochs: int, **options: Any) -> ADGAN:
        torch.manual_seed(0)
        detector = ADGAN(**in_turns(2), search=TWO_STEPS[ADGAN])
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(detector, datamodule=stripes(), **options)
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        return detector

    assert fit(1).steps_taken.tolist() == [1, 1]
    assert fit(2, ckpt_path=tmp_path / "last.ckpt").steps_taken.tolist() == [0, 3]


@pytest.mark.parametrize("lipschitz", [WeightClipping(), GradientPenalty()])
def test_both_players_move_in_half_precision(make_trainer: MakeTrainer, lipschitz: Lipschitz) -> None:
    torch.manual_seed(0)
    options = {**SMALL, **optimizers(partial(Adam, lr=1e-3, betas=(0.0, 0.9))), "lipschitz": lipschitz}
    detector, data = ADGAN(**options, search=LatentSearch(n_steps=1)), stripes()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    before = copy.deepcopy(dict(detector.named_parameters()))
    make_trainer(max_epochs=1, precision="bf16-mixed").fit(detector, datamodule=data)
    for name, weight in detector.named_parameters():
        assert weight.isfinite().all()
        assert not torch.equal(weight, before[name]), name


def test_learning_rates_follow_the_epochs_and_gradients_are_bounded(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    rates = {"critic_optimizer": partial(RMSprop, lr=1e-3), "generator_optimizer": partial(SGD, lr=1e-2)}
    options = {**SMALL, **rates, "search": TWO_STEPS[ADGAN]}
    detector = ADGAN(**options, lr_scheduler=partial(MultiStepLR, milestones=[1]), max_gradient_norm=1e-3)
    norms: list[float] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())

        def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            in_epochs.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    in_epochs: list[list[float]] = []
    make_trainer(max_epochs=2, callbacks=[Watch()]).fit(detector, datamodule=stripes())
    assert in_epochs == [[1e-3, 1e-2], [pytest.approx(1e-4), pytest.approx(1e-3)]]
    assert max(norms) == pytest.approx(1e-3, rel=1e-2)


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_parts_of_the_scores_by_hand() -> None:
    assert prior_surprise(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).tolist() == [12.5, 0.5]
    made, x = torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[0.5, 1.0]]])
    made_features, features = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    assert anogan_loss(made, x, made_features, features, 0.1).tolist() == pytest.approx([0.9 * 2.5 + 0.1 * 4])


def test_score_is_the_mean_of_the_searches_of_each_seed() -> None:
    detector, x = built(search=LatentSearch(n_seeds=3, n_steps=2)), images(4)
    starts = starting_latents(x, 3, 8, seed=0)
    search, prepared = Inversion(LatentSearch(n_steps=2, chunk_size=4), 8), x.float() / 127.5 - 1
    by_seed = torch.stack([search.of_pairs(detector.generator, prepared, starts[:, j])[1] for j in range(3)])
    torch.testing.assert_close(detector.anomaly_score(x), by_seed.mean(dim=0))
    torch.testing.assert_close(detector.reconstructions(x), found(detector, x)[2].view(4, 3, 1, 16, 16)[:, 0])


@pytest.mark.parametrize(
    "options", [{"score_type": "inversion"}, {"score_type": "critic"}, {"score_type": "prior"}, None]
)
def test_scores_do_not_depend_on_batch_chunk_or_company(options: dict[str, Any] | None) -> None:
    def made(chunk_size: int | None) -> ADGAN:
        if options is None:
            return built(AnoGAN, search=LatentSearch(1, 3, 0.01, 0, chunk_size=chunk_size))
        return built(**options, search=LatentSearch(n_seeds=2, n_steps=3, chunk_size=chunk_size))

    x = images(7)
    whole = made(None).anomaly_score(x)
    detector = made(3)
    order = torch.tensor([4, 2, 6, 0])
    torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(detector.anomaly_score(x[3:4]), whole[3:4], rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        torch.testing.assert_close(detector.anomaly_score(x.clone()), whole, rtol=1e-5, atol=1e-6)
    assert whole.std() > 0


def test_what_the_generator_makes_is_more_normal_than_noise() -> None:
    detector = built(search=LatentSearch(n_seeds=2, n_steps=20))
    torch.manual_seed(3)
    with torch.no_grad():
        made = ((detector.generator(torch.randn(10, 8)) + 1) * 127.5).round().to(torch.uint8)
    assert detector.anomaly_score(made).max() < detector.anomaly_score(images(10)).min()


def test_the_critics_score_is_its_negative_value() -> None:
    detector, x = built(score_type="critic"), images(3)
    torch.testing.assert_close(detector.anomaly_score(x), -detector.critic(x.float() / 127.5 - 1))


def test_anogan_takes_the_critics_features_and_leaves_the_generator() -> None:
    detector, x = built(AnoGAN, search=LatentSearch(1, 3, 0.01, 0), feature_weight=0.3), images(2)
    latents, losses, made = found(detector, x)
    assert isinstance(detector.critic, DCGANCritic)
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
    detector, data = cls(**SMALL, search=TWO_STEPS[cls]), stripes(validation_fraction=0.2)
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


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LatentSearch(n_seeds=0), "search.n_seeds must be at least 1, got 0"),
        (lambda: LatentSearch(n_steps=-1), "search.n_steps must not be negative, got -1"),
        (lambda: LatentSearch(lr_latent=0.0), "search.lr_latent must be positive and finite, got 0"),
        (lambda: LatentSearch(lr_weights=-1e-5), "search.lr_weights must not be negative, got -1e-05"),
        (lambda: LatentSearch(betas=(0.5,)), r"search.betas must hold 2 values, and each lie in \[0, 1\), got \[0.5\]"),  # type: ignore[arg-type]
        (lambda: LatentSearch(seed=-1), r"search.seed must lie in \[0, 2\^63\), got -1"),
        (lambda: LatentSearch(chunk_size=0), "search.chunk_size must be at least 1, or null .* got 0"),
        (lambda: CriticTurns(steps=0), "critic_turns.steps must be at least 1, got 0"),
        (lambda: WeightClipping(bound=0.0), "bound must be positive and finite, got 0"),
        (lambda: GradientPenalty(weight=-1.0), "weight must not be negative, got -1"),
        (lambda: ADGAN(lipschitz=GradientPenalty(weight=0.0)), "lipschitz.weight must be positive, got 0"),
        (lambda: ADGAN(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: ADGAN(score_type="energy"), "score_type must be one of inversion, critic, prior, got 'energy'"),  # type: ignore[arg-type]
        (lambda: ADGAN(max_gradient_norm=0.0), "max_gradient_norm must be positive and finite, or null"),
        (lambda: ADGAN(generator=SGD), "generator must be a subclass of Module"),  # type: ignore[arg-type]
        (lambda: ADGAN(critic_optimizer=DCGANCritic), "critic_optimizer must be a subclass of Optimizer"),  # type: ignore[arg-type]
        (lambda: ADGAN(generator_optimizer=DCGANCritic), "generator_optimizer must be a subclass of Optimizer"),  # type: ignore[arg-type]
        (lambda: AnoGAN(feature_weight=2), r"feature_weight must lie in \[0, 1\], got 2"),
        (lambda: AnoGAN(search=LatentSearch(n_steps=9)), "search.lr_weights must be 0, got 5e-05: AnoGAN leaves"),
    ],
)
def test_arguments_outside_their_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("network", [partial(DCGANGenerator, 8, (1, 8, 8)), partial(DCGANCritic, (1, 8, 8))])
def test_sizes_of_the_networks_outside_their_range_are_refused(network: Any) -> None:
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        network(width=0)
    with pytest.raises(ValueError, match="kernel_size must be 3 or 4, got 5"):
        network(kernel_size=5)
