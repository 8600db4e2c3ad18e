from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM
from torch import Tensor

from adlightning.data.sources import NoisySine, Sine, Sphere
from adlightning.data.sources.base import AnomalySource, Part

PARTS: tuple[Part, Part] = ("train", "test")
SMALL = {"n_train": 64, "n_test": 32}
SOURCES: list[Callable[..., AnomalySource]] = [
    lambda seed=0: Sine(**SMALL, seed=seed),
    lambda seed=0: NoisySine(**SMALL, seed=seed),
    lambda seed=0: Sphere(**SMALL, seed=seed),
]


def arrays(source: AnomalySource, part: Part) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    samples = source.load(part)
    assert samples is not None
    assert isinstance(samples.x, Tensor)
    return samples.x.double().numpy(), samples.y


@pytest.mark.parametrize("make", SOURCES)
def test_parts_are_labelled_named_and_described(make: Callable[..., AnomalySource]) -> None:
    source = make()
    train, test, spec = source.load("train"), source.load("test"), source.input_spec()
    assert train is not None
    assert test is not None
    assert tuple(test.x[0].shape) == tuple(train.x[0].shape) == spec.shape
    assert spec.kind == "table"
    assert spec.features == tuple(f"x{i}" for i in range(spec.shape[0]))
    assert test.y.tolist() == [0] * 32 + [1] * 32
    assert (train.y == 0).sum() == 64
    assert test.names[0] == "test/0"
    assert train.names[-1] == f"train/{len(train.y) - 1}"


@pytest.mark.parametrize("make", SOURCES)
def test_draws_are_those_of_the_seed_and_parts_differ(make: Callable[..., AnomalySource]) -> None:
    for part in PARTS:
        np.testing.assert_array_equal(arrays(make(1), part)[0], arrays(make(1), part)[0])
        assert not np.isclose(arrays(make(1), part)[0], arrays(make(2), part)[0]).any()
    assert not np.isclose(arrays(make(1), "train")[0][:32], arrays(make(1), "test")[0][:32]).any()


def test_normals_lie_on_the_wave_and_anomalies_above_and_below_it() -> None:
    source = Sine(displacement=0.5, n_train=200, n_test=100, periods=3, wavelength=2.0)
    x, y = arrays(source, "train")
    assert not y.any()
    np.testing.assert_allclose(x[:, 1], np.sin(math.pi * x[:, 0]), atol=1e-5)
    assert x[:, 0].min() >= 0
    assert x[:, 0].max() <= 6
    assert abs(x[:, 0].mean() - 3) < 0.5  # uniform over the three periods
    x, y = arrays(source, "test")
    off = x[:, 1] - np.sin(math.pi * x[:, 0])
    np.testing.assert_allclose(off[y == 0], 0, atol=1e-5)
    np.testing.assert_allclose(np.sort(off[y == 1]), [-0.5] * 50 + [0.5] * 50, atol=1e-5)


def test_noise_is_on_the_second_coordinate_only() -> None:
    x, _ = arrays(Sine(n_train=1000, n_test=1, noise=0.1), "train")
    assert np.std(x[:, 1] - np.sin(x[:, 0])) == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(x[:, 0], arrays(Sine(n_train=1000, n_test=1), "train")[0][:, 0])


def test_a_small_displacement_is_easy_for_nearest_neighbours_and_hard_for_an_enclosing_ball() -> None:
    # published at 0.2: nearest neighbour 1.00, OC-SVM 0.57
    source = Sine(displacement=0.2)
    train, _ = arrays(source, "train")
    test, y = arrays(source, "test")
    distance = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(test)[0][:, 0]
    assert roc_auc_score(y, distance) > 0.995
    assert roc_auc_score(y, -OneClassSVM(gamma="scale", nu=0.1).fit(train).score_samples(test)) < 0.65


def test_the_noisy_wave_has_known_anomalies_and_normal_noise_in_the_other_coordinates() -> None:
    source = NoisySine(0.5, train_displacement=2.0, n_train=500, n_train_anomalies=300, n_test=400, n_features=7)
    cases: list[tuple[Part, float, list[int]]] = [("train", 2.0, [500, 300]), ("test", 0.5, [400, 400])]
    for part, displacement, counts in cases:
        x, y = arrays(source, part)
        assert np.bincount(y).tolist() == counts
        off = np.abs(x[:, 1] - np.sin(x[:, 0]))
        np.testing.assert_allclose(off, displacement * y, atol=1e-5)
        noise = x[:, 2:]
        assert noise.shape[1] == 5
        assert np.abs(noise.mean(axis=0)).max() < 0.15
        np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.12)


def test_normals_fill_the_unit_ball_and_anomalies_lie_on_the_sphere() -> None:
    source = Sphere(radius=1.2, dimension=3, n_train=4000, n_test=1000)
    x, y = arrays(source, "train")
    radii = np.linalg.norm(x, axis=1)
    assert not y.any()
    assert radii.max() <= 1 + 1e-6
    # uniform in volume: a half of the points lies within the radius that has a half of the volume
    assert np.mean(radii < 0.5 ** (1 / 3)) == pytest.approx(0.5, abs=0.03)
    assert np.abs(x.mean(axis=0)).max() < 0.05
    x, y = arrays(source, "test")
    np.testing.assert_allclose(np.linalg.norm(x[y == 1], axis=1), 1.2, rtol=1e-5)
    assert np.linalg.norm(x[y == 0], axis=1).max() <= 1 + 1e-6
    assert np.abs(x[y == 1].mean(axis=0)).max() < 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sine(displacement=0), "displacement must be positive, got 0"),
        (lambda: Sine(displacement=math.nan), "displacement must be positive, got nan"),
        (lambda: Sine(periods=-1), "periods must be positive, got -1"),
        (lambda: Sine(wavelength=0), "wavelength must be positive, got 0"),
        (lambda: Sine(noise=-0.1), "noise must not be negative, got -0.1"),
        (lambda: Sine(n_train=0), "n_train must be at least 1, got 0"),
        (lambda: Sine(n_test=0), "n_test must be at least 1, got 0"),
        (lambda: Sine(seed=-1), "seed must not be negative, got -1"),
        (lambda: NoisySine(train_displacement=0), "train_displacement must be positive, got 0"),
        (lambda: NoisySine(n_train_anomalies=0), "n_train_anomalies must be at least 1, got 0"),
        (lambda: NoisySine(n_features=2), "n_features must be above 2, .* got 2"),
        (lambda: Sphere(radius=1.0), "radius must be above 1, .* got 1.0"),
        (lambda: Sphere(dimension=1), "dimension must be at least 2, got 1"),
    ],
)
def test_arguments_are_checked_at_once(make: Callable[[], AnomalySource], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
