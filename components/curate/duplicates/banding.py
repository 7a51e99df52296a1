"""All pairs of 64-bit hashes within a Hamming distance, exactly, in practice in linear time.

Hashes within distance d, cut into d + m blocks, agree in at least m blocks (pigeonhole). So one bucket table
for each choice of m blocks finds every pair (Manku, Jain and Das Sarma, 2007, "Detecting near-duplicates
for web crawling"): few tables with short keys for small m, many with long keys for large m. Which m is
cheapest depends on how many hashes there are and how alike they are, and is measured on the hashes
themselves; the pairs found never depend on it. A pair is given once: by the table of the first m blocks
that it agrees in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb

import numpy as np

from components.curate.duplicates.buckets import Buckets, Rows, Words, mix

BITS = 64
MOST_TABLES = 4000
PROBES = 3
"""Tables that are built to measure how large buckets are."""
PAIR_COST = 0.4
"""What looking at one pair costs, in sorts per row of a table (measured: 8 ns against 25 ns)."""
SMALL = 1500
"""Rows up to which all pairs are looked at."""


@dataclass(frozen=True)
class Table:
    """One choice of blocks."""

    chosen: int
    """Mask of the bits of the chosen blocks."""
    skipped: tuple[int, ...]
    """Masks of the blocks before the last chosen one that are not chosen: a pair that agrees in one of
    them is found by an earlier table."""


def pairs_within(
    hashes: Words, distance: int, *, labels: Words | None = None, tables: tuple[Table, ...] | None = None
) -> Iterator[tuple[Rows, Rows]]:
    """Every pair of rows whose hashes differ in at most `distance` bits once, the lower row first.

    Args:
        hashes: (N,).
        distance: Bits; negative: no pair.
        labels: (N,); only rows with the same label make a pair.
        tables: What `cheapest_tables` gave for the same hashes; it is asked otherwise.
    """
    if distance < 0 or len(hashes) < 2:
        return
    tables = tables or cheapest_tables(hashes, distance, labels=labels)[0]
    for table in tables:
        buckets = Buckets(_keys(hashes, table, labels))
        ordered = _Side(hashes, labels, buckets.rows)  # neighbours in a bucket are neighbours in memory
        for left, right in buckets.pairs():
            yield from _near(ordered, left, ordered, right, distance, table)


def pairs_between(
    queries: Words,
    hashes: Words,
    distance: int,
    *,
    query_labels: Words | None = None,
    labels: Words | None = None,
) -> Iterator[tuple[Rows, Rows]]:
    """(row of `queries`, row of `hashes`) of every pair within `distance`, once."""
    if distance < 0 or len(hashes) == 0 or len(queries) == 0:
        return
    for table in cheapest_tables(hashes, distance, labels=labels, num_queries=len(queries))[0]:
        buckets = Buckets(_keys(hashes, table, labels))
        ordered = _Side(hashes, labels, buckets.rows)
        asking = _Side(queries, query_labels, None)
        for left, right in buckets.lookup(_keys(queries, table, query_labels)):
            yield from _near(asking, left, ordered, right, distance, table)


def cheapest_tables(
    hashes: Words, distance: int, *, labels: Words | None = None, num_queries: int = 0
) -> tuple[tuple[Table, ...], float]:
    """The tables that find all pairs within `distance` at the least cost, and that cost in pairs looked at.

    Args:
        hashes: (N,).
        distance: Bits.
        labels: As for `pairs_within`.
        num_queries: Rows looked up; 0: pairs within the hashes.
    """
    if len(hashes) <= SMALL and num_queries <= SMALL:
        one = tables_of(distance, 0)
        return one, float(len(hashes) * max(len(hashes), num_queries))
    best: tuple[float, float, tuple[Table, ...]] | None = None
    for agreeing in range(1, BITS - distance):
        if comb(distance + agreeing, agreeing) > MOST_TABLES:
            break
        tables = tables_of(distance, agreeing)
        probes = tables[:: -(-len(tables) // PROBES)]
        found = sum(Buckets(_keys(hashes, table, labels)).num_pairs() for table in probes)
        pairs = found * len(tables) / len(probes)
        if num_queries:
            pairs *= 2 * num_queries / len(hashes)
        cost = len(tables) * (len(hashes) + num_queries) + PAIR_COST * pairs
        if best is None or cost < best[0]:
            best = (cost, pairs, tables)
        if pairs * PAIR_COST < len(tables) * (len(hashes) + num_queries):
            break  # more tables cost more than they can save
    assert best is not None, "one agreeing block is always possible"
    return best[2], best[1]


@cache
def tables_of(distance: int, agreeing: int) -> tuple[Table, ...]:
    """One table for each choice of `agreeing` of `distance + agreeing` blocks; 0: one bucket for all."""
    if agreeing == 0:
        return (Table(0, ()),)
    num_blocks = distance + agreeing
    # Block b has the bits b, b + blocks, …: low and high frequencies are spread over all of them.
    blocks = [sum(1 << bit for bit in range(start, BITS, num_blocks)) for start in range(num_blocks)]
    tables = []
    for choice in combinations(range(num_blocks), agreeing):
        skipped = tuple(blocks[each] for each in range(choice[-1]) if each not in choice)
        tables.append(Table(sum(blocks[each] for each in choice), skipped))
    return tuple(tables)


def _keys(hashes: Words, table: Table, labels: Words | None) -> Words:
    masked = hashes & np.uint64(table.chosen)
    return mix(masked) if labels is None else mix(masked ^ mix(labels))


class _Side:
    """Hashes in the order of a table's buckets."""

    def __init__(self, hashes: Words, labels: Words | None, rows: Rows | None) -> None:
        self.rows = rows
        self.hashes = hashes if rows is None else hashes[rows]
        self.labels = labels if rows is None or labels is None else labels[rows]

    def row(self, places: Rows) -> Rows:
        return places if self.rows is None else self.rows[places]


def _near(
    one: _Side, left: Rows, other: _Side, right: Rows, distance: int, table: Table
) -> Iterator[tuple[Rows, Rows]]:
    """Rows of the pairs that are near and that no earlier table has found."""
    different = one.hashes[left] ^ other.hashes[right]
    near = np.flatnonzero(np.bitwise_count(different) <= distance)
    different, left, right = different[near], left[near], right[near]
    new = different & np.uint64(table.chosen) == 0
    for block in table.skipped:
        new &= different & np.uint64(block) != 0
    if one.labels is not None and other.labels is not None:
        new &= one.labels[left] == other.labels[right]
    if new.any():
        yield one.row(left[new]), other.row(right[new])
