"""Encoders by the kind of data, and what is asked of any encoder: samples (B, ...) to representations (B, d)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from adlightning.networks.lenet import LeNetEncoder
from adlightning.networks.lstm import LSTMEncoder
from adlightning.networks.mlp import MLPEncoder, Output

Shape = tuple[int, ...]
WeightInit = Literal["glorot", "framework"]

SUITED: dict[int, Callable[[Shape], nn.Module]] = {3: LeNetEncoder, 1: MLPEncoder, 2: LSTMEncoder}
"""Encoders by the number of dimensions of a sample: images, tables, series."""


@runtime_checkable
class Mirrored(Protocol):
    """An encoder that knows a decoder of its own sizes."""

    def mirrored(self, output: Output) -> nn.Module:
        """A decoder from representations (B, d) to samples (B, ...) in the range that `output` says."""
        ...


def build_encoder(
    factory: Callable[[Shape], nn.Module] | None,
    shape: Shape,
    of_tables: Callable[[Shape], nn.Module] = MLPEncoder,
) -> nn.Module:
    """An encoder for samples of this shape.

    Args:
        factory: makes it; None takes LeNet for images, an MLP for tables, an LSTM for series.
        shape: of a preprocessed sample.
        of_tables: the MLP that None takes for tables: docs/defaults.md says what each method's is.

    Raises:
        ValueError: it cannot be made for these samples.
    """
    factory = factory or (of_tables if len(shape) == 1 else SUITED[len(shape)])
    try:
        return factory(shape)
    except TypeError as error:
        raise ValueError(f"encoder cannot be made for samples of shape {shape}: {error}") from error


@torch.no_grad()
def representation_size(encoder: nn.Module, shape: Shape) -> int:
    """d of an encoder's representations (B, d), by a dry run on two samples of zeros in eval mode.

    Raises:
        ValueError: it does not take such samples, or gives something else than (B, d).
    """
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    name = type(encoder).__name__
    try:
        codes = encoder(torch.zeros(2, *shape))
    except (RuntimeError, TypeError, IndexError, ValueError, AssertionError) as error:
        if isinstance(error, RuntimeError) and any(weight.is_meta for weight in encoder.parameters()):
            raise  # not every layer runs without memory: that says nothing of the samples
        raise ValueError(f"encoder: {name} does not take samples (B, {_text(shape)}): {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    if not isinstance(codes, Tensor) or codes.dim() != 2 or len(codes) != 2:
        given = tuple(codes.shape) if isinstance(codes, Tensor) else type(codes).__name__
        raise ValueError(f"encoder must give representations (B, d), {name} gives {given} for B = 2")
    return codes.shape[1]


def build_decoder(
    factory: Callable[[int, Shape, Output], nn.Module] | None,
    encoder: nn.Module,
    shape: Shape,
    output: Output,
) -> nn.Module:
    """A decoder from an encoder's representations to samples of this shape: the one given, or the encoder's mirror.

    Raises:
        ValueError: none is given, and the encoder knows none.
    """
    if factory is not None:
        size = representation_size(encoder, shape)
        try:
            return factory(size, shape, output)
        except TypeError as error:
            raise ValueError(f"decoder cannot be made for d = {size} and samples of shape {shape}: {error}") from error
    if not isinstance(encoder, Mirrored):
        raise ValueError(
            f"decoder must be given for {type(encoder).__name__}, which has no mirror image: a class (rep_dim, shape, "
            "output) -> module; or leave out what needs one, with pretraining.epochs=0"
        )
    return encoder.mirrored(output)


def _text(shape: Shape) -> str:
    return ", ".join(map(str, shape))
