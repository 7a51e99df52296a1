"""Claim: all pairs of near perceptual hashes are found, exactly, without comparing every two.

    python -m benchmarks.near_duplicate_search [--quick]

The hashes are those of blends of real photographs; one picture in ten has a near copy. Peers search the same
hashes for the same pairs: ImageHash by comparing every two (as its documentation does), and one numpy
comparison of each hash with all after it. All pairs that are found are compared with the peers'.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.harness import PEERS, Contender, compare, peer, quick, report
from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates.banding import cheapest_tables, pairs_within
from components.curate.duplicates.perceptual import GRAY, hash_images, thumbnail

PHOTOGRAPHS = {
    "skimage.data": ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg", "camera.png"),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}
WINDOWS = 128
"""Of every photograph, at random places."""
COPIED = 0.1
DISTANCE = NearDuplicateConfig().image_distance
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)

IMAGEHASH = """
import sys, time
import imagehash, numpy as np
source, target, distance = sys.argv[1], sys.argv[2], int(sys.argv[3])
hashes = [imagehash.hex_to_hash(f"{each:016x}") for each in np.load(source).tolist()]
begin = time.perf_counter()
pairs = [
    (i, j)
    for i, one in enumerate(hashes)
    for j in range(i + 1, len(hashes))
    if one - hashes[j] <= distance
]
seconds = time.perf_counter() - begin
np.save(target, np.array(pairs).reshape(-1, 2))
print(seconds)
"""
NUMPY = """
import sys, time
import numpy as np
source, target, distance = sys.argv[1], sys.argv[2], int(sys.argv[3])
hashes = np.load(source)
begin = time.perf_counter()
pairs = []
for i in range(len(hashes)):
    near = np.flatnonzero(np.bitwise_count(hashes[i] ^ hashes[i + 1 :]) <= distance)
    pairs.append(np.stack([np.full(len(near), i), near + i + 1], axis=1))
pairs = np.concatenate(pairs)
seconds = time.perf_counter() - begin
np.save(target, pairs)
print(seconds)
"""


def main() -> None:
    short = quick(__doc__ or "")
    num = 2_000 if short else 3_000
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "hashes.npy"
        hashes = draw_hashes(num)
        np.save(source, hashes)
        scripts = {
            f"ImageHash {_version('ImageHash')}, every pair": IMAGEHASH,
            f"numpy {_version('numpy')}, every pair": NUMPY,
        }
        targets = {name: Path(folder) / f"{place}.npy" for place, name in enumerate(scripts)}
        result = compare(
            name="near_duplicate_search",
            claim="all pairs of near hashes, exactly, without comparing every two",
            unit="pictures/s",
            work=num,
            ours=Contender("opsin", lambda: _timed(hashes)),
            peers=[
                Contender(name, partial(peer, script, str(source), str(targets[name]), str(DISTANCE)))
                for name, script in scripts.items()
            ],
            runs=3 if short else 7,
            versions=("numpy",),
            notes=f"{num} hashes of blended photographs, {DISTANCE} of 64 bits, reading them not timed",
        )
        found = search(hashes)
        result["pairs"] = len(found)
        result["same_pairs_as"] = {name: found == _pairs(np.load(path)) for name, path in targets.items()}
    result["scaling"] = [measure(size) for size in (SIZES[:3] if short else SIZES)]
    report(result)


def draw_hashes(num: int, *, seed: int = 0) -> npt.NDArray[np.uint64]:
    """Hashes of `num` pictures: three windows of photographs blended, and copies of a tenth with noise."""
    windows = _windows()
    generator = np.random.default_rng(seed)
    hashes = np.empty(num, np.uint64)
    originals = num - round(num * COPIED)
    for start in range(0, originals, 20_000):
        size = min(20_000, originals - start)
        blends = np.zeros((size, GRAY, GRAY), np.float32)
        for share in generator.dirichlet((2, 2, 2), size).T.astype(np.float32):
            blends += share[:, None, None] * windows[generator.integers(0, len(windows), size)]
        hashes[start : start + size] = hash_images(blends.astype(np.uint8))
        copied = slice(originals + round(start * COPIED / (1 - COPIED)), None)
        room = len(hashes[copied])
        chosen = blends[: min(room, round(size * COPIED / (1 - COPIED)))]
        noisy = np.clip(chosen + generator.normal(0, 3, chosen.shape), 0, 255).astype(np.uint8)
        hashes[copied][: len(noisy)] = hash_images(noisy)
    return hashes


def _windows() -> npt.NDArray[np.float32]:
    """(windows, 32, 32): luminance, each window turned and mirrored in all eight ways."""
    generator = np.random.default_rng(1)
    thumbs = []
    for package, names in PHOTOGRAPHS.items():
        for name in names:
            photograph = Image.open(str(files(package) / name)).convert("RGB")
            for _ in range(WINDOWS):
                side = generator.uniform(0.3, 0.9)
                width, height = (round(each * side) for each in photograph.size)
                left = int(generator.integers(0, photograph.width - width))
                top = int(generator.integers(0, photograph.height - height))
                thumbs.append(thumbnail(photograph.crop((left, top, left + width, top + height))))
    pixels = np.frombuffer(b"".join(thumbs), np.uint8).reshape(len(thumbs), -1)
    gray = pixels[:, : GRAY * GRAY].reshape(-1, GRAY, GRAY).astype(np.float32)
    turned = [np.rot90(each, turns, axes=(1, 2)) for each in (gray, gray[:, :, ::-1]) for turns in range(4)]
    return np.concatenate(turned)


def search(hashes: npt.NDArray[np.uint64]) -> set[tuple[int, int]]:
    found = [np.stack(pair, axis=1) for pair in pairs_within(hashes, DISTANCE)]
    return _pairs(np.concatenate(found) if found else np.zeros((0, 2), np.int64))


def measure(size: int) -> dict[str, Any]:
    """Seconds for a number of pictures, hashing apart."""
    hashes = draw_hashes(size)
    begin = time.perf_counter()
    num_pairs = sum(len(left) for left, _ in pairs_within(hashes, DISTANCE))
    seconds = time.perf_counter() - begin
    tables, looked_at = cheapest_tables(hashes, DISTANCE)
    return {
        "pictures": size,
        "seconds": round(seconds, 3),
        "pictures_per_s": round(size / seconds),
        "pairs": num_pairs,
        "tables": len(tables),
        "pairs_looked_at": round(looked_at),
        "share_of_all_pairs_looked_at": looked_at / (size * (size - 1) / 2),
    }


def _timed(hashes: npt.NDArray[np.uint64]) -> float:
    begin = time.perf_counter()
    for _ in pairs_within(hashes, DISTANCE):
        pass
    return time.perf_counter() - begin


def _pairs(array: npt.NDArray[np.int64]) -> set[tuple[int, int]]:
    return {(int(one), int(other)) for one, other in array}


def _version(distribution: str) -> str:
    code = f"import importlib.metadata as m; print(m.version('{distribution}'))"
    return subprocess.run([str(PEERS), "-c", code], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
