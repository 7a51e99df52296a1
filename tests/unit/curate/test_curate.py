"""The stage on tiny packages: deterministic, resumable, gated, nothing lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from components.artifacts import Dataset
from components.config import CurateConfig
from components.curate import assert_no_drift, curate, engines
from components.curate.plan import name_keys
from components.curate.samples import Turn, hash_text
from components.errors import GateFailed
from components.gates.manifest import COLUMNS

RUN = (
    "import sys; from components.config import CurateConfig; from components.curate import curate; "
    "curate(config=CurateConfig.model_validate_json(sys.stdin.read()))"
)


def logs_of(uri: str) -> Path:
    return Path(uri).parent / "logs"


def test_curate_twice_gives_the_same_bytes(
    curate_config: Callable[..., CurateConfig], curated: Dataset
) -> None:
    first, second = curated, curate(config=curate_config("b"))
    assert first.uri != second.uri
    assert (first.digest, first.version) == (second.digest, second.version)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_curate_with_two_workers_gives_the_same_bytes(
    curate_config: Callable[..., CurateConfig],
    curated: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
) -> None:
    monkeypatch.setattr(engines, "MIN_JOBS_FOR_POOL", 1)
    config = curate_config("many")
    update = {"workers": 2, "engine": engine}
    execution = config.execution.model_copy(update=update)
    many = curate(config=config.model_copy(update={"execution": execution}))
    assert many.digest == curated.digest and many.uri != curated.uri


def test_curate_writes_what_the_contract_says(curated: Dataset) -> None:
    dataset = curated
    manifest = pd.read_parquet(dataset.path / "manifest.parquet")
    assert list(manifest.columns) == list(COLUMNS) and len(manifest) == dataset.num_samples
    row = manifest.iloc[7]
    with tarfile.open(dataset.path / "shards" / row["shard"]) as tar:
        names = tar.getnames()
        assert names[2 * row["index"] : 2 * row["index"] + 2] == [f"{row['key']}.png", f"{row['key']}.json"]
        member = tar.extractfile(f"{row['key']}.json")
        assert member is not None
        sample = json.load(member)
        info = tar.getmember(f"{row['key']}.png")
    assert set(sample) == {"key", "category", "group", "split", "source", "turns"}
    assert hash_text(tuple(Turn(**turn) for turn in sample["turns"])) == row["text_sha256"]
    assert (info.mtime, info.uid, info.gid, info.uname, info.mode) == (0, 0, 0, "", 0o644)
    record = dataset.load_record()
    assert {source.licence for source in record.sources} >= {"MIT License", "Apache-2.0"}
    assert record.dataset_versions == {"tiny": dataset.version}
    logs = logs_of(dataset.uri)
    report = json.loads((logs / "funnel.json").read_text())
    rejected = pd.read_parquet(logs / "quarantine.parquet")
    assert len(rejected) + dataset.num_samples == report["filters"][0]["num_in"]
    assert (logs / "contact.png").exists() and (logs / "data_docs" / "index.html").exists()


def test_curate_decodes_every_picture_once(
    curate_config: Callable[..., CurateConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.curate import examine

    decoded: list[bytes] = []
    original = examine.examine

    def counting(content: bytes, *arguments: object, **named: object) -> object:
        decoded.append(content)
        return original(content, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(examine, "examine", counting)
    curate(config=curate_config())
    assert decoded and len(decoded) == len(set(decoded))


def test_curate_killed_ten_times_gives_the_same_bytes(
    curate_config: Callable[..., CurateConfig], curated: Dataset
) -> None:
    whole = curated
    config = curate_config("killed")
    noise = random.Random(4)
    kills = 0
    while kills < 10:
        process = subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(config.model_dump_json())
        process.stdin.close()
        reached = _wait_until_work(config, process, noise.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert reached, "it finished before it could be killed"
        kills += 1
    resumed = curate(config=config)
    assert (resumed.digest, resumed.version) == (whole.digest, whole.version)
    rows = [pd.read_parquet(logs_of(each.uri) / "quarantine.parquet") for each in (whole, resumed)]
    pd.testing.assert_frame_equal(*rows)


def _wait_until_work(config: CurateConfig, process: subprocess.Popen[str], when: float) -> bool:
    """Let it run until its directory is there and then some; False where it came to its end."""
    begin = time.monotonic()
    while not list(config.execution.artifacts.glob("curate/*/scratch/clock.json")):
        if process.poll() is not None or time.monotonic() - begin > 120:
            return False
        time.sleep(0.01)
    time.sleep(when)
    return not list(config.execution.artifacts.glob("curate/*/record.json"))


def test_curate_stops_at_a_failed_gate_and_keeps_the_evidence(
    curate_config: Callable[..., CurateConfig],
) -> None:
    config = curate_config(min_samples_per_category=1000)
    with pytest.raises(GateFailed, match="data/categories"):
        curate(config=config)
    (directory,) = (path for path in config.execution.artifacts.glob("curate/*") if path.is_dir())
    gates = {gate["name"]: gate["passed"] for gate in json.loads((directory / "gates.json").read_text())}
    assert gates.pop("data/categories") is False and all(gates.values())
    assert (directory / "logs" / "quarantine.parquet").exists() and not (directory / "record.json").exists()


def test_curate_of_a_licence_that_is_not_allowed_stops(curate_config: Callable[..., CurateConfig]) -> None:
    with pytest.raises(GateFailed, match="data/licences"):
        curate(config=curate_config(allowed_licences=("MIT License", "Apache-2.0")))


def test_curate_compares_with_the_version_in_the_workspace(
    curate_config: Callable[..., CurateConfig],
) -> None:
    config = curate_config(max_drift=0.05)
    first = curate(config=config)
    folder = config.execution.workspace / "data" / "tiny"
    folder.mkdir(parents=True)
    (folder / "manifest.parquet").write_bytes((first.path / "manifest.parquet").read_bytes())
    moved = config.model_copy(update={"sources": config.sources[1:]})
    with pytest.raises(GateFailed, match="data/drift"):
        curate(config=moved)
    same = curate(config=config.model_copy(update={"max_drift": 0.04}))
    gate = next(gate for gate in same.load_record().gates if gate.name == "data/drift")
    assert gate.passed and gate.evidence["drift/category"] == 0.0
    other = curate(config=moved.model_copy(update={"max_drift": 1.0}))
    assert_no_drift(first, config)
    (folder / "manifest.parquet").write_bytes((other.path / "manifest.parquet").read_bytes())
    with pytest.raises(GateFailed, match="data/drift"):  # made before it, found finished, held against it
        assert_no_drift(curate(config=config), config)


def test_curate_texts_rejected_before_drawing_lie_in_quarantine_with_their_evidence(
    curated: Dataset,
) -> None:
    logs = logs_of(curated.uri)
    rejected = pd.read_parquet(logs / "quarantine.parquet").set_index("reason")
    assert rejected.loc["email", "evidence"] == "someone@not-reserved.net"
    assert set(rejected.loc["boilerplate", "evidence"]) == {f"4 times: icon set {n}" for n in range(4)}
    assert rejected.loc["empty_text", "category"] == "clipart"
    with tarfile.open(logs / "quarantine" / "boilerplate-00000.tar") as tar:
        assert sorted(name.rpartition(".")[2] for name in tar.getnames()) == ["json"] * 4
    steps = {step["name"]: step for step in json.loads((logs / "funnel.json").read_text())["filters"]}
    assert steps["text"]["rejected"] == {"clipart": 6}
    assert steps["text"]["reasons"] == {"boilerplate": 4, "email": 1, "empty_text": 1}


def test_keys_depend_on_nothing_but_the_sample(curate_config: Callable[..., CurateConfig]) -> None:
    before = name_keys("x", ["a", "b", "c"])
    after = name_keys("x", ["new", "a", "b", "c"])
    assert after[1:] == before and len(set(after)) == 4
    assert len(set(name_keys("x", ["a", "a", "a"]))) == 3


def test_curate_leaves_no_process_behind(
    curate_config: Callable[..., CurateConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "MIN_JOBS_FOR_POOL", 1)
    config = curate_config()
    curate(config=config.model_copy(update={"execution": config.execution.model_copy(update={"workers": 2})}))
    done = subprocess.run(["ps", "-o", "ppid=,args=", "-A"], capture_output=True, text=True, check=True)
    own = [line for line in done.stdout.splitlines() if line.split()[0] == str(os.getpid())]
    assert not [line for line in own if "spawn_main" in line]
