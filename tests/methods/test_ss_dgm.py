"""SS-DGM: each term of its loss by hand, what the classifier learns from unlabelled samples, the phases of M1+M2."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from adlightning.core.contracts import InputSpec
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import SSDGM, StackedSSDGM
from adlightning.methods.ss_dgm import m1_loss, m2_bound, m2_loss, m2_objective
from adlightning.methods.stacked_ss_dgm import M1Pretraining
from adlightning.networks import LeNetEncoder, MLPEncoder
from adlightning.networks.dgm import bernoulli_log_likelihood, gaussian_log_likelihood, kl_from_standard
from adlightning.preprocessing import Identity, StandardizeFeatures, StandardizeMinMax
from adlightning.testing import Blobs, Stripes

SMALL: dict[str, Any] = {"hidden": (8,), "latent_dim": 3}
TABLE: dict[str, Any] = {**SMALL, "preprocessing": StandardizeFeatures, "likelihood": "gaussian"}
QUICK = partial(Adam, lr=1e-2, weight_decay=1e-6)
STACKED: dict[str, Any] = {**TABLE, "pretraining": M1Pretraining(epochs=2, optimizer=QUICK), "optimizer": QUICK}
SMALL_MLP = partial(MLPEncoder, dense=(8,), rep_dim=4)


# ---- the loss by hand ---------------------------------------------------------------------------------------------


def test_bernoulli_log_likelihood_by_hand() -> None:
    # logit ln 3 is p = 3/4: ln 3/4 where x = 1, ln 1/4 where x = 0, half of each where x = 1/2
    x = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    logits = torch.full((2, 2), math.log(3))
    both = math.log(3 / 4) + math.log(1 / 4)
    assert bernoulli_log_likelihood(x, logits).tolist() == pytest.approx([both, both])


def test_bernoulli_log_likelihood_is_bounded_for_samples_outside_the_unit_interval() -> None:
    x = torch.tensor([[7.0], [-3.0]])
    assert torch.equal(
        bernoulli_log_likelihood(x, torch.ones(2, 1)), bernoulli_log_likelihood(x.clamp(0, 1), torch.ones(2, 1))
    )
    assert (bernoulli_log_likelihood(x, torch.full((2, 1), 50.0)) <= 0).all()


def test_gaussian_log_likelihood_by_hand() -> None:
    # at the mean -ln(2 pi) / 2 for each feature; a distance of 3 and 4 costs 9/2 + 16/2
    x, mean = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.zeros(2, 2)
    constant = -math.log(2 * math.pi)
    assert gaussian_log_likelihood(x, mean).tolist() == pytest.approx([constant, constant - 12.5])


def test_kl_by_hand_and_against_torch() -> None:
    # N(2, 1) from N(0, 1): 2; N(0, e) from N(0, 1): (e^2 - 1) / 2 - 1
    mean, scale = torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [math.e]])
    assert kl_from_standard(mean, scale).tolist() == pytest.approx([2.0, (math.e**2 - 1) / 2 - 1])
    mean, scale = torch.randn(5, 3), torch.rand(5, 3) + 0.1
    q, p = torch.distributions.Normal(mean, scale), torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(kl_from_standard(mean, scale), torch.distributions.kl_divergence(q, p).sum(1))


def test_m1_loss_by_hand() -> None:
    assert m1_loss(torch.tensor([-3.0, -5.0]), torch.tensor([1.0, 2.0])).item() == pytest.approx(5.5)


def test_m2_bound_by_hand() -> None:
    assert m2_bound(torch.tensor([-3.0]), torch.tensor([1.0])).item() == pytest.approx(-4 - math.log(2))


# Three samples: unlabelled with q(anomaly) = 1/4; known anomaly and known normal with q(anomaly) = 1/2.
BOUNDS = torch.tensor([[-2.0, -6.0], [-1.0, -5.0], [-3.0, -9.0]])
LOGITS = torch.tensor([-math.log(3), 0.0, 0.0])
KNOWN = torch.tensor([0, -1, 1])
U = 0.75 * 2 + 0.25 * 6 - (0.75 * math.log(4 / 3) + 0.25 * math.log(4))
L_ANOMALY, L_NORMAL = 5.0, 3.0


def test_m2_loss_by_hand() -> None:
    expected = (U + L_ANOMALY + L_NORMAL) / 3 + 0.1 * math.log(2)
    assert m2_loss(BOUNDS, LOGITS, KNOWN, alpha=0.1).item() == pytest.approx(expected)


def test_m2_loss_with_separate_means_by_hand() -> None:
    expected = U + (L_ANOMALY + L_NORMAL) / 2 + 0.1 * math.log(2)
    assert m2_loss(BOUNDS, LOGITS, KNOWN, alpha=0.1, separate_means=True).item() == pytest.approx(expected)


@pytest.mark.parametrize("separate_means", [False, True])
def test_a_batch_without_labels_is_the_mean_of_u(separate_means: bool) -> None:
    loss = m2_loss(BOUNDS[:1], LOGITS[:1], KNOWN[:1], 0.1, separate_means)
    assert loss.item() == pytest.approx(U)


@pytest.mark.parametrize("separate_means", [False, True])
def test_a_batch_of_labelled_samples_only_is_the_mean_of_l(separate_means: bool) -> None:
    loss = m2_loss(BOUNDS[1:], LOGITS[1:], KNOWN[1:], 1.0, separate_means)
    assert loss.item() == pytest.approx((L_ANOMALY + L_NORMAL) / 2 + math.log(2))


def test_u_is_least_at_the_posterior_of_the_bounds() -> None:
    # minimising U over q(y|x) gives q proportional to exp(-L): log-odds are the difference of the bounds
    logits = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        m2_loss(torch.tensor([[-2.0, -3.5]]), logits, torch.tensor([0]), alpha=0.1).backward()
        optimizer.step()
    assert logits.item() == pytest.approx(-1.5, abs=1e-3)


def test_a_sure_classifier_gives_finite_losses_and_gradients() -> None:
    logits = torch.tensor([-400.0, 400.0, -400.0], requires_grad=True)
    loss = m2_loss(BOUNDS, logits, torch.tensor([0, 0, -1]), alpha=0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("term", [bernoulli_log_likelihood, gaussian_log_likelihood, kl_from_standard])
def test_terms_are_float32_for_half_precision(term: Any) -> None:
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    assert term(half, half).dtype == torch.float32


# ---- the detectors ------------------------------------------------------------------------------------------------


def blobs() -> AnomalyLabelled:
    return AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)


@pytest.mark.parametrize(
    ("cls", "options"),
    [(SSDGM, {"encoder": SMALL_MLP}), (StackedSSDGM, {"pretraining": M1Pretraining(epochs=1)})],
)
def test_training_data_without_known_anomalies_are_refused(
    make_trainer: MakeTrainer, cls: Any, options: dict[str, Any]
) -> None:
    trainer = make_trainer(max_epochs=2)
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=32, seed=0)
    with pytest.raises(ValueError, match=f"{cls.__name__} needs known anomalies"):
        trainer.fit(cls(**TABLE, **options), datamodule=data)
    assert trainer.global_step == 0


@pytest.mark.parametrize("cls", [SSDGM, StackedSSDGM])
def test_a_bernoulli_likelihood_needs_input_in_the_unit_interval(cls: Any) -> None:
    spec = InputSpec("table", (6,))
    message = r"likelihood must be gaussian, or preprocessing one to \[0, 1\].*with preprocessing StandardizeFeatures"
    with pytest.raises(ValueError, match=message):
        cls(**SMALL, preprocessing=StandardizeFeatures).configure_for(spec)
    cls(**SMALL, preprocessing=StandardizeMinMax).configure_for(spec)
    cls(**SMALL, preprocessing=StandardizeFeatures, likelihood="gaussian").configure_for(spec)


def test_all_weights_are_glorot_uniform() -> None:
    torch.manual_seed(0)
    stacked = StackedSSDGM(preprocessing=Identity, likelihood="gaussian")
    stacked.configure_for(InputSpec("table", (784,)))
    single = SSDGM(partial(MLPEncoder, dense=(64,)), preprocessing=Identity, likelihood="gaussian")
    single.configure_for(InputSpec("table", (784,)))
    for detector in (stacked, single):
        layers = [layer for layer in detector.modules() if isinstance(layer, nn.Linear) and layer.weight.numel() > 200]
        assert len(layers) > 6
        for layer in layers:
            bound = math.sqrt(6 / sum(layer.weight.shape))
            assert 0.97 * bound < layer.weight.abs().max() <= bound


def test_networks_of_the_stacked_model_are_those_of_the_released_code_on_mnist() -> None:
    detector = StackedSSDGM()
    detector.configure_for(InputSpec("image", (1, 28, 28)))

    def widths(module: nn.Module) -> list[tuple[int, int]]:
        return [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]

    assert widths(detector.m1) == [(784, 128), (128, 64), (64, 64), (32, 64), (64, 128), (128, 784)]
    assert widths(detector.m2) == [(34, 128), (128, 64), (64, 64), (34, 64), (64, 128), (128, 32)]
    assert widths(detector.classifier) == [(32, 128), (128, 1)]


class Parts(pl.Callback):
    """Weights of M1 and of the rest at the start of training and at the end of each epoch."""

    def __init__(self) -> None:
        self.m1: list[Tensor] = []
        self.rest: list[Tensor] = []
        self.rates: list[float] = []

    def _keep(self, detector: pl.LightningModule) -> None:
        assert isinstance(detector, StackedSSDGM)
        self.m1.append(nn.utils.parameters_to_vector(detector.m1.parameters()).detach().clone())
        rest = [*detector.m2.parameters(), *detector.classifier.parameters()]
        self.rest.append(nn.utils.parameters_to_vector(rest).detach().clone())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._keep(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if len(self.rates) <= trainer.current_epoch:
            (group,) = trainer.optimizers[0].param_groups
            self.rates.append(group["lr"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._keep(pl_module)


def test_m1_is_trained_in_the_first_phase_only_and_the_rest_in_the_second_only(make_trainer: MakeTrainer) -> None:
    parts = Parts()
    decaying = partial(Adam, lr=1e-2, weight_decay=0.1)
    phases: dict[str, Any] = {"pretraining": M1Pretraining(epochs=2, optimizer=decaying), "optimizer": decaying}
    detector = StackedSSDGM(**TABLE, **phases)
    make_trainer(max_epochs=4, callbacks=[parts]).fit(detector, datamodule=blobs())
    moved = [[not torch.equal(a, b) for a, b in pairwise(w)] for w in (parts.m1, parts.rest)]
    assert moved == [[True, True, False, False], [False, False, True, True]]


def test_each_phase_has_its_own_learning_rates(make_trainer: MakeTrainer) -> None:
    parts = Parts()
    first = M1Pretraining(epochs=2, optimizer=QUICK, lr_scheduler=partial(MultiStepLR, milestones=[1]))
    second: dict[str, Any] = {"optimizer": partial(Adam, lr=5e-3), "lr_scheduler": partial(MultiStepLR, milestones=[2])}
    detector = StackedSSDGM(**TABLE, pretraining=first, **second)
    make_trainer(max_epochs=5, callbacks=[parts]).fit(detector, datamodule=blobs())
    assert parts.rates == pytest.approx([1e-2, 1e-3, 5e-3, 5e-3, 5e-4])


def test_a_fit_that_would_end_in_the_first_phase_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(
        ValueError, match=r"max_epochs counts the first phase and must exceed model\.pretraining\.epochs=2"
    ):
        make_trainer(max_epochs=2).fit(StackedSSDGM(**STACKED), datamodule=blobs())


@pytest.mark.parametrize("first_leg", [1, 2, 3])
def test_a_resumed_fit_keeps_m1_frozen_and_ends_ready(
    make_trainer: MakeTrainer, tmp_path: Path, first_leg: int
) -> None:
    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch + 1 == first_leg:
                trainer.save_checkpoint(tmp_path / "first.ckpt")

    make_trainer(max_epochs=4, callbacks=[Save()]).fit(StackedSSDGM(**STACKED), datamodule=blobs())
    parts, resumed = Parts(), StackedSSDGM(**STACKED)
    trainer = make_trainer(max_epochs=4, callbacks=[parts])
    trainer.fit(resumed, datamodule=blobs(), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert len(parts.m1) == 1 + 4 - first_leg
    assert all(torch.equal(weights, parts.m1[-1]) for weights in parts.m1[max(0, 2 - first_leg) :])
    assert not torch.equal(parts.rest[-2], parts.rest[-1])
    assert resumed.ready_to_score()


def test_validation_says_nothing_in_the_first_phase(make_trainer: MakeTrainer) -> None:
    logged: list[bool] = []

    class Log(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            logged.append("val/score_mean" in trainer.callback_metrics)

    make_trainer(max_epochs=4, callbacks=[Log()]).fit(StackedSSDGM(**STACKED), datamodule=blobs())
    assert logged == [False, False, True, True]


def test_scores_of_the_stacked_model_take_m1s_mean_and_no_random_number(make_trainer: MakeTrainer) -> None:
    detector, data = StackedSSDGM(**STACKED), blobs()
    make_trainer(max_epochs=3).fit(detector, datamodule=data)
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    detector.eval()
    with torch.no_grad():
        scores = detector.anomaly_score(x)
        mean, _ = detector.m1.encode(detector.preprocess(x))
        assert torch.equal(scores, detector.classifier(mean).squeeze(1))
        assert torch.equal(scores, detector.anomaly_score(x))


def test_unlabelled_samples_teach_the_classifier(make_trainer: MakeTrainer) -> None:
    """With alpha = 0 it sees labels only through M2, and must tell by it the polluters from the normals."""
    torch.manual_seed(0)
    detector = SSDGM(partial(MLPEncoder, dense=(16,), rep_dim=4), **TABLE, optimizer=QUICK, alpha=0.0)
    data = AnomalyLabelled(
        Blobs(), labelled_anomaly_ratio=0.05, pollution_ratio=0.1, validation_fraction=0.0, batch_size=32, seed=0
    )
    make_trainer(max_epochs=15).fit(detector, datamodule=data)
    detector.eval()
    unlabelled = data.split.train[data.split.known == 0]
    x, y = data.train_samples.x, torch.from_numpy(data.train_samples.y[unlabelled])
    assert isinstance(x, Tensor)
    with torch.no_grad():
        log_odds = detector.anomaly_score(x[torch.from_numpy(unlabelled)])
    assert (y == 1).sum() > 5
    assert ((log_odds > 0) == (y == 1)).float().mean() > 0.95


def test_extreme_samples_leave_the_loss_finite() -> None:
    torch.manual_seed(0)
    detector = SSDGM(SMALL_MLP, **{**TABLE, "preprocessing": Identity})
    detector.configure_for(InputSpec("table", (6,)))
    x = torch.randn(10, 6) * 1e5
    known = torch.tensor([0, -1] * 5)
    assert torch.isfinite(m2_objective(detector.m2, x, detector.log_odds(x), known, "gaussian", 0.1, False))


def test_images_are_flattened_for_the_generative_model_and_bfloat16_gives_finite_losses(
    make_trainer: MakeTrainer,
) -> None:
    data = OneVsAll(Stripes(), 0, labelled_anomaly_ratio=0.2, n_labelled_classes=1, batch_size=16, seed=0)
    detector = SSDGM(partial(LeNetEncoder, rep_dim=16), **SMALL)
    trainer = make_trainer(max_epochs=1, precision="bf16-mixed")
    trainer.fit(detector, datamodule=data)
    assert detector.m2.decoder[-1].out_features == 256
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": ()}, r"hidden must hold at least 1, and each be at least 1, got \[\]"),
        ({"hidden": (8, 0)}, r"hidden must hold at least 1, and each be at least 1, got \[8, 0\]"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"likelihood": "poisson"}, "likelihood must be one of bernoulli, gaussian, got 'poisson'"),
        ({"alpha": -0.1}, "alpha must not be negative, got -0.1"),
        ({"optimizer": "adam"}, "optimizer must be a subclass of Optimizer"),
    ],
)
@pytest.mark.parametrize("cls", [SSDGM, StackedSSDGM])
def test_bad_arguments_are_named(cls: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


def test_a_negative_number_of_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pretraining\.epochs must not be negative, got -1"):
        M1Pretraining(epochs=-1)


class Flat(nn.Module):
    """A classifier's encoder of one's own, whose start nobody else draws."""

    def __init__(self, shape: tuple[int, ...], rep_dim: int = 3) -> None:
        super().__init__()
        self.line = nn.Linear(shape[0], rep_dim)
        nn.init.constant_(self.line.weight, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.line(x))


def test_an_encoder_of_ones_own_keeps_its_start() -> None:
    detector = SSDGM(partial(Flat, rep_dim=5), **TABLE)
    detector.configure_for(InputSpec("table", (6,)))
    assert isinstance(detector.encoder, Flat)
    assert (detector.encoder.line.weight == 0.25).all()
    assert detector.head.weight.shape == (1, 5)


@pytest.mark.parametrize("cls", [SSDGM, StackedSSDGM])
def test_another_optimiser_and_schedule_resume_to_the_bit(cls: Any, make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def detector() -> Any:
        torch.manual_seed(0)
        cosine = partial(CosineAnnealingLR, T_max=4)
        first = M1Pretraining(epochs=2, optimizer=partial(AdamW, lr=1e-2), lr_scheduler=cosine)
        own = {"encoder": Flat} if cls is SSDGM else {"pretraining": first}
        return cls(**TABLE, **own, optimizer=partial(AdamW, lr=1e-2), lr_scheduler=cosine)

    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch + 1}.ckpt")

    whole = detector()
    make_trainer(max_epochs=4, callbacks=[Save()]).fit(whole, datamodule=blobs())
    for epochs in (1, 2, 3):
        resumed, path = detector(), tmp_path / f"{epochs}.ckpt"
        trainer = make_trainer(max_epochs=4)
        trainer.fit(resumed, datamodule=blobs(), ckpt_path=path, weights_only=True)
        assert isinstance(trainer.optimizers[0], AdamW)
        for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
            assert torch.equal(ours, theirs)
