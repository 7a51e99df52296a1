"""Batched generation: prompts sorted by length, left-padded, the key-value cache reused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, Idefics3Processor, PreTrainedModel

from components.progress import Bar
from components.vlm.families import family_of
from components.vlm.quiet import quiet


@dataclass(frozen=True)
class Prompt:
    """A chat that the model goes on with, and the pictures that it shows."""

    images: tuple[Image.Image, ...]
    """In the order of their places in the messages."""
    messages: Sequence[Mapping[str, Any]]
    """As `apply_chat_template` takes them; the last is a user's."""

    @property
    def length(self) -> int:
        """Characters of its texts."""
        parts = [part for message in self.messages for part in message["content"]]
        return sum(len(part["text"]) for part in parts if part["type"] == "text")


@dataclass(frozen=True)
class Generation:
    """What the model answered."""

    text: str
    """Without special tokens, stripped."""
    token_ids: tuple[int, ...]
    """Up to and including the end token."""
    ended: bool
    """It stopped by itself, not at the limit."""


def generate(
    model: PreTrainedModel,
    processor: Idefics3Processor,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    seed: int = 0,
    title: str = "generate",
) -> list[Generation]:
    """Answer `prompts`, in their order.

    Args:
        temperature: 0 is greedy; above, samples (the same seed and prompts give the same answers).
    """
    answers: dict[int, Generation] = {}
    was_training = model.training
    model.eval()
    with (
        Bar(title, total=len(prompts), unit="answers") as bar,
        torch.inference_mode(),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(seed)
        for indices in _batches(prompts, batch_size):
            batch = [prompts[index] for index in indices]
            done = _answer(model, processor, batch, max_new_tokens=max_new_tokens, temperature=temperature)
            answers.update(zip(indices, done, strict=True))
            bar.advance(len(indices))
    model.train(was_training)
    return [answers[index] for index in range(len(prompts))]


def prompt_inputs(processor: Idefics3Processor, prompts: Sequence[Prompt]) -> BatchFeature:
    """The model's inputs, left-padded.

    Args:
        prompts: All with images, or all without.
    """
    family = family_of(processor)
    images = family.pictures([prompt.images for prompt in prompts]) if prompts[0].images else None
    texts = [family.chat(prompt.messages, generate=True) for prompt in prompts]
    inputs: BatchFeature = processor(
        text=texts, images=images, padding=True, padding_side="left", return_tensors="pt"
    )
    return inputs


def _batches(prompts: Sequence[Prompt], batch_size: int) -> Iterator[list[int]]:
    """Indices by batch: those with as many images together, the most first; of them similar lengths
    (little padding)."""
    for num_images in sorted({len(prompt.images) for prompt in prompts}, reverse=True):
        chosen = [index for index, prompt in enumerate(prompts) if len(prompt.images) == num_images]
        chosen.sort(key=lambda index: (prompts[index].length, index))
        for start in range(0, len(chosen), batch_size):
            yield chosen[start : start + batch_size]


def _answer(
    model: PreTrainedModel,
    processor: Idefics3Processor,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float,
) -> list[Generation]:
    inputs = prompt_inputs(processor, prompts).to(model.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    with quiet():
        output = model.generate(  # type: ignore[operator]  # a mixin, of which the base class knows nothing
            **inputs, max_new_tokens=max_new_tokens, use_cache=True, **sampling
        )
    new_tokens = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [_read(processor, ids) for ids in new_tokens]


def _read(processor: Idefics3Processor, ids: list[int]) -> Generation:
    end = processor.tokenizer.eos_token_id
    ended = end in ids
    kept = ids[: ids.index(end) + 1] if ended else ids
    text = processor.tokenizer.decode(kept, skip_special_tokens=True).strip()
    return Generation(text=text, token_ids=tuple(kept), ended=ended)
