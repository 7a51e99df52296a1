"""Packing under two budgets: ours against TRL, LightBinPack and the five strategies of nanoVLM's pipeline.

python -m benchmarks.packing [--quick]

Samples of a VLM, made from a seed: 0 to 9 images of 64 tokens and a log-normal text, some 330 tokens, into
packs of 4096 tokens and 36 images. Everything runs on one core. The headline is the speed at a million
samples (20,000 with --quick); `table` has what speed is worth: padding, packs by the least possible, packs
over a budget, and how much images vary between packs. `other_data` is ours beside first-fit decreasing where
images bind, both budgets bind, packs hold few samples, or there is no image.

TRL and LightBinPack know tokens only. TRL packs as it does by itself, in batches of 1,000 samples, and once
in batches of our pool; its time includes the copy of the tokens (a byte each), which it packs with the plan.
LightBinPack is C++, built with `-march=native`: how fast a plan can be made by one budget. SeqPacker 0.1.3
(Rust) was tried too: pip found only its source, which needs cargo, and that is not to be had here. The floor
sorts the lengths, which every decreasing packer does.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from trl.data_utils import pack_dataset

from benchmarks.harness import Contender, compare, peer, quick, report
from components.loader.packing import POOL, PackingReport, Strategy, measure, pack

Longs = npt.NDArray[np.int64]

BUDGETS: dict[str, Any] = {"pack_tokens": 4096, "pack_images": 36}
LIGHTBINPACK = """
import sys, time
import numpy as np
from lightbinpack import obfd
lengths = np.load(sys.argv[1]).tolist()
begin = time.perf_counter()
packs = obfd(lengths, int(sys.argv[2]))
seconds = time.perf_counter() - begin
pack_N = np.empty(len(lengths), np.int32)
for number, items in enumerate(packs):
    pack_N[items] = number
np.save(sys.argv[3], pack_N)
print(seconds)
"""


def heavy_tailed(number: int, seed: int = 0) -> tuple[Longs, Longs]:
    """Tokens and images of made samples: as many images as a geometric law gives, 15% of them text only."""
    random = np.random.default_rng(seed)
    images_N = np.minimum(random.geometric(0.5, number), 9) * (random.random(number) >= 0.15)
    text_N = np.maximum(8, random.lognormal(5.0, 0.9, number)).astype(np.int64)
    return np.minimum(64 * images_N + text_N, BUDGETS["pack_tokens"]), images_N


def short(number: int) -> tuple[Longs, Longs]:
    """The CPU job: one image each, 24 to 256 tokens, some 80."""
    random = np.random.default_rng(0)
    tokens_N = 24 + np.minimum(232, random.gamma(1.6, 35, number)).astype(np.int64)
    return tokens_N, np.ones(number, np.int64)


class Work:
    """The same samples for every contender, and the report of the last run of each."""

    def __init__(self, tokens_N: Longs, images_N: Longs, folder: Path) -> None:
        self.tokens_N, self.images_N, self.folder = tokens_N, images_N, folder
        self.reports: dict[str, PackingReport] = {}
        np.save(folder / "tokens.npy", tokens_N)
        # A sample's first token carries its number of images, so that TRL's packs can be read.
        start_N = np.concatenate([[0], np.cumsum(tokens_N)])
        marked = np.zeros(start_N[-1], np.int8)
        marked[start_N[:-1]] = images_N
        lists = pa.ListArray.from_arrays(pa.array(start_N, pa.int32()), pa.array(marked))
        self.dataset = datasets.Dataset(pa.table({"input_ids": lists}))

    def contender(self, name: str, plan: Callable[[], tuple[float, Longs, Longs, Longs]]) -> Contender:
        """One that gives its seconds, and tokens, images and packs of the samples in its own order."""

        def run() -> float:
            seconds, *packed = plan()
            self.reports[name] = measure(*packed, strategy=name, seconds=seconds, **BUDGETS)
            return seconds

        return Contender(name, run)

    def ours(self, strategy: Strategy) -> tuple[float, Longs, Longs, Longs]:
        begin = time.perf_counter()
        pack_N = pack(self.tokens_N, self.images_N, strategy=strategy, **BUDGETS)
        return time.perf_counter() - begin, self.tokens_N, self.images_N, pack_N.astype(np.int64)

    def trl(self, batch: int) -> tuple[float, Longs, Longs, Longs]:
        options = {"batch_size": batch, "keep_in_memory": True}
        begin = time.perf_counter()
        packed = pack_dataset(self.dataset, BUDGETS["pack_tokens"], "bfd", options)
        seconds = time.perf_counter() - begin
        lengths = packed.data["seq_lengths"].combine_chunks()
        marked = packed.data["input_ids"].combine_chunks().flatten().to_numpy()
        tokens_N = lengths.flatten().to_numpy().astype(np.int64)
        images_N = marked[np.cumsum(tokens_N) - tokens_N].astype(np.int64)
        assert images_N.sum() == self.images_N.sum()
        return seconds, tokens_N, images_N, np.repeat(np.arange(len(lengths)), lengths.value_lengths())

    def lightbinpack(self) -> tuple[float, Longs, Longs, Longs]:
        packs = self.folder / "packs.npy"
        tokens = str(self.folder / "tokens.npy")
        seconds = peer(LIGHTBINPACK, tokens, str(BUDGETS["pack_tokens"]), str(packs))
        return seconds, self.tokens_N, self.images_N, np.load(packs).astype(np.int64)

    def sort(self) -> None:
        np.argsort(-self.tokens_N, kind="stable")


def versus(number: int, runs: int) -> dict[str, Any]:
    """Everyone on `number` samples, interleaved; a row of the table each."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Work(*heavy_tailed(number), Path(temporary))
        book: list[Strategy] = ["next_fit", "greedy_knapsack", "balanced_knapsack"]
        result = compare(
            name="packing",
            claim="packs under two budgets are at most 1% more than the least, images vary at most half as "
            "much between them as with first-fit decreasing, at over 1M samples/s on one core",
            unit="samples/s on one core",
            work=number,
            ours=work.contender("pooled", partial(work.ours, "pooled")),
            peers=[
                work.contender("TRL bfd", partial(work.trl, 1000)),
                work.contender(f"TRL bfd, batches of {POOL:,}", partial(work.trl, POOL)),
                work.contender("LightBinPack 0.1.1 obfd (C++)", work.lightbinpack),
                *(work.contender(each, partial(work.ours, each)) for each in book),
            ],
            floor=Contender("sort of the lengths", work.sort),
            runs=runs,
            versions=("numpy", "trl", "datasets"),
            notes="the ratios are of speed alone: what is faster breaks the image budget or fills packs "
            "worse (table)",
        )
        padded: list[Strategy] = ["pad", "constrained_pad"]
        for strategy in padded:
            work.contender(strategy, partial(work.ours, strategy)).run()
    speed = {"pooled": result["ours"], **result["peers"]}
    rows = [_row(each, number, speed.get(name)) for name, each in work.reports.items()]
    ours = work.reports["pooled"].image_variation
    return result | {
        "samples": number,
        "table": rows,
        "image_variation_ratios": {
            name: each.image_variation / ours for name, each in work.reports.items() if name != "pooled"
        },
    }


def _row(packed: PackingReport, samples: int, samples_per_s: float | None) -> dict[str, Any]:
    row = asdict(packed) | {"samples_per_s": samples_per_s}
    return {"who": row.pop("strategy"), "samples": samples, "fill": 1 - packed.padding, **row}


def other_data(number: int) -> list[dict[str, Any]]:
    """Ours beside first-fit decreasing on data of other kinds."""
    tokens_N, images_N = heavy_tailed(number)
    kinds = {
        "18 images a pack: images bind": (tokens_N, images_N, 4096, 18),
        "21 images a pack: both budgets bind": (tokens_N, images_N, 4096, 21),
        "256 tokens a pack: three samples": (*short(number), 256, 8),
        "1024 tokens a pack, heavy-tailed": (np.minimum(tokens_N, 1024), images_N, 1024, 9),
        "no images": (tokens_N, np.zeros_like(images_N), 4096, 36),
    }
    strategies: list[Strategy] = ["pooled", "greedy_knapsack", "balanced_knapsack"]
    rows = []
    for kind, (tokens, images, pack_tokens, pack_images) in kinds.items():
        budgets: dict[str, Any] = {"pack_tokens": pack_tokens, "pack_images": pack_images}
        for strategy in strategies:
            begin = time.perf_counter()
            pack_N = pack(tokens, images, strategy=strategy, **budgets)
            seconds = time.perf_counter() - begin
            packed = measure(tokens, images, pack_N, strategy=strategy, seconds=seconds, **budgets)
            rows.append({"data": kind} | _row(packed, number, packed.samples_per_s))
    return rows


def main() -> None:
    """Measure on one core and print."""
    fast = quick(__doc__ or "")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    datasets.disable_progress_bars()
    sizes = [versus(20_000, runs=5)] if fast else [versus(20_000, runs=5), versus(1_000_000, runs=5)]
    assert {row["who"] for row in sizes[0]["table"]} >= set(get_args(Strategy))
    table = [row for size in sizes for row in size["table"]]
    report(sizes[-1] | {"table": table, "other_data": other_data(20_000)})


if __name__ == "__main__":
    main()
