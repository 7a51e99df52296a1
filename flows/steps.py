"""A stage as a step of the story: a Prefect task whose cache key is the stage's fingerprint."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, ParamSpec, cast

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext

from components.artifacts import ArtifactT
from components.errors import OpsinError, ServerError, SourceError
from components.progress import console
from components.report import StageOutcome
from components.stage import Stage
from flows import show
from flows.plan import Pending, PlannedStep, explain, last_record, waits_for
from flows.session import Session, current

P = ParamSpec("P")


@dataclass
class ByFingerprint(CachePolicy):
    """Prefect's cache key is the fingerprint, which the step computed from config, code and parents."""

    fingerprint: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        return self.fingerprint


@dataclass(frozen=True)
class Step(Generic[P, ArtifactT]):
    """A stage with how it is run: its name in this story, and retries."""

    stage: Stage[P, ArtifactT]
    name: str
    retries: int = 0
    retry_delay_s: float = 10.0

    def named(self, name: str) -> Step[P, ArtifactT]:
        """The same stage under another name (`evaluate-sft`, `proxy-3`)."""
        return replace(self, name=name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> ArtifactT:
        session = current()
        if session.planning:
            return self.plan(session, *args, **kwargs)
        return self._execute(session, *args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[ArtifactT]:
        """What `self(...)` would run, for later."""
        return Call(self, kwargs)

    def plan(self, session: Session, *args: P.args, **kwargs: P.kwargs) -> ArtifactT:
        """What an earlier run left; else a `Pending` in its place, with why it would run."""
        waits = waits_for(kwargs)
        if waits:
            why = f"waits for {', '.join(waits)}"
            session.planned.append(PlannedStep(self.name, session.stage, False, why))
            return cast("ArtifactT", Pending(self.name))
        done = self.stage.finished(*args, **kwargs)
        if done is not None:
            session.planned.append(PlannedStep(self.name, session.stage, True, "same fingerprint"))
            return done
        last = last_record(session.runs, self.name, session.config.name)
        why = explain(last, self.stage.identity(*args, **kwargs))
        session.planned.append(PlannedStep(self.name, session.stage, False, why))
        return cast("ArtifactT", Pending(self.name))

    def _execute(self, session: Session, *args: P.args, **kwargs: P.kwargs) -> ArtifactT:
        work = self.prepare(session, *args, **kwargs)
        begin = time.monotonic()
        try:
            artifact = work.task(*args, **kwargs)
        finally:
            seconds = time.monotonic() - begin
            session.outcomes.append(work.outcome(seconds))
        work.finish(session, artifact, seconds)
        return artifact

    def prepare(self, session: Session, *args: P.args, **kwargs: P.kwargs) -> Work[P, ArtifactT]:
        """The stage as a Prefect task, ready to run here or in another process."""
        cached = self.stage.finished(*args, **kwargs) is not None
        identity = self.stage.identity(*args, **kwargs)
        directory = self.stage.directory(identity, cast("Any", kwargs["config"]))
        console.print(
            f"[dim]{self.name}[/] cached {identity.fingerprint[:8]}" if cached else f"[bold]{self.name}[/]"
        )
        task: Task[P, ArtifactT] = Task(
            self.stage,
            name=self.stage.name,
            task_run_name=self.name,
            description=self.stage.__doc__,
            tags=[session.stage],
            cache_policy=ByFingerprint(fingerprint=identity.fingerprint),
            refresh_cache=not cached,  # a persisted result whose output was deleted is not a hit
            persist_result=True,
            result_serializer="json",
            retries=self.retries,
            retry_delay_seconds=self.retry_delay_s,
            retry_condition_fn=_worth_retrying,
        )
        return Work(self.name, task, directory / "record.json", cached)


@dataclass(frozen=True)
class Call(Generic[ArtifactT]):
    """A step with what it is called with."""

    step: Step[Any, ArtifactT]
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Work(Generic[P, ArtifactT]):
    """A step about to run, and what is told of it afterwards."""

    name: str
    task: Task[P, ArtifactT]
    record: Path
    cached: bool

    def outcome(self, seconds: float) -> StageOutcome:
        """The row of the run's report."""
        return StageOutcome(name=self.name, record=self.record, cached=self.cached, seconds=round(seconds, 2))

    def finish(self, session: Session, artifact: ArtifactT, seconds: float) -> None:
        """Tell whoever watches: the terminal, MLflow, Prefect."""
        console.print(f"[green]✓[/] {self.name} [dim]{seconds:.1f} s  {artifact.digest[:8]}[/]")
        if session.tracker:
            session.tracker.log_stage(self.name, self.record, cached=self.cached)
        show.stage(self.name, artifact)


def step(stage: Stage[P, ArtifactT], *, retries: int = 0) -> Step[P, ArtifactT]:
    """A stage as a step, under its own name."""
    return Step(stage, stage.name, retries)


def _worth_retrying(task: Any, task_run: Any, state: Any) -> bool:
    """A user's mistake or a failed gate stays one; a network or a server may come back."""
    problem = state.result(raise_on_failure=False)
    return not isinstance(problem, OpsinError) or isinstance(problem, (SourceError, ServerError))
