from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from s3 import Bucket

from components.errors import ConfigError, SourceError
from components.storage.objects import Object, ObjectStore, Unreachable


def _put(bucket: Bucket, key: str, content: bytes) -> Object:
    answer = bucket.client.put_object(Bucket=bucket.name, Key=key, Body=content)
    return Object(bucket.name, key, len(content), answer["ETag"].strip('"'))


def test_objects_are_listed_read_in_ranges_and_fetched(s3_bucket: Bucket, tmp_path: Path) -> None:
    contents = {f"shards/{number}.tar": os.urandom(3000 + number) for number in range(3)}
    for key, content in contents.items():
        _put(s3_bucket, key, content)
    _put(s3_bucket, "other.tar", b"x")
    store = ObjectStore()
    found = list(store.list_objects(s3_bucket.name, "shards/"))
    assert [(each.key, each.size) for each in found] == [(key, len(text)) for key, text in contents.items()]
    assert store.stat(s3_bucket.name, "shards/0.tar") == found[0]
    assert store.read(found[0], 100, 50) == contents["shards/0.tar"][100:150]
    assert store.read(found[0], 0, 0) == b""
    paths = store.fetch(found, tmp_path / "cache", concurrency=2)
    assert {each.key: path.read_bytes() for each, path in paths.items()} == contents
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == sorted(
        p.name for p in paths.values()
    )


def test_objects_fetch_continues_where_it_was_cut_and_not_again(s3_bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    wanted = _put(s3_bucket, "a.tar", content)
    store = ObjectStore()
    path = store.fetch([wanted], tmp_path)[wanted]
    stamp = path.stat().st_mtime_ns
    assert store.fetch([wanted], tmp_path)[wanted].stat().st_mtime_ns == stamp

    path.unlink()
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(content[: 2 << 20])
    asked: list[str] = []
    store._client.meta.events.register(
        "before-call.s3.GetObject", lambda params, **_: asked.append(params["headers"]["Range"])
    )
    assert store.fetch([wanted], tmp_path)[wanted].read_bytes() == content
    assert asked == [f"bytes={2 << 20}-"]
    assert not unfinished.exists()


def test_objects_remains_that_are_damaged_are_found_by_the_etag(s3_bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(13 << 20)
    plain = _put(s3_bucket, "plain.tar", content)
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=6 << 20)
    s3_bucket.client.upload_fileobj(BytesIO(content), s3_bucket.name, "parts.tar", Config=parts)
    store = ObjectStore()
    multipart = store.stat(s3_bucket.name, "parts.tar")
    assert "-" in multipart.etag and "-" not in plain.etag
    for wanted in (plain, multipart):
        path = store.fetch([wanted], tmp_path / "first")[wanted]
        assert path.read_bytes() == content
        unfinished = tmp_path / "second" / f".{path.name}.part"
        unfinished.parent.mkdir(exist_ok=True)
        unfinished.write_bytes(b"\0" * (1 << 20) + content[1 << 20 : 2 << 20])
        assert store.fetch([wanted], tmp_path / "second")[wanted].read_bytes() == content


def test_objects_changed_since_they_were_listed_are_refused(s3_bucket: Bucket, tmp_path: Path) -> None:
    old = _put(s3_bucket, "a.tar", b"old content")
    new = _put(s3_bucket, "a.tar", b"new content")
    store = ObjectStore()
    with pytest.raises(SourceError, match="changed since it was listed"):
        store.fetch([old], tmp_path)
    with pytest.raises(SourceError, match="changed since it was listed"):
        store.read(old, 0, 3)
    assert store.fetch([new], tmp_path)[new].read_bytes() == b"new content"


def test_objects_that_are_not_there_are_mistakes_of_the_config(
    s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore()
    with pytest.raises(ConfigError, match="there is no s3://"):
        store.stat(s3_bucket.name, "none.tar")
    with pytest.raises(ConfigError, match="there is no s3://"):
        list(store.list_objects("no-such-bucket", ""))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(SourceError, match="the S3 server refused"):
        list(ObjectStore().list_objects(s3_bucket.name, ""))


class _Flaky(BaseHTTPRequestHandler):
    """An S3 server that breaks off after 1,000 bytes of every answer."""

    content = bytes(range(256)) * 20
    etag = '"0123"'

    def do_HEAD(self) -> None:
        self._answer(200, len(self.content))

    def do_GET(self) -> None:
        begin = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        self._answer(206, len(self.content) - begin)
        self.wfile.write(self.content[begin : begin + 1000])

    def _answer(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", self.etag)
        self.send_header("x-amz-server-side-encryption", "aws:kms")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def flaky_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Flaky)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    settings = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield endpoint
    server.shutdown()
    thread.join()
    server.server_close()


def test_objects_connection_that_breaks_off_is_taken_up_again(
    flaky_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.storage.objects.time.sleep", lambda _seconds: None)
    store = ObjectStore()
    wanted = store.stat("bucket", "a.tar")
    assert store.fetch([wanted], tmp_path)[wanted].read_bytes() == _Flaky.content


def test_objects_server_that_does_not_answer_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ENDPOINT_URL": "http://127.0.0.1:9",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unreachable, match="no answer from the S3 server"):
        ObjectStore().stat("bucket", "a.tar")
