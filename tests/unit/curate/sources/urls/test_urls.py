"""A whole `urls:` source: downloaded once, in chunks that survive kill -9, read as samples."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from picture_server import PictureServer, picture, response
from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.config.urls import UrlConfig
from components.curate.fetch import Fetched
from components.curate.samples import Draft
from components.curate.sources.urls import READER, SCHEME
from components.curate.sources.urls.scheme import resolve
from components.curate.sources.urls.store import chunks, only_writer, read_statuses
from components.errors import ConfigError, SourceError

Resolve = Callable[..., Fetched]


def write_list(path: Path, urls: list[str]) -> Path:
    rows = [{"url": url, "caption": f"picture of {url[-8:]}", "licence": "CC0-1.0"} for url in urls]
    pd.DataFrame(rows).to_parquet(path)
    return path


def source_of(path: Path, **options: object) -> SourceConfig:
    return SourceConfig.model_validate(
        {"locator": f"urls:{path}", "category": "web", "options": {"licence": "licence", **options}}
    )


@pytest.fixture
def fetch(tmp_path: Path, url_config: Callable[..., UrlConfig]) -> Resolve:
    """Resolve a list in the test's download cache."""

    def run(path: Path, *, retry_failed: bool = False, cache: str = "cache", **fields: object) -> Fetched:
        source = source_of(path)
        config = url_config(**{"chunk_size": 7, "min_success": 0.0} | fields)
        return resolve(source.locator, source, tmp_path / cache, config, retry_failed=retry_failed)

    return run


def drafts_of(fetched: Fetched, path: Path, **options: object) -> list[Draft]:
    source = source_of(path, **options)
    return READER.plan({"data": fetched.path}, source, CurateConfig(sources=(source,)))


def test_source_is_downloaded_once(tmp_path: Path, server: PictureServer, fetch: Resolve) -> None:
    paths = [*(f"/{number}.png" for number in range(20)), "/missing.png", "/1.png"]
    listed = write_list(tmp_path / "list.parquet", [server.url(path) for path in paths])
    first = fetch(listed)
    assert set(server.visits.values()) == {1} and len(server.visits) == 21
    again = fetch(listed)
    assert server.visits.total() == 21
    assert again == first
    assert first.version == first.sha256[:16] and first.locator == f"urls:{listed}"


def test_digest_depends_on_the_pictures_and_on_nothing_else(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    listed = write_list(tmp_path / "list.parquet", [server.url(f"/{number}.png") for number in range(9)])
    first = fetch(listed)
    other = fetch(listed, cache="elsewhere", chunk_size=2, concurrency=1)
    assert other.sha256 == first.sha256 and other.path != first.path
    server.routes["/3.png"] = response(picture(99))
    assert fetch(listed, cache="changed").sha256 != first.sha256


def test_failed_pictures_are_tried_again_only_when_told_to(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    listed = write_list(tmp_path / "list.parquet", [server.url(f"/{name}.png") for name in ("1", "late")])
    first = fetch(listed)
    server.routes["/late.png"] = response(picture(5))
    assert fetch(listed).sha256 == first.sha256
    assert server.visits == {"/1.png": 1, "/late.png": 1}
    second = fetch(listed, retry_failed=True)
    assert server.visits == {"/1.png": 1, "/late.png": 2}
    assert second.sha256 != first.sha256
    assert [draft.payload.get("failed") for draft in drafts_of(second, listed)] == [None, None]


def test_list_that_grows_asks_only_for_what_is_new(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    urls = [server.url(f"/{number}.png") for number in range(12)]
    fetch(write_list(tmp_path / "list.parquet", urls[3:]))
    fetch(write_list(tmp_path / "list.parquet", urls))
    assert set(server.visits.values()) == {1} and len(server.visits) == 12


def test_policy_that_is_stricter_does_not_find_what_a_looser_one_let_through(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    server.routes["/no.png"] = response(picture(1), x_robots_tag="noai")
    listed = write_list(tmp_path / "list.parquet", [server.url("/no.png")])
    assert drafts_of(fetch(listed, respect_noai=False), listed)[0].payload.get("failed") is None
    assert drafts_of(fetch(listed), listed)[0].payload["failed"] == "noai"


def test_too_few_pictures_are_an_error_that_says_why(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    paths = ["/1.png", "/gone.png", "/lost.png", "/x.png"]
    listed = write_list(tmp_path / "list.parquet", [server.url(path) for path in paths])
    with pytest.raises(SourceError, match=r"only 25.0% of 4 pictures came.*http_404 3") as caught:
        fetch(listed, min_success=0.5)
    assert "opsin data download CONFIG --retry-failed" in caught.value.fix
    assert fetch(listed, min_success=0.25)


def test_scheme_refuses_what_is_no_list() -> None:
    with pytest.raises(ConfigError, match="not a list of URLs"):
        SCHEME.check("urls:")
    SCHEME.check("urls:list.parquet")
    assert not SCHEME.versioned and not SCHEME.unavailable("urls:list.parquet", Path())


def test_reader_gives_every_row_with_its_picture_or_its_reason(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    server.routes["/page.png"] = response(b"<html>sorry, moved</html>")
    paths = ["/1.png", "/page.png", "/1.png", "/2.png", "/none.png"]
    urls = [server.url(path) for path in paths]
    listed = write_list(tmp_path / "list.parquet", [*urls, "http://10.0.0.1/x.jpg"])
    fetched = fetch(listed)
    drafts = drafts_of(fetched, listed, facts=["caption"], questions=["What is it?"])
    reasons = [draft.payload.get("failed", "") for draft in drafts]
    assert reasons == ["", "not_an_image", "", "", "http_404", "private_address"]
    assert drafts[1].payload["evidence"].startswith("<html>")
    assert READER.load is not None
    assert READER.load(drafts[0].payload) == picture(1) == READER.load(drafts[2].payload)
    assert drafts[0].original_id == urls[0] and len({draft.original_id for draft in drafts}) == 6
    assert {draft.licence for draft in drafts} == {"CC0-1.0"}
    assert drafts[3].turns[0].question == "What is it?"
    assert drafts[3].turns[0].answer == drafts[3].facts["caption"] == f"picture of {urls[3][-8:]}"
    assert drafts == drafts_of(fetched, listed, facts=["caption"], questions=["What is it?"])


def test_reader_refuses_a_bad_line_of_a_list_and_goes_on(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    rows = [f'{{"url": "{server.url(f"/{n}.png")}", "caption": "a", "licence": "CC0-1.0"}}' for n in (1, 2)]
    listed = tmp_path / "list.jsonl"
    listed.write_text("\n".join([rows[0], "{bad", rows[1]]))
    fetched = fetch(listed, min_success=1.0)
    assert set(server.visits) == {"/1.png", "/2.png"}
    drafts = drafts_of(fetched, listed)
    assert [draft.payload.get("failed", "") for draft in drafts] == ["", "json_syntax", ""]
    assert drafts[1].original_id == "list.jsonl#2" and drafts[1].payload["evidence"]


def test_reader_knows_rows_that_were_never_asked_for(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    urls = [server.url(f"/{number}.png") for number in range(3)]
    listed = write_list(tmp_path / "list.parquet", urls[:2])
    fetched = fetch(listed)
    write_list(listed, urls)
    assert drafts_of(fetched, listed)[2].payload["failed"] == "not_downloaded"


@pytest.mark.parametrize("split_by", ["host", "url"])
def test_reader_splits_by_whole_hosts_or_by_urls(tmp_path: Path, split_by: str) -> None:
    urls = [f"http://h{number % 100}.test/{number}.jpg" for number in range(2000)]
    listed = write_list(tmp_path / "list.parquet", urls)
    fetched = Fetched("", "", tmp_path / "nothing", "", "")
    drafts = drafts_of(fetched, listed, split_by=split_by, test=0.2, validation=0.1)
    splits = {"train": 0, "validation": 0, "test": 0}
    hosts: dict[str, set[str]] = {}
    for draft in drafts:
        splits[draft.split] += 1
        hosts.setdefault(draft.original_id.split("/")[2], set()).add(draft.split)
        assert draft.group == (f"unseen_{split_by}s" if draft.split == "test" else "")
    assert 200 < splits["test"] < 600 and 60 < splits["validation"] < 400
    assert (max(len(each) for each in hosts.values()) == 1) == (split_by == "host")


def test_chunk_is_a_tar_that_any_program_reads(tmp_path: Path, server: PictureServer, fetch: Resolve) -> None:
    listed = write_list(tmp_path / "list.parquet", [server.url(f"/{number}.png") for number in range(5)])
    (chunk,) = chunks(fetch(listed).path)
    with tarfile.open(chunk / "images.tar") as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        contents = {name: file.read() for name, file in members.items() if file is not None}
    assert sorted(contents.values()) == sorted(picture(number) for number in range(5))
    assert all(Image.open(io.BytesIO(content)).size == (24, 16) for content in contents.values())


def test_cache_that_is_damaged_is_noticed(tmp_path: Path, server: PictureServer, fetch: Resolve) -> None:
    listed = write_list(tmp_path / "list.parquet", [server.url("/1.png")])
    fetched = fetch(listed)
    (draft,) = drafts_of(fetched, listed)
    path = Path(draft.payload["path"])
    content = bytearray(path.read_bytes())
    content[draft.payload["offset"] + 30] ^= 1
    path.write_bytes(content)
    assert READER.load is not None
    with pytest.raises(OSError, match="damaged"):
        READER.load(draft.payload)


def test_writer_that_comes_second_waits_and_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / ".partial-000007"
    left.mkdir()
    (left / "images.tar").write_bytes(b"half a picture")
    inside = threading.Event()

    def second() -> None:
        with only_writer(tmp_path):
            inside.set()

    other = threading.Thread(target=second)
    with only_writer(tmp_path):
        assert not left.exists()
        other.start()
        assert not inside.wait(0.2)
    other.join()
    assert inside.is_set()


def test_download_that_is_killed_again_and_again_loses_and_doubles_nothing(
    tmp_path: Path, server: PictureServer, fetch: Resolve
) -> None:
    paths = [f"/{number}.png" for number in range(120)] + ["/no.png"]
    listed = write_list(tmp_path / "list.parquet", [server.url(path) for path in paths])
    whole = fetch(listed, cache="uninterrupted", per_host=50)
    server.visits.clear()
    server.delay_s = 0.01
    # Forked: the interpreter would take longer to start than the whole download.
    job = partial(get_context("fork").Process, target=fetch, args=(listed,))
    settings = {"chunk_size": 10, "per_host": 2}
    saved: dict[str, int] = {}
    for kill in range(4):
        process = job(kwargs=settings)
        process.start()
        _wait_for_visits(server, 25 * (kill + 1), process)
        process.kill()
        process.join()
        assert all(server.visits[path] == times for path, times in saved.items()), "saved ones are not asked"
        saved = _saved(tmp_path / "cache", server)
    assert saved and len(saved) < len(paths)
    assert fetch(listed, **settings).sha256 == whole.sha256
    tables = [pq.read_table(chunk / "status.parquet") for chunk in chunks(_store(tmp_path / "cache"))]
    urls = [url for table in tables for url in table["url"].to_pylist()]
    assert sorted(urls) == sorted(server.url(path) for path in paths), "each once"
    assert not list(_store(tmp_path / "cache").glob(".partial-*"))


def _wait_for_visits(server: PictureServer, count: int, process: ForkProcess) -> None:
    while server.visits.total() < count and process.is_alive():
        time.sleep(0.005)
    assert process.is_alive(), "it ended before it could be killed"


def _store(cache: Path) -> Path:
    (found,) = (cache / "urls").iterdir()
    return found


def _saved(cache: Path, server: PictureServer) -> dict[str, int]:
    """Path of every URL that lies in a finished chunk → how often it was asked for."""
    prefix = server.url("")
    return {
        url.removeprefix(prefix): server.visits[url.removeprefix(prefix)]
        for url in read_statuses(_store(cache))
    }
