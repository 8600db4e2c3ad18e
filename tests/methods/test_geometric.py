"""GEOM: batches under transforms, the score against one transform at a time, the fit, and what is refused."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import scipy.stats
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import GeometricTransforms
from adlightning.methods.geometric_transforms.dirichlet import fit_dirichlet
from adlightning.methods.geometric_transforms.transforms import (
    GROUPS,
    TRANSFORMS,
    of_groups,
    source_pixels,
    transform_all,
    transform_each,
)
from adlightning.networks import VGG11, LeNetEncoder, PlainMLP
from adlightning.preprocessing import StandardizeFeatures, UnitRange
from adlightning.testing import Blobs, Stripes

SPEC = InputSpec("image", (1, 16, 16))


def stripes(**options: Any) -> OneVsAll:
    return OneVsAll(Stripes(), 0, **{"batch_size": 128, "seed": 0, "validation_fraction": 0.0, **options})


def mlp(*dense: int) -> Any:
    return partial(PlainMLP, dense=dense, dropout=0.0)


def make(**options: Any) -> GeometricTransforms:
    torch.manual_seed(0)
    optimizer = partial(SGD, lr=0.05, weight_decay=1e-3)
    return GeometricTransforms(**{"encoder": mlp(32), "optimizer": optimizer, **options})


def fitted(make_trainer: MakeTrainer, epochs: int = 2, **options: Any) -> tuple[GeometricTransforms, OneVsAll]:
    detector, data = make(**options), stripes()
    make_trainer(max_epochs=epochs).fit(detector, datamodule=data)
    detector.eval()
    return detector, data


def training_images(data: OneVsAll) -> Tensor:
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    return x[torch.from_numpy(data.split.train)]


def test_an_epoch_shows_every_image_72_times_and_learns_its_transform(make_trainer: MakeTrainer) -> None:
    shown: list[TrainBatch] = []
    asked: list[Tensor] = []
    answers: list[Tensor] = []
    losses: list[Tensor] = []

    class Watched(GeometricTransforms):
        def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
            shown.append(batch)
            losses.append(super().training_step(batch, batch_idx))
            return losses[-1]

    detector, data = Watched(mlp(4)), stripes(drop_last=False)

    def watch(module: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        if module is getattr(detector, "net", None):
            asked.append(given[0])
            answers.append(answer.detach())

    hook = nn.modules.module.register_module_forward_hook(watch)
    pl.seed_everything(3, verbose=False)
    make_trainer(max_epochs=1).fit(detector, datamodule=data)
    hook.remove()
    index = torch.cat([batch.index for batch in shown])
    assert torch.bincount(index).tolist() == [72] * 60
    # what the network sees of the first batch: each image under one of the transforms, nearly all of which occur
    images = shown[0].x.float() / 255
    views = transform_all(images, source_pixels(16, 16))
    same = (views == asked[0][:, None]).flatten(2).all(dim=2)
    assert (same.sum(dim=1) == 1).all()
    which = same.float().argmax(dim=1)
    assert which.unique().numel() > 40
    # and what it is to answer is that transform
    torch.testing.assert_close(losses[0].detach(), nn.functional.cross_entropy(answers[0], which))


def test_the_score_is_that_of_one_transform_after_the_other(make_trainer: MakeTrainer) -> None:
    detector, data = fitted(make_trainer, scoring_batch=500)
    train, x = training_images(data), torch.from_numpy(data.split.test[::7])
    images = data.test_samples.x
    assert isinstance(images, Tensor)
    x, sources = images[x], source_pixels(16, 16)
    expected = torch.zeros(len(x), dtype=torch.float64)

    def outputs(images: Tensor, t: int) -> Tensor:
        which = torch.full((len(images),), t)
        logits: Tensor = detector.net(transform_each(images.float() / 255, which, sources))
        probabilities = logits.double().softmax(1)
        return probabilities

    with torch.no_grad():
        scores = detector.anomaly_score(x)
        alphas = fit_dirichlet(torch.stack([outputs(train, t) for t in range(len(TRANSFORMS))]))
        torch.testing.assert_close(detector.concentrations.double(), alphas, rtol=1e-3, atol=0)
        for t, alpha in enumerate(alphas.numpy()):
            dirichlet, uniform = scipy.stats.dirichlet(alpha), np.full(72, 1 / 72)
            p = outputs(x, t).numpy()
            constant = dirichlet.logpdf(uniform) - ((alpha - 1) * np.log(uniform)).sum()  # the score is without
            expected += torch.from_numpy(dirichlet.logpdf((p / p.sum(axis=1, keepdims=True)).T) - constant)
    # up to a constant; concentrations are huge here, and so are all scores without it
    normality = expected / 72
    assert normality.std() > 1
    torch.testing.assert_close(-scores.double() + scores.mean(), normality - normality.mean(), rtol=1e-3, atol=0.02)


def test_scores_do_not_depend_on_how_many_are_scored_at_once(make_trainer: MakeTrainer) -> None:
    detector, data = fitted(make_trainer, epochs=1)
    x = training_images(data)[:20]
    with torch.no_grad():
        whole = detector.anomaly_score(x)
        for scoring_batch in (1, 100, 10**6):
            detector.scoring_batch = scoring_batch
            torch.testing.assert_close(detector.anomaly_score(x), whole, rtol=0, atol=2e-2)
    assert whole.std() > 1


def test_there_is_no_score_before_the_fit_and_one_after_an_early_end(make_trainer: MakeTrainer) -> None:
    ready: list[bool] = []

    class Watch(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            ready.append(pl_module.ready_to_score())

    detector = make()
    make_trainer(max_epochs=3, callbacks=[Watch()]).fit(detector, datamodule=stripes())
    assert ready == [False, False, True]
    early = make()
    make_trainer(max_steps=5).fit(early, datamodule=stripes())
    assert early.ready_to_score()
    assert torch.isfinite(early.threshold)


def test_a_fit_that_goes_on_forgets_the_distributions(make_trainer: MakeTrainer) -> None:
    detector, data = fitted(make_trainer, epochs=1)
    before = detector.concentrations.clone()
    detector.forget_fit()
    assert not detector.ready_to_score()
    make_trainer(max_epochs=2).fit(detector, datamodule=data)
    assert not torch.equal(detector.concentrations, before)


def test_refusals(make_trainer: MakeTrainer) -> None:
    table = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0)
    with pytest.raises(ValueError, match="scoring_batch must be at least 1, got 0"):
        GeometricTransforms(scoring_batch=0)
    with pytest.raises(ValueError, match=r"GeometricTransforms takes images \(C, H, W\)"):
        make_trainer().fit(make(preprocessing=StandardizeFeatures), datamodule=table)
    with pytest.raises(ValueError, match="images must be square"):
        make().configure_for(InputSpec("image", (1, 16, 18)))
    with pytest.raises(ValueError, match=r"encoder\.n_outputs must be 72, or null for what the detector needs, got 3"):
        make(encoder=partial(PlainMLP, n_outputs=3)).configure_for(SPEC)
    with pytest.raises(ValueError, match="encoder must give the n_outputs=72 logits that it was asked for, got 7"):
        make(encoder=Deaf).configure_for(SPEC)
    wide = GeometricTransforms()
    wide.configure_for(SPEC)
    assert any("BatchNorm" in type(layer).__name__ for layer in wide.modules())


class Deaf(nn.Module):
    """Takes `n_outputs` and does not give so many."""

    def __init__(self, shape: tuple[int, ...], n_outputs: int = 7) -> None:
        super().__init__()
        self.n_outputs = n_outputs

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :7]


class Own(nn.Module):
    """A user's encoder: mean and spread of each row."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * torch.cat([x.mean(dim=3), x.std(dim=3)], dim=2).flatten(1)


def test_encoders_with_a_linear_layer_and_with_logits_of_their_own() -> None:
    for encoder, names in (
        (LeNetEncoder, {"encoder", "head"}),
        (Own, {"encoder", "head"}),
        (partial(VGG11, head="compact", batch_norm=True), {"features", "avgpool", "classifier"}),
    ):
        detector = make(encoder=encoder, preprocessing=partial(UnitRange, resize=32))
        detector.configure_for(SPEC)
        assert {name for name, _ in detector.net.named_children()} == names
        assert detector.net.eval()(torch.rand(2, 1, 32, 32)).shape == (2, 72)


def test_an_encoder_of_ones_own_resumes_with_another_optimiser(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def detector() -> GeometricTransforms:
        optimizer = partial(AdamW, lr=0.01)
        return make(encoder=Own, optimizer=optimizer, lr_scheduler=partial(CosineAnnealingLR, T_max=2))

    whole = detector()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(whole, datamodule=stripes())
    assert isinstance(trainer.optimizers[0], AdamW)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector(), datamodule=stripes())
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    resumed = detector()
    make_trainer(max_epochs=2).fit(resumed, datamodule=stripes(), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    wanted = whole.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.state_dict().items())


# ---- chosen transforms -----------------------------------------------------------------------------------------------


def test_groups_choose_transforms() -> None:
    assert [len(of_groups([name])) for name in GROUPS] == [2, 9, 4]
    assert [t.flip for t in of_groups(["flip"])] == [False, True]
    assert len(of_groups(["rotation", "flip"])) == 8
    assert of_groups(GROUPS) == TRANSFORMS


def test_flips_alone_are_told_apart_and_scored(make_trainer: MakeTrainer) -> None:
    detector, data = fitted(make_trainer, epochs=1, transforms=["flip"])
    assert detector.passes_per_epoch == 2
    images = training_images(data)[:5]
    log_p = detector.log_outputs(images)
    assert log_p.shape == (5, 2, 2)
    views = torch.stack([images, images.flip(3)], dim=1)
    expected = detector.net(views.flatten(0, 1).float() / 255).log_softmax(dim=1).view(5, 2, 2)
    torch.testing.assert_close(log_p.float(), expected, rtol=1e-4, atol=1e-4)
    alpha, mean_log = detector.concentrations.double(), detector.mean_logs.double()
    by_hand = -((alpha - 1) * (log_p - mean_log)).sum(dim=2).mean(dim=1)
    torch.testing.assert_close(detector.anomaly_score(images).double(), by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", [[], ["flip", "flip"], ["blur"]])
def test_other_names_of_transforms_are_refused(names: Any) -> None:
    message = rf"transforms must name some of flip, translation, rotation, each once, got {re.escape(str(names))}"
    with pytest.raises(ValueError, match=message):
        GeometricTransforms(transforms=names)
