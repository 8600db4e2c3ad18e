"""Many networks of one architecture as one: each layer has the weights of all of them, stacked.

The samples of K networks, B of each, lie one network after the other in the first dimension, (K B, ...). So layers
without weights, and what a network does between its layers, stay as they are; a layer with weights takes each network's
samples with that network's weights. `torch.func.vmap` over stacked parameters gives the same numbers in about twice the
time on a CPU, since each of its calls costs more than the arithmetic of a small network.

The weights of the single networks become views of the stacked ones: what is done to a network by itself (setting a
centre, scoring, starting anew) needs no copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.lenet import LeNetDecoder, LeNetEncoder
from adlightning.networks.mlp import MLPDecoder, MLPEncoder

M = TypeVar("M", bound=nn.Module)


class NotStackable(ValueError):
    """Networks that cannot be one batched network; the message says why."""


class Samples:
    """How the samples of a step lie: so many of each network, of which some may only fill up.

    Args:
        n_networks: K.
    """

    def __init__(self, n_networks: int) -> None:
        self.n_networks = n_networks
        self.size = 0
        self.weights: Tensor | None = None

    def are(self, size: int, weights: Tensor | None = None) -> None:
        """The next step has `size` samples of each network.

        Args:
            size: B.
            weights: (K, B), of which each row adds up to 1: 0 for what only fills up, else one by the number of the
                others; None where all networks have B samples.
        """
        self.size, self.weights = size, weights


class Stack:
    """Stacked parameters and buffers, whose parts are those of single networks.

    Args:
        samples: how the samples of a step lie.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.owners: dict[nn.Parameter, list[nn.Parameter]] = {}
        """Stacked parameters with the networks' own ones, which are views of them."""
        self._buffers: list[list[Tensor]] = []

    def parameter(self, given: Sequence[Tensor | None]) -> nn.Parameter:
        """The parameters (...) of K networks as one (K, ...)."""
        owners = [owner for owner in given if isinstance(owner, nn.Parameter)]
        stacked = nn.Parameter(self._stacked([owner.data for owner in owners]), owners[0].requires_grad)
        self.owners[stacked] = owners
        for owner, part in zip(owners, torch.unbind(stacked.data), strict=True):
            owner.data = part
        return stacked

    def buffer(self, given: Sequence[Tensor | None]) -> Tensor:
        """The buffers (...) of K networks as one (K, ...)."""
        owners = [owner for owner in given if owner is not None]
        stacked = torch.stack(owners)
        self._buffers.append(owners)
        for owner, part in zip(owners, stacked, strict=True):
            owner.data = part
        return stacked

    def _stacked(self, parts: Sequence[Tensor]) -> Tensor:
        """Stacked weights, each laid out in memory as it was: channels last makes convolutions faster."""
        first = parts[0]
        if first.dim() == 4 and not first.is_contiguous():
            return torch.stack([part.permute(0, 2, 3, 1) for part in parts]).permute(0, 1, 4, 2, 3)
        return torch.stack(list(parts))

    def part(self) -> None:
        """Give each network weights of its own again, with the values that they have now."""
        everything: list[Sequence[Tensor]] = [*self.owners.values(), *self._buffers]
        for owners in everything:
            for owner in owners:
                owner.data = owner.data.clone()

    # ---- networks -------------------------------------------------------------------------------------------------

    def network(self, networks: Sequence[M]) -> M:
        """K networks as one: samples (K B, ...) to what each of them makes of its own, (K B, ...).

        Raises:
            NotStackable: a layer or network that is not known.
        """
        return self._module(networks)

    def _module(self, modules: Sequence[M]) -> M:
        kind = type(modules[0])
        if any(type(module) is not kind for module in modules):
            raise NotStackable("networks differ")
        if kind in _LAYERS:
            layer: M = _LAYERS[kind](self, modules)  # type: ignore[assignment]
            return layer
        if kind not in _AS_THEY_ARE:
            raise NotStackable(f"{kind.__name__} cannot be packed")
        stand_in = copy.copy(modules[0])
        children = {name: [module.get_submodule(name) for module in modules] for name, _ in modules[0].named_children()}
        stand_in._modules = {name: self._module(parts) for name, parts in children.items()}
        return stand_in


class _Linear(nn.Module):
    def __init__(self, stack: Stack, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.samples = stack.samples
        self.weight = stack.parameter([layer.weight for layer in layers])
        biased = layers[0].bias is not None
        self.bias = stack.parameter([layer.bias for layer in layers]) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        own = x.view(self.samples.n_networks, self.samples.size, -1)
        weight = self.weight.transpose(1, 2)
        y = own @ weight if self.bias is None else torch.baddbmm(self.bias.unsqueeze(1), own, weight)
        return y.flatten(0, 1)


class _BatchNorm(nn.Module):
    """In training mode: by the statistics of each network's own samples, which move its running ones."""

    def __init__(self, stack: Stack, layers: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> None:
        super().__init__()
        first = layers[0]
        if first.momentum is None or not first.track_running_stats:
            raise NotStackable("a BatchNorm without a momentum cannot be packed")
        self.samples, self.eps, self.momentum = stack.samples, first.eps, first.momentum
        affine = first.weight is not None
        self.weight = stack.parameter([layer.weight for layer in layers]) if affine else None
        self.bias = stack.parameter([layer.bias for layer in layers]) if affine else None
        self.mean = stack.buffer([layer.running_mean for layer in layers])
        self.var = stack.buffer([layer.running_var for layer in layers])
        self.steps = stack.buffer([layer.num_batches_tracked for layer in layers])

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        own = x.view(self.samples.n_networks, self.samples.size, *x.shape[1:])
        y = self._of_all(own) if self.samples.weights is None else self._of_some(own, self.samples.weights)
        return y.reshape(x.shape)

    def _of_all(self, own: Tensor) -> Tensor:
        """Networks (K, B, C, ...) as channels of one."""
        k, b, c, *rest = own.shape
        weight, bias = (None if part is None else part.view(-1) for part in (self.weight, self.bias))
        channels = own.transpose(0, 1).reshape(b, k * c, *rest)
        mean, var = self.mean.view(-1), self.var.view(-1)
        return (
            F.batch_norm(channels, mean, var, weight, bias, True, self.momentum, self.eps)
            .view(b, k, c, *rest)
            .transpose(0, 1)
        )

    def _of_some(self, own: Tensor, weights: Tensor) -> Tensor:
        """The same where samples (K, B, C, ...) with a weight of 0 count in no statistic."""
        k, b, c = own.shape[:3]
        values = own.reshape(k, b, c, -1)
        weights = weights.view(k, b, 1, 1) / values.shape[3]
        mean = (values * weights).sum(dim=(1, 3), keepdim=True)
        var = ((values - mean).square() * weights).sum(dim=(1, 3), keepdim=True)
        with torch.no_grad():
            n = (1 / weights.amax(dim=(1, 2, 3))).view(k, 1)  # samples times places
            self.mean.lerp_(mean.view(k, c), self.momentum)
            self.var.lerp_(var.view(k, c) * (n / (n - 1)), self.momentum)
        y = (values - mean) * torch.rsqrt(var + self.eps)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight.view(k, 1, c, 1) + self.bias.view(k, 1, c, 1)
        return y.view(own.shape)


class _Convolution(nn.Module):
    """A convolution a network: on a CPU one grouped convolution of all takes longer, on a GPU it is one call."""

    def __init__(self, stack: Stack, layers: Sequence[nn.Conv2d | nn.ConvTranspose2d]) -> None:
        super().__init__()
        first = layers[0]
        if first.groups != 1 or first.padding_mode != "zeros" or isinstance(first.padding, str):
            raise NotStackable("a grouped convolution, or one with another padding than zeros, cannot be packed")
        self.samples = stack.samples
        self.weight = stack.parameter([layer.weight for layer in layers])
        biased = first.bias is not None
        self.bias = stack.parameter([layer.bias for layer in layers]) if biased else None
        self.convolve = _convolving(first)

    def forward(self, x: Tensor) -> Tensor:
        k, b = self.samples.n_networks, self.samples.size
        if not x.is_cuda:
            biases = [None] * k if self.bias is None else list(self.bias)
            parts = zip(x.split(b), self.weight, biases, strict=True)
            return torch.cat([self.convolve(part, weight, bias, 1) for part, weight, bias in parts])
        channels = x.view(k, b, *x.shape[1:]).transpose(0, 1).flatten(1, 2)
        bias = None if self.bias is None else self.bias.flatten()
        y = self.convolve(channels, self.weight.flatten(0, 1), bias, k)
        of_each: Tensor = y.unflatten(1, (k, -1)).transpose(0, 1).flatten(0, 1)
        return of_each


def _convolving(layer: nn.Conv2d | nn.ConvTranspose2d) -> Callable[[Tensor, Tensor, Tensor | None, int], Tensor]:
    """What a layer does with samples, weights, biases and a number of groups."""
    assert not isinstance(layer.padding, str)
    stride, padding, dilation = layer.stride, layer.padding, layer.dilation
    if isinstance(layer, nn.Conv2d):
        return lambda x, weight, bias, groups: F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    more = layer.output_padding
    return lambda x, weight, bias, groups: F.conv_transpose2d(x, weight, bias, stride, padding, more, groups, dilation)


_LAYERS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: _Linear,
    nn.BatchNorm1d: _BatchNorm,
    nn.BatchNorm2d: _BatchNorm,
    nn.Conv2d: _Convolution,
    nn.ConvTranspose2d: _Convolution,
}

_AS_THEY_ARE: set[type[nn.Module]] = {MLPEncoder, MLPDecoder, LeNetEncoder, LeNetDecoder, nn.Sequential}
_AS_THEY_ARE |= {nn.Flatten, nn.Unflatten, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample, nn.Identity}
_AS_THEY_ARE |= {nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus}
