"""The gate before every training, on the engine's own batches, for every family: passing, and failing."""

from __future__ import annotations

import dataclasses
import io
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families import FAMILIES, tiny_family
from transformers import PreTrainedModel

from components.engine.precision import attention
from components.loader import SLOT, Collator, Encoded, Packing, Sample, Turn, batches, encode
from components.pretrain.checks import packing_equivalence
from components.vlm.families import Family
from components.vlm.varlen import register_varlen

HOW = Packing(pack_tokens=4096, pack_images=4096, packs_per_step=1)


@lru_cache(maxsize=1)
def _made(name: str) -> tuple[Family, PreTrainedModel, Encoded]:
    family, model = tiny_family(name)
    return family, model, encode(_samples(), family)


def _picture(width: int, height: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    return png.getvalue()


def _samples() -> list[Sample]:
    """Two turns about a picture, wide and tall ones of as many tokens, a chat between pictures, and text."""

    def sample(key: str, pictures: list[bytes], turns: list[tuple[str, str]], chat: bool = False) -> Sample:
        asked = tuple(Turn(question, answer) for question, answer in turns)
        return Sample(key, "category", "", "train", tuple(pictures), asked, chat=chat)

    return [
        sample("turns", [_picture(64, 64, 0)], [("Is it red?", "no"), ("How many are there?", "three")]),
        sample("wide", [_picture(96, 48, 1)], [("What?", "a cat")]),
        sample("tall", [_picture(48, 96, 2)], [("What?", "a dog")]),
        sample("pair", [_picture(64, 32, 3), _picture(40, 64, 4)], [("Are they alike?", "yes")]),
        sample(
            "chat",
            [_picture(64, 64, 5), _picture(32, 64, 6)],
            [(f"Here {SLOT} is one.", "I see."), (f"And {SLOT}?", "Another one."), ("Thanks.", "Bye.")],
            chat=True,
        ),
        sample("slots", [_picture(64, 64, 7)], [(f"Is {SLOT} red?", "no"), (f"Of what is {SLOT}?", "noise")]),
        sample("text", [], [("Two and two?", "four"), ("And one?", "five")]),
    ]


@pytest.mark.parametrize("isolation", ["mask", "varlen"])
@pytest.mark.parametrize("name", FAMILIES)
def test_packing_equivalence_holds_for_every_family_and_isolation(name: str, isolation: Any) -> None:
    family, model, encoded = _made(name)
    how = dataclasses.replace(HOW, one_turn=isolation == "varlen")
    collate = Collator(encoded, family, isolation=isolation)
    with attention(model, register_varlen() if isolation == "varlen" else "sdpa"):
        result = packing_equivalence(model, collate, range(len(encoded)), how)
    assert result.passed, result.observed
    assert result.evidence["samples"] == (10 if isolation == "varlen" else 8)


@pytest.mark.parametrize("name", FAMILIES)
def test_packing_equivalence_holds_for_text_alone(name: str) -> None:
    family, model, _ = _made(name)
    encoded = encode([each for each in _samples() if not each.images] * 3, family)
    result = packing_equivalence(model, Collator(encoded, family), range(3), HOW)
    assert result.passed, result.observed


@pytest.mark.parametrize("name", FAMILIES)
def test_packing_equivalence_fails_without_isolation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, model, encoded = _made(name)
    right = batches.block_mask

    def leaking(segment_BL: torch.Tensor, turn_BL: torch.Tensor) -> torch.Tensor:
        return right(torch.zeros_like(segment_BL), torch.full_like(turn_BL, batches.TRUNK))

    monkeypatch.setattr(batches, "block_mask", leaking)
    result = packing_equivalence(model, Collator(encoded, family), range(len(encoded)), HOW)
    assert not result.passed
    assert float(result.evidence["gradient_error"] or 0) > 0.01


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("qwen")])
def test_packing_equivalence_fails_with_the_positions_of_text(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images have two-dimensional positions there: a ramp, even one that restarts, is another model."""
    family, model, encoded = _made(name)

    def ramp(self: Family, ids_N: np.ndarray[Any, Any], grids: object) -> np.ndarray[Any, Any]:
        return np.tile(np.arange(len(ids_N)), (self.axes, 1))

    monkeypatch.setattr(type(family), "positions", ramp)
    result = packing_equivalence(model, Collator(encoded, family), range(len(encoded)), HOW)
    assert not result.passed
