"""Weights at the start of training, and the condition under which a one-class network cannot collapse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

# Bounded away from zero on at least one side, so that a saturated unit can stand in for a bias. ReLU is not among
# them: its only bound is zero. ReLU6 is a Hardtanh.
BOUNDED = (nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Softsign, nn.ELU, nn.CELU, nn.SELU)


def glorot_uniform_(module: nn.Module) -> None:
    """Draw the weights of all linear, convolutional and transposed convolutional layers anew, in place; biases are 0.

    Uniform in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010, equation 16). Other layers stay as they are:
    normalisation, and LSTMs, whose gates share one matrix and whose framework start no paper here departs from.
    Pretrained weights are lost: load them afterwards.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, _ConvNd)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def start_weights_(module: nn.Module, weight_init: Literal["glorot", "framework"]) -> None:
    """The weights that a detector's networks start from: of ours, and of layers on their own; others are as they came.

    Args:
        module: the detector, or a part of it.
        weight_init: `glorot` as in :func:`glorot_uniform_`, or `framework`, which leaves everything.
    """
    if weight_init == "framework":
        return
    for child in module.children():
        if type(child).__module__.partition(".")[0] in ("adlightning", "torch"):
            glorot_uniform_(child)


def reset_parameters_(module: nn.Module) -> None:
    """Set every layer back to the framework's own random start, in place, BatchNorm's running statistics included.

    That is PyTorch's start of each layer, also where torchvision chose another for a network (MobileNetV2).

    Raises:
        ValueError: a layer that owns parameters or buffers and does not know how to reset them, before any is reset.
    """
    resets: list[Callable[[], None]] = []
    for name, layer in module.named_modules():
        reset = getattr(layer, "reset_parameters", None)
        if reset is not None:
            resets.append(reset)
        elif [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            raise ValueError(f"module must consist of layers with reset_parameters, but {_at(name, layer)} has none")
    for reset in resets:
        reset()


def require_collapse_free(module: nn.Module) -> None:
    """Refuse a network that can map every input to one point whatever the input.

    Deep SVDD and Deep SAD pull representations towards a fixed centre; with a bias (Ruff et al., 2018, Proposition 2),
    the shift of an affine normalisation, or a bounded activation (Proposition 3), a network reaches it without looking
    at its input. Sees layers, not activations that a `forward` calls as functions, nor the bounded gates of an LSTM
    without biases, which the DROCC paper runs Deep SVDD and Deep SAD on.

    Raises:
        ValueError: a layer with a bias, an affine BatchNorm, or a bounded activation; the message names it.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.affine:
            fault = "is affine: build it with affine=False"
        elif any("bias" in parameter for parameter, _ in layer.named_parameters(recurse=False)):
            fault = "has a bias: build it with bias=False"
        elif isinstance(layer, BOUNDED):
            fault = "is a bounded activation: use LeakyReLU"
        else:
            continue
        raise ValueError(
            f"module must not be able to map all input to one point (Ruff et al., 2018, Propositions 2 and 3), "
            f"but {_at(name, layer)} {fault}"
        )


def _at(name: str, layer: nn.Module) -> str:
    return f"{name or 'the module itself'} ({type(layer).__name__})"
