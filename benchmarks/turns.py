"""Sides of a comparison timed in turns, in one process: a machine whose speed drifts treats them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def take_turns(name: str, sides: dict[str, Callable[[], None]], rounds: int, calls: int, device: str) -> None:
    """Print each side's median milliseconds a call, and its ratio to the first side; each is called once before."""
    for step in sides.values():
        step()  # warms up, compiles
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, step in sides.items():
            times[side].append(_seconds(step, calls, device))
    medians = {side: statistics.median(t) for side, t in times.items()}
    first = next(iter(sides))
    for side, median in medians.items():
        print(f"{name} {side}: {1000 * median:.1f} ms a call, {median / medians[first]:.3f} times {first}", flush=True)


def _seconds(step: Callable[[], None], calls: int, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / calls
