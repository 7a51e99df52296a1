"""Tokenized splits on disk: written once, mapped into memory by every run that reads them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from pathlib import Path

import numpy as np

from components.loader.encode import Encoded, Turns
from components.loader.features import Features
from components.loader.pixels import CachedImages, Images, NoImages

NAMES = ("categories", "keys", "shards")
FORMS = ("with_image", "text_only")
PIXELS, FEATURES = "pixels", "features"
STORES = ("images", "features")
"""Fields with a file of their own."""


def save_encoded(encoded: Encoded, directory: Path) -> None:
    """Write the arrays, whole or not at all; a directory that another run wrote first is kept."""
    partial = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    for each in dataclasses.fields(Encoded):
        value = getattr(encoded, each.name)
        if each.name in FORMS:
            for part in dataclasses.fields(Turns):
                np.save(partial / f"{each.name}.{part.name}.npy", getattr(value, part.name))
        elif each.name in NAMES:
            np.save(partial / f"{each.name}.npy", np.array(value, dtype=np.str_))
        elif each.name not in STORES:
            np.save(partial / f"{each.name}.npy", value)
    if encoded.features is not None:
        np.save(partial / f"{FEATURES}.npy", encoded.features.features_RPD)
    if isinstance(encoded.images, CachedImages):
        np.save(partial / f"{PIXELS}.npy", encoded.images.pixels_RCHW)
    try:
        os.rename(partial, directory)
    except OSError:
        shutil.rmtree(partial)


def load_encoded(directory: Path) -> Encoded:
    """Read what `save_encoded` wrote; tokens and pixels stay on disk, mapped into memory."""

    def read(name: str) -> np.ndarray:
        return np.load(directory / f"{name}.npy", mmap_mode="r")  # type: ignore[no-any-return]

    values: dict[str, object] = {}
    for each in dataclasses.fields(Encoded):
        if each.name in FORMS:
            parts = {part.name: read(f"{each.name}.{part.name}") for part in dataclasses.fields(Turns)}
            values[each.name] = Turns(**parts)
        elif each.name in NAMES:
            values[each.name] = tuple(str(name) for name in np.load(directory / f"{each.name}.npy"))
        elif each.name not in STORES:
            values[each.name] = read(each.name)
    pixels = directory / f"{PIXELS}.npy"
    images: Images = NoImages()
    if pixels.exists():
        images = CachedImages(np.load(pixels, mmap_mode="r"), read("row_I"))
    features = directory / f"{FEATURES}.npy"
    if features.exists():
        values["features"] = Features(np.load(features, mmap_mode="r"), read("row_I"))
    return Encoded(**values, images=images)  # type: ignore[arg-type]
