"""The stage on tiny packages: deterministic, resumable, gated, nothing lost."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import CurateConfig
from components.curate import curate, render, shards
from components.curate.samples import Candidate, Turn, hash_text
from components.errors import GateFailed


def _candidate(key: str, split: str = "train") -> Candidate:
    return Candidate(
        key=key,
        category="vqa",
        group="",
        split=split,
        source="pypi:x==1",
        source_version="1",
        licence="MIT",
        original_id=key,
        turns=(Turn("Wo?", "über"),),
        png=key.encode(),
        width=64,
        height=64,
        image_sha256="0" * 64,
        phash="0" * 16,
        problem="",
    )


def test_curate_twice_gives_the_same_bytes(curate_config: Callable[..., CurateConfig]) -> None:
    first, second = curate(config=curate_config("a")), curate(config=curate_config("b"))
    assert first.uri != second.uri
    assert (first.digest, first.version) == (second.digest, second.version)


def test_curate_in_worker_processes_gives_the_same_bytes(
    curate_config: Callable[..., CurateConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = curate(config=curate_config("one"))
    monkeypatch.setattr(render, "CHUNK", 60)
    monkeypatch.setattr(render, "MIN_CHUNKS_FOR_POOL", 1)
    config = curate_config("many")
    many = curate(
        config=config.model_copy(update={"execution": config.execution.model_copy(update={"workers": 2})})
    )
    assert many.digest == one.digest


def test_curate_writes_what_the_contract_says(curate_config: Callable[..., CurateConfig]) -> None:
    dataset = curate(config=curate_config())
    manifest = pd.read_parquet(dataset.path / "manifest.parquet")
    assert tuple(manifest.columns) == shards.COLUMNS and len(manifest) == dataset.num_samples
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
    logs = dataset.path.parent / "logs"
    report = json.loads((logs / "funnel.json").read_text())
    rejected = pd.read_parquet(logs / "quarantine.parquet")
    assert len(rejected) + dataset.num_samples == report["filters"][0]["num_in"]
    assert (logs / "contact.png").exists()


def test_curate_interrupted_anywhere_continues_to_the_same_bytes(
    curate_config: Callable[..., CurateConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curate(config=curate_config("whole"))
    monkeypatch.setattr(render, "CHUNK", 20)
    config = curate_config("cut")
    drawn: list[str] = []
    draw, write = render.draw, shards.write_shard
    written: list[str] = []

    def draw_until(task: render.Task) -> Candidate:
        if len(drawn) == 50:
            raise KeyboardInterrupt
        drawn.append(task.key)
        return draw(task)

    def write_until(members: list[Candidate], path: Path) -> None:
        if len(written) == 3 and path.name == "shard.tar":
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(path.name)
        write(members, path)

    monkeypatch.setattr(render, "draw", draw_until)
    with pytest.raises(KeyboardInterrupt):
        curate(config=config)
    monkeypatch.setattr(render, "draw", draw)
    monkeypatch.setattr(shards, "write_shard", write_until)
    with pytest.raises(KeyboardInterrupt):
        curate(config=config)
    monkeypatch.setattr(shards, "write_shard", write)
    monkeypatch.setattr(render, "draw", draw_until)  # every chunk was saved: nothing is drawn a second time
    drawn[:] = ["full"] * 50
    resumed = curate(config=config)
    assert (resumed.digest, resumed.version) == (whole.digest, whole.version)


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


def test_curate_texts_rejected_before_drawing_lie_in_quarantine_with_their_evidence(
    curate_config: Callable[..., CurateConfig],
) -> None:
    dataset = curate(config=curate_config())
    logs = Path(dataset.record).parent / "logs"
    rejected = pd.read_parquet(logs / "quarantine.parquet").set_index("reason")
    assert rejected.loc["email", "evidence"] == "someone@example.org"
    assert set(rejected.loc["boilerplate", "evidence"]) == {f"4 times: icon set {n}" for n in range(4)}
    assert rejected.loc["empty_text", "category"] == "clipart"
    with tarfile.open(logs / "quarantine" / "boilerplate.tar") as tar:
        assert sorted(name.rpartition(".")[2] for name in tar.getnames()) == ["json"] * 4
    steps = json.loads((logs / "funnel.json").read_text())["filters"]
    assert (steps[0]["name"], steps[0]["rejected"]) == ("text", {"clipart": 6})


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(shards.SPLITS)), unique_by=lambda r: r[0]),
    st.integers(1, 7),
    st.randoms(),
)
def test_shards_hold_every_sample_once_in_an_order_of_their_own(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], size: int, mixer: object
) -> None:
    candidates = [_candidate(f"k{number}", split) for number, split in rows]
    again = list(candidates)
    mixer.shuffle(again)  # type: ignore[attr-defined]
    folders = []
    for members in (candidates, again):
        folder = tmp_path_factory.mktemp("shards")
        (folder / "scratch").mkdir()
        shards.write_dataset(members, folder / "out", folder / "scratch", samples_per_shard=size, seed=1)
        folders.append(folder / "out")
    files = [{p.name: p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert files[0] == files[1]
    assert sorted(shards.read_stored(folders[0])) == sorted(c.key for c in candidates)
