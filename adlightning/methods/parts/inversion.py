"""Inversion of a generator: the search for a latent, and for weights, that reproduce a sample (ADGAN, Algorithm 1).

Every (sample, seed) has its own latent, its own copy of the weights and its own Adam moments. Copies are stacked, so
that a step of all of them is one batched computation.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.optim import Adam

from adlightning.core.memory import lacks_memory
from adlightning.core.rules import (
    Rule,
    at_least,
    between,
    check_arguments,
    each,
    not_negative,
    or_none,
    positive,
    seed as seed_rule,
)
from adlightning.core.scoring import evaluating

Loss = Callable[[Tensor, Tensor], Tensor]
"""Distances (N,) of images (N, ...) from samples (N, ...)."""

AfterStep = Callable[[int, Tensor], None]
"""Is told after every step, and before the first one (0), which images there are."""


@dataclass(frozen=True)
class LatentSearch:
    """The search, from random latents, for what reproduces a sample.

    Args:
        n_seeds: starting latents for each sample; 8 in ADGAN's paper, and 1 in its comparison.
        n_steps: k, steps of Adam; 5 in ADGAN's paper, 100 in its pictures.
        lr_latent: learning rate of the latents.
        lr_weights: learning rate of the copies of the generator; 0 leaves the generator as it is (`gamma_theta=0`).
        betas: Adam's, of both.
        alternating: the latent is moved first and the weights at the moved latent, in place of both at one point
            (Algorithm 1).
        seed: of the starting latents, which are drawn by what is in a sample: its score does not depend on its batch.
        chunk_size: pairs of a sample and a seed that are searched at a time; null takes what half of the free memory
            holds. No score depends on it.
    """

    n_seeds: int = 8
    n_steps: int = 5
    lr_latent: float = 0.25
    lr_weights: float = 5e-5
    betas: tuple[float, float] = (0.5, 0.999)
    alternating: bool = False
    seed: int = 0
    chunk_size: int | None = None

    argument_rules: ClassVar[dict[str, Rule]] = {
        "n_seeds": at_least(1),
        "n_steps": not_negative,
        "lr_latent": positive,
        "lr_weights": not_negative,
        "betas": each(between(0, 1, "left"), length=2),
        "seed": seed_rule,
        "chunk_size": or_none(at_least(1), "what half of the free memory holds"),
    }

    def __post_init__(self) -> None:
        """Check the values."""
        rules = {f"search.{name}": rule for name, rule in self.argument_rules.items()}
        check_arguments(rules, {}, {f"search.{name}": value for name, value in vars(self).items()})
        object.__setattr__(self, "betas", tuple(self.betas))  # a list, where a file gave them


def squared_distance(images: Tensor, x: Tensor) -> Tensor:
    """||image - x||^2 (N,) of images and samples (N, ...): ADGAN's loss."""
    return (images.float() - x.float()).square().flatten(1).sum(dim=1)


def mean_over_seeds(values: Tensor, n_seeds: int) -> Tensor:
    """Scores (B,) from the values (B n_seeds,) of a sample's seeds, which follow one another: Algorithm 1, line 9."""
    return values.view(-1, n_seeds).mean(dim=1)


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
    """A search that a detector has: of samples, from their latents, in chunks that fit the memory.

    Args:
        search: its settings.
        latent_dim: dimension of the latents.
        loss: what is minimised for each pair of a sample and a latent.
    """

    def __init__(self, search: LatentSearch, latent_dim: int, loss: Loss = squared_distance) -> None:
        self.search = search
        self.latent_dim = latent_dim
        self.loss = loss
        self._most: int | None = None  # pairs at a time, where more were found not to fit

    def __call__(
        self, generator: nn.Module, raw: Tensor, x: Tensor, n_seeds: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Final latents (B n_seeds, d), losses (B n_seeds,) and images of samples (B, ...), seed by seed.

        Args:
            generator: latents (N, d) to images (N, ...).
            raw: the samples as they were given; the starting latents depend on them.
            x: the same samples preprocessed.
            n_seeds: from the first so many starting latents; None takes all.
        """
        n_seeds = n_seeds or self.search.n_seeds
        starts = starting_latents(raw, n_seeds, self.latent_dim, self.search.seed).flatten(0, 1)
        return self.of_pairs(generator, x.repeat_interleave(n_seeds, dim=0), starts)

    def require_batchable(self, generator: nn.Module) -> None:
        """Try a step for two latents of zeros, where weights are searched: before training, not after it.

        Raises:
            ValueError: `torch.func` cannot batch the generator over copies of its weights.
        """
        if self.search.lr_weights == 0:
            return
        try:
            with evaluating(generator), torch.enable_grad():
                network = for_single_samples(generator)
                copies = _copies(network, 2)
                z = next(iter(copies.values())).new_zeros(2, self.latent_dim, requires_grad=True)
                made = _images(network, copies, z).sum()
                torch.autograd.grad(made, [z, *copies.values()], materialize_grads=True)
        except (RuntimeError, ValueError, TypeError, StopIteration) as error:
            reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".") or "it has no weights"
            raise ValueError(
                f"generator: {type(generator).__name__} cannot be searched with its weights: torch.func.vmap does not "
                f"batch it over copies of them ({reason}). Take one without control flow by values, random draws and "
                "statistics of the batch in eval mode, or leave the weights as they are with search.lr_weights=0"
            ) from error

    def of_pairs(
        self, generator: nn.Module, x: Tensor, starts: Tensor, after_step: AfterStep | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Final latents (N, d), losses (N,) and images (N, ...) of pairs of a sample (N, ...) and a start (N, d).

        The generator is in eval mode: its statistics are those of its training, and pairs do not meet in them. It is
        left as it was. Gradients are taken within, also under `no_grad` and Lightning's inference mode; in float32.
        Where memory is too small for a chunk, half of it is tried.

        Args:
            generator: latents to images.
            x: preprocessed samples.
            starts: the starting latents.
            after_step: is told of every step; all pairs are one chunk then.
        """
        copied = self.search.lr_weights > 0
        network = for_single_samples(generator) if copied else generator
        wanted = self.search.chunk_size or pairs_that_fit(generator, x.shape[1:].numel(), x.device, copied)
        wanted, done = len(x) if after_step else wanted, 0
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            x, starts = x.detach().clone(), starts.detach().clone()
            while done < len(x) or not parts:
                n = min(wanted, self._most or wanted, max(len(x) - done, 1))
                try:
                    parts.append(self._search(network, x[done : done + n], starts[done : done + n], after_step))
                    done += n
                    continue
                except Exception as error:
                    if n == 1 or after_step or not lacks_memory(error):
                        raise
                torch.cuda.empty_cache()  # after the handler: the error holds what it could not finish
                self._most = n // 2
                warnings.warn(
                    f"memory is full with {n} at a time: model.search.chunk_size is {n // 2} now", stacklevel=2
                )
        z, losses, images = (torch.cat(column) for column in zip(*parts, strict=True))
        return z, losses, images

    def _search(
        self, generator: nn.Module, x: Tensor, start: Tensor, after_step: AfterStep | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        search = self.search
        z = start.float().requires_grad_()
        copies = _copies(generator, len(x)) if search.lr_weights > 0 else {}
        images = partial(_images, generator, copies)
        optimizers = [Adam([z], lr=search.lr_latent, betas=search.betas, fused=True)]
        if copies:
            optimizers.append(Adam(list(copies.values()), lr=search.lr_weights, betas=search.betas, fused=True))
        turns = [[optimizer] for optimizer in optimizers] if search.alternating else [optimizers]
        for step in range(search.n_steps):
            for turn in turns:
                shown = images(z)
                if after_step and turn is turns[0]:
                    after_step(step, shown.detach())
                moving = [
                    weight for optimizer in turn for group in optimizer.param_groups for weight in group["params"]
                ]
                gradients = torch.autograd.grad(self.loss(shown, x).sum(), moving, materialize_grads=True)
                for weight, gradient in zip(moving, gradients, strict=True):
                    weight.grad = _laid_out_as(weight, gradient)
                for optimizer in turn:
                    optimizer.step()
        with torch.no_grad():
            shown = images(z)
            if after_step:
                after_step(search.n_steps, shown)
            return z.detach(), self.loss(shown, x), shown


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with the weight's strides, which fused Adam takes for granted; those of linear layers differ."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


def _copies(generator: nn.Module, n: int) -> dict[str, Tensor]:
    """Weights by name, each n times."""
    return {
        name: weight.detach().expand(n, *weight.shape).clone().requires_grad_()
        for name, weight in generator.named_parameters()
    }


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


class SingleSampleConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution of one sample (1, C, H, W) as a product of matrices.

    Under `vmap` over copies of the weights it is one batched product, where a convolution becomes one of as many groups
    as there are copies, which is slow.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The layer's output (1, C', H', W')."""
        kernel, stride, padding, dilation = self.kernel_size, self.stride, self.padding, self.dilation
        sides = [
            (n - 1) * stride[i] - 2 * int(padding[i]) + dilation[i] * (kernel[i] - 1) + self.output_padding[i] + 1
            for i, n in enumerate(x.shape[-2:])
        ]
        # (positions, C) times (C, C' k k): the weights as they lie, and so their gradient
        patches = x.flatten(2).squeeze(0).t() @ self.weight.flatten(1)
        y: Tensor = F.fold(patches.t()[None], sides, kernel, dilation, padding, stride)  # type: ignore[arg-type]
        return y if self.bias is None else y + self.bias[:, None, None]


def for_single_samples(network: nn.Module) -> nn.Module:
    """The network with transposed convolutions for one sample at a time; it shares the given one's weights."""
    twin = copy.deepcopy(network, {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]})
    for module in twin.modules():
        if type(module) is nn.ConvTranspose2d and module.groups == 1:
            module.__class__ = SingleSampleConvTranspose2d  # its weights and names stay
    return twin
