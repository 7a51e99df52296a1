"""A quiet DVC repository at the workspace: found, or made where there is none."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from components.errors import OpsinError
from components.storage.remotes import choose_remote

LOGGERS = ("dvc", "dvc_data", "dvc_objects", "dvc_s3")


@contextmanager
def open_repository(workspace: Path, remote: str = "") -> Iterator[Repo]:
    """The workspace's DVC repository, with `remote` as its default remote for as long as it is open.

    Args:
        workspace: Root of a git clone with a `.dvc` directory, or any directory: a repository without
            git is made there.
        remote: URL, handed to DVC as it is (a directory, `s3://bucket/path`, ...). Empty: the
            repository's own default remote, or a directory in `.opsin/` where it has none.

    Raises:
        OpsinError: DVC refused; its own words are in the message.
    """
    root = workspace.resolve()
    with _quiet():
        try:
            if not (root / ".dvc").is_dir():
                root.mkdir(parents=True, exist_ok=True)
                Repo.init(str(root), no_scm=True).close()
            with Repo(str(root), config=_settings(root, remote)) as repository:
                yield repository
        except LockError as error:
            raise OpsinError(
                "another DVC command is working in this workspace",
                where=str(root),
                fix="wait until it has ended, then run the same command again",
            ) from error
        except DvcException as error:
            raise OpsinError(
                f"DVC could not store or fetch the dataset: {error}",
                where=str(root),
                fix="`dvc doctor` and `dvc status` in that folder say more; curate.remote names the remote",
            ) from error


def _settings(root: Path, remote: str) -> dict[str, Any]:
    """Settings on top of the repository's own files; nothing is written."""
    core: dict[str, Any] = {"analytics": False, "check_update": False, "autostage": False}
    if not (root / ".git").exists():
        core["no_scm"] = True
    chosen = choose_remote(root, remote).settings()
    return chosen | {"core": core | chosen["core"]}


@contextmanager
def _quiet() -> Iterator[None]:
    """DVC's progress bars and hints are for its own command line."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pygtrie, below DVC
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
