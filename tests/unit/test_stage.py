"""What every stage shares: caching, resumption, identity, gates, the record."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import Checkpoint, Mixture, Record, digest_directory
from components.config import Execution, StageConfig, execution_field
from components.errors import ArtifactMissing, GateFailed
from components.gates.result import GateResult
from components.stage import Fields, Run, Stage, git_commit, stage


class TrainConfig(StageConfig):
    steps: int = 3
    log_every: int = execution_field(1)


def config(workspace: Path, **values: Any) -> TrainConfig:
    return TrainConfig(execution=Execution(workspace=workspace), **values)


def counting() -> tuple[Stage[..., Mixture], list[Run]]:
    """A stage that writes its steps, and the runs that really happened."""
    runs: list[Run] = []

    @stage("ablate", Mixture)
    def ablate(run: Run, *, config: TrainConfig, base: Mixture | None = None) -> Fields:
        runs.append(run)
        (run.output / "mixture.toml").write_text(f"steps = {config.steps}\n")
        run.log(1, loss=2.0)
        run.metrics["loss"] = 2.0
        run.gate(GateResult(name="sane", passed=True, observed="2.0", required="finite"))
        return {"name": "m", "weights": {"vqa": 1.0}}

    return ablate, runs


def failing(passed: bool, blocking: bool = True) -> Stage[..., Mixture]:
    @stage("ablate", Mixture)
    def ablate(run: Run, *, config: TrainConfig) -> Fields:
        (run.logs / "rejected.txt").write_text("kept")
        run.gate(GateResult(name="first", passed=True, observed="1", required="1"))
        run.gate(
            GateResult(
                name="rank",
                passed=passed,
                blocking=blocking,
                observed="0.1",
                required="0.3",
                fix="more proxies",
            )
        )
        return {"name": "m", "weights": {}}

    return ablate


def test_stage_called_twice_runs_once(tmp_path: Path) -> None:
    ablate, runs = counting()
    first = ablate(config=config(tmp_path))
    assert ablate(config=config(tmp_path)) == first
    assert len(runs) == 1
    assert ablate.finished(config=config(tmp_path)) == first


def test_stage_never_run_is_not_finished(tmp_path: Path) -> None:
    ablate, _ = counting()
    assert ablate.finished(config=config(tmp_path)) is None
    assert not (tmp_path / ".opsin").exists()


def test_stage_with_a_pin_runs_again_when_what_the_config_names_has_changed(tmp_path: Path) -> None:
    outside, seen = tmp_path / "outside", list[int]()
    outside.write_text("4")

    @stage(
        "ablate", Mixture, pin=lambda config: config.model_copy(update={"steps": int(outside.read_text())})
    )
    def ablate(run: Run, *, config: TrainConfig) -> Fields:
        seen.append(config.steps)
        return {"name": "m", "weights": {}}

    first = ablate(config=config(tmp_path))
    assert ablate.finished(config=config(tmp_path)) == first
    assert first.load_record().config["steps"] == 4
    outside.write_text("5")
    assert ablate.finished(config=config(tmp_path)) is None
    assert ablate(config=config(tmp_path)).record != first.record
    assert seen == [4, 5]


def test_stage_other_identity_runs_again(tmp_path: Path) -> None:
    ablate, runs = counting()
    base = ablate(config=config(tmp_path))
    ablate(config=config(tmp_path, steps=4))
    ablate(config=config(tmp_path, seed=1))
    ablate(config=config(tmp_path), base=base)
    assert len({run.fingerprint for run in runs}) == len(runs) == 4


def test_stage_other_execution_setting_is_cached(tmp_path: Path) -> None:
    ablate, runs = counting()
    ablate(config=config(tmp_path))
    ablate(config=TrainConfig(execution=Execution(workspace=tmp_path, threads=1, device="cpu"), log_every=7))
    assert len(runs) == 1


def test_record_holds_what_happened_and_who_came_before(tmp_path: Path) -> None:
    ablate, runs = counting()
    base = ablate(config=config(tmp_path))
    artifact = ablate(config=config(tmp_path, steps=4), base=base)
    record = artifact.load_record()
    assert record.stage == "ablate"
    assert record.fingerprint == record.identity.fingerprint == runs[1].fingerprint
    assert record.metrics == {"loss": 2.0}
    assert [gate.name for gate in record.gates] == ["sane"]
    assert [(p.name, p.digest, p.record) for p in record.parents] == [("base", base.digest, base.record)]
    assert record.config["steps"] == 4 and record.config["execution"]["threads"] == 2
    assert "execution" not in record.identity.config and "log_every" not in record.identity.config
    assert artifact.digest == digest_directory(artifact.path)
    assert Mixture.model_validate(record.artifact) == artifact


def test_stage_output_deleted_runs_again(tmp_path: Path) -> None:
    ablate, runs = counting()
    artifact = ablate(config=config(tmp_path))
    (artifact.path / "mixture.toml").unlink()
    artifact.path.rmdir()
    assert ablate(config=config(tmp_path)) == artifact
    assert len(runs) == 2


def test_stage_that_raises_resumes_in_the_same_directory(tmp_path: Path) -> None:
    attempts: list[Path] = []

    @stage("pretrain", Mixture)
    def pretrain(run: Run, *, config: TrainConfig) -> Fields:
        attempts.append(run.directory)
        state = run.scratch / "step"
        start = int(state.read_text()) if state.exists() else 0
        run.forget_steps_after(start)
        for step in range(start + 1, config.steps + 1):
            run.log(step, loss=1.0 / step)
            if step == 3 and not start:
                raise RuntimeError("power cut")
            state.write_text(str(step))
        return {"name": "m", "weights": {}}

    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(config=config(tmp_path, steps=5))
    directory = attempts[0]
    assert not (directory / "record.json").exists()
    assert (directory / "scratch" / "step").read_text() == "2"
    pretrain(config=config(tmp_path, steps=5))
    assert attempts == [directory, directory]
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert not (directory / "scratch").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from components.artifacts import Mixture
from components.config import Execution, StageConfig
from components.stage import Run, stage

@stage("pretrain", Mixture)
def pretrain(run: Run, *, config: StageConfig) -> dict:
    state = run.scratch / "step"
    if not state.exists():
        state.write_text("2")
        os.kill(os.getpid(), signal.SIGKILL)
    (run.output / "answer").write_text(state.read_text())
    return {"name": "m", "weights": {}}

print(pretrain(config=StageConfig(execution=Execution(workspace=Path(sys.argv[1])))).digest)
"""


def test_stage_killed_continues_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command).returncode == -9
    (directory,) = (path for path in (tmp_path / ".opsin/artifacts/pretrain").iterdir() if path.is_dir())
    assert (directory / "scratch/step").read_text() == "2"
    clock = directory / "scratch/clock.json"
    began = (directory / "scratch/step").stat().st_mtime - 100  # as if it had been killed after 100 s
    clock.write_text(json.dumps({"earlier": 5.0, "started": began}))
    os.utime(clock, (began, began))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (directory / "output/answer").read_text() == "2"
    record = Record.load(directory / "record.json")
    assert record.artifact["digest"] == done.stdout.strip()
    assert record.seconds >= 105  # what a killed attempt took counts, up to its last sign of life


@pytest.mark.parametrize("value", [Path("model"), 3, {"a": 1}, [1, 2], object()])
def test_stage_unfingerprintable_input_is_refused(tmp_path: Path, value: object) -> None:
    ablate, runs = counting()
    with pytest.raises(ArtifactMissing, match=r"input 'base' of type .* cannot be fingerprinted"):
        ablate(config=config(tmp_path), base=value)
    assert not runs


def test_stage_list_of_artifacts_counts_in_its_order(tmp_path: Path) -> None:
    @stage("join", Mixture)
    def join(run: Run, *, config: TrainConfig, parts: tuple[Mixture, ...]) -> Fields:
        return {"name": "m", "weights": {}}

    ablate, _ = counting()
    one, two = (ablate(config=config(tmp_path, steps=n)) for n in (1, 2))
    forward = join.identity(config=config(tmp_path), parts=(one, two))
    assert forward == join.identity(config=config(tmp_path), parts=(one, two))
    assert forward.fingerprint != join.identity(config=config(tmp_path), parts=(two, one)).fingerprint
    record = join(config=config(tmp_path), parts=(one, two)).load_record()
    assert [parent.name for parent in record.parents] == ["parts.0", "parts.1"]


def test_gate_blocking_failed_stops_without_record_and_keeps_the_evidence(tmp_path: Path) -> None:
    with pytest.raises(GateFailed, match=r"gate 'rank' failed: observed 0.1; required 0.3") as caught:
        failing(passed=False)(config=config(tmp_path))
    assert caught.value.fix == "more proxies"
    (directory,) = (path for path in (tmp_path / ".opsin/artifacts/ablate").iterdir() if path.is_dir())
    assert not (directory / "record.json").exists()
    gates = [GateResult.model_validate(gate) for gate in json.loads((directory / "gates.json").read_text())]
    assert [(gate.name, gate.passed) for gate in gates] == [("first", True), ("rank", False)]
    assert (directory / "logs/rejected.txt").read_text() == "kept"


def test_gate_not_blocking_failed_is_recorded_and_the_stage_ends(tmp_path: Path) -> None:
    artifact = failing(passed=False, blocking=False)(config=config(tmp_path))
    assert [gate.passed for gate in artifact.load_record().gates] == [True, False]


def test_gate_passed_stage_ends(tmp_path: Path) -> None:
    assert failing(passed=True)(config=config(tmp_path)).name == "m"


def test_stage_without_its_own_fields_is_refused(tmp_path: Path) -> None:
    @stage("pretrain", Checkpoint)
    def pretrain(run: Run, *, config: TrainConfig) -> Fields:
        return {}

    with pytest.raises(ValueError, match="contract"):
        pretrain(config=config(tmp_path))


def test_record_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="lineage record is missing"):
        Record.load(tmp_path / "record.json")


def test_digest_directory_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = digest_directory(tmp_path)
    os.rename(tmp_path / "a", tmp_path / "b")
    renamed = digest_directory(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({before, renamed, digest_directory(tmp_path)}) == 3


def test_commit_is_dirty_when_code_differs_and_not_when_a_run_wrote_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.stage.ROOT", tmp_path)
    assert git_commit.__wrapped__() == "unknown"
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1")
    for arguments in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    commit = git_commit.__wrapped__()
    assert len(commit) == 40
    (tmp_path / "dvc.lock").write_text("2")
    assert git_commit.__wrapped__() == commit
    (tmp_path / "code.py").write_text("2")
    assert git_commit.__wrapped__() == f"{commit}-dirty"
