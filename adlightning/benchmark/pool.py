"""Worker processes, each with its own device and share of the CPU, which run tasks one after the other."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing as mp
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from typing import Any

from adlightning.benchmark.grid import Cell
from adlightning.benchmark.packed_run import run_pack
from adlightning.benchmark.packing import Pack
from adlightning.benchmark.store import Results, Row
from adlightning.benchmark.tasks import Task
from adlightning.benchmark.worker import RunVerb, now, run_task

_FORKED, _SPAWNED = mp.get_context("forkserver"), mp.get_context("spawn")


def find_devices(devices: str) -> list[str]:
    """Devices by name: `cpu`, or `cuda:0` and so on.

    Args:
        devices: `auto` (every visible GPU, else the CPU), `cpu`, or `cuda:0,cuda:2`.

    Raises:
        ValueError: another name, or a GPU that is not there.
    """
    visible = _visible_gpus()
    if devices == "auto":
        return visible or ["cpu"]
    chosen = devices.split(",")
    for device in chosen:
        if device != "cpu" and device not in visible:
            raise ValueError(f"devices: there is no {device}; there are {', '.join(['cpu', *visible])}")
    return chosen


def _visible_gpus() -> list[str]:
    """GPUs without importing torch; `cuda:i` is the i-th that this process may see."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        names = [name.strip() for name in allowed.split(",")]
        return [f"cuda:{i}" for i, name in enumerate(names) if name and not name.startswith("-")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [f"cuda:{i}" for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]


def _visible_name(device: str) -> str:
    """What CUDA_VISIBLE_DEVICES calls this device; empty for the CPU."""
    if device == "cpu":
        return ""
    number = int(device.removeprefix("cuda:"))
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",")[number] if allowed else str(number)


@dataclass
class Worker:
    """A process, the pipe to it, and what it is at."""

    device: str
    cores: frozenset[int]
    process: Any
    pipe: Connection
    task: Task | Pack | None = None
    waiting: list[Cell] = field(default_factory=list)  # of the task, whose rows have not come yet
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Processes over the devices in turn; several share a device when there are more processes than devices.

    Args:
        results: where each worker keeps its rows.
        devices: names of devices, from :func:`find_devices`.
        jobs: number of processes, at least 1.
        run_verb: what fits and tests a cell.
        preload: modules that it needs, imported once for all processes of the CPU.
        keep_checkpoints: keep each run's checkpoint.
    """

    def __init__(
        self,
        results: Results,
        devices: Sequence[str],
        jobs: int,
        run_verb: RunVerb,
        preload: Sequence[str] = (),
        keep_checkpoints: bool = False,
    ) -> None:
        self.results, self.run_verb, self.keep_checkpoints = results, run_verb, keep_checkpoints
        _FORKED.set_forkserver_preload(list(preload))
        self.threads = max(1, len(_cores()) // jobs)
        self.devices = [devices[i % len(devices)] for i in range(jobs)]
        self.cores = shares_of(_cores(), jobs)
        self.workers: list[Worker] = []
        self._again: list[Task] = []  # of packs whose process died, of which each is to be tried alone

    def run(
        self,
        tasks: Iterable[Task | Pack],
        finished: Callable[[Cell, Row], None],
        watch: Callable[[], None],
        stop: Callable[[], bool],
    ) -> None:
        """Run tasks in order until none is left or `stop()`; those under way are finished.

        Args:
            tasks: what to run, each taken when a process is free for it.
            finished: told of every cell that is done or failed.
            watch: called a few times a second.
            stop: whether no further task may begin.
        """
        waiting = iter(tasks)
        try:
            for device, cores in zip(self.devices, self.cores, strict=True):
                self.workers.append(self._start(device, cores))
            while True:
                for position, worker in enumerate(self.workers):
                    if worker.task is None and not stop() and (task := self._next(waiting)) is not None:
                        if not worker.process.is_alive():  # killed while it had nothing to do
                            worker = self.workers[position] = self._start(worker.device, worker.cores)
                        worker.task, worker.since = task, time.monotonic()
                        worker.waiting = list(worker.task.cells)
                        with contextlib.suppress(OSError):  # it is dead, which is seen below
                            worker.pipe.send(worker.task)
                if all(worker.task is None for worker in self.workers):
                    return
                wait([worker.pipe for worker in self.workers], timeout=0.25)
                self._collect(finished)
                watch()
        finally:
            for worker in self.workers:
                worker.process.kill()  # idle, or its cell is given up: nothing of that is kept
                worker.process.join()

    def _next(self, waiting: Iterator[Task | Pack]) -> Task | Pack | None:
        return self._again.pop(0) if self._again else next(waiting, None)

    def give_up(self, cell: Cell) -> None:
        """End the process that is at a cell; a failed row comes of it, and another process takes its place."""
        for worker in self.workers:
            if cell in worker.waiting:
                worker.process.kill()
                worker.process.join()

    def _collect(self, finished: Callable[[Cell, Row], None]) -> None:
        for position, worker in enumerate(self.workers):
            if not worker.pipe.poll():
                continue
            try:
                came: tuple[Cell, Row] | OSError | None = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                if isinstance(worker.task, Pack):
                    self._again += worker.task.left(worker.waiting)
                else:
                    for cell in worker.waiting:
                        finished(cell, self._lost(cell, worker))
                self.workers[position] = self._start(worker.device, worker.cores)
                continue
            if isinstance(came, OSError):
                raise came
            if came is None:
                worker.task = None
            else:
                cell, row = came
                worker.waiting.remove(cell)
                worker.since = time.monotonic()
                finished(cell, row)

    def _lost(self, cell: Cell, worker: Worker) -> Row:
        """A row for a cell whose process died under it, or under the fit that it scores."""
        code = worker.process.exitcode
        name = signal.Signals(-code).name if code < 0 else f"code {code}"
        hint = " (out of memory?)" if name == "SIGKILL" else "" if code < 0 else ", its message is on the terminal"
        row: Row = {"status": "failed", "error": f"the worker process ended with {name}{hint}"}
        row |= {"code": cell.code, "finished": now()}
        row |= {"seconds": {"total": round(time.monotonic() - worker.since, 3)}}
        self.results.write(cell, row)
        return row

    def _start(self, device: str, cores: frozenset[int]) -> Worker:
        # On the CPU, forked from one that has imported everything, which takes seconds; CUDA does not survive a fork.
        context = _FORKED if device == "cpu" else _SPAWNED
        ours, theirs = context.Pipe()
        environment = dict(os.environ) | {"CUDA_VISIBLE_DEVICES": _visible_name(device)}
        pinned = cores if device == "cpu" else frozenset()
        arguments = (theirs, self.results, self.run_verb, self.keep_checkpoints, environment, self.threads, pinned)
        process = context.Process(target=_serve, args=arguments)
        process.start()
        theirs.close()  # so that a worker's death is seen here
        return Worker(device, cores, process, ours)


def shares_of(cores: Sequence[int], jobs: int) -> list[frozenset[int]]:
    """Cores for each of several processes to stay on, all of them shared out; none where there are more processes.

    Neighbours stay together: they often share a cache.
    """
    if jobs > len(cores):
        return [frozenset()] * jobs
    ends = [i * len(cores) // jobs for i in range(jobs + 1)]
    return [frozenset(cores[a:b]) for a, b in pairwise(ends)]


def _cores() -> list[int]:
    """Cores that this process may use, by number."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _serve(
    pipe: Connection,
    results: Results,
    run_verb: RunVerb,
    keep_checkpoints: bool,
    environment: dict[str, str],
    threads: int,
    cores: frozenset[int],
) -> None:
    """A worker's life: environment before CUDA is asked for, then tasks until the pipe closes.

    Back come a cell and its row for each, then None; or an OSError.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if cores and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # a container may forbid it: the system then places it
            os.sched_setaffinity(0, cores)
    os.environ.update(environment)  # forked, it has that of the process it is forked from
    if "OMP_NUM_THREADS" not in environment:  # else libraries take what it says
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(threads))  # for those not loaded yet; the others are told below
        import torch
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(threads)
        threadpool_limits(threads)
    fresh = True
    with contextlib.suppress(EOFError):
        while True:
            task, failed = pipe.recv(), False
            try:
                run = run_pack if isinstance(task, Pack) else run_task
                for cell, row in run(task, results, run_verb, keep_checkpoints):
                    pipe.send((cell, row))
                    failed = failed or row["status"] == "failed"
            except OSError as error:  # what came of a cell cannot be kept, nor what comes of others
                pipe.send(error)
                return
            pipe.send(None)
            if fresh:  # what is left is what was imported: collecting what later cells leave need not look at it
                gc.freeze()
                fresh = False
            if environment["CUDA_VISIBLE_DEVICES"] and failed:
                return  # a fault may have left CUDA unusable in this process: the next task gets a new one


def _end_with_parent() -> None:
    parent = mp.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
