"""One run of the lifecycle: its id, its folder, what has finished, where to stop; or only a plan of it.

The same story (`lifecycle.py`) runs in two ways. Executing, each step is a Prefect task. Planning
(`opsin run --dry-run`), each step only says whether it is cached or why it would run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from components.config import LifecycleConfig
from components.errors import ConfigError
from components.progress import console
from components.report import StageOutcome, build_summary, write_report
from components.stage import LISTENERS
from components.tracking.runs import Tracker, open_tracker, tracking_uri
from flows.plan import PlannedStep

STAGES = ("curate", "ablate", "pretrain", "sft", "align", "quantize", "export", "deploy")


class Reached(Exception):
    """The stage that `--to` names is done; what follows is not asked for."""


@dataclass
class Session:
    """The run in progress."""

    config: LifecycleConfig
    run_id: str
    to: str | None
    planning: bool
    tracker: Tracker | None = None
    stage: str = ""
    outcomes: list[StageOutcome] = field(default_factory=list)
    planned: list[PlannedStep] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)

    @property
    def runs(self) -> Path:
        return self.config.execution.workspace / "runs"

    @property
    def directory(self) -> Path:
        return self.runs / self.run_id

    def finish(self, error: BaseException | None) -> Path:
        """Write the report, point `runs/latest` at it, close the MLflow run."""
        wall = time.monotonic() - self.begin
        summary = build_summary(
            self.run_id,
            self.config.model_dump(mode="json"),
            self.outcomes,
            wall_s=wall,
            error=None if error is None else f"{error or type(error).__name__}",
        )
        report = write_report(summary, self.outcomes, self.directory)
        latest = self.runs / "latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(self.run_id)
        if self.tracker:
            self.tracker.close(
                status="FINISHED" if error is None else "FAILED",
                tags={"opsin.verdict": summary.verdict},
                files=[report, report.with_name("report.json"), *sorted(report.parent.glob("plots/*"))],
            )
        return report


_current: ContextVar[Session | None] = ContextVar("opsin_session", default=None)


def current() -> Session:
    """The session that the calling story runs in."""
    session = _current.get()
    assert session is not None, "a step runs only inside a session"
    return session


def enter(stage: str) -> None:
    """Begin a stage of the story (its steps and its evaluation belong to it); the banner in the code.

    Raises:
        Reached: the run was asked to end with an earlier stage.
    """
    session = current()
    if session.to and STAGES.index(stage) > STAGES.index(session.to):
        raise Reached(session.to)
    session.stage = stage


def assert_reachable(config: LifecycleConfig, to: str | None) -> None:
    """
    Raises:
        ConfigError: the config is about data alone, and more is asked for.
    """
    if to != STAGES[0] and not config.pretrain.phases:
        raise ConfigError(
            "the config says nothing of training: pretrain.phases is empty",
            where="pretrain.phases",
            fix="end with the data (--to curate), or add [[pretrain.phases]] as in configs/cpu.toml",
        )


@contextmanager
def planning(config: LifecycleConfig, to: str | None) -> Iterator[Session]:
    """A session in which steps are only planned."""
    session = Session(config, run_id="plan", to=to, planning=True)
    token = _current.set(session)
    try:
        yield session
    except Reached:
        pass
    finally:
        _current.reset(token)


@contextmanager
def executing(config: LifecycleConfig, to: str | None) -> Iterator[Session]:
    """A session that runs: opens the MLflow run; whatever happens, leaves a report."""
    from flows import show  # Prefect is imported once its server is known

    assert_reachable(config, to)
    run_id = f"{config.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    session = Session(config, run_id=run_id, to=to, planning=False)
    session.directory.mkdir(parents=True)
    config.execution.home.mkdir(parents=True, exist_ok=True)
    session.tracker = open_tracker(
        tracking_uri(config.tracking, config.execution),
        config.tracking.experiment,
        run_id=run_id,
        config=config.model_dump(mode="json"),
        artifacts=config.execution.home / "mlflow-artifacts",
    )
    token = _current.set(session)
    error: BaseException | None = None
    LISTENERS.append(show.event)
    try:
        yield session
    except Reached:
        pass
    except BaseException as problem:
        error = problem
        raise
    finally:
        LISTENERS.remove(show.event)
        _current.reset(token)
        report = session.finish(error)
        console.print(f"[bold]report[/] {report}")
