"""Encoders that end in logits: with a linear layer on them, or by themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from inspect import signature

from torch import nn

from adlightning.networks.encoders import Shape, build_encoder, representation_size


def build_logits(factory: Callable[..., nn.Module], shape: Shape, n_outputs: int) -> nn.Module:
    """A network from samples (B, *shape) to logits (B, n_outputs).

    A class whose constructor takes `n_outputs` is told the number, and ends in logits by itself. Any other one gives
    representations (B, d), on which a linear layer is put.

    Args:
        factory: a class made for the shape of a sample, or a partial of one.
        shape: of a preprocessed sample.
        n_outputs: number of logits.

    Raises:
        ValueError: a network that cannot be made for these samples, or that gives something else.
    """
    if "n_outputs" not in signature(factory).parameters:
        encoder = build_encoder(factory, shape)
        head = nn.Linear(representation_size(encoder, shape), n_outputs)
        return nn.Sequential(OrderedDict(encoder=encoder, head=head))
    asked = factory.keywords.get("n_outputs") if isinstance(factory, partial) else None
    if asked not in (None, n_outputs):
        raise ValueError(f"encoder.n_outputs must be {n_outputs}, or null for what the detector needs, got {asked}")
    network = build_encoder(partial(factory, n_outputs=n_outputs), shape)
    if (given := representation_size(network, shape)) != n_outputs:
        raise ValueError(f"encoder must give the n_outputs={n_outputs} logits that it was asked for, got {given}")
    return network
