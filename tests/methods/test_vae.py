"""ADGAN's convolutional autoencoder and VAE: networks, bounds by hand, scores without company, refusals."""

from __future__ import annotations

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from gan_cases import images, stripes
from torch import Tensor, nn
from torch.optim import Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ranking_metrics
from adlightning.methods import DCAE, VAE
from adlightning.methods.parts.inversion import starting_latents
from adlightning.methods.vae import negative_elbo
from adlightning.networks.dgm import kl_from_standard
from adlightning.networks.gan import DCGANEncoder, DCGANGenerator
from adlightning.preprocessing import SymmetricRange, UnitRange

SMALL: dict[str, Any] = {
    "encoder": partial(DCGANEncoder, code_dim=16, width=8),
    "optimizer": partial(Adam, lr=1e-2),
    "preprocessing": SymmetricRange,
}
CASES: list[tuple[type[DCAE] | type[VAE], dict[str, Any]]] = [
    (DCAE, {}),
    (DCAE, {"preprocessing": UnitRange}),
    (VAE, {}),
    (VAE, {"score_samples": 3}),
    (VAE, {"likelihood": "bernoulli", "preprocessing": UnitRange}),
]


class Flat(nn.Module):
    """A decoder that forgets that samples are images."""

    def __init__(self, rep_dim: int, shape: tuple[int, ...], output: str) -> None:
        super().__init__()
        self.layer = nn.Linear(rep_dim, math.prod(shape))

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.layer(z)
        return x


class Own(nn.Module):
    """A user's encoder: one linear layer."""

    def __init__(self, shape: tuple[int, ...], size: int = 6) -> None:
        super().__init__()
        self.layer = nn.Linear(math.prod(shape), size)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(x.flatten(1))
        return z


def built(cls: type[DCAE] | type[VAE], **options: Any) -> Any:
    torch.manual_seed(0)
    detector = cls(**{**SMALL, **options})
    detector.configure_for(InputSpec("image", (1, 16, 16)))
    for module in detector.modules():  # statistics and weights of a network that was trained
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_(0, 0.1)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0, 0.2)
    return detector.eval()


@pytest.mark.parametrize("kernel_size", [3, 4])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_encoder_takes_images_of_each_size(shape: tuple[int, int, int], kernel_size: int) -> None:
    assert DCGANEncoder(shape, code_dim=5, width=2, kernel_size=kernel_size)(torch.rand(3, *shape)).shape == (3, 5)


def test_encoder_has_batch_norm_and_relu_in_each_layer() -> None:
    layers = list(DCGANEncoder((3, 32, 32), 10).features)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 3
    assert [layer.num_features for layer in layers if isinstance(layer, nn.BatchNorm2d)] == [64, 128, 256]
    assert torch.equal(layers[2](torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))


def test_bound_by_hand() -> None:
    log_likelihood, kl = torch.tensor([-3.0, 1.0]), torch.tensor([0.5, 2.0])
    assert negative_elbo(log_likelihood, kl).tolist() == [3.5, 1.0]


def test_reconstruction_error_is_the_mean_over_pixels() -> None:
    detector, x = built(DCAE), images(3)
    prepared = x.float() / 127.5 - 1
    expected = (detector.decoder(detector.encoder(prepared)) - prepared).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(detector.anomaly_score(x), expected)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_score_at_the_posterior_mean(likelihood: Any) -> None:
    detector, x = built(VAE, likelihood=likelihood, preprocessing=UnitRange), images(3)
    prepared = x.float() / 255
    mean, raw = detector.encoder(prepared).chunk(2, dim=1)
    scale = torch.log1p(raw.exp()) + 1e-4
    kl = (scale**2 + mean**2 - 1 - 2 * scale.log()).sum(dim=1) / 2
    out = detector.decoder(mean)
    if likelihood == "gaussian":
        assert out.min() >= 0  # a sigmoid, as the input
        log_p = -((prepared - out) ** 2 + math.log(2 * math.pi)).sum(dim=(1, 2, 3)) / 2
    else:
        p = out.double().sigmoid()
        log_p = (prepared * p.log() + (1 - prepared) * (1 - p).log()).sum(dim=(1, 2, 3)).float()
    torch.testing.assert_close(detector.anomaly_score(x), kl - log_p, rtol=1e-4, atol=1e-2)


def test_score_of_samples_is_the_mean_of_their_bounds() -> None:
    detector, x = built(VAE, score_samples=3, score_seed=5), images(4)
    prepared = x.float() / 127.5 - 1
    mean, scale = detector.posterior(prepared)
    noise = starting_latents(x, 3, 8, seed=5)
    bounds = torch.stack([detector.log_likelihood(prepared, mean + scale * noise[:, j]) for j in range(3)])
    expected = kl_from_standard(mean, scale) - bounds.mean(dim=0)
    torch.testing.assert_close(detector.anomaly_score(x), expected)
    assert not torch.allclose(expected, kl_from_standard(mean, scale) - detector.log_likelihood(prepared, mean))


@pytest.mark.parametrize(("cls", "options"), CASES)
def test_scores_do_not_depend_on_batch_or_company(cls: Any, options: dict[str, Any]) -> None:
    detector, x = built(cls, **options), images(7)
    whole = detector.anomaly_score(x)
    order = torch.tensor([4, 2, 6, 0])
    torch.testing.assert_close(detector.anomaly_score(x[order]), whole[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(detector.anomaly_score(x[3:4]), whole[3:4], rtol=1e-5, atol=1e-5)
    assert whole.std() > 0


@pytest.mark.parametrize(("cls", "options"), CASES)
def test_fit_moves_all_weights_and_ranks_stripes_and_its_checkpoint_is_whole(
    make_trainer: MakeTrainer, tmp_path: Path, cls: Any, options: dict[str, Any]
) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = cls(**{**SMALL, **options}), stripes(validation_fraction=0.2)
    data.setup("fit")
    detector.configure_for(data.input_spec)
    before = copy.deepcopy(dict(detector.named_parameters()))
    trainer = make_trainer(max_epochs=12)
    trainer.fit(detector, datamodule=data)
    assert all(not torch.equal(before[name], weight) for name, weight in detector.named_parameters())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"]
    assert ranking_metrics(tested.scores, tested.labels)["auroc"] > 0.9
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    loaded = load_detector(tmp_path / "last.ckpt")
    torch.testing.assert_close(loaded.anomaly_score(x), torch.from_numpy(tested.scores).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "poisson"}, "likelihood must be one of bernoulli, gaussian, got 'poisson'"),
        ({"encoder": 3}, "encoder must be a subclass of Module"),
        ({"score_samples": -1}, "score_samples must not be negative, got -1"),
        ({"score_seed": -1}, r"score_seed must lie in \[0, 2\^63\), got -1"),
    ],
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(**{**SMALL, **options})


def test_what_the_data_do_not_allow_is_refused() -> None:
    with pytest.raises(ValueError, match=r"preprocessing one to \[0, 1\].*got bernoulli with preprocessing Symm"):
        built(VAE, likelihood="bernoulli")
    with pytest.raises(ValueError, match="kernel_size must be 3 or 4, got 5"):
        built(DCAE, encoder=partial(DCGANEncoder, kernel_size=5))
    with pytest.raises(ValueError, match="code_dim must be at least 1, got 0"):
        built(DCAE, encoder=partial(DCGANEncoder, code_dim=0))
    with pytest.raises(ValueError, match="encoder must give means and scales, an even number of values, got 5"):
        built(VAE, encoder=partial(DCGANEncoder, code_dim=5))
    with pytest.raises(ValueError, match=r"decoder must make samples of shape \(2, 1, 16, 16\).*Flat makes \(2, 256\)"):
        built(DCAE, decoder=Flat)
    with pytest.raises(ValueError, match="a side of at least 8 pixels"):
        DCAE(**SMALL).configure_for(InputSpec("image", (1, 4, 7)))


def test_the_papers_networks_have_256_latents_and_the_decoder_mirrors_the_encoder() -> None:
    for cls, size in ((DCAE, 256), (VAE, 512)):
        detector = cls(preprocessing=SymmetricRange)
        detector.configure_for(InputSpec("image", (1, 8, 8)))
        assert detector.encoder(torch.rand(2, 1, 8, 8)).shape == (2, size)
        first = detector.decoder.get_parameter("layers.0.weight")
        assert first.shape[:2] == (256, 64)
    narrow = DCGANEncoder((1, 8, 8), code_dim=5, width=3).mirrored("tanh")
    assert isinstance(narrow, DCGANGenerator)
    assert narrow.get_parameter("layers.0.weight").shape[:2] == (5, 3)


@pytest.mark.parametrize("cls", [DCAE, VAE])
def test_an_encoder_of_ones_own_has_the_papers_decoder_and_resumes_with_another_optimiser(
    make_trainer: MakeTrainer, tmp_path: Path, cls: Any
) -> None:
    def detector() -> Any:
        pl.seed_everything(0, verbose=False)
        optimization = {"optimizer": partial(AdamW, lr=3e-3), "lr_scheduler": partial(CosineAnnealingLR, T_max=3)}
        made = cls(Own, partial(DCGANGenerator, width=4), preprocessing=SymmetricRange, **optimization)
        assert isinstance(made, cls)
        return made

    whole = detector()
    trainer = make_trainer(max_epochs=3)
    trainer.fit(whole, datamodule=stripes())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    assert isinstance(trainer.optimizers[0], AdamW)
    assert whole.eval().decoder(torch.zeros(2, 6 if cls is DCAE else 3)).shape == (2, 1, 16, 16)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector(), datamodule=stripes())
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    resumed = detector()
    make_trainer(max_epochs=3).fit(resumed, datamodule=stripes(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    wanted = whole.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in resumed.state_dict().items())
