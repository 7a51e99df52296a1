"""A dataset under DVC, its first snapshot and an incremental push: shards by key hash against loose files.

python -m benchmarks.dataset_snapshot [--quick]

Both sides use DVC's own functions, the same local remote and the same 30,000 samples, about the number of
the main job (a picture of 8 KiB of random bytes, and a JSON). Ours includes writing the shards and the
manifest; the peer's loose files lie there already. Of 10,000 samples more of ours is fixed: the ratio then is
some 6 to 8. Then 20 samples change: ours writes and pushes the shards that they are in.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Contender, compare, quick, report
from components.artifacts import Dataset, digest_directory
from components.curate.engines import LocalEngine
from components.curate.samples import Candidate, Picture, Place, Turn
from components.curate.shards import Delivered, write_dataset
from components.storage import dataset_version, version_dataset
from components.storage.repository import open_repository

PICTURE = 8 << 10
CHANGED = 20
PER_SHARD = 250


@dataclass
class Corpus:
    """Samples whose pictures lie in one file, as curation leaves them."""

    folder: Path
    number: int

    def __post_init__(self) -> None:
        self.blob = self.folder / "pictures.blob"
        self.blob.write_bytes(os.urandom(PICTURE * self.number))

    def samples(self) -> list[Delivered]:
        return [self._sample(index) for index in range(self.number)]

    def _sample(self, index: int) -> Delivered:
        place = Place(self.blob, index * PICTURE, PICTURE)
        picture = Picture(place, "png", 64, 64, f"{index:064x}", bytes(1216), 1.0)
        candidate = Candidate(
            key=f"sample-{index:08d}", category="x", group="", split="train", source="x", source_version="1",
            licence="MIT", original_id=str(index), turns=(Turn("q" * 40, "a" * 40),), picture=picture,
            phash="0" * 16,
        )  # fmt: skip
        return Delivered(candidate, place, "png")

    def change(self, seed: int) -> list[int]:
        """Write other bytes into some pictures."""
        chosen = random.Random(seed).sample(range(self.number), CHANGED)
        with self.blob.open("r+b") as file:
            for index in chosen:
                file.seek(index * PICTURE)
                file.write(os.urandom(PICTURE))
        return chosen


class Shards:
    """opsin: curated shards, versioned and pushed."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        self.folder, self.corpus = folder, corpus
        self.output = folder / "output"

    def save(self, changed: list[int] | None) -> None:
        """Write what the shards lack, then version and push."""
        shutil.rmtree(self.output, ignore_errors=True)
        engine = LocalEngine(1, ExitStack())
        write_dataset(engine, self.corpus.samples(), self.output, samples_per_shard=PER_SHARD, seed=0)
        dataset = Dataset(
            uri=str(self.output),
            digest=digest_directory(self.output),
            record=str(self.folder / "record.json"),
            name="bench",
            version=dataset_version(self.output),
            num_samples=self.corpus.number,
        )
        version_dataset(dataset, workspace=self.folder / "workspace")


class Loose:
    """DVC on a folder with two files a sample."""

    def __init__(self, folder: Path, corpus: Corpus) -> None:
        self.folder, self.corpus = folder, corpus
        self.data = folder / "data"
        self.data.mkdir(parents=True)

    def write(self, chosen: list[int]) -> None:
        """Not timed: the files of a user who keeps them loose lie there anyway."""
        content = self.corpus.blob.read_bytes()
        text = json.dumps({"turns": [{"question": "q" * 40, "answer": "a" * 40}]})
        for index in chosen:
            (self.data / f"{index:08d}.png").write_bytes(content[index * PICTURE : (index + 1) * PICTURE])
            (self.data / f"{index:08d}.json").write_text(text)

    def save(self) -> None:
        with open_repository(self.folder) as repository:
            (stage, *_) = repository.add([str(self.data)])
            repository.push([stage.addressing])


def remote_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(number: int, runs: int) -> dict[str, Any]:
    """First snapshots in fresh folders, each followed by an incremental push."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        corpus = Corpus(root, number)
        state: dict[str, Any] = {"round": 0, "bytes": []}
        incremental: dict[str, list[float]] = {"opsin": [], "dvc": []}

        def ours() -> float:
            state["round"] += 1
            shards = Shards(root / f"ours-{state['round']}", corpus)
            first = _timed(lambda: shards.save(None))
            remote = shards.folder / "workspace" / ".opsin" / "dvc-remote"
            before = remote_bytes(remote)
            sizes = {path.name: path.read_bytes() for path in (shards.output / "shards").iterdir()}
            chosen = corpus.change(state["round"])
            incremental["opsin"].append(_timed(lambda: shards.save(chosen)))
            touched = sum(
                path.stat().st_size
                for path in (shards.output / "shards").iterdir()
                if sizes.get(path.name) != path.read_bytes()
            )
            state["bytes"].append((remote_bytes(remote) - before) / touched)
            shutil.rmtree(shards.folder)
            return first

        def theirs() -> float:
            state["round"] += 1
            loose = Loose(root / f"loose-{state['round']}", corpus)
            loose.write(list(range(number)))
            first = _timed(loose.save)
            loose.write(corpus.change(state["round"]))
            incremental["dvc"].append(_timed(loose.save))
            shutil.rmtree(loose.folder)
            return first

        result = compare(
            name="dataset_snapshot",
            claim="a snapshot is 10 times as fast as dvc add and push of loose files, and an incremental "
            "push sends at most 1.2 times the bytes of the touched shards",
            unit="samples/s",
            work=number,
            ours=Contender("opsin", ours),
            peers=[Contender("dvc add and push of loose files", theirs)],
            runs=runs,
            versions=("dvc",),
        )
    middle = {name: sorted(values)[len(values) // 2] for name, values in incremental.items()}
    return result | {
        "samples": number,
        "incremental_seconds": middle,
        "incremental_ratio": middle["dvc"] / middle["opsin"],
        "pushed_bytes_by_touched_shards": max(state["bytes"]),
    }


def _timed(action: Any) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    fast = quick(__doc__ or "")
    report(measure(2_000 if fast else 30_000, runs=2 if fast else 3))


if __name__ == "__main__":
    main()
