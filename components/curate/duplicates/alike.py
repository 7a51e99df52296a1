"""Which samples are one sample: the rules of `NearDuplicateConfig`, over columns.

1. Two pictures with the same text whose hashes differ in at most `same_text_distance` bits; within a split
   only where categories are told apart by their text: elsewhere a pink and a blue balloon are two samples.
2. Two pictures whose hashes differ in at most `image_distance` bits and whose thumbnails are the same
   picture, or whose texts are nearly the same; not where a category is told apart by its text only.
3. Two texts without pictures that are nearly the same.

Held-out samples are also found when the very same pixels come with another text, and when the picture was
mirrored or cropped. Within a split the same pixels with another text are two samples: one picture, asked
about twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from components.config.duplicates import NearDuplicateConfig
from components.curate.duplicates.banding import pairs_between, pairs_within
from components.curate.duplicates.buckets import Rows, Words
from components.curate.duplicates.minhash import band_keys, minhash, propose_between, propose_within
from components.curate.duplicates.perceptual import View, gray_of, hash_views, views
from components.curate.duplicates.shingles import ShingleSets, jaccard, shingle
from components.curate.duplicates.signatures import Signatures
from components.curate.duplicates.verification import Flags, same_pictures
from components.errors import ConfigError

MOST_PAIRS = 2_000_000
"""Near pairs that are listed at once; where there are more, rows are alike in bulk and are halved instead."""
MOST_COMPARED = 100_000_000
"""Pairs of thumbnails (an hour's work) after which pictures are too much alike for their hashes to help."""
Pairs: TypeAlias = Iterator[tuple[Rows, Rows]]
NOTHING = np.zeros(0, np.int64)


class Alike:
    """The relation between the rows of one table of signatures."""

    def __init__(self, signatures: Signatures, config: NearDuplicateConfig, *, held_out: bool) -> None:
        """
        Args:
            signatures: All samples that are compared.
            config: The rules.
            held_out: One side of every pair is held out: also mirrored, cropped, and with another text.
        """
        self.signatures, self.config, self.held_out = signatures, config, held_out
        self.num_compared = 0
        """Pairs of pictures whose thumbnails were looked at."""
        self.views = views(crop=config.crop, mirrored=config.mirrored) if held_out else (View(),)

    def within(self, rows: Rows) -> tuple[Rows, Rows] | None:
        """See `clusters.Relation`. Of equal samples of one category only the first is expected in `rows`."""
        listed = _Listing()
        try:
            for rule in (
                self._equal_within,
                self._same_text_within,
                self._pictures_within,
                self._texts_within,
            ):
                for left, right in rule(rows):
                    listed.add(np.minimum(left, right), np.maximum(left, right))
        except _TooMany:
            return None
        return _unique(listed.pairs, len(rows))

    def between(self, rows: Rows, others: Rows) -> tuple[Rows, Rows]:
        """See `clusters.Relation`."""
        rules = (self._equal_between, self._same_text_between, self._pictures_between, self._texts_between)
        found = [pair for rule in rules for pair in rule(rows, others)]
        if not found:
            return NOTHING, NOTHING
        return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])

    # Equal samples

    def _equal_within(self, rows: Rows) -> Pairs:
        """The same sample in a category that its text tells apart and in one where it does not."""
        order, starts = _groups(self.signatures.identity[rows])
        again = np.setdiff1d(np.arange(len(rows)), starts)
        yield order[again - 1], order[again]

    def _equal_between(self, rows: Rows, others: Rows) -> Pairs:
        """The same sample; if one is held out the same pixels whatever the text."""
        digests = self.signatures.identity
        if self.held_out:
            digests = np.where(self.signatures.has_picture, self.signatures.pixels, digests)
        known, first = np.unique(digests[others], return_index=True)
        if len(known):
            place = np.minimum(np.searchsorted(known, digests[rows]), len(known) - 1)
            equal = np.flatnonzero(known[place] == digests[rows])
            yield equal, first[place[equal]]

    # Rule 1

    def _same_text_within(self, rows: Rows) -> Pairs:
        places = self._told_by_text(rows)
        texts = self.signatures.text[rows[places]]
        order, starts = _groups(texts)
        sizes = np.diff(np.append(starts, len(texts)))
        places = np.sort(places[order[np.repeat(sizes > 1, sizes)]])
        hashes, labels = self._hashes(rows[places]), self.signatures.text[rows[places]]
        for left, right in pairs_within(hashes, self.config.same_text_distance, labels=labels):
            yield places[left], places[right]

    def _told_by_text(self, rows: Rows) -> Rows:
        """Places of the samples that a near picture and an equal text make one."""
        told = self.signatures.same_text_only[rows] | self.held_out
        return np.flatnonzero(self.signatures.has_picture[rows] & told)

    def _same_text_between(self, rows: Rows, others: Rows) -> Pairs:
        one, other = self._told_by_text(rows), self._told_by_text(others)
        one = one[np.isin(self.signatures.text[rows[one]], self.signatures.text[others[other]])]
        other = other[np.isin(self.signatures.text[others[other]], self.signatures.text[rows[one]])]
        labels = self.signatures.text[others[other]]
        hashes = self._hashes(others[other])
        first = _first_of_each(hashes, labels)
        for left, right in pairs_between(
            self._hashes(rows[one]),
            hashes[first],
            self.config.same_text_distance,
            query_labels=self.signatures.text[rows[one]],
            labels=labels[first],
        ):
            yield one[left], other[first[right]]

    # Rule 2

    def _pictures_within(self, rows: Rows) -> Pairs:
        """Distinct pictures are compared, then stand for all samples that show them."""
        places = self._comparable(rows)
        order, starts = _groups(self.signatures.pixels[rows[places]])
        grouped = places[order]
        pictures = grouped[starts]
        sizes = np.diff(np.append(starts, len(order)))
        near = _Listing()
        for left, right in pairs_within(self._hashes(rows[pictures]), self.config.image_distance):
            near.add(left, right)
        for left, right in near.pairs:
            same = self._same(rows[pictures[left]], rows[pictures[right]], self.views[0])
            yield from _all_of_both(grouped, starts, sizes, left[same], right[same])

    def _pictures_between(self, rows: Rows, others: Rows) -> Pairs:
        yield from self._seen_between(rows, others)
        if len(self.views) > 1:
            for right, left in self._seen_between(others, rows, first_view=1):
                yield left, right

    def _seen_between(self, rows: Rows, others: Rows, *, first_view: int = 0) -> Pairs:
        """Views of the pictures of `rows` against the whole pictures of `others`."""
        one, other = self._comparable(rows), self._comparable(others)
        order, starts = _groups(self.signatures.pixels[rows[one]])
        grouped, pictures = one[order], one[order][starts]
        sizes = np.diff(np.append(starts, len(order)))
        other_order, other_starts = _groups(self.signatures.pixels[others[other]])
        other_pictures = other[other_order][other_starts]
        if len(pictures) == 0 or len(other_pictures) == 0:
            return
        wanted = self.views[first_view:]
        queries = hash_views(gray_of(self.signatures.thumbs[rows[pictures]]), wanted).reshape(-1)
        for query, right in pairs_between(
            queries, self._hashes(others[other_pictures]), self.config.image_distance
        ):
            view_of, left = query // len(pictures), query % len(pictures)
            for number in np.unique(view_of):
                chosen = view_of == number
                one_rows, other_rows = rows[pictures[left[chosen]]], others[other_pictures[right[chosen]]]
                same = self._same(one_rows, other_rows, wanted[number])
                shown, place = _members(starts, sizes, left[chosen][same])
                yield grouped[place], other_pictures[right[chosen][same][shown]]

    def _comparable(self, rows: Rows) -> Rows:
        """Places of the samples whose pictures alone can make them one."""
        signatures = self.signatures
        return np.flatnonzero(signatures.has_picture[rows] & ~signatures.same_text_only[rows])

    def _same(self, left: Rows, right: Rows, view: View) -> Flags:
        """Whether the pictures (or else the texts) of rows with near hashes make them one sample."""
        signatures, config = self.signatures, self.config
        self.num_compared += len(left)
        if self.num_compared > MOST_COMPARED:
            raise ConfigError(
                f"{self.num_compared:,} pairs of pictures have near hashes: they are drawn alike",
                where="curate.duplicates",
                fix="name their categories in same_text_only, or lower image_distance",
            )
        different = signatures.pixels[left] != signatures.pixels[right]
        same = np.zeros(len(left), bool)
        pairs = np.stack([left, right], axis=1)
        orders = (pairs, pairs[:, ::-1]) if view.side == 1 else (pairs,)
        for each in orders:  # a crop has one order; otherwise either may be fitted to the other
            open_ = np.flatnonzero(different & ~same)
            same[open_] = same_pictures(signatures.thumbs, each[open_], view, signatures.photographs, config)
        if config.text_threshold:
            open_ = np.flatnonzero(different & ~same)
            alike = jaccard(self._shingles, left[open_], right[open_]) >= config.text_threshold
            same[open_] = alike
        return same

    # Rule 3

    def _texts_within(self, rows: Rows) -> Pairs:
        if self.config.text_threshold:
            places = np.flatnonzero(~self.signatures.has_picture[rows])
            for left, right in propose_within(self._text_keys(rows[places])):
                yield from self._similar(rows, places[left], rows, places[right])

    def _texts_between(self, rows: Rows, others: Rows) -> Pairs:
        if self.config.text_threshold:
            one = np.flatnonzero(~self.signatures.has_picture[rows])
            other = np.flatnonzero(~self.signatures.has_picture[others])
            proposed = propose_between(self._text_keys(rows[one]), self._text_keys(others[other]))
            for left, right in proposed:
                yield from self._similar(rows, one[left], others, other[right])

    def _similar(self, rows: Rows, left: Rows, others: Rows, right: Rows) -> Pairs:
        alike = jaccard(self._shingles, rows[left], others[right]) >= self.config.text_threshold
        yield left[alike], right[alike]

    # What is computed once

    def _hashes(self, rows: Rows) -> Words:
        return self.signatures.hashes[rows]

    @cached_property
    def _shingles(self) -> ShingleSets:
        return shingle(self.signatures.texts, words=self.config.shingle_words)

    @cached_property
    def _text_rows(self) -> tuple[Rows, Words]:
        """The place of each row among those without a picture, and those rows' band keys."""
        alone = ~self.signatures.has_picture
        texts = self.signatures.texts.filter(pa.array(alone))
        sets = shingle(texts, words=self.config.shingle_words)
        keys = band_keys(minhash(sets), self.config.text_threshold)
        # An empty text is like nothing: every one gets a bucket of its own.
        empty = np.flatnonzero(sets.sizes == 0)
        keys[:, empty] = empty.astype(np.uint64) + (
            np.arange(len(keys), dtype=np.uint64)[:, None] << np.uint64(40)
        )
        return np.cumsum(alone) - 1, keys

    def _text_keys(self, rows: Rows) -> Words:
        place, keys = self._text_rows
        return keys[:, place[rows]]


class _TooMany(Exception):
    """More pairs than can be listed at once."""


class _Listing:
    """Pairs that are collected, up to a limit."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Rows, Rows]] = []
        self.total = 0

    def add(self, left: Rows, right: Rows) -> None:
        self.total += len(left)
        if self.total > MOST_PAIRS:
            raise _TooMany
        self.pairs.append((left, right))


def _groups(values: Words) -> tuple[Rows, Rows]:
    """An order in which equal values stand together (in their given order), and where each group starts."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(values)])
    return order, starts


def _first_of_each(hashes: Words, labels: Words) -> Rows:
    """The first place of every distinct (hash, label)."""
    order = np.lexsort((labels, hashes))
    new = (hashes[order][1:] != hashes[order][:-1]) | (labels[order][1:] != labels[order][:-1])
    return np.sort(order[np.concatenate([[True], new])[: len(order)]])


def _members(starts: Rows, sizes: Rows, groups: Rows) -> tuple[Rows, Rows]:
    """Every member of each of `groups`: the place in `groups`, and the place in the grouped order."""
    which = np.repeat(np.arange(len(groups)), sizes[groups])
    before = np.cumsum(sizes[groups]) - sizes[groups]
    return which, starts[groups][which] + np.arange(len(which)) - before[which]


def _all_of_both(grouped: Rows, starts: Rows, sizes: Rows, left: Rows, right: Rows) -> Pairs:
    """Every member of one group with every member of the other, for each pair of groups."""
    which, one = _members(starts, sizes, left)
    again, other = _members(starts, sizes, right[which])
    yield grouped[one[again]], grouped[other]


def _unique(pairs: list[tuple[Rows, Rows]], num: int) -> tuple[Rows, Rows]:
    if not pairs:
        return NOTHING, NOTHING
    packed = np.concatenate([left * num + right for left, right in pairs])
    packed.sort()
    packed = packed[np.concatenate([[True], packed[1:] != packed[:-1]])[: len(packed)]]
    return packed // num, packed % num
