"""Which DVC remote a workspace uses, kept in its `.dvc/config` so that plain `dvc pull` works there too.

A remote that opsin adds is called `opsin`; remotes that somebody else named are used, and left as they are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from botocore.exceptions import BotoCoreError, ClientError
from dvc.config import Config
from dvc.exceptions import FileTransferError

from components.errors import ArtifactMissing, OpsinError
from components.progress import console

NAME = "opsin"
DEFAULT_DIRECTORY = Path(".opsin") / "dvc-remote"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Where the AWS SDKs look for a server that is not Amazon's, the first first."""


@dataclass(frozen=True)
class Remote:
    """A remote as it is used: its name in DVC's settings, and what is set for it."""

    name: str
    url: str
    """May hold a password; `shown` does not."""
    endpoint: str
    """Of an S3 server that is not Amazon's; empty elsewhere."""
    ours: bool
    """Whether opsin added it, or would."""

    @property
    def shown(self) -> str:
        return _without_password(self.url)

    def settings(self) -> dict[str, Any]:
        """On top of the repository's own settings, for as long as it is open."""
        section = self._section(self.url) if self.url else {}
        return {"core": {"remote": self.name}, "remote": {self.name: section} if section else {}}

    def kept(self) -> dict[str, str]:
        """What `.dvc/config` holds of it: no password."""
        return self._section(self.shown)

    def _section(self, url: str) -> dict[str, str]:
        endpoint = {"endpointurl": _without_password(self.endpoint)} if self.endpoint else {}
        return {"url": url, **endpoint}


def choose_remote(root: Path, url: str) -> Remote:
    """The remote at `url`; by default the workspace's default remote, or a directory in `.opsin/`.

    Args:
        root: Root of the DVC repository.
        url: As DVC takes it, a directory among others; empty: the default.
    """
    root = root.resolve()
    known, default = _configured(root)
    if not url and default and not _is_lost(known.get(default, {})):
        return _remote(default, str(known.get(default, {}).get("url", "")))
    url = _absolute(url or str(root / DEFAULT_DIRECTORY))
    shown = _without_password(url)
    same = [name for name, each in known.items() if _without_password(str(each.get("url", ""))) == shown]
    if same:
        return _remote(default if default in same else same[0], url)
    if NAME not in known or _is_fallback(known[NAME]):
        return _remote(NAME, url)
    return _remote(f"{NAME}-{hashlib.sha256(shown.encode()).hexdigest()[:6]}", url)


def keep_remote(root: Path, url: str) -> None:
    """Make the remote at `url` the workspace's default, unless it has another one: then say what to run.

    What nobody chose, the directory in `.opsin/`, gives way to what somebody did.
    """
    remote = choose_remote(root, url)
    known, default = _configured(root)
    if default in ("", remote.name):
        settings = known.get(remote.name, {}) | (remote.kept() if remote.ours else {})
        if not default or settings != known.get(remote.name):
            with Config(str(root / ".dvc")).edit("repo") as config:
                config["core"]["remote"] = remote.name
                if remote.ours:
                    config["remote"][remote.name] = settings
    elif remote.name not in known:
        lines = [f"dvc remote add {remote.name} {shlex.quote(remote.shown)}"]
        if "endpointurl" in remote.kept():
            lines.append(f"dvc remote modify {remote.name} endpointurl {remote.kept()['endpointurl']}")
        console.print(
            f"the dataset is in {remote.shown}, but plain `dvc pull` asks the remote '{default}' here; to"
            f" have `dvc pull --remote {remote.name}`, run:",
            *(f"  {line}" for line in lines),
            sep="\n",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def remote_errors(root: Path, url: str) -> Iterator[None]:
    """What a remote and the libraries below DVC raise, as an error that names the remote.

    Raises:
        OpsinError: there is no such remote, it refused, or did not answer.
    """
    try:
        yield
    except (OSError, BotoCoreError, ClientError, FileTransferError) as error:
        remote = choose_remote(root, url)
        causes = [error, *_causes(error)]
        raise OpsinError(
            f"the DVC remote '{remote.name}' ({remote.shown}) could not be used: "
            + ": ".join(dict.fromkeys(str(each).strip() or type(each).__name__ for each in causes)),
            where=remote.endpoint or remote.shown,
            fix=_advice(remote),
        ) from error


@contextmanager
def known_version(root: Path, url: str, version: str) -> Iterator[None]:
    """As `remote_errors`, and a file that is missing means that the version is.

    Raises:
        ArtifactMissing: neither the cache nor the remote has the version.
        OpsinError: as `remote_errors`.
    """
    with remote_errors(root, url):
        try:
            yield
        except FileNotFoundError as error:
            raise ArtifactMissing(
                f"no dataset of version {version} in the cache or the remote: {error}",
                where=choose_remote(root, url).shown,
                fix="check the version, and the remote (`curate.remote`; `--remote` when restoring)",
            ) from error


def _advice(remote: Remote) -> str:
    if remote.url.startswith("s3://"):
        bucket = urlsplit(remote.url).netloc
        return (
            f"check that the bucket '{bucket}' exists, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or "
            "AWS_PROFILE), and AWS_ENDPOINT_URL; curate.remote names the remote"
        )
    if "://" not in remote.url:
        return "it must be a directory that can be written, on a disk with space; curate.remote names it"
    return "check its address, your credentials for it and the network; curate.remote names the remote"


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error


def _configured(root: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Remotes by name, and the default's name, from all of DVC's own config files."""
    settings = Config(str(root / ".dvc")).read()
    return settings["remote"], settings["core"].get("remote", "")


def _remote(name: str, url: str) -> Remote:
    ours = re.fullmatch(rf"{NAME}(-[0-9a-f]{{6}})?", name) is not None
    named = next((os.environ[key] for key in ENDPOINTS if os.environ.get(key)), "")
    return Remote(name, url, named if ours and url.startswith("s3://") else "", ours)


def _absolute(url: str) -> str:
    """A directory's path in full, as DVC itself resolves those of its config; any other URL as it is."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def _is_fallback(section: dict[str, Any]) -> bool:
    return Path(str(section.get("url", ""))).parts[-2:] == DEFAULT_DIRECTORY.parts


def _is_lost(section: dict[str, Any]) -> bool:
    """Of a workspace that was moved, or cloned to another machine."""
    return _is_fallback(section) and not Path(str(section["url"])).is_dir()


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{host}" if parts.username else host))
