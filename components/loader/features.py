"""Features of a frozen vision tower, computed once: training reads them and never runs the tower.

They are what `delivery = "embeddings"` of curation writes per picture, (rows × patches, width) in float16;
where the dataset holds pictures, the tower that is trained with is run over them once and the result is kept
in the cache under the tower's and the split's digests.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from transformers import PreTrainedModel

from components.progress import Bar
from components.vlm.families import Family

if TYPE_CHECKING:
    from components.loader.encode import Encoded

ROWS_AT_ONCE = 64
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Features:
    """Features of a split's pictures in one array, by picture.

    Args:
        features_RPD: Rows × patches × width.
        row_I: Where a picture's rows start (one more entry than pictures: the end).
    """

    features_RPD: Halves
    row_I: npt.NDArray[np.int64]

    def __call__(self, image: int) -> Halves:
        return self.features_RPD[self.row_I[image] : self.row_I[image + 1]]


def read_features(content: bytes) -> Halves:
    """What curation delivers per picture: (patches, width), as `.npy`."""
    features: Halves = np.load(io.BytesIO(content), allow_pickle=False)
    return features


def compute_features(encoded: Encoded, family: Family, model: PreTrainedModel, path: Path) -> Features:
    """Run the tower over every picture of a split, or read what an earlier run left at `path`. One process
    runs it, others wait for its file (a barrier would time out).

    Args:
        path: A `.npy` file; written whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            partial = path.with_name(f".{path.stem}.partial.npy")
            _write(encoded, family, model, partial)
            os.replace(partial, path)
    return Features(np.load(path, mmap_mode="r"), np.asarray(encoded.row_I))


def _portions(row_I: npt.NDArray[np.int64]) -> Iterator[range]:
    """Pictures that together have about `ROWS_AT_ONCE` rows."""
    first, images = 0, len(row_I) - 1
    while first < images:
        last = int(np.searchsorted(row_I, row_I[first] + ROWS_AT_ONCE, "right")) - 1
        last = min(max(last, first + 1), images)
        yield range(first, last)
        first = last


def _write(encoded: Encoded, family: Family, model: PreTrainedModel, path: Path) -> None:
    rows, written = int(encoded.row_I[-1]), 0
    images = len(encoded.row_I) - 1
    array: np.memmap[tuple[int, ...], np.dtype[np.float16]] | None = None
    with Bar("vision features", total=images, unit="images") as bar, torch.inference_mode():
        for some in _portions(encoded.row_I):
            pixels = np.concatenate([encoded.images(image) for image in some])
            inputs = family.image_inputs(torch.from_numpy(pixels), [encoded.grid(image) for image in some])
            inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            features_RPD = family.tower(model, inputs).to(torch.float16).cpu().numpy()
            if array is None:
                shape = (rows, *features_RPD.shape[1:])
                array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            array[written : written + len(features_RPD)] = features_RPD
            written += len(features_RPD)
            bar.advance(len(some))
    if array is None:
        np.save(path, np.zeros((0, 1, 1), np.float16))
    else:
        array.flush()
