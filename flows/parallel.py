"""Steps that do not wait for each other, side by side: in processes of this machine, or on a Ray cluster.

    with SideBySide(config.execution, at_once=2) as side_by_side:
        proxies = side_by_side("proxies", [train.named(...).call(config=..., ...), ...])

Each is a task of the same flow run, with the same cache and record as if it had run alone. The machine's
threads are shared out: small models train more tokens on two single threads than on two threads together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, cast

import torch
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from components.artifacts import ArtifactT
from components.config import Execution, StageConfig
from components.processes.cluster import ray_cluster
from components.processes.workers import die_with_parent
from components.progress import Bar, hush
from components.stage import LISTENERS
from flows import show
from flows.session import Session, current
from flows.steps import Call, Work


class SideBySide:
    """Runs steps at the same time; its processes start at the first need and stay until it is left.

    Args:
        execution: Its `engine` says where; its threads and workers are shared out over the processes.
        at_once: Steps at a time on this machine; a Ray cluster runs what it has room for.
    """

    def __init__(self, execution: Execution, at_once: int) -> None:
        self._at_once = at_once
        self._execution = execution
        self._stack = ExitStack()
        self._runner: TaskRunner[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def __call__(self, title: str, calls: Sequence[Call[ArtifactT]]) -> list[ArtifactT]:
        """Their artifacts, in the order of `calls`.

        When one fails the others run to their end, and are not run again the next time.

        Raises:
            OpsinError: the first that any of them raised.
        """
        session = current()
        if session.planning:
            return [each.step.plan(session, **each.inputs) for each in calls]
        todo = [each for each in calls if each.step.stage.finished(**each.inputs) is None]
        if len(todo) < 2 or (self._at_once == 1 and self._execution.engine == "local"):
            return [each.step(**each.inputs) for each in calls]
        waiting = {id(each) for each in todo}
        done = {id(each): each.step(**each.inputs) for each in calls if id(each) not in waiting}
        done |= self._run(session, title, todo)
        return [done[id(each)] for each in calls]

    def _run(self, session: Session, title: str, calls: list[Call[ArtifactT]]) -> dict[int, ArtifactT]:
        """Call's id → artifact."""
        runner = self._runner or self._start()
        running: dict[PrefectFuture[ArtifactT], tuple[Call[ArtifactT], Work[Any, ArtifactT]]] = {}
        begin = time.monotonic()
        for each in calls:
            work = each.step.prepare(session, **each.inputs)
            running[runner.submit(work.task, self._share(each.inputs))] = (each, work)
        done, problems = dict[int, ArtifactT](), list[BaseException]()
        with Bar(title, total=len(calls), unit="run") as bar:
            for future in as_completed(list(running)):
                call, work = running[future]
                try:
                    done[id(call)] = future.result()
                except Exception as problem:
                    problems.append(problem)
                    session.outcomes.append(work.outcome(time.monotonic() - begin))
                else:
                    seconds = done[id(call)].load_record().seconds
                    session.outcomes.append(work.outcome(seconds))
                    work.finish(session, done[id(call)], seconds)
                bar.advance()
        if problems:
            raise problems[0]
        return done

    def _share(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs, with a config that takes one process's share of this machine."""
        if self._execution.engine == "ray":
            return inputs
        config = cast("StageConfig", inputs["config"])
        mine = config.execution
        shares = {name: max(1, getattr(mine, name) // self._at_once) for name in ("threads", "workers")}
        return {**inputs, "config": config.model_copy(update={"execution": mine.model_copy(update=shares)})}

    def _start(self) -> TaskRunner[Any]:
        if self._execution.engine == "ray":
            self._runner = _ray(self._execution, self._stack)
        else:
            pool = ProcessPoolTaskRunner(max_workers=self._at_once, initializer=_in_a_worker)
            self._runner = self._stack.enter_context(pool)
        return self._runner


def places(execution: Execution, at_once: int) -> int:
    """Runs at a time on this machine: as asked; else one for each thread of a CPU, one on a GPU."""
    if at_once:
        return at_once
    on_gpu = execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())
    return 1 if on_gpu else execution.threads


def _in_a_worker() -> None:
    die_with_parent()
    hush()
    LISTENERS.append(show.event)


def _ray(execution: Execution, stack: ExitStack) -> TaskRunner[Any]:
    """Each step takes the threads of its config, and a GPU where the cluster has any."""
    from prefect_ray import RayTaskRunner  # imports Ray
    from prefect_ray.context import remote_options

    ray = stack.enter_context(ray_cluster(execution.ray_address, execution.workers))
    runner = stack.enter_context(RayTaskRunner())  # of the cluster that is connected
    gpus = min(1, int(ray.cluster_resources().get("GPU", 0)))
    stack.enter_context(remote_options(num_cpus=execution.threads, num_gpus=gpus))
    return cast("TaskRunner[Any]", runner)
