"""Readers fed with noise and with good files that were damaged: a reason or a result, and nothing else.

A quick profile; `tests/fuzz/fuzz_images.py` goes on for as long as one likes, led by coverage.
"""

from __future__ import annotations

import functools
import io

from hypothesis import given, settings
from hypothesis import strategies as st
from nasty import NASTY
from nasty_archives import NAMESPACES, NASTY_JSON, NASTY_TARS

from components.config.images import ImageLimits
from components.config.tars import TarLimits
from components.curate.images import Examined, Header, examine, read_header
from components.curate.samples import Reason
from components.curate.sources.vector.rasterize import rasterize
from components.curate.tars import BadMember, Member, iter_members, parse_json

LIMITS = ImageLimits(max_pixels=4_000_000)
"""Few pixels: a damaged header may ask for all that is allowed."""
TAR_LIMITS = TarLimits()
QUICK = settings(max_examples=400, deadline=None)
SMALL = 50_000
SVG = (
    f'<svg {NAMESPACES} width="30" height="30"><defs><linearGradient id="g"><stop offset="0.5"/>'
    '</linearGradient></defs><g id="a" fill="url(#g)"><rect width="9" height="9"/></g>'
    '<use xlink:href="#a"/></svg>'
)


@functools.cache
def corpus(kind: str) -> tuple[bytes, ...]:
    """Small files to damage, good and nasty ones."""
    tables = {"image": NASTY, "tar": NASTY_TARS, "json": NASTY_JSON}
    made = (nasty.make() for nasty in tables[kind].values())
    return tuple(content for content in made if 0 < len(content) < SMALL)


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> bytes:
    """A file of the corpus with some bytes changed, taken out or put in."""
    content = bytearray(draw(st.sampled_from(corpus(kind))))
    for _ in range(draw(st.integers(1, 6))):
        # Headers are at the front: half of the damage is done there.
        end = len(content) if draw(st.booleans()) else min(len(content), 600)
        at = draw(st.integers(0, max(end - 1, 0)))
        match draw(st.sampled_from(["set", "flip", "remove", "insert", "cut"])):
            case "set" if content:
                content[at] = draw(st.sampled_from([0, 1, 127, 128, 255]))
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "remove":
                del content[at : at + draw(st.integers(1, 8))]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del content[at:]
    return bytes(content)


@QUICK
@given(content=st.binary(max_size=400) | damaged("image"), side=st.sampled_from([64, 300]))
def test_picture_ends_with_a_reason_or_its_pixels(content: bytes, side: int) -> None:
    header = read_header(content, LIMITS)
    if isinstance(header, Header):
        found = examine(content, header, LIMITS, side=side)
        assert isinstance(found, Examined | Reason)
        if isinstance(found, Examined):
            assert found.image.mode == "RGB" and max(found.image.size) <= max(side, 256)
            assert len(found.gray_32x32) == 1024
    else:
        assert isinstance(header, Reason) and header.code


@QUICK
@given(content=st.binary(max_size=2000) | damaged("tar"))
def test_tar_gives_members_that_can_be_read(content: bytes) -> None:
    file = io.BytesIO(content)
    names = set()
    for member in iter_members(file, TAR_LIMITS):
        if isinstance(member, BadMember):
            assert member.reason.code
            member.name.encode(), member.reason.evidence.encode()
        else:
            assert isinstance(member, Member) and member.name not in names
            assert not member.name.startswith("/") and ".." not in member.name.split("/")
            assert len(member.read(file)) == member.size
            names.add(member.name)


@QUICK
@given(content=st.binary(max_size=200) | damaged("json"))
def test_json_is_an_object_that_can_be_stored_or_a_reason(content: bytes) -> None:
    parsed = parse_json(content, TAR_LIMITS)
    assert isinstance(parsed, dict | Reason)


@settings(max_examples=200, deadline=None)
@given(
    cuts=st.lists(st.tuples(st.integers(0, len(SVG) - 1), st.integers(0, 9), st.text(max_size=5)), max_size=4)
)
def test_svg_is_drawn_or_refused(cuts: list[tuple[int, int, str]]) -> None:
    svg = SVG
    for at, length, text in cuts:
        svg = svg[:at] + text + svg[at + length :]
    try:
        image = rasterize(svg, 32)
    except ValueError:
        return
    assert image.size == (32, 32) and image.mode == "RGB"
