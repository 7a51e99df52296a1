"""The question-only baseline."""

from __future__ import annotations

from pathlib import Path

from components.artifacts import Dataset
from components.evaluate.question_only import MostFrequent, Regression, accuracy, answers, fit
from components.loader import read_samples

COLOURS = ("red", "green", "blue", "grey")
TEMPLATED = [
    (f"Is there a {colour} shape?", "yes" if index < 2 else "no")
    for colour in COLOURS
    for index in range(10)  # mostly no
] + [("What shape is it?", shape) for shape in ("circle", "circle", "square")] * 5


def test_most_frequent_answers_seen_questions_by_their_majority() -> None:
    model = MostFrequent(TEMPLATED)
    assert model.predict(["Is there a red shape?", "what shape is it"]) == ["no", "circle"]


def test_most_frequent_answers_unseen_questions_by_their_neighbours() -> None:
    assert MostFrequent(TEMPLATED).predict(["Is there a purple shape?"]) == ["no"]


def test_most_frequent_does_not_depend_on_the_order_of_turns() -> None:
    tied = [("What?", answer) for answer in ("b", "a", "b", "a")]
    assert MostFrequent(tied).predict(["What?"]) == MostFrequent(tied[::-1]).predict(["What?"]) == ["a"]


def test_regression_generalizes_over_words() -> None:
    turns = [(f"Is {colour} a colour?", "yes") for colour in COLOURS]
    turns += [
        (f"Is {thing} a colour?", "no") for thing in ("iron table", "iron chair", "iron door", "iron lamp")
    ]
    assert Regression(turns).predict(["Is an iron bed a colour?"]) == ["no"]


def test_regression_of_one_answer_gives_it() -> None:
    assert Regression([("What?", "seven")]).predict(["Anything?"]) == ["seven"]


def test_fit_takes_the_better_on_validation() -> None:
    turns = [(f"Is {colour} a colour?", "yes") for colour in COLOURS]
    turns += [(f"Is {thing} a colour?", "no") for thing in ("iron table", "iron chair", "iron door")]
    validation = [("Is an iron bed a colour?", "no"), ("Is an iron lamp a colour?", "no")]
    assert accuracy(fit(turns, validation), validation) == max(
        accuracy(MostFrequent(turns), validation), accuracy(Regression(turns), validation)
    )


def test_answers_cover_every_held_out_question_and_are_cached(tmp_path: Path, tiny_dataset: Dataset) -> None:
    test = read_samples(tiny_dataset, "test")
    found = answers(tiny_dataset, test, tmp_path / "cache")
    assert {(s.category, t.question) for s in test for t in s.turns} == {
        (category, question) for category, known in found.items() for question in known
    }
    (cached,) = (tmp_path / "cache").iterdir()
    written = cached.stat().st_mtime_ns
    assert answers(tiny_dataset, test, tmp_path / "cache") == found
    assert cached.stat().st_mtime_ns == written


def test_answers_for_a_category_without_training_samples_are_none(
    tmp_path: Path, tiny_dataset: Dataset
) -> None:
    test = [s for s in read_samples(tiny_dataset, "test") if s.category == "vqa"]
    strange = [type(s)(s.key, "maps", s.group, s.split, s.images, s.turns) for s in test]
    assert answers(tiny_dataset, strange, tmp_path) == {}
