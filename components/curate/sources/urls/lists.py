"""Lists of URLs with captions, as LAION and its like ship them: parquet, JSON lines, CSV or TSV.

Read in batches, in the order of file names and rows; only the columns that are asked for. A line that
cannot be read is told from the good ones; a file that nobody can tell the lines of is an error.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from components.artifacts import digest_file
from components.config import SourceConfig
from components.config.base import Frozen
from components.curate.samples import Reason
from components.curate.sources.files.pairs import LIMITS
from components.curate.sources.files.rows import read_lines
from components.errors import ConfigError, SourceError

SCHEME = "urls:"
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv")
USUAL = {"url": ("url", "image_url"), "caption": ("caption", "text")}
"""Names, in any case, that a column is looked for under when the source's options do not name it."""
BATCH = 10_000
FIRST = 100
"""Lines of a list of JSON lines that its columns are told by."""
UNSAID = frozenset({"", "?", "none", "null", "nan"})
"""How lists say that they do not know a licence."""


class ListOptions(Frozen):
    """The options of a `urls:` source: what the list's columns mean and how its rows are split."""

    url: str = ""
    """Column of the URL; empty: `url` or `image_url`, in any case."""
    caption: str = ""
    """Column of the caption; empty: `caption` or `text`, in any case."""
    licence: str = ""
    """Column of the picture's own licence."""
    label: str = ""
    """Column of what the picture is about."""
    facts: list[str] = Field(default_factory=list)
    """Columns that are kept as facts of the sample, such as `similarity` or `NSFW`."""
    width: str = ""
    height: str = ""
    """Columns of the sides in pixels that the list declares."""
    min_side: int = Field(0, ge=0)
    """Pictures whose declared shorter side is smaller are not asked for; 0 asks for all."""
    sample: float = Field(1.0, gt=0, le=1)
    """Share of the URLs that is taken, chosen by their hash."""
    questions: list[str] = Field(default_factory=list)
    """One of them, by the hash of the URL, asks for the caption; empty: the reader's own."""
    split_by: Literal["host", "url"] = "host"
    """Whole hosts or single URLs fall into a split."""
    validation: float = Field(0.02, ge=0, le=0.5)
    test: float = Field(0.02, ge=0, le=0.5)
    """Shares of hosts (or URLs) that are held out; the test group is `unseen_hosts` (or `unseen_urls`)."""


@dataclass(frozen=True)
class UrlRow:
    """One row of a list."""

    url: str
    caption: str
    licence: str = ""
    label: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    short_side: int | None = None
    """As declared."""


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be read."""

    original_id: str
    reason: Reason


def parse_options(source: SourceConfig) -> ListOptions:
    """
    Raises:
        ConfigError: an option has a value that it cannot have.
    """
    try:
        return ListOptions.model_validate(source.options)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"option '{'.'.join(map(str, first['loc']))}': {first['msg']}",
            where=f"curate.sources, {source.locator}",
            fix="mend the value",
        ) from error


def list_files(locator: str) -> list[Path]:
    """The files that `urls:PATH` names: a file, a directory of lists, or a glob pattern.

    Raises:
        ConfigError: there is none, or one is of another kind.
    """
    text = locator.removeprefix(SCHEME)
    path = Path(text).expanduser()
    if path.is_dir():
        found = [each for each in path.iterdir() if each.suffix in SUFFIXES]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(each) for each in glob.glob(str(path), recursive=True)]
    wrong = [each for each in found if each.suffix not in SUFFIXES]
    if wrong or not found:
        raise ConfigError(
            f"{wrong[0]} is no list of URLs" if wrong else f"there is no list of URLs at {text}",
            where=f"curate.sources, {locator}",
            fix=f"name a file, a directory or a glob pattern of {', '.join(SUFFIXES)}",
        )
    return sorted(found)


def digest_lists(files: Sequence[Path]) -> str:
    """SHA-256 over the lists' contents in their order."""
    return hashlib.sha256("\n".join(digest_file(file) for file in files).encode()).hexdigest()


def read_rows(files: Sequence[Path], options: ListOptions) -> Iterator[UrlRow | BadRow]:
    """Every row of every list, in order.

    Reason codes: `json_syntax`, `json_too_large`, `json_too_deep`, `json_not_an_object`, `invalid_utf8`.

    Raises:
        ConfigError: a column does not exist.
        SourceError: a list is damaged.
    """
    for file in files:
        columns = _columns(file, options)
        try:
            for number, raw in enumerate(_read_raw(file, columns), 1):
                if isinstance(raw, Reason):
                    yield BadRow(f"{file.name}#{number}", raw)
                else:
                    yield _row(raw, columns, options)
        except (pa.ArrowException, OSError, csv.Error) as error:
            raise SourceError(
                f"the list cannot be read: {error}", where=str(file), fix="mend the list, or fetch it again"
            ) from error


def _columns(file: Path, options: ListOptions) -> dict[str, str]:
    """Role → the column's name in this file; a fact's role is `fact:<name>`."""
    present = _names(file)
    folded = {name.casefold(): name for name in reversed(present)}
    asked = {role: getattr(options, role) for role in ("licence", "label", "width", "height")}
    asked |= {f"fact:{name}": name for name in options.facts}
    found = {role: name for role, name in asked.items() if name}
    for role, usual in USUAL.items():
        given = getattr(options, role)
        found[role] = given or next((folded[name] for name in usual if name in folded), "")
    missing = [name or role for role, name in found.items() if name not in present]
    if missing:
        raise ConfigError(
            f"the list has no column '{missing[0]}'",
            where=str(file),
            fix=f"say in the source's options which is meant: url, caption, …; it has {', '.join(present)}",
        )
    return found


def _names(file: Path) -> list[str]:
    """Column names: of the schema, of the header line, or of the first object."""
    try:
        if file.suffix == ".parquet":
            return list(pq.read_schema(file).names)
        if file.suffix in (".csv", ".tsv"):
            with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
                names: list[str] = next(csv.reader(lines, delimiter=_delimiter(file)), [])
            "".join(names).encode()  # what was not UTF-8 is a ValueError
            return names
        parsed = [_object(line) for line in islice(read_lines(file), FIRST)]
        objects = [each for each in parsed if not isinstance(each, Reason)]
        if parsed and not objects:
            raise ValueError(f"of its first {len(parsed)} lines none is a JSON object")
        return list(dict.fromkeys(name for each in objects for name in each))
    except (pa.ArrowException, OSError, ValueError, csv.Error) as error:
        raise SourceError(
            f"the list cannot be read: {error}", where=str(file), fix="mend the list, or fetch it again"
        ) from error


def _delimiter(file: Path) -> str:
    return "\t" if file.suffix == ".tsv" else ","


def _object(line: bytes) -> dict[str, Any] | Reason:
    """A line's object. Unlike a sidecar's it may hold NaN, which lists that passed through pandas do."""
    if len(line) > LIMITS.max_json_bytes:
        return Reason("json_too_large", evidence=f"more than {LIMITS.max_json_bytes} bytes")
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Reason("invalid_utf8", evidence=f"byte {error.start}: {error.reason}")
    except RecursionError:
        return Reason("json_too_deep")
    except ValueError as error:
        return Reason("json_syntax", evidence=str(error))
    return found if isinstance(found, dict) else Reason("json_not_an_object", evidence=type(found).__name__)


def _decoded(row: dict[str, Any]) -> dict[str, Any] | Reason:
    """A row of a CSV list, if all of it was UTF-8: what was not stands in it as halves of surrogates."""
    whole = "".join(value for value in row.values() if isinstance(value, str))
    try:
        whole.encode()
    except UnicodeEncodeError as error:
        return Reason("invalid_utf8", evidence=ascii(whole[max(error.start - 20, 0) : error.end + 20]))
    return row


def _read_raw(file: Path, columns: dict[str, str]) -> Iterator[dict[str, Any] | Reason]:
    if file.suffix == ".parquet":
        names = sorted(set(columns.values()))
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(BATCH, columns=names):
                yield from _batch_rows(batch)
    elif file.suffix in (".csv", ".tsv"):
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            yield from map(_decoded, csv.DictReader(lines, delimiter=_delimiter(file)))
    else:
        yield from map(_object, read_lines(file))


def _batch_rows(batch: pa.RecordBatch) -> list[dict[str, Any] | Reason]:
    """Rows of a batch; a writer that does not check may have put anything into a column of text."""
    try:
        rows: list[dict[str, Any] | Reason] = batch.to_pylist()
        return rows
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [Reason("invalid_utf8", evidence=f"byte {error.start}: {error.reason}")]
        return [row for place in range(batch.num_rows) for row in _batch_rows(batch.slice(place, 1))]


def _row(raw: dict[str, Any], columns: dict[str, str], options: ListOptions) -> UrlRow:
    values = {role: _text(raw.get(name)) for role, name in columns.items()}
    licence = values.get("licence", "")
    sides = [_side(values[role]) for role in ("width", "height") if role in values]
    known = [side for side in sides if side is not None]
    return UrlRow(
        url=values["url"],
        caption=values["caption"],
        licence="" if licence.casefold() in UNSAID else licence,
        label=values.get("label", ""),
        facts={name: values[f"fact:{name}"] for name in options.facts if values[f"fact:{name}"]},
        short_side=min(known, default=None),
    )


def _text(value: object) -> str:
    """Null, and the NaN that pandas makes of it, are empty; half a surrogate pair becomes a question mark."""
    if value is None or value != value:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _side(text: str) -> int | None:
    """Pixels; lists that passed through pandas say `640.0`."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None
