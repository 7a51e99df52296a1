"""Read a dataset straight from its DVC remote: no checkout, no copy in the cache.

    with open_version("<md5>.dir", workspace=Path("."), remote="s3://bucket/path") as dataset:
        for name in dataset.shards("train"):
            with dataset.open(name) as file:
                ...

A DVC remote stores every file under its md5; the version's directory object says which is which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from components.errors import ArtifactMissing
from components.storage.remotes import known_version
from components.storage.repository import open_repository

BLOCK = 8 << 20
"""Bytes asked of the remote at a time: a shard is read from its beginning to its end."""


@dataclass(frozen=True)
class RemoteDataset:
    """The files of one version, where they lie in the remote."""

    version: str
    files: dict[str, str]
    """Path inside the dataset → path in the remote."""
    _fs: Any

    def shards(self, split: str) -> list[str]:
        """Shards of a split, in their order."""
        found = (name for name in self.files if name.startswith(f"shards/{split}-"))
        return sorted(name for name in found if name.endswith(".tar"))

    def open(self, name: str) -> BinaryIO:
        """A file that is read as it comes.

        Raises:
            ArtifactMissing: the version has no such file, or the remote lost it.
        """
        try:
            return cast("BinaryIO", self._fs.open(self.files[name], "rb", block_size=BLOCK))
        except (KeyError, FileNotFoundError) as error:
            raise ArtifactMissing(
                f"version {self.version} has no file '{name}' in the remote",
                where=self.files.get(name, ", ".join(sorted(self.files)[:5])),
                fix="push the dataset again from a machine that has it: dvc push",
            ) from error


@contextmanager
def open_version(version: str, *, workspace: Path, remote: str = "") -> Iterator[RemoteDataset]:
    """The files of a version in the remote, for as long as they are read.

    Args:
        version: `<md5>.dir`, as in `Dataset.version`.
        workspace: Root of the DVC repository, which knows the remote.
        remote: Remote URL; empty: the repository's default remote.

    Raises:
        ArtifactMissing: the remote does not have the version.
        OpsinError: DVC refused.
    """
    with open_repository(workspace, remote) as repository:
        store = repository.cloud.get_remote_odb()
        with known_version(workspace, remote, version):
            tree = Tree.load(store, HashInfo("md5", version))
        files = {"/".join(parts): store.oid_to_path(info.value) for parts, _, info in tree}
        yield RemoteDataset(version, files, store.fs)
