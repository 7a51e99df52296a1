"""A real S3 server as the DVC remote: push, a plain `dvc pull` elsewhere, streaming without a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from s3 import Bucket

from components.artifacts import Dataset, Record
from components.errors import ArtifactMissing, OpsinError, SourceError
from components.loader import iter_shards, read_manifest, read_samples
from components.loader.shards import ShardReader
from components.storage import checkout_version, dataset_version, open_version, version_dataset


def dvc(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def pushed(
    tmp_path: Path, s3_bucket: Bucket, tiny_dataset: Dataset, record_writer: Callable[..., Record]
) -> tuple[Dataset, Path, str]:
    """The tiny dataset, pushed from a workspace to the S3 server; dataset, workspace, remote."""
    root = tmp_path / "curated"
    shutil.copytree(tiny_dataset.path, root / "output")
    dataset = tiny_dataset.model_copy(
        update={
            "uri": str(root / "output"),
            "record": str(root / "record.json"),
            "version": dataset_version(root / "output"),
        }
    )
    workspace, remote = tmp_path / "workspace", f"{s3_bucket.url}/datasets"
    record_writer(dataset, "curate")
    record = json.loads((root / "record.json").read_text())
    record["config"] = {"remote": remote, "execution": {"workspace": str(workspace)}}
    (root / "record.json").write_text(json.dumps(record))
    assert version_dataset(dataset, workspace=workspace, remote=remote) == dataset.version
    return dataset, workspace, remote


def test_a_plain_dvc_pull_elsewhere_restores_what_was_pushed(
    tmp_path: Path, pushed: tuple[Dataset, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, workspace, _ = pushed
    other = tmp_path / "other"
    shutil.copytree(workspace / ".dvc", other / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    (other / "data").mkdir()
    shutil.copy(workspace / "data" / "tiny.dvc", other / "data" / "tiny.dvc")
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # the workspace knows it
    dvc("pull", "--quiet", folder=other)
    assert dataset_version(other / "data" / "tiny") == dataset.version


def test_the_workspace_holds_the_remote_but_no_credentials(pushed: tuple[Dataset, Path, str]) -> None:
    _, workspace, remote = pushed
    config = (workspace / ".dvc" / "config").read_text()
    assert f"url = {remote}" in config and f"endpointurl = {os.environ['AWS_ENDPOINT_URL']}" in config
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in config


@pytest.mark.parametrize(
    ("remote", "environment", "told"),
    [
        ("s3://no-such-bucket/ds", {}, "bucket does not exist"),
        ("", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "Forbidden"),
        ("", {"AWS_SECRET_ACCESS_KEY": "", "AWS_ACCESS_KEY_ID": ""}, "credentials"),
        ("", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect"),
    ],
    ids=["no bucket", "wrong key", "no credentials", "endpoint down"],
)
def test_a_remote_that_does_not_work_is_named_with_what_to_do(
    pushed: tuple[Dataset, Path, str],
    remote: str,
    environment: dict[str, str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    dataset, _, working = pushed
    remote = remote or working
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for use in (
        lambda: version_dataset(dataset, workspace=tmp_path / "w", remote=remote),
        lambda: open_version(dataset.version, workspace=tmp_path / "w", remote=remote).__enter__(),
    ):
        with pytest.raises(OpsinError, match=told) as raised:
            use()
        assert remote in str(raised.value) and raised.value.fix


def test_push_of_one_changed_shard_uploads_that_shard_alone(
    tmp_path: Path, pushed: tuple[Dataset, Path, str], s3_bucket: Bucket
) -> None:
    dataset, workspace, remote = pushed
    before = {each["Key"] for each in s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]}
    shard = next(iter(sorted((dataset.path / "shards").glob("test-*.tar"))))
    shard.write_bytes(shard.read_bytes() + bytes(512))
    changed = dataset.model_copy(update={"version": dataset_version(dataset.path)})
    version_dataset(changed, workspace=workspace, remote=remote)
    after = {each["Key"] for each in s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]}
    assert len(after - before) == 2  # the shard, and the directory object


def test_training_reads_from_the_remote_where_nothing_is_checked_out(
    pushed: tuple[Dataset, Path, str],
) -> None:
    dataset, workspace, _ = pushed
    here = read_samples(dataset, "train")
    counts = read_manifest(dataset, ["split", "category"]).value_counts().to_dict()
    shutil.rmtree(dataset.path)
    shutil.rmtree(workspace / ".dvc" / "cache")
    shutil.rmtree(workspace / "data" / "tiny")
    assert read_samples(dataset, "train") == here
    assert read_manifest(dataset, ["split", "category"]).value_counts().to_dict() == counts
    assert not dataset.path.exists() and not (workspace / ".dvc" / "cache").exists()


def test_pictures_are_read_by_range_from_the_remote_in_any_order(pushed: tuple[Dataset, Path, str]) -> None:
    dataset, _, _ = pushed
    samples = read_samples(dataset, "train")
    shutil.rmtree(dataset.path)
    reader = ShardReader(dataset)
    for sample in sorted(samples, key=lambda each: each.key[::-1])[::5]:
        (place,) = sample.places
        assert reader.read(place.shard, place.offset, place.size) == sample.images[0]
    reader.close()


def test_stream_of_an_unknown_version_or_file_says_so(pushed: tuple[Dataset, Path, str]) -> None:
    dataset, workspace, remote = pushed
    with (
        pytest.raises(ArtifactMissing, match="no dataset of version 0000"),
        open_version("0" * 32 + ".dir", workspace=workspace, remote=remote),
    ):
        pass
    with open_version(dataset.version, workspace=workspace, remote=remote) as version:
        with pytest.raises(ArtifactMissing, match=r"no file 'shards/dev\.tar'"):
            version.open("shards/dev.tar")
        with version.open(version.shards("test")[0]) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            assert len(tar.getnames()) == 32


def test_checkout_of_a_version_lost_from_the_remote_names_it(
    tmp_path: Path, pushed: tuple[Dataset, Path, str], s3_bucket: Bucket
) -> None:
    dataset, workspace, remote = pushed
    for each in s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]:
        s3_bucket.client.delete_object(Bucket=s3_bucket.name, Key=each["Key"])
    shutil.rmtree(workspace / ".dvc" / "cache")
    with pytest.raises(ArtifactMissing, match=dataset.version):
        checkout_version(tmp_path / "out", dataset.version, workspace=workspace, remote=remote)


def test_shards_of_a_split_that_is_not_there_are_an_error(tiny_dataset: Dataset) -> None:
    with pytest.raises(SourceError, match="no shard of split 'dev'"):
        list(iter_shards(tiny_dataset, "dev"))


def test_a_damaged_shard_is_named(tmp_path: Path, tiny_dataset: Dataset) -> None:
    folder = tmp_path / "output"
    shutil.copytree(tiny_dataset.path, folder)
    shard = next(iter((folder / "shards").glob("train-*.tar")))
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(SourceError, match=shard.name):
        read_samples(tiny_dataset.model_copy(update={"uri": str(folder)}), "train")
