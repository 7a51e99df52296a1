"""The remote that `.dvc/config` names: written where there was none, otherwise what to run is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.config import Config
from dvc.repo import Repo

from components.storage.remotes import choose_remote, keep_remote


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    workspace = tmp_path / "w"
    workspace.mkdir()
    Repo.init(str(workspace), no_scm=True).close()
    return workspace


def _dvc(*arguments: str, cwd: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=cwd, check=True, capture_output=True)


def _kept(root: Path) -> dict[str, str]:
    """URL of each remote, and the default's name under an empty name."""
    config = Config(str(root / ".dvc")).read()
    urls = {name: str(each["url"]) for name, each in config["remote"].items()}
    return urls | {"": config["core"].get("remote", "")}


def test_keep_remote_twice_writes_once(root: Path) -> None:
    keep_remote(root, "s3://bucket/ds")
    path = root / ".dvc" / "config"
    first = path.stat().st_mtime_ns
    for url in ("s3://bucket/ds", ""):
        keep_remote(root, url)
    assert path.stat().st_mtime_ns == first
    assert _kept(root) == {"opsin": "s3://bucket/ds", "": "opsin"}


def test_keep_remote_follows_the_endpoint_of_the_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for endpoint in ("http://first:1", "http://second:2"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        keep_remote(root, "s3://bucket/ds")
        config = Config(str(root / ".dvc")).read()
        assert config["remote"]["opsin"] == {"url": "s3://bucket/ds", "endpointurl": endpoint}


def test_keep_remote_writes_no_password_but_uses_it(root: Path) -> None:
    url = "ssh://me:secret@host/ds"
    keep_remote(root, url)
    assert _kept(root)["opsin"] == "ssh://me@host/ds"
    assert choose_remote(root, url).settings()["remote"]["opsin"]["url"] == url
    assert "secret" not in choose_remote(root, url).shown


def test_keep_remote_leaves_the_users_default_and_tells_the_line_to_run(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _dvc("remote", "add", "--default", "team", "s3://team/ds", cwd=root)
    before = (root / ".dvc" / "config").read_text()
    for url in ("", "s3://team/ds"):
        keep_remote(root, url)
    assert not capsys.readouterr().err
    keep_remote(root, "s3://bucket/a long way")
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("  dvc "))
    assert line == "  dvc remote add opsin 's3://bucket/a long way'"
    assert (root / ".dvc" / "config").read_text() == before
    _dvc("remote", "add", "opsin", "s3://bucket/a long way", cwd=root)
    keep_remote(root, "s3://bucket/a long way")
    assert not capsys.readouterr().err


def test_keep_remote_beside_another_of_its_own_takes_another_name(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_remote(root, "s3://first/ds")
    keep_remote(root, "s3://second/ds")
    assert _kept(root) == {"opsin": "s3://first/ds", "": "opsin"}
    name = choose_remote(root, "s3://second/ds").name
    assert name.startswith("opsin-") and f"dvc remote add {name} s3://second/ds" in capsys.readouterr().err


def test_a_directory_that_nobody_chose_gives_way_to_a_remote_that_somebody_did(root: Path) -> None:
    keep_remote(root, "")
    assert _kept(root) == {"opsin": str(root / ".opsin" / "dvc-remote"), "": "opsin"}
    keep_remote(root, "s3://bucket/ds")
    assert _kept(root) == {"opsin": "s3://bucket/ds", "": "opsin"}


def test_a_workspace_that_was_moved_uses_its_own_directory(root: Path, tmp_path: Path) -> None:
    keep_remote(root, "")
    moved = tmp_path / "moved"
    shutil.move(root, moved)
    keep_remote(moved, "")
    assert _kept(moved)["opsin"] == str(moved / ".opsin" / "dvc-remote")
