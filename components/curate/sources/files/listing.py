"""What files a folder holds, and a digest of their content that is cheap when nothing changed.

    listing = list_folder(Path("photos"))
    sha256 = digest_content(listing.files, state=downloads / "state" / "photos.json")

Nothing hidden (`.git`, `.cache`) is read, and no symbolic link is followed out of the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.artifacts import digest_file, write_atomic
from components.curate.samples import Reason
from components.curate.tars import ODD
from components.errors import ConfigError
from components.progress import track

SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was hashed may change again within one tick of a coarse
clock, and keep its times: its digest is not remembered."""
HASHING_THREADS = 4


@dataclass(frozen=True)
class Listing:
    """Every file below a folder, by its relative path, in a fixed order."""

    files: dict[str, Path]
    refused: dict[str, Reason]
    """What is there and is not read."""


@dataclass(frozen=True)
class Selected:
    """One file of a selection."""

    name: str
    """Relative, as the source names it: part of its samples' ids."""
    path: Path
    """Where it lies on this machine."""
    split: str = ""
    """The source's own name of the split that it belongs to; empty where it says none."""


@dataclass(frozen=True)
class Selection:
    """The files that a locator stands for, written down where no single folder holds just them."""

    files: tuple[Selected, ...]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [asdict(each) | {"path": str(each.path)} for each in self.files]
        write_atomic(path, json.dumps(rows, indent=1))

    @classmethod
    def load(cls, path: Path) -> Selection:
        rows = json.loads(path.read_text())
        return cls(tuple(Selected(row["name"], Path(row["path"]), row["split"]) for row in rows))


def existing_folder(text: str, *, where: str) -> Path:
    """The real path of a folder that a locator names; relative to the current directory.

    Raises:
        ConfigError: there is no such folder.
    """
    path = Path(text).expanduser()
    if not path.is_dir():
        raise ConfigError(f"there is no folder {path}", where=where, fix="mend the path in the locator")
    return path.resolve()


def list_folder(root: Path) -> Listing:
    """All files below `root` (a real path), sorted; those that cannot be trusted are refused.

    Reason codes: `unsafe_path` (a link out of the folder, a name that is no text), `not_a_file` (a broken
    link, a pipe, a device), `unreadable`.
    """
    files: dict[str, Path] = {}
    refused: dict[str, Reason] = {}
    pending = [""]
    while pending:
        above = pending.pop()
        try:
            entries = list(os.scandir(root / above))
        except OSError as error:
            refused[printable(above)] = Reason("unreadable", evidence=str(error))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{above}/{entry.name}" if above else entry.name
            reason = _find_problem(entry, root)
            if reason:
                refused[printable(name)] = reason
            elif entry.is_file():
                files[name] = Path(entry.path)
            elif not entry.is_symlink():  # what a link to a folder of this source holds is read there
                pending.append(name)
    return Listing(dict(sorted(files.items())), dict(sorted(refused.items())))


def _find_problem(entry: os.DirEntry[str], root: Path) -> Reason | None:
    if odd := ODD.search(entry.name):
        return Reason("unsafe_path", evidence=f"character {odd.group()!a}")
    if entry.is_symlink() and not inside(Path(entry.path), root):
        return Reason("unsafe_path", evidence=f"a link to {printable(os.readlink(entry.path))}"[:200])
    if not entry.is_file() and not entry.is_dir():
        return Reason("not_a_file", evidence="a broken link" if entry.is_symlink() else "no regular file")
    return None


def inside(path: Path, root: Path) -> bool:
    """Whether a path, all its links followed, lies below `root` (a real path)."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def printable(name: str) -> str:
    """A file name as text that can be stored: bytes that are no UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def state_file(downloads: Path, locator: str) -> Path:
    """Where what is known about a locator's files is remembered."""
    return downloads / "state" / f"{hashlib.sha256(locator.encode()).hexdigest()[:16]}.json"


def digest_content(files: Mapping[str, Path], *, state: Path, besides: Sequence[str] = ()) -> str:
    """SHA-256 over the names and the content of files.

    A file is read only when its size, times or inode differ from what `state` remembers: the time of the
    last status change cannot be set back, so that a copy that keeps its date is seen too.

    Args:
        files: Name → path.
        state: JSON file that remembers digests; made, and kept up to date.
        besides: What else the digest shall cover.
    """
    known: dict[str, Any] = json.loads(state.read_text()) if state.is_file() else {}
    stamps = {name: _stamp(path) for name, path in files.items()}
    changed = [name for name in files if known.get(name, [None])[:-1] != stamps[name]]
    fresh: dict[str, str] = {}
    if changed:
        begin = time.time_ns()
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            hashed = pool.map(_digest, (files[name] for name in changed))
            digests = track(hashed, "hash content", total=len(changed), unit="file")
            fresh = dict(zip(changed, digests, strict=True))
        remembered = {
            name: [*stamps[name], fresh[name]] if name in fresh else known[name]
            for name in files
            if name not in fresh or begin - max(stamps[name][1:3]) > SETTLED_NS
        }
        state.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(state, json.dumps(remembered))
    whole = hashlib.sha256()
    for name in sorted(files):
        digest = fresh[name] if name in fresh else known[name][-1]
        whole.update(f"{name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    for line in besides:
        whole.update(f"{line}\n".encode())
    return whole.hexdigest()


def _stamp(path: Path) -> list[int]:
    """Size, times and inode; what changes when a file does."""
    info = path.stat()
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def _digest(path: Path) -> str:
    """SHA-256 of a file; a file that may not be read counts as one that says so."""
    try:
        return digest_file(path)
    except PermissionError as error:
        return f"unreadable: {error.strerror}"
