"""PatchCore: distances, weights and coreset by hand, maps that show where, a bank that a checkpoint holds."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

import adlightning as ad
from adlightning.core.maps import MaximumOfMap, MeanOfMap, TopShare, enlarged, smoothed
from adlightning.methods.patch_knn import greedy_coreset, nearest, reweighted
from adlightning.networks.patches import BackbonePatches, RawPatches, TimmPatches

PATCHES = partial(RawPatches, size=4, stride=2)


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


def test_nearest_by_hand() -> None:
    bank = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    distance, index = nearest(torch.tensor([[0.0, 1.0], [3.0, 4.0], [100.0, 4.0]]), bank)
    assert distance.tolist() == pytest.approx([1, 0, 97])
    assert index.tolist() == [0, 1, 1]


def test_a_small_distance_between_large_values_is_not_lost() -> None:
    bank = torch.tensor([[1000.0, 1000.0], [0.0, 0.0]])
    distance, _ = nearest(bank[:1] + 1e-3, bank)
    assert distance.item() == pytest.approx(1e-3 * math.sqrt(2), rel=0.1)


def test_equation_7_by_hand() -> None:
    bank = torch.tensor([[0.0], [1.0], [10.0]])
    patch, neighbor = torch.tensor([[2.0]]), torch.tensor([1])
    score = reweighted(torch.tensor([1.0]), patch, neighbor, bank, 2)  # of 1 the two nearest are 1 and 0
    assert score.item() == pytest.approx((1 - math.e / (math.e + math.e**2)) * 1)
    far = reweighted(torch.tensor([500.0]), torch.tensor([[501.0]]), neighbor, bank, 2)
    assert far.item() == pytest.approx(500 * (1 - 1 / (1 + math.e)))  # no overflow


def test_the_coreset_takes_the_farthest_next() -> None:
    patches = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])
    for seed in range(5):
        chosen = greedy_coreset(patches, 3, torch.Generator().manual_seed(seed))
        assert {patches[i].item() // 4 for i in chosen} == {0.0, 1.0, 2.0}  # one of each heap
    everything = greedy_coreset(patches, 6, torch.Generator().manual_seed(0))
    assert sorted(everything.tolist()) == list(range(6))


def test_a_small_defect_is_found_and_shown() -> None:
    (train, _), (good, _), (bad, where) = parts(40), parts(20, seed=1), parts(20, True, seed=2)
    data = ad.Arrays(train, np.concatenate([good, bad]), [0] * 20 + [1] * 20)
    run = ad.fit(ad.PatchKNN(features=PATCHES), data, progress=False)
    assert run.metrics["auroc"] == 1.0
    maps = run.detector.heatmaps(bad)
    assert maps.shape == (20, 24, 24)
    assert maps.dtype == np.float32
    assert all(maps[i][where[i]].mean() > 3 * maps[i][~where[i]].mean() for i in range(20))
    assert "patches of 5,184 of normal images" in run.report["notes"][-1]
    np.testing.assert_allclose(run.detector.heatmaps(bad, batch_size=3), maps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", [MeanOfMap(), MaximumOfMap(sigma=0), TopShare(0.05)])
def test_a_trained_bank_is_scored_by_any_reduction(reduction: ad.Reduction, tmp_path: Path) -> None:
    detector = ad.fit(ad.PatchKNN(features=PATCHES), ad.Arrays(parts(20)[0]), progress=False)
    path = detector.save(tmp_path / "d.ckpt")
    x, _ = parts(5, True, seed=3)
    loaded = ad.load_detector(path, scoring={"reduction": reduction})
    wanted = reduction.reduce(torch.from_numpy(detector.detector.heatmaps(x)))
    np.testing.assert_allclose(loaded.score(x), wanted, rtol=1e-4)
    same = ad.load_detector(path)
    assert torch.equal(same.state_dict()["bank"], detector.detector.state_dict()["bank"])
    np.testing.assert_array_equal(same.score(x), detector.detector.score(x))


def test_reductions_by_hand() -> None:
    maps = torch.zeros(1, 10, 10)
    maps[0, 4, 4], maps[0, 0, 0] = 8.0, 4.0
    assert MeanOfMap().reduce(maps).item() == pytest.approx(0.12)
    assert MaximumOfMap(sigma=0).reduce(maps).item() == 8
    assert TopShare(0.02, sigma=0).reduce(maps).item() == 6
    assert TopShare(0.0001, sigma=0).reduce(maps).item() == 8
    assert smoothed(torch.ones(2, 5, 7), 2.0) == pytest.approx(1)  # also at the borders
    assert smoothed(maps, 1.0)[0, 4, 4].item() == pytest.approx(8 / (2 * math.pi), rel=0.05)
    assert enlarged(torch.tensor([[[1.0, 3.0]]]), (1, 4)).tolist() == [[[1.0, 1.5, 2.5, 3.0]]]


@pytest.mark.parametrize(("side", "size", "stride"), [(24, 4, 2), (23, 8, 4), (8, 8, 8), (8, 3, 1), (9, 8, 7)])
def test_patches_lie_evenly_and_leave_no_pixel_out(side: int, size: int, stride: int) -> None:
    at = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)
    patches = RawPatches((1, side, side), size, stride)(at)
    assert patches.shape == (1, size * size, -(-side // stride), -(-side // stride))
    assert set(patches.flatten().tolist()) == set(range(side * side))


def test_patches_of_a_network_with_weights_of_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.resnet18()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    weights, layers = str(tmp_path / "weights.pth"), ["layer1", "layer2"]
    features = partial(BackbonePatches, name="resnet18", layers=layers, weights=weights)
    detector = ad.fit(ad.PatchKNN(features=features), ad.Arrays(parts(12)[0]), progress=False).detector
    assert detector.state_dict()["bank"].shape[1] == 64 + 128
    made = detector.features
    assert isinstance(made, BackbonePatches)
    assert torch.equal(made.extractor.conv1.weight, network.conv1.weight)
    assert detector.heatmaps(parts(2)[0]).shape == (2, 24, 24)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ad.PatchKNN(coreset=0), r"coreset must lie in \(0, 1\], got 0"),
        (lambda: ad.PatchKNN(neighbors=0), "neighbors must be positive"),
        (lambda: ad.MaximumOfMap(sigma=-1), "sigma must not be negative, got -1"),
        (lambda: ad.TopShare(share=0.0), r"share must lie in \(0, 1\], got 0.0"),
        (lambda: RawPatches((1, 6, 8)), "size must be at most the smaller side of an image, got 8"),
        (lambda: RawPatches((1, 16, 16), 4, 5), "stride must lie in 1 to size=4: else pixels are left out, got 5"),
        (lambda: BackbonePatches((1, 64, 64), "resnet17"), "name must be the name of a torchvision network"),
        (lambda: BackbonePatches((1, 64, 64), "resnet18", ["layer9"]), r"layers must be layers of resnet18 \(conv1"),
        (lambda: BackbonePatches((1, 64, 64), "resnet18", neighborhood=2), "neighborhood must be odd"),
        (lambda: TimmPatches((1, 64, 64), "resnet10x"), r"name must be one of timm.list_models\(\), got 'resnet10x'"),
        (lambda: TimmPatches((1, 64, 64), "resnet10t", [9]), r"name: resnet10t gives no maps of layers=\[9\]"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


def test_tables_are_refused() -> None:
    with pytest.raises(ValueError, match=r"PatchKNN takes images \(C, H, W\)"):
        ad.fit(ad.PatchKNN(), ad.Arrays(np.zeros((10, 3)) + np.arange(10)[:, None]), progress=False)


def test_a_bank_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)
    path = ad.fit(ad.PatchKNN(), ad.Arrays(images), progress=False).save(tmp_path / "d.ckpt")
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["bank"][0, 3] = torch.nan
    torch.save(saved, path)
    with pytest.raises(ValueError, match="bank must hold finite numbers"):
        ad.load_detector(path)


def test_what_is_put_together_of_normal_patches_has_no_defect() -> None:
    bad, where = parts(5, True, seed=2)
    detector = ad.fit(ad.PatchKNN(features=PATCHES), ad.Arrays(parts(40)[0]), progress=False).detector
    nearest = detector.nearest_normal(torch.from_numpy(bad))
    assert nearest is not None
    assert nearest.shape == (5, 1, 24, 24)
    shown, own = nearest.numpy() * 255, bad.astype(float)
    assert all(shown[i, 0][where[i]].mean() < own[i, 0][where[i]].mean() - 30 for i in range(5))
    assert np.abs(shown - own)[~where[:, None]].mean() < 25


def test_faiss_finds_the_same_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = ad.fit(ad.PatchKNN(features=PATCHES), ad.Arrays(parts(20)[0]), progress=False).detector
    x = parts(6, True, seed=4)[0]
    exact, maps = detector.score(x), detector.heatmaps(x)
    assert isinstance(detector, ad.PatchKNN)
    detector.search = "faiss"
    pytest.importorskip("faiss")
    np.testing.assert_allclose(detector.score(x), exact, rtol=1e-5)
    np.testing.assert_allclose(detector.heatmaps(x), maps, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("adlightning.methods.patch_knn.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="search must be exact, or faiss be installed"):
        ad.PatchKNN(search="faiss")


def test_a_bank_too_large_for_a_graph_is_named() -> None:
    detector = ad.fit(ad.PatchKNN(features=PATCHES), ad.Arrays(parts(20)[0]), progress=False).detector
    assert detector.score_needs is None
    assert isinstance(detector, ad.PatchKNN)
    detector.bank = torch.empty(1, detector.bank.shape[1]).expand(2**21, -1)
    assert detector.score_needs is not None
    assert detector.score_needs.startswith("1.1 GiB of distances an image, more than 1 GiB")


@pytest.mark.parametrize("weights", [None, "file"])
def test_patches_of_a_timm_network(weights: str | None, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False)
    if weights == "file":
        weights = str(tmp_path / "weights.pth")
        torch.save(network.state_dict(), weights)
    features = partial(TimmPatches, name="resnet10t", layers=[1, 2], weights=weights)
    detector = ad.fit(ad.PatchKNN(features=features), ad.Arrays(parts(12)[0]), progress=False).detector
    made = detector.features
    assert isinstance(made, TimmPatches)
    assert detector.state_dict()["bank"].shape[1] == sum(made.channels)
    if weights is not None:
        own, given = made.extractor.state_dict(), network.state_dict()
        assert torch.equal(own["conv1.0.weight"], given["conv1.0.weight"])
    assert detector.heatmaps(parts(2)[0]).shape == (2, 24, 24)


def test_a_threshold_by_few_images_is_said_and_one_by_left_out_images_can_be_had() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    new = np.random.default_rng(1).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    few = ad.fit(ad.PatchKNN(coreset=1.0), ad.Arrays(images), progress=False)
    assert few.report["notes"][0].startswith("the threshold is by 2 held-out normal samples: about 35% of new normal ")
    assert "or nothing (0)" in few.report["notes"][0]
    run = ad.fit(ad.PatchKNN(coreset=1.0), ad.Arrays(images, validation_fraction=0), progress=False)
    assert "by 2 held-out" not in str(run.report["notes"])
    threshold = run.detector.threshold.item()
    assert run.detector.score(images).max() < 1e-3 < threshold  # in the bank, each is its own neighbour
    assert (run.detector.score(new) > threshold).mean() < 0.4
    assert run.report["notes"][-1].startswith("the bank holds 320 patches of 320 of normal images")


def test_a_method_without_a_map_says_what_has_one() -> None:
    detector = ad.fit(ad.KDE(), ad.Arrays(parts(12)[0]), progress=False).detector
    with pytest.raises(ValueError, match=r"KDE does not say where .*: heatmaps\(\) shows it by occlusion"):
        detector.anomaly_map(torch.from_numpy(parts(2)[0]))
