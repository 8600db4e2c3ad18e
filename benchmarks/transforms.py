"""What transforms of training batches cost: milliseconds of CPU time a batch, one thread, beside a training step."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import kornia.augmentation as kornia
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from adlightning.data.augmentation import Augmentation
from adlightning.networks.lenet import LeNetEncoder

CASES = {
    "MNIST, 200 of 1x28x28": ((1, 28, 28), LeNetEncoder((1, 28, 28), [8, 4], rep_dim=32)),
    "CIFAR-10, 200 of 3x32x32": ((3, 32, 32), LeNetEncoder((3, 32, 32), [32, 64, 128], rep_dim=128)),
}
"""Shapes, and the encoder that Deep SAD's paper has for them."""

BATCH, RUNS = 200, 15


class OneByOne(v2.RandomHorizontalFlip):  # type: ignore[misc]
    """Of a class of its own: called on an image at a time."""


def transforms(size: int) -> dict[str, nn.Module]:
    bilinear = v2.InterpolationMode.BILINEAR
    return {
        "torchvision RandomHorizontalFlip": v2.RandomHorizontalFlip(),
        "the same, an image at a time": OneByOne(),
        "kornia RandomHorizontalFlip": kornia.RandomHorizontalFlip(),
        "torchvision RandomCrop": v2.RandomCrop(size, padding=2),
        "kornia RandomCrop": kornia.RandomCrop((size, size), padding=2),
        "torchvision RandomAffine": v2.RandomAffine(10, (0.1, 0.1), interpolation=bilinear),
        "kornia RandomAffine": kornia.RandomAffine(10.0, (0.1, 0.1), p=1.0),
    }


def milliseconds(run: Callable[[], object]) -> float:
    """The shortest of several runs, in CPU time: others may use the machine."""
    run()
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return 1000 * min(seconds)


def step(encoder: nn.Module, x: Tensor) -> None:
    """Forward and backward pass."""
    encoder.zero_grad()
    encoder(x.float() / 255).square().mean().backward()


def main() -> None:
    torch.set_num_threads(1)
    for name, (shape, encoder) in CASES.items():
        torch.manual_seed(0)
        x = torch.randint(0, 256, (BATCH, *shape), dtype=torch.uint8)
        print(f"{name}: forward and backward pass {milliseconds(partial(step, encoder, x)):.1f} ms")
        for label, module in transforms(shape[-1]).items():
            print(f"  {label:36}{milliseconds(partial(Augmentation([module]), x)):8.1f} ms")


if __name__ == "__main__":
    main()
