"""The density-ratio losses: hand values, limits, stationarity, extreme logits, a ratio that is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from adlightning.objectives.density_ratio import density_ratio_loss, log_ratio

ALPHAS = [0.0, 0.5, 1.0]

NORMAL, UNLABELLED = torch.tensor([1.0, 4.0]).double(), torch.tensor([1.0, 9.0, 4.0]).double()


def loss_of_ratios(normal: Tensor, unlabelled: Tensor, alpha: float) -> Tensor:
    return density_ratio_loss(normal.log(), unlabelled.log(), alpha)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.0, 14 / 3 - math.log(4) / 2),
        (0.5, (1 + 27 + 8) / 3 - 3 * (1 + 2) / 2 + 2),
        (1.0, (1 + 81 + 16) / 3 - 2 * (1 + 4) / 2 + 1),
        (2.0, (1 + 729 + 64) / 3 - 1.5 * (1 + 16) / 2 + 0.5),
    ],
)
def test_loss_by_hand(alpha: float, expected: float) -> None:
    assert loss_of_ratios(NORMAL, UNLABELLED, alpha).item() == pytest.approx(expected)


def test_alpha_one_is_twice_ulsif() -> None:
    ulsif = UNLABELLED.square().mean() / 2 - NORMAL.mean() + 0.5
    assert loss_of_ratios(NORMAL, UNLABELLED, 1).item() == pytest.approx(2 * ulsif.item())


def test_small_alpha_plus_one_is_kliep() -> None:
    normal, unlabelled = torch.tensor([0.7, 1.2]), torch.tensor([0.4, 1.5, 0.9])
    kliep = loss_of_ratios(normal.double(), unlabelled.double(), 0)
    gaps = [abs(loss_of_ratios(normal.double(), unlabelled.double(), a) + 1 - kliep) for a in (1e-2, 1e-4, 1e-6)]
    assert gaps[0] < 1e-2
    assert gaps[1] < 1e-4
    assert gaps[2] < 1e-6
    # and 1/alpha takes no digits away in float32
    assert loss_of_ratios(normal, unlabelled, 1e-6).item() + 1 == pytest.approx(kliep.item(), abs=2e-6)


@pytest.mark.parametrize("alpha", [*ALPHAS, 2.0])
def test_rescaled_ratios_are_best_where_the_paper_says(alpha: float) -> None:
    # KLIEP: mean_u[r] = 1; BA: mean_u[r^(1 + alpha)] = mean_n[r^alpha]
    best = (NORMAL**alpha).mean() / (UNLABELLED ** (1 + alpha)).mean()
    assert (UNLABELLED * best).pow(1 + alpha).mean().item() == pytest.approx((NORMAL * best).pow(alpha).mean().item())
    log_scale = best.log().clone().requires_grad_()
    density_ratio_loss(NORMAL.log() + log_scale, UNLABELLED.log() + log_scale, alpha).backward()
    assert log_scale.grad is not None
    assert log_scale.grad.item() == pytest.approx(0, abs=1e-12)
    at_best = loss_of_ratios(NORMAL * best, UNLABELLED * best, alpha)
    for factor in (0.9, 1.1):
        assert loss_of_ratios(NORMAL * best * factor, UNLABELLED * best * factor, alpha) > at_best


@pytest.mark.parametrize("alpha", [-0.1, -1.0, math.inf, math.nan])
def test_alpha_must_not_be_negative(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha must be finite and not negative, got {alpha}"):
        density_ratio_loss(torch.zeros(1), torch.zeros(1), alpha)


# ---- log ratio ------------------------------------------------------------------------------------------------------


def test_log_ratio_by_hand() -> None:
    z = torch.tensor([0.0, 1.0, -1.0, 30.0, -200.0, -25.0]).double()
    exact = [math.log(math.log1p(math.exp(v))) for v in (0.0, 1.0, -1.0, 30.0)]
    assert log_ratio(z)[:4].tolist() == pytest.approx(exact, abs=1e-9)
    assert log_ratio(z)[4:].tolist() == pytest.approx([-200.0, -25.0 - math.exp(-25) / 2], rel=1e-15)


def test_log_ratio_is_smooth_and_increasing_across_its_branches() -> None:
    z = torch.linspace(-21, -19, 2001).double().requires_grad_()
    values = log_ratio(z)
    values.sum().backward()
    assert (values.detach().diff() > 0).all()
    assert z.grad is not None
    # the derivative is sigmoid(z) / softplus(z) = 1 - e^z / 2 + ...
    torch.testing.assert_close(z.grad, 1 - z.detach().exp() / 2, rtol=1e-13, atol=0)


def test_log_ratio_of_half_precision_is_float32() -> None:
    z = torch.tensor([-200.0, 3.0])
    assert log_ratio(z.bfloat16()).dtype == torch.float32
    assert torch.equal(log_ratio(z.bfloat16()), log_ratio(z))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_are_finite_at_extreme_logits(alpha: float) -> None:
    normal = torch.tensor([-200.0, 200.0], requires_grad=True)
    unlabelled = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = density_ratio_loss(log_ratio(normal), log_ratio(unlabelled), alpha)
    loss.backward()
    assert torch.isfinite(loss)
    assert normal.grad is not None
    assert unlabelled.grad is not None
    assert torch.isfinite(normal.grad).all()
    assert torch.isfinite(unlabelled.grad).all()
    assert normal.grad[1] < 0  # normal ratios are pushed up
    assert unlabelled.grad[1] > 0  # unlabelled ones down
    if alpha == 0:
        assert normal.grad[0].item() == pytest.approx(-0.5)  # no underflow: the logit itself


# ---- a known ratio --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_ratio_of_two_gaussians_is_learnt(alpha: float) -> None:
    # N(0, 1) against N(1, 1): log r = 1/2 - x; along the first of two features, the second says nothing
    torch.manual_seed(0)
    normal = torch.randn(1000, 2)
    unlabelled = torch.randn(1000, 2) + torch.tensor([1.0, 0.0])
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        density_ratio_loss(log_ratio(net(normal)[:, 0]), log_ratio(net(unlabelled)[:, 0]), alpha).backward()
        optimizer.step()
    x = torch.cat([torch.randn(500, 2), torch.randn(500, 2) + torch.tensor([1.0, 0.0])])
    with torch.no_grad():
        learnt = log_ratio(net(x)[:, 0])
    truth = 0.5 - x[:, 0]
    assert torch.corrcoef(torch.stack([learnt, truth]))[0, 1] > 0.95
    assert (learnt - truth).median().item() == pytest.approx(0, abs=0.25)  # the ratio itself, not one up to scale
