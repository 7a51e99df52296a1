"""Steps side by side: in other processes, in order, cached, and each failure on its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parallel_stages import WorkConfig, work
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from components.artifacts import Checkpoint
from components.config import Execution, LifecycleConfig, load
from components.errors import GateFailed
from flows.parallel import SideBySide, places
from flows.session import enter, executing, planning
from flows.steps import step

WORK = step(work)


def story(config: LifecycleConfig, jobs: list[WorkConfig], at_once: int) -> list[Checkpoint]:
    enter("pretrain")
    with SideBySide(config.execution, at_once) as side_by_side:
        calls = [WORK.named(f"work-{job.value}").call(config=job) for job in jobs]
        return side_by_side("work", calls)


@flow(name="test-parallel", validate_parameters=False, persist_result=False)
def run_story(config: LifecycleConfig, jobs: list[WorkConfig], at_once: int) -> list[Checkpoint]:
    with executing(config, None):
        return story(config, jobs, at_once)


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def config(tmp_path: Path) -> LifecycleConfig:
    return load(Path("configs/smoke.toml"), [f"execution.workspace='{tmp_path}'"])


def stages(config: LifecycleConfig) -> dict[str, Any]:
    path = config.execution.workspace / "runs" / "latest" / "report.json"
    content: dict[str, Any] = json.loads(path.read_text())["stages"]
    return content


def jobs(config: LifecycleConfig, *values: int, broken: int | None = None) -> list[WorkConfig]:
    return [WorkConfig(execution=config.execution, value=value, broken=value == broken) for value in values]


def told(artifact: Checkpoint) -> dict[str, int]:
    """What the stage wrote, and where it ran (`logs/process.json`)."""
    found: dict[str, int] = json.loads((Path(artifact.record).parent / "logs" / "process.json").read_text())
    return found | {"value": int((artifact.path / "value").read_text())}


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_side_by_side_runs_elsewhere_and_keeps_the_order(
    config: LifecycleConfig, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Path(__file__).parents[:2]  # a cluster has the code installed
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    execution = config.execution.model_copy(update={"engine": engine, "threads": 2, "workers": 2})
    config = config.model_copy(update={"execution": execution})
    made = [told(each) for each in run_story(config, jobs(config, 3, 1, 2), 2)]
    assert [each["value"] for each in made] == [3, 1, 2]
    assert os.getpid() not in {each["process"] for each in made}
    if engine == "local":
        assert {each["threads"] for each in made} == {1}  # the machine's two are shared out
    assert {name: row["cached"] for name, row in stages(config).items()} == {
        "work-3": False,
        "work-1": False,
        "work-2": False,
    }


def test_side_by_side_runs_only_what_is_not_cached(config: LifecycleConfig) -> None:
    first = run_story(config, jobs(config, 1, 2), 2)
    again = run_story(config, jobs(config, 2, 5, 1, 6), 2)
    assert [again[0], again[2]] == [first[1], first[0]]
    assert {name for name, row in stages(config).items() if not row["cached"]} == {"work-5", "work-6"}
    with planning(config, None) as session:
        story(config, jobs(config, 1, 7), 2)
    assert [(line.name, line.cached) for line in session.planned] == [("work-1", True), ("work-7", False)]


def test_side_by_side_failure_stops_the_flow_and_the_others_are_kept(config: LifecycleConfig) -> None:
    with pytest.raises(GateFailed, match="mend it") as caught:
        run_story(config, jobs(config, 1, 2, 3, broken=2), 2)
    assert caught.value.fix == "mend it"
    mended = run_story(config, jobs(config, 1, 3), 2)
    assert [told(each)["value"] for each in mended] == [1, 3]
    assert all(row["cached"] for row in stages(config).values())


def test_places_follow_the_machine() -> None:
    assert places(Execution(threads=4, device="cpu"), 0) == 4
    assert places(Execution(threads=4, device="cuda"), 0) == 1
    assert places(Execution(threads=4, device="cpu"), 3) == 3
