"""Models of the Hugging Face hub: the commit that a name means, and its files, fetched once.

downloads/hub-models/<org>--<name>/<commit>/
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from components.hub import COMMIT, HubRepo

WANTED: Final = (".safetensors", ".json", ".jinja", ".txt", ".model", ".gguf")
"""Suffixes of what is fetched: pickled weights and code are not."""


def resolve_commit(repo: str, revision: str, downloads: Path, *, where: str) -> str:
    """The commit of a branch or a tag; the one of the last time, where the hub does not answer.

    Raises:
        ConfigError: the hub has no such model or revision.
        SourceError: the hub does not answer.
    """
    if COMMIT.fullmatch(revision):
        return revision
    return _repo(repo, where).resolve(revision, _home(repo, downloads))


def fetch_model(repo: str, commit: str, downloads: Path, *, where: str) -> Path:
    """A model's files at a commit, whole or not at all; without the hub where they are here already.

    Raises:
        ConfigError: the hub has no such model or commit.
        SourceError: the hub does not answer, or wants its terms accepted.
    """
    target = _home(repo, downloads) / commit
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    hub = _repo(repo, where)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        whole = Path(temporary) / "whole"
        hub.download(commit, [name for name in hub.names(commit) if name.endswith(WANTED)], whole)
        shutil.rmtree(whole / ".cache", ignore_errors=True)
        os.replace(whole, target)
    return target


def _repo(name: str, where: str) -> HubRepo:
    return HubRepo(name, "model", where, copy="a directory with a copy")


def _home(repo: str, downloads: Path) -> Path:
    return downloads / "hub-models" / repo.replace("/", "--")
