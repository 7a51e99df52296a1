"""Composed models: closed gates change no bit, a token sees its own image only, the cache changes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from tiny_parts import llama, siglip
from transformers import LlamaForCausalLM, PreTrainedModel

from components.config import ModelConfig
from components.fingerprint import ROOT
from components.vlm import (
    Prompt,
    build_model,
    contract,
    generate,
    load_model,
    load_processor,
    local_sources,
    messages,
    save,
    source_processor,
)
from components.vlm.card import model_card
from components.vlm.composed import ComposedForConditionalGeneration, count_images
from components.vlm.composed.connectors import GROUP, Attention, MlpConnector, Seen
from components.vlm.families import ComposedFamily, family_of

ARCHITECTURES = ("prefix", "gated_cross_attention")
Made = tuple[PreTrainedModel, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of each architecture."""
    root = tmp_path_factory.mktemp("composed")
    tower, language = siglip(root / "siglip"), llama(root / "llama", layers=4)
    directories = {}
    for architecture in ARCHITECTURES:
        config = ModelConfig(
            architecture=architecture,  # type: ignore[arg-type]
            vision=str(tower),
            language=str(language),
            image_size=32,
            latents=6,
            cross_every=2,
        )
        local = local_sources(config, root)
        processor = source_processor(local)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build_model(local, processor.tokenizer)
        save(model, processor, root / architecture)
        directories[architecture] = root / architecture
    return directories


def load(directory: Path) -> Made:
    return load_model(directory), load_processor(directory)


@pytest.fixture
def gated(made: dict[str, Path]) -> Made:
    return load(made["gated_cross_attention"])


@pytest.fixture
def opened(gated: Made) -> Made:
    """The same with its gates half open."""
    for name, parameter in gated[0].named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.constant_(parameter, 0.7)
    return gated


def alone(model: PreTrainedModel) -> LlamaForCausalLM:
    """The language model that is in it."""
    language = LlamaForCausalLM(model.config.text_config).eval()
    language.model.load_state_dict(model.model.text_model.state_dict())
    language.tie_weights()
    return language


def pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(count)]


def chat(processor: Any, *questions: str, image: bool = True) -> Any:
    texts = [processor.apply_chat_template(messages(each, image=image)) for each in questions]
    shown = [[each] for each in pictures(len(texts))] if image else None
    return processor(text=texts, images=shown, padding=True, padding_side="left", return_tensors="pt")


@pytest.mark.parametrize("image", [True, False])
def test_gated_with_closed_gates_writes_the_language_models_own_logits(gated: Made, image: bool) -> None:
    model, processor = gated
    inputs = chat(processor, "What is the colour of 7?", "What?", image=image)
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        assert torch.equal(model(**inputs).logits, alone(model)(**text).logits)


def test_gated_with_open_gates_reads_images_and_leaves_text_alone_untouched(opened: Made) -> None:
    model, processor = opened
    language = alone(model)
    seeing = chat(processor, "What is the colour of 7?", "What?")
    text = chat(processor, "What is the colour of 7?", "What?", image=False)
    with torch.inference_mode():
        read = model(**seeing).logits
        plain = language(input_ids=seeing["input_ids"], attention_mask=seeing["attention_mask"]).logits
        assert float((read - plain).abs().max()) > 0.01
        assert torch.equal(model(**text).logits, language(**text).logits)
        # Beside a sample with an image, too: rows without one, and tokens before it.
        both = model(**text, pixel_values=seeing["pixel_values"]).logits
        assert torch.equal(both, language(**text).logits)
    before = (seeing["input_ids"] == processor.image_token_id).cumsum(1) == 0
    assert torch.equal(read[before], plain[before])


def test_gated_token_sees_the_last_image_before_it_and_no_other(opened: Made) -> None:
    model, processor = opened
    text = ["<image>What is it? <image>And this?", "<image>What?"]
    shown = pictures(3)
    inputs = processor(text=text, images=[shown[:2], shown[2:]], padding=True, return_tensors="pt")
    index_BL = count_images(inputs["input_ids"] == processor.image_token_id)
    assert index_BL.max() == 2 and set(index_BL[1].tolist()) == {-1, 2}
    with torch.inference_mode():
        before = model(**inputs).logits
        for image, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
            changed = dict(inputs) | {"pixel_values": inputs["pixel_values"].clone()}
            changed["pixel_values"][row, column] += 0.5
            after = model(**changed).logits
            moved_BL = (after != before).any(dim=-1)
            own_BL = index_BL == image
            # Behind it, its row's tokens attend to what saw it; before it and in other rows nothing moves.
            first = int(own_BL[row].nonzero()[0])
            assert bool(moved_BL[row, first:].all())
            assert not bool(moved_BL[row, :first].any()) and not bool(moved_BL[1 - row].any())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pack_gives_what_its_samples_give_alone(made: dict[str, Path], architecture: str) -> None:
    model, processor = load(made[architecture])
    for name, parameter in model.named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.constant_(parameter, 0.7)
    family = family_of(processor)
    assert isinstance(family, ComposedFamily)
    samples = [("What is the size of 1?", True), ("Only text here?", False), ("What?", True)]
    shown = iter(pictures(2))
    singles, pixels, ids, token_inputs, segments, images = [], [], [], [], [], 0
    for number, (question, image) in enumerate(samples):
        text = family.chat(messages(question, image=image))
        inputs = processor(text=[text], images=[[next(shown)]] if image else None, return_tensors="pt")
        with torch.inference_mode():
            singles.append(model.model(**inputs, use_cache=False).last_hidden_state[0])
        ids.append(inputs["input_ids"][0].numpy().astype(np.int32))
        token_inputs.append(family.token_inputs(ids[-1], images))
        segments += [number] * len(ids[-1])
        if image:
            pixels.append(inputs["pixel_values"][0])
            images += 1
    extra = {
        name: torch.from_numpy(np.concatenate([each[name] for each in token_inputs]))[None]
        for name in token_inputs[0]
    }
    assert bool(extra) == (architecture == "gated_cross_attention")
    segment_L = torch.tensor(segments)
    allowed_LL = (segment_L[:, None] == segment_L[None]).tril()
    mask = torch.where(allowed_LL, 0.0, torch.finfo(torch.float32).min)[None, None]
    positions = np.concatenate([family.positions(each, []) for each in ids], axis=1)
    arguments = (torch.from_numpy(np.concatenate(ids)).long()[None], torch.from_numpy(positions)[:, None])
    stored = {"pixel_values": torch.cat(pixels)[None]}
    with torch.inference_mode():
        packed = family.hidden(model, *arguments, images=stored, attention_mask=mask, **extra)
        features = family.tower(model, stored)
        again = family.hidden(model, *arguments, features_RPD=features, attention_mask=mask, **extra)
    assert features.shape == (2, 16, 32)
    assert torch.allclose(packed[0], torch.cat(singles), atol=1e-5)
    assert torch.equal(packed, again)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("beams", [1, 2])
def test_generate_with_the_cache_writes_what_it_writes_without(
    made: dict[str, Path], architecture: str, beams: int
) -> None:
    model, processor = load(made[architecture])
    for name, parameter in model.named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.constant_(parameter, 0.7)
    inputs = chat(processor, "What is the colour of 7?", "What?")
    cached, whole = (
        model.generate(**inputs, max_new_tokens=8, use_cache=use_cache, num_beams=beams)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, whole)
    assert cached.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_generate_batched_answers_as_one_by_one_with_and_without_images(
    made: dict[str, Path], architecture: str
) -> None:
    model, processor = load(made[architecture])
    shown = pictures(2)
    prompts = [
        Prompt((shown[0],), messages("What is it?")),
        Prompt((), messages("Hello?", image=False)),
        Prompt((shown[1],), messages("What is the size?")),
    ]
    batched = generate(model, processor, prompts, max_new_tokens=5, batch_size=3)
    single = [generate(model, processor, [each], max_new_tokens=5, batch_size=1)[0] for each in prompts]
    assert batched == single


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_reaches_every_part_and_checkpointing_changes_no_gradient(
    made: dict[str, Path], architecture: str
) -> None:
    model, processor = load(made[architecture])
    model.train()
    for name, parameter in model.named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.constant_(parameter, 0.7)
    inputs = chat(processor, "What is the colour of 7?", "What?")

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}

    plain = gradients()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    again = gradients()
    assert plain.keys() == again.keys() == dict(model.named_parameters()).keys()
    assert all(torch.allclose(plain[name], again[name], atol=1e-7) for name in plain)


def test_text_only_batch_with_a_picture_gives_every_new_weight_a_gradient(gated: Made) -> None:
    model, processor = gated
    text = chat(processor, "What?", image=False)
    pixels = chat(processor, "What?")["pixel_values"]
    model(**text, pixel_values=pixels, labels=text["input_ids"]).loss.backward()
    assert all(each.grad is not None for each in model.model.connector.parameters())


def test_adapters_sit_in_the_language_model_and_train_the_connector(gated: Made) -> None:
    from components.adapters import CONNECTOR, LANGUAGE_LINEARS

    model, processor = gated
    inputs = chat(processor, "What is the colour of 7?")
    with torch.inference_mode():
        before = model(**inputs).logits
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=LANGUAGE_LINEARS, modules_to_save=[CONNECTOR])
    )
    with torch.inference_mode():
        assert torch.equal(wrapped(**inputs).logits, before)
    wrapped(**inputs, labels=inputs["input_ids"]).loss.backward()
    trained = {name for name, each in wrapped.named_parameters() if each.grad is not None}
    assert any("attention_gate" in name for name in trained) and any("lora_B" in name for name in trained)
    with torch.no_grad():
        for name, each in wrapped.named_parameters():
            if "modules_to_save" in name and name.endswith("_gate"):
                each.fill_(0.7)
    with torch.inference_mode():
        moved = wrapped(**inputs).logits
        merged = wrapped.merge_and_unload()
        assert not torch.equal(moved, before)
        assert torch.allclose(merged(**inputs).logits, moved, atol=1e-5)


def test_contract_tells_the_architectures_apart(made: dict[str, Path]) -> None:
    prefix, gated = (load_processor(made[name]) for name in ARCHITECTURES)
    assert contract(prefix)["architecture"] == "prefix"
    assert {name for name, value in contract(gated).items() if contract(prefix)[name] != value} == {
        "architecture",
        "image_tokens",
    }


def test_model_from_scratch_needs_no_source(tmp_path: Path, made: dict[str, Path]) -> None:
    tokenizer = load_processor(made["prefix"]).tokenizer
    for architecture in ARCHITECTURES:
        config = ModelConfig(architecture=architecture, text_layers=2, cross_every=1)  # type: ignore[arg-type]
        torch.manual_seed(0)
        first = build_model(config, tokenizer)
        torch.manual_seed(0)
        again = build_model(config, tokenizer)
        assert isinstance(first, ComposedForConditionalGeneration)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
        assert all(bool(each.isfinite().all()) for each in first.parameters())


def test_card_counts_parts_once_and_what_an_image_costs(made: dict[str, Path]) -> None:
    for architecture, tokens, latents in (("prefix", 4 + 3, 0), ("gated_cross_attention", 1 + 3, 6)):
        model, processor = load(made[architecture])
        card = model_card(model, family_of(processor), ("connector",))
        assert card.parameters == sum(each.numel() for each in model.parameters())
        assert [part.name for part in card.parts if part.trained] == ["connector"]
        assert (card.image_tokens, card.latents) == (tokens, latents)
        # 4 layers, one key-value head of 32, keys and values, two bytes
        assert card.cache_bytes_per_token == 4 * 1 * 32 * 2 * 2
        assert card.cache_bytes_per_image == tokens * card.cache_bytes_per_token + latents * 64 * 2
        assert ("latents per image", "6") in card.rows() or not latents


def test_seen_groups_every_token_with_its_image_and_wastes_little() -> None:
    index_BL = torch.full((2, 300), -1)
    index_BL[0, 5:205], index_BL[0, 205:], index_BL[1, 10:13] = 0, 1, 2
    seen = Seen.of(torch.zeros(4, 6, 8), index_BL)
    flat_T = index_BL.reshape(-1)
    assert sorted(seen.token_N.tolist()) == (flat_T >= 0).nonzero()[:, 0].tolist()
    assert torch.equal(seen.image_G[seen.group_N], flat_T[seen.token_N])
    assert len(set(zip(seen.group_N.tolist(), seen.slot_N.tolist(), strict=True))) == len(seen.token_N)
    assert seen.slots == GROUP and len(seen.image_G) == 4 + 2 + 1


def test_connector_shuffles_pixels_into_squares() -> None:
    connector = MlpConnector(1, 4, 2)
    patches_RPE = torch.arange(16.0).view(1, 16, 1)
    assert connector._shuffled(patches_RPE)[0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]


def test_attention_under_autocast_on_a_processor_stays_close() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 2)
    asking, asked = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    with torch.no_grad():
        plain = attention(asking, attention.keys_values(asked))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = attention(asking, attention.keys_values(asked))
    assert torch.allclose(plain, mixed.float(), atol=0.02)


def test_importing_makes_nothing_known_to_transformers() -> None:
    script = (
        "import components.vlm\n"
        "from transformers import CONFIG_MAPPING\n"
        "assert 'opsin_composed' not in CONFIG_MAPPING and 'efficientnet_lite' not in CONFIG_MAPPING\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
