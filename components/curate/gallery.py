"""What a dataset looks like: what was kept per category, and what each filter rejected, with the evidence.

opsin data show cpu --html gallery.html
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

from components.artifacts import write_atomic

SIDE = 144
"""Pixels of a thumbnail; smaller pictures are shown enlarged by the page, without smoothing."""
UNSHOWABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Shown:
    """One sample on the page."""

    key: str
    source: str
    split: str
    turns: tuple[tuple[str, str], ...]
    picture: str
    """Data URI; empty where there is no picture, or none that can be shown."""
    evidence: str = ""
    other: str = ""
    """The kept sample that it collides with."""


@dataclass(frozen=True)
class Group:
    """Samples that belong together: a category that was kept, or a reason."""

    title: str
    num_samples: int
    samples: tuple[Shown, ...]


@dataclass(frozen=True)
class Gallery:
    """A dataset, to be looked at."""

    funnel: tuple[dict[str, Any], ...]
    kept: tuple[Group, ...]
    rejected: tuple[Group, ...]

    def write(self, path: Path, title: str) -> None:
        """One self-contained HTML page."""
        environment = Environment(
            loader=PackageLoader("components.curate", "."), autoescape=select_autoescape(default=True)
        )
        page = environment.get_template("gallery.html.j2").render(gallery=self, title=title)
        write_atomic(path, page)


def build_gallery(directory: Path, *, per_group: int = 24, reason: str = "") -> Gallery:
    """Read the directory of a curation (its `output` and `logs`).

    Args:
        directory: `.opsin/artifacts/curate/<fingerprint>`.
        per_group: Samples shown of each category and of each reason, spread evenly.
        reason: Show only what was rejected for this; empty: everything.

    A restored dataset has no logs: then what was kept is all there is to see.
    """
    logs = directory / "logs"
    funnel: list[dict[str, Any]] = []
    rejected: tuple[Group, ...] = ()
    if (logs / "funnel.json").is_file():
        funnel = json.loads((logs / "funnel.json").read_text())["filters"]
        rejected = tuple(
            _group(code, rows, logs / "quarantine", per_group)
            for code, rows in pd.read_parquet(logs / "quarantine.parquet").groupby("reason")
            if not reason or code == reason
        )
    kept: tuple[Group, ...] = ()
    manifest = directory / "output" / "manifest.parquet"
    if not reason and manifest.is_file():
        kept = tuple(
            _group(category, rows, directory / "output" / "shards", per_group)
            for category, rows in pd.read_parquet(manifest).groupby("category")
        )
    return Gallery(tuple(funnel), kept, rejected)


def _group(title: object, rows: pd.DataFrame, tars: Path, per_group: int) -> Group:
    step = max(1, len(rows) // per_group)
    chosen = rows.iloc[::step].head(per_group)
    return Group(str(title), len(rows), tuple(_shown(row, tars) for row in chosen.to_dict("records")))


def _shown(row: dict[Any, Any], tars: Path) -> Shown:
    members = dict(read_sample(tars / row["shard"], int(row["index"])))
    sample = json.loads(members.pop("json"))
    picture = next(iter(members.values()), b"")
    return Shown(
        key=row["key"],
        source=row["source"],
        split=row["split"],
        turns=tuple((turn["question"], turn["answer"]) for turn in sample["turns"]),
        picture=_thumbnail(picture) if picture else "",
        evidence=str(row.get("evidence", "")),
        other=str(row.get("other", "")),
    )


def read_sample(tar: Path, index: int) -> Iterator[tuple[str, bytes]]:
    """Suffix and content of each member of the sample at a place of a shard, read by the shard's index."""
    fields = _index(tar.with_suffix(".idx"))[index].split(" ")
    with tar.open("rb") as file:
        for suffix, offset, size in zip(fields[0::4], fields[1::4], fields[2::4], strict=True):
            file.seek(int(offset))
            yield suffix, file.read(int(size))


@lru_cache(maxsize=256)
def _index(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


def _thumbnail(content: bytes) -> str:
    """A small PNG as a data URI; nothing where the bytes are no picture that can be decoded (that is why
    many of them were rejected)."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft("RGB", (SIDE, SIDE))
            if opened.width * opened.height > 50_000_000:
                return ""
            image = opened.convert("RGB")
    except UNSHOWABLE:
        return ""
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
