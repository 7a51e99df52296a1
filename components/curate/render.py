"""Plan every source and draw its samples in worker processes, chunk by chunk.

A finished chunk is a parquet file in the run's scratch directory: after a crash only the chunks that
are missing are drawn again, and the bytes are the same.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from components.artifacts import Source
from components.config import CurateConfig, SourceConfig
from components.curate.fetch import Fetched, fetch, locators
from components.curate.samples import (
    Candidate,
    Draft,
    Turn,
    encode_png,
    hash_perceptual,
    hash_pixels,
    share,
    slug,
)
from components.curate.sources import READERS
from components.errors import ConfigError
from components.progress import Bar

CHUNK = 250
"""Samples drawn between two saves (about half a second of work)."""
UNDRAWABLE = (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError)
"""What PIL and resvg raise on broken or hostile input."""
MIN_CHUNKS_FOR_POOL = 12
"""Below this, starting worker processes takes longer than drawing."""


@dataclass(frozen=True)
class Task:
    """One draft with everything a worker process needs to draw it."""

    key: str
    category: str
    reader: str
    fetched: Fetched
    draft: Draft
    size: int


@dataclass(frozen=True)
class Plan:
    """All tasks in their fixed order, and what was fetched for them."""

    tasks: tuple[Task, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Rendered:
    candidates: tuple[Candidate, ...]
    seconds: float
    """Time of drawing and checking, summed over processes."""


def plan_sources(config: CurateConfig) -> Plan:
    """List the drafts of every source; fetch what the cache lacks.

    Raises:
        ConfigError: a source does not exist, is listed twice, or gives no sample.
        SourceError: a source could not be fetched.
    """
    tasks: list[Task] = []
    sources: dict[str, Source] = {}
    for source in config.sources:
        fetched = {role: fetch(each, config.execution.downloads) for role, each in locators(source).items()}
        reader = READERS[source.reader]
        drafts = reader.plan({role: each.path for role, each in fetched.items()}, source, config)
        if not drafts:
            raise ConfigError(
                f"reader '{source.reader}' finds no sample in it",
                where=f"curate.sources, {source.locator}",
                fix="take another package or version, or mend the source's options",
            )
        chosen = _limit(drafts, source, config.seed)
        for role, each in fetched.items():
            name = str(each.locator)
            sources[name] = Source(
                locator=name,
                version=each.locator.version,
                sha256=each.sha256,
                licence=each.licence,
                num_samples=len(chosen) if role == "data" else 0,
            )
        prefix = slug(fetched["data"].locator.name)
        tasks += [
            Task(
                f"{prefix}-{index:06d}",
                source.category,
                source.reader,
                fetched["data"],
                draft,
                config.image_size,
            )
            for index, draft in chosen
        ]
    return Plan(tuple(tasks), tuple(sources.values()))


def _limit(drafts: Sequence[Draft], source: SourceConfig, seed: int) -> list[tuple[int, Draft]]:
    """A seeded choice of at most `limit` drafts per split, with their position, in the planned order."""
    numbered = list(enumerate(drafts))
    if not source.limit:
        return numbered
    ranked = sorted(numbered, key=lambda pair: share(seed, "limit", source.locator, pair[1].original_id))
    taken: dict[str, int] = {}
    chosen = []
    for index, draft in ranked:
        if taken.get(draft.split, 0) < source.limit:
            taken[draft.split] = taken.get(draft.split, 0) + 1
            chosen.append((index, draft))
    return sorted(chosen, key=lambda pair: pair[0])


def render_all(tasks: Sequence[Task], directory: Path, *, workers: int) -> Rendered:
    """Draw all tasks; chunks already in `directory` are read instead.

    Args:
        tasks: In the order of the result.
        directory: Where finished chunks lie.
        workers: Processes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
    paths = [directory / f"{number:05d}.parquet" for number in range(len(chunks))]
    pending = [(chunk, path) for chunk, path in zip(chunks, paths, strict=True) if not path.exists()]
    with Bar("render", total=len(chunks), start=len(chunks) - len(pending), unit="samples") as bar:
        for count in _draw_chunks(pending, workers):
            bar.advance(units=count)
    tables = [pq.read_table(path) for path in paths]
    seconds = sum(float(table.schema.metadata[b"seconds"]) for table in tables)
    return Rendered(
        tuple(candidate for table in tables for candidate in _from_table(table)), round(seconds, 3)
    )


def _draw_chunks(pending: Sequence[tuple[Sequence[Task], Path]], workers: int) -> Iterator[int]:
    if workers == 1 or len(pending) < MIN_CHUNKS_FOR_POOL:
        yield from (_draw_chunk(chunk, path) for chunk, path in pending)
        return
    # spawn: the caller may hold threads (torch, Prefect), which a forked child would deadlock on.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
        futures: list[Future[int]] = [pool.submit(_draw_chunk, chunk, path) for chunk, path in pending]
        for future in as_completed(futures):
            yield future.result()


def _die_with_parent() -> None:
    """A killed parent leaves idle workers behind, which would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _draw_chunk(tasks: Sequence[Task], path: Path) -> int:
    """Draw and save one chunk; returns its length."""
    begin = time.monotonic()
    rows = [asdict(draw(task)) for task in tasks]
    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({"seconds": str(time.monotonic() - begin)})
    temporary = path.with_suffix(f".{os.getpid()}")
    pq.write_table(table, temporary)
    os.replace(temporary, path)
    return len(tasks)


def draw(task: Task) -> Candidate:
    """Draw one sample and check its integrity; a source that cannot be drawn is a rejected sample."""
    try:
        image = READERS[task.reader].render(task.draft.payload, task.size)
        problem, detail = find_problem(image, task.size), ""
    except UNDRAWABLE as error:
        image, problem, detail = Image.new("RGB", (1, 1)), "undecodable", str(error)[:200]
    return _candidate(
        task,
        png=encode_png(image),
        width=image.width,
        height=image.height,
        image_sha256=hash_pixels(image),
        phash=hash_perceptual(image),
        problem=problem,
        detail=detail,
    )


def undrawn(task: Task) -> Candidate:
    """The sample of a task that is rejected for its text: it has no image."""
    return _candidate(task, png=b"", width=0, height=0, image_sha256="", phash="", problem="")


def _candidate(task: Task, **image: Any) -> Candidate:
    return Candidate(
        key=task.key,
        category=task.category,
        group=task.draft.group,
        split=task.draft.split,
        source=str(task.fetched.locator),
        source_version=task.fetched.locator.version,
        licence=task.fetched.licence,
        original_id=task.draft.original_id,
        turns=task.draft.turns,
        **image,
    )


def find_problem(image: Image.Image, size: int) -> str:
    """Reason code of what is wrong with the picture, or nothing."""
    if image.size != (size, size):
        return "wrong_size"
    extrema = image.convert("RGB").getextrema()
    blank = all(isinstance(band, tuple) and band[0] == band[1] for band in extrema)
    return "blank" if blank else ""


def _from_table(table: pa.Table) -> Iterable[Candidate]:
    for row in table.to_pylist():
        turns = tuple(Turn(**turn) for turn in row.pop("turns"))
        yield Candidate(turns=turns, **row)
