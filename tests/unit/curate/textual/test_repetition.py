"""Repetition and documents: Gopher's and FineWeb's rules, each with a text that breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.text import DocumentRules, RepetitionRules
from components.curate.textual.documents import find_document_problem
from components.curate.textual.repetition import duplicates, find_repetition

PROSE = (
    "The lifecycle of a model begins with its data. Somebody has to collect pictures, look at what is wrong "
    "with them, and throw a good part of them away. What is left is weighed against other sources.\n"
    "Training comes next, and it is the part that people talk about most, although it takes the least of "
    "their time. A release is then compared with the one before it, on questions that neither has seen.\n"
    "When the comparison goes badly, the old release stays. Nobody is woken up for that, and this is the "
    "whole point of having written everything down."
)


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("tree tree tree tree tree lake", "'tree' is 5 of 6 words"),
        ("so good" + "!" * 81, "more than 80 times '!'"),
        ("\n".join(["one line that comes again"] * 12 + ["another"]), "lines are repeats"),
        ("\n\n".join([PROSE[:150]] * 5 + [PROSE]), "paragraphs are repeats"),
        ("buy now at our shop and " * 30, "makes up"),
        (" ".join(f"{n} is a number that follows {n - 1}" for n in range(30)), "makes up"),
        (PROSE + " " + PROSE[:250], "seen before"),
    ],
)
def test_repetition_is_found(text: str, evidence: str) -> None:
    assert evidence in find_repetition(text, RepetitionRules())


@pytest.mark.parametrize(
    "text", [PROSE, "", "yes", "no no no", "the cat on the mat by the door", "2, 4, 6, 8, 10, 12"]
)
def test_repetition_is_not_seen_in_prose_and_answers(text: str) -> None:
    assert find_repetition(text, RepetitionRules()) == ""


def test_repetition_by_ngrams_is_not_judged_where_switched_off() -> None:
    text = "buy now at our shop and " * 30
    assert find_repetition(text, RepetitionRules(min_words=0)) == ""


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=30))
def test_duplicates_count_what_a_set_does_not_hold(parts: list[str]) -> None:
    num, chars = duplicates(parts)
    assert num == len(parts) - len(set(parts))
    assert chars == sum(map(len, parts)) - sum(map(len, set(parts)))


@given(st.text(max_size=400))
def test_repetition_and_documents_judge_any_text(text: str) -> None:
    assert isinstance(find_repetition(text, RepetitionRules(min_words=1)), str)
    assert isinstance(find_document_problem(text, DocumentRules(words=(0, 100))), str)


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("a duck", "2 words"),
        ("ab c d " * 40, "words of"),
        (PROSE.replace(" ", " # "), "hash signs"),
        ("\n".join(f"- {line}" for line in PROSE.replace("\n", " ").split(". ")), "lines are bullets"),
        (PROSE.replace(".", " ...").replace("\n", "\n\n"), "ellips"),
        (PROSE.replace(" ", " 1234 567 "), "have a letter"),
        ("lorem ipsum dolor sit amet " * 20, "stop words"),
        (PROSE.replace(". ", "\n").replace(".", ""), "end a sentence"),
        ("\n".join(f"{word} is the word." for word in PROSE.split()), "are short"),
    ],
)
def test_document_problem_is_found(text: str, evidence: str) -> None:
    assert evidence in find_document_problem(text, DocumentRules())


def test_document_of_prose_is_kept() -> None:
    assert find_document_problem(PROSE, DocumentRules()) == ""
