"""Weights at the start of training, and the condition under which a one-class network cannot collapse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

STAND_INS: dict[str, type[nn.Module] | None] = {
    "ReLU6": nn.ReLU,
    "Softplus": nn.ReLU,
    **dict.fromkeys(("Tanh", "Hardtanh", "Softsign", "ELU", "CELU", "SELU"), nn.LeakyReLU),
    **dict.fromkeys(("Sigmoid", "Hardsigmoid", "HardSigmoid", "LogSigmoid")),
}
"""Activations that can stand in for a bias, by the names that torch and timm give them, and what replaces them.

They are bounded away from zero on one side at least, so that a saturated unit is a constant, or do not map 0 to 0.
ReLU, LeakyReLU and PReLU are not among them, nor GELU, SiLU, Mish and Hardswish: those have a bound below zero, but
reach it at one input alone, and go to zero or beyond all bounds on either side. Nothing replaces a sigmoid: most of
them are gates, which would no longer be any.
"""

_NORMALISE_EACH = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_GATES = ("scale_activation", "gate")  # of torchvision's SqueezeExcitation, of timm's modules of attention
_WITHOUT_BIAS = (nn.Linear, nn.Bilinear, _ConvNd, nn.MultiheadAttention, _NormBase)


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

    Users' own networks and those of libraries have a start of their own (`has_own_start`).

    Args:
        module: the detector, or a part of it.
        weight_init: `glorot` as in :func:`glorot_uniform_`, or `framework`, which leaves everything.
    """
    if weight_init == "framework":
        return
    for child in module.children():
        ours = type(child).__module__.partition(".")[0] in ("adlightning", "torch")
        if not ours or getattr(child, "has_own_start", False):
            continue
        if isinstance(child, (nn.Linear, _ConvNd)):
            glorot_uniform_(child)
        else:
            start_weights_(child, weight_init)


def reset_parameters_(module: nn.Module) -> None:
    """Set every layer back to the framework's own random start, in place, BatchNorm's running statistics included.

    That is PyTorch's start of each layer, also where torchvision chose another for a network (MobileNetV2).

    Raises:
        ValueError: a layer that owns parameters or buffers and does not know how to reset them, before any is reset.
    """
    for reset in resets_of(module):
        reset()


def resets_of(module: nn.Module) -> list[Callable[[], None]]:
    """What sets each layer back. Raises ValueError as :func:`reset_parameters_`, and for a network of a library."""
    resets: list[Callable[[], None]] = []
    for name, layer in module.named_modules():
        if getattr(layer, "has_own_start", False):
            raise ValueError(f"module must have a start that can be drawn again, but {_at(name, layer)} has its own")
        reset = getattr(layer, "reset_parameters", None)
        if reset is not None:
            resets.append(reset)
        elif [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            raise ValueError(f"module must consist of layers with reset_parameters, but {_at(name, layer)} has none")
    return resets


def strip_biases_(module: nn.Module) -> None:
    """Make a network one that cannot collapse as :func:`require_collapse_free` has it, in place.

    Biases are taken away, and the affine part of BatchNorm and InstanceNorm; bounded activations become ReLU or leaky
    ReLU, as `STAND_INS` says. The weights that stay are not changed, but count on what has gone: strip before training.

    Args:
        module: a network; what it is itself stays, its layers are changed.

    Raises:
        ValueError: what can neither stay nor be taken away: a layer that normalises each sample by itself, a sigmoid
            that is no gate, a recurrent layer with biases. The network is then not to be used.
    """
    for layer in module.modules():
        if isinstance(layer, _WITHOUT_BIAS):
            for name in _biases(layer):
                layer.register_parameter(name, None)
        if isinstance(layer, _NormBase):
            layer.affine = False
            layer.register_parameter("weight", None)
        for name, child in layer.named_children():
            if (stand_in := STAND_INS.get(type(child).__name__)) is not None:
                setattr(layer, name, stand_in(inplace=getattr(child, "inplace", False)))
    require_collapse_free(module)


def require_collapse_free(module: nn.Module) -> None:
    """Refuse a network that can map every input to one point whatever the input.

    Deep SVDD and Deep SAD pull representations towards a fixed centre. A network reaches it without looking at its
    input by a bias (Ruff et al., 2018, Proposition 2), which the shift of an affine normalisation is too, or by a
    bounded activation (Proposition 3). So it does where each sample is normalised by itself (LayerNorm, GroupNorm,
    RMSNorm): weights of rank one make all samples positive multiples of one vector, and that makes a constant of them.

    Sees layers, not activations that a `forward` calls as functions, nor parameters that it adds. Gates may be bounded,
    since they multiply what is not: those of torchvision's and timm's networks, and of an LSTM without biases, which
    the DROCC paper runs Deep SVDD and Deep SAD on.

    Raises:
        ValueError: a layer with a bias, an affine BatchNorm, a bounded activation, or a normalisation of each sample;
            the message names it.
    """
    for name, layer in module.named_modules():
        if fault := _fault(module, name, layer):
            raise ValueError(
                f"module must not be able to map all input to one point (Ruff et al., 2018, Propositions 2 and 3), "
                f"but {_at(name, layer)} {fault}"
            )


def _fault(module: nn.Module, name: str, layer: nn.Module) -> str | None:
    """What of a layer lets its network collapse, and what to do."""
    kind, strip = type(layer).__name__, "or strip_biases (strip_biases_ for a network of your own)"
    if isinstance(layer, _NormBase) and layer.affine:
        return f"is affine: build it with affine=False, {strip}"
    if isinstance(layer, _NORMALISE_EACH):
        return "normalises each sample by itself, which makes constants: take a network with BatchNorm or none"
    if _biases(layer):
        return f"has a bias: build it with bias=False{f', {strip}' if isinstance(layer, _WITHOUT_BIAS) else ''}"
    if kind in STAND_INS and not _is_gate(module, name):
        return f"is a bounded activation: use LeakyReLU{'' if STAND_INS[kind] is None else f', {strip}'}"
    return None


def _biases(layer: nn.Module) -> list[str]:
    return [name for name, _ in layer.named_parameters(recurse=False) if "bias" in name]


def _is_gate(module: nn.Module, name: str) -> bool:
    """Whether a layer is what a library's block multiplies its input with."""
    parent, _, own = name.rpartition(".")
    package = type(module.get_submodule(parent)).__module__.partition(".")[0]
    return own in _GATES and package in ("torchvision", "timm")


def _at(name: str, layer: nn.Module) -> str:
    return f"{name or 'the module itself'} ({type(layer).__name__})"
