"""`folder:PATH`: pictures of this machine with their texts beside them, at any depth.

    cat.jpg  cat.txt                       a caption
    cat.jpg  cat.json                      caption, conversation, question and answer, `metadata` as facts
    cat.jpg  cat.jpg.txt  cat.jpg.json     the same; told from the texts of cat.png
    cat.jpg  metadata.{jsonl,csv,parquet}  the `imagefolder` layout of Hugging Face: column `file_name`
    options = { table = "llava.json", images = "coco" }     any jsonl, json, csv, tsv or parquet table

The rows of a table about one picture become one sample. A picture without text and a text without a
picture are rejected samples, and so is whatever a link would fetch from outside the folder. A split is
the row's own (`split`), a folder's name (`train`, `validation`, `test`), or hashed by `group_by`
(`image`, `folder`, or a column).
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from components.config import CurateConfig, SourceConfig
from components.curate.fetch import Fetched, Scheme
from components.curate.samples import Draft, Reason
from components.curate.sources.files.card import licence_of, read_card
from components.curate.sources.files.drafts import MAX_SHOWN, Found, Refused, draft_all
from components.curate.sources.files.listing import (
    Listing,
    digest_content,
    existing_folder,
    inside,
    list_folder,
    state_file,
)
from components.curate.sources.files.pairs import COLUMN_OPTIONS, LIMITS, Layout, Pair
from components.curate.sources.files.parquet import Embedded, read_parquet
from components.curate.sources.files.pictures import is_picture, load, too_large
from components.curate.sources.files.rows import SUFFIXES as TABLE_SUFFIXES
from components.curate.sources.files.rows import header, read_rows
from components.curate.sources.files.sidecars import read_sidecars
from components.curate.sources.files.splits import split_of_folder, split_of_table
from components.curate.sources.reader import Reader
from components.curate.tars import ODD
from components.errors import ConfigError

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
SIDECARS = (".txt", ".json")
NO_SIDECARS = ("readme", "license", "licence", "copying", "citation", "dataset_info", "dataset_infos")
"""Names of texts that belong to the folder, not to a picture."""
OPTIONS: Mapping[str, type] = {**COLUMN_OPTIONS, "table": str, "images": str}


def check(locator: str) -> None:
    """
    Raises:
        ConfigError: it names no folder.
    """
    if not locator.removeprefix("folder:").strip():
        raise ConfigError(f"'{locator}' names no folder", where="curate.sources", fix="write folder:PATH")


def unavailable(_locator: str, _downloads: Path) -> str:
    """Never: a folder that is not there is a mistake in the config, and `fetch_folder` says so."""
    return ""


def fetch_folder(locator: str, _source: SourceConfig, downloads: Path) -> Fetched:
    """The folder itself; its version is the digest of everything in it.

    Raises:
        ConfigError: there is no such folder.
        SourceError: its dataset card cannot be read.
    """
    root = existing_folder(locator.removeprefix("folder:"), where=f"curate.sources, {locator}")
    listing = list_folder(root)
    refused = [f"{name}\0{reason.code}" for name, reason in listing.refused.items()]
    sha256 = digest_content(listing.files, state=state_file(downloads, locator), besides=refused)
    return Fetched(locator, sha256[:16], root, sha256, licence_of(read_card(root)))


SCHEME = Scheme(check, unavailable, fetch_folder, versioned=False)


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """A draft for every picture, and one with a reason for everything that is no sample.

    Raises:
        ConfigError: an option names a table or a column that is not there.
    """
    root, layout = archives["data"], Layout.of(source)
    listing = list_folder(root)
    tables = find_tables(root, listing, str(source.options.get("table", "")))
    place = Place(root, listing, str(source.options.get("images", "")))
    found = find_samples(place, layout, tables)
    refused = [Refused(name, reason) for name, reason in listing.refused.items()]
    return draft_all([*found, *refused], layout, source, config)


READER = Reader(plan, load=load, options=OPTIONS)


@dataclass(frozen=True)
class Place:
    """Where pictures are looked for."""

    root: Path
    listing: Listing
    images: str = ""
    """Folder below the root that a table's paths start from; empty: the table's own folder, or the root."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """File → the split that the source says it is in, where its path does not."""


def find_tables(root: Path, listing: Listing, table: str) -> list[str]:
    """The table that is named, or the `metadata` tables; none where texts lie beside the pictures.

    Raises:
        ConfigError: there is no such table, or two that say the same.
    """
    if table:
        if table not in listing.files:
            raise ConfigError(
                f"there is no table '{table}'", where=str(root), fix="name it within the folder"
            )
        return [table]
    tables = [name for name in listing.files if PurePosixPath(name).name in TABLES]
    folders = [posixpath.dirname(name) for name in tables]
    if twice := next((name for name, own in zip(tables, folders, strict=True) if folders.count(own) > 1), ""):
        raise ConfigError(
            f"more than one table of metadata lies beside '{twice}'",
            where=str(root),
            fix=f"say which is meant: options = {{ table = '{twice}' }}",
        )
    return tables


def find_samples(place: Place, layout: Layout, tables: Sequence[str]) -> Iterator[Found | Refused]:
    """Every picture with its texts, from tables, or from sidecars where there is no table.

    Raises:
        ConfigError: an option names a column that is not there.
    """
    return _from_tables(place, layout, tables) if tables else _from_sidecars(place, layout)


def _from_tables(place: Place, layout: Layout, tables: Sequence[str]) -> Iterator[Found | Refused]:
    rows: dict[tuple[str, str], list[Found]] = {}
    refused: list[Refused] = []
    for table in tables:
        for each in _from_table(place, layout, table):
            if isinstance(each, Refused):
                refused.append(each)
            else:
                rows.setdefault((each.original_id, each.pair.split), []).append(each)
    for several in rows.values():
        yield several[0] if len(several) == 1 else _merge(several)
    yield from refused
    mentioned = {original_id for original_id, _ in rows} | {each.original_id for each in refused}
    for name in place.listing.files:
        if is_picture(name) and name not in mentioned:
            yield Refused(name, Reason("no_text", evidence="no row names it"))


def _from_table(place: Place, layout: Layout, table: str) -> Iterator[Found | Refused]:
    path = place.listing.files[table]
    is_parquet = path.suffix.lower() == ".parquet"
    if names := header(path):
        layout.columns(names, where=str(path))
    for number, row in enumerate(read_parquet(path, layout) if is_parquet else read_rows(path), 1):
        row_id = f"{table}#{number}"
        pair = row if isinstance(row, Reason) else layout.read(row)
        if isinstance(pair, Reason):
            yield Refused(row_id, pair)
        elif len(pair.images) > 1:
            yield Refused(row_id, Reason("many_images", evidence=f"{len(pair.images)} pictures in one row"))
        else:
            yield _find_picture(place, layout, table, row_id, pair)


def _find_picture(place: Place, layout: Layout, table: str, row_id: str, pair: Pair) -> Found | Refused:
    """A row with the picture that it names; one that names none is for `draft_all` to judge."""
    split = place.splits.get(table) or split_of_table(table)
    if not pair.images:
        return Found(row_id, {}, pair, row_id, split)
    picture = pair.images[0]
    if isinstance(picture, Embedded):
        unit = table if layout.group_by in ("folder", "shard") else row_id
        return Found(row_id, picture.payload, pair, unit, split, picture.name)
    name = resolve(place, posixpath.dirname(table), picture)
    if isinstance(name, Reason):
        return Refused(row_id, name)
    return _found_file(place, layout, name, pair, place.splits.get(name) or split_of_folder(name) or split)


def _found_file(place: Place, layout: Layout, name: str, pair: Pair, split: str) -> Found | Refused:
    path = place.listing.files.get(name) or place.root / name
    if reason := too_large(path.stat().st_size):
        return Refused(name, reason)
    if layout.group_by == "shard":
        raise ConfigError(
            "group_by = 'shard': pictures that are files of their own lie in no shard",
            where=str(path),
            fix="group_by = 'folder'",
        )
    folder, stem = posixpath.dirname(name), posixpath.splitext(name)[0]
    unit = folder if layout.group_by == "folder" else stem
    return Found(name, {"path": str(path)}, pair, unit, split, name)


def resolve(place: Place, folder: str, named: Any) -> str | Reason:
    """The file of a source that a row names.

    Args:
        folder: Where the table lies.
        named: What stands in the row.

    Returns:
        Its name relative to the root, or a reason: `no_image` (a URL, or no path at all), `unsafe_path`,
        `missing_image`, or why the listing refuses it.
    """
    if not isinstance(named, str):
        return Reason("no_image", evidence=f"a picture as {type(named).__name__}")
    shown = named[:200]
    if named.startswith(("http:", "https:", "data:")):
        return Reason("no_image", evidence=f"no file: {shown}")
    if ODD.search(named):
        return Reason("unsafe_path", evidence=ascii(shown))
    bases = (place.images,) if place.images else (folder, "")
    names = list(dict.fromkeys(posixpath.normpath(posixpath.join(base, named)) for base in bases))
    for name in names:
        if name in place.listing.files:
            return name
        if name in place.listing.refused:
            return place.listing.refused[name]
    for path in (place.root / name for name in names):
        if path.is_file() and inside(path, place.root):  # through a link to a folder inside
            return path.resolve().relative_to(place.root).as_posix()
    leaves = any(name.startswith(("/", "..")) or not inside(place.root / name, place.root) for name in names)
    return Reason("unsafe_path" if leaves else "missing_image", evidence=shown)


def _merge(rows: Sequence[Found]) -> Found:
    """Rows about one picture: all their turns; of everything else the first that says it."""
    pairs = [each.pair for each in rows]
    return replace(
        rows[0],
        pair=replace(
            pairs[0],
            turns=tuple(dict.fromkeys(turn for pair in pairs for turn in pair.turns)),
            label=next((pair.label for pair in pairs if pair.label), ""),
            licence=next((pair.licence for pair in pairs if pair.licence), ""),
            group=next((pair.group for pair in pairs if pair.group), ""),
            facts={name: fact for pair in reversed(pairs) for name, fact in pair.facts.items()},
        ),
    )


def _from_sidecars(place: Place, layout: Layout) -> Iterator[Found | Refused]:
    """
    Raises:
        ConfigError: no picture has a text, and a table lies there that nobody named.
    """
    beside = _find_sidecars(place.listing)
    pictures = {name: posixpath.splitext(name)[0] for name in place.listing.files if is_picture(name)}
    described = {*pictures, *pictures.values()}
    tables = _unnamed_tables(place.listing, described)
    silent = 0
    for name, stem in pictures.items():
        own = {f"{name[len(stem) + 1 :].lower()}.{kind}": text for kind, text in beside.get(name, {}).items()}
        texts = beside.get(stem, {}) | own
        found = _read_beside(place, layout, name, texts)
        if isinstance(found, Found) and not found.pair.turns:
            silent += 1
            found = Refused(name, Reason("no_text", evidence=_say_silent(found.pair, texts.values(), tables)))
        yield found
    if tables and silent == len(pictures) > 0:
        raise ConfigError(
            f"no picture has a text beside it, and the table '{tables[0]}' is not named",
            where=str(place.root),
            fix=f"name it in options.table: options = {{ table = '{tables[0]}' }}",
        )
    for stem, texts in beside.items():
        if stem not in described:
            yield from (
                Refused(text, Reason("no_image", evidence="no picture of that name"))
                for text in texts.values()
            )


def _say_silent(pair: Pair, texts: Iterable[str], tables: Sequence[str]) -> str:
    """Where the text of a picture may be that has none."""
    if tables:
        return f"is its text in {tables[0]}? name it in options.table"
    beside = ", ".join(map(posixpath.basename, texts))
    return pair.label[:MAX_SHOWN] or (f"no text is known in {beside}" if beside else "nothing lies beside it")


def _find_sidecars(listing: Listing) -> dict[str, dict[str, str]]:
    """What texts lie beside → kind of text → its file."""
    beside: dict[str, dict[str, str]] = {}
    for name in listing.files:
        stem, suffix = posixpath.splitext(name)
        if suffix.lower() in SIDECARS and posixpath.basename(stem).casefold() not in NO_SIDECARS:
            beside.setdefault(stem, {})[suffix[1:].lower()] = name
    return beside


def _unnamed_tables(listing: Listing, described: Collection[str]) -> list[str]:
    """Files that may be the table of the pictures: those of its kinds that are no picture's sidecar."""
    stems = {name: posixpath.splitext(name)[0] for name in listing.files}
    return [
        name
        for name, stem in stems.items()
        if posixpath.splitext(name)[1].lower() in (".parquet", *TABLE_SUFFIXES)
        and stem not in described
        and posixpath.basename(stem).casefold() not in NO_SIDECARS
    ]


def _read_beside(place: Place, layout: Layout, name: str, texts: Mapping[str, str]) -> Found | Refused:
    """A picture with its sidecars; its folder's name stands in the field `folder`."""
    contents = {}
    for suffix, text in texts.items():
        with place.listing.files[text].open("rb") as file:
            contents[suffix] = file.read(LIMITS.max_json_bytes + 1)
    row = read_sidecars(contents)
    if not isinstance(row, Reason):
        row = {"folder": PurePosixPath(name).parent.name} | row
    pair = row if isinstance(row, Reason) else layout.read(row)
    if isinstance(pair, Reason):
        return Refused(name, pair)
    return _found_file(place, layout, name, pair, place.splits.get(name) or split_of_folder(name))
