"""What every detector promises, a function each, which raises AssertionError where a promise is broken.

Each takes a :class:`Trial`, whose one fit they share, and leaves the trained detector as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adlightning.checkpoints.loading import load_detector
from adlightning.core.parts import described
from adlightning.core.scoring import as_written
from adlightning.labels import KNOWN_ANOMALY
from adlightning.testing.small_data import small_data
from adlightning.testing.state import require_same, state_of
from adlightning.testing.trial import Trial

_NEAR: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
"""How far a score may be from that of the same sample in another batch: sums are rounded in another order."""


def check_constructor_keeps_arguments(trial: Trial) -> None:
    """A detector made anew from its `arguments` has the same ones, and neither has networks before it knows the data.

    A checkpoint holds the arguments, so a constructor must change none of them.
    """
    again = trial.make()
    assert described(again.arguments) == described(trial.given.arguments), "the constructor changed an argument"
    assert again.input_spec is None
    built = [name for name, _ in again.named_parameters()]
    assert not built, f"weights before `build` knows the data: {', '.join(built)}"


def check_refuses_to_score_untrained(trial: Trial) -> None:
    """Before training there are neither scores nor verdicts."""
    x = trial.test_input(2)
    for ask in (trial.make().score, trial.make().predict, trial.make().anomaly_score):
        assert "cannot score yet" in _refusal(ask, x)


def check_fit_leaves_scores_and_threshold(trial: Trial) -> None:
    """A fit by a plain Trainer ends with a finite threshold, and finite scores (N,) that are not all the same."""
    assert trial.fitted.threshold.isfinite(), "no threshold after a fit"
    x = trial.test_input()
    scores = trial.fitted.score(x)
    assert scores.shape == (len(x),), f"scores must be of shape ({len(x)},), got {scores.shape}"
    assert np.isfinite(scores).all(), "a score is not finite"
    assert np.ptp(scores) > 0, "all scores are the same"


def check_training_moves_weights_of_score(trial: Trial) -> None:
    """Training changes every weight that the score depends on, but for those that are frozen.

    A bias before a BatchNorm is spared, whose gradients are zero but for rounding.
    """
    before, detector = trial.watch.begun, copy.deepcopy(trial.fitted)
    with torch.enable_grad():
        scores = as_written(detector.eval())(trial.test_input())
        if not scores.requires_grad:
            return
        try:
            scores.sum().backward()
        except RuntimeError:  # it takes gradients itself, and keeps no graph of them
            return
    weights = {name: weight for name, weight in detector.named_parameters() if weight.requires_grad}
    used = [name for name, weight in weights.items() if weight.grad is not None and weight.grad.any()]
    assert used, "no weight has a part in the score"
    still = [name for name in used if name in before and torch.equal(before[name], weights[name])]
    still = [name for name in still if not trial.watch.cancels(name)]
    assert not still, f"training did not change {', '.join(still)}"


def check_score_changes_nothing(trial: Trial) -> None:
    """A score in training mode is that in eval mode, twice in a row, and modes, buffers and random states stay."""
    detector, x = copy.deepcopy(trial.fitted), trial.test_input()
    expected = detector.eval().score(x)
    detector.train()
    for frozen in list(detector.children())[:1]:  # a part that a user has frozen stays so
        frozen.eval()
    before = state_of(detector)
    for ask in (detector.score, detector.anomaly_score, detector.score, detector.anomaly_score):
        found = ask(x)
        assert not (isinstance(found, Tensor) and found.requires_grad), "a score has a gradient"
        values = found.float().numpy() if isinstance(found, Tensor) else found
        assert np.array_equal(values, expected), "a score in training mode, or the second, is another"
        require_same(before, state_of(detector))


def check_score_is_of_sample_alone(trial: Trial) -> None:
    """A sample's score depends neither on the batch's size nor on the order or company of samples."""
    detector, x = trial.fitted, trial.test_input()
    expected, order = detector.score(x), np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(detector.score(x[order]), expected[order], **_NEAR, err_msg="in another order")
    np.testing.assert_allclose(detector.score(x, batch_size=3), expected, **_NEAR, err_msg="in batches of 3")
    alone = np.concatenate([detector.score(x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(alone, expected[:3], **_NEAR, err_msg="alone")
    assert detector.score(x[:0]).shape == (0,), "no samples must give no scores"
    assert detector.anomaly_score(x[:0]).shape == (0,), "no samples must give no scores"


def check_verdicts_follow_threshold(trial: Trial) -> None:
    """A sample is an anomaly where its score is above the threshold."""
    x = trial.test_input()
    found = trial.fitted.predict(x)
    assert found.dtype == bool
    assert np.array_equal(found, trial.fitted.score(x) > trial.fitted.threshold.item())


def check_takes_arrays_and_refuses_what_does_not_fit(trial: Trial) -> None:
    """Arrays are scored as tensors are, images in [0, 1] as bytes; other shapes and impossible values are refused."""
    detector, x = trial.fitted, trial.test_input(4)
    assert np.array_equal(detector.score(x.numpy()), detector.score(x))
    assert "the detector was trained on" in _refusal(detector.score, torch.cat([x, x], dim=-1))
    if x.is_floating_point():
        assert "x holds nan" in _refusal(detector.score, torch.full_like(x, torch.nan))
    else:
        assert np.array_equal(detector.score(x / 255), detector.score(x))
        assert "uint8 in 0..255 or floats in [0, 1]" in _refusal(
            detector.score, torch.full_like(x, 2, dtype=torch.float32)
        )


def check_checkpoint_is_whole_detector(trial: Trial) -> None:
    """A checkpoint alone gives back class, arguments, scores and threshold, to the bit, and loads plain values only."""
    path, detector, x = trial.folder / "whole.ckpt", trial.fitted, trial.test_input()
    changed = [name for name, value in described(detector.arguments).items() if value != trial.described[name]]
    assert not changed, f"`build` or training changed the argument {', '.join(changed)}"
    detector.trainer.save_checkpoint(path, weights_only=False)  # Lightning's word for one with optimisers too
    torch.load(path, weights_only=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(987_654_321)  # not that of the fit: what `build` draws and keeps as no buffer is another then
        loaded = load_detector(path)
    assert type(loaded) is type(detector)
    assert described(loaded.arguments) == trial.described, "an argument of the loaded detector is another"
    assert np.array_equal(loaded.score(x), detector.score(x)), "scores of the loaded detector are others"
    assert torch.equal(loaded.threshold, detector.threshold)


def check_same_seed_gives_same_detector(trial: Trial) -> None:
    """A second fit with the same seed ends with the same weights, and shares nothing with the first."""
    before = copy.deepcopy(trial.fitted.state_dict())
    again, _ = trial.fit()
    require_same(before, again.state_dict())
    require_same(before, trial.fitted.state_dict())


def check_fit_goes_on_to_same_bits(trial: Trial) -> None:
    """A fit that was stopped after any of its epochs, and goes on from its checkpoint, ends as one left alone."""
    for epoch in range(trial.max_epochs - 1):
        resumed, _ = trial.fit(trial.checkpoint(epoch))
        require_same(trial.fitted.state_dict(), resumed.state_dict(), f"going on after epoch {epoch}: ")


def check_mixed_precision(trial: Trial) -> None:
    """A fit in bfloat16 ends with finite scores, and whatever it keeps is in float32 or float64."""
    detector, _ = trial.fit(precision="bf16-mixed")
    assert np.isfinite(detector.score(trial.test_input())).all()
    kept = {value.dtype for value in detector.state_dict().values() if value.is_floating_point()}
    assert kept <= {torch.float32, torch.float64}, f"kept as {kept}"


def check_trains_on_what_it_says(trial: Trial) -> None:
    """Known anomalies come only to a detector that uses them; one that needs them is refused a fit without any."""
    detector = type(trial.given)
    if not detector.uses_known_anomalies:
        assert KNOWN_ANOMALY not in trial.watch.known, "uses_known_anomalies is False, a batch had some"
    if detector.needs_known_anomalies and isinstance(trial.data, str):
        options: dict[str, Any] = {"labelled_anomaly_ratio": 0.0}
        without = Trial(trial.given, partial(small_data, trial.data, detector, **options))
        assert "needs known anomalies" in _refusal(without.fit)


CHECKS: tuple[Callable[[Trial], None], ...] = (
    check_constructor_keeps_arguments,
    check_refuses_to_score_untrained,
    check_fit_leaves_scores_and_threshold,
    check_training_moves_weights_of_score,
    check_score_changes_nothing,
    check_score_is_of_sample_alone,
    check_verdicts_follow_threshold,
    check_takes_arrays_and_refuses_what_does_not_fit,
    check_checkpoint_is_whole_detector,
    check_same_seed_gives_same_detector,
    check_fit_goes_on_to_same_bits,
    check_mixed_precision,
    check_trains_on_what_it_says,
)
"""All of them, in the order in which they are run."""


def _refusal(ask: Callable[..., Any], *given: Any) -> str:
    """What a call that must be refused says."""
    try:
        ask(*given)
    except ValueError as refused:
        return str(refused)
    raise AssertionError(
        f"{getattr(ask, '__qualname__', ask)} was not refused, with {[type(x).__name__ for x in given]}"
    )
