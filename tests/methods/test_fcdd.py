"""FCDD and HSC: losses by hand, receptive fields and enlarged maps, small defects found and shown."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Adam

import adlightning as ad
from adlightning.core.contracts import MaskedBatch, TrainBatch
from adlightning.methods.fcdd import fcdd_loss, pixelwise_loss
from adlightning.methods.hsc import hsc_loss
from adlightning.methods.parts.radial import far_loss, pseudo_huber, radial_losses
from adlightning.networks.fully_convolutional import (
    FullyConvolutional,
    GaussianUpsampling,
    ReceptiveField,
    receptive_field,
)

SMALL = partial(FullyConvolutional, stages=((8,), (16,)), kernel=3)


def parts(n: int, scratched: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Striped images (n, 1, 24, 24) with noise, and where the bright scratch lies that some have."""
    rng = np.random.default_rng(seed)
    x = 100 + 60 * np.sin(np.arange(24) + rng.uniform(0, 6, (n, 1, 1))) + rng.normal(0, 4, (n, 24, 24))
    where = np.zeros((n, 24, 24), dtype=bool)
    for i in range(n if scratched else 0):
        row, column = rng.integers(3, 18, 2)
        where[i, row : row + 2, column : column + 5] = True
    x[where] += 80
    return x.clip(0, 255).astype(np.uint8)[:, None], where


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_pseudo_huber_by_hand() -> None:
    squares = torch.tensor([0.0, 3.0, 24.0, 1e-10, 1e10])
    assert pseudo_huber(squares).tolist() == pytest.approx([0, 1, 4, 5e-11, 1e5 - 1], rel=1e-6)


def test_radial_losses_by_hand() -> None:
    h, known = torch.tensor([0.7, 0.7, math.log(2), 50.0]), torch.tensor([1, 0, -1, -1])
    assert radial_losses(h, known).tolist() == pytest.approx([0.7, 0.7, math.log(2), 0])
    at_origin = torch.zeros(1, requires_grad=True)
    loss = far_loss(at_origin)
    loss.backward()
    assert loss.isfinite()
    assert at_origin.grad is not None
    assert at_origin.grad.isfinite()


def test_hsc_loss_by_hand() -> None:
    codes = torch.tensor([[1.0, 1, 1], [0, 0, 0], [2.0, 2, 4]])  # h = 1, 0, 4
    assert hsc_loss(codes, torch.tensor([0, 1, -1])).item() == pytest.approx((1 - math.log(1 - math.exp(-4))) / 3)


def test_fcdd_loss_by_hand() -> None:
    maps = torch.tensor([[[1.0, 3.0]], [[0.0, 1.0]]])
    assert fcdd_loss(maps, torch.tensor([0, -1])).item() == pytest.approx((2 - math.log(1 - math.exp(-0.5))) / 2)


def test_pixelwise_loss_by_hand() -> None:
    maps = torch.tensor([[[1.0, 3.0]], [[2.0, 1.0]], [[2.0, 4.0]]])
    mask = torch.tensor([[[False, False]], [[False, True]], [[False, False]]])
    far = [-math.log(1 - math.exp(-a)) for a in (1 / 2, 3)]
    wanted = (2 + (2 / 2 + far[0]) + far[1]) / 3  # a normal, an anomaly with a mask, one without
    assert pixelwise_loss(maps, mask, torch.tensor([0, -1, -1])).item() == pytest.approx(wanted)
    none = torch.zeros_like(mask)
    known = torch.tensor([1, -1, 0])
    assert pixelwise_loss(maps, none, known).item() == pytest.approx(fcdd_loss(maps, known).item())


def test_a_step_takes_masks_where_there_are_any() -> None:
    x = torch.from_numpy(parts(6)[0])
    known, mask = torch.tensor([0, 0, 0, -1, -1, -1]), torch.zeros(6, 24, 24, dtype=torch.bool)
    mask[3:, 2:6, 2:6] = True
    detectors = [ad.FCDD(network=SMALL), ad.FCDD(network=SMALL, pixelwise=False)]
    for detector in detectors:
        torch.manual_seed(0)
        detector.configure_for(small_spec())
    plain, masked = TrainBatch(x, known, torch.arange(6)), MaskedBatch(x, known, torch.arange(6), mask)
    by = [[detector.training_step(batch, 0).item() for batch in (plain, masked)] for detector in detectors]
    assert by[0][0] == by[1][0] == by[1][1] != by[0][1]


def small_spec() -> Any:
    data = ad.Arrays(parts(24)[0])
    data.setup("fit")
    return data.input_spec


# ---- maps -----------------------------------------------------------------------------------------------------------


def test_receptive_fields_by_hand() -> None:
    assert receptive_field(nn.Conv2d(1, 1, 3, padding=1)) == (3, 1, 0)
    assert receptive_field(nn.Sequential(nn.Conv2d(1, 1, 5), nn.MaxPool2d(2))) == (6, 2, 2.5)
    assert receptive_field(FullyConvolutional((1, 128, 128))) == (66, 8, 3.5)
    assert receptive_field(nn.Conv2d(1, 1, 3, stride=2, padding=1, dilation=2)) == (5, 2, 1)


def test_a_receptive_field_is_what_moves_a_position() -> None:
    network = FullyConvolutional((1, 40, 40), ((2,), (2,)), kernel=3, pool_last=True).eval()
    field = receptive_field(network)
    torch.manual_seed(0)
    seen = torch.zeros(40, 40, dtype=torch.bool)
    for _ in range(60):  # a pooling passes one pixel on
        x = torch.rand(1, 1, 40, 40, requires_grad=True)
        network(x)[0, 0, 4, 5].backward()
        assert x.grad is not None
        seen |= x.grad[0, 0] != 0
    rows, columns = seen.any(dim=1).nonzero()[:, 0], seen.any(dim=0).nonzero()[:, 0]
    middle = [field.start + field.stride * i for i in (4, 5)]
    for found, center in zip((rows, columns), middle, strict=True):
        assert found.min() == center - (field.size - 1) / 2
        assert found.max() == center + (field.size - 1) / 2


@pytest.mark.parametrize("sigma", [None, 2.0])
def test_enlarging_is_a_transposed_convolution_with_a_gaussian(sigma: float | None) -> None:
    field, maps = ReceptiveField(22, 4, 1.5), torch.rand(3, 1, 10, 12)
    deviation = 0.3 * (21 / 2 - 1) + 0.8 if sigma is None else sigma
    line = torch.exp(-0.5 * ((torch.arange(22) - 10.5) / deviation).square())
    kernel = (line[:, None] * line)[None, None]
    spread = [F.conv_transpose2d(each, kernel, stride=4)[..., 9 : 9 + 40, 9 : 9 + 48] for each in (maps, maps * 0 + 1)]
    large = GaussianUpsampling((40, 48), (10, 12), field, sigma)(maps)
    torch.testing.assert_close(large, (spread[0] / spread[1])[:, 0])
    assert GaussianUpsampling((40, 48), (10, 12), field)(maps * 0 + 3) == pytest.approx(3)


def test_pixels_that_no_position_sees_take_the_nearest() -> None:
    large = GaussianUpsampling((6, 1), (2, 1), ReceptiveField(1, 2, 0))(torch.tensor([[[[1.0], [5.0]]]]))
    assert large.flatten().tolist() == [1, 1, 5, 5, 5, 5]


def test_positions_let_a_network_tell_places_apart() -> None:
    torch.manual_seed(0)
    x = torch.zeros(2, 1, 12, 10)
    blind, seeing = (FullyConvolutional((1, 12, 10), ((4,),), 1, positions=given).eval() for given in (False, True))
    assert blind(x).std().item() == pytest.approx(0, abs=1e-6)
    assert seeing(x).std() > 1e-3
    assert torch.equal(seeing(x)[0], seeing(x)[1])
    assert seeing.state_dict().keys() == blind.state_dict().keys()  # a grid is no weight


# ---- fits -----------------------------------------------------------------------------------------------------------


def test_a_small_defect_is_found_and_shown() -> None:
    (train, _), (good, _), (bad, where) = parts(64), parts(20, seed=1), parts(20, True, seed=2)
    data = ad.Arrays(
        train,
        np.concatenate([good, bad]),
        [0] * 20 + [1] * 20,
        batch_size=16,
        synthetic_anomalies=ad.Confetti(size=(0.08, 0.3)),
    )
    detector = ad.FCDD(network=SMALL, reduction=ad.MaximumOfMap(), optimizer=partial(Adam, lr=3e-3))
    run = ad.fit(detector, data, 15, seed=0, progress=False)
    assert run.metrics["auroc"] > 0.98
    maps = run.detector.heatmaps(bad)
    assert maps.shape == (20, 24, 24)
    inside, outside = (np.median([m[w].mean() for m, w in zip(maps, at, strict=True)]) for at in (where, ~where))
    assert inside > 3 * outside
    np.testing.assert_allclose(run.detector.heatmaps(bad, batch_size=3), maps, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(run.detector.score(bad), ad.MaximumOfMap().reduce(torch.from_numpy(maps)), rtol=1e-4)
    assert not any("no known anomaly" in note for note in run.report["notes"])


def test_a_fit_without_anomalies_says_so() -> None:
    run = ad.fit(ad.FCDD(network=SMALL), ad.Arrays(parts(24)[0]), 1, progress=False)
    assert any("no known anomaly: maps may shrink to 0" in note for note in run.report["notes"])
    with pytest.raises(ValueError, match="HSC needs known anomalies to train on"):
        ad.fit(ad.HSC(), ad.Arrays(parts(24)[0]), 1, progress=False)


class Skipping(nn.Module):
    """A network whose layers do not come one after the other."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(shape[0], 1, 1, stride=4), nn.Conv2d(shape[0], 1, 1, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given: torch.Tensor = self.a(x) + self.b(x)
        return given


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: ad.FCDD(sigma=0), "sigma must be positive and finite, or null for that of the receptive field"),
        (lambda: FullyConvolutional((1, 24, 24), kernel=4), "kernel must be odd and positive, got 4"),
        (lambda: FullyConvolutional((1, 8, 8), stages=((4,),) * 5), "4 poolings .* sides of at least 16 pixels"),
        (lambda: FullyConvolutional((1, 8, 8), stages=()), "stages must name at least one stage"),
        (lambda: ad.fit(ad.FCDD(), ad.Arrays(np.eye(24)), progress=False), r"FCDD takes images \(C, H, W\)"),
        (
            lambda: ad.fit(ad.FCDD(network=ad.LeNetEncoder), ad.Arrays(parts(24)[0]), progress=False),
            "network must have convolutions and poolings alone, got a Linear",
        ),
        (
            lambda: ad.fit(ad.FCDD(network=Skipping), ad.Arrays(parts(24)[0]), progress=False),
            "network must be convolutions and poolings one after the other: theirs lie 16 pixels apart",
        ),
    ],
)
def test_what_does_not_fit_is_refused(run: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run()
