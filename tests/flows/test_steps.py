"""Steps in a session: cached by fingerprint, planned with a reason, reported when they fail."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from components.artifacts import Checkpoint
from components.config import LifecycleConfig, StageConfig, load
from components.errors import ConfigError, GateFailed
from components.gates import GateResult
from components.stage import Fields, Run, stage
from flows.session import enter, executing, planning
from flows.steps import step


class CountConfig(StageConfig):
    value: int = 1
    broken: bool = False


@stage("first", Checkpoint)
def first(run: Run, *, config: CountConfig) -> Fields:
    (run.output / "value").write_text(str(config.value))
    return {"contract": "c"}


@stage("second", Checkpoint)
def second(run: Run, *, config: CountConfig, checkpoint: Checkpoint) -> Fields:
    run.log(1, loss=0.5)
    run.gate(GateResult(name="whole", passed=not config.broken, observed="x", required="y", fix="mend it"))
    (run.output / "value").write_text((checkpoint.path / "value").read_text() + "!")
    return {"contract": "c"}


FIRST, SECOND = step(first), step(second)


def story(config: LifecycleConfig, one: CountConfig, two: CountConfig) -> Checkpoint:
    enter("curate")
    made = FIRST(config=one)
    enter("pretrain")
    return SECOND(config=two, checkpoint=made)


@flow(name="test-story", validate_parameters=False, persist_result=False)
def run_story(config: LifecycleConfig, one: CountConfig, two: CountConfig, to: str | None = None) -> None:
    with executing(config, to):
        story(config, one, two)


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def config(tmp_path: Path) -> LifecycleConfig:
    return load(Path("configs/smoke.toml"), [f"execution.workspace='{tmp_path}'"])


def report(config: LifecycleConfig) -> dict[str, object]:
    path = config.execution.workspace / "runs" / "latest" / "report.json"
    content: dict[str, object] = json.loads(path.read_text())
    return content


def settings(config: LifecycleConfig, **values: object) -> CountConfig:
    return CountConfig.model_validate({"execution": config.execution, **values})


def test_steps_second_run_is_cached_and_plan_says_why(config: LifecycleConfig) -> None:
    one, two = settings(config), settings(config)
    run_story(config, one, two)
    ran = report(config)["stages"]
    assert [(name, s["cached"]) for name, s in ran.items()] == [("first", False), ("second", False)]  # type: ignore[attr-defined]

    with planning(config, None) as session:
        story(config, one, two)
    assert [line.cached for line in session.planned] == [True, True]

    with planning(config, None) as session:
        story(config, one, settings(config, value=7))
    assert [line.cached for line in session.planned] == [True, False]
    assert "second.value: 1 → 7" in session.planned[1].why

    with planning(config, None) as session:
        story(config, settings(config, value=2), two)
    assert session.planned[1].why == "waits for first"


def test_steps_deleted_output_runs_again_although_prefect_remembers(config: LifecycleConfig) -> None:
    one, two = settings(config), settings(config)
    run_story(config, one, two)
    record = Path(report(config)["stages"]["second"]["record"])  # type: ignore[index]
    os.remove(record)
    run_story(config, one, two)
    assert record.exists()


def test_steps_failed_gate_stops_the_flow_and_is_reported(config: LifecycleConfig) -> None:
    with pytest.raises(GateFailed, match="mend it"):
        run_story(config, settings(config), settings(config, broken=True))
    summary = report(config)
    assert summary["verdict"] == "stopped"
    assert [gate["passed"] for gate in summary["gates"]] == [False]  # type: ignore[attr-defined]


def test_steps_to_ends_after_the_named_stage(config: LifecycleConfig) -> None:
    run_story(config, settings(config), settings(config), to="ablate")
    assert list(report(config)["stages"]) == ["first"]  # type: ignore[call-overload]


def test_config_of_data_alone_ends_with_the_data(config: LifecycleConfig) -> None:
    alone = config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"phases": ()})})
    run_story(alone, settings(config), settings(config), to="curate")
    assert list(report(config)["stages"]) == ["first"]  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="--to curate"):
        run_story(alone, settings(config), settings(config))
