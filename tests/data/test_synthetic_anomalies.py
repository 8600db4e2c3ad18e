"""Synthetic anomalies: what is pasted and where, by the seed, in training batches alone, and who may learn from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import adlightning as ad
from adlightning.core.contracts import MaskedBatch, TrainBatch
from adlightning.data.synthetic import jittered, offsets, turned_box
from adlightning.labels import KNOWN_ANOMALY, KNOWN_NORMAL, UNLABELLED

NOISE = torch.randint(0, 256, (64, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Inverted(ad.SyntheticAnomalies):
    def make(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return 255 - images, torch.ones_like(images[:, 0], dtype=torch.bool)


@dataclass(frozen=True)
class Halved(ad.SyntheticAnomalies):
    def make(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images / 2, images[:, 0] > 0


def made(kind: ad.SyntheticAnomalies, images: Tensor = NOISE, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    return kind.make(images)


def stripes(n: int = 48) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = 100 + 60 * np.sin(np.arange(16) + rng.uniform(0, 6, (n, 1, 1))) + rng.normal(0, 4, (n, 16, 16))
    return x.clip(0, 255).astype(np.uint8)[:, None]


# ---- what is made ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["patch", "scar", "both"])
def test_what_is_pasted_was_cut_from_the_image(variant: Any) -> None:
    images, where = made(ad.CutPaste(variant=variant, jitter=0.0))
    at = where[:, None].expand_as(images)
    assert images.dtype == torch.uint8
    assert torch.equal(images[~at], NOISE[~at])
    assert (images != NOISE).any(dim=1)[where].float().mean() > 0.9
    colours = [{tuple(c) for c in image.flatten(1).T.tolist()} for image in NOISE]
    for image, mask, own in zip(images, where, colours, strict=True):
        assert {tuple(c) for c in image[:, mask].T.tolist()} <= own


def test_a_patch_is_a_whole_rectangle_moved() -> None:
    images, where = made(ad.CutPaste(variant="patch", area=(0.04, 0.04), aspect=(1, 1), jitter=0.0))
    assert where.flatten(1).sum(dim=1).tolist() == [64] * 64  # 8x8 of 40x40
    top, left = (int(i) for i in where[0].nonzero()[0])
    patch, windows = images[0, :, top : top + 8, left : left + 8], NOISE[0].unfold(1, 8, 1).unfold(2, 8, 1)
    assert (windows == patch[:, None, None]).all(dim=(0, 3, 4)).any()


def test_sizes_follow_the_papers_spans() -> None:
    large = torch.zeros(400, 1, 64, 64, dtype=torch.uint8)
    share = made(ad.CutPaste(variant="patch"), large)[1].float().mean(dim=(1, 2))
    assert 0.015 < share.min() < 0.03
    assert 0.13 < share.max() < 0.16
    scars = made(ad.CutPaste(variant="scar"), large)[1].flatten(1).sum(dim=1)  # 2 to 6 pixels by 1 to 4
    assert scars.min() >= 1
    assert scars.max() <= 6 * 4 + 8
    both = made(ad.CutPaste(), large)[1].flatten(1).sum(dim=1)
    assert 0.4 < (both > 40).float().mean() < 0.6


def test_turned_axes_by_hand() -> None:
    along, across = offsets(3, 3, torch.tensor([[1.0, 1.0]]), torch.tensor([math.pi / 2]))
    assert along[0, 1].tolist() == pytest.approx([1, 0, -1])
    assert across[0, :, 1].tolist() == pytest.approx([-1, 0, 1])
    box = turned_box(torch.tensor([[6.0, 2.0]] * 3), torch.tensor([0.0, math.pi / 2, math.pi / 4]))
    assert box.tolist() == [[6, 2], [2, 6], [6, 6]]  # 8 / sqrt 2 = 5.7


def test_jitter_by_hand() -> None:
    red = torch.tensor([200, 100, 60]).byte().view(1, 3, 1, 1).expand(1, 3, 2, 2).contiguous()
    changes = torch.tensor([[0.1, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, -0.5, 0], [0, 0, 0, 1 / 3]])
    brighter, contrasted, paler, turned = jittered(red.expand(4, -1, -1, -1), changes)[:, :, 0, 0].tolist()
    assert brighter == [220, 110, 66]
    assert contrasted == [240, 90, 30]  # around the mean, 120
    assert paler == [160, 110, 90]
    assert turned == [60, 200, 100]  # by a third: red becomes green
    grey = torch.tensor([[[[100, 200]]]], dtype=torch.uint8)
    assert jittered(grey, torch.tensor([[0.0, 0.1, 0.9, 0.4]])).flatten().tolist() == [95, 205]


def test_confetti_changes_what_its_masks_say() -> None:
    plain = torch.full((200, 3, 64, 64), 120, dtype=torch.uint8)
    images, where = made(ad.Confetti(blobs=(1, 1)), plain)
    changed = (images != 120).any(dim=1)
    assert changed[where].float().mean() > 0.99
    assert (changed & ~where).float().mean() < 0.01  # soft edges
    size = where.flatten(1).sum(dim=1)
    assert 1 <= size.float().median() < 0.24**2 * 64**2
    colours = images.float().std(dim=1).amax(dim=(1, 2)) > 1
    assert 0.3 < colours.float().mean() < 0.7  # the others are grey
    assert (made(ad.Confetti(), torch.full_like(plain, 255))[0].amin(dim=(1, 2, 3)) < 245).all()  # seen on white too


def test_draws_follow_torchs_seed() -> None:
    for kind in (ad.CutPaste(), ad.Confetti()):
        assert torch.equal(made(kind)[0], made(kind)[0])
        assert not torch.equal(made(kind)[0], made(kind, seed=1)[0])


# ---- batches --------------------------------------------------------------------------------------------------------


def test_a_share_of_a_batch_becomes_known_anomalies() -> None:
    known = torch.tensor([KNOWN_NORMAL] * 30 + [UNLABELLED] * 30 + [KNOWN_ANOMALY] * 4)
    before = NOISE.clone()
    torch.manual_seed(0)
    batch = Inverted(share=0.25)(TrainBatch(NOISE, known, torch.arange(64)))
    assert torch.equal(before, NOISE)
    new = batch.mask.flatten(1).all(dim=1)
    assert 16 - 4 <= new.sum() <= 16
    assert torch.equal(batch.x[new], 255 - NOISE[new])
    assert torch.equal(batch.x[~new], NOISE[~new])
    assert (batch.known[new] == KNOWN_ANOMALY).all()
    assert torch.equal(batch.known[~new], known[~new])
    assert not batch.mask[60:].any()  # of real anomalies nobody knows where
    some = [int(Inverted(share=0.1)(TrainBatch(NOISE[:4], known[:4], torch.arange(4))).mask.any()) for _ in range(40)]
    assert 0 < sum(some) < 40  # 0.4 of a sample


class Watching(ad.DeepSAD):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(encoder=partial(ad.LeNetEncoder, conv_channels=(4,), rep_dim=4))
        self.seen: list[Any] = []
        self.scored: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch)
        return super().training_step(batch, batch_idx)

    def anomaly_score(self, x: Tensor) -> Tensor:
        self.scored.append(x)
        return super().anomaly_score(x)


def test_training_steps_alone_see_them() -> None:
    x, known = stripes(), np.repeat([0, -1], [46, 2])
    data = ad.Arrays(x, x[:8], [0] * 8, known=known, batch_size=16, synthetic_anomalies=ad.CutPaste(share=0.5))
    detector = Watching()
    ad.fit(detector, data, max_epochs=2, progress=False)
    assert all(isinstance(batch, MaskedBatch) for batch in detector.seen)
    images = {image.tobytes() for image in x}
    for batch in detector.seen:
        assert 8 <= (batch.known == KNOWN_ANOMALY).sum() <= 10
        others = batch.x[batch.known != KNOWN_ANOMALY]
        assert {image.numpy().tobytes() for image in others} <= images
    assert {image.numpy().tobytes() for image in torch.cat(detector.scored)} <= images
    data.setup("fit")
    for fitted in data.fitting_batches(torch.device("cpu")):
        assert torch.equal(fitted.x, torch.from_numpy(x[fitted.index]))
    assert data.counts()["train_known_anomalies"] == 2


def test_those_that_need_known_anomalies_need_no_others() -> None:
    with pytest.raises(ValueError, match=r"needs known anomalies to train on.*or set data.synthetic_anomalies"):
        ad.fit(ad.BinaryClassifier(), ad.Arrays(stripes()), progress=False)
    runs = [
        ad.fit(ad.BinaryClassifier(), ad.Arrays(stripes(), synthetic_anomalies=kind), 2, seed=1, progress=False)
        for kind in (Inverted(), Inverted(), ad.Confetti())
    ]
    scores = [run.detector.score(stripes()) for run in runs]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


# ---- refusals -------------------------------------------------------------------------------------------------------

WRONG: Any = "wrong"
TABLE = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: ad.CutPaste(share=1.0), r"share must lie in \(0, 1\), got 1.0"),
        (lambda: ad.CutPaste(area=(0.2, 0.1)), r"area must be two numbers in \(0, 1\], the smaller one first"),
        (lambda: ad.CutPaste(variant=WRONG), "variant must be one of patch, scar, both, got 'wrong'"),
        (lambda: ad.Confetti(blobs=(0, 2)), "blobs must be two whole numbers of at least 1"),
        (
            lambda: ad.Arrays(stripes(), synthetic_anomalies=WRONG),
            r"synthetic_anomalies must be CutPaste\(...\)",
        ),
        (
            lambda: ad.fit(ad.DeepSAD(), ad.Arrays(TABLE, synthetic_anomalies=ad.CutPaste()), progress=False),
            "CutPaste makes anomalies of images, the data are 3 features",
        ),
        (
            lambda: ad.fit(ad.DeepSAD(), ad.Arrays(stripes(), synthetic_anomalies=Halved()), progress=False),
            "Halved must make torch.uint8 images .* got torch.float32",
        ),
        (
            lambda: ad.fit(ad.Autoencoder(), ad.Arrays(stripes(), synthetic_anomalies=Inverted()), progress=False),
            "synthetic_anomalies must be null for Autoencoder, which learns of no known anomalies",
        ),
        (
            lambda: ad.fit(ad.KDE(), ad.Arrays(stripes(), synthetic_anomalies=Inverted()), progress=False),
            "synthetic_anomalies would change nothing: this KDE takes no training steps",
        ),
    ],
)
def test_what_does_not_fit_is_refused(run: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run()
