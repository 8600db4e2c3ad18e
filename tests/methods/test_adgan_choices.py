"""What ADGAN may take in the place of its paper's choices: other GANs, a VAE's decoder, other reconstruction losses."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest import MakeTrainer
from gan_cases import images, stripes, trained_
from torch import Tensor, nn
from torch.optim import Adam

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.methods import ADGAN, VAE
from adlightning.methods.adgan import OBJECTIVES, CriticTurns, Objective
from adlightning.methods.parts.adversarial import Unconstrained
from adlightning.methods.parts.inversion import Inversion, LatentSearch
from adlightning.methods.parts.reconstruction_losses import (
    AbsoluteError,
    Huber,
    LaplacianPyramid,
    ReconstructionLoss,
    SquaredError,
    laplacian_pyramid,
)
from adlightning.networks.gan import DCGANCritic, DCGANEncoder, DCGANGenerator
from adlightning.preprocessing import SymmetricRange, UnitRange

SMALL: dict[str, Any] = {
    "latent_dim": 8,
    "generator": partial(DCGANGenerator, width=4),
    "critic": partial(DCGANCritic, width=4),
    "preprocessing": SymmetricRange,
    "critic_turns": CriticTurns(steps=1, bursts=False),
    "search": LatentSearch(n_seeds=2, n_steps=2),
}
SPEC = InputSpec("image", (1, 16, 16))
SMALL_VAE: dict[str, Any] = {
    "encoder": partial(DCGANEncoder, code_dim=8, width=4),
    "score_type": "inversion",
    "search": LatentSearch(n_seeds=2, n_steps=3),
}


def at(values: list[float]) -> Tensor:
    return torch.tensor(values)


# ---- objectives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "of_critic", "of_generator"),
    [
        ("wasserstein", 1.0 - 2.0, -1.0),
        # D(x) = 0.8 and 0.5, D(G(z)) = 0.75
        ("minimax", -(math.log(0.8) + math.log(0.5)) / 2 - math.log(0.25), math.log(0.25)),
        ("non_saturating", -(math.log(0.8) + math.log(0.5)) / 2 - math.log(0.25), -math.log(0.75)),
        ("least_squares", ((1 - 1) ** 2 + (3 - 1) ** 2) / 2 / 2 + 1**2 / 2, (1 - 1) ** 2 / 2),
    ],
)
def test_losses_of_both_players_by_hand(objective: Objective, of_critic: float, of_generator: float) -> None:
    real, fake = at([1.0, 3.0]), at([1.0])
    if objective in ("minimax", "non_saturating"):
        real, fake = at([math.log(4), 0.0]), at([math.log(3)])
    losses = OBJECTIVES[objective]
    assert losses.critic(real, fake).item() == pytest.approx(of_critic)
    assert losses.generator(fake).item() == pytest.approx(of_generator)


def test_every_objective_has_its_losses() -> None:
    assert set(OBJECTIVES) == set(get_args(Objective))


@pytest.mark.parametrize("objective", ["minimax", "least_squares"])
def test_both_players_move_with_a_critic_that_nothing_bounds(make_trainer: MakeTrainer, objective: Objective) -> None:
    torch.manual_seed(0)
    rates: dict[str, Any] = {f"{name}_optimizer": partial(Adam, lr=0.05) for name in ("critic", "generator")}
    detector, data = ADGAN(**SMALL, **rates, objective=objective, lipschitz=Unconstrained()), stripes()
    data.setup("fit")
    detector.configure_for(data.input_spec)
    assert any(isinstance(module, nn.BatchNorm2d) for module in detector.critic.modules())
    before = copy.deepcopy(dict(detector.named_parameters()))
    make_trainer(max_epochs=1).fit(detector, datamodule=data)
    for name, weight in detector.named_parameters():
        assert weight.isfinite().all()
        assert not torch.equal(weight, before[name]), name
    assert [name for name in detector.curves.rows[0] if "wasserstein" in name or "critic" in name] == ["critic_loss"]
    assert max(weight.abs().max().item() for weight in detector.critic.parameters()) > 0.02  # not clipped


def test_a_wasserstein_critic_that_nothing_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="lipschitz must be WeightClipping or GradientPenalty with objective: wasser"):
        ADGAN(lipschitz=Unconstrained())
    with pytest.raises(ValueError, match=r"objective must be one of wasserstein, .* got 'hinge'"):
        ADGAN(objective="hinge")  # type: ignore[arg-type]


# ---- reconstruction losses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (SquaredError(), [0.25 + 4, 0.0]),
        (AbsoluteError(), [2.5, 0.0]),
        (Huber(), [0.125 + 1 * (2 - 0.5), 0.0]),
        (Huber(delta=0.25), [0.25 * (0.5 - 0.125) + 0.25 * (2 - 0.125), 0.0]),
    ],
)
def test_losses_by_hand(loss: ReconstructionLoss, expected: list[float]) -> None:
    made, x = torch.tensor([[[[0.5, -1.0]]], [[[0.2, 0.3]]]]), torch.tensor([[[[0.0, 1.0]]], [[[0.2, 0.3]]]])
    assert loss(made, x).tolist() == pytest.approx(expected)


def test_a_laplacian_pyramid_by_hand() -> None:
    # a difference of 1 everywhere is in the last level alone, which weighs 4^2: of 8x8 pixels 2x2 are left
    ones = torch.ones(1, 2, 8, 8)
    assert LaplacianPyramid(levels=3)(ones, 0 * ones).item() == pytest.approx(16 * 2 * 4, rel=1e-5)
    assert LaplacianPyramid(levels=1)(ones, 0 * ones).item() == pytest.approx(2 * 64)
    # along a row, the taps 1 4 6 4 1 of a peak, and its edge repeated: (6 + 0, 1) / 16 of its pixels 0 and 2
    peak = torch.zeros(1, 1, 1, 4)
    peak[..., 0] = 16
    smaller = laplacian_pyramid(peak, 2)[1]
    assert smaller.flatten().tolist() == pytest.approx([1 + 4 + 6, 1])
    # doubled again, 11 at the left end, then three quarters and a quarter of it
    assert laplacian_pyramid(peak, 2)[0].flatten().tolist() == pytest.approx([16 - 11, -8.5, -3.5, -1])


def test_the_search_goes_down_the_chosen_loss() -> None:
    torch.manual_seed(0)
    x, found = images(3), {}
    for loss in (SquaredError(), AbsoluteError(), Huber(0.1), LaplacianPyramid(levels=2)):
        detector = ADGAN(**SMALL | {"search": LatentSearch(2, 8)}, reconstruction=loss)
        detector.configure_for(SPEC)
        trained_(detector.generator)
        detector.eval()
        _, losses, made = detector.inversion(detector.generator, x, detector.preprocess(x))
        prepared = detector.preprocess(x).repeat_interleave(2, dim=0)
        torch.testing.assert_close(losses, loss(made, prepared))
        torch.testing.assert_close(detector.anomaly_score(x), losses.view(3, 2).mean(dim=1))
        starts = ADGAN(**SMALL | {"search": LatentSearch(2, 0)}, reconstruction=loss)
        starts.configure_for(SPEC)
        starts.load_state_dict(detector.state_dict())
        assert (detector.anomaly_score(x) < starts.eval().anomaly_score(x)).all()
        found[type(loss)] = losses
    assert len({round(losses[0].item(), 4) for losses in found.values()}) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Huber(delta=0.0), "delta must be positive and finite, got 0"),
        (lambda: LaplacianPyramid(levels=0), "levels must be at least 1, got 0"),
        (
            lambda: ADGAN(**SMALL, reconstruction=LaplacianPyramid(levels=6)).configure_for(SPEC),
            r"LaplacianPyramid.levels must leave a pixel of images of shape \(1, 16, 16\), got 6",
        ),
        (lambda: LaplacianPyramid().require_shape((4,)), "LaplacianPyramid must have images"),
    ],
)
def test_losses_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# ---- a VAE's decoder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("likelihood", "preprocessing"), [("gaussian", SymmetricRange), ("bernoulli", UnitRange)])
def test_a_vaes_decoder_is_searched_as_a_generator_is(likelihood: Any, preprocessing: Any) -> None:
    torch.manual_seed(0)
    detector = VAE(**SMALL_VAE, likelihood=likelihood, preprocessing=preprocessing, reconstruction=AbsoluteError())
    detector.configure_for(SPEC)
    detector.eval()
    x = images(3)
    generator = nn.Sequential(detector.decoder, nn.Sigmoid()) if likelihood == "bernoulli" else detector.decoder
    searching = Inversion(SMALL_VAE["search"], 4, AbsoluteError())
    losses = searching(generator, x, detector.preprocess(x))[1]
    torch.testing.assert_close(detector.anomaly_score(x), losses.view(3, 2).mean(dim=1))
    torch.testing.assert_close(detector.anomaly_score(x[1:2]), losses.view(3, 2).mean(dim=1)[1:2])


def test_a_trained_vae_is_scored_by_a_search(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector, data = VAE(**SMALL_VAE | {"score_type": "elbo"}, preprocessing=SymmetricRange), stripes()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    trainer.save_checkpoint(tmp_path / "vae.ckpt")
    searched = load_detector(tmp_path / "vae.ckpt", scoring={"score_type": "inversion"})
    assert searched.rescored == ["score_type=inversion (trained with elbo)"]
    x = images(3)
    losses = Inversion(SMALL_VAE["search"], 4)(searched.decoder, x, searched.preprocess(x))[1]  # type: ignore[arg-type]
    torch.testing.assert_close(searched.anomaly_score(x), losses.view(3, 2).mean(dim=1))
