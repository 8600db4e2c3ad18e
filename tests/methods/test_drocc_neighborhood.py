"""The strict neighbourhood of DROCC, equation 1: by hand, in a fit, and what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from conftest import MakeTrainer
from torch import Tensor, nn

import adlightning.methods.parts.neighborhood as part
from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.data.labelled import AnomalyLabelled
from adlightning.labels import UNLABELLED
from adlightning.methods import DROCC, DROCCOE, DROCCRand
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.neighborhood import Neighborhood, is_off_samples, nearest_samples, off_samples
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import Identity
from adlightning.testing import Blobs

MLP: dict[str, Any] = {
    "encoder": partial(MLPEncoder, rep_dim=16, leakiness=0.0, bias=True),
    "head": Head(activation="leaky_relu", leakiness=0.0),
    "preprocessing": Identity,
}
STRICT = Neighborhood("strict")
TWO = torch.tensor([[0.0, 0.0], [1.5, 0.0]])


def planar(cls: type[DROCC] = DROCC, neighborhood: Neighborhood = STRICT) -> DROCC:
    """In the plane, with r = 1 and gamma = 2, and two normal samples."""
    torch.manual_seed(0)
    detector = cls(**MLP, radius=1.0, gamma=2.0, mu=0.5, neighborhood=neighborhood)
    detector.configure_for(InputSpec("table", (2,)))
    detector.normals = TWO
    return detector


def test_points_move_straight_off_the_sample_nearest_to_them() -> None:
    # (1.2, 0.4) is 0.5 from (1.5, 0), in the direction (-0.6, 0.8); (0, 0.5) is 0.5 from the origin; (3, 4) is far
    points = torch.tensor([[1.2, 0.4], [0.0, 0.5], [3.0, 4.0], [1.5, 0.0]])
    expected = [[0.9, 0.8], [0.0, 1.0], [3.0, 4.0], [1.5, 0.0]]  # the last lies on a sample and has no direction
    assert off_samples(points, TWO, 1.0).tolist() == [pytest.approx(row) for row in expected]
    assert is_off_samples(points, TWO, 1.0).tolist() == [False, False, True, False]
    assert is_off_samples(torch.tensor(expected), TWO, 1.0).tolist() == [True, True, True, False]


def test_the_nearest_sample_is_found_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    points, samples = torch.randn(7, 3), torch.randn(50, 3)
    whole = nearest_samples(points, samples)
    monkeypatch.setattr(part, "_BLOCK", 7 * 12)  # twelve samples a block, two in the last
    for ours, expected in zip(nearest_samples(points, samples), whole, strict=True):
        torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(whole[1].squeeze(1), torch.cdist(points, samples).min(dim=1).values)


def test_a_strict_projection_by_hand() -> None:
    # of the sample at the origin. The first is as above, and 1.2 from the origin; the second is too far, and comes back
    # along itself. The third lies between two samples less than 2 r apart: pushed from one to the other, it stays
    x = torch.zeros(3, 2)
    h = torch.tensor([[1.2, 0.4], [0.0, 5.0], [1.2, 0.0]])
    projected = planar().projection(x)(h)
    assert projected.tolist() == [pytest.approx(row) for row in ([0.9, 0.8], [0.0, 2.0], [1.0, 0.0])]
    assert is_off_samples(projected, TWO, 1.0).tolist() == [True, True, False]
    relaxed = planar(neighborhood=Neighborhood())
    relaxed.normals = None
    expected = [[1.2, 0.4], [0.0, 2.0], [1.2, 0.0]]  # all that counts is the distance from the origin
    assert relaxed.projection(x)(h).tolist() == [pytest.approx(row) for row in expected]


def test_a_negative_without_a_place_costs_nothing() -> None:
    class Fixed(DROCCRand):
        def offsets(self, x: Tensor) -> Tensor:
            return torch.tensor([[0.0, 1.5], [0.5, 0.0]])  # the second is 0.5 from its own sample

    detector = planar(Fixed)
    detector._trainer = _AtFirstEpoch()  # type: ignore[assignment]
    outputs = detector.training_step(TrainBatch(TWO, torch.tensor([UNLABELLED] * 2), torch.arange(2)), 0)
    assert isinstance(outputs, dict)
    f, g = detector.logits(TWO), detector.logits(torch.tensor([[0.0, 1.5]]))
    expected = nn.functional.softplus(-f).mean() + 0.5 * nn.functional.softplus(g).sum() / 2
    assert outputs["loss"].item() == pytest.approx(expected.item())
    assert outputs["negatives_allowed"].item() == 0.5


class _AtFirstEpoch:
    """As much of a Trainer as a training step asks for."""

    current_epoch, world_size, training = 0, 1, True

    def __init__(self) -> None:
        self.lr_scheduler_configs: list[Any] = []


@pytest.mark.parametrize("cls", [DROCC, DROCCRand, DROCCOE])
def test_a_fit_keeps_negatives_off_all_normal_samples(cls: type[DROCC], make_trainer: MakeTrainer) -> None:
    seen: list[Tensor] = []

    class Watched(cls):  # type: ignore[valid-type, misc]
        def offsets(self, x: Tensor) -> Tensor:
            h: Tensor = super().offsets(x)
            seen.append(torch.cdist(x + h, self.normals).min(dim=1).values)
            return h

    options: dict[str, Any] = {} if cls is DROCCRand else {"ascent": Ascent(steps=3, step_size=0.1)}
    detector = Watched(**MLP, radius=1.0, neighborhood=STRICT, **options)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=blobs())
    least = torch.cat(seen)
    share = float(trainer.callback_metrics["train/negatives_allowed"])
    assert 0.5 < share <= 1
    assert (least >= 0.999).float().mean().item() == pytest.approx(share, abs=0.05)
    assert detector.normals is None  # no longer needed
    assert not [name for name in detector.state_dict() if "normals" in name]


def blobs(**options: Any) -> AnomalyLabelled:
    return AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0, **options)


def test_what_leaves_no_training_samples_to_keep_away_from_is_refused(make_trainer: MakeTrainer) -> None:
    for options, message in (
        ({"train_transforms": [nn.Identity()]}, "neighborhood.kind: strict .* which data.train_transforms changes"),
        ({"device_budget_mb": 0}, r"neighborhood.kind: strict .* MiB, more than data.device_budget_mb=0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_trainer(max_epochs=1).fit(DROCC(**MLP, neighborhood=STRICT), datamodule=blobs(**options))
    make_trainer(max_epochs=1).fit(DROCC(**MLP, ascent=Ascent(steps=1)), datamodule=blobs(device_budget_mb=0))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"neighborhood.rounds must be at least 1, got 0"):
        Neighborhood("strict", rounds=0)
    with pytest.raises(ValueError, match=r"neighborhood.kind must be one of relaxed, strict, got 'loose'"):
        Neighborhood("loose")  # type: ignore[arg-type]
