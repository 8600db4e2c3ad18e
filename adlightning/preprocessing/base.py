"""What every preprocessing is: a module made for samples of one shape, fitted on training data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

Output = Literal["sigmoid", "tanh", "linear"]
Batches = Callable[[], Iterable[Tensor]]


class Preprocessing(nn.Module, ABC):
    """Raw samples (B, ...) to float32 (B, ...); what becomes of a sample does not depend on its batch.

    A subclass writes `forward`, and `_fit` where it takes statistics of training data. Its `forward` then calls
    `self.refuse()` while `self.ready` is False.

    Args:
        shape: of a raw sample.
        needs_fitting: whether there is something to fit; None where writing `_fit` says so.
    """

    output: Output
    """Activation of a decoder that reproduces the result: sigmoid for [0, 1], tanh for [-1, 1], linear for the rest."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "table", "series")
    """The kinds of input that it takes."""

    finds_far: ClassVar[bool] = False
    """Whether :meth:`is_far` finds any."""

    fitted: Tensor
    """Whether there is nothing left to fit: a bool buffer."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "fit" in vars(cls):
            raise TypeError(f"{cls.__name__} must write _fit(batches), which fit calls, and not fit")

    def __init__(self, shape: tuple[int, ...], needs_fitting: bool | None = None) -> None:
        super().__init__()
        if needs_fitting is None:
            needs_fitting = type(self)._fit is not Preprocessing._fit
        self.shape = tuple(shape)
        self.register_buffer("fitted", torch.tensor(not needs_fitting))
        self.ready = not needs_fitting  # the same on the host: reading the buffer would wait for the device

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Preprocessed samples, in float32 also under autocast.

        Raises:
            RuntimeError: called before `fit`.
            ValueError: samples of another kind or shape than it was made for.
        """

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
        self.ready = True

    def refuse(self) -> None:
        """Raise RuntimeError: it is not fitted."""
        raise RuntimeError(f"{type(self).__name__} is not fitted: call fit, or load a checkpoint, before using it")

    def output_shape(self) -> tuple[int, ...]:
        """Shape of a preprocessed sample, without the batch dimension."""
        return self.shape

    def is_far(self, x: Tensor) -> Tensor:
        """Which raw samples (B, ...) hold a value too far out to be scored, (B,) bool; by default none."""
        return x.new_zeros(x.shape[0], dtype=torch.bool)

    def _fit(self, batches: Batches) -> None:
        """Fill the buffers; by default there are none."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if prefix + "fitted" in state_dict:
            self.ready = bool(state_dict[prefix + "fitted"])


class After(Preprocessing):
    """A preprocessing after a step that needs no fit; it is fitted on what the step makes of the data.

    Args:
        first: the step.
        then: the preprocessing.
    """

    def __init__(self, first: Preprocessing, then: Preprocessing) -> None:
        super().__init__(first.shape, needs_fitting=not then.ready)
        self.first, self.then = first, then
        self.output = then.output
        self.finds_far = then.finds_far  # type: ignore[misc]  # of a class, but for a preprocessing made of two

    def output_shape(self) -> tuple[int, ...]:
        """That of the preprocessing."""
        return self.then.output_shape()

    def is_far(self, x: Tensor) -> Tensor:
        """As the preprocessing finds, of what the step makes of the samples."""
        return self.then.is_far(self.first(x)) if self.then.finds_far else super().is_far(x)

    def forward(self, x: Tensor) -> Tensor:
        """One after the other."""
        prepared: Tensor = self.then(self.first(x))
        return prepared

    def _fit(self, batches: Batches) -> None:
        self.then.fit(partial(self._firsts, batches))

    def _firsts(self, batches: Batches) -> Iterator[Tensor]:
        return (self.first(x) for x in batches())


class Identity(Preprocessing):
    """Raw samples of any kind as float32, unchanged.

    Args:
        shape: of a raw sample.
    """

    output = "linear"

    def forward(self, x: Tensor) -> Tensor:
        """The same values."""
        return x.float()


def or_one(scale: Tensor) -> Tensor:
    """What to divide by: 1 where nothing varies, as in scikit-learn."""
    return torch.where(scale == 0, 1.0, scale)


def require_samples(n: int) -> None:
    """Raise ValueError when a fit saw no sample."""
    if n == 0:
        raise ValueError("batches must hold at least one training sample to fit the preprocessing on, got none")
