"""Small detectors of every method, on the small data of adlightning.testing, and trials of them."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Any

import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch.optim import SGD, Adam

from adlightning import shallow
from adlightning.core.contracts import Kind
from adlightning.core.detector import AnomalyDetector
from adlightning.data.modules import AnomalyDataModule
from adlightning.methods import (
    ADGAN,
    ALAD,
    AMA,
    DAGMM,
    DCAE,
    DCN,
    DROCC,
    DROCCLF,
    DROCCOE,
    DSEBM,
    FCDD,
    GOAD,
    HSC,
    PCA,
    SSDGM,
    VAE,
    WAIC,
    AnoGAN,
    Autoencoder,
    BinaryClassifier,
    ConAD,
    DeepCluster,
    DeepSAD,
    DeepSVDD,
    DensityRatio,
    DensityWAIC,
    DROCCRand,
    FenceGAN,
    GeometricTransforms,
    Likelihood,
    LikelihoodRatio,
    PatchKNN,
    SemiSupervisedAMA,
    SkipGANomaly as Skip,
    SoftBoundaryDeepSVDD,
    SScore,
    StackedSSDGM,
    Typicality,
)
from adlightning.methods.ama import CriticTurns, Negatives
from adlightning.methods.goad import AffineMaps
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.methods.parts.inversion import LatentSearch
from adlightning.methods.stacked_ss_dgm import M1Pretraining
from adlightning.networks import (
    FullyConvolutional,
    LeNetEncoder,
    LSTMEncoder,
    MLPEncoder,
    PixelCNNPP,
    PlainMLP,
    RawPatches,
)
from adlightning.networks.alad import ALADEncoder, ALADGenerator, ImagePairDiscriminator, JointDiscriminator
from adlightning.networks.energy import RecurrentEnergy
from adlightning.networks.fence_gan import FenceDiscriminator, FenceGenerator
from adlightning.networks.gan import DCGANCritic, DCGANEncoder, DCGANGenerator
from adlightning.networks.glow import Glow
from adlightning.networks.hypotheses import GroupDiscriminator, HypothesesDecoder
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.networks.unet import FeatureDiscriminator, UNet
from adlightning.preprocessing import StandardizeFeatures, SymmetricRange, UnitRange
from adlightning.testing import Trial, small_data


def adam(lr: float) -> Any:
    return partial(Adam, lr=lr, weight_decay=1e-6)


def on_mlp(lr: float, dropout: float) -> dict[str, Any]:
    return {
        "encoder": partial(PlainMLP, dense=(32,), dropout=dropout),
        "optimizer": partial(SGD, lr=lr, weight_decay=1e-3),
    }


SPHERE = {"pretraining": AutoencoderPretraining(epochs=4, optimizer=adam(1e-3)), "optimizer": adam(1e-3)}
DGM = {"hidden": (32, 16), "latent_dim": 8, "optimizer": adam(3e-3)}
RANDOM_SHELL = {"optimizer": partial(Adam, lr=1e-2)}
SHELL = {**RANDOM_SHELL, "ascent": Ascent(steps=5, step_size=0.1)}
METHODS: dict[str, tuple[type[AnomalyDetector], dict[str, Any]]] = {
    "autoencoder": (Autoencoder, {"optimizer": adam(3e-3)}),
    "deep_svdd": (DeepSVDD, SPHERE),
    "soft_boundary": (SoftBoundaryDeepSVDD, {**SPHERE, "warm_up_epochs": 2}),
    "deep_sad": (DeepSAD, SPHERE),
    "binary_classifier": (BinaryClassifier, {"optimizer": adam(3e-3)}),
    "hsc": (HSC, {"optimizer": adam(3e-3)}),
    "drocc": (DROCC, SHELL),
    "drocc_rand": (DROCCRand, RANDOM_SHELL),
    "drocc_oe": (DROCCOE, SHELL),
    "drocc_lf": (DROCCLF, SHELL),
    "goad": (GOAD, {"maps": AffineMaps(number=32)}),
    "dagmm": (DAGMM, {"optimizer": adam(3e-3)}),
    "dcn": (DCN, {"pretrain_epochs": 4, "optimizer": adam(3e-3)}),
    "deep_cluster": (DeepCluster, {"n_clusters": 4}),
    "ss_dgm": (SSDGM, DGM),
    "stacked_ss_dgm": (StackedSSDGM, {**DGM, "pretraining": M1Pretraining(epochs=4, optimizer=adam(3e-3))}),
    "density_ratio": (DensityRatio, on_mlp(lr=0.1, dropout=0.1)),
    "dsebm": (DSEBM, {"optimizer": adam(3e-3)}),
    "geometric_transforms": (GeometricTransforms, on_mlp(lr=0.05, dropout=0.0)),
}
KINDS: dict[Kind, dict[str, Any]] = {
    "image": {"encoder": partial(LeNetEncoder, rep_dim=16), "preprocessing": UnitRange},
    "table": {"encoder": partial(MLPEncoder, dense=(16,), rep_dim=4), "preprocessing": StandardizeFeatures},
}
# The paper's network for tables has no BatchNorm, which would see normal samples and negatives in batches of their own.
SHELL_ON_TABLE = {
    "encoder": partial(MLPEncoder, rep_dim=32, leakiness=0, bias=True),
    "head": Head(activation="leaky_relu", leakiness=0),
    "radius": 3.0,
}
ONLY = {"goad": "table", "geometric_transforms": "image"}
LIKELIHOOD: dict[Kind, str] = {"image": "bernoulli", "table": "gaussian"}
CASES = [(method, kind) for method in METHODS for kind in KINDS if method not in ONLY or kind == ONLY[method]]


def make_data(kind: Kind, method: str = "", **options: Any) -> AnomalyDataModule:
    """Of a kind; for a method that needs unlabelled samples those of the test set are among them."""
    if method == "geometric_transforms":
        options = {"batch_size": 128, **options}  # each image is there 72 times
    return small_data(kind, METHODS[method][0] if method in METHODS else AnomalyDetector, **options)


def make_detector(method: str, kind: Kind, **options: Any) -> AnomalyDetector:
    cls, arguments = METHODS[method]
    taken = signature(cls).parameters  # some have networks of their own
    arguments = {name: value for name, value in KINDS[kind].items() if name in taken} | arguments
    if "drocc" in method and kind == "table":
        arguments |= SHELL_ON_TABLE
    if "ss_dgm" in method:
        arguments["likelihood"] = LIKELIHOOD[kind]
    torch.manual_seed(0)
    return cls(**{**arguments, **options})


def train(
    make_trainer: MakeTrainer, method: str, kind: Kind, epochs: int = 12, **options: Any
) -> tuple[pl.Trainer, AnomalyDetector, AnomalyDataModule]:
    pl.seed_everything(0, verbose=False)
    detector = make_detector(method, kind, **options)
    data = make_data(kind, method)
    trainer = make_trainer(max_epochs=epochs)
    trainer.fit(detector, datamodule=data)
    return trainer, detector, data


SYMMETRIC: dict[str, Any] = {"preprocessing": SymmetricRange}
GAN: dict[str, Any] = {
    "generator": partial(DCGANGenerator, width=4),
    "critic": partial(DCGANCritic, width=4),
    "latent_dim": 8,
    "preprocessing": SymmetricRange,
}
SEARCH = {**GAN, "search": LatentSearch(n_seeds=2, n_steps=2)}
MIRROR: dict[str, Any] = {
    "latent_dim": 4,
    "encoder": partial(StridedEncoder, width=4),
    "generator": partial(ResidualGenerator, width=8),
    "critic": partial(ResidualCritic, width=6),
    "critic_turns": CriticTurns(steps=2),
    "first_scored_epoch": 0,
}
PAIRS: dict[str, Any] = {
    "latent_dim": 6,
    "encoder": partial(ALADEncoder, width=4),
    "generator": partial(ALADGenerator, width=4),
    "joint_discriminator": partial(JointDiscriminator, width=4, latent_units=5, joint_units=7),
    "image_discriminator": partial(ImagePairDiscriminator, width=4),
    "preprocessing": SymmetricRange,
}
FENCE: dict[str, Any] = {
    "latent_dim": 8,
    "generator": partial(FenceGenerator, width=4, hidden=16),
    "discriminator": partial(FenceDiscriminator, width=4, hidden=16),
    "pretrain_epochs": 1,
    "preprocessing": SymmetricRange,
}
SKIP: dict[str, Any] = {
    "generator": partial(UNet, width=4),
    "discriminator": partial(FeatureDiscriminator, n_features=6, width=4),
    "preprocessing": SymmetricRange,
}
FLOWS: dict[str, Any] = {"n_members": 2, "density": partial(Glow, steps=1, width=4), "preprocessing": UnitRange}
HYPOTHESES: dict[str, Any] = {
    "encoder": partial(DCGANEncoder, code_dim=16, width=8),
    "decoder": partial(HypothesesDecoder, width=4),
    "discriminator": partial(GroupDiscriminator, width=4, n_kernels=3, kernel_dim=2),
    "n_hypotheses": 3,
    "preprocessing": SymmetricRange,
}
GENERATIVE: dict[str, tuple[type[AnomalyDetector], dict[str, Any]]] = {
    "adgan": (ADGAN, SEARCH),
    "adgan by its critic": (ADGAN, {**SEARCH, "score_type": "critic"}),
    "anogan": (AnoGAN, {**GAN, "search": LatentSearch(2, 2, 0.01, lr_weights=0)}),
    "alad": (ALAD, PAIRS),
    "ama": (AMA, {**MIRROR, "negatives": Negatives(warm_up_epochs=1)}),
    "semi_supervised_ama": (SemiSupervisedAMA, MIRROR),
    "density_waic": (DensityWAIC, FLOWS),
    "conad": (ConAD, HYPOTHESES),
    "dcae": (DCAE, {"encoder": partial(DCGANEncoder, code_dim=8, width=8), **SYMMETRIC}),
    "fence_gan": (FenceGAN, FENCE),
    "skip_ganomaly": (Skip, SKIP),
    "vae": (VAE, {"encoder": partial(DCGANEncoder, code_dim=16, width=8), **SYMMETRIC}),
    "vae drawing": (VAE, {"encoder": partial(DCGANEncoder, code_dim=16, width=8), "score_samples": 2, **SYMMETRIC}),
    "waic": (WAIC, {**GAN, "n_members": 2}),
}
DENSITY: dict[str, Any] = {
    "density": partial(PixelCNNPP, blocks=1, filters=4, components=2),
    "optimizer": partial(Adam, lr=1e-2),
}
GENERATIVE |= {
    "fcdd": (FCDD, {"network": partial(FullyConvolutional, stages=((8,), (8,)), kernel=3), "optimizer": adam(1e-2)}),
    "likelihood": (Likelihood, DENSITY),
    "likelihood_ratio": (LikelihoodRatio, DENSITY),
    "typicality": (Typicality, DENSITY),
    "s_score": (SScore, DENSITY),
}
SHALLOW: dict[str, tuple[type[AnomalyDetector], dict[str, Any]]] = {
    name: (getattr(shallow, name), {"preprocessing": StandardizeFeatures})
    for name in shallow.__all__
    if inspect.isclass(getattr(shallow, name)) and not inspect.isabstract(getattr(shallow, name))
}


def _of_a_method(name: str, kind: Kind) -> AnomalyDetector:
    """With a first phase of one epoch."""
    given = METHODS[name][1]
    phases: dict[str, Any] = {"warm_up_epochs": 1} if name.startswith(("soft", "drocc")) else {}
    if "pretrain_epochs" in given:
        phases["pretrain_epochs"] = 1
    if "pretraining" in given:
        phases["pretraining"] = replace(given["pretraining"], epochs=1)
    return make_detector(name, kind, **phases)


def _trials() -> dict[str, Trial]:
    """By name: each method on each kind of data it takes, networks that generate, estimators, and a series."""
    found = {
        f"{name} on {kind}": Trial(_of_a_method(name, kind), partial(make_data, kind, name)) for name, kind in CASES
    }
    found |= {name: Trial(cls(**arguments), "image") for name, (cls, arguments) in GENERATIVE.items()}
    found |= {name: Trial(cls(**arguments), "table", max_epochs=1) for name, (cls, arguments) in SHALLOW.items()}
    found["dsebm on series"] = Trial(DSEBM(energy=partial(RecurrentEnergy, hidden=(4,), state_dim=4)), "series")
    patches = PatchKNN(features=partial(RawPatches, size=4, stride=2), max_patches=200)
    found["pca on table"] = Trial(PCA(components=2), "table", max_epochs=1)
    found["patch_knn"] = Trial(patches, "image", max_epochs=1)
    found["series"] = Trial(Autoencoder(encoder=partial(LSTMEncoder, rep_dim=4)), "series")
    for name, trial in found.items():
        trial.name = name
    return found


TRIALS = _trials()
