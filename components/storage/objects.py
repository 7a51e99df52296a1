"""Objects of an S3 server: list, fetch whole (resumed, verified), read a range.

    store = ObjectStore()
    for each, path in store.fetch(store.list_objects("bucket", "shards/"), folder).items(): ...

Endpoint, region and credentials come from the usual places (`AWS_ENDPOINT_URL`, `AWS_REGION`,
`AWS_ACCESS_KEY_ID`, profiles, instance roles); without any credentials requests are anonymous, as public
buckets want them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedRandom
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)

from components.errors import ConfigError, SourceError
from components.progress import Bar

CONCURRENCY = 8
"""Objects fetched at a time."""
CHUNK = 1 << 20
ATTEMPTS = 6
"""Times that a broken transfer goes on where it broke."""
BROKEN = (ConnectionError, HTTPClientError, IncompleteReadError, ResponseStreamingError)
GONE = ("404", "NoSuchKey", "NoSuchBucket")
CHANGED = ("412", "PreconditionFailed")


class Unreachable(SourceError):
    """No answer from the server at all."""


@dataclass(frozen=True)
class Object:
    """One object as it was when it was listed."""

    bucket: str
    key: str
    size: int
    etag: str
    """MD5 of the content, or of its parts' MD5s with their number behind a dash."""

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class ObjectStore:
    """A connection; may be shared between threads, not between processes."""

    def __init__(self) -> None:
        session = boto3.session.Session()
        anonymous = {} if session.get_credentials() else {"signature_version": UNSIGNED}
        self._client: Any = session.client(
            "s3",
            config=Config(
                retries={"mode": "standard"},
                max_pool_connections=CONCURRENCY,
                connect_timeout=10,
                **anonymous,
            ),
        )

    def list_objects(self, bucket: str, prefix: str) -> Iterator[Object]:
        """All objects whose keys begin with `prefix`, by key.

        Raises:
            ConfigError: there is no such bucket.
            SourceError: the server refused, or did not answer (`Unreachable`).
        """
        with _explained(f"s3://{bucket}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for each in page.get("Contents", ()):
                    yield Object(bucket, each["Key"], each["Size"], each["ETag"].strip('"'))

    def stat(self, bucket: str, key: str) -> Object:
        """One object.

        Raises:
            ConfigError: there is no such object.
            SourceError: as for `list_objects`.
        """
        with _explained(f"s3://{bucket}/{key}"):
            head = self._client.head_object(Bucket=bucket, Key=key)
        return Object(bucket, key, head["ContentLength"], head["ETag"].strip('"'))

    def read(self, wanted: Object, offset: int, size: int) -> bytes:
        """A range of an object that must still be the one that was listed.

        Raises:
            SourceError: it has changed, or the server refused or did not answer.
        """
        if not size:
            return b""
        with _explained(wanted.url):
            answer = self._client.get_object(
                Bucket=wanted.bucket,
                Key=wanted.key,
                Range=f"bytes={offset}-{offset + size - 1}",
                IfMatch=f'"{wanted.etag}"',
            )
            return bytes(answer["Body"].read())

    def fetch(
        self, wanted: Iterable[Object], folder: Path, *, concurrency: int = CONCURRENCY
    ) -> dict[Object, Path]:
        """Objects as files below `folder`, in the given order; those that are there are not fetched again.

        A file has its name from the object's URL and ETag: a changed object is another file. What a crash
        left is continued. Several processes may fetch into one folder.

        Raises:
            ConfigError: an object is gone.
            SourceError: an object changed meanwhile, or came in damaged, or the server did not answer.
        """
        objects = list(wanted)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {each: folder / _file_name(each) for each in objects}
        missing = [each for each in objects if not paths[each].is_file()]
        if not missing:
            return paths
        total = sum(-(-each.size // CHUNK) for each in missing)
        with Bar("fetch objects", total=total, unit="MiB") as bar, ThreadPoolExecutor(concurrency) as pool:
            pending = [pool.submit(self._fetch_one, each, paths[each], bar.advance) for each in missing]
            try:
                for future in pending:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return paths

    def _fetch_one(self, wanted: Object, path: Path, advance: Any) -> None:
        """Append to what is there until it is whole, verify it, give it its name."""
        unfinished = path.with_name(f".{path.name}.part")
        with _explained(wanted.url), unfinished.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.is_file():  # another process was faster
                unfinished.unlink(missing_ok=True)
                return
            self._fill_intact(file, wanted, advance)
            os.replace(unfinished, path)

    def _fill_intact(self, file: BufferedRandom, wanted: Object, advance: Any) -> None:
        """Bring a file up to the object's content; what is damaged is fetched anew."""
        seen: list[str] = []
        while len(seen) < 3:
            md5 = self._fill(file, wanted, advance)
            # The same bytes twice: then it is this server's ETag that is no MD5.
            if md5 in seen or self._intact(file, wanted, md5):
                return
            seen.append(md5)
            file.truncate(0)
        raise SourceError(
            "an object came in with another content every time",
            where=wanted.url,
            fix="check the connection and the server, then run the same command again",
        )

    def _fill(self, file: BufferedRandom, wanted: Object, advance: Any) -> str:
        """Bring a file up to the object's size; gives its MD5."""
        for attempt in range(ATTEMPTS):
            try:
                self._append(file, wanted, advance)
                break
            except BROKEN:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(min(2.0**attempt / 4, 8.0))
        file.seek(0)
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()

    def _append(self, file: BufferedRandom, wanted: Object, advance: Any) -> None:
        begin = file.seek(0, os.SEEK_END)
        if begin > wanted.size:
            begin = file.truncate(0)
        if begin == wanted.size:
            return
        answer = self._client.get_object(
            Bucket=wanted.bucket, Key=wanted.key, Range=f"bytes={begin}-", IfMatch=f'"{wanted.etag}"'
        )
        for chunk in answer["Body"].iter_chunks(CHUNK):
            file.write(chunk)
            advance()
        file.flush()
        if file.tell() != wanted.size:
            raise IncompleteReadError(actual_bytes=file.tell(), expected_bytes=wanted.size)

    def _intact(self, file: BufferedRandom, wanted: Object, md5: str) -> bool:
        """Whether the content is what the ETag says, where it says anything."""
        etag, _, num_parts = wanted.etag.partition("-")
        if md5 == etag:
            return True
        key = {"Bucket": wanted.bucket, "Key": wanted.key}
        head = self._client.head_object(**key, **({"PartNumber": 1} if num_parts else {}))
        if "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head:
            return True  # then an ETag is no digest
        return bool(num_parts) and _digest_parts(file, head["ContentLength"]) == wanted.etag


def _digest_parts(file: BufferedRandom, part: int) -> str:
    """The ETag of a multipart upload in parts of one size."""
    file.seek(0)
    digests = [
        hashlib.md5(each, usedforsecurity=False).digest() for each in iter(lambda: file.read(part), b"")
    ]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _file_name(each: Object) -> str:
    """Fit for a file system, whatever the key is."""
    name = hashlib.sha256(f"{each.url}\0{each.etag}\0{each.size}".encode()).hexdigest()[:32]
    return f"{name}{Path(each.key).suffix[:8]}"


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """What boto3 raises, as errors that say what to do."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in GONE:
            raise ConfigError(f"there is no {url}", where=url, fix="mend the bucket or the key") from error
        if code in CHANGED:
            raise SourceError(
                "an object has changed since it was listed", where=url, fix="run the same command again"
            ) from error
        raise SourceError(
            f"the S3 server refused: {error}",
            where=url,
            fix="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and the bucket's policy",
        ) from error
    except (ConnectionError, HTTPClientError, BotoCoreError) as error:
        raise Unreachable(
            f"no answer from the S3 server: {error}",
            where=url,
            fix="check the network and AWS_ENDPOINT_URL, then run the same command again",
        ) from error
