"""Real photographs, and tables of signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest
from PIL import Image

from components.curate.duplicates import SCHEMA, Signatures

NAMES = ("astronaut", "coffee", "chelsea", "rocket", "camera", "moon")


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """Six photographs that scikit-image carries, 256 pixels wide."""
    import skimage.data

    pictures = [getattr(skimage.data, name)() for name in NAMES]
    return [Image.fromarray(pixels).convert("RGB").resize((256, 192)) for pixels in pictures]


@pytest.fixture(scope="session")
def signatures_of() -> Callable[..., Signatures]:
    def make(rows: Sequence[dict[str, object]], *, same_text_only: Sequence[str] = ()) -> Signatures:
        return Signatures.of(pa.Table.from_pylist(list(rows), schema=SCHEMA), same_text_only=same_text_only)

    return make
