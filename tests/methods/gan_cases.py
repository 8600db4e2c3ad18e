"""What the tests of the generative detectors share: a toy split, images of noise, a fit by its seed."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from conftest import MakeTrainer, Stripes
from torch import Tensor, nn

from adlightning.core.detector import AnomalyDetector
from adlightning.data.one_vs_all import OneVsAll


def stripes(**options: Any) -> OneVsAll:
    """Left bars are normal; nothing is held out unless asked for."""
    return OneVsAll(Stripes(), 0, **{"batch_size": 20, "seed": 0, "validation_fraction": 0.0, **options})


def trained_(network: nn.Module) -> nn.Module:
    """Statistics and weights of a DCGAN's generator as if it were trained, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.2)
    return network


def images(n: int, seed: int = 0) -> Tensor:
    """Noise (n, 1, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 1, 16, 16), generator=generator, dtype=torch.uint8)


def scores_of_a_fit(
    make_trainer: MakeTrainer, cls: type[AnomalyDetector], options: dict[str, Any], seed: int, epochs: int = 2
) -> Tensor:
    """Scores (5,) of the same noise after a fit with this seed."""
    pl.seed_everything(seed, verbose=False)
    detector = cls(**options)
    make_trainer(max_epochs=epochs).fit(detector, datamodule=stripes())
    with torch.no_grad():
        return detector.eval().anomaly_score(images(5))
