"""What every preprocessing is: a fitted module, and steps one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

Output = Literal["sigmoid", "tanh", "linear"]
Batches = Callable[[], Iterable[Tensor]]


class Preprocessing(nn.Module, ABC):
    """Raw samples (B, ...) to float32 (B, ...); what becomes of a sample does not depend on its batch.

    A subclass writes `_transform`, and `_fit` with `needs_fitting=True` where it takes statistics of training data.
    """

    output: Output
    """Activation of a decoder that reproduces the result: sigmoid for [0, 1], tanh for [-1, 1], linear for the rest."""

    finds_far: ClassVar[bool] = False
    """Whether :meth:`is_far` finds any."""

    fitted: Tensor
    """Whether there is nothing left to fit: a bool buffer."""

    def __init__(self, needs_fitting: bool = False) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.tensor(not needs_fitting))
        self._ready = not needs_fitting  # the same on the host: reading the buffer would wait for the device

    @torch.no_grad()
    def fit(self, batches: Batches) -> None:
        """Take statistics of training data.

        Args:
            batches: gives a fresh pass over raw training batches each time it is called; empty batches are passed over.

        Raises:
            ValueError: there is something to fit and not a single sample.
        """
        self._fit(batches)
        self.fitted.fill_(True)
        self._ready = True

    def forward(self, x: Tensor) -> Tensor:
        """Preprocessed samples, in float32 also under autocast.

        Raises:
            RuntimeError: called before `fit`.
            ValueError: images that are not uint8 (B, C, H, W), or samples of another shape than those fitted on.
        """
        if not self._ready:
            raise RuntimeError(f"{type(self).__name__} is not fitted: call fit, or load a checkpoint, before using it")
        with torch.autocast(x.device.type, enabled=False):
            return self._transform(x)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a preprocessed sample, from that of a raw one, both without the batch dimension."""
        return shape

    def is_far(self, x: Tensor) -> Tensor:
        """Which raw samples (B, ...) hold a value too far out to be scored, (B,) bool; by default none."""
        return x.new_zeros(x.shape[0], dtype=torch.bool)

    def _fit(self, batches: Batches) -> None:
        """Fill the buffers; by default there are none."""

    @abstractmethod
    def _transform(self, x: Tensor) -> Tensor:
        """The arithmetic, once everything is fitted."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if prefix + "fitted" in state_dict:
            self._ready = bool(state_dict[prefix + "fitted"])


class Compose(Preprocessing):
    """Steps one after the other; each is fitted on what the steps before it make of the data."""

    def __init__(self, steps: Sequence[Preprocessing]) -> None:
        if not steps:
            raise ValueError("steps must hold at least one step, got none")
        super().__init__(needs_fitting=not all(step._ready for step in steps))
        self.steps = nn.ModuleList(steps)
        self.output = steps[-1].output

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a sample after the last step."""
        for step in self._chain():
            shape = step.output_shape(shape)
        return shape

    def is_far(self, x: Tensor) -> Tensor:
        """As the last step finds, of what those before it make of the samples."""
        *before, last = self._chain()
        if not last.finds_far:
            return super().is_far(x)
        for step in before:
            x = step(x)
        return last.is_far(x)

    def _chain(self) -> list[Preprocessing]:
        return cast("list[Preprocessing]", list(self.steps))

    def _fit(self, batches: Batches) -> None:
        for n, step in enumerate(self._chain()):
            step.fit(partial(self._after, n, batches))

    def _after(self, n_steps: int, batches: Batches) -> Iterator[Tensor]:
        for x in batches():
            for step in self._chain()[:n_steps]:
                x = step(x)
            yield x

    def _transform(self, x: Tensor) -> Tensor:
        for step in self._chain():
            x = step(x)
        return x


class Identity(Preprocessing):
    """Raw samples of any kind as float32, unchanged."""

    output = "linear"

    def _transform(self, x: Tensor) -> Tensor:
        return x.float()


def or_one(scale: Tensor) -> Tensor:
    """What to divide by: 1 where nothing varies, as in scikit-learn."""
    return torch.where(scale == 0, 1.0, scale)


def require_samples(n: int) -> None:
    """Raise ValueError when a fit saw no sample."""
    if n == 0:
        raise ValueError("batches must hold at least one training sample to fit the preprocessing on, got none")
