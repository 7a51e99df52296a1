"""From encoded JPEG files to written shards: ours against img2dataset and Data-Juicer, per core.

python -m benchmarks.decode_to_shard [--quick]

The same files, of 2 to 12 megapixels, become pictures of 256 pixels on the longer side, encoded as JPEG of
quality 90 and stored with their text and a table of what was measured. Seconds are processor time, of child
processes too, so that the figure is per core and a busy machine does not change it.

    ours          read_header (size, aspect, bytes), examine (truncated, blank, blur, pixel hash, luminance
                  square for perceptual hashes), fit, encode, indexed tar, manifest; SHA-256 of the file
    img2dataset   its own Downloader on file:// addresses with one thread: Resizer (size, aspect), SHA-256 of
                  the file, its WebDataset writer and parquet table. No blank, no blur, no pixel hash
    Data-Juicer   its image size, shape and aspect filters with operator fusion, then a resizing mapper
                  written after its own image_blur_mapper (it has none), its exporter (pictures as files and
                  a JSON Lines table: its local exporter writes no tar). No blank, no blur, no hash. Of its
                  time about 0.9 s a run is fixed (datasets' process pools), the more of it the fewer files
    floor         Pillow's scaled decode alone, at the scale that 256 pixels allow

The files are sample photographs of scikit-image, scikit-learn and matplotlib, enlarged, with noise (sigma 2)
in place of the detail that enlarging lacks: 1.1 to 1.5 bits a pixel at 2 megapixels and quality 90, where
33 desktop photographs of 3 to 16 megapixels had a median of 1.2 when resaved alike.
"""

from __future__ import annotations

import hashlib
import io
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import skimage
import sklearn
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from benchmarks.harness import PEERS, Contender, compare, quick, report
from components.config.images import ImageLimits
from components.curate.images import Examined, Header, encode, examine, fit, read_header
from components.curate.shards import write_indexed_tar, write_table

SIDE, QUALITY = 256, 90
MEGAPIXELS = (2, 4, 8, 12)
NOISE = 2.0
LIMITS = ImageLimits(blur=1.0)
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "sha256", "pixels_sha256", "luminance")),
        *((name, pa.int64()) for name in ("width", "height", "original_width", "original_height")),
        ("blur", pa.float64()),
    ]
)
CAPTION = "a photograph of something that somebody has seen"

IMG2DATASET = """
import json, os, resource, sys
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import pyarrow as pa
from img2dataset.downloader import Downloader
from img2dataset.resizer import Resizer
from img2dataset.writer import WebDatasetSampleWriter

folder, side, quality, caption, *files = sys.argv[1:]
resizer = Resizer(int(side), "keep_ratio_largest", True, encode_quality=int(quality), min_image_size=8,
                  max_image_area=89_000_000, max_aspect_ratio=20)
download = Downloader(WebDatasetSampleWriter, resizer, 1, True, False, folder, ["url", "caption"], 10,
                      len(files), 5, "sha256", None, "jpg", 0, None, None)
table = pa.table({"url": [f"file://{each}" for each in files], "caption": [caption] * len(files)})

def prepare():
    with pa.OSFile(f"{folder}/input.feather", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)

def work():
    ended, _ = download((0, f"{folder}/input.feather"))
    with open(f"{folder}/00000_stats.json") as file:
        assert ended and json.load(file)["successes"] == len(files)
"""

DATA_JUICER = """
import os, resource, sys
import datasets
from loguru import logger
from PIL import Image
from data_juicer.core.data import NestedDataset
from data_juicer.core.exporter import Exporter
from data_juicer.ops import load_ops
from data_juicer.ops.base_op import OPERATORS, Mapper
from data_juicer.ops.op_fusion import fuse_operators
from data_juicer.utils.mm_utils import load_data_with_context, load_image

logger.remove()
datasets.disable_caching()
datasets.disable_progress_bars()
folder, side, quality, caption, *files = sys.argv[1:]

@OPERATORS.register_module("image_resize_mapper")
class ImageResizeMapper(Mapper):
    def process_single(self, sample, context=False):
        sample, images = load_data_with_context(sample, context, sample[self.image_key], load_image,
                                                mm_bytes_key=self.image_bytes_key)
        stored = []
        for name, image in images.items():
            image.thumbnail((int(side), int(side)), Image.Resampling.BOX)
            # Files may repeat: the text tells them apart.
            stored.append(f"{folder}/{sample['text'].split()[0]}.jpg")
            image.save(stored[-1], quality=int(quality))
        sample[self.image_key] = stored
        return sample

once = {"num_proc": 1, "auto_op_parallelism": False, "turbo": True}
steps = [
    {"image_size_filter": {"min_size": "1", "max_size": "64MB"} | once},
    {"image_shape_filter": {"min_width": 8, "max_width": 20000, "min_height": 8, "max_height": 20000} | once},
    {"image_aspect_ratio_filter": {"min_ratio": 0.05, "max_ratio": 20.0} | once},
    {"image_resize_mapper": once},
]
rows = [{"images": [each], "text": f"{number} {caption}"} for number, each in enumerate(files)]

def prepare():
    pass

def work():
    dataset = NestedDataset.from_list(rows).process(fuse_operators(load_ops(steps)))
    Exporter(f"{folder}/data.jsonl", export_in_parallel=False).export(dataset)
    assert len(dataset) == len(files)
"""

SERVE = """
def spent():
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in usages)

answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for _ in sys.stdin:
    prepare()
    begin = spent()
    work()
    print(spent() - begin, file=answer, flush=True)
"""
"""Appended to a peer's script: for each line that comes in, do the work and answer with its seconds."""


def spent() -> float:
    """Processor time of this process so far, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def photographs() -> list[Image.Image]:
    """Real photographs that ship inside packages of this environment."""
    samples, images = (
        Path(skimage.__file__).parent / "data",
        Path(sklearn.__file__).parent / "datasets/images",
    )
    paths = [samples / name for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")]
    paths += [images / "china.jpg", images / "flower.jpg"]
    paths.append(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg")
    return [Image.open(path).convert("RGB") for path in paths]


def write_files(folder: Path, megapixels: int, number: int) -> list[Path]:
    """`number` JPEGs of that size; every second one is mirrored, and no noise is like another."""
    photos, paths = photographs(), []
    for index in range(number):
        photo = photos[index % len(photos)]
        if index // len(photos) % 2:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
        size = (round(photo.width * scale) + 1, round(photo.height * scale) + 1)
        levels = np.asarray(photo.resize(size, Image.Resampling.BICUBIC), np.float32)
        random = np.random.default_rng((megapixels, index))
        levels = levels + NOISE * random.standard_normal(levels.shape, np.float32)
        path = folder / f"{megapixels}-{index}.jpg"
        Image.fromarray(levels.round().clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
        paths.append(path)
    return paths


def write_ours(files: Sequence[Path], folder: Path) -> float:
    """One shard, its index and its manifest."""
    begin = spent()
    members, rows = [], []
    for number, path in enumerate(files):
        content = path.read_bytes()
        header = read_header(content, LIMITS)
        assert isinstance(header, Header), header
        examined = examine(content, header, LIMITS, side=SIDE)
        assert isinstance(examined, Examined), examined
        image = fit(examined.image, SIDE, "inside")
        row = {
            "key": f"{number:08d}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "pixels_sha256": examined.pixels_sha256,
            "luminance": hashlib.sha256(examined.gray_32x32).hexdigest(),
            "width": image.width,
            "height": image.height,
            "original_width": examined.width,
            "original_height": examined.height,
            "blur": examined.blur,
        }
        rows.append(row)
        members.append((f"{row['key']}.jpg", encode(image, "jpeg", QUALITY)))
        members.append((f"{row['key']}.json", json.dumps(row | {"caption": CAPTION}).encode()))
    write_indexed_tar(folder / "shard.tar", members)
    write_table(rows, SCHEMA, folder / "manifest.parquet")
    return spent() - begin


def decode_scaled(files: Sequence[Path]) -> float:
    """The floor: reading and Pillow's decode at the smallest scale that is no smaller than `SIDE`."""
    begin = spent()
    for path in files:
        with JpegImageFile(io.BytesIO(path.read_bytes())) as picture:
            scale = next(each for each in (8, 4, 2, 1) if max(picture.size) // each >= SIDE)
            picture.draft(None, (picture.width // scale, picture.height // scale))
            picture.load()
    return spent() - begin


@contextmanager
def serve(name: str, script: str, files: Sequence[Path], folder: Path) -> Iterator[Contender]:
    """A peer in a process of its own that has imported what it needs and waits for work."""
    folder.mkdir()
    arguments = [str(folder), str(SIDE), str(QUALITY), CAPTION, *map(str, files)]
    log = folder / "log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [str(PEERS), "-c", script + SERVE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin and process.stdout, "pipes were asked for"

        def run() -> float:
            assert process.stdin and process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                sys.exit(f"{name} failed:\n{log.read_text()[-3000:]}")
            return float(answer)

        yield Contender(name, run)
        process.stdin.close()


def peer_version(distribution: str) -> str:
    """Version of a distribution in the peers' environment."""
    if not PEERS.exists():
        sys.exit(f"{PEERS} is missing: `make bench` builds it")
    command = [str(PEERS), "-c", f"import importlib.metadata as m; print(m.version({distribution!r}))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def measure(files: Sequence[Path], *, unit: str, runs: int) -> dict[str, Any]:
    """Pictures per second of one core, for all contenders on these files."""
    img2dataset = f"img2dataset {peer_version('img2dataset')}"
    data_juicer = f"Data-Juicer {peer_version('py-data-juicer')}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        peers = [
            stack.enter_context(serve(img2dataset, IMG2DATASET, files, folder / "img2dataset")),
            stack.enter_context(serve(data_juicer, DATA_JUICER, files, folder / "data-juicer")),
        ]
        return compare(
            name="decode_to_shard",
            claim="pictures of 2 megapixels and more become shards at least 3 times as fast as with "
            "img2dataset, 5 times as fast as with Data-Juicer, and at 0.8 of a scaled decode alone",
            unit=unit,
            work=len(files),
            ours=Contender("opsin", lambda: write_ours(files, folder)),
            peers=peers,
            floor=Contender("scaled decode alone", lambda: decode_scaled(files)),
            runs=runs,
            versions=("pillow", "numpy", "pyarrow"),
            notes="processor time of one core; img2dataset: Downloader of file:// addresses, no EXIF table",
        )


def main() -> None:
    """All sizes together are the headline; each size apart unless it must be quick."""
    short = quick(__doc__ or "")
    number, repeats, runs = (7, 3, 2) if short else (14, 2, 5)
    with tempfile.TemporaryDirectory() as temporary:
        sizes = MEGAPIXELS[::2] if short else MEGAPIXELS
        files = {each: write_files(Path(temporary), each, number) for each in sizes}
        together = [path for paths in zip(*files.values(), strict=True) for path in paths] * repeats
        result = measure(together, unit=f"pictures/s per core, {sizes} megapixels", runs=runs)
        if not short:
            keys = ("ours", "peers", "floor", "ratios", "intervals", "share_of_floor")
            apart = {
                f"{size} megapixels": measure(paths * repeats, unit="pictures/s per core", runs=3)
                for size, paths in files.items()
            }
            result["by_size"] = {size: {key: each[key] for key in keys} for size, each in apart.items()}
    report(result)


if __name__ == "__main__":
    main()
