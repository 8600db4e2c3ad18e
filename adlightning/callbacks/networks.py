"""How networks are run while they are trained: compiled, or with weights laid out otherwise."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from adlightning.core.detector import AnomalyDetector
from adlightning.core.memory_format import Layout, lay_out
from adlightning.preprocessing import Preprocessing

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


class CompileNetworks(pl.Callback):
    """Training steps run the detector's networks compiled by `torch.compile`.

    Each network is compiled by itself, when it first runs. Scores, thresholds and what else is fitted to the data come
    of networks as they are. Names of weights are the same. Two kinds of networks are never compiled: those whose
    gradients are differentiated again, as by a gradient penalty, which `torch.compile` does not support, and those with
    recurrent layers, which it leaves as they are.

    Args:
        backend: of `torch.compile`; its default needs a C++ compiler on a CPU, and a C compiler on a GPU.
        mode: of `torch.compile`.
        dynamic: whether batches of other sizes run without compiling anew; null finds out.

    Example:
        >>> trainer = pl.Trainer(callbacks=[CompileNetworks(mode="reduce-overhead")])  # doctest: +SKIP
    """

    def __init__(self, backend: str = "inductor", mode: CompileMode | None = None, dynamic: bool | None = None) -> None:
        self.options: dict[str, Any] = {"backend": backend, "mode": mode, "dynamic": dynamic}
        self.compiled: list[tuple[nn.Module, Callable[..., Any]]] = []
        """Networks, each with its compiled call."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepare the networks. Raises ValueError where none can be compiled, or nothing at all on this machine."""
        assert isinstance(pl_module, AnomalyDetector)
        networks = dict(networks_of(pl_module)) if pl_module.trains_by_gradient() else {}
        kept = {name: reason for name, network in networks.items() if (reason := _why_not(name, network, pl_module))}
        if kept.keys() == networks.keys():
            reasons = "; ".join(f"{name} has {reason}" for name, reason in kept.items()) or "it trains no network"
            name = type(pl_module).__name__
            raise ValueError(f"trainer.callbacks: CompileNetworks can compile nothing of {name}: {reasons}")
        if compiler := _missing_compiler(self.options["backend"], pl_module.device):
            raise ValueError(
                f"trainer.callbacks: CompileNetworks needs a C++ compiler, and there is no {compiler}: install g++, or "
                "name another in the environment variable CXX"
            )
        try:
            torch.compile(_next, **self.options)(torch.zeros(2, device=pl_module.device))
        except Exception as error:  # of any backend
            reason = str(error).strip().partition("\n")[0]
            options = ", ".join(f"{name}={value}" for name, value in self.options.items())
            raise ValueError(f"trainer.callbacks: CompileNetworks cannot compile with {options}: {reason}") from error
        chosen = [network for name, network in networks.items() if name not in kept]
        self.compiled = [(network, torch.compile(network._call_impl, **self.options)) for network in chosen]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Run them compiled."""
        for network, call in self.compiled:
            network._compiled_call_impl = call

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Run them as they are."""
        for network, _ in self.compiled:
            network._compiled_call_impl = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Run them as they are, after a step that was not ended."""
        for network, _ in self.compiled:
            network._compiled_call_impl = None


class MemoryFormat(pl.Callback):
    """How all networks of images keep their weights, and so their feature maps, in memory during a fit.

    Without it LeNets are laid out channels last, as their convolutions are faster then, and other networks as they are
    made (docs/performance.md). Results of another layout round otherwise. Names and values of weights are the same.

    Args:
        memory_format: `contiguous`, or `channels_last`.

    Raises:
        ValueError: another format.

    Example:
        >>> trainer = pl.Trainer(callbacks=[MemoryFormat("contiguous")])  # doctest: +SKIP
    """

    def __init__(self, memory_format: Layout) -> None:
        if memory_format not in get_args(Layout):
            raise ValueError(f"memory_format must be one of {', '.join(get_args(Layout))}, got {memory_format!r}")
        self.memory_format = memory_format

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lay out the weights. Raises ValueError where no network has a convolution of images."""
        if not any(isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)) for part in pl_module.modules()):
            name = type(pl_module).__name__
            raise ValueError(
                f"trainer.callbacks: MemoryFormat changes nothing: this {name} has no convolution of images"
            )
        lay_out(pl_module, self.memory_format)


def networks_of(module: nn.Module, place: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules with a forward pass of their own, by name; preprocessing is none of them."""
    for name, child in module.named_children():
        if isinstance(child, Preprocessing):
            continue
        if type(child).forward is nn.Module.forward:  # it holds networks
            yield from networks_of(child, f"{place}{name}.")
        else:
            yield f"{place}{name}", child


def _why_not(name: str, network: nn.Module, detector: AnomalyDetector) -> str | None:
    """What a network has that is not compiled; None for nothing."""
    if name in detector.differentiated_twice:
        return "gradients taken twice"
    return "recurrent layers" if any(isinstance(part, nn.RNNBase) for part in network.modules()) else None


def _missing_compiler(backend: str, device: torch.device) -> str | None:
    """What inductor will look for on a CPU and not find; None where it is there, or nobody looks for it."""
    if backend != "inductor" or device.type != "cpu" or sys.platform == "win32":
        return None
    if os.environ.get("TORCH_INDUCTOR_INSTALL_GXX"):  # it fetches one
        return None
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return None if shutil.which(shlex.split(name)[0]) else name


def _next(x: Tensor) -> Tensor:
    return x + 1
