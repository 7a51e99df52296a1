"""The three forms in which a dataset is delivered: raw, preprocessed, embeddings.

The first two were made when the picture was decoded; the third is made here, of the preprocessed pictures.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.config import CurateConfig
from components.curate.chunks import Blob, Row, run_in_chunks
from components.curate.engines import Engine
from components.curate.samples import Candidate, Place
from components.curate.shards import TEXT, Delivered
from components.errors import ConfigError

BATCH = 32


def deliver(
    engine: Engine, kept: Sequence[Candidate], config: CurateConfig, scratch: Path
) -> list[Delivered]:
    """The bytes of every kept sample, in the form that the config asks for."""
    if config.delivery != "embeddings":
        return [_as_it_is(each) for each in kept]
    with_image = [each for each in kept if each.picture]
    work = partial(embed_chunk, tower=config.tower, threads=config.execution.threads)
    places = [each.picture.place for each in with_image if each.picture]
    rows = run_in_chunks(engine, "embed", work, places, scratch / "embedded").rows
    features = {
        each.key: Place(Path(row["path"]), row["offset"], row["size"])
        for each, row in zip(with_image, rows, strict=True)
    }
    return [
        Delivered(each, features[each.key], "npy") if each.key in features else _as_it_is(each)
        for each in kept
    ]


def _as_it_is(candidate: Candidate) -> Delivered:
    picture = candidate.picture
    if picture is None:
        return Delivered(candidate, None, TEXT)
    return Delivered(candidate, picture.place, picture.format)


def embed_chunk(places: Sequence[Place], blob: Blob, *, tower: str, threads: int) -> list[Row]:
    """Features of a frozen vision tower, (patches, width) in float16, as `.npy` bytes."""
    rows: list[Row] = []
    for start in range(0, len(places), BATCH):
        images = [_open(place) for place in places[start : start + BATCH]]
        for features in embed(images, tower, threads):
            buffer = io.BytesIO()
            np.save(buffer, features)
            place = blob.append(buffer.getvalue())
            rows.append({"path": str(place.path), "offset": place.offset, "size": place.size})
    return rows


def _open(place: Place) -> Image.Image:
    with Image.open(io.BytesIO(place.read())) as opened:
        return opened.convert("RGB")


def embed(images: Sequence[Image.Image], tower: str, threads: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Last hidden states of a vision tower: (images, patches, width)."""
    import torch

    torch.set_num_threads(threads)
    model, processor = _load_tower(tower)
    with torch.inference_mode():
        pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
        states = model(pixel_values=pixels.to(model.dtype)).last_hidden_state
    features: np.ndarray[Any, np.dtype[np.float16]] = states.to(torch.float16).numpy()
    return features


@lru_cache(maxsize=1)
def _load_tower(tower: str) -> tuple[Any, Any]:
    """The vision tower of a directory or a hub name, and its image processor.

    Raises:
        ConfigError: nothing there that transformers can load.
    """
    from transformers import AutoImageProcessor, AutoModel

    try:
        model = AutoModel.from_pretrained(tower).eval()
        processor = AutoImageProcessor.from_pretrained(tower, backend="pil")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no vision tower can be loaded from '{tower}': {error}",
            where="curate.tower",
            fix="name a directory or a hub model with a vision tower and an image processor (SigLIP, CLIP)",
        ) from error
    return getattr(model, "vision_model", model), processor
