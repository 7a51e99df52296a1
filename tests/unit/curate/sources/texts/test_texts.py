"""Texts: exchanges that the documents answer, and pieces drawn in fonts that are held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_sources as tiny
from hypothesis import given
from hypothesis import strategies as st
from reader_cases import Case

from components.curate.samples import Draft
from components.curate.sources.texts.documents import cut, drawable, resolve_overstrikes
from components.curate.sources.texts.lettering import FAMILIES, draw_text
from components.errors import ConfigError, SourceError


def _answers(drafts: list[Draft], about: str) -> set[str]:
    """Answers to the questions that name something."""
    return {turn.answer for draft in drafts for turn in draft.turns if about in turn.question}


def test_wordnet_asks_for_words_with_one_meaning(case: Callable[[str], Case]) -> None:
    drafts = case("wordnet").plan()
    assert _answers(drafts, "“dein”") == {"a thing called dein", "darm"}
    assert _answers(drafts, "“bank”") == set()
    assert all(draft.payload == {} and draft.label == draft.facts["topic"] for draft in drafts)


def test_fortunes_ask_for_the_author_who_stands_there(case: Callable[[str], Case]) -> None:
    drafts = case("fortunes").plan()
    said = 'Wise words 0.3 that run over two lines. -- Author 3, "Work 0"'
    assert _answers(drafts, said) == {"Author 3"}
    assert _answers(drafts, "What is tao?") == {"It is 3."}
    assert {draft.label for draft in drafts} >= {"art", "tao"}


def test_fortunes_are_read_as_a_printer_shows_them(case: Callable[[str], Case]) -> None:
    drafts = case("fortunes").plan()
    assert _answers(drafts, "It is not 3. -- René Thom") == {"René Thom"}
    assert not any("\b" in turn.question or "\\" in turn.question for each in drafts for turn in each.turns)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("*____\b\b\b\bonly* ones", "*only* ones"),
        ("_\bN-1 and I\bI", "N-1 and I"),
        ("a \b\b_\b_", "a "),
        ("Jos'\be, `\ba, R\"\bath, t^\boves, ,\bca", "José, à, Räth, tôves, ça"),
        ("x\by", "y"),
        ("\b\bat the\nbeginning\a", "at the\nbeginning"),
        ("it's snake_case, 'e'", "it's snake_case, 'e'"),
    ],
)
def test_overstrikes_show_the_letter_on_top(text: str, shown: str) -> None:
    assert resolve_overstrikes(text) == shown


def test_manuals_are_asked_for_what_their_pages_say(case: Callable[[str], Case]) -> None:
    drafts = case("mallard").plan()
    assert _answers(drafts, "“Trick 7”") == {"Learn trick 7.", "Trick 7 is done with both hands."}
    assert _answers(drafts, "“Trick 7: After”") == {"Wash hands 7 times."}
    assert _answers(drafts, "“Trick 7: List”") == set()  # a list that is not there
    office = case("office").plan()
    assert _answers(office, "“Function 5 & more”") == {"Returns the 5th value."}


def test_conversations_take_the_first_answer_in_english(case: Callable[[str], Case]) -> None:
    drafts = case("chatterbot").plan()
    assert _answers(drafts, "What is 4?") == {"A number."}
    assert _answers(drafts, "Do you like 4?") == {"Very much."}
    assert not _answers(drafts, "Was?")


@pytest.mark.parametrize("name", ["wordnet", "fortunes", "mallard", "office", "chatterbot"])
def test_texts_hold_out_whole_documents_and_long_exchanges(case: Callable[[str], Case], name: str) -> None:
    splits: dict[str, set[str]] = {}
    for draft in case(name).plan():
        splits.setdefault(draft.facts["document"], set()).add(draft.split)
    assert all(len(each) == 1 for each in splits.values())
    assert all(
        len(turn.question) + len(turn.answer) <= 45
        for draft in case(name).plan(max_chars=45)
        for turn in draft.turns
    )


@pytest.mark.parametrize("name", ["wordnet, drawn", "fortunes, drawn", "mallard, drawn"])
def test_texts_drawn_are_held_out_by_text_and_by_font(case: Callable[[str], Case], name: str) -> None:
    drafts = case(name).plan()
    assert all(draft.turns[0].answer == draft.payload["text"] == draft.facts["text"] for draft in drafts)
    assert len({draft.payload["text"] for draft in drafts}) == len(drafts)
    fonts = {group: {d.facts["font"] for d in drafts if d.group == group} for group in ("", "unseen_fonts")}
    assert fonts["unseen_fonts"] == {"STIX"} and "STIX" not in fonts[""]
    assert all(draft.payload["font"] in FAMILIES[draft.facts["font"]] for draft in drafts)
    other = case(name).plan(unseen_fonts=["Aileron", "DejaVu Serif"])
    assert {d.facts["font"] for d in other if d.group == "unseen_fonts"} <= {"Aileron", "DejaVu Serif"}


def test_texts_that_two_documents_share_belong_to_the_held_out_one(case: Callable[[str], Case]) -> None:
    drafts = case("chatterbot, drawn").plan()
    shared = [draft for draft in drafts if draft.payload["text"] == "A number."]
    assert [draft.split for draft in shared] == ["test"]


@pytest.mark.parametrize("fonts", [["Helvetica"], list(FAMILIES)])
def test_texts_with_fonts_that_cannot_be_held_out_are_refused(
    case: Callable[[str], Case], fonts: list[str]
) -> None:
    with pytest.raises(ConfigError, match="cannot be held out"):
        case("wordnet, drawn").plan(unseen_fonts=fonts)


def test_texts_of_an_unknown_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no texts of a known format"):
        Case("texts", {"data": tiny.maps(tmp_path)}).plan()


def _ink(text: str, font: str, size: int, slack: tuple[float, float]) -> tuple[int, int, int, int] | None:
    black, white = (0, 0, 0), (255, 255, 255)
    page = draw_text(text, font, size=size, largest=0.4, slack=slack, ink=black, paper=white)
    return page.convert("L").point(lambda value: 255 * (value < 128)).getbbox()


@pytest.mark.parametrize("font", [style for styles in FAMILIES.values() for style in styles])
def test_lettering_of_every_font_draws_all_characters_inside(font: str) -> None:
    for slack in ((0.0, 0.0), (1.0, 1.0)):
        box = _ink("Quick (brown) fox; jumps: 10 dogs!", font, 128, slack)
        assert box is not None
        assert box[0] > 0 and box[1] > 0 and box[2] < 128 and box[3] < 128
        assert box[2] - box[0] > 60 and box[3] - box[1] > 25
    blank = {character for character in "AZaz09.,;:!?()'-" if _ink(character, font, 32, (0, 0)) is None}
    assert not blank


def test_lettering_of_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match="do not fit in 32 pixels"):
        _ink("Donaudampfschifffahrt", "DejaVuSans.ttf", 32, (0, 0))


TEXT = st.lists(st.text("abcXYZ.,", min_size=1, max_size=9), max_size=30).map(" ".join)


@given(TEXT, st.integers(1, 6), st.integers(8, 24))
def test_cut_gives_pieces_of_whole_words_in_order_within_the_bounds(text: str, least: int, most: int) -> None:
    pieces = list(cut(text, least=least, most=most))
    assert all(least <= len(piece) <= most for piece in pieces)
    rest = iter(text.split())
    assert all(word in rest for piece in pieces for word in piece.split())


def test_cut_leaves_out_nothing_but_what_is_too_long_or_too_short() -> None:
    text = "the quick brown incomprehensibilities fox jumps over it"
    assert list(cut(text, least=3, most=12)) == ["the quick", "brown", "fox jumps", "over it"]
    assert list(cut(text, least=8, most=12)) == ["the quick", "fox jumps"]


@pytest.mark.parametrize(
    ("text", "known"), [("It's 5 (or 6).", True), ("naïve", False), ("a\\b", False), ("", False)]
)
def test_drawable_text_is_what_all_fonts_have(text: str, known: bool) -> None:
    assert drawable(text) == known
