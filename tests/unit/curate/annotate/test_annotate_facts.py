"""Questions from facts and tables: grounded by construction, one answer each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.config.annotate import FactTemplate, TableFactsConfig
from components.curate.annotate import AnnotationInput, Proposed
from components.curate.annotate.facts import ask_facts
from components.curate.annotate.tables import ask_table, read_table
from components.curate.samples import Reason, Turn

COUNTRY = FactTemplate(question=("Which country is this?", "Name the country."), answer="{country}")
CAPITAL = FactTemplate(question=("What is the capital of {country}?",), answer="It is {capital}.")
ISLAND = FactTemplate(question=("Is it an island?",), answer="yes", when={"kind": "island|atoll"})
TEMPLATES = (COUNTRY, CAPITAL, ISLAND)
TABLE = {
    "columns": ["country", "population", "note"],
    "rows": [["Malta", "535,064", "x"], ["Iceland", 387758, "y"], ["Andorra", 79824.0, "z"]],
}


def ask(facts: dict[str, str], key: str = "a", most: int = 9) -> set[Turn]:
    return {
        each.turn for each in ask_facts(AnnotationInput(key, None, facts=facts), TEMPLATES, most=most, seed=0)
    }


def test_facts_fill_the_templates_that_fit() -> None:
    turns = ask({"country": "Malta", "capital": "Valletta", "kind": "island"})
    assert {turn.answer for turn in turns} == {"Malta", "It is Valletta.", "yes"}
    assert "What is the capital of Malta?" in {turn.question for turn in turns}


@pytest.mark.parametrize(
    ("facts", "answers"),
    [
        ({"country": "Malta"}, {"Malta"}),
        ({"country": "Malta", "capital": " "}, {"Malta"}),
        ({"country": "Chad", "kind": "landlocked island"}, {"Chad"}),
        ({"capital": "Valletta"}, set()),
        ({}, set()),
    ],
)
def test_facts_that_are_missing_or_do_not_match_skip_the_template(
    facts: dict[str, str], answers: set[str]
) -> None:
    assert {turn.answer for turn in ask(facts)} == answers


def test_facts_choose_wordings_and_templates_by_hash_not_by_order() -> None:
    facts = {"country": "Malta", "capital": "Valletta", "kind": "island"}
    chosen = [ask(facts, key=str(n), most=1) for n in range(60)]
    assert chosen == [ask(facts, key=str(n), most=1) for n in range(60)]
    assert {turn.question for turns in chosen for turn in turns} == {
        "Which country is this?", "Name the country.", "What is the capital of Malta?", "Is it an island?",
    }  # fmt: skip


def test_facts_know_the_label_and_take_braces_in_values_as_they_are() -> None:
    template = FactTemplate(question=("Which {category} is it?",), answer="{{{label}}}")
    sample = AnnotationInput(
        "a", None, label="{country} of\nsets", category="drawing", facts={"country": "x"}
    )
    assert [each.turn for each in ask_facts(sample, [template], most=1, seed=0)] == [
        Turn("Which drawing is it?", "{{country} of sets}")
    ]


def test_facts_may_have_spaces_in_their_names() -> None:
    template = FactTemplate(question=("How many digits?",), answer="{number of digits}")
    sample = AnnotationInput("a", None, facts={"number of digits": "3"})
    assert [each.turn.answer for each in ask_facts(sample, [template], most=1, seed=0)] == ["3"]


@pytest.mark.parametrize(
    "template",
    [
        {"question": ["?"], "answer": "always the same"},
        {"question": ["?"], "answer": "{country.name}"},
        {"question": ["?"], "answer": "{country!r}"},
        {"question": ["?"], "answer": "{country"},
        {"question": ["{0}"], "answer": "{country}"},
        {"question": [], "answer": "{country}"},
        {"question": ["?"], "answer": "yes", "when": {"kind": "("}},
    ],
)
def test_template_that_rests_on_nothing_or_is_malformed_is_refused(template: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FactTemplate.model_validate(template)


@given(
    st.dictionaries(st.sampled_from(["country", "capital", "kind"]), st.text(max_size=20)),
    st.text(max_size=5),
)
def test_facts_answer_nothing_that_is_not_known(facts: dict[str, str], key: str) -> None:
    for turn in ask(facts, key=key):
        answer = (
            turn.answer.removeprefix("It is ").removesuffix(".")
            if "capital of" in turn.question
            else turn.answer
        )
        known = {" ".join(value.split()) for value in facts.values()}
        assert answer in known or (answer == "yes" and facts["kind"] in ("island", "atoll"))


def table_turns(table: Any, key: str = "a", **fields: Any) -> list[Proposed] | Reason:
    text = table if isinstance(table, str) else json.dumps(table)
    return ask_table(AnnotationInput(key, None, facts={"table": text}), TableFactsConfig(**fields), seed=0)


def test_table_questions_are_of_different_kinds_and_right() -> None:
    values = {"Malta": 535064, "Iceland": 387758, "Andorra": 79824}
    seen = set()
    for n in range(80):
        found = table_turns(TABLE, key=str(n), per_sample=5)
        assert isinstance(found, list) and len({each.evidence for each in found}) == len(found) == 5
        for each in found:
            question, answer = each.turn.question, each.turn.answer
            named = [row for row in values if row in question]
            seen.add(each.evidence)
            if each.evidence == "count":
                assert answer == "3"
            elif each.evidence == "lookup":
                assert float(answer.replace(",", "")) == values[named[0]]
            elif each.evidence == "compare":
                one, other = sorted(named, key=question.index)
                assert answer == ("yes" if values[one] > values[other] else "no")
            else:
                best = max if each.evidence == "maximum" else min
                row = best(values, key=values.__getitem__)
                assert answer == row or float(answer.replace(",", "")) == values[row]
    assert seen == {"count", "lookup", "maximum", "minimum", "compare"}


def test_table_compare_says_yes_as_often_as_no() -> None:
    answers = []
    for n in range(200):
        found = table_turns(TABLE, key=str(n), kinds=["compare"])
        assert isinstance(found, list)
        answers += [each.turn.answer for each in found]
    assert 70 < answers.count("yes") < 130


def test_table_with_ties_asks_no_question_that_has_two_answers() -> None:
    tied = {"columns": ["name", "size"], "rows": [["a", 1], ["b", 1]]}
    for n in range(20):
        assert table_turns(tied, key=str(n), kinds=["maximum", "minimum", "compare"]) == []


def test_table_without_numbers_is_only_counted() -> None:
    words = {"columns": ["name", "colour"], "rows": [["a", "red"], ["b", None], ["c", True]]}
    found = table_turns(words, per_sample=9)
    assert isinstance(found, list) and [each.turn.answer for each in found] == ["3"]


def test_sample_without_a_table_gives_nothing() -> None:
    assert ask_table(AnnotationInput("a", None), TableFactsConfig(), seed=0) == []


@pytest.mark.parametrize(
    "table",
    [
        "not JSON",
        "[" * 100_000,
        "[1, 2]",
        {"columns": ["a", "b"]},
        {"columns": ["a", "b"], "rows": []},
        {"columns": ["a"], "rows": [["x"]]},
        {"columns": ["a", "b"], "rows": [["x", 1], ["y"]]},
        {"columns": ["a", "b"], "rows": [["x", 1], ["x", 2]]},
        {"columns": ["a", "b"], "rows": [["", 1]]},
        {"columns": ["a", "b"], "rows": [[str(n), n] for n in range(201)]},
    ],
)
def test_what_is_no_table_has_a_reason(table: Any) -> None:
    found = table_turns(table)
    assert isinstance(found, Reason) and found.code == "bad_table" and found.evidence


@pytest.mark.parametrize("cell", ["NaN", "Infinity", "-Infinity"])
def test_table_with_what_is_not_finite_has_no_number_column(cell: str) -> None:
    table = read_table(f'{{"columns": ["a", "b"], "rows": [["x", 1], ["y", {cell}]]}}')
    assert not isinstance(table, Reason) and table.columns == ()
