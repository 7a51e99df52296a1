"""`webdataset:PATTERN`: tar shards of pictures with their texts, of this machine or of an S3 server.

    webdataset:shards/train-{00000..00099}.tar      braces, and the wildcards * ? [ ]
    webdataset:s3://bucket/laion/*.tar              fetched once, whole, into the downloads folder

Members belong together by their key: the path up to the first dot of its last part; the rest is the
suffix (`cat.question.txt` has key `cat` and suffix `question.txt`). They need not stand side by side.
The picture of a key is the one with a plain suffix (`cat.jpg`); one with a name (`cat.depth.png`) only
where there is no plain one, or where `options = { image = "depth.png" }` asks for it. Two that would do
are a rejected sample: nothing says which of them the text is about. Pictures stay in the tar: a draft
knows the range of bytes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from components.config import CurateConfig, SourceConfig
from components.curate.fetch import Fetched, Scheme
from components.curate.samples import Draft, Reason
from components.curate.sources.files.drafts import Found, Refused, draft_all
from components.curate.sources.files.listing import Selected, Selection, digest_content, state_file
from components.curate.sources.files.pairs import COLUMN_OPTIONS, LIMITS, Layout
from components.curate.sources.files.patterns import find_files
from components.curate.sources.files.pictures import is_picture, load
from components.curate.sources.files.sidecars import is_sidecar, read_sidecars
from components.curate.sources.files.splits import split_of_folder, split_of_table
from components.curate.sources.reader import Reader
from components.curate.tars import BadMember, Member, iter_members
from components.errors import ConfigError


def check(locator: str) -> None:
    """
    Raises:
        ConfigError: it names no uncompressed tar files.
    """
    pattern = locator.removeprefix("webdataset:").strip()
    if not pattern:
        raise ConfigError(
            f"'{locator}' names no shards", where="curate.sources", fix="write webdataset:PATTERN"
        )
    if pattern.endswith((".gz", ".tgz", ".zst", ".bz2", ".xz")):
        raise ConfigError(
            "compressed shards cannot be read in place",
            where=f"curate.sources, {locator}",
            fix="decompress them once (pictures hardly shrink), and name the .tar files",
        )


def unavailable(_locator: str, _downloads: Path) -> str:
    """Never: shards that are not there are a mistake in the config, and `fetch_webdataset` says so."""
    return ""


def fetch_webdataset(locator: str, _source: SourceConfig, downloads: Path) -> Fetched:
    """The shards, listed in a file; its version is the digest of their names and content.

    Raises:
        ConfigError: there are no such shards.
        SourceError: the S3 server refused, or could not be reached.
    """
    pattern = locator.removeprefix("webdataset:").strip()
    selection = find_files(pattern, locator=locator, downloads=downloads)
    files = {each.name: each.path for each in selection.files}
    sha256 = digest_content(files, state=state_file(downloads, locator))
    path = downloads / "webdataset" / f"{sha256[:16]}.json"
    selection.save(path)
    return Fetched(locator, sha256[:16], path, sha256, "")


SCHEME = Scheme(check, unavailable, fetch_webdataset, versioned=False)


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """A draft for every key, and one with a reason for every member that is refused.

    Raises:
        ConfigError: the options do not go together.
    """
    layout = Layout.of(source)
    found = [each for shard in Selection.load(archives["data"]).files for each in read_shard(shard, layout)]
    return draft_all(found, layout, source, config)


READER = Reader(plan, load=load, options=COLUMN_OPTIONS)


@dataclass
class Group:
    """Members of one key."""

    pictures: dict[str, Member] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


def split_key(name: str) -> tuple[str, str]:
    """Key and suffix of a member, both empty where it has none of them (`webdataset.tariterators`)."""
    folder, base = posixpath.split(name)
    stem, _, suffix = base.partition(".")
    if not stem or not suffix:
        return "", ""
    return posixpath.join(folder, stem), suffix.lower()


def read_shard(shard: Selected, layout: Layout) -> Iterator[Found | Refused]:
    """Every sample of a shard in the order of its first member, then what was refused."""
    groups: dict[str, Group] = {}
    refused: list[Refused] = []
    with shard.path.open("rb") as file:
        for member in iter_members(file, LIMITS):
            reason = sort_in(member, groups, file)
            if reason:
                refused.append(Refused(f"{shard.name}/{member.name}", reason))
    for key, group in groups.items():
        yield _sample(shard, key, group, layout)
    yield from refused


def sort_in(member: Member | BadMember, groups: dict[str, Group], file: IO[bytes]) -> Reason | None:
    """Put a member to its key; why it is refused, if it is."""
    if isinstance(member, BadMember):
        return member.reason
    key, suffix = split_key(member.name)
    if not key:
        return None if posixpath.basename(member.name).startswith(".") else Reason("no_key")
    group = groups.setdefault(key, Group())
    if suffix in group.pictures or suffix in group.texts:
        return Reason("duplicate_name", evidence=f"{key} has a second .{suffix}")
    if is_picture(f"_.{suffix}"):
        group.pictures[suffix] = member
    elif is_sidecar(suffix):
        # A text over the bound is read no further than to see that it is.
        file.seek(member.offset)
        group.texts[suffix] = file.read(min(member.size, LIMITS.max_json_bytes + 1))
    return None


def _sample(shard: Selected, key: str, group: Group, layout: Layout) -> Found | Refused:
    original_id = f"{shard.name}/{key}"
    row = read_sidecars(group.texts)
    if isinstance(row, Reason):
        return Refused(original_id, row)
    pair = layout.read(row)
    if isinstance(pair, Reason):
        return Refused(original_id, pair)
    layout.saw(group.pictures)
    picture = choose_picture(group.pictures, layout.chosen.get("image", ""))
    if isinstance(picture, Reason):
        return Refused(original_id, picture)
    payload = {"path": str(shard.path), "offset": picture.offset, "size": picture.size} if picture else {}
    split = shard.split or split_of_table(shard.name) or split_of_folder(key)
    unit = {"folder": posixpath.dirname(original_id), "shard": shard.name}.get(layout.group_by, original_id)
    return Found(original_id, payload, pair, unit, split, picture.name if picture else "")


def choose_picture(pictures: Mapping[str, Member], wanted: str) -> Member | Reason | None:
    """The picture of a key: the one that is wanted, else the only plain one, else the only one."""
    if wanted or not pictures:
        return pictures.get(wanted)
    plain = [suffix for suffix in pictures if "." not in suffix] or list(pictures)
    if len(plain) > 1:
        return Reason("many_images", evidence=", ".join(f".{suffix}" for suffix in plain))
    return pictures[plain[0]]
