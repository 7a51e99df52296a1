"""Calibration samples: drawn from the training split as the mixture weighs it, tokenized into one file.

The quantize environment loads no processor, so what crosses is tensors: batch N's model inputs are
`N.input_ids`, `N.attention_mask`, `N.pixel_values` …, samples of equal length along the first dimension.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BatchFeature, Idefics3Processor

from components.errors import ConfigError
from components.loader import Sample


@dataclass(frozen=True)
class Example:
    """One of independent turns, or a chat."""

    sample: Sample
    turn: int
    """Of a chat its last."""


def draw(samples: Sequence[Sample], weights: Mapping[str, float], count: int, seed: int) -> list[Example]:
    """`count` samples, each category's share as in `weights`, one random turn of each, or all of a chat.

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
    return [
        Example(sample, len(sample.turns) - 1 if sample.chat else generator.randrange(len(sample.turns)))
        for sample in chosen
    ]


def write(examples: Sequence[Example], processor: Idefics3Processor, path: Path) -> int:
    """Tokenize `examples`, answers included, into batches of equal length and as many tiles, as safetensors.

    Examples are never padded: padding would enter the Hessians as if it were data.

    Returns:
        Number of tokens written.
    """
    batches: dict[tuple[int, int], list[BatchFeature]] = defaultdict(list)
    for example in examples:
        images = example.sample.asked(example.turn).prompt().images
        inputs = processor(
            text=[processor.apply_chat_template(example.sample.messages(example.turn))],
            images=[list(images)] if images else None,
            return_tensors="pt",
        )
        num_tiles = inputs["pixel_values"].shape[1] if images else 0
        batches[inputs["input_ids"].shape[1], num_tiles].append(inputs)
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
