"""Each loss against values worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from adlightning.methods.autoencoder import reconstruction_error
from adlightning.methods.deep_sad import deep_sad_loss
from adlightning.methods.deep_svdd import one_class_loss, optimal_radius, soft_boundary_loss
from adlightning.methods.parts.anomaly_losses import (
    AnomalyLoss,
    HingeLoss,
    InverseNorm,
    NegativeHampelLoss,
    NegativeNorm,
)
from adlightning.methods.parts.hypersphere import reconstruction_cross_entropy, snap_center, squared_distance


def test_squared_distance_by_hand() -> None:
    z = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert squared_distance(z, torch.tensor([1.0, 0.0])).tolist() == [4.0, 1.0]


def test_squared_distance_is_float32_for_half_precision_input() -> None:
    assert squared_distance(torch.ones(2, 3, dtype=torch.bfloat16), torch.zeros(3)).dtype == torch.float32


def test_center_snaps_small_coordinates_by_sign_and_leaves_zero() -> None:
    mean = torch.tensor([0.05, -0.05, 0.0, 0.1, -0.1, 3.0])
    assert snap_center(mean).tolist() == pytest.approx([0.1, -0.1, 0.0, 0.1, -0.1, 3.0])


def test_reconstruction_error_is_the_mean_over_a_samples_pixels() -> None:
    x = torch.zeros(2, 1, 1, 2)
    y = torch.tensor([[[[1.0, 3.0]]], [[[0.0, 2.0]]]])
    assert reconstruction_error(x, y).tolist() == [5.0, 2.0]


def test_one_class_loss_is_the_mean_squared_distance() -> None:
    assert one_class_loss(torch.tensor([1.0, 2.0, 6.0])).item() == 3.0


def test_soft_boundary_loss_by_hand() -> None:
    # R = 2: R^2 = 4; excesses of d = 3, 5, 8, 4 over it: 0, 1, 4, 0, their mean 1.25; 4 + 1.25 / 0.5
    d = torch.tensor([3.0, 5.0, 8.0, 4.0])
    assert soft_boundary_loss(d, torch.tensor(2.0), nu=0.5).item() == pytest.approx(6.5)


def test_optimal_radius_is_the_quantile_of_the_distances() -> None:
    d = torch.tensor([1.0, 4.0, 9.0, 16.0, 25.0])  # distances 1..5
    assert optimal_radius(d, nu=0.25).item() == pytest.approx(4.0)
    assert optimal_radius(d, nu=0.1).item() == pytest.approx(4.6)  # linear between 4 and 5, as numpy


@pytest.mark.parametrize("nu", [0.05, 0.2, 0.5])
def test_optimal_radius_minimises_the_soft_boundary_loss(nu: float) -> None:
    d = torch.rand(4001, generator=torch.Generator().manual_seed(0)) * 9
    best = soft_boundary_loss(d, optimal_radius(d, nu), nu)
    for shift in (-0.1, -0.02, 0.02, 0.1):
        assert soft_boundary_loss(d, optimal_radius(d, nu) + shift, nu) >= best - 1e-5


# Hampel's rho with a = 1, b = 2, c = 4 at r = 1/2, 1, 3/2, 2, 3, 4, 5: 1/8, 1/2, 1, 3/2, 9/4, 5/2, 5/2.
@pytest.mark.parametrize(
    ("loss", "distances", "expected"),
    [
        (InverseNorm(), [0.25, 4.0], [4.0, 0.25]),
        (NegativeNorm(), [0.25, 4.0], [-0.25, -4.0]),
        (HingeLoss(margin=2.0), [0.5, 2.0, 3.0], [1.5, 0.0, 0.0]),
        (
            NegativeHampelLoss(1.0, 2.0, 4.0),
            [0.25, 1.0, 2.25, 4.0, 9.0, 16.0, 25.0],
            [-0.125, -0.5, -1.0, -1.5, -2.25, -2.5, -2.5],
        ),
    ],
)
def test_losses_of_known_anomalies_by_hand(loss: AnomalyLoss, distances: list[float], expected: list[float]) -> None:
    assert loss(torch.tensor(distances)).tolist() == pytest.approx(expected)
    known = torch.full((len(distances),), -1)
    mean = 3 * sum(expected) / len(expected)
    got = deep_sad_loss(torch.tensor(distances), known, eta=3.0, eps=0.0, anomaly_loss=loss)
    assert got.item() == pytest.approx(mean)


def test_slopes_of_hampels_loss_are_one_half_to_a_then_fall_to_nothing_at_c() -> None:
    d = torch.tensor([1e-12, 0.25, 2.25, 9.0, 25.0], requires_grad=True)
    NegativeHampelLoss(1.0, 2.0, 4.0)(d).sum().backward()
    assert d.grad is not None
    # d rho / d r over 2 r: a / (2 r) = 1/3 at r = 3/2; a (c - r) / (c - b) / (2 r) = 1/12 at r = 3
    assert (-d.grad).tolist() == pytest.approx([0.5, 0.5, 1 / 3, 1 / 12, 0.0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HingeLoss(margin=0), "margin must be positive and finite, got 0"),
        (lambda: NegativeHampelLoss(1.0, 1.0, 4.0), "a, b and c must ascend, got a=1.0, b=1.0, c=4.0"),
        (lambda: NegativeHampelLoss(-1.0, 1.0, 4.0), "a must be positive and finite, got -1.0"),
    ],
)
def test_scales_of_losses_that_cannot_be(make: Callable[[], AnomalyLoss], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_reconstruction_cross_entropy_by_hand() -> None:
    x, y = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.5, 0.75], [0.5, 0.5]])
    # -(log 1/2 + log 1/4) / 2, and log 2
    expected = [1.5 * math.log(2), math.log(2)]
    assert reconstruction_cross_entropy(x, y).tolist() == pytest.approx(expected)


def test_deep_sad_loss_by_hand() -> None:
    # unlabelled 2; known normal eta (4 + eps); known anomaly eta / (0.5 + eps); one mean over the mixed batch
    d, known = torch.tensor([2.0, 4.0, 0.5]), torch.tensor([0, 1, -1])
    expected = (2 + 3 * (4 + 1e-6) + 3 / (0.5 + 1e-6)) / 3
    assert deep_sad_loss(d, known, eta=3.0).item() == pytest.approx(expected)


def test_deep_sad_without_labels_is_deep_svdd() -> None:
    d = torch.tensor([2.0, 4.0, 0.5])
    assert deep_sad_loss(d, torch.zeros(3, dtype=torch.long), eta=7.0) == one_class_loss(d)


def _gradient(known: int) -> Tensor:
    d = torch.tensor([0.0, 1.0], requires_grad=True)
    deep_sad_loss(d, torch.tensor([known, known]), eta=1.0).backward()
    assert d.grad is not None
    return d.grad


def test_deep_sad_pulls_normals_in_and_pushes_anomalies_out_with_finite_gradients() -> None:
    assert (_gradient(0) > 0).all()
    assert (_gradient(1) > 0).all()
    assert (_gradient(-1) < 0).all()
    assert all(math.isfinite(g) for known in (-1, 0, 1) for g in _gradient(known).tolist())
