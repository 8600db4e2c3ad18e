"""The two phases of a Deep SVDD or Deep SAD fit: pre-training, then the objective from the very same weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor
from torch.optim import SGD, Adam, Muon, SparseAdam
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    StepLR,
)

from adlightning.core.contracts import TrainBatch
from adlightning.core.faults import TrainingFault
from adlightning.core.optimization import one_optimizer, optimizer_part, scheduler_part
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.one_vs_all import OneVsAll
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods import ADGAN, DeepSAD, DeepSVDD, SoftBoundaryDeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining, snap_center
from adlightning.networks import LeNetEncoder, MLPEncoder
from adlightning.networks.gan import DCGANCritic, DCGANGenerator
from adlightning.preprocessing import StandardizeFeatures, SymmetricRange, UnitRange
from adlightning.testing import Blobs, Stripes

TABLE: dict[str, Any] = {"encoder": partial(MLPEncoder, dense=(16,), rep_dim=4), "preprocessing": StandardizeFeatures}


class Watch(pl.Callback):
    """Encoder state, centre and optimiser at the start of each epoch and before its first batch."""

    def __init__(self) -> None:
        self.at_end: list[dict[str, Tensor]] = []
        self.at_first_batch: list[dict[str, Tensor]] = []
        self.centers: list[Tensor] = []
        self.rates: list[tuple[float, float]] = []
        self.moments: list[int] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            assert isinstance(pl_module, (DeepSAD, DeepSVDD))
            optimizer = trainer.optimizers[0]
            self.at_first_batch.append({k: v.clone() for k, v in pl_module.sphere.encoder.state_dict().items()})
            self.centers.append(pl_module.sphere.center.clone())
            self.rates.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]))
            self.moments.append(len(optimizer.state))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, (DeepSAD, DeepSVDD))
        self.at_end.append({k: v.clone() for k, v in pl_module.sphere.encoder.state_dict().items()})


def fit(
    make_trainer: MakeTrainer, epochs: int = 5, first: dict[str, Any] | None = None, **options: Any
) -> tuple[DeepSAD, AnomalyLabelled, Watch]:
    torch.manual_seed(0)
    watch = Watch()
    pretraining = AutoencoderPretraining(**{"epochs": 3, "optimizer": partial(Adam, lr=1e-2), **(first or {})})
    options = {"optimizer": partial(Adam, lr=1e-3), **options}
    detector = DeepSAD(**TABLE, pretraining=pretraining, **options)
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=32, seed=0)
    make_trainer(max_epochs=epochs, callbacks=[watch]).fit(detector, datamodule=data)
    return detector, data, watch


def test_the_objective_starts_from_the_pretrained_encoder_with_its_batchnorm_statistics(
    make_trainer: MakeTrainer,
) -> None:
    _, _, watch = fit(make_trainer)
    trained, start = watch.at_end[2], watch.at_first_batch[3]
    assert all(torch.equal(trained[name], start[name]) for name in trained)
    assert any("running_mean" in name for name in trained)
    assert any(not torch.equal(watch.at_first_batch[0][name], trained[name]) for name in trained)


def test_pretrain_transfer_false_starts_anew_as_the_released_code(make_trainer: MakeTrainer) -> None:
    _, _, watch = fit(make_trainer, first={"transfer": False})
    trained, start = watch.at_end[2], watch.at_first_batch[3]
    assert all(not torch.equal(trained[name], start[name]) for name in trained if "weight" in name)
    assert all((start[name] == 0).all() for name in start if "running_mean" in name)


def test_each_phase_has_its_own_rate_decay_and_optimiser(make_trainer: MakeTrainer) -> None:
    _, _, watch = fit(
        make_trainer,
        epochs=7,
        first={
            "optimizer": partial(Adam, lr=1e-2, weight_decay=5e-4),
            "lr_scheduler": partial(MultiStepLR, milestones=[2]),
        },
        optimizer=partial(Adam, lr=1e-3, weight_decay=1e-6),
        lr_scheduler=partial(MultiStepLR, milestones=[1]),
    )
    rates = [rate for rate, _ in watch.rates]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4])
    assert [decay for _, decay in watch.rates] == [5e-4] * 3 + [1e-6] * 4
    assert watch.moments[2] > 0
    assert watch.moments[3] == 0


@pytest.mark.parametrize("include", [False, True])
def test_the_centre_is_the_snapped_mean_representation_and_stays(make_trainer: MakeTrainer, include: bool) -> None:
    detector, data, watch = fit(make_trainer, center_include_labelled=include)
    assert (watch.centers[0] == 0).all()
    assert torch.equal(watch.centers[3], detector.sphere.center)
    encoder = DeepSAD(**TABLE)
    encoder.configure_for(data.input_spec)
    encoder.sphere.encoder.load_state_dict(watch.at_end[2])
    encoder.preprocess.load_state_dict(detector.preprocess.state_dict())
    encoder.eval()
    x = data.train_samples.x
    assert isinstance(x, Tensor)
    chosen = data.split.train if include else data.split.train[data.split.known != KNOWN_ANOMALY]
    with torch.no_grad():
        expected = snap_center(
            encoder.sphere.encoder(encoder.preprocess(x[torch.from_numpy(chosen)])).double().mean(0)
        ).float()
    torch.testing.assert_close(detector.sphere.center, expected)


def test_a_fit_that_would_end_in_pretraining_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(
        ValueError, match=r"max_epochs counts the first phase and must exceed model\.pretraining\.epochs=3"
    ):
        fit(make_trainer, epochs=3)


def test_validation_says_nothing_before_the_centre_is_set(make_trainer: MakeTrainer) -> None:
    logged: list[bool] = []

    class Log(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            logged.append("val/score_mean" in trainer.callback_metrics)

    detector = DeepSVDD(**TABLE, pretraining=AutoencoderPretraining(epochs=2))
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=32, seed=0)
    make_trainer(max_epochs=4, callbacks=[Log()]).fit(detector, datamodule=data)
    assert logged == [False, False, True, True]


def test_the_radius_waits_for_its_warm_up_then_follows_the_batch(make_trainer: MakeTrainer) -> None:
    radii: list[float] = []

    class Radius(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            assert isinstance(pl_module, SoftBoundaryDeepSVDD)
            radii.append(pl_module.radius.item())

    detector = SoftBoundaryDeepSVDD(nu=0.2, warm_up_epochs=2, **TABLE, pretraining=AutoencoderPretraining(epochs=1))
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=32, seed=0)
    make_trainer(max_epochs=5, callbacks=[Radius()]).fit(detector, datamodule=data)
    assert radii[:3] == [0.0, 0.0, 0.0]
    assert all(radius > 0 for radius in radii[3:])
    distances = detector._distances
    assert detector.radius.item() == pytest.approx(distances.sqrt().quantile(0.8).item())


def test_unsupervised_methods_never_see_known_anomalies(make_trainer: MakeTrainer) -> None:
    seen: dict[str, set[int]] = {}

    class See(pl.Callback):
        def on_train_batch_start(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TrainBatch, _: int
        ) -> None:
            seen.setdefault(type(pl_module).__name__, set()).update(batch.known.tolist())

    for cls in (DeepSAD, DeepSVDD):
        data = OneVsAll(Stripes(), 0, labelled_anomaly_ratio=0.2, n_labelled_classes=1, batch_size=16, seed=0)
        detector = cls(encoder=partial(LeNetEncoder, rep_dim=16), pretraining=AutoencoderPretraining(epochs=1))
        make_trainer(max_epochs=2, callbacks=[See()]).fit(detector, datamodule=data)
    assert seen == {"DeepSAD": {0, -1}, "DeepSVDD": {0}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": 0.0}, "eta must be positive and finite, got 0"),
        ({"weight_init": "zeros"}, "weight_init must be one of glorot, framework, got 'zeros'"),
        ({"encoder": Adam}, "encoder must be a subclass of Module"),
        ({"optimizer": LeNetEncoder}, "optimizer must be a subclass of Optimizer"),
        ({"lr_scheduler": Adam}, "lr_scheduler must be a subclass of LRScheduler"),
        ({"lr_scheduler_interval": "day"}, "lr_scheduler_interval must be one of epoch, step, got 'day'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepSAD(**arguments)


@pytest.mark.parametrize("nu", [0.0, 1.0])
def test_nu_must_be_a_share(nu: float) -> None:
    with pytest.raises(ValueError, match=r"nu must lie in \(0, 1\)"):
        SoftBoundaryDeepSVDD(nu=nu)


def test_values_of_the_first_phase_are_named() -> None:
    with pytest.raises(ValueError, match=r"pretraining.epochs must not be negative, got -1"):
        AutoencoderPretraining(epochs=-1)
    with pytest.raises(ValueError, match=r"pretraining.optimizer must be a subclass of Optimizer"):
        AutoencoderPretraining(optimizer=LeNetEncoder)  # type: ignore[arg-type]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("optimizer", {"part": Adam, "lr": -1.0}, "optimizer: Invalid learning rate: -1.0 .Adam"),
    ("optimizer", {"part": Adam, "lrr": 1.0}, "optimizer: .* unexpected keyword argument 'lrr' .Adam"),
    ("optimizer", {"part": Adam, "betas": "x"}, "optimizer: "),
    ("optimizer", {"part": Muon}, r"optimizer: Muon only supports 2D parameters .*Muon"),
    ("optimizer", {"part": SparseAdam}, "optimizer: SparseAdam does not support dense gradients"),
    ("optimizer", {"part": SGD, "nesterov": True}, "optimizer: Nesterov momentum requires a momentum"),
    ("lr_scheduler", {"part": StepLR}, "lr_scheduler: .* missing 1 required positional argument: 'step_size' .StepLR"),
    ("lr_scheduler", {"part": StepLR, "step_size": 0}, "lr_scheduler: integer modulo by zero .StepLR"),
    ("lr_scheduler", {"part": CosineAnnealingLR, "T_max": 0}, "lr_scheduler: .* by zero .CosineAnnealingLR"),
    ("lr_scheduler", {"part": ExponentialLR, "gamma": -1.0}, "lr_scheduler must give learning rates .*, got -0.0"),
    ("lr_scheduler", {"part": OneCycleLR, "max_lr": 1.0}, "lr_scheduler: You must define either total_steps OR"),
    ("lr_scheduler", {"part": LRScheduler}, "lr_scheduler: it fails with NotImplementedError .LRScheduler"),
]


@pytest.mark.parametrize(("argument", "given", "message"), WRONG)
@pytest.mark.parametrize("phase", ["first", "second"])
def test_what_an_optimiser_or_a_schedule_refuses_is_said_before_training(
    make_trainer: MakeTrainer, phase: str, argument: str, given: dict[str, Any], message: str
) -> None:
    part = partial(given["part"], **{name: value for name, value in given.items() if name != "part"})
    images: dict[str, Any] = {"encoder": partial(LeNetEncoder, rep_dim=16), "preprocessing": UnitRange}
    given = {argument: part}
    first = AutoencoderPretraining(epochs=1, **(given if phase == "first" else {}))
    detector = DeepSAD(**images, pretraining=first, **(given if phase == "second" else {}))
    weights: list[dict[str, Tensor]] = []

    class Steps(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            weights.append(pl_module.state_dict())

    trainer = make_trainer(max_epochs=2, callbacks=[Steps()])
    with pytest.raises(ValueError, match=f"^{'pretraining.' if phase == 'first' else ''}{message}"):
        trainer.fit(detector, datamodule=OneVsAll(Stripes(), "left", batch_size=20, seed=0))
    assert not weights


def test_trying_an_optimiser_moves_nothing() -> None:
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(4))]
    before = [weight.clone() for weight in weights]
    schedule = partial(CosineAnnealingLR, T_max=4)
    groups: list[dict[str, Any]] = [{"params": weights[:1], "lr": 0.5}, {"params": weights[1:]}]
    for given in (weights, groups):
        made = one_optimizer(given, optimizer_part("o", partial(Adam, lr=0.1)), scheduler_part("s", schedule))
        assert made["lr_scheduler"]["scheduler"].last_epoch == 0
        assert not made["optimizer"].state
        assert [group["lr"] for group in made["optimizer"].param_groups] == ([0.5, 0.1] if given is groups else [0.1])
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
    assert all(weight.grad is None for weight in weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic_optimizer": partial(Adam, lr=-1.0)}, "optimizer of the critic: Invalid learning rate: -1.0 .Adam"),
        ({"lr_scheduler": partial(StepLR, step_size=0)}, "lr_scheduler: integer modulo by zero .StepLR"),
    ],
)
def test_what_a_players_optimiser_refuses_is_said_before_training(
    make_trainer: MakeTrainer, options: dict[str, Any], message: str
) -> None:
    networks: dict[str, Any] = {"generator": partial(DCGANGenerator, width=4), "critic": partial(DCGANCritic, width=4)}
    detector = ADGAN(**networks, latent_dim=8, preprocessing=SymmetricRange, **options)
    with pytest.raises(ValueError, match=message):
        make_trainer().fit(detector, datamodule=OneVsAll(Stripes(), "left", batch_size=20, seed=0))


def test_a_schedule_that_fails_in_the_middle_is_named(make_trainer: MakeTrainer) -> None:
    short = partial(OneCycleLR, max_lr=1e-3, total_steps=2)
    with pytest.raises(TrainingFault, match=r"lr_scheduler: Tried to step 3 times.*OneCycleLR"):
        fit(make_trainer, first={"epochs": 0}, lr_scheduler=short)


def test_a_decoder_that_cannot_be_made_is_named(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match=r"decoder cannot be made for d = 4 and samples of shape \(6,\)"):
        fit(make_trainer, decoder=partial(MLPEncoder, rep_dim=4))
