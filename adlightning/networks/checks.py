"""What a method asks of a network that it is given, found by a dry run before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
Size = Sequence[int | None]
"""A shape without the batch dimension; None where any size will do."""


def make_network(argument: str, factory: Callable[..., nn.Module], *sizes: Any) -> nn.Module:
    """The network that a factory makes for these sizes.

    Args:
        argument: the detector's, for messages.
        factory: makes it.
        sizes: what the data, and the other networks, ask of it.

    Raises:
        ValueError: it cannot be made for them.
    """
    try:
        return factory(*sizes)
    except TypeError as error:
        raise ValueError(f"{argument} cannot be made for {', '.join(map(str, sizes))}: {error}") from error


@torch.no_grad()
def check_network(
    argument: str, network: nn.Module, inputs: Sequence[Shape], *outputs: Size, method: str = "forward"
) -> None:
    """Refuse a network that does not give what a method needs, by a dry run on two samples of zeros in eval mode.

    Args:
        argument: the detector's, for messages.
        network: is run.
        inputs: shapes of what it is called with, without the batch dimension.
        outputs: shapes of what it has to give, without the batch dimension; several for a tuple of tensors.
        method: what is called.

    Raises:
        ValueError: it has no such method, does not take such input, or gives something else.
    """
    if any(weight.is_meta for weight in network.parameters()):
        return  # a network that is only described: what its checkpoint holds is to fit it
    name, taken = type(network).__name__, " and ".join(_batch(shape) for shape in inputs)
    called = name if method == "forward" else f"{name}.{method}"
    wanted = " and ".join(_batch(shape) for shape in outputs)
    run = getattr(network, method, None)
    if not callable(run):
        raise ValueError(f"{argument} must have a method {method} that gives {wanted} for {taken}, {name} has none")
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        given = run(*(torch.zeros(2, *shape) for shape in inputs))
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"{argument}: {called} does not take {taken}: {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    values = given if len(outputs) > 1 and isinstance(given, (tuple, list)) else (given,)
    if len(values) != len(outputs) or not all(map(_fits, values, outputs)):
        shown = " and ".join(_batch(v.shape[1:]) if isinstance(v, Tensor) else type(v).__name__ for v in values)
        raise ValueError(f"{argument} must give {wanted} for {taken}, {called} gives {shown}")


def _fits(value: Any, shape: Size) -> bool:
    if not isinstance(value, Tensor) or value.dim() != 1 + len(shape) or len(value) != 2:
        return False
    return all(own in (None, size) for size, own in zip(value.shape[1:], shape, strict=True))


def _batch(shape: Size) -> str:
    """A shape with its batch dimension, in words."""
    return f"({', '.join(['B', *('n' if size is None else str(size) for size in shape)])}{'' if shape else ','})"
