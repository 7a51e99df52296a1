"""Calibration samples: drawn from the training split as the mixture weighs it, tokenized into one file.

The quantize environment loads no processor, so what crosses is tensors: batch N's model inputs are
`N.input_ids`, `N.attention_mask`, `N.pixel_values` …, samples of equal length along the first dimension.
"""

from __future__ import annotations

import io
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BatchFeature, Idefics3Processor

from components.errors import ConfigError
from components.loader import Sample, Turn
from components.vlm import messages


@dataclass(frozen=True)
class Example:
    """One single-turn chat."""

    sample: Sample
    turn: Turn


def draw(samples: Sequence[Sample], weights: Mapping[str, float], count: int, seed: int) -> list[Example]:
    """`count` samples, each category's share as in `weights`, one random turn of each.

    A category with too few samples leaves its places to the others, the heaviest first.

    Raises:
        ConfigError: no category with a weight has any sample.
    """
    pools: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if weights.get(sample.category, 0) > 0:
            pools[sample.category].append(sample)
    if not pools:
        raise ConfigError(
            f"no training sample in the mixture's categories ({', '.join(sorted(weights))})",
            where="quantize: calibration samples",
            fix="the mixture belongs to another dataset; run ablate on this one",
        )
    generator = random.Random(seed)
    chosen = [
        sample
        for category, places in _places(pools, weights, count).items()
        for sample in generator.sample(sorted(pools[category], key=lambda each: each.key), places)
    ]
    return [Example(sample, generator.choice(sample.turns)) for sample in chosen]


def write(examples: Sequence[Example], processor: Idefics3Processor, path: Path) -> int:
    """Tokenize question and answer of `examples` into batches of equal length, as safetensors.

    Examples are never padded: padding would enter the Hessians as if it were data.

    Returns:
        Number of tokens written.
    """
    batches: dict[tuple[int, bool], list[BatchFeature]] = defaultdict(list)
    for example in examples:
        image = example.sample.image
        chat = messages(example.turn.question, example.turn.answer, image=image is not None)
        inputs = processor(
            text=[processor.apply_chat_template(chat)],
            images=[[Image.open(io.BytesIO(image)).convert("RGB")]] if image is not None else None,
            return_tensors="pt",
        )
        batches[inputs["input_ids"].shape[1], image is not None].append(inputs)
    tensors = {
        f"{index:06d}.{name}": torch.cat([inputs[name] for inputs in batch]).contiguous()
        for index, (_, batch) in enumerate(sorted(batches.items(), key=lambda item: item[0]))
        for name in batch[0]
    }
    save_file(tensors, path)
    return sum(length * len(batch) for (length, _), batch in batches.items())


def _places(
    pools: Mapping[str, Sequence[Sample]], weights: Mapping[str, float], count: int
) -> dict[str, int]:
    """Places per category: one at a time to whoever is furthest below its share and has samples left."""
    total = sum(weights[category] for category in pools)
    places = dict.fromkeys(sorted(pools), 0)
    for _ in range(min(count, sum(map(len, pools.values())))):
        open_ = [category for category in places if places[category] < len(pools[category])]
        neediest = max(open_, key=lambda each: count * weights[each] / total - places[each])
        places[neediest] += 1
    return places
