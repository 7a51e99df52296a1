"""Which files of a hub dataset hold its data, by the `datasets` library's own rules, and how they get here.

downloads/hub/ORG--NAME/<commit>/…          the files
downloads/hub/ORG--NAME/<commit>.<config>.json   which of them a config is; there once all are
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from components.curate.samples import slug
from components.curate.sources.files.card import CARD, read_card
from components.curate.sources.files.listing import Selected, Selection, inside
from components.curate.sources.files.pictures import is_picture
from components.curate.sources.files.rows import SUFFIXES
from components.errors import ConfigError
from components.hub import COMMIT, HubRepo

READABLE = (".parquet", ".tar", ".txt", *SUFFIXES)
REMOTE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)(:(?P<config>[^:]+))?")
LOCAL = ("/", "./", "../", "~")


@dataclass(frozen=True)
class HubLocator:
    """A locator, taken apart: `repo` and `revision`, or `folder`."""

    repo: str
    revision: str
    folder: str
    config: str

    @classmethod
    def parse(cls, locator: str) -> HubLocator:
        """
        Raises:
            ConfigError: it is not a locator of a dataset.
        """
        text = locator.removeprefix("hub:").strip()
        if text.startswith(LOCAL):
            folder, _, config = text.rpartition(":") if not Path(text).expanduser().is_dir() else ("", "", "")
            return cls("", "", folder or text, config if folder else "")
        found = REMOTE.fullmatch(text)
        if not found:
            here = Path(text.partition(":")[0]).is_dir()
            raise ConfigError(
                f"'{locator}' is not a locator of a dataset",
                where="curate.sources",
                fix=f"write hub:./{text} for the folder of that name"
                if here
                else "write hub:ORG/NAME@REVISION[:CONFIG] (a commit, a tag or a branch), or hub:/DIRECTORY",
            )
        return cls(found["repo"], found["revision"], "", found["config"] or "")


@dataclass(frozen=True)
class Snapshot:
    """What was fetched of one commit."""

    root: Path
    commit: str
    selection: Path


def choose_files(root: Path, config: str, wanted: str, *, where: str) -> Selection:
    """The data files of a config that can be read, each with its split; nothing is opened but the card.

    Args:
        root: Of the dataset.
        config: Its name; empty: the default one.
        wanted: Pattern of the names that are taken (`fnmatch`), of a dataset that is too large as a whole.
        where: Of the locator, for errors.

    Raises:
        ConfigError: there is no such config, it names files outside of the dataset, or none can be read.
        SourceError: the card cannot be read.
    """
    from datasets.data_files import EmptyDatasetError, get_data_patterns, sanitize_patterns

    settings = _choose_config(read_card(root), config, where)
    base = _within(root, str(settings.get("data_dir", "")), where)
    try:
        patterns = (
            sanitize_patterns(settings["data_files"])
            if "data_files" in settings
            else get_data_patterns(str(base))
        )
        for pattern in (each for several in patterns.values() for each in several):
            _within(base, pattern, where)
        found = [
            (str(split), Path(path))
            for split, several in patterns.items()
            for pattern in several
            for path in _resolve(pattern, base, where)
        ]
    except (EmptyDatasetError, ValueError, TypeError) as error:
        raise ConfigError(
            f"no data file is found: {error}", where=where, fix="mend the dataset card"
        ) from error
    chosen = {
        name: Selected(name, path, split)
        for split, path in reversed(found)  # the first split that names a file has it
        if _readable(name := path.relative_to(root).as_posix(), wanted) and inside(path, root)
    }
    if not chosen:
        held = sorted({path.suffix or path.name for _, path in found})
        raise ConfigError(
            f"the dataset holds no file like '{wanted}' that can be read without running its own code",
            where=where,
            fix=f"it holds {', '.join(held) or 'nothing'}; take the hub's own conversion (revision "
            "refs/convert/parquet), or unpack it and name the directory",
        )
    return Selection(tuple(chosen[name] for name in sorted(chosen)))


def _resolve(pattern: str, base: Path, where: str) -> list[str]:
    """The files of one pattern; none where its wildcards match nothing (the library tries several)."""
    from datasets.data_files import resolve_pattern

    try:
        return sorted(resolve_pattern(pattern, str(base)))
    except FileNotFoundError as error:
        if any(each in pattern for each in "*?["):
            return []
        raise ConfigError(
            f"the dataset card names {pattern}, which is not there", where=where, fix="complete the copy"
        ) from error


def _readable(name: str, wanted: str) -> bool:
    known = PurePosixPath(name).suffix.lower() in READABLE or is_picture(name)
    return known and fnmatch.fnmatchcase(name, wanted)


def _choose_config(card: dict[str, Any], config: str, where: str) -> dict[str, Any]:
    """What the card says about a config: the one that is named, the default one, or the only one."""
    written = card.get("configs") or []
    configs = {str(each.get("config_name", "default")): each for each in written if isinstance(each, dict)}
    if not configs and not config:
        return {}
    default = next((name for name, each in configs.items() if each.get("default")), "default")
    chosen = config or (next(iter(configs)) if len(configs) == 1 else default)
    if chosen not in configs:
        raise ConfigError(
            f"there is no config '{config}'" if config else "the dataset has several configs",
            where=where,
            fix=f"name one behind the locator: {', '.join(f':{name}' for name in configs) or 'it has none'}",
        )
    return dict(configs[chosen])


def _within(base: Path, pattern: str, where: str) -> Path:
    """A path or pattern of a card below `base`.

    Raises:
        ConfigError: it is absolute, a URL, or leads outside.
    """
    if pattern.startswith(("/", "~")) or "::" in pattern or "://" in pattern or ".." in pattern.split("/"):
        raise ConfigError(
            f"the dataset card names files outside of the dataset: {pattern}",
            where=where,
            fix="fetch those files, and name them with another source",
        )
    return base / pattern


def fetch_snapshot(locator: HubLocator, wanted: str, downloads: Path, *, where: str) -> Snapshot:
    """The data files of a config at a revision; without the hub where they are here already.

    Raises:
        ConfigError, SourceError: as `choose_files`; the hub does not know the dataset or does not answer.
    """
    revision, home = locator.revision, downloads / "hub" / locator.repo.replace("/", "--")
    hub = HubRepo(locator.repo, "dataset", where, copy="a local copy: hub:/DIRECTORY")
    commit = revision if COMMIT.fullmatch(revision) else hub.resolve(revision, home)
    config = slug(locator.config) or "default"
    only = "" if wanted == "*" else f".{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    root, selection = home / commit, home / f"{commit}.{config}{only}.json"
    if not selection.is_file():
        names = hub.names(commit)
        hub.download(commit, [CARD] if CARD in names else [], root)
        with tempfile.TemporaryDirectory() as temporary:
            # The listing as empty files, so that the library's own rules choose among them.
            sketch = Path(temporary).resolve()
            for name in names:
                (sketch / name).parent.mkdir(parents=True, exist_ok=True)
                (sketch / name).touch()
            if CARD in names:
                (sketch / CARD).write_bytes((root / CARD).read_bytes())
            chosen = choose_files(sketch, locator.config, wanted, where=where)
        hub.download(commit, [each.name for each in chosen.files], root)
        Selection(tuple(Selected(each.name, root / each.name, each.split) for each in chosen.files)).save(
            selection
        )
    return Snapshot(root, commit, selection)
