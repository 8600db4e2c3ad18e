"""Seconds a DROCC batch: our training step against a bare loop of forwards and input gradients, eager and compiled.

    python benchmarks/drocc_batch.py --data table image --rounds 5 [--compile] [--device cuda] [--precision bf16]

256 standardised samples, 50 steps of ascent, one optimiser step. The sides take turns; the ratio of medians counts.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam
from turns import take_turns

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.methods import DROCC, DROCCLF
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.networks import LeNetEncoder, MLPEncoder
from adlightning.preprocessing import Identity

SETTINGS: dict[str, dict[str, Any]] = {
    "table": {
        "spec": InputSpec("table", (6,)),
        "calls": 20,
        "encoder": partial(MLPEncoder, rep_dim=128, leakiness=0.0, bias=True),
        "head": Head(activation="leaky_relu", leakiness=0.0),
    },
    "image": {
        "spec": InputSpec("image", (3, 32, 32)),
        "calls": 1,
        "encoder": partial(LeNetEncoder, conv_channels=(32, 64, 128), rep_dim=128, leakiness=0.01),
        "head": Head(dense=(64,), activation="leaky_relu", leakiness=0.01, bias=False),
    },
}
BATCH, STEPS, RADIUS, STEP_SIZE = 256, 50, 8.0, 1e-3


def build(name: str, device: str, compiled: bool, cls: type[DROCC] = DROCC) -> DROCC:
    options = {key: value for key, value in SETTINGS[name].items() if key not in ("spec", "calls")}
    torch.manual_seed(0)
    detector = cls(
        preprocessing=Identity,
        radius=RADIUS,
        gamma=1.0,
        ascent=Ascent(steps=STEPS, step_size=STEP_SIZE),
        **options,
    )
    detector.configure_for(SETTINGS[name]["spec"])
    detector._trainer = SimpleNamespace(current_epoch=0, world_size=1)  # type: ignore[assignment]
    if compiled:  # as the callback CompileNetworks does
        detector.encoder.compile()
        detector.head.compile()
    return detector.to(device).train()


def ours(detector: DROCC, x: Tensor, autocast: Callable[[], Any]) -> Callable[[], None]:
    known = torch.zeros(len(x), dtype=torch.long, device=x.device)
    batch = TrainBatch(x, known, torch.arange(len(x), device=x.device))
    optimizer = Adam(detector.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        with autocast():
            outputs = detector.training_step(batch, 0)
        (outputs if isinstance(outputs, Tensor) else outputs["loss"]).backward()
        optimizer.step()

    return step


def bare(detector: DROCC, x: Tensor, autocast: Callable[[], Any]) -> Callable[[], None]:
    encoder, head = detector.encoder, detector.head
    optimizer = Adam(detector.parameters(), lr=1e-3)
    ones, zeros = torch.ones(len(x), device=x.device), torch.zeros(len(x), device=x.device)
    view = (-1, *[1] * (x.ndim - 1))

    def f(points: Tensor) -> Tensor:
        logits: Tensor = head(encoder(points)).squeeze(1)
        return logits.float()

    def search() -> Tensor:
        points = x + torch.randn_like(x)
        for step in range(1, STEPS + 1):
            points.requires_grad_()
            (g,) = torch.autograd.grad(F.binary_cross_entropy_with_logits(f(points), zeros), points)
            points = points.detach() + STEP_SIZE * g / g.flatten(1).norm(dim=1).view(view)
            if step % 10 == 0:
                h = points - x
                points = x + h * (RADIUS / h.flatten(1).norm(dim=1).view(view))
        return points

    def train() -> None:
        optimizer.zero_grad()
        with autocast():
            loss = F.binary_cross_entropy_with_logits(f(x), ones)
            loss = loss + F.binary_cross_entropy_with_logits(f(search()), zeros)
        loss.backward()
        optimizer.step()

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="time the compiled network and DROCC-LF too")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    options = parser.parse_args()
    autocast: Callable[[], Any] = contextlib.nullcontext
    if options.precision == "bf16":
        autocast = lambda: torch.autocast(options.device, torch.bfloat16)  # noqa: E731
    for name in options.data:
        shape = SETTINGS[name]["spec"].shape
        x = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0)).to(options.device)
        sides = {
            "bare loop": bare(build(name, options.device, compiled=False), x, autocast),
            "DROCC": ours(build(name, options.device, compiled=False), x, autocast),
        }
        if options.compile:
            sides["DROCC compiled"] = ours(build(name, options.device, compiled=True), x, autocast)
            sides["DROCC-LF"] = ours(build(name, options.device, compiled=False, cls=DROCCLF), x, autocast)
        take_turns(name, sides, options.rounds, SETTINGS[name]["calls"], options.device)


if __name__ == "__main__":
    main()
