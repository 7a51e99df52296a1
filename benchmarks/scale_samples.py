"""Made samples for `benchmarks.scale`, of the size of LAION's, through opsin's own reader; what they take."""

from __future__ import annotations

import gc
import hashlib
import pickle
import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from components.config import CurateConfig, SourceConfig
from components.curate.duplicates.perceptual import THUMB_BYTES
from components.curate.plan import Planned, Task
from components.curate.samples import Candidate, Header, Picture, Place
from components.curate.sources.urls import READER
from components.curate.sources.urls.outcome import Outcome
from components.curate.sources.urls.store import ChunkWriter, read_statuses

TEXT = (
    "black white vintage wooden table lamp with a small red car parked near old stone house in the snow and "
    "two young women walking on sandy beach at sunset while dog runs after blue ball under green trees"
)


class Memory:
    """Python's own allocations inside the block, in bytes: what is left and the most there was."""

    kept = 0.0
    peak = 0.0

    def __enter__(self) -> Memory:
        gc.collect()
        tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        gc.collect()
        self.kept, self.peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()


def captions(count: int) -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(count):
        yield " ".join(rng.choices(TEXT.split(), k=15))


def measure_plan(root: Path, count: int) -> tuple[dict[str, float], list[Planned]]:
    """Memory of what the driver holds once a `urls:` source is planned, and once all is measured."""
    names = [hashlib.md5(b"%d" % number).hexdigest() for number in range(count)]
    urls = [f"https://images-{n % 999:03d}.example.org/{name}/{n:09d}.jpg" for n, name in enumerate(names)]
    listed = root / "list.parquet"
    pd.DataFrame({"url": urls, "caption": list(captions(count))}).to_parquet(listed)
    writer = ChunkWriter(root / "store", 0)
    for number, url in enumerate(urls):
        writer.add(Outcome(url, format="jpg", content=b"%d" % number))
    writer.finish()
    source = SourceConfig(locator=f"urls:{listed}", category="web", licence="unknown")
    config = CurateConfig(sources=(source,))
    with Memory() as known:
        statuses = read_statuses(root / "store")
    assert len(statuses) == count
    del statuses
    with Memory() as statuses_and_drafts:
        drafts = READER.plan({"data": root / "store"}, source, config)
    with Memory() as planned_memory:
        planned = [_planned(number, draft, source, root / "store") for number, draft in enumerate(drafts)]
    with Memory() as measured:
        candidates = [_measured(number, each.candidate) for number, each in enumerate(planned)]
    samples = [
        Planned(each.task, one, source, root / "store") for each, one in zip(planned, candidates, strict=True)
    ]
    tasks = [each.task for each in samples[:250]]
    found = {
        "list_bytes_on_disk": listed.stat().st_size / count,
        "status_table_bytes_on_disk": (root / "store" / "000000" / "status.parquet").stat().st_size / count,
        "url_and_status_bytes_in_memory": known.kept / count,
        "draft_bytes_in_memory": statuses_and_drafts.kept / count,
        "draft_bytes_at_peak": statuses_and_drafts.peak / count,
        "task_and_candidate_bytes_in_memory": planned_memory.kept / count,
        "measured_candidate_bytes_in_memory": measured.kept / count,
        "pickled_task_bytes": len(pickle.dumps(tasks)) / len(tasks),
    }
    return found, samples


def _planned(number: int, draft: Any, source: SourceConfig, path: Path) -> Planned:
    key = f"list-{number:09d}"
    candidate = Candidate(
        key=key,
        category=source.category,
        group=draft.group,
        split=draft.split,
        source=source.locator,
        source_version="0123456789abcdef",
        licence="unknown",
        original_id=draft.original_id,
        turns=draft.turns,
        label=draft.label,
        facts=draft.facts,
    )
    return Planned(Task(key, "urls", draft), candidate, source, path)


def _measured(number: int, candidate: Candidate) -> Candidate:
    """As after the decode: header, picture with its thumbnail, hash and one score; every string its own."""
    name = hashlib.sha256(b"%d" % number).hexdigest()
    header = Header("jpeg", 384, 256 + number % 128, 30_000 + number, name[::-1])
    picture = Picture(
        place=Place(Path(f"scratch/decoded/{number // 250:05d}.blob"), number * 1000, 30_000 + number),
        format="jpg",
        width=384,
        height=256 + number % 128,
        pixels_sha256=name,
        thumbnail=bytes(THUMB_BYTES - 8) + number.to_bytes(8, "big"),
        blur=float(number),
    )
    return replace(candidate, header=header, picture=picture, phash=name[:16], scores={"nsfw": number / 1e9})
