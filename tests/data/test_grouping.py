"""Samples of several images: who is with whom, what is left out, lazy images, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adlightning.data.grouping import grouped
from adlightning.data.out_of_distribution import OutOfDistribution
from adlightning.data.sources import UniformNoise
from adlightning.data.sources.base import ClassSource, Samples
from adlightning.testing import Stripes


def numbered(n: int) -> Samples:
    """Images of 2x3 pixels, each full of its number."""
    x = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 3).contiguous()
    return Samples(x, np.arange(n) % 3, tuple(f"image {i}" for i in range(n)))


class Lazy:
    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index]


def test_images_of_a_kind_are_stacked_and_what_fills_no_group_is_left_out() -> None:
    samples, kinds = numbered(20), [np.arange(7), np.arange(10, 20)]
    made, (first, second) = grouped(samples, kinds, size=3, seed=0)
    assert isinstance(made.x, Tensor)
    assert made.x.shape == (5, 1, 6, 3)
    assert (first.tolist(), second.tolist()) == ([0, 1], [2, 3, 4])
    members = made.x[:, 0, ::2, 0]  # one row of each image
    assert torch.equal(members.repeat_interleave(2, dim=1), made.x[:, 0, :, 1])
    for rows, kind in zip((first, second), kinds, strict=True):
        seen = members[torch.from_numpy(rows)].flatten().tolist()
        assert len(set(seen)) == len(seen) == len(kind) // 3 * 3
        assert set(seen) <= set(kind.tolist())
    assert made.names[0] == " + ".join(f"image {i}" for i in members[0].tolist())
    assert made.y[0] == samples.y[members[0, 0]]


def test_a_draw_depends_on_the_seed_and_on_no_other_kind() -> None:
    samples, kind = numbered(20), np.arange(10)
    alone = grouped(samples, [kind], size=2, seed=0)[0].names
    beside = grouped(samples, [np.arange(10, 20), kind], size=2, seed=0)[0].names
    other = grouped(samples, [kind], size=2, seed=1)[0].names
    assert beside[5:] == alone
    assert other != alone


def test_lazy_images_are_stacked_when_asked_for() -> None:
    samples = numbered(6)
    assert isinstance(samples.x, Tensor)
    lazy = Samples(Lazy(samples.x), samples.y, samples.names)
    made, decoded = (grouped(of, [np.arange(6)], 2, 0)[0].x for of in (lazy, samples))
    assert len(made) == 3
    assert all(torch.equal(made[i], decoded[i]) for i in range(3))


def pairs(**options: Any) -> OutOfDistribution:
    anomalies: dict[str, ClassSource] = {"noise": UniformNoise(100), "more": UniformNoise(50, seed=1)}
    data = OutOfDistribution(Stripes(), anomalies, **{"batch_of": 2, "seed": 0, **options})
    data.prepare_data()
    data.setup("fit")
    return data


def test_training_validation_and_test_are_of_pairs_of_one_kind() -> None:
    data, single = pairs(validation_anomalies=10, validation_source="noise"), pairs(batch_of=1)
    assert data.input_spec.shape == (1, 32, 16)
    assert "samples of 2 images of one kind" in data.input_spec.description
    assert len(data.split.train) == len(single.split.train) // 2
    assert data.split.validation_labels.sum() == 5
    for name, rows in data.test_sets.items():
        labels = dict(zip(data.split.test.tolist(), data.split.test_labels.tolist(), strict=True))
        for row in rows:
            of = [part.startswith(f"{name}/") for part in data.test_samples.names[row].split(" + ")]
            assert len(of) == 2
            assert of == [bool(labels[row])] * 2
    images = [name for row in data.split.train for name in data.train_samples.names[row].split(" + ")]
    held_out = [name for row in data.split.validation for name in data.train_samples.names[row].split(" + ")]
    assert len(set(images)) == len(images)
    assert not set(images) & set(held_out)


def test_refuses_no_images_and_kinds_that_are_too_small() -> None:
    with pytest.raises(ValueError, match="batch_of must be at least 1, got 0"):
        OutOfDistribution(Stripes(), {"noise": UniformNoise(100)}, batch_of=0)
    with pytest.raises(ValueError, match="batch_of=60 needs as many images of a kind, there are 50 of one"):
        pairs(batch_of=60, anomaly_ratio=None, validation_fraction=0.0)
