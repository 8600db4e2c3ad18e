"""All that a detector and the process hold, before and after something that must leave it as it is."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adlightning.core.detector import AnomalyDetector


def state_of(detector: AnomalyDetector) -> dict[str, Any]:
    """All that a score might disturb."""
    state: dict[str, Any] = {f"value of {name}": value.clone() for name, value in detector.state_dict().items()}
    state |= {f"buffer {name}": value.clone() for name, value in detector.named_buffers()}
    state |= {f"mode of {name}": module.training for name, module in detector.named_modules()}
    state |= {f"hooks of {name}": _hooks(module) for name, module in detector.named_modules()}
    state |= {f"gradient of {name}": (w.requires_grad, w.grad is None) for name, w in detector.named_parameters()}
    state["random state of torch"], state["gradients on"] = torch.get_rng_state(), torch.is_grad_enabled()
    state["random state of NumPy"] = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    state["random state of Python"] = random.getstate()
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in state.items()}


def require_same(before: Mapping[str, Any], after: Mapping[str, Any], when: str = "") -> None:
    """Every value to the bit, NaN as NaN."""
    others = sorted(after.keys() ^ before.keys())
    assert not others, f"{when}only one of the two has {', '.join(others)}"
    differing = [name for name, value in before.items() if not _same(value, after[name])]
    assert not differing, f"{when}{', '.join(differing)} differ{'s' if len(differing) == 1 else ''}"


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (Tensor, np.ndarray)):
        return np.array_equal(one, other, equal_nan=_is_float(one))
    return bool(one == other)


def _hooks(module: nn.Module) -> tuple[int, ...]:
    """How many functions are called with a forward or backward pass."""
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return tuple(map(len, kinds))


def _is_float(value: Tensor | np.ndarray[Any, Any]) -> bool:
    return value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"
