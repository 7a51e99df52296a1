"""One URL against a real server that misbehaves in every way that is known: a reason, never an error."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_server import PictureServer, Request, answering, picture, response

from components.config.urls import UrlConfig
from components.curate.sources.urls import client
from components.curate.sources.urls.client import Client, public_socket
from components.curate.sources.urls.outcome import Outcome

Download = Callable[..., list[Outcome]]


def test_picture_comes_with_what_the_server_says_of_it(server: PictureServer, ask: Download) -> None:
    asked: list[Request] = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        asked.append(request)
        writer.write(response(picture(3), etag='"three"', set_cookie="id=1"))

    server.routes["/three.png"] = answer
    (first,) = ask(server.url("/three.png"))
    assert first == Outcome(
        server.url("/three.png"),
        http_status=200,
        final_url=server.url("/three.png"),
        etag='"three"',
        format="png",
        content=picture(3),
    )
    assert asked[0].headers["accept-encoding"] == "identity"
    assert "compatible; opsin" in asked[0].headers["user-agent"]
    assert asked[0].headers["host"] == f"127.0.0.1:{server.port}"


def test_cookies_are_not_kept(server: PictureServer, url_config: Callable[..., UrlConfig]) -> None:
    cookies = []

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        cookies.append(request.headers.get("cookie"))
        writer.write(response(picture(), set_cookie="id=1"))

    async def twice() -> None:
        async with Client(url_config()) as one:
            await one.get(server.url("/a"))
            await one.get(server.url("/a"))

    server.routes["/a"] = answer
    asyncio.run(twice())
    assert cookies == [None, None]


def test_loopback_that_is_not_allowed_is_never_asked(server: PictureServer, ask: Download) -> None:
    urls = [server.url("/1.png", host) for host in ("127.0.0.1", "localhost", "127.0.0.2", "[::1]")]
    outcomes = ask(*urls, allow_private_hosts=())
    assert [each.code for each in outcomes] == ["private_address"] * 4
    assert not server.visits


def test_host_allowed_by_name_does_not_open_other_names_of_its_address(
    server: PictureServer, ask: Download
) -> None:
    urls = [server.url("/1.png", host) for host in ("good.test", "evil.test")]
    lookup = answering(good_test=["127.0.0.1"], evil_test=["127.0.0.1"])
    good, evil = ask(*urls, lookup=lookup, allow_private_hosts=("good.test",))
    assert (good.code, evil.code) == ("", "private_address")
    assert evil.evidence == "evil.test is 127.0.0.1"
    assert server.visits.total() == 1


def test_one_private_address_among_public_ones_is_refused(server: PictureServer, ask: Download) -> None:
    lookup = answering(mixed_test=["9.9.9.9", "10.0.0.1"])
    (outcome,) = ask(server.url("/1.png", "mixed.test"), lookup=lookup)
    assert outcome.code == "private_address"


def test_name_that_changes_its_address_is_connected_to_the_address_that_was_judged(
    ask: Download, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[str] = []
    connected: list[str] = []

    async def rebinding(host: str, _port: int) -> list[str]:
        lookups.append(host)
        return ["9.9.9.9"] if len(lookups) == 1 else ["127.0.0.1"]

    def caught(address: client.AddressInfo) -> socket.socket:
        connected.append(address[4][0])
        raise PermissionError("this test sends nothing")

    monkeypatch.setattr(client, "public_socket", caught)
    (outcome,) = ask("http://rebind.test/x.jpg", lookup=rebinding, retries=0)
    assert (lookups, connected) == (["rebind.test"], ["9.9.9.9"])
    assert outcome.code == "connect"


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
def test_socket_to_a_private_address_is_not_made(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(PermissionError, match="not a public address"):
        public_socket((family, socket.SOCK_STREAM, 0, "", (address, 80)))


def test_redirects_are_followed_to_the_picture(server: PictureServer, ask: Download) -> None:
    server.routes["/a/start"] = response(status="301 Moved Permanently", location="../b/next?x=1")
    server.routes["/b/next?x=1"] = response(status="307 Temporary Redirect", location=server.url("/5.png"))
    (outcome,) = ask(server.url("/a/start"))
    assert (outcome.content, outcome.final_url) == (picture(5), server.url("/5.png"))


@pytest.mark.parametrize(
    "location, code",
    [
        ("http://10.0.0.1/x.jpg", "private_address"),
        ("http://169.254.169.254/latest/meta-data/", "private_address"),
        ("//[::1]/x.jpg", "private_address"),
        ("http://localhost/x.jpg", "private_address"),
        ("http://2130706433/x.jpg", "bad_url"),
        ("http://user:secret@host.test/x.jpg", "credentials"),
        ("http://host.test:6379/x.jpg", "bad_port"),
        ("file:///etc/passwd", "bad_scheme"),
        ("/start", "redirect_loop"),
        ("", "bad_response"),
    ],
)
def test_redirect_to_where_nothing_may_be_asked_is_refused(
    server: PictureServer, ask: Download, location: str, code: str
) -> None:
    server.routes["/start"] = response(status="302 Found", location=location)
    (outcome,) = ask(server.url("/start"))
    assert outcome.code == code
    assert server.visits.total() == 1


def test_redirects_in_a_circle_and_without_end_stop(server: PictureServer, ask: Download) -> None:
    server.routes["/a"] = response(status="302 Found", location="/b")
    server.routes["/b"] = response(status="302 Found", location="/a")
    for number in range(10):
        server.routes[f"/{number}"] = response(status="302 Found", location=f"/{number + 1}")
    circle, chain = ask(server.url("/a"), server.url("/0"), max_redirects=4)
    assert (circle.code, chain.code) == ("redirect_loop", "too_many_redirects")
    assert server.visits["/4"] == 1 and server.visits["/5"] == 0


@pytest.mark.parametrize("silent", [True, False])
def test_server_that_dribbles_or_says_nothing_times_out(
    server: PictureServer, ask: Download, silent: bool
) -> None:
    async def slow(_request: Request, writer: asyncio.StreamWriter) -> None:
        content = response(picture(), content_length="100000")
        for start in range(0, len(content), 4):
            if silent and start > 40:
                await asyncio.sleep(20)
            writer.write(content[start : start + 4])
            await asyncio.sleep(0.02)

    server.routes["/slow"] = slow
    limits = {"read_timeout_s": 0.2} if silent else {"total_timeout_s": 0.3}
    (outcome,) = ask(server.url("/slow"), retries=0, **limits)
    assert outcome.code == "timeout"


def test_content_length_that_lies_is_found_out(server: PictureServer, ask: Download) -> None:
    async def short(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(picture(), content_length="100000"))
        await writer.drain()
        writer.close()

    server.routes["/less"] = short
    server.routes["/claims"] = response(picture(), content_length=str(10**15))
    less, claims = ask(server.url("/less"), server.url("/claims"), retries=1)
    assert (less.code, less.attempts) == ("truncated", 2)
    assert (claims.code, claims.attempts) == ("too_large", 1)


def test_body_without_end_is_cut_off(server: PictureServer, ask: Download) -> None:
    sent = 0

    async def endless(_request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = picture() + bytes(65536)
        while True:
            writer.write(b"%x\r\n%s\r\n" % (len(block), block))
            await writer.drain()
            sent += len(block)

    server.routes["/endless"] = endless
    (outcome,) = ask(server.url("/endless"), max_bytes=200_000)
    assert outcome.code == "too_large"
    assert sent < 50_000_000  # what socket buffers held


def test_compressed_picture_comes_and_a_bomb_does_not(server: PictureServer, ask: Download) -> None:
    server.routes["/zip"] = response(gzip.compress(picture(2)), content_encoding="gzip")
    bomb = gzip.compress(picture() + bytes(30_000_000))
    server.routes["/bomb"] = response(bomb, content_encoding="gzip")
    zipped, bombed = ask(server.url("/zip"), server.url("/bomb"), max_bytes=100_000)
    assert zipped.content == picture(2)
    assert bombed.code == "too_large"


def test_opt_out_is_respected_unless_told_otherwise(server: PictureServer, ask: Download) -> None:
    server.routes["/no"] = response(picture(1), x_robots_tag="noai, noimageai")
    server.routes["/there"] = response(status="302 Found", location="/1.png", x_robots_tag="noindex")
    urls = [server.url(path) for path in ("/no", "/there", "/2.png")]
    assert [each.code for each in ask(*urls)] == ["noai", "noai", ""]
    assert [each.code for each in ask(*urls, respect_noai=False)] == ["", "", ""]


def test_answer_that_is_no_picture_is_left(server: PictureServer, ask: Download) -> None:
    server.routes["/page.jpg"] = response(b"<!DOCTYPE html><html>", content_type="image/jpeg")
    server.routes["/nothing.jpg"] = response(b"", content_type="image/jpeg")
    page, nothing = ask(server.url("/page.jpg"), server.url("/nothing.jpg"))
    assert (page.code, nothing.code) == ("not_an_image", "empty")
    assert page.evidence.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "answer, code",
    [
        (b"\x16\x03\x01 this is no HTTP at all\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "bad_response"),
        (response(picture(), etag="\xff\xfe", status="200 \xff"), ""),
    ],
)
def test_answer_that_is_no_sound_http_has_a_reason(
    server: PictureServer, ask: Download, answer: bytes, code: str
) -> None:
    async def once(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    server.routes["/odd"] = once
    (outcome,) = ask(server.url("/odd"), retries=0)
    assert outcome.code == code


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=80), st.just(response(picture()))), max_size=4))
def test_any_bytes_from_a_server_give_an_outcome(
    server: PictureServer, ask: Download, pieces: list[bytes]
) -> None:
    async def junk(_request: Request, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        writer.close()

    server.routes["/junk"] = junk
    (outcome,) = ask(server.url("/junk"), retries=0)
    assert bool(outcome.code) != bool(outcome.content)


def certificate(directory: Path, host: str) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for `host`, and a server that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{host}.pem"
    encoding = serialization.Encoding.PEM
    path.write_bytes(
        signed.public_bytes(encoding)
        + key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return path, context


def test_tls_is_spoken_with_the_name_and_not_with_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Download
) -> None:
    path, context = certificate(tmp_path, "pictures.test")
    names: list[str] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    lookup = answering(pictures_test=["127.0.0.1"], other_test=["127.0.0.1"])
    server = PictureServer(tls=context)
    try:
        urls = [server.url("/1.png", host) for host in ("pictures.test", "other.test")]
        allowed = {"allow_private_hosts": ("pictures.test", "other.test"), "allow_ports": (server.port,)}
        right, wrong = ask(*urls, lookup=lookup, **allowed)
    finally:
        server.close()
    assert (right.code, wrong.code) == ("", "tls")
    assert sorted(names) == ["other.test", "pictures.test"]
