"""Epochs that several fits begin with alike: done by one of them, and taken up by the others where they ended.

A detector says which (`shared_epochs`): a first phase, or all but the last of an autoencoder that gives features. Each
epoch draws random numbers by the fit's seed and the epoch alone, so what follows is the same to the bit.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from adlightning.core.parts import described
from adlightning.core.shelf import given_shelf

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from adlightning.core.detector import AnomalyDetector

TAKEN = "its first epochs are those of an earlier cell with the same data, networks and seed; seconds are without them"


def place_of(detector: AnomalyDetector) -> Path | None:
    """The file of a fit's first epochs, there or not; None where they are not shared.

    Where a fit goes on, on several ranks, with changed batches or with data that are no tensor they are not.
    """
    if (shelf := given_shelf()) is None:
        return None
    epochs, trainer, data = detector.shared_epochs(), detector.trainer, detector.data
    if epochs < 1 or not detector.shared_arguments:
        return None
    x = data.train_samples.x
    if trainer.ckpt_path or trainer.world_size > 1 or detector.is_trial or not isinstance(x, Tensor):
        return None
    if data.train_transforms or data.synthetic_anomalies:
        return None
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    if detector.shared_optimizers and any(isinstance(each, ReduceLROnPlateau) for each in schedules):
        return None  # it watches a metric, of which the last value is not kept
    rows, known = data.training_rows()
    settings = {
        "version": [shelf.version, torch.__version__, str(detector.device), torch.get_num_threads()],
        "arguments": {name: described(detector.arguments[name]) for name in detector.shared_arguments},
        "epochs": epochs,
        "seeds": [detector._fit_seed, data.effective_seed()],
        "batches": [data.batch_size, data.drop_last, detector.passes_per_epoch],
        "modules": [repr(detector.preprocess), repr(getattr(detector, detector.shared_module))],
    }
    try:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    except TypeError:  # an argument that is no plain value
        return None
    for part in (torch.from_numpy(rows), torch.from_numpy(known), x[torch.from_numpy(rows)]):
        digest.update(_bytes(part))
    for module in (detector.preprocess, getattr(detector, detector.shared_module)):
        for name, value in module.state_dict().items():
            digest.update(name.encode() + _bytes(value))
    return shelf.folder / f"{digest.hexdigest()[:32]}.pt"


def take_up(detector: AnomalyDetector, place: Path | None) -> bool:
    """Begin where the first epochs that are kept ended; False where none are. Called before the first of them."""
    if place is None or not place.exists():
        return False
    kept: Mapping[str, Any] = torch.load(place, weights_only=True, map_location=detector.device)
    module: nn.Module = getattr(detector, detector.shared_module)
    module.load_state_dict(kept["module"])
    if detector.shared_optimizers:
        _take_up_optimizers(detector.trainer, kept)
    detector.trainer.fit_loop.load_state_dict(kept["loop"])
    rank_zero_info(TAKEN)
    return True


def keep(detector: AnomalyDetector, place: Path | None) -> None:
    """Keep the first epochs, of which the one that ends here was the last; whole or not at all."""
    if place is None or place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    module: nn.Module = getattr(detector, detector.shared_module)
    kept: dict[str, Any] = {"module": module.state_dict(), "loop": detector.trainer.fit_loop.state_dict()}
    if detector.shared_optimizers:
        kept["optimizers"] = [each.state_dict() for each in detector.trainer.optimizers]
        kept["schedules"] = [config.scheduler.state_dict() for config in detector.trainer.lr_scheduler_configs]
    growing = place.with_name(f"{place.stem}-{os.getpid()}.part")
    try:
        torch.save(kept, growing)
        growing.replace(place)
    except OSError:  # the disk is full: others do it themselves
        growing.unlink(missing_ok=True)


def _take_up_optimizers(trainer: Trainer, kept: Mapping[str, Any]) -> None:
    """Optimisers and schedules as they were when the last epoch ended, and the step that schedules take after it."""
    for optimizer, state in zip(trainer.optimizers, kept["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    for config, state in zip(trainer.lr_scheduler_configs, kept["schedules"], strict=True):
        config.scheduler.load_state_dict(state)
        if config.interval == "epoch" and not isinstance(config.scheduler, ReduceLROnPlateau):
            config.scheduler.step()


def _bytes(value: Tensor) -> bytes:
    """What a tensor is, its kind and shape too."""
    plain = value.detach().cpu().contiguous()
    return f"{plain.dtype}{tuple(plain.shape)}".encode() + plain.flatten().view(torch.uint8).numpy().tobytes()
