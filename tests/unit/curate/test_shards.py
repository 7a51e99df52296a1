"""Shards: the same bytes in any order, one shard per changed sample, readable by the usual libraries."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import draw_circle, encode_image, make_candidate, make_text

from components.curate.engines import LocalEngine
from components.curate.samples import Header, Place
from components.curate.shards import TEXT, Delivered, assign, manifest_row, read_stored, write_dataset
from components.gates.manifest import COLUMNS, SPLITS, Stored

READ = """
import json, sys
import datasets, webdataset
cache, *shards = sys.argv[1:]
told = lambda rows: {row["__key__"]: (row["png"].size, row["json"]["turns"]) for row in rows}
plain = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")
hub = datasets.load_dataset("webdataset", data_files=shards, split="train", cache_dir=cache)
print(json.dumps([told(plain), told(hub)]))
"""
"""What a user would write, with either library."""


@pytest.fixture
def engine() -> LocalEngine:
    return LocalEngine(1, ExitStack())


def make_delivered(folder: Path, number: int, split: str = "train", seed: int = 0) -> Delivered:
    content = encode_image(draw_circle(seed or number))
    path = folder / f"{number}-{seed}.blob"
    path.write_bytes(content)
    place = Place(path, 0, len(content))
    return Delivered(
        make_candidate(f"k{number}", split=split, seed=seed or number, place=place), place, "png"
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(SPLITS)), unique_by=lambda row: row[0]),
    st.integers(1, 7),
    st.randoms(),
)
def test_shards_hold_every_sample_once_in_an_order_of_their_own(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, str]],
    size: int,
    mixer: random.Random,
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    samples = [make_delivered(folder, number, split) for number, split in rows]
    again = list(samples)
    mixer.shuffle(again)
    engine = LocalEngine(1, ExitStack())
    for name, members in (("one", samples), ("two", again)):
        write_dataset(engine, members, folder / name, samples_per_shard=size, seed=1)
    assert files(folder / "one") == files(folder / "two")
    assert sorted(read_stored(engine, folder / "one")) == sorted(each.candidate.key for each in samples)
    manifest = pd.read_parquet(folder / "one" / "manifest.parquet")
    assert list(manifest.columns) == list(COLUMNS)
    told = zip(manifest["key"], manifest["sha256"], manifest["text_sha256"], strict=True)
    assert {key: Stored(sha256, text) for key, sha256, text in told} == read_stored(engine, folder / "one")


@pytest.mark.parametrize("misnamed", [True, False])
def test_manifest_tells_a_file_named_for_another_format(tmp_path: Path, misnamed: bool) -> None:
    delivered = make_delivered(tmp_path, 0)
    header = Header("png", 8, 8, 99, "0" * 64, misnamed=misnamed)
    told = replace(delivered, candidate=replace(delivered.candidate, header=header))
    assert manifest_row(told, "train-png-00000.tar", 0, "", 99)["misnamed"] is misnamed


def test_shards_one_changed_sample_touches_one_shard(tmp_path: Path, engine: LocalEngine) -> None:
    samples = [make_delivered(tmp_path, number) for number in range(60)]
    write_dataset(engine, samples, tmp_path / "before", samples_per_shard=8, seed=0)
    samples[17] = make_delivered(tmp_path, 17, seed=200)
    write_dataset(engine, samples, tmp_path / "after", samples_per_shard=8, seed=0)
    before, after = files(tmp_path / "before"), files(tmp_path / "after")
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert len({name.rpartition(".")[0] for name in changed if "shards/" in name}) == 1
    assert "manifest.parquet" in changed


def test_shards_a_removed_sample_moves_no_other(tmp_path: Path) -> None:
    samples = [make_delivered(tmp_path, number) for number in range(60)]
    whole = assign(samples, 10, 0)
    less = assign(samples[1:], 10, 0)
    place = {each.candidate.key: name for name, members in whole.items() for each in members}
    assert all(place[each.candidate.key] == name for name, members in less.items() for each in members)


def test_shards_have_one_kind_of_sample_each(tmp_path: Path, engine: LocalEngine) -> None:
    samples = [make_delivered(tmp_path, number) for number in range(6)]
    samples += [Delivered(make_text(f"t{number}"), None, TEXT) for number in range(3)]
    write_dataset(engine, samples, tmp_path / "out", samples_per_shard=100, seed=0)
    assert sorted(path.name for path in (tmp_path / "out/shards").glob("*.tar")) == [
        "train-png-00000.tar",
        "train-text-00000.tar",
    ]
    manifest = pd.read_parquet(tmp_path / "out/manifest.parquet").set_index("key")
    assert manifest.loc["t1", "sha256"] == "" and manifest.loc["t1", "width"] == 0
    assert manifest.loc["k1", "width"] == 64


def test_shards_are_read_by_webdataset_and_by_datasets(tmp_path: Path, engine: LocalEngine) -> None:
    samples = [make_delivered(tmp_path, number) for number in range(12)]
    write_dataset(engine, samples, tmp_path / "out", samples_per_shard=6, seed=0)
    shards = sorted(str(path) for path in (tmp_path / "out/shards").glob("*.tar"))
    # In a process of their own: both libraries leave files open, which is an error in this one.
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "hf"), *shards],
        capture_output=True,
        text=True,
        check=True,
    )
    plain, hub = json.loads(done.stdout.splitlines()[-1])
    assert plain == hub and plain.keys() == {each.candidate.key for each in samples}
    assert plain["k3"] == [[64, 64], [{"question": "What is this?", "answer": "a circle"}]]


def test_shards_unusual_text_survives(tmp_path: Path, engine: LocalEngine) -> None:
    sample = make_delivered(tmp_path, 1)
    turn = replace(sample.candidate.turns[0], answer="über \u202e \U0001f600 \ud800 end")
    odd = replace(sample, candidate=replace(sample.candidate, turns=(turn,)))
    write_dataset(engine, [odd], tmp_path / "out", samples_per_shard=6, seed=0)
    lines = (tmp_path / "out/shards/train-png-00000.idx").read_text().splitlines()
    _, _, _, _, _, offset, size, _ = lines[1].split(" ")
    content = (tmp_path / "out/shards/train-png-00000.tar").read_bytes()[
        int(offset) : int(offset) + int(size)
    ]
    assert json.loads(content)["turns"][0]["answer"] == "über \u202e \U0001f600 ? end"
