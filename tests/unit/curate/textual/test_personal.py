"""Personal data: every kind has numbers that are some, numbers that only look so, and reserved ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.textual.personal import KINDS, find_personal, redact_personal

ALL = tuple(KINDS)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to user.name+news@mail.co.uk today", "email"),
        ("user (at) mail [dot] org", "email"),
        ("see icon@2x.png and logo@dark.svg", ""),
        ("user@example.com, x@host.invalid", ""),
        ("3 apples @ 2.50 each", ""),
        ("+33 1 42 68 53 00", "phone"),
        ("0049 30 1234567", "phone"),
        ("+1 202-555-0143", ""),  # kept for fiction
        ("1 + 2 = 3 and 4 + 5 = 9", ""),
        ("DE89 3704 0044 0532 0130 00", "iban"),
        ("GB82WEST12345698765432 IS MINE", "iban"),
        ("DE89 3704 0044 0532 0130 01", ""),  # check digits
        ("ZZ89 3704 0044 0532 0130 00", ""),  # no country
        ("4539 1488 0343 6467", "credit_card"),
        ("378282246310005", "credit_card"),
        ("4539 1488 0343 6468", ""),  # Luhn
        ("1234567890123452", ""),  # Luhn holds, but no network has it
        ("4111 1111 1111 1111", ""),  # the test number
        ("0.4539148803436467", ""),
        ("from 8.8.8.8 port 53", "ip_address"),
        ("2001:4860:4860::8888", "ip_address"),
        ("192.168.0.1, 127.0.0.1, 192.0.2.7, 2001:db8::7", ""),  # private and documentation
        ("version 1.2.3.4.5, 300.1.1.1", ""),
        ("Section 2.4.3.5 of revision 1.17.2.7, v4.3.2.1", ""),
        ("message 17.005405.16806", ""),
        ("std::abs, 12:34:56, 20:15:00:01", ""),
        ("123-45-6789", "ssn"),
        ("000-45-6789, 666-45-6789, 912-45-6789, 123-00-6789, 123-45-0000", ""),
        ("2004-08-25, 12-123-45-6789", ""),
        ("", ""),
    ],
)
def test_personal_data_is_told_from_what_looks_like_it(text: str, kind: str) -> None:
    found = find_personal(text, ALL)
    assert (found.kind if found else "") == kind


def test_find_gives_the_data_and_where_it_lies() -> None:
    text = "pay GB82 WEST 1234 5698 7654 32 NOW"
    found = find_personal(text, ALL)
    assert found is not None and text[found.start : found.end] == found.text == "GB82 WEST 1234 5698 7654 32"


def test_only_the_wanted_kinds_are_found_and_redacted() -> None:
    text = "a@b.org or +33 1 42 68 53 00"
    found = find_personal(text, ("phone",))
    assert found is not None and found.kind == "phone"
    assert redact_personal(text, ("phone",)) == "a@b.org or +1 202-555-0100"


def test_redaction_keeps_the_words_around() -> None:
    text = "Mail user@mail.org, pay DE89370400440532013000, ping 8.8.8.8 or 2001:4860::1, SSN 123-45-6789."
    assert redact_personal(text, ALL) == (
        "Mail email@example.com, pay GB33 BUKB 2020 1555 5555 55, ping 192.0.2.1 or 2001:db8::1, "
        "SSN 219-09-9999."
    )


pieces = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            "a@b.org",
            "+33 1 42 68 53 00",
            "(555) 123-4567",
            "DE89370400440532013000",
            "4539 1488 0343 6467",
            "8.8.8.8",
            "2001:4860:4860::8888",
            "123-45-6789",
            " ",
            "-",
            ".",
            "1",
        ]
    ),
)


@given(st.lists(pieces, max_size=12).map("".join))
def test_redacted_text_holds_no_personal_data(text: str) -> None:
    assert find_personal(redact_personal(text, ALL), ALL) is None
