"""From answers to numbers."""

from __future__ import annotations

import pytest

from components.evaluate.measure import has_loop, predictions, scores
from components.evaluate.questions import Question
from components.gates.quality import Bootstrap
from components.loader import Asked
from components.vlm import Generation


def question(index: int, answer: str, group: str = "vqa/official_test") -> Question:
    key = f"k{index}"
    return Question(key, 0, group.split("/")[0], group, "What color?", answer, Asked(key, [], ()))


def said(text: str, *ids: int, ended: bool = True) -> Generation:
    return Generation(text, ids or (1, 2), ended)


@pytest.mark.parametrize("ids", [(7, 7, 7, 7), (1, 5, 6, 5, 6, 5, 6, 5, 6, 2), tuple(range(8)) * 4])
def test_loop_of_repeated_ngrams_is_seen(ids: tuple[int, ...]) -> None:
    assert has_loop(ids)


@pytest.mark.parametrize("ids", [(), (1,), (7, 7, 7), (5, 6, 5, 6, 5, 6), (1, 2, 3, 4, 5, 6, 7, 8, 9)])
def test_loop_in_ordinary_text_is_not_seen(ids: tuple[int, ...]) -> None:
    assert not has_loop(ids)


def test_predictions_hold_model_and_blind_answers_side_by_side() -> None:
    frame = predictions([question(0, "red")], [said("Red.")], {"vqa": {"What color?": "blue"}})
    row = frame.iloc[0]
    assert (row["correct"], row["question_only_correct"]) == (1.0, 0.0)
    assert row["question_only_prediction"] == "blue"


def test_predictions_of_an_unknown_category_have_a_wrong_blind_answer() -> None:
    frame = predictions([question(0, "red")], [said("red")], {})
    assert frame.iloc[0]["question_only_correct"] == 0.0


def test_predictions_of_a_right_answer_with_repeats_are_no_loop() -> None:
    asked = [question(0, "7777"), question(1, "1234")]
    frame = predictions(asked, [said("7777", 7, 7, 7, 7), said("7777", 7, 7, 7, 7)], {})
    assert frame["repeats"].tolist() == [False, True]


def test_scores_count_groups_and_categories_with_several_groups() -> None:
    asked = [question(i, "red", "vqa/a") for i in range(4)] + [
        question(i, "red", "vqa/b") for i in range(4, 8)
    ]
    asked += [question(9, "red", "digits/c")]
    given = [said("red")] * 4 + [said("blue", ended=False)] * 4 + [said("red")]
    table = scores(predictions(asked, given, {}), Bootstrap(resamples=200))
    assert set(table) == {"vqa", "vqa/a", "vqa/b", "digits/c"}
    assert table["vqa/a"]["value"] == 1.0
    assert table["vqa/b"]["end_token_rate"] == 0.0
    assert table["vqa"]["value"] == table["vqa"]["gain"]["value"] == 0.5
    assert table["vqa"]["n"] == 8
    assert table["vqa/a"]["low"] < 1.0
