"""Engines: run the same functions over many pieces of work, on processes of this machine or on Ray.

    with open_engine(config.execution) as engine:
        for result in engine.map(function, jobs):
            ...

A function gets one job and writes its result into a file of its own, so that it may run anywhere that
sees the workspace, in any order, and again after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from components.config import Execution
from components.processes.cluster import ray_cluster
from components.processes.workers import die_with_parent

T = TypeVar("T")
R = TypeVar("R")
MIN_JOBS_FOR_POOL = 12
"""Below this, starting worker processes takes longer than the work."""


class Engine(Protocol):
    """Where data work runs."""

    def map(self, function: Callable[[T], R], jobs: Sequence[T]) -> Iterator[R]:
        """Results in the order in which they come; an exception of one job is raised here."""


@contextmanager
def open_engine(execution: Execution) -> Iterator[Engine]:
    """The engine that the config names, for as long as it is needed."""
    with ExitStack() as stack:
        if execution.engine == "ray":
            yield RayEngine(stack.enter_context(ray_cluster(execution.ray_address, execution.workers)))
        else:
            yield LocalEngine(execution.workers, stack)


class LocalEngine:
    """Processes of this machine; started at the first piece of work that is worth it, kept until the end."""

    def __init__(self, workers: int, stack: ExitStack) -> None:
        self.workers, self._stack = workers, stack
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[T], R], jobs: Sequence[T]) -> Iterator[R]:
        if self.workers == 1 or (self._pool is None and len(jobs) < MIN_JOBS_FOR_POOL):
            yield from map(function, jobs)
            return
        pool = self._start()
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            yield future.result()

    def _start(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # spawn: the caller may hold threads (torch, Prefect), which a forked child would deadlock on.
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=die_with_parent
            )
            self._stack.callback(self._pool.shutdown, cancel_futures=True)
        return self._pool


class RayEngine:
    """Tasks of a Ray cluster; every node must see the workspace (a shared file system)."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def map(self, function: Callable[[T], R], jobs: Sequence[T]) -> Iterator[R]:
        shared = self._ray.put(function)  # once, not with every job
        call = self._ray.remote(num_cpus=1)(_call)
        window = max(8, int(4 * self._ray.cluster_resources().get("CPU", 1)))
        waiting = iter(jobs)
        # A window, because waiting for one of n costs n each time: 16,000 jobs at once took 2.6 ms each.
        pending = [call.remote(shared, job) for job in islice(waiting, window)]
        while pending:
            done, pending = self._ray.wait(pending, num_returns=1)
            pending += [call.remote(shared, job) for job in islice(waiting, 1)]
            yield self._ray.get(done[0])


def _call(function: Callable[[T], R], job: T) -> R:
    return function(job)
