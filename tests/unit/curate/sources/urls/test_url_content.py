"""What is taken of an answer: pictures only, within bounds, from servers that do not mind."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_server import picture

from components.curate.sources.urls.content import Body, image_format, opt_out
from components.curate.sources.urls.outcome import Failed


@pytest.mark.parametrize(
    "kind, suffix",
    [("PNG", "png"), ("JPEG", "jpg"), ("GIF", "gif"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif")],
)
def test_image_format_of_a_picture_is_told(kind: str, suffix: str) -> None:
    assert image_format(picture(kind=kind)[:16]) == suffix


@pytest.mark.parametrize(
    "content",
    [b"", b"<html><body>", b"%PDF-1.7 and so on", b"RIFF....WAVEfmt ", b"\0\0\0\x20ftypmp42....", b"PK\3\4"],
)
def test_image_format_of_something_else_is_empty(content: bytes) -> None:
    assert image_format(content[:16]) == ""


@pytest.mark.parametrize(
    "headers",
    [
        ["noai"],
        ["NoImageAI"],
        ["nofollow, noindex"],
        ["all", "noimageindex"],
        ["opsin: noai"],
        ["Opsin: nofollow, noai"],
        ["otherbot: nofollow, opsin: noindex"],
    ],
)
def test_opt_out_of_everyone_or_of_this_agent_is_found(headers: Sequence[str]) -> None:
    assert opt_out(headers, "opsin")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["all"],
        ["nofollow"],
        ["otherbot: noai"],
        ["otherbot: nofollow, noai"],
        ["unavailable_after: 25 Jun"],
    ],
)
def test_opt_out_of_others_is_not_ours(headers: Sequence[str]) -> None:
    assert not opt_out(headers, "opsin")


def body(encoding: str = "", declared: int | None = None, max_bytes: int = 100_000) -> Body:
    return Body(encoding=encoding, declared=declared, max_bytes=max_bytes)


@given(st.lists(st.integers(1, 400), min_size=1), st.sampled_from(["", "gzip", "deflate"]))
def test_body_in_any_pieces_is_put_together(sizes: list[int], encoding: str) -> None:
    content = picture(7)
    data = {"": content, "gzip": gzip.compress(content), "deflate": zlib.compress(content)}[encoding]
    gathered, start = body(encoding), 0
    for size in [*sizes, len(data)]:
        gathered.feed(data[start : start + size])
        start += size
    assert gathered.finish() == content and gathered.format == "png"


def test_body_that_decodes_to_too_much_stops_at_the_limit() -> None:
    bomb = gzip.compress(picture() + bytes(50_000_000))
    assert len(bomb) < 100_000
    gathered = body("gzip")
    with pytest.raises(Failed) as caught:
        gathered.feed(bomb)
    assert caught.value.code == "too_large"
    assert sum(map(len, gathered._pieces)) <= 100_001


@pytest.mark.parametrize(
    "encoding, data, code",
    [
        ("", b"", "empty"),
        ("", b"<html>this is not a picture</html>", "not_an_image"),
        ("", b"<html>", "not_an_image"),
        ("gzip", b"\xff\xd8\xff these are no gzip bytes", "bad_encoding"),
        ("gzip", gzip.compress(picture())[:-9], "truncated"),
        ("", picture() + bytes(100_000), "too_large"),
    ],
)
def test_body_that_is_no_sound_picture_fails_with_its_reason(encoding: str, data: bytes, code: str) -> None:
    with pytest.raises(Failed) as caught:
        gathered = body(encoding)
        gathered.feed(data)
        gathered.finish()
    assert caught.value.code == code


@pytest.mark.parametrize(
    "encoding, declared, code", [("br", None, "bad_encoding"), ("", 100_001, "too_large")]
)
def test_body_announced_as_unreadable_is_not_read(encoding: str, declared: int | None, code: str) -> None:
    with pytest.raises(Failed) as caught:
        body(encoding, declared)
    assert caught.value.code == code
