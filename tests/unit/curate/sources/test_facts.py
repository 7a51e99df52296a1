"""The older readers say what their answers derive from, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from components.config import CurateConfig
from components.curate.plan import Planned, plan_sources
from components.curate.samples import Turn
from components.curate.sources.packages import clipart, easy_vqa


@pytest.fixture
def samples(curate_config: Callable[..., CurateConfig]) -> dict[str, list[Planned]]:
    """Category → its samples, all readers on tiny packages."""
    found: dict[str, list[Planned]] = {}
    for each in plan_sources(curate_config()).samples:
        found.setdefault(each.candidate.category, []).append(each)
    return found


def test_facts_of_digits_and_shapes_are_their_answers(samples: dict[str, list[Planned]]) -> None:
    for each in samples["digits"]:
        assert each.candidate.facts["digits"] == each.candidate.turns[0].answer
    assert {each.candidate.label for each in samples["vqa"]} == {"rectangle"}
    assert samples["vqa"][0].candidate.facts == {"shape": "rectangle", "colour": "red"}


def test_facts_of_charts_and_tables_decide_their_answers(samples: dict[str, list[Planned]]) -> None:
    kinds = set()
    for each in samples["chart"]:
        facts = each.candidate.facts
        kinds.add(facts["kind"])
        answers = {turn.question: turn.answer for turn in each.candidate.turns}
        if facts["kind"] == "chart":
            heights = {name: float(facts[name]) for name in facts if name.startswith("height")}
            tallest = max(heights, key=lambda name: heights[name])
            assert answers["What colour is the tallest bar?"] in tallest
            assert answers["How many bars are there?"] == facts["bars"] == str(len(heights))
        else:
            assert answers["What is the value in row 1?"] == facts["row 1"]
            assert answers["How many rows are there?"] == facts["rows"]
    assert kinds == {"chart", "table"}


def test_facts_of_clipart_are_its_title_and_keywords(samples: dict[str, list[Planned]]) -> None:
    each = samples["clipart"][0].candidate
    assert each.facts["title"] == each.turns[0].answer and each.label == each.original_id.partition("/")[0]
    bag = "<rdf:Bag><rdf:li>Frog</rdf:li> <rdf:li>frog</rdf:li><rdf:li>A &amp; B</rdf:li></rdf:Bag>"
    assert clipart._keywords(f"<dc:subject>{bag}</dc:subject>") == ["frog", "a & b"]
    assert clipart._keywords("<svg/>") == []


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Croissant (B &amp;amp; W)", "Croissant (B & W)"),
        ("Gelato all&amp;#39;italiana", "Gelato all'italiana"),
        ("Black &amp; white", "Black & white"),
        ("AT&T", "AT&T"),
    ],
)
def test_titles_of_clipart_are_unescaped_however_often_they_were_escaped(written: str, title: str) -> None:
    assert clipart._plain(written) == title


def test_facts_that_the_answers_do_not_agree_on_are_left_out() -> None:
    turns = [Turn("What shape is in the image?", "circle"), Turn("What color is the triangle?", "red")]
    assert easy_vqa._facts(turns) == {"colour": "red"}
    assert easy_vqa._facts([Turn("Is there a red shape?", "no")]) == {}
