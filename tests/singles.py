"""Samples alone and packed, for tests of what keeps samples apart.

A single is what a loader knows of a sample: its tokens, their positions, and the rows and grids of its
pictures. A pack is singles one after another; nothing is computed again.

Letters: N tokens of a sample, A position axes, R rows of the pixel store, B packs, L tokens of a pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from components.vlm.families import Family, Grid, Inputs
from components.vlm.varlen import register_varlen

Sizes = tuple[tuple[int, int], ...]
IGNORED = -100


@dataclass(frozen=True)
class Single:
    """A sample, and what its own processor makes of it."""

    ids_N: torch.Tensor
    positions_AN: torch.Tensor
    pixels_RCHW: torch.Tensor
    grids: tuple[Grid, ...]
    own: Inputs


@dataclass(frozen=True)
class TinyPack:
    """Singles as one batch."""

    ids_BL: torch.Tensor
    positions_ABL: torch.Tensor
    targets_BL: torch.Tensor
    """The token that follows in the same sample; -100 at its end, before image tokens and in padding."""
    images: Inputs | None
    attention: dict[str, Any]
    implementation: str = "sdpa"
    """Of attention, in transformers' words."""
    features_RPD: torch.Tensor | None = None


def noise(width: int, height: int) -> Image.Image:
    """A picture in which every pixel differs; the same for a size."""
    random = np.random.default_rng([width, height])
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def chat_about(sizes: Sizes) -> list[dict[str, Any]]:
    """Two turns; pictures stand between words."""
    asked: list[dict[str, str]] = [{"type": "text", "text": "look "}] if len(sizes) > 1 else []
    for _ in sizes:
        asked += [{"type": "image"}, {"type": "text", "text": "and?"}]
    return [
        {"role": "user", "content": asked or [{"type": "text", "text": "say it"}]},
        {"role": "assistant", "content": [{"type": "text", "text": f"a noise of {sizes}"}]},
        {"role": "user", "content": [{"type": "text", "text": "once more"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
    ]


def make_single(family: Family, sizes: Sizes) -> Single:
    """A sample with pictures of these sizes."""
    chat, pictures = family.chat(chat_about(sizes)), [noise(*size) for size in sizes]
    grids = tuple(family.grid(*size) for size in sizes)
    before, *pieces = chat.split(family.marker)
    text = before + "".join(family.text(grid) + piece for grid, piece in zip(grids, pieces, strict=True))
    ids_N = np.array(family.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)
    none = np.zeros((0, *family.row_shape), dtype=np.uint8)
    rows = [family.pixels(picture, grid) for picture, grid in zip(pictures, grids, strict=True)]
    shown = {"images": pictures} if pictures else {}
    return Single(
        ids_N=torch.from_numpy(ids_N).long(),
        positions_AN=torch.from_numpy(family.positions(ids_N, grids)),
        pixels_RCHW=torch.from_numpy(np.concatenate([none, *rows])),
        grids=grids,
        own=dict(family.processor(text=chat, return_tensors="pt", **shown)),
    )


def pack_masked(family: Family, packs: Sequence[Sequence[Single]]) -> TinyPack:
    """Packs as rows, padded at the end, each token behind its own sample's only."""
    length = max(sum(len(single.ids_N) for single in pack) for pack in packs)
    ids_BL = torch.full((len(packs), length), family.pad)
    positions_ABL = torch.zeros((family.axes, len(packs), length), dtype=torch.long)
    targets_BL = torch.full((len(packs), length), IGNORED)
    # Padding tokens see only themselves: each is a sample of its own.
    sample_BL = -1 - torch.arange(length).repeat(len(packs), 1)
    for row, pack in enumerate(packs):
        joined = _joined(family, pack)
        until = joined.ids_BL.shape[1]
        ids_BL[row, :until], targets_BL[row, :until] = joined.ids_BL[0], joined.targets_BL[0]
        positions_ABL[:, row, :until] = joined.positions_ABL[:, 0]
        sample_BL[row, :until] = torch.arange(len(pack)).repeat_interleave(_lengths(pack))
    same_BLL = sample_BL[:, :, None] == sample_BL[:, None, :]
    images = _images(family, [single for pack in packs for single in pack])
    return TinyPack(ids_BL, positions_ABL, targets_BL, images, {"attention_mask": additive(same_BLL.tril())})


def pack_varlen(family: Family, singles: Sequence[Single]) -> TinyPack:
    """Singles as one row, told apart by their lengths as FlashAttention wants them."""
    ends = torch.tensor([0, *_lengths(singles)]).cumsum(0).int()
    longest = int(_lengths(singles).max())
    attention: dict[str, Any] = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
    attention |= {"max_length_q": longest, "max_length_k": longest}
    images = _images(family, singles)
    return replace(
        _joined(family, singles), images=images, attention=attention, implementation=register_varlen()
    )


def additive(seen_BLL: torch.Tensor) -> torch.Tensor:
    """(B, 1, L, L): 0 where a token is seen, the lowest number elsewhere."""
    mask = torch.zeros(seen_BLL.shape).masked_fill(~seen_BLL, torch.finfo(torch.float32).min)
    return mask[:, None]


def alone(family: Family, model: PreTrainedModel, singles: Sequence[Single]) -> torch.Tensor:
    """Losses of all tokens, each sample through the model's own forward on its own processor's inputs."""
    model.set_attn_implementation("sdpa")
    losses = list[torch.Tensor]()
    for single in singles:
        assert torch.equal(single.own["input_ids"][0], single.ids_N), "text differs from the processor's"
        logits_NV = model(**single.own, use_cache=False).logits[0]
        losses.append(_losses(logits_NV, _targets(family, single)))
    return torch.cat(losses)


def packed(family: Family, model: PreTrainedModel, pack: TinyPack) -> torch.Tensor:
    """Losses of all tokens of a pack, in the order of its singles."""
    model.set_attn_implementation(pack.implementation)
    hidden_BLD = family.hidden(
        model,
        pack.ids_BL,
        pack.positions_ABL,
        images=pack.images,
        features_RPD=pack.features_RPD,
        **pack.attention,
    )
    return _losses(model.lm_head(hidden_BLD).flatten(0, 1), pack.targets_BL.flatten())


def gradients(model: PreTrainedModel, losses_N: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of the sum, by parameter; what the losses do not reach has zeros."""
    model.zero_grad(set_to_none=True)
    losses_N.sum().backward()
    taken = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return taken


@dataclass(frozen=True)
class Reference:
    """What samples have when each is alone."""

    losses_N: torch.Tensor
    gradients: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Difference:
    """How far a pack is from its samples alone."""

    loss: float
    """The largest of any token."""
    gradient: float
    """The largest of any parameter, relative to the largest gradient."""


def reference(family: Family, model: PreTrainedModel, singles: Sequence[Single]) -> Reference:
    """Losses and gradients through the model's own forward."""
    losses_N = alone(family, model, singles)
    return Reference(losses_N.detach(), gradients(model, losses_N))


def difference(family: Family, model: PreTrainedModel, pack: TinyPack, expected: Reference) -> Difference:
    """What packing changes; nothing but rounding, if it is right."""
    losses_N = packed(family, model, pack)
    assert losses_N.shape == expected.losses_N.shape
    found = gradients(model, losses_N)
    scale = max(float(gradient.abs().max()) for gradient in expected.gradients.values())
    worst = max(float((found[name] - each).abs().max()) for name, each in expected.gradients.items())
    return Difference(float((losses_N.detach() - expected.losses_N).abs().max()), worst / scale)


def _joined(family: Family, singles: Sequence[Single]) -> TinyPack:
    return TinyPack(
        ids_BL=torch.cat([single.ids_N for single in singles])[None],
        positions_ABL=torch.cat([single.positions_AN for single in singles], dim=1)[:, None],
        targets_BL=torch.cat([_targets(family, single) for single in singles])[None],
        images=None,
        attention={},
    )


def _images(family: Family, singles: Sequence[Single]) -> Inputs | None:
    grids = [grid for single in singles for grid in single.grids]
    rows_RCHW = torch.cat([single.pixels_RCHW for single in singles])
    return family.image_inputs(rows_RCHW, grids) if grids else None


def _targets(family: Family, single: Single) -> torch.Tensor:
    image_id = family.tokenizer.convert_tokens_to_ids(family.marker)
    targets_N = torch.cat([single.ids_N[1:], torch.tensor([IGNORED])])
    return targets_N.masked_fill(targets_N == image_id, IGNORED)


def _losses(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    learned_N = targets_N != IGNORED
    return cross_entropy(logits_NV[learned_N], targets_N[learned_N], reduction="none")


def _lengths(singles: Sequence[Single]) -> torch.Tensor:
    return torch.tensor([len(single.ids_N) for single in singles])
