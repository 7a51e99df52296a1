"""Batches: packs → tensors, with what keeps every turn as if it stood alone.

A token attends to its own sample's trunk and to its own turn, causally; positions of a turn restart right
behind the trunk. Letters: B packs, L tokens of the longest pack, A position axes, R rows of the pixel store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from components.loader.encode import Encoded
from components.loader.features import Features
from components.loader.plan import Item, Pack
from components.vlm.families import Family, Grid, Inputs

IGNORED = -100
TRUNK = -1
PADDING = -1
MULTIPLE = 8
Isolation: TypeAlias = Literal["mask", "varlen"]
"""What keeps samples apart: an additive mask, or FlashAttention's sequence lengths."""


@dataclass(frozen=True)
class Batch:
    """Packs as tensors."""

    input_ids_BL: torch.Tensor
    position_ids_ABL: torch.Tensor
    labels_BL: torch.Tensor
    category_BL: torch.Tensor
    """Category of each token; -1 for padding."""
    attention: dict[str, Any]
    """`attention_mask` (B, 1, L, L), additive, or `cu_seq_lens_q` and its like; and what else the family
    gives for each token, (B, L)."""
    images: Inputs | None
    """The model's arguments for the pictures (without pixels where there are features); None without any."""
    features_RPD: torch.Tensor | None
    """What a frozen vision tower makes of the pictures: it does not run."""
    num_tokens: int
    """Tokens that are not padding."""
    num_samples: int
    num_rows: int
    """Rows of the pixel store that are shown; an image that no token learns from is none."""

    @property
    def padding(self) -> float:
        """Share of padding tokens."""
        return 1 - self.num_tokens / self.category_BL.numel()

    @property
    def labelled_categories_K(self) -> torch.Tensor:
        """Category of each token that has a loss, row by row."""
        return self.category_BL[:, 1:][self.labels_BL[:, 1:] != IGNORED]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        if device.type == "cpu":
            return self
        return Batch(**{name: _to(value, device) for name, value in vars(self).items()})

    def forward_inputs(self) -> dict[str, Any]:
        """Arguments of a model's own `forward`, for trainers that call it."""
        inputs = {
            "input_ids": self.input_ids_BL,
            "position_ids": self.position_ids_ABL[0]
            if len(self.position_ids_ABL) == 1
            else self.position_ids_ABL,
            "labels": self.labels_BL,
            **self.attention,
        }
        if self.features_RPD is not None:  # of the composed models, whose forward takes them
            return inputs | {"image_features": self.features_RPD}
        return inputs | (self.images or {})


def _to(value: Any, device: torch.device) -> Any:
    """Tensors, and tables of them, on the device; all else as it is."""
    if isinstance(value, dict):
        return {name: _to(each, device) for name, each in value.items()}
    return value.to(device) if torch.is_tensor(value) else value


class Collator:
    """Packs of `encoded` → Batch.

    Args:
        features: Features of the pictures, in whose stead they are given: a frozen tower never runs.
        always_image: Add an image that no token learns from where a batch has none: all processes then run
            the vision tower, or they would wait for each other's gradients for ever (DeepSpeed #7170).
    """

    def __init__(
        self,
        encoded: Encoded,
        family: Family,
        *,
        isolation: Isolation = "mask",
        features: Features | None = None,
        always_image: bool = False,
    ) -> None:
        self.encoded, self.family, self.isolation, self.features = encoded, family, isolation, features
        shown = np.flatnonzero(np.diff(encoded.image_S) > 0)
        self._spare = _spare(encoded, int(shown[0])) if always_image and len(shown) else None
        self._trunk_positions: dict[tuple[bool, int, tuple[Grid, ...]], npt.NDArray[np.int64]] = {}

    def __call__(self, packs: Sequence[Pack]) -> Batch:
        """Tensors of `packs`, padded at the end to the longest."""
        if self._spare and not any(item.image for pack in packs for item in pack):
            return self._with_spare(packs, self._spare)
        return self._collate(packs)

    def _with_spare(self, packs: Sequence[Pack], spare: Item) -> Batch:
        """With an image behind the shortest pack, whose labels are taken away."""
        shortest = min(range(len(packs)), key=lambda row: sum(item.num_tokens for item in packs[row]))
        longer = [(*pack, spare) if row == shortest else pack for row, pack in enumerate(packs)]
        batch = self._collate(longer)
        labels_BL, tokens = batch.labels_BL, spare.num_tokens
        end = sum(item.num_tokens for item in longer[shortest])
        row = 0 if self.isolation == "varlen" else shortest
        if self.isolation == "varlen":
            end += sum(item.num_tokens for pack in longer[:shortest] for item in pack)
        labels_BL[row, end - tokens : end] = IGNORED
        num_tokens, num_samples = batch.num_tokens - tokens, batch.num_samples - 1
        return replace(batch, num_tokens=num_tokens, num_samples=num_samples, num_rows=0)

    def _collate(self, packs: Sequence[Pack]) -> Batch:
        rows = [_Row(self.family.axes) for _ in packs]
        shown = 0
        for row, pack in zip(rows, packs, strict=True):
            for item in pack:
                self._add(row, item, shown)
                shown += self._num_rows(item)
        images, features = self._pictures(packs)
        joined = self._flat(rows) if self.isolation == "varlen" else self._padded(rows)
        num_samples = sum(len(pack) for pack in packs)
        return replace(joined, images=images, features_RPD=features, num_samples=num_samples, num_rows=shown)

    def _num_rows(self, item: Item) -> int:
        """Rows of the pixel store that an item shows."""
        first, last = self.encoded.image_S[item.sample], self.encoded.image_S[item.sample + 1]
        return int(self.encoded.row_I[last] - self.encoded.row_I[first]) if item.image else 0

    def _add(self, row: _Row, item: Item, shown: int) -> None:
        """Put an item's tokens into a row; `shown` rows of pixels stand before its own."""
        turns = self.encoded.turns(item.image)
        trunk, trunk_positions = turns.trunk(item.sample), self._positions_of_trunk(item)
        category = int(self.encoded.category_S[item.sample])
        row.begin(category)
        row.add(trunk, trunk_positions, np.zeros(len(trunk), np.bool_), TRUNK)
        after, whole = int(trunk_positions.max(initial=-1)) + 1, [trunk]
        for turn in range(item.first_turn, item.first_turn + item.num_turns):
            start, end = int(turns.start_T[turn]), int(turns.start_T[turn + 1])
            tokens = turns.tokens_N[start:end]
            # Pictures stand in the trunk, or behind an empty one in the turn.
            grids = self.encoded.grids(item.sample) if item.image and not len(trunk) else []
            row.add(tokens, after + self.family.positions(tokens, grids), turns.label_N[start:end], turn)
            whole.append(tokens)
        row.add_inputs(self.family.token_inputs(np.concatenate(whole), shown))

    def _positions_of_trunk(self, item: Item) -> npt.NDArray[np.int64]:
        turns = self.encoded.turns(item.image)
        trunk = turns.trunk(item.sample)
        grids = self.encoded.grids(item.sample) if item.image and len(trunk) else []
        # Pictures of another shape may have as many tokens, at other positions.
        key = (item.image, int(turns.trunk_S[item.sample]), tuple(grids))
        if key not in self._trunk_positions:
            self._trunk_positions[key] = self.family.positions(trunk, grids)
        return self._trunk_positions[key]

    def _pictures(self, packs: Sequence[Pack]) -> tuple[Inputs | None, torch.Tensor | None]:
        shown = [
            (image, item.shift)
            for pack in packs
            for item in pack
            if item.image
            for image in self.encoded.images_of(item.sample)
        ]
        if not shown:
            return None, None
        grids = [self.encoded.grid(image) for image, _ in shown]
        if self.features is not None:
            rows = [self.features(image) for image, _ in shown]
            none = torch.zeros((0, *self.family.row_shape), dtype=torch.uint8)
            return self.family.image_inputs(none, grids), torch.from_numpy(np.concatenate(rows)).float()
        pixels = [self.encoded.images(image) for image, _ in shown]
        for place, (_, shift) in enumerate(shown):
            if shift != (0, 0):
                pixels[place] = self.family.moved(pixels[place], grids[place], *shift)
        return self.family.image_inputs(torch.from_numpy(np.concatenate(pixels)), grids), None

    def _padded(self, rows: Sequence[_Row]) -> Batch:
        length = -(-max(row.length for row in rows) // MULTIPLE) * MULTIPLE
        shape = (len(rows), length)
        ids_BL, labels_BL = np.full(shape, self.family.pad), np.full(shape, IGNORED)
        positions_ABL = np.zeros((self.family.axes, *shape), np.int64)
        category_BL = np.full(shape, PADDING)
        # Padding tokens see only themselves: each is a segment of its own.
        segment_BL = np.tile(-1 - np.arange(length), (len(rows), 1))
        turn_BL = np.full(shape, TRUNK)
        for place, row in enumerate(rows):
            until = row.length
            ids_BL[place, :until], labels_BL[place, :until] = row.ids, row.labels
            positions_ABL[:, place, :until] = row.positions
            category_BL[place, :until], segment_BL[place, :until] = row.categories, row.segments
            turn_BL[place, :until] = row.turns
        mask = block_mask(torch.from_numpy(segment_BL), torch.from_numpy(turn_BL))
        attention = {"attention_mask": mask} | self._token_inputs(rows, length)
        return self._batch(ids_BL, positions_ABL, labels_BL, category_BL, attention, rows)

    def _token_inputs(self, rows: Sequence[_Row], length: int) -> dict[str, torch.Tensor]:
        """What the family gives for each token, padding included: (B, L) each."""
        padded = dict[str, list[npt.NDArray[np.int64]]]()
        for row in rows:
            padding = np.full(length - row.length, self.family.pad, dtype=np.int32)
            row.add_inputs(self.family.token_inputs(padding, 0))
            for name, pieces in row.inputs.items():
                padded.setdefault(name, []).append(np.concatenate(pieces))
        return {name: torch.from_numpy(np.stack(values)) for name, values in padded.items()}

    def _flat(self, rows: Sequence[_Row]) -> Batch:
        """All packs as one row without padding, for attention that knows where each sequence begins."""
        lengths = np.array([length for row in rows for length in row.segment_lengths], dtype=np.int32)
        ends = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        longest = int(lengths.max())
        attention: dict[str, Any] = {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": longest,
            "max_length_k": longest,
        }
        for name in rows[0].inputs:
            values = [piece for row in rows for piece in row.inputs[name]]
            attention[name] = torch.from_numpy(np.concatenate(values))[None]
        return self._batch(
            np.concatenate([row.ids for row in rows])[None],
            np.concatenate([row.positions for row in rows], axis=1)[:, None],
            np.concatenate([row.labels for row in rows])[None],
            np.concatenate([row.categories for row in rows])[None],
            attention,
            rows,
        )

    def _batch(
        self,
        ids_BL: npt.NDArray[Any],
        positions_ABL: npt.NDArray[Any],
        labels_BL: npt.NDArray[Any],
        category_BL: npt.NDArray[Any],
        attention: dict[str, Any],
        rows: Sequence[_Row],
    ) -> Batch:
        return Batch(
            torch.from_numpy(ids_BL.astype(np.int64)),
            torch.from_numpy(positions_ABL),
            torch.from_numpy(labels_BL.astype(np.int64)),
            torch.from_numpy(category_BL.astype(np.int64)),
            attention,
            images=None,
            features_RPD=None,
            num_tokens=sum(row.length for row in rows),
            num_samples=0,
            num_rows=0,
        )


def _spare(encoded: Encoded, sample: int) -> Item:
    """A sample's first turn with its pictures."""
    turns, turn = encoded.with_image, int(encoded.turn_S[sample])
    tokens = len(turns.trunk(sample)) + int(turns.start_T[turn + 1] - turns.start_T[turn])
    return Item(sample, turn, 1, image=True, num_tokens=tokens)


class _Row:
    """One pack, piece by piece."""

    def __init__(self, axes: int) -> None:
        self._ids: list[npt.NDArray[np.int32]] = []
        self._positions: list[npt.NDArray[np.int64]] = [np.zeros((axes, 0), np.int64)]
        self._labels: list[npt.NDArray[np.int64]] = []
        self._marks: list[tuple[int, int, int, int]] = []
        """Tokens, segment, turn, category of each piece."""
        self._segment, self._category = -1, PADDING
        self.inputs: dict[str, list[npt.NDArray[np.int64]]] = {}
        self.length = 0

    def begin(self, category: int) -> None:
        """What is added next belongs to another sample."""
        self._segment, self._category = self._segment + 1, category

    def add(
        self,
        ids_N: npt.NDArray[np.int32],
        positions_AN: npt.NDArray[np.int64],
        label_N: npt.NDArray[np.bool_],
        turn: int,
    ) -> None:
        self._ids.append(ids_N)
        self._positions.append(positions_AN)
        self._labels.append(np.where(label_N, ids_N, IGNORED))
        self._marks.append((len(ids_N), self._segment, turn, self._category))
        self.length += len(ids_N)

    def add_inputs(self, inputs: dict[str, npt.NDArray[np.int64]]) -> None:
        """What the family gives for each token of the item that was added."""
        for name, values in inputs.items():
            self.inputs.setdefault(name, []).append(values)

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        return np.concatenate(self._ids)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        return np.concatenate(self._positions, axis=1)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return np.concatenate(self._labels)

    @property
    def segments(self) -> npt.NDArray[np.int64]:
        return self._repeated(1)

    @property
    def turns(self) -> npt.NDArray[np.int64]:
        return self._repeated(2)

    @property
    def categories(self) -> npt.NDArray[np.int64]:
        return self._repeated(3)

    @property
    def segment_lengths(self) -> list[int]:
        """Tokens of each sample; each must have one turn."""
        lengths, turns = [0] * (self._segment + 1), [0] * (self._segment + 1)
        for tokens, segment, turn, _ in self._marks:
            lengths[segment] += tokens
            turns[segment] += turn != TRUNK
        assert max(turns) <= 1, "isolation by lengths wants one turn an item: plan with one_turn"
        return lengths

    def _repeated(self, field: int) -> npt.NDArray[np.int64]:
        values = np.array([mark[field] for mark in self._marks], dtype=np.int64)
        return np.repeat(values, [mark[0] for mark in self._marks])


def block_mask(segment_BL: torch.Tensor, turn_BL: torch.Tensor) -> torch.Tensor:
    """Additive mask (B, 1, L, L): causal, own sample only, and there only the trunk and the own turn."""
    length = segment_BL.shape[1]
    same = segment_BL[:, :, None] == segment_BL[:, None, :]
    seen = (turn_BL[:, None, :] == TRUNK) | (turn_BL[:, :, None] == turn_BL[:, None, :])
    allowed = same & seen & torch.ones(length, length, dtype=torch.bool).tril()
    lowest = torch.finfo(torch.float32).min
    return torch.where(allowed, 0.0, lowest)[:, None]
