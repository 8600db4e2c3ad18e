"""Likelihood, its ratio, typicality and the S-score: losses and scores by hand, compressors, pictures, refusals."""

from __future__ import annotations

import io
import math
import stat
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from PIL import Image
from torch import Tensor, nn
from torch.optim import SGD, Adam

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.core.metrics import ranking_metrics
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.out_of_distribution import OutOfDistribution
from adlightning.data.sources import Digits, UniformNoise
from adlightning.methods import Likelihood, LikelihoodRatio, SScore, Typicality
from adlightning.methods.likelihood_ratio import mutated, squared_weights
from adlightning.methods.parts import densities
from adlightning.methods.parts.compressors import FLIF, JPEG2000, PNG, Compressor
from adlightning.methods.typicality import typicality
from adlightning.networks import PixelCNNPP
from adlightning.preprocessing import SymmetricRange, UnitRange
from adlightning.testing import Stripes

SMALL = partial(PixelCNNPP, blocks=1, filters=8, components=2)
SPEC = InputSpec("image", (1, 2, 3))
QUICK: dict[str, Any] = {"density": SMALL, "optimizer": partial(Adam, lr=1e-2), "lr_scheduler": None}


class Bright(nn.Module):
    """log p = weight * sum of the values: likelier, the brighter."""

    def __init__(self, shape: tuple[int, ...], weight: float = -1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, 1), weight))
        self.bias = nn.Parameter(torch.tensor(5.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[0, 0] * x.sum(dim=(1, 2, 3))


def raw(*values: int) -> Tensor:
    return torch.stack([torch.full((1, 2, 3), value, dtype=torch.uint8) for value in values])


def built(detector: Likelihood, spec: InputSpec = SPEC) -> Likelihood:
    detector.configure_for(spec)
    return detector


def batch(x: Tensor) -> TrainBatch:
    return TrainBatch(x, torch.zeros(len(x)), torch.arange(len(x)))


def digits(**options: Any) -> OneVsAll:
    return OneVsAll(source=Digits(), **{"normal_class": 0, "batch_size": 64, "seed": 0, **options})


# ---- losses and scores ----------------------------------------------------------------------------------------------


def test_loss_and_score_are_bits_per_dimension() -> None:
    detector = built(Likelihood(density=Bright))
    x = raw(0, 255, 51)  # log p = 0, -6, -1.2
    wanted = torch.tensor([0, 6, 1.2]) / (6 * math.log(2))
    assert torch.allclose(detector.anomaly_score(x), wanted)
    assert detector.training_step(batch(x), 0)["loss"].item() == pytest.approx(wanted.mean().item())


def test_ratio_is_that_of_the_background_to_the_images_in_nats() -> None:
    detector = built(LikelihoodRatio(density=Bright, background=partial(Bright, weight=-3.0)))
    assert detector.anomaly_score(raw(0, 255, 51)).tolist() == pytest.approx([0, -12, -2.4])


def test_loss_of_the_ratio_is_that_of_both_models_and_the_backgrounds_weights() -> None:
    background = partial(Bright, weight=-3.0)
    torch.manual_seed(0)
    step = built(LikelihoodRatio(density=Bright, background=background)).training_step(batch(raw(255)), 0)
    assert step["bits_per_dimension"].item() == pytest.approx(6 / (6 * math.log(2)))
    torch.manual_seed(0)
    bits = 3 * mutated(torch.ones(1, 1, 2, 3), 0.3).sum().item() / (6 * math.log(2))
    assert step["background_bits_per_dimension"].item() == pytest.approx(bits)
    assert step["loss"].item() == pytest.approx(1 / math.log(2) + bits)
    torch.manual_seed(0)
    bound = built(LikelihoodRatio(density=Bright, background=background, background_l2=10.0))
    held = bound.training_step(batch(raw(255)), 0)
    more = held["loss"] - step["loss"]  # 10 nats for each unit of 3^2; a bias is no weight
    assert more.item() == pytest.approx(10 * 9 / (6 * math.log(2)))


def test_the_background_is_trained_by_its_own_loss_alone() -> None:
    detector = built(LikelihoodRatio(density=Bright, background_l2=1.0))
    assert isinstance(detector, LikelihoodRatio)
    loss = detector.training_step(batch(raw(255, 0)), 0)["loss"]
    alone = detector.bits(detector.density(UnitRange((1, 2, 3))(raw(255, 0)))).mean()
    weight = detector.density.weight
    given, wanted = (torch.autograd.grad(of, weight, retain_graph=True)[0] for of in (loss, alone))  # type: ignore[arg-type]
    assert torch.allclose(given, wanted)


def test_mutated_values_are_uniform_levels_at_their_rate() -> None:
    torch.manual_seed(0)
    x = torch.full((1, 3, 100, 100), 0.5)  # no level: what changed is seen
    changed = (made := mutated(x, 0.3)) != x
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.01)
    levels = made[changed] * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert torch.bincount(levels.round().long(), minlength=256).bool().all()
    assert not (changed[:, 0] == changed[:, 1]).all()  # channels are drawn apart
    assert torch.equal(mutated(x, 0.0), x)


def test_squared_weights_leave_biases_out() -> None:
    net = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    with torch.no_grad():
        for value, weight in zip((1.0, 50.0, 3.0, 50.0), net.parameters(), strict=True):
            weight.fill_(value)
    assert squared_weights(net).item() == 1 + 1 + 9


def test_typicality_is_the_distance_from_the_entropy_on_either_side() -> None:
    assert typicality(torch.tensor([1.0, 2.5, 4.0]), torch.tensor(2.0)).tolist() == [1.0, 0.5, 2.0]


def test_the_entropy_is_the_mean_over_training_images(make_trainer: MakeTrainer) -> None:
    detector, data = Typicality(**QUICK), digits()
    make_trainer(max_epochs=1).fit(detector, datamodule=data)
    surprise = detector.surprise(data.train_samples.x[torch.from_numpy(data.split.train)])  # type: ignore[index]
    assert detector.entropy.item() == pytest.approx(surprise.mean().item(), rel=1e-5)
    x = data.test_samples.x[:5]  # type: ignore[index]
    with torch.no_grad():
        wanted = (detector.surprise(x) - detector.entropy).abs()
    assert detector.score(x) == pytest.approx(wanted.numpy(), rel=1e-4, abs=1e-6)


def test_s_score_is_the_surprise_less_the_length() -> None:
    detector = built(SScore(density=Bright, compressor=PNG()))
    x = raw(0, 255)
    lengths = [8 * len(PNG().code(Image.fromarray(image[0].numpy()))) for image in x]
    wanted = [(0 - lengths[0]) / 6, 6 / (6 * math.log(2)) - lengths[1] / 6]
    assert detector.anomaly_score(x).tolist() == pytest.approx(wanted)
    assert any("PNG" in remark for remark in detector.remarks())


# ---- compressors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressor", [PNG(), JPEG2000()])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 5, 7), (3, 32, 32)])
def test_compressors_lose_nothing(compressor: Compressor, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 255, math.prod(shape)).reshape(shape).astype(np.uint8)
    for pixels in (rng.integers(0, 256, shape, dtype=np.uint8), smooth):
        image = Image.fromarray(pixels[0] if shape[0] == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        with Image.open(io.BytesIO(compressor.code(image))) as back:
            assert np.array_equal(np.asarray(back), np.asarray(image))


def test_noise_is_longer_than_a_flat_image_and_channels_of_any_number_count() -> None:
    noise = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8)
    flat = torch.full((1, 3, 16, 16), 7, dtype=torch.uint8)
    for compressor in (PNG(), JPEG2000()):
        lengths = compressor.bits(torch.cat([noise, flat]))
        assert lengths[0] > 3 * lengths[1]
        assert torch.equal(compressor.bits(flat[:, :2]), 2 * compressor.bits(flat[:, :1]))


def test_flif_is_refused_where_its_program_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"FLIF needs the program flif .* not installed.* JPEG2000 or PNG"):
        built(SScore(density=Bright, compressor=FLIF()))


def test_flif_is_run_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "flif"
    program.write_text('#!/bin/sh\n[ "$1" = -e ] && printf 12345 > "$3"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    detector = built(SScore(density=Bright, compressor=FLIF()))
    assert detector.anomaly_score(raw(0)).item() == pytest.approx(-5 * 8 / 6)
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    with pytest.raises(RuntimeError, match=r"flif failed \(3\): broken"):
        FLIF().code(Image.new("L", (2, 2)))


# ---- a sample of two images -----------------------------------------------------------------------------------------


def test_a_pair_counts_by_the_mean_of_its_images(make_trainer: MakeTrainer) -> None:
    pl.seed_everything(0, verbose=False)
    data = OutOfDistribution(Stripes(), {"noise": UniformNoise(100)}, batch_of=2, batch_size=32, seed=0)
    detector = Typicality(batch_of=2, **QUICK)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector, datamodule=data)
    trainer.test(detector, datamodule=data, verbose=False)
    assert detector.built_for.shape == (1, 32, 16)
    assert detector.density.shape == (1, 16, 16)
    pair = data.test_samples.x[:1]  # type: ignore[index]
    with torch.no_grad():
        one_by_one = detector.bits(detector.density(pair.view(2, 1, 16, 16).float() / 255)).mean()
    assert detector.surprise(pair).item() == pytest.approx(one_by_one.item(), rel=1e-5)
    scored = detector.results["noise"]
    assert ranking_metrics(scored.scores, scored.labels)["auroc"] > 0.9


@pytest.mark.parametrize(("of", "given"), [(2, 1), (1, 2), (4, 2)])
def test_model_and_data_agree_on_how_many_images_a_sample_has(of: int, given: int, make_trainer: MakeTrainer) -> None:
    data = OutOfDistribution(Stripes(), {"noise": UniformNoise(100)}, batch_of=given, seed=0)
    with pytest.raises(ValueError, match=f"model.batch_of and data.batch_of must be the same, got {of} and {given}"):
        make_trainer(max_epochs=1).fit(Typicality(batch_of=of, **QUICK), datamodule=data)


def test_several_images_are_not_resized() -> None:
    resized = partial(UnitRange, resize=16)
    with pytest.raises(ValueError, match=r"batch_of=2 needs samples of as many images .*\(1, 16, 16\)"):
        built(Typicality(batch_of=2, preprocessing=resized, **QUICK), InputSpec("image", (1, 32, 16)))


# ---- fits -----------------------------------------------------------------------------------------------------------


def test_what_is_logged_and_drawn(make_trainer: MakeTrainer) -> None:
    pl.seed_everything(0, verbose=False)
    detector = Likelihood(**QUICK)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector, datamodule=(data := digits(validation_fraction=0.2)))
    metrics = trainer.callback_metrics
    assert {"train/bits_per_dimension", "val/bits_per_dimension"} <= metrics.keys()
    held_out = data.train_samples.x[torch.from_numpy(data.split.validation)]  # type: ignore[index]
    assert metrics["val/bits_per_dimension"].item() == pytest.approx(detector.score(held_out).mean(), rel=1e-4)
    images = detector.generated(4)
    assert images.shape == (4, 1, 8, 8)
    assert torch.equal(images, detector.generated(4))


def test_a_model_that_draws_slowly_draws_fewer_and_one_that_cannot_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(densities, "MANY_PASSES", 1)
    assert len(built(Likelihood(density=SMALL), InputSpec("image", (1, 1, 2))).generated(60)) == 10
    assert built(Likelihood(density=Bright)).generated(60).shape == (0, 1, 2, 3)


@pytest.mark.parametrize("cls", [Likelihood, LikelihoodRatio, Typicality, SScore])
def test_refuses_other_preprocessing_and_tables(cls: type[Likelihood]) -> None:
    with pytest.raises(ValueError, match=r"preprocessing must be UnitRange, .* got SymmetricRange"):
        built(cls(density=Bright, preprocessing=SymmetricRange))
    with pytest.raises(ValueError, match=r"images \(C, H, W\)"):
        built(cls(), InputSpec("table", (5,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mutation_rate": 0.0}, r"mutation_rate must lie in \(0, 1\], got 0.0"),
        ({"background_l2": -1.0}, "background_l2 must not be negative"),
        ({"background_l2": 10.0}, "background_l2 must be 0 with weight_norm"),
    ],
)
def test_the_ratio_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(LikelihoodRatio(**{"optimizer": partial(SGD, lr=0.1), **options}))
