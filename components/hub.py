"""The Hugging Face hub, for data and for models: the commit that a name means, what lies there, its files.

repo = HubRepo("ORG/NAME", "dataset", where="curate.sources", copy="hub:/DIRECTORY")
commit = repo.resolve("main", home)
repo.download(commit, repo.names(commit), root)
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from components.artifacts import write_atomic
from components.errors import ConfigError, SourceError
from components.progress import console, track

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
CONCURRENCY: Final = 8


@dataclass(frozen=True)
class HubRepo:
    """A repository of the hub. Everything that asks it raises ConfigError (there is no such repository or
    revision) or SourceError (no answer, or its terms are not accepted)."""

    name: str
    kind: Literal["dataset", "model"]
    where: str
    """What the config's error names."""
    copy: str
    """How a copy on this machine is named instead."""

    def resolve(self, revision: str, home: Path) -> str:
        """The commit of a branch or a tag; the one of the last time, where the hub does not answer.

        Args:
            home: Folder that remembers it.
        """
        refs = home / "refs.json"
        known: dict[str, str] = json.loads(refs.read_text()) if refs.is_file() else {}
        try:
            commit = str(self._info(revision).sha)
        except SourceError as error:
            if revision not in known:
                raise
            console.print(
                f"{error.what}; {revision} is taken as {known[revision]}, as it was", style="yellow"
            )
            return known[revision]
        home.mkdir(parents=True, exist_ok=True)
        write_atomic(refs, json.dumps(known | {revision: commit}))
        return commit

    def names(self, commit: str) -> list[str]:
        """Files at a commit; a name that would lead out of a folder is left out."""
        names = [each.rfilename for each in self._info(commit).siblings or ()]
        return [
            name for name in names if not PurePosixPath(name).is_absolute() and ".." not in name.split("/")
        ]

    def download(self, commit: str, names: Sequence[str], root: Path) -> None:
        """Files into `root`; those that are there whole are left, a part is continued (`huggingface_hub`)."""
        from huggingface_hub import hf_hub_download
        from tqdm.auto import tqdm  # type: ignore[import-untyped]

        class Silent(tqdm):  # type: ignore[misc]
            """The library's bar of each file, which would stand in the way of ours."""

            def __init__(self, *args: Any, **settings: Any) -> None:
                super().__init__(*args, **settings | {"disable": True})

        def fetch(name: str) -> str:
            return hf_hub_download(
                self.name,
                name,
                repo_type=self.kind,
                revision=commit,
                local_dir=root,
                endpoint=_endpoint(),
                tqdm_class=Silent,
            )

        with self._explained(commit), ThreadPoolExecutor(CONCURRENCY) as pool:
            for _ in track(pool.map(fetch, names), f"fetch {self.name}", total=len(names), unit="file"):
                pass

    def _info(self, revision: str) -> Any:
        from huggingface_hub import HfApi

        with self._explained(revision):
            return HfApi(endpoint=_endpoint()).repo_info(self.name, repo_type=self.kind, revision=revision)

    @contextmanager
    def _explained(self, revision: str) -> Iterator[None]:
        """What the hub's client raises, as errors that say what to do."""
        from httpx2 import HTTPError
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            yield
        except GatedRepoError as error:
            raise SourceError(
                f"{self.name} is given only to those who accept its terms",
                where=self.where,
                fix=f"accept them on the {self.kind}'s page, and set HF_TOKEN to a token of that account",
            ) from error
        except RepositoryNotFoundError as error:
            raise ConfigError(
                f"the hub knows no {self.kind} {self.name}",
                where=self.where,
                fix="mend the name; if it is private, set HF_TOKEN",
            ) from error
        except RevisionNotFoundError as error:
            raise ConfigError(
                f"{self.name} has no revision {revision}", where=self.where, fix="mend the revision"
            ) from error
        except (HTTPError, OSError) as error:
            raise SourceError(
                f"the hub did not give {self.name}: "
                f"{next(iter(str(error).splitlines()), type(error).__name__)}",
                where=self.where,
                fix=f"check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or name {self.copy}",
            ) from error


def _endpoint() -> str | None:
    """The hub that the environment names now; the library looks only when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None
