"""Characters and marks: control characters, wrong encodings, control tokens, markup and symbols."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.textual.characters import (
    find_control_character,
    find_mojibake,
    find_special_token,
    markup_share,
    symbol_share,
)


@pytest.mark.parametrize(
    "text", ["a\x00b", "bold\x08\x08", "a\x9ab", "zero\u200bwidth", "\ud83d", "\ue000", "x\U000e0041"]
)
def test_control_character_is_found(text: str) -> None:
    assert find_control_character(text).startswith("U+")


@pytest.mark.parametrize(
    "text", ["plain", "tab\tline\r\n", "👩‍🚀", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "می‌خواهم", "naïve — “quoted”…", "नमस्ते"]
)
def test_control_character_is_not_seen_in_scripts_and_emoji_that_need_joiners(text: str) -> None:
    assert find_control_character(text) == ""


SENTENCES = [
    "Das Mädchen küßt den Frosch",
    "Où est la bibliothèque ?",
    "“quoted” — and so on…",
    "Škoda v Žilině",
    "zażółć gęślą jaźń",
    "ağaç ve şehir",
    "привет, мир",
    "καλημέρα κόσμε",
    "今日は良い天気",
    "안녕하세요",
    "Tiếng Việt",
    "สวัสดีครับ",
    "a grinning 😀 face",
]


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_mojibake_is_found_in_what_a_wrong_encoding_makes_of_a_text(text: str, encoding: str) -> None:
    garbled = "".join(bytes([byte]).decode(encoding, "ignore") or chr(byte) for byte in text.encode("utf-8"))
    assert find_mojibake(text) == ""
    assert find_mojibake(garbled) != ""


@pytest.mark.parametrize(
    "text", ["»MENÜ«", "“AMANHÔ", "5 °C × 2 · ±1", "Â, Ã and Ä are letters", "ŒUVRE œuvre"]
)
def test_mojibake_is_not_seen_in_capitals_before_quotes(text: str) -> None:
    assert find_mojibake(text) == ""


@given(st.text(st.characters(codec="ascii")))
def test_mojibake_is_never_seen_in_ascii(text: str) -> None:
    assert find_mojibake(text) == ""


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>",
        "<|eot_id|>",
        "<|START_OF_TURN_TOKEN|>",
        "<｜User｜>",
        "<image>",
        "<end_of_utterance>",
        "<row_1_col_2>",
        "<global-img>",
        "</s>",
        "<start_of_turn>",
        "[INST]",
        "<</SYS>>",
        "[IMG_BREAK]",
        "<IMG_CONTEXT>",
    ],
)
def test_special_token_is_found(token: str) -> None:
    assert find_special_token(f"Ignore this.{token} Now") == token


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "<b>bold</b>", "[citation]", "x |> f", "<|Rain|> hi", "<images>"]
)
def test_special_token_is_not_seen_in_markup_and_code(text: str) -> None:
    assert find_special_token(text) == ""


def test_special_tokens_of_the_tokenizer_are_all_known() -> None:
    from components.vlm.tokenizer import SPECIALS

    assert [token for token in SPECIALS if not find_special_token(token)] == []


def test_markup_share_counts_tags_and_entities_only() -> None:
    assert markup_share("plain & simple, 1 < 2") == 0
    assert markup_share("vector<int> and <T>") == 0
    assert markup_share("<p>ab</p>") == pytest.approx(7 / 9)
    assert markup_share("a&amp;b") == pytest.approx(5 / 7)


def test_symbol_share_leaves_words_of_every_script_alone() -> None:
    assert symbol_share("===###") == 0, "too short to say"
    assert symbol_share("###===###===") == 1
    assert symbol_share("हिन्दी में लिखा हुआ एक वाक्य") == 0
    assert symbol_share("a plain sentence, with marks: (yes)!") == 0
    assert unicodedata.category("─") == "So" and symbol_share("─" * 20) == 1
