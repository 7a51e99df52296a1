"""Models of the Hugging Face hub: the commit that a name means, and its files, fetched once.

downloads/hub-models/<org>--<name>/<commit>/
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from components.artifacts import write_atomic
from components.errors import ConfigError, SourceError
from components.progress import console, track

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
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
    refs = _home(repo, downloads) / "refs.json"
    known: dict[str, str] = json.loads(refs.read_text()) if refs.is_file() else {}
    try:
        with _explained(repo, revision, where):
            commit = str(_api().model_info(repo, revision=revision).sha)
    except SourceError as error:
        if revision not in known:
            raise
        console.print(f"{error.what}; {revision} is taken as {known[revision]}, as it was", style="yellow")
        return known[revision]
    refs.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(refs, json.dumps(known | {revision: commit}))
    return commit


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
    with _explained(repo, commit, where), tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        siblings = _api().model_info(repo, revision=commit).siblings or ()
        names = [each.rfilename for each in siblings if each.rfilename.endswith(WANTED)]
        whole = Path(temporary) / "whole"
        for name in track(names, f"fetch {repo}", total=len(names), unit="file"):
            _download(repo, commit, name, whole)
        shutil.rmtree(whole / ".cache", ignore_errors=True)
        os.replace(whole, target)
    return target


def _home(repo: str, downloads: Path) -> Path:
    return downloads / "hub-models" / repo.replace("/", "--")


def _download(repo: str, commit: str, name: str, root: Path) -> None:
    from huggingface_hub import hf_hub_download
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    class Silent(tqdm):  # type: ignore[misc]
        """The library's bar of each file, which would stand in the way of ours."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings | {"disable": True})

    hf_hub_download(repo, name, revision=commit, local_dir=root, endpoint=_endpoint(), tqdm_class=Silent)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint())


def _endpoint() -> str | None:
    """The hub that the environment names now; the library looks only when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _explained(repo: str, revision: str, where: str) -> Iterator[None]:
    """What the hub's client raises, as errors that say what to do."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise SourceError(
            f"{repo} is given only to those who accept its terms",
            where=where,
            fix="accept them on the model's page, and set HF_TOKEN to a token of that account",
        ) from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"the hub knows no model {repo}", where=where, fix="mend the name; if it is private, set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise ConfigError(
            f"{repo} has no revision {revision}", where=where, fix="mend the revision"
        ) from error
    except (HTTPError, OSError) as error:
        raise SourceError(
            f"the hub did not give {repo}: {next(iter(str(error).splitlines()), type(error).__name__)}",
            where=where,
            fix="check the network, HF_ENDPOINT and HF_HUB_OFFLINE; or name a directory with a copy",
        ) from error
