"""DROCC-LF: influence by hand, the projection of Proposition 1 by hand and against bisection, and what it is for."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adlightning.core.contracts import InputSpec
from adlightning.methods import DROCCLF
from adlightning.methods.drocc import ascend
from adlightning.methods.drocc_lf import influence, mahalanobis_norm, project_to_mahalanobis_shell
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.neighborhood import project_to_shell
from adlightning.networks import LSTMEncoder, MLPEncoder
from adlightning.preprocessing import Identity


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(n: int = 300, d: int = 5) -> tuple[Tensor, Tensor]:
    """Offsets of all lengths, and weights of mean 1."""
    h = torch.randn(n, d, generator=generator()) * torch.rand(n, 1, generator=generator(1)) * 6
    sigma = torch.rand(n, d, generator=generator(2)) + 0.01
    return h, sigma * d / sigma.sum(dim=1, keepdim=True)


def bisection(h: np.ndarray, sigma: np.ndarray, radius: float, gamma: float) -> np.ndarray:
    """The nearest point of the shell in float64: the multiplier at which the constraint is met exactly."""

    def moved(tau: float) -> np.ndarray:
        return h / (1 + tau * sigma)

    def norm(x: np.ndarray) -> float:
        return math.sqrt(float(np.sum(sigma * x**2)))

    if radius <= norm(h) <= gamma * radius:
        return h
    close = norm(h) < radius
    target = radius if close else gamma * radius
    low, high = (-1 / sigma.max(), 0.0) if close else (0.0, 1e12)  # the distance falls as tau grows
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if norm(moved(middle)) > target else (low, middle)
    return moved((low + high) / 2)


def test_influence_by_hand() -> None:
    # f = 3 x_1 - x_2 + 0 x_3: |gradient| (3, 1, 0), of sum 4, scaled to a sum of 3; where f is flat, all weigh 1
    x = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0]])
    f = lambda x: torch.where(x[:, 0] > 0, x @ torch.tensor([3.0, -1.0, 0.0]), 0.0)  # noqa: E731
    assert influence(f, x).tolist() == [pytest.approx([2.25, 0.75, 0.0]), [1.0, 1.0, 1.0]]


def test_influence_is_that_of_the_loss() -> None:
    detector = DROCCLF("grid", partial(MLPEncoder, rep_dim=8), Head(activation="leaky_relu"), preprocessing=Identity)
    detector.configure_for(InputSpec("table", (6,)))
    x = torch.randn(10, 6, generator=generator(), requires_grad=True)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(detector.logits(x), torch.ones(10))
    gradient = torch.autograd.grad(loss, x)[0].abs()  # as the released code has it
    assert torch.allclose(influence(detector.logits, x), gradient / gradient.sum(dim=1, keepdim=True) * 6, atol=1e-5)


def test_mahalanobis_norm_by_hand() -> None:
    assert mahalanobis_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.5]])).item() == pytest.approx(17**0.5)


@pytest.mark.parametrize("search", ["grid", "random40"])
def test_inside_the_shell_nothing_moves(search: Any) -> None:
    h, sigma = torch.tensor([[1.0, 0.5]]), torch.tensor([[1.6, 0.4]])  # 1.6 + 0.1 = 1.7
    assert torch.equal(project_to_mahalanobis_shell(h, sigma, 1.0, 2.0, search), h)


def test_with_equal_weights_it_is_the_euclidean_projection() -> None:
    h, _ = drawn()
    ours = project_to_mahalanobis_shell(h, torch.ones_like(h), 1.5, 2.0)
    assert torch.allclose(ours, project_to_shell(h, 1.5, 2.0), rtol=1e-3, atol=1e-5)


def test_too_close_by_hand() -> None:
    # only the weighted coordinate counts: sigma (2, 0), so 2 h_1^2 = r^2 = 8 gives h_1 = 2; h_2 stays
    h, sigma = torch.tensor([[1.0, 5.0]]), torch.tensor([[2.0, 0.0]])
    assert project_to_mahalanobis_shell(h, sigma, math.sqrt(8), 2.0)[0].tolist() == pytest.approx([2.0, 5.0], rel=1e-3)


def test_too_far_by_hand() -> None:
    # the outer radius is 2: 2 h_1^2 = 4 gives h_1 = sqrt 2, and the coordinate without influence stays
    h, sigma = torch.tensor([[-10.0, 5.0]]), torch.tensor([[2.0, 0.0]])
    projected = project_to_mahalanobis_shell(h, sigma, 1.0, 2.0)[0].tolist()
    assert projected == pytest.approx([-math.sqrt(2), 5.0], rel=1e-3)


@pytest.mark.parametrize(("radius", "gamma"), [(2.0, 2.0), (3.0, 1.0), (0.5, 1.2), (20.0, 2.0)])
def test_the_projection_is_that_of_bisection_and_ends_in_the_shell(radius: float, gamma: float) -> None:
    h, sigma = drawn()
    ours = project_to_mahalanobis_shell(h, sigma, radius, gamma)
    exact = [bisection(a, s, radius, gamma) for a, s in zip(h.double().numpy(), sigma.double().numpy(), strict=True)]
    best = torch.tensor(np.array(exact)).float()
    assert ((ours - best).norm(dim=1) <= 1e-3 * best.norm(dim=1)).all()
    norms = mahalanobis_norm(ours, sigma)
    assert (norms >= radius * (1 - 1e-3)).all()
    assert (norms <= gamma * radius * (1 + 1e-3)).all()


def test_no_point_of_the_shell_is_nearer() -> None:
    h, sigma = drawn(30, 3)
    ours = project_to_mahalanobis_shell(h, sigma, 2.0, 1.5)
    u = torch.nn.functional.normalize(torch.randn(30, 5000, 3, generator=generator(3)), dim=2)
    lengths = 2.0 * (1 + 0.5 * torch.rand(30, 5000, 1, generator=generator(4)))
    others = u * lengths / sigma.unsqueeze(1).sqrt()  # of Mahalanobis norm `lengths`
    nearest = (others - h.unsqueeze(1)).norm(dim=2).min(dim=1).values
    assert ((ours - h).norm(dim=1) <= nearest * (1 + 1e-3) + 1e-4).all()


def test_random_draws_end_in_the_shell_or_stay_and_are_no_nearer_than_the_grid() -> None:
    h, sigma = drawn()
    torch.manual_seed(0)
    drawn40 = project_to_mahalanobis_shell(h, sigma, 2.0, 2.0, "random40")
    grid = project_to_mahalanobis_shell(h, sigma, 2.0, 2.0)
    before, after = mahalanobis_norm(h, sigma).squeeze(1), mahalanobis_norm(drawn40, sigma).squeeze(1)
    stayed = (drawn40 == h).all(dim=1)
    # a coarse draw may overshoot the other border, as in the released code
    assert (stayed | (before > 4) | (after >= 2 * (1 - 1e-5))).all()
    assert (stayed | (before < 2) | (after <= 4 * (1 + 1e-5))).all()
    moved = ~stayed
    assert moved.sum() > 0.9 * ((before < 2) | (before > 4)).sum() > 100
    further = (drawn40 - h).norm(dim=1) - (grid - h).norm(dim=1)
    assert (further[moved] >= -1e-3 * grid[moved].norm(dim=1)).all()


def test_random_draws_depend_on_the_seed_and_the_grid_does_not() -> None:
    h, sigma = drawn()

    def project(seed: int, search: Any) -> Tensor:
        torch.manual_seed(seed)
        return project_to_mahalanobis_shell(h, sigma, 2.0, 2.0, search)

    assert torch.equal(project(0, "grid"), project(1, "grid"))
    assert torch.equal(project(0, "random40"), project(0, "random40"))
    assert not torch.equal(project(0, "random40"), project(1, "random40"))


def test_an_offset_without_part_along_the_largest_weight_is_stretched() -> None:
    h, sigma = torch.tensor([[0.0, 0.1], [0.0, 0.0]]), torch.tensor([[1.9, 0.1], [1.9, 0.1]])
    projected = project_to_mahalanobis_shell(h, sigma, 2.0, 2.0)
    assert mahalanobis_norm(projected, sigma)[0].item() == pytest.approx(2.0)
    assert projected[1].tolist() == [0.0, 0.0]


# ---- the detector ----------------------------------------------------------------------------------------------------

RADIUS, GAMMA = 8.0, 1.05  # noise of 12 features starts at about 3.5, outside the shell
ASCENT = Ascent(steps=6, step_size=0.5, project_every=5)


def built(**options: Any) -> DROCCLF:
    """In training mode, with a BatchNorm whose running statistics are far from those of any batch."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "encoder": partial(MLPEncoder, dense=(8,), rep_dim=8, bias=True),
        "head": Head(activation="leaky_relu"),
        "preprocessing": Identity,
        "radius": RADIUS,
        "gamma": GAMMA,
        "ascent": ASCENT,
    }
    detector = DROCCLF(**{**defaults, **options})
    detector.configure_for(InputSpec("table", (12,)))
    (norm,) = [layer for layer in detector.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.linspace(-2, 2, 8))
    norm.running_var.copy_(torch.linspace(0.5, 4, 8))
    return detector.train()


@pytest.mark.parametrize("bias", [0.0, 500.0])  # with 500, the loss of the released code is flat
@pytest.mark.parametrize("mode", ["eval", "frozen"])
def test_the_shell_is_that_of_the_influence_at_the_sample_on_running_statistics(mode: Any, bias: float) -> None:
    detector = built(ascent=replace(ASCENT, batch_norm=mode))
    (head_bias,) = [v for name, v in detector.named_parameters() if name.startswith("head") and v.ndim == 1]
    nn.init.constant_(head_bias, bias)
    x = torch.randn(20, 12, generator=generator())
    h = detector.offsets(x)
    detector.eval()
    norms = mahalanobis_norm(h, influence(detector.logits, x))
    assert ((norms >= RADIUS * (1 - 1e-3)) & (norms <= GAMMA * RADIUS * (1 + 1e-3))).all()
    elsewhere = mahalanobis_norm(h, influence(detector.logits, x + h))
    assert ((elsewhere < 0.9 * RADIUS) | (elsewhere > 1.1 * GAMMA * RADIUS)).any()


@pytest.mark.parametrize("search", ["grid", "random40"])
@pytest.mark.parametrize("every", [1, 4, "end"])
def test_negatives_are_searched_and_projected_as_the_arguments_say(search: Any, every: Any) -> None:
    detector = built(projection_search=search, ascent=replace(ASCENT, project_every=every))
    x = torch.randn(20, 12, generator=generator())
    torch.manual_seed(1)
    ours = detector.offsets(x)
    detector.eval()
    sigma = influence(detector.logits, x)

    def by_hand(search: Any, project_every: Any) -> Tensor:
        torch.manual_seed(1)
        return ascend(
            detector.logits,
            x,
            torch.randn_like(x),
            replace(ASCENT, project_every=project_every),
            lambda h: project_to_mahalanobis_shell(h, sigma, RADIUS, GAMMA, search),
        )

    choices = [(a, b) for a in ("grid", "random40") for b in (1, 4, "end")]
    agrees = [choice for choice in choices if torch.allclose(ours, by_hand(*choice), atol=1e-3)]
    assert agrees == [(search, every)]


def test_coupled_by_batch_norm_the_influence_is_that_of_the_loss_of_the_batch() -> None:
    detector = built(ascent=replace(ASCENT, batch_norm="train"))
    x = 3 * torch.randn(20, 12, generator=generator())
    points = x.clone().requires_grad_()
    loss = nn.functional.binary_cross_entropy_with_logits(detector.logits(points), torch.ones(20))
    gradient = torch.autograd.grad(loss, points)[0].abs()
    sigma = gradient / gradient.sum(dim=1, keepdim=True) * 12
    assert torch.allclose(influence(detector.logits, x, coupled=True), sigma, atol=1e-4)
    assert not torch.allclose(influence(detector.logits, x), sigma, atol=1e-1)
    norms = mahalanobis_norm(detector.offsets(x), sigma)  # batch statistics do not depend on the running ones
    assert ((norms >= RADIUS * (1 - 1e-3)) & (norms <= GAMMA * RADIUS * (1 + 1e-3))).all()


def test_series_are_weighed_at_each_time() -> None:
    torch.manual_seed(0)
    encoder = partial(LSTMEncoder, rep_dim=4, bias=True)
    detector = DROCCLF(encoder=encoder, preprocessing=Identity, radius=3.0, gamma=1.0)
    detector.configure_for(InputSpec("series", (5, 2)))
    x = torch.randn(4, 5, 2, generator=generator())
    h = detector.offsets(x)
    assert h.shape == x.shape
    sigma = influence(detector.logits, x)
    assert torch.allclose(mahalanobis_norm(h.flatten(1), sigma), torch.tensor(3.0), rtol=1e-2)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="projection_search must be one of grid, random40, got 'bisect'"):
        DROCCLF(projection_search="bisect")  # type: ignore[arg-type]
