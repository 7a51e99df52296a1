"""Parts out of directories: every tensor at its place, new tokens with their rows, what does not fit told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_parts import OWN_END, OWN_START, clip, llama, llama_gguf, own_tokenizer, siglip, siglip_pair
from transformers import (
    AutoModel,
    CohereConfig,
    CohereForCausalLM,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    ResNetConfig,
    ResNetModel,
    SiglipVisionModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from components.config import ModelConfig
from components.errors import ConfigError
from components.vlm import (
    build_model,
    contract,
    load_model,
    load_processor,
    local_sources,
    messages,
    save,
    source_processor,
)
from components.vlm.families import family_of
from components.vlm.language import read_language, read_tokenizer


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """siglip/ siglip_pair/ clip/ llama/ untied/ gguf/"""
    root = tmp_path_factory.mktemp("parts")
    for make in (siglip, siglip_pair, clip, llama):
        make(root / make.__name__)
    llama(root / "untied", tied=False)
    llama_gguf(root / "llama", root / "gguf")
    return root


def build(root: Path, tmp_path: Path, **fields: Any) -> tuple[PreTrainedModel, Any]:
    """A model of parts by name, with its processor."""
    named = {name: str(root / fields.pop(name)) for name in ("vision", "language") if name in fields}
    config = ModelConfig(**{"image_size": 32, "cross_every": 1, **named, **fields})
    local = local_sources(config, tmp_path)
    processor = source_processor(local)
    torch.manual_seed(0)
    return build_model(local, processor.tokenizer), processor


def pictures(side: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_own_tokenizer_keeps_its_ids_and_its_end_token_is_ours(parts: Path) -> None:
    own, ours = own_tokenizer(), read_tokenizer(parts / "llama")
    text = "What is the size of 7? <filename>"
    assert ours(text)["input_ids"] == own(text)["input_ids"]
    assert ours.eos_token == "<end_of_utterance>" and ours.eos_token_id == own.eos_token_id
    assert ours.bos_token == OWN_START and ours.bos_token_id == own.bos_token_id
    assert OWN_END not in ours.get_vocab()
    assert ours.pad_token_id == len(own) != ours.eos_token_id
    assert len({ours.convert_tokens_to_ids(name) for name in ours.all_special_tokens}) == 7


def test_language_new_rows_are_means_of_what_their_names_are_spelled_with(parts: Path) -> None:
    own, ours = own_tokenizer(), read_tokenizer(parts / "llama")
    before_VD = LlamaForCausalLM.from_pretrained(parts / "llama").model.embed_tokens.weight
    language = read_language(parts / "llama", ours)
    rows = language.body["embed_tokens.weight"]
    assert len(rows) % 64 == 0 and language.config.vocab_size == len(rows)
    assert torch.equal(rows[: len(own)], before_VD)
    image, spelled = ours.convert_tokens_to_ids("<image>"), own("<image>")["input_ids"]
    assert torch.allclose(rows[image], before_VD[spelled].mean(0))
    assert torch.allclose(rows[-1], before_VD.mean(0))
    assert language.head["weight"] is rows
    assert language.config.eos_token_id == own.eos_token_id != language.config.pad_token_id


def test_language_of_a_gguf_file_is_that_of_its_directory(parts: Path) -> None:
    ours, theirs = (read_tokenizer(parts / name) for name in ("llama", "gguf"))
    assert ours.get_vocab() == theirs.get_vocab()
    text = "What is the colour of 12? Red."
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    left, right = (read_language(parts / name, ours) for name in ("llama", "gguf"))
    assert left.body.keys() == right.body.keys()
    assert all(torch.equal(left.body[name], right.body[name]) for name in left.body)


@pytest.mark.parametrize("source", ["siglip", "siglip_pair"])
def test_idefics3_of_siglip_sees_what_siglip_sees(parts: Path, tmp_path: Path, source: str) -> None:
    model, processor = _idefics3(parts, tmp_path, source)
    tower = SiglipVisionModel.from_pretrained(parts / source).eval()
    with torch.inference_mode():
        theirs = tower(pixel_values=pictures()).last_hidden_state
        ours = model.eval().model.vision_model(pixel_values=pictures()).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert processor.image_seq_len == 4


def _idefics3(parts: Path, tmp_path: Path, vision: str) -> tuple[PreTrainedModel, Any]:
    return build(parts, tmp_path, vision=vision, language="llama")


def test_idefics3_of_a_directory_writes_what_its_language_model_writes(parts: Path, tmp_path: Path) -> None:
    model, processor = _idefics3(parts, tmp_path, "siglip")
    alone = LlamaForCausalLM.from_pretrained(parts / "llama").eval()
    ids = torch.tensor([processor.tokenizer("What is the size of 3?")["input_ids"]])
    with torch.inference_mode():
        ours, theirs = model.eval()(input_ids=ids).logits, alone(input_ids=ids).logits
    assert torch.allclose(ours[..., : theirs.shape[-1]], theirs, atol=1e-6)
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.parametrize("language", ["llama", "untied"])
@pytest.mark.parametrize("architecture", ["idefics3", "prefix", "gated_cross_attention"])
def test_built_model_saved_and_loaded_is_the_same(
    parts: Path, tmp_path: Path, architecture: str, language: str
) -> None:
    model, processor = build(parts, tmp_path, vision="siglip", language=language, architecture=architecture)
    agreed = save(model, processor, tmp_path / "saved")
    again = load_model(tmp_path / "saved", expected_contract=agreed)
    assert type(again) is type(model)
    assert model.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(each, again.state_dict()[name]) for name, each in model.state_dict().items())
    assert type(load_processor(tmp_path / "saved")) is type(processor)
    assert (again.lm_head.weight is again.get_input_embeddings().weight) == (language == "llama")


def test_processor_of_a_tower_normalizes_as_the_tower_was_trained(parts: Path, tmp_path: Path) -> None:
    _, processor = _idefics3(parts, tmp_path, "siglip")
    assert tuple(processor.image_processor.image_mean) == (0.4, 0.5, 0.6)
    assert tuple(processor.image_processor.image_std) == (0.2, 0.3, 0.4)


def test_tower_at_another_size_has_its_positions_interpolated(parts: Path, tmp_path: Path) -> None:
    model, processor = build(parts, tmp_path, vision="siglip", language="llama", image_size=64)
    assert processor.image_seq_len == 16
    positions = model.model.vision_model.embeddings.position_embedding.weight
    own = SiglipVisionModel.from_pretrained(parts / "siglip").embeddings.position_embedding.weight
    assert len(positions) == 64
    square = positions.view(8, 8, -1)
    assert torch.allclose(square.mean((0, 1)), own.mean(0), atol=0.02)
    wide, _ = build(parts, tmp_path, vision="siglip", language="llama", image_size=64, architecture="prefix")
    with torch.inference_mode():
        ours, theirs = model.eval().model.vision_model, wide.eval().model.vision_model
        assert torch.allclose(
            ours(pixel_values=pictures(64)).last_hidden_state,
            theirs(pixel_values=pictures(64)).last_hidden_state,
            atol=1e-5,
        )


def test_grid_whose_positions_transformers_mistakes_is_refused(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the positions of others"):
        build(parts, tmp_path, vision="siglip", language="llama", image_size=200, scale_factor=5)


def test_prefix_drops_the_class_token_of_a_clip_tower(parts: Path, tmp_path: Path) -> None:
    model, _ = build(parts, tmp_path, vision="clip", language="llama", architecture="prefix")
    with torch.inference_mode():
        whole = AutoModel.from_pretrained(parts / "clip").eval()(pixel_values=pictures()).last_hidden_state
        assert torch.allclose(model.eval().model.tower(pictures()), whole[:, 1:], atol=1e-6)
    with pytest.raises(ConfigError, match="reads pictures of 32 pixels"):
        build(parts, tmp_path, vision="clip", language="llama", architecture="prefix", image_size=64)


def test_idefics3_of_a_tower_of_another_layout_names_what_does_not_fit(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"embeddings\.patch_embedding\.bias is missing"):
        _idefics3(parts, tmp_path, "clip")


def test_tower_with_a_tensor_missing_is_told(parts: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in (parts / "siglip").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    gone = next(name for name in weights if name.endswith("layers.1.mlp.fc1.weight"))
    save_file({name: each for name, each in weights.items() if name != gone}, broken / "model.safetensors")
    with pytest.raises(ConfigError, match=r"lacks 1 weights, .*layers\.1\.mlp\.fc1\.weight"):
        build(tmp_path, tmp_path, vision="broken", language=str(parts / "llama"))


def test_connector_of_another_checkpoint_is_taken_over_and_must_fit(parts: Path, tmp_path: Path) -> None:
    model, processor = _idefics3(parts, tmp_path, "siglip")
    with torch.no_grad():
        model.model.connector.modality_projection.proj.weight.fill_(0.5)
    save(model, processor, tmp_path / "trained")
    connector = str(tmp_path / "trained")
    other, _ = build(parts, tmp_path, vision="siglip", language="llama", connector=connector)
    assert bool((other.model.connector.modality_projection.proj.weight == 0.5).all())
    with pytest.raises(ConfigError, match=r"modality_projection\.proj\.weight is \(64, 128\)"):
        build(parts, tmp_path, vision="siglip", language="llama", connector=connector, scale_factor=1)
    with pytest.raises(ConfigError, match="no safetensors file there holds a connector"):
        build(parts, tmp_path, vision="siglip", language="llama", connector=str(parts / "llama"))


def test_language_model_that_scales_its_logits_is_refused(parts: Path, tmp_path: Path) -> None:
    size = len(own_tokenizer())
    config = CohereConfig(
        vocab_size=size, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    CohereForCausalLM(config).save_pretrained(tmp_path / "cohere")
    own_tokenizer().save_pretrained(tmp_path / "cohere")
    with pytest.raises(ConfigError, match="does more to its logits than a linear head"):
        build(parts, tmp_path, vision="siglip", language=str(tmp_path / "cohere"), architecture="prefix")


def test_language_models_of_other_kinds_go_into_a_prefix_and_not_into_idefics3(
    parts: Path, tmp_path: Path
) -> None:
    size = len(own_tokenizer())
    config = Qwen2Config(
        vocab_size=size + 40,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "qwen")
    own_tokenizer().save_pretrained(tmp_path / "qwen")
    qwen = str(tmp_path / "qwen")
    model, processor = build(parts, tmp_path, vision="siglip", language=qwen, architecture="prefix")
    assert model.get_input_embeddings().weight.shape[0] % 64 == 0
    assert len(processor.tokenizer) <= size + 40
    with pytest.raises(ConfigError, match="Idefics3 reads with Llama's architecture, and this is qwen2"):
        build(parts, tmp_path, vision="siglip", language=qwen)


def test_smolvlm_checkpoint_is_gone_on_from_as_an_idefics3(parts: Path, tmp_path: Path) -> None:
    model, processor = _idefics3(parts, tmp_path, "siglip")
    fields = model.config.to_dict()
    fields.pop("model_type"), fields["vision_config"].pop("model_type")
    theirs = SmolVLMForConditionalGeneration(SmolVLMConfig(**fields)).eval()
    theirs.load_state_dict(model.state_dict())
    save(model, processor, tmp_path / "smolvlm")
    theirs.save_pretrained(tmp_path / "smolvlm")
    config = local_sources(ModelConfig(checkpoint=str(tmp_path / "smolvlm")), tmp_path)
    loaded = build_model(config, source_processor(config).tokenizer).eval()
    inputs = processor(text=["<image>What is it?"], images=[[_noise()]], return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(loaded(**inputs).logits, theirs(**inputs).logits)
    assert type(loaded).__name__ == "Idefics3ForConditionalGeneration"


def test_tiling_makes_tags_tokens_and_the_contract_knows_it(parts: Path, tmp_path: Path) -> None:
    _, plain = _idefics3(parts, tmp_path, "siglip")
    model, tiled = build(parts, tmp_path, vision="siglip", language="llama", longest_edge=64)
    assert contract(plain) != contract(tiled)
    family = family_of(tiled)
    assert family.grid(64, 64) == (2, 2) and family.rows((2, 2)) == 5
    assert {"<row_1_col_2>", "<global-img>"} <= set(family.specials)
    inputs = tiled(text=["<image>What is it?"], images=[[_noise()]], return_tensors="pt")
    assert int((inputs["input_ids"] == tiled.image_token_id).sum()) == 5 * 4
    with torch.inference_mode():
        assert bool(model.eval()(**inputs).logits.isfinite().all())


def _noise() -> Image.Image:
    return Image.effect_noise((48, 48), 80).convert("RGB")


def test_gguf_config_is_not_written_into_the_checkpoint(parts: Path, tmp_path: Path) -> None:
    model, processor = build(parts, tmp_path, vision="siglip", language="gguf")
    save(model, processor, tmp_path / "saved")
    written = (tmp_path / "saved" / "config.json").read_text()
    assert "gguf" not in written and str(parts) not in written


def test_tower_with_another_grid_than_its_config_promises_is_refused(parts: Path, tmp_path: Path) -> None:
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
    )
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    (tmp_path / "resnet" / "preprocessor_config.json").write_bytes(
        (parts / "siglip" / "preprocessor_config.json").read_bytes()
    )
    fields = {"architecture": "prefix", "language": "llama", "scale_factor": 1}
    with pytest.raises(ConfigError, match="makes 64 patches of a picture of 64 pixels, not 2 × 2"):
        build(parts, tmp_path, vision=str(tmp_path / "resnet"), image_size=64, **fields)


def test_chatml_is_what_the_language_model_was_taught_with_our_names(parts: Path, tmp_path: Path) -> None:
    _, processor = build(parts, tmp_path, vision="siglip", language="llama", chat="chatml")
    chat = processor.apply_chat_template(messages("What is it?", "Red.", image=False))
    taught = f"{OWN_START}user\nWhat is it?{OWN_END}\n{OWN_START}assistant\nRed.{OWN_END}\n"
    assert processor.tokenizer(chat)["input_ids"] == own_tokenizer()(taught)["input_ids"]
    asked = processor.apply_chat_template(messages("What is it?"), add_generation_prompt=True)
    assert asked == f"{OWN_START}user\n<image>What is it?<end_of_utterance>\n{OWN_START}assistant\n"
    save(*build(parts, tmp_path, vision="siglip", language="llama", chat="chatml"), tmp_path / "saved")
    assert load_processor(tmp_path / "saved").chat_template == processor.chat_template
