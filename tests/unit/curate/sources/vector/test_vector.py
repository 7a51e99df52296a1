"""SVGs from strangers: what is hostile is refused at once, what is only odd is drawn."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from nasty import bomb_png
from PIL import Image

from components.curate.sources.vector import rasterize as vector
from components.curate.sources.vector.rasterize import rasterize

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
BLACK = ((0, 255), (0, 255), (0, 255))
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"


def _svg(body: str, *, size: str = 'width="30" height="30"', doctype: str = "") -> str:
    return f"{doctype}<svg {NAMESPACES} {size}>{body}</svg>"


def _entities(levels: int) -> str:
    lines = ['<!ENTITY e0 "aaaaaaaaaa">']
    lines += [f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(levels)]
    return f"<!DOCTYPE svg [{''.join(lines)}]>"


def _fan(levels: int) -> str:
    uses = [f'<use xlink:href="#g{n}"/>' * 10 for n in range(levels)]
    groups = [f'<g id="g{n + 1}">{each}</g>' for n, each in enumerate(uses)]
    return '<rect id="g0" width="3" height="3"/>' + "".join(groups)


def _bitmap(content: str) -> str:
    return _svg(f'<image width="9" height="9" href="data:image/png;base64,{content}"/>')


def _pattern(number: int) -> str:
    rect = f"<rect width='3' height='3' fill='url(#p{number + 1})'/>"
    return f"<pattern id='p{number}' width='5' height='5'>{rect * 2}</pattern>"


@pytest.mark.parametrize(
    "svg",
    [
        "",
        "<svg broken",
        _svg("", size='width="0" height="0"'),
        _svg("<text>&e9;</text>", doctype=_entities(9)),
        _svg("<text>&x;</text>", doctype='<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        _svg("<g>" * 200_000 + "</g>" * 200_000),
        _svg("".join(f"<use id='a{n}' xlink:href='#a{n + 1}'/>" for n in range(2001))),
        _svg("".join(f"<mask id='m{n}' mask='url(#m{n + 1})'/>" for n in range(5000))),
        _svg("".join(_pattern(n) + _pattern(n).replace("id=", "x=") for n in range(25))),
        _svg("<rect/>" * 200_000),
        _svg(f'<rect id="{"a" * (9 << 20)}"/>'),
        _svg(_fan(7)),
        _svg('<image width="9" height="9" href="data:image/svg+xml,%3Csvg/%3E"/>'),
        _bitmap("PHN2Zy8+"),
        _bitmap(base64.b64encode(bomb_png()).decode()),
        _bitmap("iVBORw0KG"),
        _svg('<filter id="f"><feImage href="http://example.org/a.png"/></filter>'),
        _svg('<use href="other.svg#a"/>'),
    ],
    ids=[
        *("empty", "broken", "no-size", "bomb", "external", "deep", "uses", "masks", "patterns", "many"),
        *("long", "fan", "nested", "disguised", "bitmap-bomb", "bitmap-cut", "remote", "other-file"),
    ],
)
def test_hostile_svg_is_refused(svg: str) -> None:
    with pytest.raises(ValueError):
        rasterize(svg, 64)


@pytest.mark.parametrize(
    ("bomb", "signal"),
    [
        ('<filter id="f"><feTurbulence numOctaves="1000000000" baseFrequency="0.1"/></filter>', "SIGXCPU"),
        ('<pattern id="f" width="1e6" height="1e6" patternUnits="userSpaceOnUse"><g/></pattern>', "SIGABRT"),
    ],
    ids=["days", "abort"],
)
def test_svg_that_ends_its_renderer_is_refused_and_the_next_is_drawn(
    monkeypatch: pytest.MonkeyPatch, bomb: str, signal: str
) -> None:
    monkeypatch.setattr(vector, "SECONDS", 1)
    monkeypatch.setattr(vector, "_renderer", vector._Renderer())
    paint = "filter" if "filter" in bomb else "fill"
    with pytest.raises(ValueError, match=signal):
        rasterize(_svg(f'{bomb}<rect width="20" height="20" {paint}="url(#f)"/>'), 64)
    assert rasterize(_svg('<rect width="9" height="9"/>'), 64).getextrema() == BLACK
    vector._renderer.close()


def test_image_on_this_machine_is_not_drawn(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (30, 30), "red").save(secret)
    plain = _svg(f'<image width="30" height="30" href="{secret}"/>')
    hidden = _svg(
        '<image width="30" height="30" xlink:href="&f;"/>',
        doctype=f'<!DOCTYPE svg [<!ENTITY f "{secret}">]>',
    )
    for svg in (plain, hidden):
        with pytest.raises(ValueError, match="draws from outside"):
            rasterize(svg, 64)


@pytest.mark.parametrize(
    "svg",
    [
        _svg('<rect width="9" height="9"/>'),
        _svg('<rect width="9" height="9"/>', size='width="1e9" height="1e9" viewBox="0 0 30 30"'),
        _svg('<rect width="9" height="9"/><g id="a"><use xlink:href="#a"/></g>'),
        _svg(f'<image width="30" height="30" href="data:;base64,{PIXEL}"/><circle r="9" fill="white"/>'),
        _svg('<a xlink:href="http://example.org"><rect width="9" height="9"/></a>'),
        _svg('<rect width="&w;" height="9"/>', doctype='<!DOCTYPE svg [<!ENTITY w "9">]>'),
    ],
    ids=["plain", "huge", "endless", "bitmap", "link", "entity"],
)
def test_odd_svg_is_drawn_within_its_square(svg: str) -> None:
    image = rasterize(svg, 64)
    assert image.size == (64, 64)
    assert image.getextrema() == BLACK
