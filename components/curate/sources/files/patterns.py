"""A pattern of files → the files: braces, wildcards, of this machine or of an S3 server.

Files of an S3 server are fetched into the downloads folder, so that what follows reads local files. Where
the server does not answer, those of the last time are taken, and the user is told so.
"""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.curate.sources.files.listing import Selected, Selection, state_file
from components.errors import ConfigError
from components.progress import console

if TYPE_CHECKING:
    from components.storage.objects import Object, ObjectStore

MAGIC = re.compile(r"[*?\[]")
BRACES = re.compile(r"[*?\[{]")
RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
MAX_FILES = 1_000_000
"""Names that braces may make; `{0..9999999999}` is a slip of the finger."""
S3 = "s3://"


def find_files(pattern: str, *, locator: str, downloads: Path) -> Selection:
    """The files that a pattern stands for, by name; names are relative to what comes before its wildcards.

    Raises:
        ConfigError: a file that is named is not there, or nothing matches.
        SourceError: the S3 server refused, or did not answer and nothing was fetched before.
    """
    where = f"curate.sources, {locator}"
    if pattern.startswith(S3):
        files = _fetch(pattern, locator, downloads, where)
    else:
        pattern = os.path.expanduser(pattern)
        names = dict.fromkeys(name for each in _expand(pattern, where) for name in _glob(each, where))
        files = [Selected(name[_root(pattern) :], Path(name).resolve()) for name in names]
    if not files:
        raise ConfigError(f"no file matches {pattern}", where=where, fix="mend the pattern")
    return Selection(tuple(sorted(files, key=lambda each: each.name)))


def _root(pattern: str) -> int:
    """Length of what comes before the first wildcard or brace, up to its last slash."""
    magic = BRACES.search(pattern)
    return pattern.rfind("/", 0, magic.start() if magic else len(pattern)) + 1


def _expand(pattern: str, where: str) -> list[str]:
    """A pattern without braces for each way through its braces."""
    from braceexpand import braceexpand

    too_many = any(abs(int(last) - int(first)) >= MAX_FILES for first, last in RANGE.findall(pattern))
    try:
        # A range is made whole before it gives its first name; several together are not.
        names = [] if too_many else list(itertools.islice(braceexpand(pattern), MAX_FILES + 1))
    except ValueError as error:
        raise ConfigError(f"{error} in {pattern}", where=where, fix="mend the pattern") from error
    if too_many or len(names) > MAX_FILES:
        raise ConfigError(
            f"the braces make more than {MAX_FILES:,} names", where=where, fix="mend the pattern"
        )
    return names


def _glob(pattern: str, where: str) -> Iterator[str]:
    """Files of this machine."""
    if MAGIC.search(pattern):
        yield from (name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
    elif os.path.isfile(pattern):
        yield pattern
    else:
        raise ConfigError(f"there is no file {pattern}", where=where, fix="mend the pattern")


def _fetch(pattern: str, locator: str, downloads: Path, where: str) -> list[Selected]:
    """Files of an S3 server, brought here; or those of the last time, where it does not answer."""
    from components.storage.objects import ObjectStore, Unreachable

    remembered = state_file(downloads, f"files of {locator}")
    try:
        store = ObjectStore()
        found = {each: None for one in _expand(pattern, where) for each in _match(store, one, where)}
        paths = store.fetch(found, downloads / "s3")
    except Unreachable as error:
        files = list(Selection.load(remembered).files) if remembered.is_file() else []
        if not files or not all(each.path.is_file() for each in files):
            raise
        said = f"{locator}: {error.what}; the shards of the last time are taken"
        console.print(said, style="yellow", markup=False)
        return files
    root = _root(pattern)
    files = [Selected(each.url[root:], path) for each, path in paths.items()]
    Selection(tuple(files)).save(remembered)
    return files


def _match(store: ObjectStore, url: str, where: str) -> Iterator[Object]:
    """Objects that a URL with wildcards names; as in a path, `*` does not cross a slash."""
    bucket, _, key = url.removeprefix(S3).partition("/")
    if not bucket or not key:
        raise ConfigError(f"{url} names no object", where=where, fix="write s3://BUCKET/KEY")
    magic = MAGIC.search(key)
    if not magic:
        yield store.stat(bucket, key)
        return
    parts = key.split("/")
    for each in store.list_objects(bucket, key[: magic.start()]):
        names = each.key.split("/")
        if len(names) == len(parts) and all(map(fnmatch.fnmatchcase, names, parts)):
            yield each
