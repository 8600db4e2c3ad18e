"""What every generative detector owes: the same seed gives the same scores, another one others."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from conftest import MakeTrainer
from gan_cases import scores_of_a_fit

from adlightning.core.detector import AnomalyDetector
from adlightning.methods import ADGAN, ALAD, AMA, DCAE, VAE, WAIC, AnoGAN, ConAD, DensityWAIC, FenceGAN, SkipGANomaly
from adlightning.methods.adgan import CriticTurns
from adlightning.methods.ama import Negatives
from adlightning.methods.parts.inversion import LatentSearch
from adlightning.networks.alad import ALADEncoder, ALADGenerator, ImagePairDiscriminator, JointDiscriminator
from adlightning.networks.fence_gan import FenceDiscriminator, FenceGenerator
from adlightning.networks.gan import DCGANCritic, DCGANEncoder, DCGANGenerator
from adlightning.networks.glow import Glow
from adlightning.networks.hypotheses import GroupDiscriminator, HypothesesDecoder
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.networks.unet import FeatureDiscriminator, UNet
from adlightning.preprocessing import SymmetricRange, UnitRange

WGAN: dict[str, Any] = {
    "latent_dim": 8,
    "generator": partial(DCGANGenerator, width=4),
    "critic": partial(DCGANCritic, width=4),
    "critic_turns": CriticTurns(steps=1, bursts=False),
}
CASES: dict[type[AnomalyDetector], dict[str, Any]] = {
    ADGAN: {**WGAN, "search": LatentSearch(n_seeds=2, n_steps=2)},
    ALAD: {
        "latent_dim": 6,
        "encoder": partial(ALADEncoder, width=4),
        "generator": partial(ALADGenerator, width=4),
        "joint_discriminator": partial(JointDiscriminator, width=4, latent_units=5, joint_units=7),
        "image_discriminator": partial(ImagePairDiscriminator, width=4),
    },
    AMA: {
        "latent_dim": 4,
        "encoder": partial(StridedEncoder, width=4),
        "generator": partial(ResidualGenerator, width=8),
        "critic": partial(ResidualCritic, width=6),
        "first_scored_epoch": 0,
        "negatives": Negatives(warm_up_epochs=1),
    },
    AnoGAN: {**WGAN, "search": LatentSearch(1, 2, 0.01, lr_weights=0)},
    ConAD: {
        "encoder": partial(DCGANEncoder, code_dim=8, width=4),
        "decoder": partial(HypothesesDecoder, width=4),
        "discriminator": partial(GroupDiscriminator, width=4, n_kernels=3, kernel_dim=2),
        "n_hypotheses": 3,
    },
    DCAE: {"encoder": partial(DCGANEncoder, code_dim=16, width=8)},
    FenceGAN: {
        "latent_dim": 8,
        "generator": partial(FenceGenerator, width=4, hidden=16),
        "discriminator": partial(FenceDiscriminator, width=4, hidden=16),
        "pretrain_epochs": 1,
    },
    SkipGANomaly: {
        "generator": partial(UNet, width=4),
        "discriminator": partial(FeatureDiscriminator, n_features=6, width=4),
    },
    VAE: {"encoder": partial(DCGANEncoder, code_dim=16, width=8)},
    WAIC: {**WGAN, "n_members": 2},
    DensityWAIC: {"n_members": 2, "density": partial(Glow, steps=1, width=4), "preprocessing": UnitRange},
}
slow = partial(pytest.param, marks=pytest.mark.slow)


# That the same seed gives the same scores, adlightning.testing checks of every method.
@pytest.mark.parametrize("cls", [cls if cls in (ADGAN, DCAE, VAE) else slow(cls) for cls in CASES])
def test_a_seed_gives_the_same_scores_and_another_seed_others(
    make_trainer: MakeTrainer, cls: type[AnomalyDetector]
) -> None:
    options = {"preprocessing": SymmetricRange, **CASES[cls]}
    first, again, other = (scores_of_a_fit(make_trainer, cls, options, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert first.isfinite().all()
