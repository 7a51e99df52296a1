"""PyTorch → three ONNX graphs, cut and named as the field's browser and mobile runtimes expect them.

    vision_encoder.onnx   pixel_values → image_features (vision tower and connector)
    embed_tokens.onnx     input_ids → inputs_embeds
    decoder.onnx          inputs_embeds, attention_mask, position_ids, past_key_values.* → logits, present.*
    manifest.json         inputs, outputs, shapes, and what a caller must know

Dimensions: B prompts, L new tokens, P tokens in the cache, N images. The caller puts `image_features` in
the places of the image tokens (onnx_runtime.py does).
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import nn
from transformers import DynamicCache, Idefics3Processor, LlamaConfig, PreTrainedModel
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

from components.artifacts import write_atomic

OPSET: Final = 18
MANIFEST: Final = "manifest.json"
VISION, EMBED, DECODER = "vision_encoder.onnx", "embed_tokens.onnx", "decoder.onnx"
Cache = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values of each layer, (B, heads, P, head size)."""


class Vision(nn.Module):
    """(N, 3, height, width) → (N, image tokens, width of the language model)."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.tower, self.connector = model.model.vision_model, model.model.connector

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.connector(self.tower(pixel_values=pixel_values).last_hidden_state)
        return features


class Decoder(nn.Module):
    """Embeddings of L new tokens and a cache of P tokens → logits (B, L, vocabulary) and the new cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.language, self.head = model.model.text_model, model.lm_head

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: Cache,
    ) -> tuple[torch.Tensor, Cache]:
        length, total = inputs_embeds.shape[1], attention_mask.shape[1]
        queries = torch.arange(length) + (total - length)
        seen = (torch.arange(total)[None, :] <= queries[:, None])[None, None]
        seen = seen & (attention_mask[:, None, None, :] > 0)
        # The lowest finite value, not minus infinity: a padding token sees nothing and would be NaN.
        mask = torch.where(seen, 0.0, torch.finfo(inputs_embeds.dtype).min)
        done = self.language(
            inputs_embeds=inputs_embeds,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=DynamicCache(past),
            use_cache=True,
        )
        present = tuple((layer.keys, layer.values) for layer in done.past_key_values.layers)
        return self.head(done.last_hidden_state), present


@dataclass(frozen=True)
class Graph:
    """What one call of the exporter needs."""

    file: str
    module: nn.Module
    arguments: tuple[Any, ...]
    dynamic_shapes: dict[str, Any]
    inputs: list[str]
    outputs: list[str]


def supported(model: PreTrainedModel) -> bool:
    """Whether the graphs below are this model's."""
    return bool(model.config.model_type == "idefics3")


def write(model: PreTrainedModel, processor: Idefics3Processor, directory: Path) -> None:
    """Export the graphs of `model` (fp32, evaluation mode) and the manifest into a new `directory`."""
    directory.mkdir(parents=True)
    described = {}
    for graph in (_vision(model), _embed(model), _decoder(model)):
        described[graph.file] = _export(graph, directory / graph.file)
    text = cast(LlamaConfig, model.config.text_config)
    manifest = {
        "weights": "unquantized, float32",
        "opset": OPSET,
        "graphs": described,
        "image_token_id": model.config.image_token_id,
        "image_tokens_per_image": processor.image_seq_len,
        "end_token_id": processor.tokenizer.eos_token_id,
        "pad_token_id": processor.tokenizer.pad_token_id,
        "layers": text.num_hidden_layers,
        "key_value_heads": text.num_key_value_heads,
        "head_size": text.head_dim,
        "max_positions": text.max_position_embeddings,
        "processor": "../vllm",
        "notes": [
            "images: one square tile each, as the processor gives them (rescaled, normalized)",
            "replace the embedding of the k-th image token with the k-th row of image_features",
            "attention_mask covers cache and new tokens; position_ids count tokens that are not padding",
            "the first call has an empty cache: past_key_values.* of length 0",
        ],
    }
    write_atomic(directory / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def cache_names(prefix: str, layers: int) -> list[str]:
    """`prefix.0.key`, `prefix.0.value`, `prefix.1.key` …"""
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def _vision(model: PreTrainedModel) -> Graph:
    vision = cast(Idefics3VisionConfig, model.config.vision_config)
    side = cast(int, vision.image_size)
    pixels = torch.zeros(3, vision.num_channels, side, side)
    return Graph(
        VISION,
        Vision(model),
        (pixels,),
        {"pixel_values": {0: "images"}},
        ["pixel_values"],
        ["image_features"],
    )


def _embed(model: PreTrainedModel) -> Graph:
    table = cast(nn.Embedding, model.get_input_embeddings())
    shapes = {"input": {0: "batch", 1: "sequence"}}
    return Graph(
        EMBED, table, (torch.zeros(2, 5, dtype=torch.long),), shapes, ["input_ids"], ["inputs_embeds"]
    )


def _decoder(model: PreTrainedModel) -> Graph:
    text = cast(LlamaConfig, model.config.text_config)
    layers = text.num_hidden_layers
    # Example sizes that differ pairwise and from 1: equal ones would be taken for one dimension.
    batch, length, past = 2, 5, 7
    cached = torch.zeros(batch, cast(int, text.num_key_value_heads), past, cast(int, text.head_dim))
    arguments = (
        torch.zeros(batch, length, text.hidden_size),
        torch.ones(batch, past + length, dtype=torch.long),
        torch.arange(past, past + length).repeat(batch, 1),
        tuple((cached.clone(), cached.clone()) for _ in range(layers)),
    )
    cache_shape = {0: "batch", 2: "past"}
    shapes = {
        "inputs_embeds": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "total"},
        "position_ids": {0: "batch", 1: "sequence"},
        "past": tuple((cache_shape, cache_shape) for _ in range(layers)),
    }
    inputs = ["inputs_embeds", "attention_mask", "position_ids", *cache_names("past_key_values", layers)]
    outputs = ["logits", *cache_names("present", layers)]
    return Graph(DECODER, Decoder(model), arguments, shapes, inputs, outputs)


def _export(graph: Graph, path: Path) -> dict[str, Any]:
    """Write one graph; returns its inputs and outputs for the manifest."""
    with _quiet(), torch.inference_mode(False):
        program = torch.onnx.export(
            graph.module.eval(),
            graph.arguments,
            dynamo=True,
            dynamic_shapes=graph.dynamic_shapes,
            input_names=graph.inputs,
            output_names=graph.outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "the dynamo exporter returns its program"
    # The exporter notes stack traces with this machine's paths; the same weights must give the same bytes.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(str(path))
    values = {"inputs": program.model.graph.inputs, "outputs": program.model.graph.outputs}
    return {
        side: [
            {
                "name": value.name,
                "dtype": str(value.dtype),
                "shape": [_dimension(each) for each in value.shape or ()],
            }
            for value in given
        ]
        for side, given in values.items()
    }


def _dimension(size: Any) -> int | str:
    return size if isinstance(size, int) else str(size.value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on missing torchvision, shared axis names and torch's own code."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*The axis name", category=UserWarning)
            warnings.filterwarnings("ignore", message=".*treespec, LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
