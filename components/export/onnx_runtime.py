"""The ONNX graphs as one model: what a program without PyTorch does to answer an image question."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime

from components.export.onnx_graphs import DECODER, EMBED, MANIFEST, VISION, cache_names

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Step:
    """One call of the decoder."""

    logits: Array
    """(B, L, vocabulary)."""
    cache: list[Array]
    """Keys and values, layer by layer, each (B, heads, tokens so far, head size)."""


class OnnxModel:
    """The three graphs of an export, run by onnxruntime on the CPU."""

    def __init__(self, directory: Path, *, threads: int) -> None:
        self.manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._vision, self._embed, self._decoder = (
            onnxruntime.InferenceSession(str(directory / name), options, providers=["CPUExecutionProvider"])
            for name in (VISION, EMBED, DECODER)
        )

    def prefill(self, input_ids: Array, attention_mask: Array, position_ids: Array, pixels: Array) -> Step:
        """Prompts (B, L) with their images (N, 3, height, width), an empty cache."""
        embeddings = self._embed.run(None, {"input_ids": input_ids})[0].copy()
        features = self._vision.run(None, {"pixel_values": pixels})[0]
        places = input_ids == self.manifest["image_token_id"]
        embeddings[places] = features.reshape(-1, features.shape[-1])
        heads, size = self.manifest["key_value_heads"], self.manifest["head_size"]
        empty = np.zeros((len(input_ids), heads, 0, size), dtype=np.float32)
        cache = [empty] * (2 * self.manifest["layers"])
        return self._decode(embeddings, attention_mask, position_ids, cache)

    def step(self, tokens: Array, attention_mask: Array, position_ids: Array, cache: list[Array]) -> Step:
        """One more token (B, 1) per prompt; the mask covers cache and token (B, P + 1)."""
        embeddings = self._embed.run(None, {"input_ids": tokens})[0]
        return self._decode(embeddings, attention_mask, position_ids, cache)

    def _decode(
        self, embeddings: Array, attention_mask: Array, position_ids: Array, cache: list[Array]
    ) -> Step:
        names = cache_names("past_key_values", self.manifest["layers"])
        inputs = {"inputs_embeds": embeddings, "attention_mask": attention_mask, "position_ids": position_ids}
        logits, *present = self._decoder.run(None, inputs | dict(zip(names, cache, strict=True)))
        return Step(logits, present)
