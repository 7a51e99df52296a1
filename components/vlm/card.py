"""A model at a glance, for the report: its parts, what of them is trained, and what an image costs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from transformers import PreTrainedModel

from components.vlm.families import Family

CACHE_BYTES: Final = 2
"""Of a number in the key-value cache: bfloat16."""
GATED: Final = "gated_cross_attention"


@dataclass(frozen=True)
class PartCard:
    """One part of a model."""

    name: str
    parameters: int
    trained: int
    """Of those, how many some phase trains."""


@dataclass(frozen=True)
class ModelCard:
    """What a model is and what its images cost."""

    parts: tuple[PartCard, ...]
    picture: tuple[int, int]
    """Width and height in pixels that the numbers below are for."""
    image_tokens: int
    """Tokens that a picture takes in the sequence, delimiters included."""
    latents: int
    """Vectors that it is read from outside of the sequence; 0 where it stands in it."""
    cache_bytes_per_token: int
    """Of the key-value cache, in bfloat16."""
    cache_bytes_per_image: int
    """What a picture keeps while an answer is written: its tokens' cache, and its latents."""

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def trained_share(self) -> float:
        return sum(part.trained for part in self.parts) / max(self.parameters, 1)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value, as the report shows them."""
        width, height = self.picture
        named = [
            (f"parameters, {part.name}", f"{part.parameters:,}" + ("" if part.trained else " (frozen)"))
            for part in self.parts
        ]
        latents = [("latents per image", f"{self.latents:,}")] if self.latents else []
        return [
            *named,
            ("parameters", f"{self.parameters:,}"),
            ("trained share", f"{self.trained_share:.1%}"),
            (f"image tokens per image ({width} × {height})", f"{self.image_tokens:,}"),
            *latents,
            ("key-value cache per token", f"{self.cache_bytes_per_token:,} bytes"),
            ("kept per image", f"{self.cache_bytes_per_image:,} bytes"),
        ]


def model_card(
    model: PreTrainedModel,
    family: Family,
    trained: Collection[str],
    *,
    picture: tuple[int, int] = (512, 512),
) -> ModelCard:
    """
    Args:
        trained: Names of the parts (`vision`, `connector`, `language`) that some phase trains.
        picture: Width and height of a picture, in pixels.
    """
    text = model.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * heads * head * CACHE_BYTES
    shown = family.text(family.grid(*picture))
    tokens = len(family.tokenizer(shown, add_special_tokens=False)["input_ids"])
    latents = model.config.latents if getattr(model.config, "architecture", "") == GATED else 0
    return ModelCard(
        parts=_parts(model, family, trained),
        picture=picture,
        image_tokens=tokens,
        latents=latents,
        cache_bytes_per_token=per_token,
        cache_bytes_per_image=tokens * per_token + latents * text.hidden_size * CACHE_BYTES,
    )


def _parts(model: PreTrainedModel, family: Family, trained: Collection[str]) -> tuple[PartCard, ...]:
    """Parts with their own parameters; what two of them share (a tied head) counts once."""
    seen, cards = set[int](), []
    for name, modules in family.parts(model).items():
        own = {id(each): each.numel() for module in modules for each in module.parameters()}
        size = sum(count for key, count in own.items() if key not in seen)
        seen |= own.keys()
        cards.append(PartCard(name, size, size if name in trained else 0))
    return tuple(cards)
