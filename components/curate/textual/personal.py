"""Personal data that has a form: addresses, numbers. Found, checked, and filled with a harmless value.

A find is checked by what its kind promises (check digits, ranges that were given out), and values that
standards reserve for documentation are nobody's: they are not found, and they are what redaction puts in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

# Every repetition is bounded: on a text of megabytes an open one costs the square of its length.
EMAIL = re.compile(r"[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-zA-Z]{2,24}\b")
HIDDEN_EMAIL = re.compile(
    r"[\w.+-]{1,64}\s?[\[(]at[\])]\s?(?:[\w-]{1,63}(?:\.|\s?[\[(]dot[\])]\s?)){1,8}[a-z]{2,24}\b",
    re.IGNORECASE,
)
PHONE = re.compile(
    r"(?:\+|(?<!\d )(?<![\w.,])00)\d{1,3}[ ().-]{0,4}\d(?:[ ().-]{0,3}\d){6,11}\b|\(\d{3}\)[ -]?\d{3}-\d{4}\b"
)
"""International numbers with their prefix, and American ones with the area code in brackets: numbers
written otherwise cannot be told from a table's."""
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
CARD = re.compile(
    r"(?<![\d.,-])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{5}|\d{13,16})(?![\d.,-]\d|\d)"
)
IPV4 = re.compile(
    r"(?<![\w.])(?:(?:section|chapter|version|revision|release|rev|ver|v|§)\.?\s?)?(?:\d{1,3}\.){3}\d{1,3}"
    r"(?![\w.]\d|\w)",
    re.IGNORECASE,
)
"""Together with a word before it that makes it a number of something else, and then no address."""
IPV6 = re.compile(r"(?<![\w:])[23][0-9a-f]{3}:[0-9a-f:]{2,34}(?![\w:])", re.IGNORECASE)
"""Global unicast addresses only (2000::/3): others look like code (`abc::def`)."""
SSN = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
"""American social security numbers in their usual form, without numbers that are never given out."""

FILE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "html", "htm", "php", "css", "js"})
"""`icon@2x.png` is no address."""
RESERVED_DOMAINS = re.compile(r"(?:^|\.)(?:example\.(?:com|org|net)|\w+\.(?:example|invalid|test))$")
"""RFC 2606."""
FICTION = re.compile(r"555-?01\d\d$")
"""American numbers that are kept for fiction."""
IBAN_CHARS = {
    country: int(chars)
    for country, chars in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
    )
}
"""Country → length (SWIFT's IBAN registry)."""
CARD_NUMBERS = re.compile(
    r"4\d{15}|4\d{12}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d)\d{12}|35\d{14}"
)
TEST_IBAN, TEST_CARD, TEST_SSN = "GB33 BUKB 2020 1555 5555 55", "4111 1111 1111 1111", "219-09-9999"
"""A bank's specimen, the payment networks' test number, and a number that was only ever an advertisement."""


@dataclass(frozen=True)
class Found:
    kind: str
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class _Kind:
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    """With characters of which such data holds at least one: most texts are done after this look."""
    accept: Callable[[str], int]
    """How many characters of a match are personal data; 0: it only looked so."""
    harmless: Callable[[str], str]
    """What redaction puts in its place."""


def _email(text: str) -> int:
    domain = re.sub(r"\s?[\[(]dot[\])]\s?", ".", text.lower())
    domain = re.split(r"@|\s?[\[(]at[\])]\s?", domain)[-1]
    if domain.rpartition(".")[2] in FILE_SUFFIXES or RESERVED_DOMAINS.search(domain):
        return 0
    return len(text)


def _phone(text: str) -> int:
    return 0 if FICTION.search(re.sub(r"[ ().]", "", text)) else len(text)


def _iban(text: str) -> int:
    """The match may run on into the words behind it: its country says how long it is."""
    ends = [place for place, char in enumerate(text, 1) if char != " "]
    wanted = IBAN_CHARS.get(text[:2], 0)
    if not 0 < wanted <= len(ends):
        return 0
    end = ends[wanted - 1]
    number = text[:end].replace(" ", "")
    if text[end : end + 1] not in ("", " ") or number == TEST_IBAN.replace(" ", ""):
        return 0
    digits = "".join(str(int(char, 36)) for char in number[4:] + number[:4])
    return end if int(digits) % 97 == 1 else 0


def _card(text: str) -> int:
    digits = re.sub(r"[ -]", "", text)
    if not CARD_NUMBERS.fullmatch(digits) or digits == TEST_CARD.replace(" ", ""):
        return 0
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return len(text) if total % 10 == 0 else 0


def _ip_address(text: str) -> int:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0
    # Documentation's own ranges (RFC 5737, RFC 3849) and private networks are nobody's.
    return len(text) if address.is_global and not address.is_multicast else 0


def _ssn(text: str) -> int:
    return 0 if text == TEST_SSN else len(text)


KINDS: Mapping[str, _Kind] = {
    "iban": _Kind((("0123456789", IBAN),), _iban, lambda _: TEST_IBAN),
    "credit_card": _Kind((("0123456789", CARD),), _card, lambda _: TEST_CARD),
    "ssn": _Kind((("-", SSN),), _ssn, lambda _: TEST_SSN),
    "ip_address": _Kind(
        ((".", IPV4), (":", IPV6)), _ip_address, lambda text: "2001:db8::1" if ":" in text else "192.0.2.1"
    ),
    "email": _Kind((("@", EMAIL), ("([", HIDDEN_EMAIL)), _email, lambda _: "email@example.com"),
    "phone": _Kind((("+0(", PHONE),), _phone, lambda _: "+1 202-555-0100"),
}
"""The strictest first: what is an account number is no telephone number."""
MAX_ROUNDS = 4
DIGIT_OR_AT = re.compile(r"\d|@|[\[(]at", re.IGNORECASE)


def find_personal(text: str, kinds: Collection[str]) -> Found | None:
    """The first personal data of these kinds, kind by kind."""
    if not DIGIT_OR_AT.search(text):
        return None
    return next((found for kind in KINDS if kind in kinds for found in _search(text, kind)), None)


def redact_personal(text: str, kinds: Collection[str]) -> str:
    """The text with harmless values in the place of personal data; read again, it holds none.

    A value put in may read as something else together with its neighbours, hence the rounds; what is left
    after them is taken out.
    """
    if not DIGIT_OR_AT.search(text):
        return text
    rounds = 0
    while find_personal(text, kinds):
        rounds += 1
        for name in (name for name in KINDS if name in kinds):
            for each in sorted(_search(text, name), key=lambda found: found.start, reverse=True):
                if text[each.start : each.end] != each.text:
                    continue  # two patterns met: the next round looks again
                fill = KINDS[name].harmless(each.text) if rounds <= MAX_ROUNDS else ""
                text = text[: each.start] + fill + text[each.end :]
    return text


def _search(text: str, name: str) -> Iterator[Found]:
    kind = KINDS[name]
    for marks, pattern in kind.patterns:
        if any(mark in text for mark in marks):
            for match in pattern.finditer(text):
                size = kind.accept(match.group())
                if size:
                    yield Found(name, match.start(), match.start() + size, match.group()[:size])
