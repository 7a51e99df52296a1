"""What may be asked: every spelling of an inside address is refused, the web is not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.sources.urls.safety import MAX_URL, Policy, Refused, check_address, check_url

POLICY = Policy(ports=frozenset({80, 443}), private_hosts=frozenset({"files.intern", "10.0.0.7"}))


def refusal(url: str) -> str:
    with pytest.raises(Refused) as caught:
        check_url(url, POLICY)
    return caught.value.code


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata of AWS, Azure, Google
        "168.63.129.16",  # Azure's wire server: a global address
        "100.100.100.200",  # metadata of Alibaba
        "192.0.0.192",  # metadata of Oracle
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fd00:ec2::254]",  # metadata of AWS
        "[fec0::1]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:8.8.8.8]",
        "[::7f00:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[2001:db8::1]",
    ],
)
def test_address_of_the_inside_is_refused(host: str) -> None:
    assert refusal(f"http://{host}/x.jpg") == "private_address"


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/x.jpg",
        "http://0x7f000001/x.jpg",
        "http://0x7f.1/x.jpg",
        "http://0177.0.0.1/x.jpg",
        "http://127.1/x.jpg",
        "http://127.0.0.1./x.jpg",
        "http://%31%32%37.0.0.1/x.jpg",
        "http:///x.jpg",
        "http://[fe80::1%25eth0]/x.jpg",
        "http://good.example\\@127.0.0.1/",
        "http://a b.example/x.jpg",
        "http://a..b/x.jpg",
        "http://[::1/x.jpg",
        "http://host.example:99999/x.jpg",
        "http://host.example/\r\nHost: other",
        f"http://host.example/{'x' * MAX_URL}",
        "http://" + "x" * 64 + ".example/",
    ],
)
def test_url_that_programs_read_differently_is_refused(url: str) -> None:
    assert refusal(url) in ("bad_url", "private_address")


@pytest.mark.parametrize("url", ["http://①②⑦.0.0.1/x.jpg", "http://127。0。0。1/x.jpg"])
def test_unicode_spelling_of_loopback_is_refused(url: str) -> None:
    assert refusal(url) == "private_address"


@pytest.mark.parametrize(
    "url, code",
    [
        ("file:///etc/passwd", "bad_scheme"),
        ("ftp://host.example/x.jpg", "bad_scheme"),
        ("gopher://host.example/x", "bad_scheme"),
        ("data:image/png;base64,AAAA", "bad_scheme"),
        ("//host.example/x.jpg", "bad_scheme"),
        ("", "bad_scheme"),
        ("no url", "bad_scheme"),
        ("http://user:secret@host.example/x.jpg", "credentials"),
        ("http://user@host.example/x.jpg", "credentials"),
        ("http://host.example:22/x.jpg", "bad_port"),
        ("https://host.example:8443/x.jpg", "bad_port"),
    ],
)
def test_url_of_another_kind_is_refused(url: str, code: str) -> None:
    assert refusal(url) == code


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example/a.jpg",
        "https://host.example:443/a%2Fb.jpg?sig=a%2Bb%3D&x=~",
        "http://8.8.8.8/a.jpg",
        "http://[2606:4700::1111]/a.jpg",
        "http://xn--bcher-kva.example/a.jpg",
        "http://under_score.example./a.jpg",
    ],
)
def test_url_of_the_web_is_asked_as_it_is_written(url: str) -> None:
    assert str(check_url(url, POLICY)) == url.replace(":443", "")


def test_url_with_other_letters_is_quoted() -> None:
    found = check_url(" http://bücher.example/ü ö.jpg?q=ß#part ", POLICY)
    assert str(found.raw_host) == "xn--bcher-kva.example"
    assert found.raw_path_qs == "/%C3%BC%20%C3%B6.jpg?q=%C3%9F"


def test_private_host_allowed_by_name_is_asked_and_its_neighbour_is_not() -> None:
    assert check_url("http://FILES.intern/a.jpg", POLICY)
    assert check_url("http://10.0.0.7/a.jpg", POLICY)
    assert refusal("http://10.0.0.8/a.jpg") == "private_address"


@given(st.ip_addresses(v=4))
def test_address_check_of_ipv4_lets_only_global_ones_through(address: ipaddress.IPv4Address) -> None:
    try:
        check_address(str(address), "host")
    except Refused:
        return
    assert address.is_global and not address.is_multicast
    # what passes must fail once it is dressed as IPv6
    for dressed in (f"::ffff:{address}", f"64:ff9b::{address}", f"::{address}"):
        with pytest.raises(Refused):
            check_address(dressed, "host")


@given(st.text(max_size=60))
def test_url_check_of_any_text_gives_a_url_or_a_refusal(text: str) -> None:
    for url in (text, f"http://{text}", f"http://host.example/{text}"):
        try:
            found = check_url(url, POLICY)
        except Refused:
            continue
        assert found.scheme in ("http", "https") and found.raw_host
