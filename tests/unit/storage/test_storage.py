"""Real DVC repositories: versions equal DVC's own, the workspace is clean afterwards, data comes back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.artifacts import Dataset, Identity, Record, digest_directory
from components.errors import ArtifactMissing, ContractMismatch, OpsinError
from components.fingerprint import ROOT
from components.storage import dataset_version, materialize, pull, push, version_dataset

STAGE = """
stages:
  curate-tiny:
    cmd: "false"
    params:
      - configs/tiny.toml:
          - curate
    outs:
      - data/tiny
"""
CONFIG = """
name = "tiny"
[curate]
[[curate.sources]]
locator = "pypi:easy-vqa==1.0"
reader = "easy_vqa"
category = "vqa"
[ablate]
[pretrain]
phases = [{ name = "all", trainable = ["language"], steps = 1, learning_rate = 1e-3 }]
[sft]
[align]
[evaluate]
[quantize]
[export]
[deploy]
"""


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    def make(text: str = "first", identity: dict[str, object] | None = None) -> Dataset:
        root = tmp_path / "artifacts" / text
        (root / "output" / "shards").mkdir(parents=True)
        (root / "output" / "shards" / "train-00000.tar").write_text(text)
        (root / "output" / "manifest.parquet").write_text("manifest")
        dataset = Dataset(
            uri=str(root / "output"),
            digest=digest_directory(root / "output"),
            record=str(root / "record.json"),
            name="tiny",
            version=dataset_version(root / "output"),
            num_samples=1,
        )
        made_by = Identity(stage="curate", config=identity or {}, code={}, parents={})
        record = Record(
            stage="curate",
            fingerprint=made_by.fingerprint,
            artifact=dataset.model_dump(),
            identity=made_by,
            config={},
            parents=(),
            git_commit="unknown",
            environment="",
            hardware={},
            started="2026-01-01T00:00:00+00:00",
            seconds=0,
        )
        (root / "record.json").write_text(record.model_dump_json())
        return dataset

    return make


def _dvc(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _clone(workspace: Path) -> dict[str, object]:
    """A git repository with a DVC stage that describes `data/tiny`; gives the config's identity."""
    from components.config import load

    (workspace / "configs").mkdir(parents=True)
    (workspace / "configs" / "tiny.toml").write_text(CONFIG)
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    _dvc("init", "-q", cwd=workspace)
    (workspace / "dvc.yaml").write_text(STAGE)
    return load(workspace / "configs" / "tiny.toml").curate.identity()


def test_version_equals_what_dvc_writes(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    dataset, workspace = make_dataset(), tmp_path / "w"
    assert version_dataset(dataset, workspace=workspace) == dataset.version
    assert dataset.version in (workspace / "data" / "tiny.dvc").read_text()
    assert "up to date" in _dvc("status", cwd=workspace)
    assert list((workspace / ".opsin" / "dvc-remote").rglob(dataset.version[2:]))


def test_version_twice_changes_nothing(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    dataset, workspace = make_dataset(), tmp_path / "w"
    version_dataset(dataset, workspace=workspace)
    before = (workspace / "data" / "tiny.dvc").read_text()
    version_dataset(dataset, workspace=workspace)
    assert (workspace / "data" / "tiny.dvc").read_text() == before


def test_described_dataset_goes_to_dvc_lock_and_repro_does_nothing(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    workspace = tmp_path / "w"
    dataset = make_dataset(identity=_clone(workspace))
    version_dataset(dataset, workspace=workspace)
    assert dataset.version in (workspace / "dvc.lock").read_text()
    assert "up to date" in _dvc("status", cwd=workspace)
    assert "didn't change, skipping" in _dvc(
        "repro", cwd=workspace
    )  # its command is `false`: running it fails


def test_dataset_of_another_config_leaves_the_described_one_alone(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    workspace = tmp_path / "w"
    identity = _clone(workspace)
    described, other = make_dataset("first", identity), make_dataset("second", identity | {"seed": 7})
    version_dataset(described, workspace=workspace)
    version_dataset(other, workspace=workspace)
    assert dataset_version(workspace / "data" / "tiny") == described.version
    assert dataset_version(workspace / "data" / f"tiny-{other.version[:8]}") == other.version
    assert "up to date" in _dvc("status", cwd=workspace)


def test_pull_brings_any_pushed_version_back(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    workspace, remote = tmp_path / "w", tmp_path / "remote"
    first, second = make_dataset("first"), make_dataset("second")
    for dataset in (first, second):
        version_dataset(dataset, workspace=workspace, remote=str(remote))
    elsewhere = tmp_path / "elsewhere"
    for dataset in (first, second, first):
        folder = pull("tiny", dataset.version, workspace=elsewhere, remote=str(remote))
        assert dataset_version(folder) == dataset.version
    assert not (workspace / ".opsin").exists()


@pytest.mark.parametrize("remote", ["", "remote"])
def test_a_plain_dvc_pull_in_a_copy_restores_the_dataset(
    tmp_path: Path, make_dataset: Callable[..., Dataset], remote: str
) -> None:
    dataset, workspace, copy = make_dataset(), tmp_path / "w", tmp_path / "copy"
    version_dataset(dataset, workspace=workspace, remote=str(tmp_path / remote) if remote else "")
    _dvc("push", "--quiet", cwd=workspace)
    shutil.copytree(workspace / ".dvc", copy / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    (copy / "data").mkdir()
    shutil.copy(workspace / "data" / "tiny.dvc", copy / "data")
    _dvc("pull", "--quiet", cwd=copy)
    assert dataset_version(copy / "data" / "tiny") == dataset.version


def test_version_with_the_defaults_leaves_the_committed_dvc_config_as_it_is(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    workspace = tmp_path / "w"
    _clone(workspace)
    shutil.copy(ROOT / ".dvc" / "config", workspace / ".dvc" / "config")
    version_dataset(make_dataset(), workspace=workspace)
    assert (workspace / ".dvc" / "config").read_bytes() == (ROOT / ".dvc" / "config").read_bytes()


def test_pull_of_another_version_leaves_a_clean_status(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    workspace = tmp_path / "w"
    first, second = make_dataset("first"), make_dataset("second")
    for dataset in (first, second):
        version_dataset(dataset, workspace=workspace)
    pull("tiny", first.version, workspace=workspace)
    assert first.version in (workspace / "data" / "tiny.dvc").read_text()
    assert "up to date" in _dvc("status", cwd=workspace)


def test_pull_into_a_folder_that_dvc_yaml_makes_leaves_the_lock_as_it_is(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    workspace = tmp_path / "w"
    identity = _clone(workspace)
    described, other = make_dataset("first", identity), make_dataset("second", identity | {"seed": 7})
    for dataset in (described, other):
        version_dataset(dataset, workspace=workspace)
    lock = (workspace / "dvc.lock").read_text()
    pull("tiny", other.version, workspace=workspace)
    assert dataset_version(workspace / "data" / "tiny") == other.version
    assert (workspace / "dvc.lock").read_text() == lock and not (workspace / "data" / "tiny.dvc").exists()


def test_a_remote_that_is_a_file_is_named(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    remote = tmp_path / "file"
    remote.write_text("no directory")
    with pytest.raises(OpsinError, match=rf"DVC remote 'opsin' \({remote}\).*Not a directory"):
        version_dataset(make_dataset(), workspace=tmp_path / "w", remote=str(remote))
    assert "remote" not in (tmp_path / "w" / ".dvc" / "config").read_text()  # what does not work is not kept


def test_pull_of_an_unknown_version_names_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="0123"):
        pull("tiny", "0123456789abcdef0123456789abcdef.dir", workspace=tmp_path / "w")


def test_push_after_the_remote_was_lost_restores_it(
    tmp_path: Path, make_dataset: Callable[..., Dataset]
) -> None:
    dataset, workspace = make_dataset(), tmp_path / "w"
    version_dataset(dataset, workspace=workspace)
    shutil.rmtree(workspace / ".opsin" / "dvc-remote")
    push("tiny", workspace=workspace)
    assert list((workspace / ".opsin" / "dvc-remote").rglob(dataset.version[2:]))
    with pytest.raises(ArtifactMissing, match="data/none"):
        push("none", workspace=workspace)


def test_version_of_altered_bytes_is_refused(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    (dataset.path / "manifest.parquet").write_text("tampered")
    with pytest.raises(ContractMismatch, match="record says"):
        version_dataset(dataset, workspace=tmp_path / "w")


def test_materialize_replaces_what_lay_there(tmp_path: Path, make_dataset: Callable[..., Dataset]) -> None:
    first, second = make_dataset("first"), make_dataset("second")
    for dataset in (first, second):
        folder = materialize(dataset, workspace=tmp_path / "w")
        assert dataset_version(folder) == dataset.version
