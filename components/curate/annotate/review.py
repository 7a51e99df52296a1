"""What people look at: a seeded sample of the new turns, as CSV, JSONL and an HTML page; and reading it back.

A review is bound to the turn's text by a digest: where a later run gives another answer, the old review is
stale and does not count.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts import write_atomic
from components.config.annotate import ReviewConfig
from components.curate.annotate.proposals import Proposed
from components.curate.samples import Turn, share
from components.errors import ConfigError
from components.gates.review import ReviewCounts

COLUMNS = ("key", "turn", "method", "question", "answer", "evidence", "accepted", "note", "digest")
VERDICTS: Mapping[str, bool] = {
    **dict.fromkeys(("yes", "y", "true", "1", "accept", "accepted"), True),
    **dict.fromkeys(("no", "n", "false", "0", "reject", "rejected"), False),
}
MAX_NAMED = 10
"""Malformed rows that an error names."""


@dataclass(frozen=True)
class ReviewRow:
    """One turn to look at."""

    key: str
    turn: int
    """Its number among the new turns of the sample, from 0."""
    proposed: Proposed

    @property
    def digest(self) -> str:
        return digest_turn(self.proposed.turn)

    def record(self) -> dict[str, Any]:
        turn, method = self.proposed.turn, self.proposed.method
        values = (self.key, self.turn, method, turn.question, turn.answer, self.proposed.evidence, "", "")
        return dict(zip(COLUMNS, (*values, self.digest), strict=True))


@dataclass(frozen=True)
class Review:
    """One row as a person left it."""

    line: int
    key: str
    turn: str
    accepted: bool
    digest: str


def choose_review(
    turns: Mapping[str, Sequence[Proposed]], config: ReviewConfig, *, seed: int
) -> list[ReviewRow]:
    """A simple random sample: `share` of all new turns, `at_least` so many, in a fixed order."""
    rows = [ReviewRow(key, n, each) for key, items in turns.items() for n, each in enumerate(items)]
    wanted = max(config.at_least, math.ceil(config.share * len(rows)))
    ranked = sorted(rows, key=lambda row: share(seed, "review", row.key, str(row.turn)))
    return sorted(ranked[:wanted], key=lambda row: (row.key, row.turn))


def write_review(rows: Sequence[ReviewRow], directory: Path, image_of: Callable[[str], bytes | None]) -> None:
    """Write `review.csv`, `review.jsonl` and `review.html` (one file, pictures inside)."""
    directory.mkdir(parents=True, exist_ok=True)
    records = [row.record() for row in rows]
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_atomic(directory / "review.jsonl", "".join(lines))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in record.items()} for record in records)
    # With a byte order mark: spreadsheets read UTF-8 only where one says so.
    write_atomic(directory / "review.csv", "\ufeff" + table.getvalue())
    items = [
        {**record, "image": _data_uri(image_of(row.key))} for record, row in zip(records, rows, strict=True)
    ]
    write_atomic(directory / "review.html", _page(items))


def count_reviews(rows: Sequence[ReviewRow], config: ReviewConfig, *, population: int) -> ReviewCounts:
    """What the file of reviews says about the sample.

    Raises:
        ConfigError: the file is missing, or rows are malformed; each is named with its line.
    """
    if not config.file:
        return ReviewCounts(0, 0, len(rows), population)
    path = Path(config.file)
    reviews, problems = read_reviews(path)
    by_digest = {(row.key, row.digest): row for row in rows}
    by_number = {(row.key, str(row.turn)): row for row in rows}
    verdicts: dict[tuple[str, int], bool] = {}
    stale = 0
    for review in reviews:
        if review.digest:
            row = by_digest.get((review.key, review.digest))
            stale += row is None
        else:
            row = by_number.get((review.key, review.turn))
            if row is None:
                problems.append(f"line {review.line}: no turn {review.turn} of '{review.key}' in the sample")
        if row is None:
            continue
        if verdicts.setdefault((row.key, row.turn), review.accepted) != review.accepted:
            problems.append(f"line {review.line}: turn {row.turn} of '{row.key}' is accepted and rejected")
    if problems:
        named = "\n  - ".join(problems[:MAX_NAMED])
        more = f"\n  - and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise ConfigError(
            f"reviews that cannot be read:\n  - {named}{more}",
            where=str(path),
            fix="mend the rows named; `accepted` is yes or no, and empty where nobody has judged",
        )
    accepted = sum(verdicts.values())
    return ReviewCounts(accepted, len(verdicts) - accepted, len(rows) - len(verdicts), population, stale)


def read_reviews(path: Path) -> tuple[list[Review], list[str]]:
    """Reviews from CSV or JSONL, and what is wrong with the rows that are none. Rows without a verdict are
    pending and left out.

    Raises:
        ConfigError: no such file, or neither CSV nor JSONL.
    """
    reviews: list[Review] = []
    problems: list[str] = []
    for line, row in _rows(path):
        if isinstance(row, str):
            problems.append(f"line {line}: {row}")
            continue
        key, turn = (str(row.get(name, "")).strip() for name in ("key", "turn"))
        verdict = str(row.get("accepted", "")).strip().casefold()
        if not key or not turn.isdecimal():
            problems.append(f"line {line}: needs a key and the number of a turn, got '{key}' and '{turn}'")
        elif verdict and verdict not in VERDICTS:
            problems.append(f"line {line}: accepted = '{verdict}' is neither yes nor no")
        elif verdict:
            digest = str(row.get("digest", "")).strip()
            reviews.append(Review(line, key, turn, VERDICTS[verdict], digest))
    return reviews, problems


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and row, or what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the reviews cannot be read: {error}", where=str(path), fix="mend curate.annotate.review.file"
        ) from error
    if path.suffix in (".jsonl", ".ndjson"):
        for line, content in enumerate(text.splitlines(), 1):
            if content.strip():
                yield line, _object(content)
        return
    if path.suffix != ".csv":
        raise ConfigError(
            f"reviews are CSV or JSONL, not '{path.suffix}'",
            where=str(path),
            fix="name a .csv or a .jsonl file in curate.annotate.review.file",
        )
    header = text.partition("\n")[0]
    # Spreadsheets of half of Europe save with semicolons.
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    missing = [name for name in ("key", "turn", "accepted") if name not in (reader.fieldnames or ())]
    if missing:
        yield 1, f"no column {', '.join(missing)}"
        return
    for row in reader:
        surplus = row.pop(None, None)
        yield reader.line_num, "more cells than columns" if surplus else row


def _object(content: str) -> dict[str, Any] | str:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else "not an object"


def digest_turn(turn: Turn) -> str:
    """Twelve hex digits over question and answer."""
    return hashlib.sha256(json.dumps([turn.question, turn.answer]).encode()).hexdigest()[:12]


def _no_formula(value: Any) -> Any:
    """Texts come from strangers, and spreadsheets run what begins like a formula."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def _data_uri(image: bytes | None) -> str:
    from PIL import Image

    if image is None:
        return ""
    try:
        kind = Image.open(io.BytesIO(image)).get_format_mimetype()
    except (OSError, Image.DecompressionBombError):
        return ""
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def _page(items: Sequence[Mapping[str, Any]]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("components.curate.annotate", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("review.html.j2").render(items=items, columns=COLUMNS)
