"""Principal components: the residual by hand, maps, and the components that the data ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as Components

import adlightning as ad
from adlightning.core.maps import residual_map
from adlightning.methods.pca import residual
from adlightning.preprocessing import UnitRange


def plane(n: int = 200, seed: int = 0) -> np.ndarray:
    """Points of a plane in five dimensions, with a little noise."""
    rng = np.random.default_rng(seed)
    x: np.ndarray = rng.normal(size=(n, 2)) @ np.array([[1, 2, 0, 1, 0], [0, 1, 1, -1, 2.0]])
    return x + 0.05 * rng.normal(size=(n, 5))


def test_the_residual_by_hand() -> None:
    left = residual(torch.tensor([[3.0, 5.0, 1.0]]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([[1.0, 0.0, 0.0]]))
    assert left.tolist() == [[0.0, 4.0, 0.0]]


def test_scores_are_what_scikit_learn_leaves() -> None:
    x, new = plane(), plane(20, seed=1) + np.eye(5)[0]
    detector = ad.fit(ad.PCA(components=2), ad.Arrays(x, validation_fraction=0), progress=False).detector
    scale = x.std(axis=0)
    fitted = Components(2).fit((x - x.mean(axis=0)) / scale)
    z = (new - x.mean(axis=0)) / scale
    wanted = ((z - fitted.inverse_transform(fitted.transform(z))) ** 2).mean(axis=1)
    np.testing.assert_allclose(detector.score(new), wanted, rtol=1e-3)


def test_a_share_of_the_variance_says_how_many(tmp_path: Path) -> None:
    data = ad.Arrays(
        plane(), np.concatenate([plane(30, seed=2), plane(30, seed=3) + np.eye(5)[0]]), [0] * 30 + [1] * 30
    )
    run = ad.fit(ad.PCA(components=0.9), data, progress=False)
    assert run.report["notes"][-1] == "2 principal components of 5 values"
    assert run.metrics["auroc"] > 0.99
    loaded = ad.load_detector(run.save(tmp_path / "d.ckpt"))
    np.testing.assert_array_equal(loaded.score(plane(5)), run.detector.score(plane(5)))


def test_a_map_shows_where_and_its_maximum_finds_it() -> None:
    rng = np.random.default_rng(0)
    stripes = 100 + 50 * np.sin(np.arange(16) / 2)

    def images(n: int) -> np.ndarray:
        return (stripes * rng.uniform(0.8, 1.2, (n, 1, 1)) + rng.normal(0, 5, (n, 16, 16))).clip(0, 255)

    good, bad = images(30), images(30)
    bad[:, 7:9, 7:9] += 60
    data = ad.Arrays(images(60).astype(np.uint8), np.concatenate([good, bad]).astype(np.uint8), [0] * 30 + [1] * 30)
    run = ad.fit(ad.PCA(components=1, reduction=ad.MaximumOfMap()), data, progress=False)
    assert run.metrics["auroc"] == 1.0
    maps = run.detector.heatmaps(bad.astype(np.uint8))
    assert (maps[:, 7:9, 7:9].mean(axis=(1, 2)) > 5 * maps.mean(axis=(1, 2))).all()


def test_a_padded_border_is_no_part_of_the_map() -> None:
    preprocess = UnitRange((1, 4, 4), pad=2)
    raw = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    made = torch.ones(1, 1, 8, 8)
    made[:, :, 3, 3] = 3
    found = residual_map(preprocess(raw), made, preprocess, raw)
    assert found.shape == (1, 4, 4)
    assert found[0, 1, 1] == 9
    assert found.sum() == 15 + 9


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        (lambda: ad.PCA(components=0), "components must be a number of components, at least 1, or a share"),
        (lambda: ad.PCA(components=1.5), "components must be a number of components"),
        (lambda: ad.PCA(components=6), "components must be at most 5, the smaller of .* training samples and 5 values"),
        (lambda: ad.PCA(reduction=ad.MeanOfMap()), "reduction must be null but for images"),
    ],
)
def test_what_does_not_fit_is_refused(detector: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ad.fit(detector(), ad.Arrays(plane(50)), progress=False)  # type: ignore[operator]


def test_without_held_out_samples_the_threshold_is_by_folds_that_were_left_out() -> None:
    x = np.random.default_rng(0).normal(size=(50, 20))
    detector = ad.fit(ad.PCA(components=10), ad.Arrays(x, validation_fraction=0), progress=False).detector
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    wanted = np.empty(50)
    for fold in range(5):
        left_out = np.arange(50) % 5 == fold
        fitted = Components(10).fit(z[~left_out])
        rest = z[left_out] - fitted.inverse_transform(fitted.transform(z[left_out]))
        wanted[left_out] = (rest**2).mean(axis=1)
    assert detector.threshold.item() == pytest.approx(np.quantile(wanted, 0.95), rel=1e-4)
    assert detector.threshold > np.quantile(detector.score(x), 0.99)  # its own fit knows them by heart
    assert isinstance(detector, ad.PCA)
    assert len(detector.directions) == 10
    np.testing.assert_allclose(detector.center.numpy(), z.mean(axis=0), atol=1e-6)
