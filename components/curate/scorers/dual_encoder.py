"""Alignment by a pretrained CLIP or SigLIP: the cosine of the picture's and the text's embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.curate.scorers.pairs import Pairs
from components.curate.scorers.runtime import quiet_loading, torch_threads
from components.errors import ConfigError

BATCH = 32


@dataclass(frozen=True)
class Encoders:
    model: Any
    tokenizer: Any
    image_processor: Any
    max_tokens: int
    padding: bool | str
    """SigLIP was trained with its texts padded to the full length, and without a mask."""


@dataclass(frozen=True)
class DualEncoder:
    """A directory, or a hub's ORG/NAME@REVISION, whose model embeds pictures and texts into one space."""

    model: str
    threads: int
    device: str = "cpu"

    def score(self, pairs: Pairs) -> list[float]:
        """Cosine of each pair.

        Raises:
            ConfigError: there is no such model, or it is no dual encoder.
        """
        encoders = _load(self.model, self.device)
        scores: list[float] = []
        with torch_threads(self.threads):
            for rows in _batches(len(pairs.texts)):
                images = [pairs.images[row].convert("RGB") for row in rows]
                scores += _cosines(encoders, images, [pairs.texts[row] for row in rows], self.device)
        return scores


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))


def _cosines(encoders: Encoders, images: Sequence[Any], texts: Sequence[str], device: str) -> list[float]:
    import torch

    tokens = encoders.tokenizer(
        list(texts),
        padding=encoders.padding,
        truncation=True,
        max_length=encoders.max_tokens,
        return_tensors="pt",
    )
    pixels = encoders.image_processor(images=list(images), return_tensors="pt")
    wanted = {name: tokens[name].to(device) for name in ("input_ids", "attention_mask") if name in tokens}
    with torch.inference_mode():
        text_BD = encoders.model.get_text_features(**wanted).pooler_output
        image_BD = encoders.model.get_image_features(pixels["pixel_values"].to(device)).pooler_output
        cosines_B = torch.nn.functional.cosine_similarity(text_BD, image_BD)
    return [round(cosine, 4) for cosine in cosines_B.tolist()]


@lru_cache(maxsize=1)
def _load(name: str, device: str) -> Encoders:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    place, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    pinned = {"revision": revision or "main"}
    try:
        with quiet_loading():
            model = AutoModel.from_pretrained(place, **pinned).eval().to(device)
            tokenizer = AutoTokenizer.from_pretrained(place, **pinned)
            processor = AutoImageProcessor.from_pretrained(place, backend="pil", **pinned)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no model can be loaded from '{name}': {error}",
            where="curate.alignment.model",
            fix="name a directory or a hub model of a CLIP or SigLIP with its tokenizer and image processor",
        ) from error
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        raise ConfigError(
            f"'{name}' ({type(model).__name__}) does not embed pictures and texts into one space",
            where="curate.alignment.model",
            fix="name a CLIP or SigLIP",
        )
    siglip = model.config.model_type.startswith("siglip")
    return Encoders(
        model,
        tokenizer,
        processor,
        max_tokens=model.config.text_config.max_position_embeddings,
        padding="max_length" if siglip else True,
    )
