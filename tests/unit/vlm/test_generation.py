"""Prompts with several pictures, and with pictures in the text, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from singles import noise
from tiny_families import FAMILIES, tiny_family

from components.vlm import Prompt, generate, messages, prompt_inputs
from components.vlm.families import Family

IMAGE = {"type": "image"}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _prompts() -> list[Prompt]:
    """None, one, two in the text, two in a chat, and three."""
    between = [_text("Is "), IMAGE, _text(" like "), IMAGE, _text("?")]
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": [IMAGE, _text("red?")]},
        {"role": "assistant", "content": [_text("yes")]},
        {"role": "user", "content": [_text("and this?"), IMAGE]},
    ]
    front = [IMAGE, IMAGE, IMAGE, _text("how many?")]
    return [
        Prompt((), messages("hello?", image=False)),
        Prompt((noise(40, 70),), messages("what?")),
        Prompt((noise(30, 30), noise(70, 20)), [{"role": "user", "content": between}]),
        Prompt((noise(20, 50), noise(33, 64)), chat),
        Prompt((noise(70, 40), noise(20, 20), noise(64, 64)), [{"role": "user", "content": front}]),
    ]


def _as_trained(family: Family, prompt: Prompt) -> list[int]:
    """The prompt's tokens as the loader writes them."""
    before, *pieces = family.chat(prompt.messages, generate=True).split(family.marker)
    shown = zip(prompt.images, pieces, strict=True)
    text = before + "".join(family.text(family.grid(*image.size)) + piece for image, piece in shown)
    ids: list[int] = family.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_inputs_of_several_pictures_are_the_tokens_that_were_trained(name: str) -> None:
    family, _ = tiny_family(name)
    prompts = _prompts()
    for batch in (prompts[:1], prompts[1:2], prompts[2:4], prompts[4:]):
        inputs = prompt_inputs(family.processor, batch)
        for row, prompt in enumerate(batch):
            kept = inputs["attention_mask"][row].bool()
            assert inputs["input_ids"][row][kept].tolist() == _as_trained(family, prompt)
            assert bool(kept[-1]), "padding stands on the left"


@pytest.mark.parametrize("name", FAMILIES)
def test_generate_prompts_of_several_pictures_batched_answers_as_one_by_one(name: str) -> None:
    family, model = tiny_family(name)
    prompts = _prompts()
    batched = generate(model, family.processor, prompts, max_new_tokens=6, batch_size=4)
    single = [
        generate(model, family.processor, [each], max_new_tokens=6, batch_size=1)[0] for each in prompts
    ]
    assert batched == single


@pytest.mark.parametrize("name", FAMILIES)
def test_generate_looks_at_every_picture(name: str) -> None:
    family, model = tiny_family(name)
    prompt = _prompts()[2]
    first, second = prompt.images
    others = [
        Prompt(images, prompt.messages)
        for images in (
            (first, second),
            (second.resize(first.size), second),
            (first, first.resize(second.size)),
        )
    ]
    logits = []
    for each in others:
        with torch.inference_mode():
            logits.append(model(**prompt_inputs(family.processor, [each])).logits[0, -1])
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[0], logits[2], atol=1e-4)
