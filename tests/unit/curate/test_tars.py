"""Foreign tars and JSON sidecars: each bad member with its reason, every good one where it lies."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nasty_archives import GOOD, NASTY_JSON, NASTY_TARS, member, tar

from components.config.tars import TarLimits
from components.curate.samples import Reason
from components.curate.tars import BadMember, Member, iter_members, parse_json

LIMITS = TarLimits()


class Counting(io.BytesIO):
    """An archive that counts what is read from it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.taken += len(content)
        return content


@pytest.mark.parametrize("name", NASTY_TARS)
def test_nasty_tar_gives_its_reasons_and_its_good_members(name: str) -> None:
    nasty = NASTY_TARS[name]
    file = Counting(nasty.make())
    found = list(iter_members(file, LIMITS))
    assert tuple(each.reason.code for each in found if isinstance(each, BadMember)) == nasty.codes
    good = [each for each in found if isinstance(each, Member)]
    assert [each.name for each in good if each.name in GOOD] == list(GOOD[: 1 if nasty.lost else 2])
    assert all(each.read(file) for each in good)


@pytest.mark.parametrize("name", ["good", "long_name_bomb", "giant_member", "symbolic_link"])
def test_only_headers_are_read(name: str) -> None:
    file = Counting(NASTY_TARS[name].make())
    assert list(iter_members(file, LIMITS))
    assert file.taken <= 8 * 512


def test_long_name_is_the_members_name() -> None:
    found = list(iter_members(io.BytesIO(NASTY_TARS["long_name"].make()), LIMITS))
    assert isinstance(found[1], Member) and found[1].name == "d/" * 200 + "a.txt"


def test_evidence_says_what_was_found() -> None:
    found = {name: list(iter_members(io.BytesIO(NASTY_TARS[name].make()), LIMITS)) for name in NASTY_TARS}
    link, device = found["symbolic_link"][1], found["block_device"][1]
    assert isinstance(link, BadMember) and link.reason.evidence == "symbolic link to /etc/passwd"
    assert isinstance(device, BadMember) and device.reason.evidence == "block device"


def test_number_and_size_of_members_are_bounded() -> None:
    file = io.BytesIO(tar(member("large", bytes(5000))))
    found = list(iter_members(file, TarLimits(max_member_bytes=4999)))
    assert [type(each) for each in found] == [Member, BadMember, Member]
    last = list(iter_members(file, TarLimits(max_members=2)))[-1]
    assert isinstance(last, BadMember) and last.reason.code == "too_large"


STORABLE = st.characters(codec="utf-8")
"""No lone surrogates: they are refused."""
NAME = st.text(st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=("C",)), min_size=1)


@given(
    files=st.dictionaries(NAME.map(lambda name: f"f/{name}"), st.binary(max_size=1500), max_size=6),
    kind=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_of_any_sound_tar_are_found(files: dict[str, bytes], kind: int) -> None:
    files = {name: content for name, content in files.items() if name not in ("f/.", "f/..")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = list(iter_members(buffer, LIMITS))
    assert all(isinstance(each, Member) for each in found), found
    assert {each.name: each.read(buffer) for each in found if isinstance(each, Member)} == files


@pytest.mark.parametrize("name", NASTY_JSON)
def test_nasty_json_ends_with_its_reason(name: str) -> None:
    parsed = parse_json(NASTY_JSON[name].make(), LIMITS)
    assert (parsed.code if isinstance(parsed, Reason) else "ok") == NASTY_JSON[name].expected


SCALAR = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(STORABLE)
JSON = st.recursive(
    SCALAR | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(STORABLE), inner, max_size=4),
    max_leaves=20,
)


@given(content=st.dictionaries(st.text(STORABLE), JSON, max_size=5), ascii=st.booleans())
def test_any_object_that_can_be_stored_is_read(content: dict[str, object], ascii: bool) -> None:
    assert parse_json(json.dumps(content, ensure_ascii=ascii).encode(), LIMITS) == content
