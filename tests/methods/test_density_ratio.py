"""The density-ratio losses: hand values, limits, stationarity, extreme logits, a ratio that is known."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from pytorch_lightning.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.__main__ import main
from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.data.unlabelled import TransductiveOneVsAll
from adlightning.methods import DensityRatio
from adlightning.methods.density_ratio import density_ratio_loss, log_ratio
from adlightning.networks import VGG11, LeNetEncoder, PlainMLP, WideResNet10x4
from adlightning.preprocessing import UnitRange
from adlightning.testing import Stripes

ROOT = Path(__file__).parents[2]
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


# ---- the non-negative correction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [*ALPHAS, 2.0])
def test_a_bound_on_the_ratio_corrects_only_what_cannot_be(alpha: float) -> None:
    plain = loss_of_ratios(NORMAL, UNLABELLED, alpha)
    power = 1 + alpha
    # a bound so large that the unlabelled mean is not below its least value: nothing changes
    corrected = density_ratio_loss(NORMAL.log(), UNLABELLED.log(), alpha, max_ratio=10)
    assert corrected.item() == pytest.approx(plain.item())
    # a bound so small that it is: the unlabelled mean gives way to the least value
    bound = ((NORMAL**power).mean() / (UNLABELLED**power).mean()).item() / 2
    corrected = density_ratio_loss(NORMAL.log(), UNLABELLED.log(), alpha, max_ratio=bound)
    gap = (NORMAL**power).mean() / bound - (UNLABELLED**power).mean()
    assert gap > 0
    assert corrected.item() == pytest.approx((plain + gap).item())


def test_with_a_bound_kliep_is_bounded_below() -> None:
    # where normal ratios grow without end and unlabelled ones vanish, the plain loss falls for ever
    far = [density_ratio_loss(torch.tensor([z]), torch.tensor([-z]), 0).item() for z in (1.0, 5.0, 50.0)]
    assert far[0] > far[1] > far[2]
    # mean_n[r] / 10 - mean_n[log r] is least at r = 10
    bounded = [density_ratio_loss(torch.tensor([z]), torch.tensor([-50.0]), 0, 10).item() for z in (1.0, 2.3026, 5.0)]
    assert min(bounded) == bounded[1] == pytest.approx(1 - math.log(10), abs=1e-4)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_must_be_positive(bound: float) -> None:
    with pytest.raises(ValueError, match="max_ratio must be positive and finite, or null for no correction"):
        density_ratio_loss(torch.zeros(1), torch.zeros(1), 0, bound)


# ---- the detector ---------------------------------------------------------------------------------------------------


def mlp(*dense: int) -> Any:
    return partial(PlainMLP, dense=dense, dropout=0.0)


def on_stripes(**options: Any) -> TransductiveOneVsAll:
    return TransductiveOneVsAll(source=Stripes(), normal_class=0, **{"batch_size": 20, "seed": 0, **options})


def test_a_step_is_the_loss_of_the_two_streams(make_trainer: MakeTrainer) -> None:
    seen: list[tuple[TrainBatch, Tensor, Tensor]] = []

    class Watched(DensityRatio):
        def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
            step = super().training_step(batch, batch_idx)
            with torch.no_grad():
                seen.append((batch, self.log_ratio(self.preprocess(batch.x)), step["loss"].detach()))
            return step

    detector = Watched(mlp(8), alpha=0.5)
    make_trainer(max_epochs=1).fit(detector, datamodule=on_stripes(drop_last=False))
    assert [len(batch.index) for batch, _, _ in seen] == [40, 40, 37]
    for batch, log_r, loss in seen:
        assert batch.known.tolist() == [1] * (len(batch.index) - 20) + [0] * 20
        expected = density_ratio_loss(log_r[batch.known == 1], log_r[batch.known == 0], 0.5)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    rows = detector.curves.rows
    assert [row["step"] for row in rows] == [0, 1, 2]
    for row, (batch, log_r, _) in zip(rows, seen, strict=True):
        assert row["mean_ratio_normal"] == pytest.approx(log_r[batch.known == 1].exp().mean().item(), rel=1e-5)
        assert row["mean_ratio_unlabelled"] == pytest.approx(log_r[batch.known == 0].exp().mean().item(), rel=1e-5)


def test_the_mean_ratio_of_the_unlabelled_samples_comes_to_be_one(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    detector = DensityRatio(mlp(16), optimizer=partial(SGD, lr=0.05, weight_decay=1e-3))
    make_trainer(max_epochs=150).fit(detector, datamodule=on_stripes())
    last = detector.curves.rows[-60:]
    assert sum(row["mean_ratio_unlabelled"] for row in last) / 60 == pytest.approx(1, abs=0.15)
    # a third of the test set is normal, the rest looks otherwise: the ratio of normals is about three
    assert sum(row["mean_ratio_normal"] for row in last) / 60 == pytest.approx(3, abs=0.5)


def test_batch_norm_has_to_be_asked_for() -> None:
    spec = InputSpec("image", (1, 32, 32))
    with_norm: list[Any] = [WideResNet10x4, LeNetEncoder, partial(VGG11, head="compact", batch_norm=True)]
    for encoder in (partial(VGG11, head="compact"), PlainMLP):
        detector = DensityRatio(encoder)
        detector.configure_for(spec)
        assert not any("BatchNorm" in type(layer).__name__ for layer in detector.modules())
    for encoder in with_norm:
        with pytest.raises(ValueError, match=r"encoder must have no BatchNorm, .* allow_batch_norm: true"):
            DensityRatio(encoder).configure_for(spec)
        DensityRatio(encoder, allow_batch_norm=True).configure_for(spec)


def test_images_are_of_vgg11_and_all_else_of_an_mlp_unless_told() -> None:
    for spec, expected in ((InputSpec("image", (1, 32, 32)), VGG11), (InputSpec("table", (5,)), PlainMLP)):
        with torch.device("meta"):
            detector = DensityRatio()
            detector.configure_for(spec)
        assert isinstance(detector.net, expected)


class Own(nn.Module):
    """A user's encoder: (B, 5)."""

    def __init__(self, shape: tuple[int, ...], width: int = 5) -> None:
        super().__init__()
        self.layer = nn.Linear(math.prod(shape), width)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(x.flatten(1)).relu()
        return z


def test_an_encoder_of_ones_own_resumes_with_another_optimiser(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def detector() -> DensityRatio:
        pl.seed_everything(0, verbose=False)
        return DensityRatio(Own, optimizer=partial(AdamW, lr=0.01), lr_scheduler=partial(CosineAnnealingLR, T_max=3))

    whole = detector()
    trainer = make_trainer(max_epochs=3)
    trainer.fit(whole, datamodule=on_stripes())
    assert whole.net.get_parameter("head.weight").shape == (1, 5)
    assert isinstance(trainer.optimizers[0], AdamW)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector(), datamodule=on_stripes())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    resumed = detector()
    make_trainer(max_epochs=3).fit(resumed, datamodule=on_stripes(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    wanted = whole.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.state_dict().items())


def test_with_batch_norm_the_streams_are_normalised_together_or_apart(make_trainer: MakeTrainer) -> None:
    losses = {}
    for joint in (True, False):
        torch.manual_seed(0)
        detector = DensityRatio(WideResNet10x4, allow_batch_norm=True, joint_batches=joint)
        first: list[float] = []

        class First(pl.Callback):
            def on_train_batch_end(
                self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, kept: list[float] = first
            ) -> None:
                kept.append(outputs["loss"].item())

        make_trainer(max_steps=1, callbacks=[First()]).fit(detector, datamodule=on_stripes())
        losses[joint] = first[0]
    assert losses[True] != losses[False]


def test_pretrained_weights_are_loaded_once(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(VGG11, "load_weights", lambda self, weights: asked.append(weights))
    encoder, resized = partial(VGG11, head="compact", weights="there.pt"), partial(UnitRange, resize=32)
    detector = DensityRatio(encoder, preprocessing=resized)
    trainer = make_trainer(max_steps=1)
    trainer.fit(detector, datamodule=on_stripes(batch_size=2))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    assert asked == ["there.pt"]
    again = DensityRatio(encoder, preprocessing=resized)
    make_trainer(max_steps=2).fit(
        again, datamodule=on_stripes(batch_size=2), ckpt_path=tmp_path / "one.ckpt", weights_only=True
    )
    assert asked == ["there.pt"]  # the checkpoint had them


def test_weights_that_do_not_fit_the_network_are_refused_before_training(make_trainer: MakeTrainer) -> None:
    encoder = partial(VGG11, head="compact", weights="there.pt")
    detector = DensityRatio(encoder, preprocessing=partial(UnitRange, resize=32))
    with pytest.raises(ValueError, match=r"weights are of a vgg11 with head: torchvision.*got there\.pt"):
        make_trainer(max_steps=1).fit(detector, datamodule=on_stripes(batch_size=2))


def test_the_divergence_of_held_out_samples_is_logged_and_needs_no_label(make_trainer: MakeTrainer) -> None:
    data = TransductiveOneVsAll(
        source=Stripes(), validation_fraction=0.2, unlabelled_validation_fraction=0.25, batch_size=16, seed=0
    )
    detector = DensityRatio(mlp(16), alpha=0.5, max_ratio=9.0)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(detector, datamodule=data)
    normal = data.train_images(data.split.validation[data.split.validation_labels == 0])
    unlabelled = data.train_images(data.split.held_out_unlabelled)
    log_normal, log_unlabelled = (torch.from_numpy(-detector.score(x)) for x in (normal, unlabelled))
    wanted = density_ratio_loss(log_normal, log_unlabelled, 0.5, 9.0)
    assert trainer.callback_metrics["val/divergence"].item() == pytest.approx(wanted.item(), rel=1e-6)
    exchanged = density_ratio_loss(log_unlabelled, log_normal, 0.5, 9.0)
    assert exchanged.item() != pytest.approx(wanted.item(), rel=1e-3)


def test_nothing_is_logged_of_samples_that_are_not_held_out(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(max_epochs=1)
    data = TransductiveOneVsAll(source=Stripes(), validation_fraction=0.2, batch_size=16, seed=0)
    trainer.fit(DensityRatio(mlp(16)), datamodule=data)
    assert "val/divergence" not in trainer.callback_metrics
    early = EarlyStopping("val/divergence", mode="min")
    with pytest.raises(ValueError, match="val/divergence needs held-out unlabelled samples: "):
        make_trainer(max_epochs=1, callbacks=[early]).fit(DensityRatio(mlp(16)), datamodule=data)


def test_a_checkpoint_is_selected_by_the_divergence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["fit", "--config", str(ROOT / "configs/density_ratio/digits.yaml"), "--model.encoder=PlainMLP"]
    options += ["--trainer.accelerator=cpu", "--plots=false", "--trainer.max_epochs=3", "--monitor=val/divergence"]
    held_out = ["--data.validation_fraction=0.2", "--data.unlabelled_validation_fraction=0.2"]
    assert main([*options, *held_out, f"--run_dir={tmp_path / 'run'}"]) == 0
    epochs = pd.read_csv(tmp_path / "run/epochs.csv")
    best = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == epochs["val/divergence"].idxmin()
    assert json.loads((tmp_path / "run/metrics.json").read_text())["selection"] == "val"
    capsys.readouterr()
    assert main([*options, *held_out[:1], f"--run_dir={tmp_path / 'other'}"]) == 2
    assert "monitor=val/divergence needs held-out unlabelled samples" in capsys.readouterr().err
    assert main(["fit", "--config", str(ROOT / "configs/deep_sad/digits.yaml"), "--monitor=val/divergence"]) == 2
    assert "monitor must be one of val/score_mean" in capsys.readouterr().err
