"""A stage that another process can import: what tests of running side by side run."""

from __future__ import annotations

import json
import os

from components.artifacts import Checkpoint
from components.config import StageConfig
from components.gates import GateResult
from components.stage import Fields, Run, stage


class WorkConfig(StageConfig):
    value: int = 1
    broken: bool = False


@stage("work", Checkpoint)
def work(run: Run, *, config: WorkConfig) -> Fields:
    """Write a number, and say which process it was written in."""
    run.gate(GateResult(name="whole", passed=not config.broken, observed="x", required="y", fix="mend it"))
    (run.output / "value").write_text(str(config.value))
    place = {"process": os.getpid(), "threads": config.execution.threads}
    (run.logs / "process.json").write_text(json.dumps(place))
    return {"contract": "c"}
