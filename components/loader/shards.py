"""The files of a dataset, one after another: from the workspace, or straight from the DVC remote.

Where the dataset's directory is not on this machine (a training node that got only the record), shards
are read from the remote as they are needed, and nothing is checked out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pandas as pd

from components.artifacts import Dataset
from components.errors import SourceError

if TYPE_CHECKING:
    from components.storage import RemoteDataset


def iter_shards(dataset: Dataset, split: str, *, may_lack: bool = False) -> Iterator[tuple[str, BinaryIO]]:
    """Name and open file of every shard of a split, in order; read each before asking for the next.

    Raises:
        SourceError: the split has no shard (unless it `may_lack` them).
        ArtifactMissing: the dataset is neither here nor in its remote.
    """
    found = False
    files = _local(dataset, split) if dataset.path.is_dir() else _remote(dataset, split)
    for name, file in files:
        found = True
        yield name, file
    if not found and not may_lack:
        raise SourceError(
            f"dataset '{dataset.name}' has no shard of split '{split}'",
            where=dataset.uri,
            fix="run `curate` again; the splits are train, validation and test",
        )


def read_manifest(dataset: Dataset, columns: list[str]) -> pd.DataFrame:
    """Columns of the manifest, one row a sample.

    Raises:
        ArtifactMissing: the dataset is neither here nor in its remote.
    """
    if dataset.path.is_dir():
        return pd.read_parquet(dataset.path / "manifest.parquet", columns=columns)
    with _open(dataset) as version, version.open("manifest.parquet") as file:
        return pd.read_parquet(file, columns=columns)


class ShardReader:
    """Ranges of a dataset's shards, in any order: from the workspace, or from the DVC remote.

    Opened in the process that reads: what is handed to another process there opens its own files.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._files: dict[str, BinaryIO] = {}
        self._open: ExitStack | None = None
        self._version: RemoteDataset | None = None
        self._process = os.getpid()

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """So many bytes of a shard from `offset` on.

        Raises:
            SourceError: the shard ends before.
            ArtifactMissing: it is neither here nor in the remote.
        """
        if self._process != os.getpid():
            # Forked: a file that was open before shares its place with the parent's.
            self._files, self._open, self._version = {}, None, None
            self._process = os.getpid()
        if shard not in self._files:
            self._files[shard] = self._find(shard)
        file = self._files[shard]
        file.seek(offset)
        content = file.read(size)
        if len(content) != size:
            raise SourceError(
                f"shard {shard} ends before byte {offset + size}",
                where=self._dataset.uri,
                fix="fetch the dataset again (`dvc checkout`)",
            )
        return content

    def _find(self, shard: str) -> BinaryIO:
        self._open = self._open or ExitStack()
        if self._dataset.path.is_dir():
            return self._open.enter_context((self._dataset.path / "shards" / shard).open("rb"))
        if self._version is None:
            self._version = self._open.enter_context(_open(self._dataset))
        return self._open.enter_context(self._version.open(f"shards/{shard}"))

    def close(self) -> None:
        if self._open:
            self._open.close()
        self._files, self._open, self._version = {}, None, None

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {"_dataset": self._dataset, "_files": {}, "_open": None, "_version": None, "_process": 0}


def _local(dataset: Dataset, split: str) -> Iterator[tuple[str, BinaryIO]]:
    for path in sorted((dataset.path / "shards").glob(f"{split}-*.tar")):
        with path.open("rb") as file:
            yield str(path), file


def _remote(dataset: Dataset, split: str) -> Iterator[tuple[str, BinaryIO]]:
    with _open(dataset) as version:
        for name in version.shards(split):
            with version.open(name) as file:
                yield name, file


@contextmanager
def _open(dataset: Dataset) -> Iterator[RemoteDataset]:
    from components.storage import open_version  # DVC takes a second to import, and is seldom needed here

    config = dataset.load_record().config
    workspace = Path(config["execution"]["workspace"])
    with open_version(dataset.version, workspace=workspace, remote=config["remote"]) as version:
        yield version
