"""Scores by a CLIP or SigLIP directory, and what scores reject."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from components.config.scorers import AlignmentConfig
from components.curate.samples import Turn
from components.curate.scorers.alignment import build_scorer, find_misaligned, score_alignment
from components.curate.scorers.contrastive import Contrastive
from components.curate.scorers.pairs import Pairs, text_of
from components.errors import ConfigError

WORDS = ["<pad>", "<unk>", "<eos>", "a", "red", "blue", "picture", "of", "nothing"]
VISION = {"image_size": 16, "patch_size": 8, "hidden_size": 16, "intermediate_size": 16} | dict.fromkeys(
    ("num_hidden_layers", "num_attention_heads"), 1
)
TEXT = {
    "vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 1, "max_position_embeddings": 8, "pad_token_id": 0, "bos_token_id": 2,
    "eos_token_id": 2, "projection_size": 16,
}  # fmt: skip


def save(directory: Path, kind: str) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)).save_pretrained(
                directory
            )
            CLIPImageProcessorPil(
                size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
            ).save_pretrained(directory)
        elif kind == "siglip":
            SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION)).save_pretrained(directory)
            SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(directory)
        else:
            sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
            BertModel(BertConfig(vocab_size=9, num_attention_heads=1, **sizes)).save_pretrained(directory)
            CLIPImageProcessorPil().save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>"
    ).save_pretrained(directory)
    return directory


PAIRS = Pairs(
    [Image.new("RGB", (20, 30), colour) for colour in ("red", "blue", "green")],
    ["a red picture", "a blue picture of nothing", "a " * 40],
    ["s"] * 3,
    ["1", "2", "3"],
)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_dual_encoder_gives_the_cosines_that_the_model_itself_gives(kind: str, tmp_path: Path) -> None:
    directory = save(tmp_path, kind)
    config = AlignmentConfig(categories=("photo",), model=str(directory))
    scores = score_alignment(PAIRS, config, seed=0, threads=1)
    model = (CLIPModel if kind == "clip" else SiglipModel).from_pretrained(directory).eval()
    processor = CLIPImageProcessorPil if kind == "clip" else SiglipImageProcessorPil
    pixels = processor.from_pretrained(directory)(images=list(PAIRS.images), return_tensors="pt")
    tokens = PreTrainedTokenizerFast.from_pretrained(directory)(
        list(PAIRS.texts), padding="max_length", truncation=True, max_length=8, return_tensors="pt"
    )
    tokens.pop("token_type_ids", None)
    with torch.inference_mode():
        output = model(pixel_values=pixels["pixel_values"], **tokens)
    expected = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
    assert scores == pytest.approx(expected.tolist(), abs=1e-4)
    assert len(set(scores)) == 3


def test_directory_that_is_no_dual_encoder_is_refused(tmp_path: Path) -> None:
    config = AlignmentConfig(categories=("photo",), model=str(save(tmp_path, "bert")))
    with pytest.raises(ConfigError, match=r"BertModel.* does not embed pictures and texts"):
        score_alignment(PAIRS, config, seed=0, threads=1)


def test_directory_without_a_model_is_refused_and_named(tmp_path: Path) -> None:
    config = AlignmentConfig(categories=("photo",), model=str(tmp_path))
    with pytest.raises(ConfigError, match="no model can be loaded") as caught:
        score_alignment(PAIRS, config, seed=0, threads=1)
    assert str(tmp_path) in caught.value.what


def test_the_corpus_trains_its_own_scorer_where_no_model_is_named() -> None:
    scorer = build_scorer(AlignmentConfig(categories=("caption",)), seed=3, threads=2)
    assert isinstance(scorer, Contrastive) and scorer.seed == 3


def test_scores_below_the_threshold_are_rejected_with_evidence() -> None:
    config = AlignmentConfig(categories=("photo",), model="clip", min_score=0.2)
    found = find_misaligned([0.1, 0.2, math.nan, 0.05], ["photo", "photo", "photo", "chart"], config)
    assert {place: (reason.code, reason.evidence) for place, reason in found.items()} == {
        0: ("misaligned", "cosine 0.100; at least 0.2")
    }


def test_lowest_share_is_rejected_in_each_category_apart() -> None:
    config = AlignmentConfig(categories=("a", "b"), drop_share=0.25)
    scores = [3.0, -1.0, -1.0, 2.0, 9.0, 8.0, 7.0, 6.0, -5.0]
    found = find_misaligned(scores, ["a"] * 4 + ["b"] * 4 + ["c"], config)
    assert {place: reason.evidence for place, reason in found.items()} == {
        2: "-1.00 nats; rank 1 of 4",
        7: "+6.00 nats; rank 1 of 4",
    }


def test_without_a_threshold_nothing_is_rejected() -> None:
    assert find_misaligned([-9.0, 0.0], ["a", "a"], AlignmentConfig(categories=("a",))) == {}


def test_two_thresholds_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="take one"):
        AlignmentConfig(categories=("a",), min_score=0.1, drop_share=0.1)


@given(st.lists(st.floats(-5, 5) | st.just(math.nan), max_size=40), st.floats(0, 0.99))
def test_rejected_share_is_exact_and_takes_the_lowest(scores: list[float], share: float) -> None:
    config = AlignmentConfig(categories=("a",), drop_share=share)
    found = find_misaligned(scores, ["a"] * len(scores), config)
    judged = [place for place, score in enumerate(scores) if not math.isnan(score)]
    assert len(found) == int(share * len(judged))
    kept = [scores[place] for place in judged if place not in found]
    assert not found or not kept or max(scores[place] for place in found) <= min(kept)


def test_text_of_a_sample_is_its_answers() -> None:
    assert text_of((Turn("What?", "a red duck"), Turn("Where?", "in a pond"))) == "a red duck in a pond"
