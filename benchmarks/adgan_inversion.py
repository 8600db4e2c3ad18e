"""ADGAN's batched inversion against a loop over (sample, seed), each with a generator and optimisers of its own.

    python benchmarks/adgan_inversion.py [--side 32] [--samples 4] [--seeds 8] [--steps 5] [--chunk 8] [--device cuda]

The generator is ADGAN's; freed memory is kept, as in every verb, for both. Says how far the losses of both differ, how
many pairs fit at a time, how long the paper's 5,000 images would take, and how many bytes of weights, gradients and
moments a second the search moves.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam
from turns import take_turns

from adlightning.core.memory import keep_freed_memory
from adlightning.methods.parts.inversion import Inversion, LatentSearch, pairs_that_fit
from adlightning.networks.gan import DCGANGenerator


def one_by_one(generator: nn.Module, x: Tensor, starts: Tensor, search: LatentSearch) -> Tensor:
    """Losses (N,) of pairs, one after the other."""
    losses = []
    for sample, start in zip(x, starts, strict=True):
        network, z = copy.deepcopy(generator), start[None].clone().requires_grad_()
        groups = [
            {"params": [z], "lr": search.lr_latent},
            {"params": list(network.parameters()), "lr": search.lr_weights},
        ]
        optimizer = Adam(groups, betas=search.betas)
        for _ in range(search.n_steps):
            optimizer.zero_grad()
            (network(z) - sample).square().sum().backward()
            optimizer.step()
        with torch.no_grad():
            losses.append((network(z) - sample).square().sum())
    return torch.stack(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"side": 32, "channels": 1, "samples": 4, "seeds": 8, "steps": 5, "rounds": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--chunk", type=int, help="pairs at a time; default: what fits")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    keep_freed_memory()
    device, n = torch.device(options.device), options.samples * options.seeds
    torch.manual_seed(0)
    shape = (options.channels, options.side, options.side)
    generator = DCGANGenerator(256, shape).to(device).eval()
    x, starts = torch.rand(n, *shape, device=device) * 2 - 1, torch.randn(n, 256, device=device)
    fitting = pairs_that_fit(generator, x[0].numel(), device)
    search = LatentSearch(n_steps=options.steps, chunk_size=options.chunk or fitting)
    inversion = Inversion(search, 256)

    batched = inversion.of_pairs(generator, x, starts)[1]
    difference = ((batched - one_by_one(generator, x, starts, search)).abs() / batched).max().item()
    print(f"largest relative difference of the losses: {difference:.1e}", end="; ")
    print(f"{fitting} pairs fit at a time, {search.chunk_size} taken")

    def loop() -> None:
        one_by_one(generator, x, starts, search)

    def stacked() -> None:
        inversion.of_pairs(generator, x, starts)

    sides = {"one by one": loop, "batched": stacked}
    take_turns(f"{n} pairs, {options.steps} steps, {options.side} pixels,", sides, options.rounds, 1, options.device)

    pairs = options.chunk or fitting
    x, starts = torch.rand(pairs, *shape, device=device) * 2 - 1, torch.randn(pairs, 256, device=device)
    seconds = min(timed(lambda: inversion.of_pairs(generator, x, starts), device) for _ in range(3))
    weights = sum(weight.numel() for weight in generator.parameters())
    # a step reads weights twice, writes gradients, then reads and writes weights and both moments
    moved = 4 * weights * pairs * options.steps * (2 + 1 + 7)
    minutes = seconds / pairs * options.seeds * 5000 / 60
    print(f"{pairs} pairs at a time: {minutes:.2f} minutes for 5,000 images with {options.seeds} seeds", end="; ")
    print(f"{moved / seconds / 1e9:.1f} GB a second", end="")
    print(f"; {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else "")


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, all its kernels included."""
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
