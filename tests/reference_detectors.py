"""Detectors with the networks and arguments of the references in `tests/reference/`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from reference import adgan, ama, density_ratio, drocc, gan, hypersphere
from reference.calculus import SLOPE
from torch import Tensor, nn
from torch.optim import SGD

from adlightning.core.detector import AnomalyDetector
from adlightning.methods import (
    ADGAN,
    AMA,
    DROCC,
    DROCCLF,
    DROCCOE,
    DeepSAD,
    DeepSVDD,
    DensityRatio,
    DROCCRand,
    SemiSupervisedAMA,
    SoftBoundaryDeepSVDD,
)
from adlightning.methods.adgan import CriticTurns as ADGANTurns
from adlightning.methods.ama import CriticTurns, Interpolation, Negatives
from adlightning.methods.parts.adversarial import GradientPenalty, WeightClipping
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.methods.parts.inversion import LatentSearch
from adlightning.preprocessing import Identity, SymmetricRange


class Encoder(nn.Module):
    """Linear, leaky ReLU, linear."""

    def __init__(self, shape: tuple[int, ...], n_outputs_: int = 3, bias: bool = True, hidden: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(math.prod(shape), hidden, bias)
        self.activation = nn.LeakyReLU(SLOPE)
        self.second = nn.Linear(hidden, n_outputs_, bias)

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.second(self.activation(self.first(x.flatten(1))))
        return values


class Decoder(Encoder):
    """The same, from codes to rows."""

    def __init__(self, n_codes: int, shape: tuple[int, ...], output: str) -> None:
        super().__init__((n_codes,), math.prod(shape))


class ImageEncoder(Encoder):
    """The same, from images to latents."""

    def __init__(self, shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__(shape, latent_dim, hidden=4)


class Generator(Encoder):
    """The same and tanh, from latents to images."""

    def __init__(self, latent_dim: int, shape: tuple[int, ...], output: str) -> None:
        super().__init__((latent_dim,), math.prod(shape), hidden=4)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = super().forward(x).tanh().unflatten(1, self.shape)
        return images


class Critic(nn.Module):
    """Linear, tanh, linear, from images or pairs to a number."""

    def __init__(self, shape: tuple[int, ...], batch_norm: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(math.prod(shape), 4), nn.Linear(4, 1)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.first(x.flatten(1)).tanh()
        return features

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.second(self.features(x))
        return values.squeeze(1)


def sgd(rate: float, decay: float = 0.0) -> Any:
    return partial(SGD, lr=rate, weight_decay=decay)


def make_density_ratio(case: str) -> AnomalyDetector:
    optimizer: dict[str, Any] = {} if case == "kliep" else {"optimizer": sgd(density_ratio.RATE, density_ratio.DECAY)}
    return DensityRatio(Encoder, **density_ratio.CASES[case], **optimizer, preprocessing=Identity)


def make_hypersphere(case: str) -> AnomalyDetector:
    options = dict(hypersphere.CASES[case])
    options.pop("epochs")
    before = sgd(hypersphere.RATE, hypersphere.DECAY_BEFORE)
    first = AutoencoderPretraining(options.pop("pretraining", 0), before, None)
    common: dict[str, Any] = {
        "encoder": partial(Encoder, bias=False),
        "decoder": Decoder,
        "pretraining": first,
        "optimizer": sgd(hypersphere.RATE, hypersphere.DECAY),
        "preprocessing": Identity,
    }
    cls = {"deep_svdd": DeepSVDD, "soft_boundary": SoftBoundaryDeepSVDD}.get(case, DeepSAD)
    weight = {"eta": 1.0} if cls is DeepSAD else {}  # the paper's
    made: AnomalyDetector = cls(**weight | options, **common)
    return made


def make_drocc(case: str) -> AnomalyDetector:
    options = {"radius": None, **drocc.CASES[case]}
    common: dict[str, Any] = {
        "encoder": Encoder,
        "head": Head(activation="leaky_relu", leakiness=SLOPE),
        "warm_up_epochs": drocc.WARM_UP,
        "optimizer": sgd(drocc.RATE),
        "preprocessing": Identity,
    }
    ascent = Ascent(drocc.STEPS, drocc.STEP_SIZE, options.pop("project_every", drocc.PROJECT_EVERY))
    by_name = {"drocc": DROCC, "drocc_rand": DROCCRand, "drocc_oe": DROCCOE, "drocc_lf": DROCCLF}
    cls = by_name[case.split()[0]]
    made: AnomalyDetector = cls(**options, **common, **({} if cls is DROCCRand else {"ascent": ascent}))
    return made


def make_ama(case: str) -> AnomalyDetector:
    """What a case does not name is the detector's own default, which is the paper's."""
    given = ama.CASES[case]
    mixing = {"weight": "inter", "simplex": "simplex", "points": "points", "gradient": "gradient"}
    atypical = {"kind": "kind", "direction": "direction", "radius": "radius", "delta": "delta", "weight": "neg"}
    penalty = {"weight": "penalty", "mode": "mode"}
    options: dict[str, Any] = {
        "latent_dim": ama.LATENT,
        "encoder": ImageEncoder,
        "generator": Generator,
        "critic": Critic,
        "interpolation": Interpolation(**{name: given[key] for name, key in mixing.items() if key in given}),
        "critic_turns": CriticTurns(steps=ama.TURNS),
        "first_scored_epoch": 0,
        **{f"{name}_optimizer": sgd(gan.RATE) for name in ("critic", "generator", "encoder")},
        **{name: given[name] for name in ("mirrored", "score_type") if name in given},
    }
    if any(key in given for key in penalty.values()):
        chosen = {name: given[key] for name, key in penalty.items() if key in given}
        options["penalty"] = GradientPenalty(**{"weight": gan.PENALTY, **chosen})
    if "reg" in given:
        options["lambda_reg"] = given["reg"]
    if case.startswith("semi"):
        return SemiSupervisedAMA(**options)
    where = {name: given[key] for name, key in atypical.items() if key in given}
    return AMA(**options, negatives=Negatives(share=ama.SHARE, warm_up_epochs=0, **where))


def make_adgan(case: str) -> AnomalyDetector:
    given = adgan.CASES[case]
    options: dict[str, Any] = {name: given[name] for name in ["score_type"] if name in given}
    if "penalty" in given:
        options["lipschitz"] = GradientPenalty(given["penalty"])
    elif "bound" in given:
        options["lipschitz"] = WeightClipping(given["bound"])
    return ADGAN(
        generator=Generator,
        critic=Critic,
        latent_dim=adgan.LATENT,
        critic_turns=ADGANTurns(steps=1, bursts=False),
        search=LatentSearch(**given.get("search", {})),
        critic_optimizer=sgd(gan.RATE),
        generator_optimizer=sgd(gan.RATE),
        preprocessing=SymmetricRange,
        **options,
    )


# by reference: what makes a detector of a case, and the epochs of its fit
MAKERS: dict[Any, tuple[Callable[[str], AnomalyDetector], Callable[[str], int]]] = {
    density_ratio: (make_density_ratio, lambda _: density_ratio.STEPS),
    hypersphere: (make_hypersphere, lambda case: hypersphere.CASES[case]["epochs"]),
    drocc: (make_drocc, lambda _: drocc.EPOCHS),
    ama: (make_ama, lambda _: 1),
    adgan: (make_adgan, lambda _: adgan.EPOCHS),
}
