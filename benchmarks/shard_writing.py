"""Writing WebDataset shards: ours against `webdataset.TarWriter`, on the same encoded samples.

python -m benchmarks.shard_writing [--quick]

A sample is a picture of random bytes and a JSON of 200 bytes, encoded already: writing is all that is
timed. Ours writes the index of the shard as well, which the peer does not. The floor writes the same
number of bytes in one call. Everything goes to the file system of the temporary directory, each time into
a new folder: ext4 flushes a file to the disk that replaces another.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import webdataset

from benchmarks.harness import Contender, compare, quick, report
from components.curate.shards import write_indexed_tar

SIZES = (4 << 10, 32 << 10, 256 << 10)
"""Bytes of a picture: 64 pixels as PNG, 256 pixels as JPEG, a megapixel as JPEG."""
HEADLINE = 32 << 10
SHARD_BYTES = 64 << 20
MAX_SAMPLES = 4000


def measure(size: int, *, runs: int) -> dict[str, Any]:
    """Samples per second of one shard with pictures of `size` bytes."""
    number = min(MAX_SAMPLES, SHARD_BYTES // size)
    text = json.dumps({"turns": [{"question": "q" * 80, "answer": "a" * 80}]}).encode()
    samples = [(f"sample-{index:08d}", os.urandom(size)) for index in range(number)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def ours(new: Path) -> None:
            members = [
                member
                for key, picture in samples
                for member in ((f"{key}.png", picture), (f"{key}.json", text))
            ]
            write_indexed_tar(new / "ours.tar", members)

        def theirs(new: Path) -> None:
            with webdataset.TarWriter(str(new / "theirs.tar"), encoder=False) as writer:
                for key, picture in samples:
                    writer.write({"__key__": key, "png": picture, "json": text})

        whole = b"".join(picture for _, picture in samples)

        def floor(new: Path) -> None:
            (new / "floor").write_bytes(whole)

        def timed(write: Callable[[Path], None]) -> Callable[[], float]:
            def run() -> float:
                new = Path(tempfile.mkdtemp(dir=folder))
                begin = time.perf_counter()
                write(new)
                seconds = time.perf_counter() - begin
                shutil.rmtree(new)
                return seconds

            return run

        return compare(
            name="shard_writing",
            claim="shards are written at least 5 times as fast as webdataset.TarWriter writes them",
            unit=f"samples/s of {size >> 10} KiB",
            work=number,
            ours=Contender("opsin", timed(ours)),
            peers=[Contender("webdataset.TarWriter", timed(theirs))],
            floor=Contender("one write", timed(floor)),
            runs=runs,
            versions=("webdataset",),
            notes="TarWriter with encoder=False, its fastest setting for encoded samples",
        )


def main() -> None:
    """Measure every size; the headline is pictures of 32 KiB."""
    runs = 5 if quick(__doc__ or "") else 15
    results = {size: measure(size, runs=runs) for size in SIZES}
    by_size = {
        f"{size >> 10} KiB": {"ratios": each["ratios"], "intervals": each["intervals"]}
        for size, each in results.items()
    }
    report(results[HEADLINE] | {"by_size": by_size})


if __name__ == "__main__":
    main()
