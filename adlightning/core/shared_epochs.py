"""Epochs that several fits begin with alike: done by one of them, and taken up by the others where they ended.

A detector says which (`shared_epochs`): a first phase, or all but the last of an autoencoder that gives features. Each
epoch draws random numbers by the fit's seed and the epoch alone, so what follows is the same to the bit.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from adlightning.core.parts import described
from adlightning.core.shelf import TAKEN, given_shelf
from adlightning.core.training_state.loops import checked_loops
from adlightning.core.training_state.optimizers import checked_optimizers
from adlightning.core.training_state.schema import alike, mapping
from adlightning.files.disk import write_atomically

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

_REFUSED = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    pickle.UnpicklingError,
)
"""What torch raises for a file that is none of its own, and what checks raise."""

_SEAL_BYTES = hashlib.sha256().digest_size


def place_of(detector: AnomalyDetector) -> Path | None:
    """The file of a fit's first epochs, there or not; None where they are not shared.

    They are not where a fit goes on, is on several ranks, is limited by steps, changes its batches, has data that are
    no tensor, or is moved by what the file does not keep: a gradient scaler, a schedule that watches a metric.
    """
    if (shelf := given_shelf()) is None or not _declared_for(type(detector)):
        return None
    epochs, trainer, data = detector.shared_epochs(), detector.trainer, detector.data
    x = data.train_samples.x
    if epochs < 1 or trainer.ckpt_path or trainer.world_size > 1 or detector.is_trial or not isinstance(x, Tensor):
        return None
    if trainer.max_steps != -1 or getattr(trainer.precision_plugin, "scaler", None) is not None:
        return None  # Lightning restarts an epoch otherwise where steps are counted
    if data.train_transforms or data.synthetic_anomalies:
        return None
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    if detector.shared_optimizers and any(isinstance(each, ReduceLROnPlateau) for each in schedules):
        return None
    rows, known = data.training_rows()
    settings = {
        "version": [shelf.version, torch.__version__, str(detector.device), torch.get_num_threads()],
        "arguments": {name: described(detector.arguments[name]) for name in detector.shared_arguments},
        "epochs": epochs,
        "seeds": [detector._fit_seed, data.effective_seed()],
        "batches": [data.batch_size, data.drop_last, detector.passes_per_epoch, detector.needs_unlabelled],
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


def _declared_for(cls: type[AnomalyDetector]) -> bool:
    """Whether `shared_arguments` was written with this class: a subclass in another package may train otherwise."""
    declaring = next(base for base in cls.__mro__ if "shared_arguments" in vars(base))
    packages = {each.__module__.partition(".")[0] for each in (cls, declaring)}
    return bool(cls.shared_arguments) and len(packages) == 1


def take_up(detector: AnomalyDetector, place: Path | None) -> bool:
    """Begin where the first epochs that are kept ended; False where none are. Called before the first of them."""
    if place is None or not place.exists():
        return False
    trainer, module = detector.trainer, _module(detector)
    try:
        kept = dict(mapping(torch.load(io.BytesIO(_content(place)), weights_only=True, map_location="cpu"), "it"))
        weights = alike(kept["state_dict"], module.state_dict(), "state_dict")
        # what Lightning's checkpoint of this moment would say
        kept |= {
            "epoch": detector.shared_epochs() - 1,
            "adlightning": {"training": {"epochs": detector.shared_epochs()}},
        }
        loops = checked_loops(kept, detector)
        states, schedules = checked_optimizers(kept, detector) if detector.shared_optimizers else ([], [])
    except _REFUSED as error:
        words = str(error).partition("\n")[0] or type(error).__name__
        rank_zero_warn(f"{place} is not taken, the epochs that it should hold are trained ({words})")
        return False
    module.load_state_dict(weights)
    if detector.shared_optimizers:
        for optimizer, state in zip(trainer.optimizers, states, strict=True):
            optimizer.load_state_dict(state)
        for config, state in zip(trainer.lr_scheduler_configs, schedules, strict=True):
            config.scheduler.load_state_dict(state)
    trainer.fit_loop.load_state_dict(loops["fit_loop"])
    rank_zero_info(TAKEN)
    return True


def keep(detector: AnomalyDetector, place: Path | None) -> None:
    """Keep the first epochs, of which the one that ends here was the last; whole or not at all."""
    if place is None:
        return
    trainer = detector.trainer
    kept: dict[str, Any] = {"state_dict": _module(detector).state_dict(), "global_step": trainer.global_step}
    kept["loops"] = {"fit_loop": trainer.fit_loop.state_dict()}
    if detector.shared_optimizers:
        kept["optimizer_states"] = [each.state_dict() for each in trainer.optimizers]
        kept["lr_schedulers"] = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
    torch.save(kept, buffer := io.BytesIO())
    content = buffer.getvalue()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, _seal(place, content) + content)
    except OSError as error:  # the disk is full: others train them themselves
        rank_zero_warn(f"{place} is not kept, other cells train these epochs themselves: {error}")


def _content(place: Path) -> bytes:
    """What a file holds. Raises ValueError where it was changed, or is another's under this name."""
    data = place.read_bytes()
    seal, content = data[:_SEAL_BYTES], data[_SEAL_BYTES:]
    if seal != _seal(place, content):
        raise ValueError("it was damaged, or written for other cells")
    return content


def _seal(place: Path, content: bytes) -> bytes:
    """What a file begins with: torch notices few changes of what it reads, and none of numbers."""
    return hashlib.sha256(place.name.encode() + content).digest()


def _module(detector: AnomalyDetector) -> nn.Module:
    module: nn.Module = getattr(detector, detector.shared_module)
    return module


def _bytes(value: Tensor) -> bytes:
    """What a tensor is, its kind and shape too."""
    plain = value.detach().cpu().contiguous()
    return f"{plain.dtype}{tuple(plain.shape)}".encode() + plain.flatten().view(torch.uint8).numpy().tobytes()
