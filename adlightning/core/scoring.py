"""How a score comes about, wherever it is asked for: in eval mode, without gradients, and with nothing left changed.

A method writes `training_step` and `anomaly_score`. Within a trainer's training step `anomaly_score` is what the method
wrote, in training mode and with gradients, for a loss. Called from anywhere else it is a score: :func:`guard` sees to
it.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adlightning.core.raw_input import raw_input
from adlightning.preprocessing.base import Preprocessing

if TYPE_CHECKING:
    from adlightning.core.scored import ScoredModule

SCORE_SEED = 0
"""Of what a score draws at random."""


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Eval mode without gradients within; after it every submodule is in the mode that it was in."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def own_draws(device: torch.device) -> Iterator[None]:
    """Random draws within are the same each time; those after it are what they would have been.

    Of torch on the host and on a CUDA device, of NumPy, and of Python.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    for generator in generators:
        generator.manual_seed(SCORE_SEED)
    np.random.seed(SCORE_SEED)  # noqa: NPY002
    random.seed(SCORE_SEED)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


class Turn:
    """Whether a detector is scoring, or taking a training step; threads share its mode, so they take turns."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.scores = False
        self.stepping: int | None = None  # the thread that runs a training step

    @contextmanager
    def step(self) -> Iterator[None]:
        """Within it the detector's training step runs in this thread; however it ends, it is over then."""
        with self.lock:
            before, self.stepping = self.stepping, threading.get_ident()
            try:
                yield
            finally:
                self.stepping = before

    @contextmanager
    def take(self) -> Iterator[bool]:
        """Within it the detector scores; gives whether it did already, in this thread."""
        with self.lock:
            before, self.scores = self.scores, True
            try:
                yield before
            finally:
                self.scores = before

    def __reduce__(self) -> tuple[type[Turn], tuple[()]]:
        """A copy of a detector has turns of its own."""
        return Turn, ()


@contextmanager
def scoring(detector: ScoredModule) -> Iterator[None]:
    """Within it the detector is scored, whatever mode it was in and is in after it again."""
    with detector.turn.take() as scores_already:
        if scores_already:
            yield
        else:
            with evaluating(detector), own_draws(detector.device):
                yield


def guard(cls: type[ScoredModule]) -> None:
    """Make a class's `anomaly_score` a score wherever it is called but in a trainer's training step."""
    guarded: dict[str, Callable[[Any], Any]] = {"anomaly_score": _as_score, "training_step": _as_step}
    for name, as_guarded in guarded.items():
        if name in vars(cls):  # else an ancestor's, seen to already
            setattr(cls, name, as_guarded(getattr(cls, name)))


def as_written(detector: ScoredModule) -> Callable[[Tensor], Tensor]:
    """The `anomaly_score` that the method wrote, for who has seen to everything else."""
    guarded = type(detector).anomaly_score
    return partial(getattr(guarded, "__wrapped__", guarded), detector)


def in_training_step(detector: ScoredModule) -> bool:
    """Whether a trainer is running this detector's training step at this moment, in this thread.

    Lightning notes the hook that it runs, and leaves the note where a step fails or is interrupted.
    """
    return detector._current_fx_name == "training_step" and detector.turn.stepping == threading.get_ident()


def _as_step(training_step: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(training_step)
    def step(self: ScoredModule, *args: Any, **kwargs: Any) -> Any:
        with self.turn.step():
            return training_step(self, *args, **kwargs)

    return step


def _as_score(anomaly_score: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Any], Tensor]:
    @wraps(anomaly_score)
    def score(self: ScoredModule, x: Any) -> Tensor:
        if torch.compiler.is_exporting() or in_training_step(self):
            return anomaly_score(self, x)
        with self.turn.lock:
            if self.turn.scores:
                return anomaly_score(self, x)
            if reason := unready(self):
                raise ValueError(f"{type(self).__name__} cannot score yet: {reason}")
            with scoring(self):
                raw = raw_input(x, self.built_for).to(self.device)
                if not len(raw):
                    return torch.empty(0, device=self.device)
                return bounded(require_scores(self, anomaly_score(self, raw), raw), self.preprocess.is_far(raw))

    return score


def require_scores(detector: ScoredModule, scores: Any, x: Tensor) -> Tensor:
    """What a method's `anomaly_score` gave for raw input (B, ...). Raises ValueError where it is no scores (B,)."""
    if isinstance(scores, Tensor) and scores.is_floating_point() and scores.shape == (len(x),):
        return scores
    kind = str(scores.dtype).removeprefix("torch.") if isinstance(scores, Tensor) else type(scores).__name__
    raise ValueError(
        f"anomaly_score of {type(detector).__name__} must give a tensor of floats, one a sample, of shape ({len(x)},) "
        f"here, got {kind} of shape {tuple(np.shape(scores))}"
    )


def bounded(scores: Tensor, is_far: Tensor) -> Tensor:
    """Scores (B,), the largest number there is for what overflowed and for samples that lie far (B,) from all others.

    A method says nothing of samples a billion deviations out: a classifier's line passes them on either side.
    """
    most = torch.finfo(scores.dtype).max
    return torch.where(is_far, most, scores.clamp(-most, most))


def score_batches(detector: ScoredModule, batches: Iterable[Tensor]) -> NDArray[np.float64]:
    """Scores (N,) of raw batches (B, ...), on the host."""
    scores = [detector.scores_that_fit(x.to(detector.device)).cpu() for x in batches]
    values: NDArray[np.float64] = torch.cat(scores).double().numpy() if scores else np.empty(0)
    return values


def unready(detector: ScoredModule) -> str | None:
    """Why scores of this detector mean nothing yet; None when they mean something."""
    if detector.input_spec is None:
        return "it was not trained on any data"
    if not all(bool(part.fitted) for part in detector.preprocess.modules() if isinstance(part, Preprocessing)):
        return "its training has not begun: its preprocessing is not fitted"
    if not detector.ready_to_score():
        return "it is in pre-training, or what is fitted after its last step is missing"
    return None


def without_verdict(detector: ScoredModule) -> str | None:
    """Why this detector gives neither scores nor verdicts to anybody yet; None when it does."""
    reason = unready(detector)
    if reason is None and not math.isfinite(detector.threshold.item()):
        if detector.rescored:
            return (
                f"its threshold was fitted to other scores, and it has {', '.join(detector.rescored)}: `test` fits one"
            )
        return "it has no threshold, since its training has not ended (a fit goes on with --ckpt_path last)"
    return reason


def without_p_values(detector: ScoredModule) -> str | None:
    """Why this detector gives no p-values; None when it does."""
    if reason := without_scores(detector):
        return reason
    if len(detector.held_out_scores):
        return None
    if detector.rescored:
        return f"its held-out samples were not scored with {', '.join(detector.rescored)}"
    return "no normal samples were held out of its training (data.validation_fraction), by which to rank a score"


def without_scores(detector: ScoredModule) -> str | None:
    """Why this detector gives no scores to anybody yet; None when it does.

    What scores otherwise than it was trained to may lack a threshold. Any other detector without one is not trained.
    """
    return unready(detector) if detector.rescored else without_verdict(detector)
