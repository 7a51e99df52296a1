"""Manners: few requests to a host at once, the pauses that it asks for, no more knocking at dead doors."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from picture_server import PictureServer, answering, in_turn, picture, response

from components.curate.sources.urls.outcome import Outcome

Download = Callable[..., list[Outcome]]


def test_busy_server_gets_the_pause_that_it_asks_for_from_everyone(
    server: PictureServer, ask: Download
) -> None:
    busy = response(status="429 Too Many Requests", retry_after="1")
    server.routes["/busy"] = in_turn(busy, response(picture(1)))
    urls = [server.url(path) for path in ("/busy", "/2.png", "/3.png")]
    outcomes = ask(*urls, per_host=1)
    assert [each.code for each in outcomes] == ["", "", ""]
    assert outcomes[0].attempts == 2
    begin = server.log[0][0]
    assert all(when - begin > 0.9 for when, _ in server.log[1:]), "nobody asks before the pause is over"


@pytest.mark.parametrize("retry_after", ["3600", "Fri, 31 Dec 2299 23:59:59 GMT"])
def test_pause_that_is_too_long_fails_the_picture_at_once(
    server: PictureServer, ask: Download, retry_after: str
) -> None:
    server.routes["/busy"] = response(status="503 Service Unavailable", retry_after=retry_after)
    busy, other = ask(server.url("/busy"), server.url("/1.png"), per_host=1)
    assert (busy.code, busy.attempts, other.code) == ("http_503", 1, "")


@pytest.mark.parametrize("retry_after", ["soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT", "²"])
def test_pause_that_means_nothing_is_ignored(server: PictureServer, ask: Download, retry_after: str) -> None:
    busy = response(status="429 Too Many Requests", retry_after=retry_after)
    server.routes["/busy"] = in_turn(busy, response(picture(1)))
    (outcome,) = ask(server.url("/busy"))
    assert (outcome.code, outcome.attempts) == ("", 2)


def test_server_error_is_tried_again_and_a_refusal_is_not(server: PictureServer, ask: Download) -> None:
    broken = response(status="500 Internal Server Error")
    server.routes["/once"] = in_turn(broken, response(picture(1)))
    server.routes["/always"] = broken
    server.routes["/gone"] = response(status="410 Gone")
    once, always, gone = ask(*(server.url(path) for path in ("/once", "/always", "/gone")), retries=2)
    assert (once.code, once.attempts) == ("", 2)
    assert (always.code, always.attempts, always.http_status) == ("http_500", 3, 500)
    assert (gone.code, gone.attempts, gone.http_status) == ("http_410", 1, 410)


def test_hosts_get_no_more_requests_at_once_than_they_may(server: PictureServer, ask: Download) -> None:
    server.delay_s = 0.03
    hosts = ("a.test", "b.test", "c.test")
    urls = [server.url(f"/{number}.png", host) for number in range(8) for host in hosts]
    lookup = answering(a_test=["127.0.0.1"], b_test=["127.0.0.1"], c_test=["127.0.0.1"])
    outcomes = ask(*urls, lookup=lookup, per_host=3, concurrency=7, allow_private_hosts=hosts)
    assert {each.code for each in outcomes} == {""}
    assert all(1 < server.most_at_once[host] <= 3 for host in hosts)
    assert 3 < server.most_at_once[""] <= 7


def test_host_that_refuses_connections_is_given_up(
    ask: Download,
) -> None:
    with socket.socket() as unused:  # bound and not listening: the kernel refuses
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        urls = [f"http://127.0.0.1:{port}/{number}.png" for number in range(12)]
        limits = {"allow_ports": (port,), "give_up_host_after": 4, "per_host": 1, "retries": 0}
        outcomes = ask(*urls, **limits)
    codes = [each.code for each in outcomes]
    assert codes.count("connect") == 4 and codes.count("host_down") == 8


def test_name_that_does_not_exist_is_looked_up_once(ask: Download) -> None:
    asked: list[str] = []

    async def nowhere(host: str, _port: int) -> list[str]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    outcomes = ask(*(f"http://gone.test/{number}.jpg" for number in range(9)), lookup=nowhere, per_host=1)
    assert {each.code for each in outcomes} == {"dns"}
    assert asked == ["gone.test"]


def test_name_lookup_that_fails_for_now_is_tried_again(server: PictureServer, ask: Download) -> None:
    asked: list[str] = []

    async def shaky(host: str, _port: int) -> list[str]:
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return ["127.0.0.1"]

    (outcome,) = ask(server.url("/1.png", "a.test"), lookup=shaky, allow_private_hosts=("a.test",))
    assert (outcome.code, outcome.attempts) == ("", 2)
