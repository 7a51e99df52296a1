"""Claim: nearly equal texts are found faster than with datasketch, with the same signatures, bands and check.

    python -m benchmarks.near_duplicate_texts [--quick]

The texts are the docstrings of installed libraries, which repeat each other a lot, and edited copies of one
in ten. Both sides make shingles of five characters, 128 permutations, the same bands, and check what the
bands propose by the exact Jaccard similarity. The floor makes the shingle sets alone, in Python. Recall is
against all pairs, by a sparse product.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from benchmarks.harness import Contender, compare, peer, quick, report
from benchmarks.near_duplicate_search import _version
from components.curate.duplicates.minhash import band_keys, choose_bands, minhash, propose_within
from components.curate.duplicates.shingles import CHARACTERS, jaccard, shingle

LIBRARIES = ("numpy", "scipy", "sklearn", "pandas", "matplotlib", "torch", "PIL", "pyarrow")
DOCSTRING = re.compile(r'"""(.+?)"""', re.DOTALL)
SHORTEST, LONGEST = 60, 1_000
"""Characters: shorter texts are left out, of longer ones so many are taken."""
THRESHOLD = 0.8
EDITED = 0.1

DATASKETCH = """
import json, sys, time
import datasketch, xxhash
source, target, threshold, bands, rows, width = sys.argv[1:]
texts = json.load(open(source))
width = int(width)
begin = time.perf_counter()
sets = [{text[i : i + width].encode() for i in range(max(1, len(text) - width + 1))} for text in texts]
lsh = datasketch.MinHashLSH(num_perm=128, params=(int(bands), int(rows)))
hashes = datasketch.MinHash.bulk(sets, num_perm=128, hashfunc=xxhash.xxh32_intdigest)
with lsh.insertion_session() as session:
    for number, each in enumerate(hashes):
        session.insert(number, each, check_duplication=False)
pairs = []
for number, each in enumerate(hashes):
    for other in lsh.query(each):
        if other > number:
            shared = len(sets[number] & sets[other])
            if shared / (len(sets[number]) + len(sets[other]) - shared) >= float(threshold):
                pairs.append((number, other))
seconds = time.perf_counter() - begin
json.dump(pairs, open(target, "w"))
print(seconds)
"""


def main() -> None:
    short = quick(__doc__ or "")
    texts = draw_texts(2_000 if short else 10_000)
    bands, rows = choose_bands(THRESHOLD)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "texts.json", Path(folder) / "pairs.json"
        source.write_text(json.dumps(texts))
        arguments = (str(source), str(target), str(THRESHOLD), str(bands), str(rows), str(CHARACTERS))
        name = f"datasketch {_version('datasketch')} MinHashLSH"
        result = compare(
            name="near_duplicate_texts",
            claim="nearly equal texts: the same signatures, bands and exact check as datasketch, faster",
            unit="texts/s",
            work=len(texts),
            ours=Contender("opsin", lambda: _timed(texts)),
            peers=[Contender(name, lambda: peer(DATASKETCH, *arguments))],
            floor=Contender("shingle sets in Python", lambda: _plain(texts)),
            runs=3 if short else 7,
            versions=("numpy", "pyarrow"),
            notes=f"{len(texts)} docstrings of {np.mean([len(text) for text in texts]):.0f} characters, "
            f"Jaccard at least {THRESHOLD}, {bands} bands of {rows}",
        )
        theirs = {(one, other) for one, other in json.loads(target.read_text())}
    truth = all_pairs(texts)
    result["pairs"] = len(truth)
    result["recall"] = {"opsin": _recall(search(texts), truth), name: _recall(theirs, truth)}
    result["false_pairs"] = {"opsin": len(search(texts) - truth), name: len(theirs - truth)}
    sizes = (1_000, 10_000) if short else (1_000, 10_000, 100_000)
    result["scaling"] = [measure(size) for size in sizes]
    report(result)


def draw_texts(num: int) -> list[str]:
    """Docstrings in a fixed random order, without exact repeats; a tenth are edited copies."""
    pool = sorted(set(_docstrings()))
    chance = random.Random(0)
    chance.shuffle(pool)
    originals = pool[: round(num * (1 - EDITED))]
    copies: list[str] = []
    while len(originals) + len(copies) < num:
        words = chance.choice(originals).split(" ")
        for _ in range(chance.randint(1, max(1, len(words) // 30))):
            words[chance.randrange(len(words))] = chance.choice(("", "the", "other", "which"))
        copies.append(" ".join(" ".join(words).split()))
    return originals + copies


def _docstrings() -> Iterator[str]:
    for library in LIBRARIES:
        spec = find_spec(library)
        assert spec is not None and spec.origin is not None, f"{library} is installed"
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            for content in DOCSTRING.findall(path.read_text()):
                text = " ".join(content.lower().split())[:LONGEST].strip()
                if len(text) >= SHORTEST and text.isascii():
                    yield text


def search(texts: list[str]) -> set[tuple[int, int]]:
    sets = shingle(pa.array(texts), words=0)
    found = set()
    for left, right in propose_within(band_keys(minhash(sets), THRESHOLD)):
        alike = jaccard(sets, left, right) >= THRESHOLD
        found |= set(zip(left[alike].tolist(), right[alike].tolist(), strict=True))
    return found


def all_pairs(texts: list[str]) -> set[tuple[int, int]]:
    """Every pair at least `THRESHOLD` alike, by the number of shared shingles of every two texts."""
    sets = shingle(pa.array(texts), words=0)
    _, columns = np.unique(sets.values, return_inverse=True)
    matrix = csr_array((np.ones(len(columns), np.int32), columns, sets.offsets))
    found = set()
    for start in range(0, len(texts), 500):
        shared = (matrix[start : start + 500] @ matrix.T).tocoo()
        left, right = shared.row + start, shared.col
        total = sets.sizes[left] + sets.sizes[right] - shared.data
        near = (left < right) & (shared.data / total >= THRESHOLD)
        found |= set(zip(left[near].tolist(), right[near].tolist(), strict=True))
    return found


def measure(size: int) -> dict[str, Any]:
    pool = draw_texts(min(size, 40_000))
    texts = [f"{text} {number}" for number in range(-(-size // len(pool))) for text in pool][:size]
    begin = time.perf_counter()
    pairs = len(search(texts))
    return {"texts": size, "seconds": round(time.perf_counter() - begin, 3), "pairs": pairs}


def _timed(texts: list[str]) -> float:
    begin = time.perf_counter()
    search(texts)
    return time.perf_counter() - begin


def _plain(texts: list[str]) -> None:
    for text in texts:
        {text[start : start + CHARACTERS] for start in range(max(1, len(text) - CHARACTERS + 1))}


def _recall(found: set[tuple[int, int]], truth: set[tuple[int, int]]) -> float:
    return len(found & truth) / max(1, len(truth))


if __name__ == "__main__":
    main()
