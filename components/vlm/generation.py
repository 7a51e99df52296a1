"""Batched generation: prompts sorted by length, left-padded, the key-value cache reused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from transformers import Idefics3Processor, PreTrainedModel

from components.progress import Bar
from components.vlm.processor import messages
from components.vlm.quiet import quiet


@dataclass(frozen=True)
class Prompt:
    """A question about an image, or about none."""

    image: Image.Image | None
    question: str


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


def _batches(prompts: Sequence[Prompt], batch_size: int) -> Iterator[list[int]]:
    """Indices by batch: with and without image apart, similar lengths together (little padding)."""
    for with_image in (True, False):
        chosen = [index for index, prompt in enumerate(prompts) if (prompt.image is not None) == with_image]
        chosen.sort(key=lambda index: (len(prompts[index].question), index))
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
    images = [[prompt.image] for prompt in prompts if prompt.image is not None]
    texts = [
        processor.apply_chat_template(
            messages(prompt.question, image=prompt.image is not None), add_generation_prompt=True
        )
        for prompt in prompts
    ]
    inputs = processor(
        text=texts, images=images or None, padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
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
