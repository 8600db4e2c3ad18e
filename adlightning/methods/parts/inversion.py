"""Inversion of a generator: the search for a latent, and for weights, that reproduce a sample (ADGAN, Algorithm 1).

Every (sample, seed) has its own latent, its own copy of the weights and its own Adam moments. Copies are stacked, so
that a step of all of them is one batched computation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import Adam

from adlightning.networks.single_sample import for_single_samples

Loss = Callable[[Tensor, Tensor], Tensor]
"""Distances (N,) of images (N, ...) from samples (N, ...)."""


def squared_distance(images: Tensor, x: Tensor) -> Tensor:
    """||image - x||^2 (N,) of images and samples (N, ...): ADGAN's loss."""
    return (images.float() - x.float()).square().flatten(1).sum(dim=1)


def starting_latents(x: Tensor, n_seeds: int, latent_dim: int, seed: int) -> Tensor:
    """Latents (B, n_seeds, latent_dim) from N(0, I), drawn for each raw sample (B, ...) by what is in it.

    The same sample has the same latents in any batch, order, file and on any device; the j-th of few seeds is the j-th
    of many.
    """
    rows = x.detach().cpu().contiguous().flatten(1).numpy()
    latents = torch.empty(len(x), n_seeds, latent_dim)
    for i, row in enumerate(rows):
        digest = hashlib.blake2b(row.tobytes(), digest_size=8, key=seed.to_bytes(8, "little"))
        generator = torch.Generator().manual_seed(int.from_bytes(digest.digest(), "little") >> 1)
        for j in range(n_seeds):
            latents[i, j] = torch.randn(latent_dim, generator=generator)
    return latents.to(x.device)


class Inversion:
    """The search, with its settings.

    Args:
        n_steps: k, steps of Adam.
        lr_latent: learning rate of the latents.
        lr_weights: learning rate of the weights; 0 leaves them, and no copies are made.
        betas: Adam's, of both.
        alternating: the latents are moved first and the weights at the moved latents, in place of both at one point.
        loss: what is minimised for each pair.
    """

    def __init__(
        self,
        n_steps: int = 5,
        lr_latent: float = 0.25,
        lr_weights: float = 5e-5,
        betas: tuple[float, float] = (0.5, 0.999),
        alternating: bool = False,
        loss: Loss = squared_distance,
    ) -> None:
        self.n_steps = n_steps
        self.lr_latent = lr_latent
        self.lr_weights = lr_weights
        self.betas = betas
        self.alternating = alternating
        self.loss = loss

    def __call__(
        self,
        generator: nn.Module,
        x: Tensor,
        latents: Tensor,
        chunk_size: int,
        after_step: Callable[[int, Tensor], None] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Final latents (N, d), losses (N,) and images (N, ...) of pairs of a sample (N, ...) and a start (N, d).

        The generator is in eval mode: its statistics are those of its training, and pairs do not meet in them. It is
        left as it was. Gradients are taken within, also under `no_grad` and Lightning's inference mode; in float32.

        Args:
            generator: latents (N, d) to images (N, ...).
            x: preprocessed samples.
            latents: where to start.
            chunk_size: number of pairs that are searched at a time.
            after_step: is told after every step, and before the first one (0), which images there are; of one chunk.
        """
        network = for_single_samples(generator) if self.lr_weights > 0 else generator
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            parts = [
                self._search(network, part, start, after_step)
                for part, start in zip(
                    x.detach().clone().split(chunk_size), latents.detach().clone().split(chunk_size), strict=True
                )
            ]
        z, losses, images = (torch.cat(column) for column in zip(*parts, strict=True))
        return z, losses, images

    def _search(
        self, generator: nn.Module, x: Tensor, start: Tensor, after_step: Callable[[int, Tensor], None] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        z = start.float().requires_grad_()
        copies: dict[str, Tensor] = {}
        if self.lr_weights > 0:
            copies = {
                name: weight.detach().expand(len(x), *weight.shape).clone().requires_grad_()
                for name, weight in generator.named_parameters()
            }
        images = partial(_images, generator, copies)
        optimizers = [Adam([z], lr=self.lr_latent, betas=self.betas, fused=True)]
        if copies:
            optimizers.append(Adam(list(copies.values()), lr=self.lr_weights, betas=self.betas, fused=True))
        turns = [[optimizer] for optimizer in optimizers] if self.alternating else [optimizers]
        for step in range(self.n_steps):
            for turn in turns:
                shown = images(z)
                if after_step and turn is turns[0]:
                    after_step(step, shown.detach())
                moving = [
                    weight for optimizer in turn for group in optimizer.param_groups for weight in group["params"]
                ]
                gradients = torch.autograd.grad(self.loss(shown, x).sum(), moving)
                for weight, gradient in zip(moving, gradients, strict=True):
                    weight.grad = gradient
                for optimizer in turn:
                    optimizer.step()
        with torch.no_grad():
            shown = images(z)
            if after_step:
                after_step(self.n_steps, shown)
            return z.detach(), self.loss(shown, x), shown


def _images(generator: nn.Module, copies: dict[str, Tensor], z: Tensor) -> Tensor:
    """Each latent's image (N, ...), by the copy of the weights that goes with it, or by the weights themselves."""
    if not copies:
        weights = {name: weight.detach() for name, weight in generator.named_parameters()}
        images: Tensor = functional_call(generator, weights, (z,))
        return images
    one: Callable[[dict[str, Tensor], Tensor], Tensor] = lambda copy, latent: functional_call(  # noqa: E731
        generator, copy, (latent[None],)
    )[0]
    stacked: Tensor = vmap(one)(copies, z)
    return stacked


def pairs_that_fit(generator: nn.Module, pixels: int, device: torch.device, copied: bool = True) -> int:
    """How many pairs to search at a time: as many as half of the device's free memory holds.

    A copy of the weights has a gradient, two moments, and feature maps beside it. On a CPU, where more are no faster,
    512 MiB.

    Args:
        generator: what is searched.
        pixels: number of values of a sample.
        device: where the search runs.
        copied: whether each pair has a copy of the weights.
    """
    memory = 2**29
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        memory = (free + unused) // 2
    weights = sum(weight.numel() for weight in generator.parameters()) if copied else 0
    return max(1, memory // (4 * (6 * weights + 100 * pixels)))
