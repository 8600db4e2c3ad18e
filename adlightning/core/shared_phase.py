"""A first phase that several fits begin with alike: done by one of them, and taken up by the others where it ended.

Each epoch draws random numbers by the fit's seed and the epoch alone, so what follows is the same to the bit.
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

from adlightning.core.parts import described
from adlightning.core.shelf import given_shelf

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

TAKEN = "the first phase is that of an earlier cell with the same data, networks and seed; seconds are without it"


def place_of(detector: AnomalyDetector) -> Path | None:
    """The file of a fit's first phase, there or not; None where it is not shared.

    Where a fit goes on, on several ranks, with changed batches or with data that are no tensor it is not.
    """
    if (shelf := given_shelf()) is None:
        return None
    phase, trainer, data = detector.first_phase(), detector.trainer, detector.data
    if phase is None or not phase.epochs or not detector.first_phase_arguments:
        return None
    x = data.train_samples.x
    if trainer.ckpt_path or trainer.world_size > 1 or detector.is_trial or not isinstance(x, Tensor):
        return None
    if data.train_transforms or data.synthetic_anomalies:
        return None
    rows, known = data.training_rows()
    settings = {
        "version": [shelf.version, torch.__version__, str(detector.device), torch.get_num_threads()],
        "arguments": {name: described(detector.arguments[name]) for name in detector.first_phase_arguments},
        "epochs": phase.epochs,
        "seeds": [detector._fit_seed, data.effective_seed()],
        "batches": [data.batch_size, data.drop_last, detector.passes_per_epoch],
        "modules": [repr(detector.preprocess), repr(getattr(detector, detector.first_phase_module))],
    }
    try:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    except TypeError:  # an argument that is no plain value
        return None
    for part in (torch.from_numpy(rows), torch.from_numpy(known), x[torch.from_numpy(rows)]):
        digest.update(_bytes(part))
    for module in (detector.preprocess, getattr(detector, detector.first_phase_module)):
        for name, value in module.state_dict().items():
            digest.update(name.encode() + _bytes(value))
    return shelf.folder / f"{digest.hexdigest()[:32]}.pt"


def take_up(detector: AnomalyDetector, place: Path | None) -> bool:
    """Begin where the first phase that is kept ended; False where none is. Called before the first epoch."""
    if place is None or not place.exists():
        return False
    kept: Mapping[str, Any] = torch.load(place, weights_only=True, map_location=detector.device)
    module: nn.Module = getattr(detector, detector.first_phase_module)
    module.load_state_dict(kept["module"])
    detector.trainer.fit_loop.load_state_dict(kept["loop"])
    rank_zero_info(TAKEN)
    return True


def keep(detector: AnomalyDetector, place: Path | None) -> None:
    """Keep the first phase, which the epoch that ends here was the last of; whole or not at all."""
    if place is None or place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    module: nn.Module = getattr(detector, detector.first_phase_module)
    growing = place.with_name(f"{place.stem}-{os.getpid()}.part")
    try:
        torch.save({"module": module.state_dict(), "loop": detector.trainer.fit_loop.state_dict()}, growing)
        growing.replace(place)
    except OSError:  # the disk is full: others do it themselves
        growing.unlink(missing_ok=True)


def _bytes(value: Tensor) -> bytes:
    """What a tensor is, its kind and shape too."""
    plain = value.detach().cpu().contiguous()
    return f"{plain.dtype}{tuple(plain.shape)}".encode() + plain.flatten().view(torch.uint8).numpy().tobytes()
