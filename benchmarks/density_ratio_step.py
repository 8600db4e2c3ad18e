"""A training step of the density ratio, and GEOM's scoring, each against a bare loop of the same arithmetic.

    python benchmarks/density_ratio_step.py [--side step] [--head compact] [--device cuda] [--precision bf16]

`step`: VGG11 on 128 normal and 128 unlabelled images of 3x32x32, loss, backward, SGD; ours also records both mean
ratios. `score`: 64 images under 72 transforms through a WRN-10-4, ours against a loop over the transforms.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from turns import take_turns

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.methods import DensityRatio, GeometricTransforms
from adlightning.methods.geometric_transforms.detector import dirichlet_normality, log_probabilities
from adlightning.methods.geometric_transforms.transforms import TRANSFORMS, transform_each
from adlightning.networks import VGG11

Autocast = Callable[[], Any]
SPEC = InputSpec("image", (3, 32, 32))
BATCH, SCORED = 128, 64


def images(n: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8).to(device)


def steps(head: Any, device: str, autocast: Autocast) -> dict[str, Callable[[], None]]:
    x = images(2 * BATCH, device)
    known = torch.tensor([1, 0], device=device).repeat_interleave(BATCH)
    batch = TrainBatch(x, known, torch.arange(len(x), device=device))
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        detector = DensityRatio(encoder=partial(VGG11, head=head))
        detector.configure_for(SPEC)
        detector.n_unlabelled = BATCH
        made.append(detector.to(device).train())
    net, detector = made[0].net, made[1]
    bare_optimizer = SGD(net.parameters(), lr=0.02, weight_decay=1e-3)
    optimizer = detector.configure_optimizers()["optimizer"]

    def bare() -> None:
        bare_optimizer.zero_grad()
        with autocast():
            z = net(x.float() / 255).squeeze(1).float()
        (F.softplus(z[BATCH:]).mean() - F.softplus(z[:BATCH]).log().mean()).backward()
        bare_optimizer.step()

    def ours() -> None:
        optimizer.zero_grad()
        with autocast():
            loss = detector.training_step(batch, 0)["loss"]
        loss.backward()
        optimizer.step()

    return {"bare loop": bare, "DensityRatio": ours}


def scoring(device: str, autocast: Autocast) -> dict[str, Callable[[], None]]:
    torch.manual_seed(0)
    detector = GeometricTransforms()
    detector.configure_for(SPEC)
    detector.concentrations.fill_(1.5)
    detector.mean_logs.fill_(-5.0)
    detector = detector.to(device).eval()
    x = images(SCORED, device)

    @torch.no_grad()
    def loop() -> None:
        scaled, outputs = x.float() / 255, []
        with autocast():
            for t in range(len(TRANSFORMS)):
                which = torch.full((len(x),), t, device=device)
                outputs.append(log_probabilities(detector.net(transform_each(scaled, which, detector.sources))))
        dirichlet_normality(torch.stack(outputs, dim=1), detector.concentrations, detector.mean_logs)

    @torch.no_grad()
    def ours() -> None:
        with autocast():
            detector.anomaly_score(x)

    return {"loop over transforms": loop, "GeometricTransforms": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", nargs="+", choices=["step", "score"], default=["step", "score"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--head", choices=["torchvision", "compact"], default="torchvision")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32")
    options = parser.parse_args()
    autocast: Autocast = contextlib.nullcontext
    if options.precision == "bf16":
        autocast = lambda: torch.autocast(options.device, torch.bfloat16)  # noqa: E731
    if "step" in options.side:
        sides = steps(options.head, options.device, autocast)
        take_turns(f"VGG11 {options.head}, 128 + 128 images,", sides, options.rounds, 1, options.device)
    if "score" in options.side:
        take_turns("GEOM, 64 images,", scoring(options.device, autocast), options.rounds, 1, options.device)


if __name__ == "__main__":
    main()
