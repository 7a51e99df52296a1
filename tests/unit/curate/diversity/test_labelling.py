"""Labels by the source, by a model, and by a classifier that learned from the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import pytest
from pydantic import ValidationError

from components.chat import ChatAnswer, ChatRequest
from components.config.chat import ChatConfig
from components.config.diversity import DiversityConfig, LabellerConfig, Topic
from components.curate.diversity.distillation import can_be_learned, distil
from components.curate.diversity.labelling import Unlabelled, label_request, label_samples
from components.curate.samples import Reason
from components.errors import ConfigError

CHAT = ChatConfig(base_url="http://127.0.0.1:1/v1", model="teacher")
TAXONOMY = (
    Topic(name="nature", children=("animals", "plants"), description="what lives"),
    Topic(name="adverts", wanted=False),
)
ANIMALS = ("cat", "dog", "horse", "wolf", "sheep", "tiger", "rabbit", "elephant", "monkey", "goat")
PLANTS = ("oak tree", "rose", "tulip", "pine tree", "cactus", "daisy", "palm tree", "fern", "lily", "moss")


class Teacher:
    """A model that knows animals from plants, and fails where it is told to."""

    def __init__(self, wrong: Sequence[str] = (), silent: Sequence[str] = ()) -> None:
        self.wrong, self.silent = wrong, silent
        self.requests: list[ChatRequest] = []

    def ask_many(self, requests: Sequence[ChatRequest], title: str = "") -> list[ChatAnswer | Reason]:
        self.requests += requests
        return [self.answer(request.prompt) for request in requests]

    def answer(self, prompt: str) -> ChatAnswer | Reason:
        text = prompt.rpartition("Text of the sample:\n")[2]
        if any(word in text for word in self.silent):
            return Reason("refusal")
        animal = any(word in text for word in ANIMALS) != any(word in text for word in self.wrong)
        label = "nature/animals" if animal else "nature/plants"
        return ChatAnswer(json.dumps({"label": label}), {"label": label})


def samples() -> list[Unlabelled]:
    places = ("in a field", "on a hill", "by the river", "at night", "in the snow", "seen from above")
    things = [f"a {thing} {place}" for thing in (*ANIMALS, *PLANTS) for place in places]
    return [Unlabelled(f"key-{index}", text) for index, text in enumerate(things)]


def config(**labeller: object) -> DiversityConfig:
    settings = {"chat": CHAT, "samples": 60, "min_macro_f1": 0.8, "min_confidence": 0.5} | labeller
    return DiversityConfig(taxonomy=TAXONOMY, labeller=LabellerConfig.model_validate(settings))


def test_source_labels_are_mapped_and_the_longest_pattern_wins() -> None:
    mapped = DiversityConfig(
        taxonomy=TAXONOMY,
        source_labels={"animals*": "nature/animals", "*": "nature/other", "animals, stuffed": "adverts"},
    )
    given = ["animals, wild", "animals, stuffed", "weather", ""]
    labelling = label_samples([Unlabelled(name, "text", name) for name in given], mapped, seed=0, threads=1)
    assert [label.name for label in labelling.labels] == [
        "nature/animals",
        "adverts",
        "nature/other",
        "other",
    ]
    assert [label.origin for label in labelling.labels] == ["source"] * 3 + ["none"]
    assert labelling.gate is None


def test_classifier_learns_from_a_subset_and_labels_the_rest() -> None:
    teacher, all_samples = Teacher(), samples()
    labelling = label_samples(all_samples, config(), seed=0, threads=2, asker=teacher)
    origins = [label.origin for label in labelling.labels]
    assert len(teacher.requests) == origins.count("model") == 60
    guessed = [
        (label.name == "nature/animals") == any(word in each.text for word in ANIMALS)
        for each, label in zip(all_samples, labelling.labels, strict=True)
        if label.origin == "classifier"
    ]
    assert len(guessed) > 50 and sum(guessed) / len(guessed) > 0.9
    assert labelling.gate is not None and labelling.gate.passed
    assert labelling.agreement is not None and labelling.agreement.num_samples == 60
    low, high = labelling.agreement.macro_f1_interval
    assert labelling.agreement.baseline_accuracy < low <= labelling.agreement.macro_f1 <= high
    again = label_samples(all_samples, config(), seed=0, threads=2, asker=Teacher())
    assert again.labels == labelling.labels


def test_gate_fails_where_the_labels_have_nothing_to_do_with_the_samples() -> None:
    labelling = label_samples(samples(), config(), seed=0, threads=1, asker=Coin())
    assert labelling.gate is not None
    assert not labelling.gate.passed and "macro-F1" in labelling.gate.observed


class Coin(Teacher):
    """Labels that have nothing to do with the sample."""

    def ask_many(self, requests: Sequence[ChatRequest], title: str = "") -> list[ChatAnswer | Reason]:
        sides = np.random.default_rng(3).integers(2, size=len(requests))
        names = [("nature/animals", "nature/plants")[side] for side in sides]
        return [ChatAnswer("", {"label": name}) for name in names]


def test_what_the_classifier_is_not_sure_of_is_other() -> None:
    labelling = label_samples(samples(), config(min_confidence=0.99), seed=0, threads=1, asker=Teacher())
    unsure = [label for label in labelling.labels if label.origin == "none"]
    assert unsure and {label.name for label in unsure} == {"other"}
    assert all(label.confidence < 0.99 for label in unsure)


def test_requests_without_an_answer_are_counted_and_left_to_the_classifier() -> None:
    labelling = label_samples(samples(), config(), seed=0, threads=1, asker=Teacher(silent=["night"]))
    assert labelling.failures.keys() == {"refusal"}
    assert sum(label.origin == "model" for label in labelling.labels) == 60 - labelling.failures["refusal"]
    assert len(labelling.labels) == len(samples())


def test_a_teacher_that_gives_one_label_teaches_nothing() -> None:
    cats = [Unlabelled(f"{number}", f"a cat with {number} mice") for number in range(80)]
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        label_samples(cats, config(), seed=0, threads=1, asker=Teacher())


def test_a_teacher_that_labelled_everything_leaves_nothing_to_learn() -> None:
    cats = [Unlabelled(f"{number}", f"a cat with {number} mice") for number in range(40)]
    labelling = label_samples(cats, config(), seed=0, threads=1, asker=Teacher())
    assert {(label.name, label.origin) for label in labelling.labels} == {("nature/animals", "model")}
    assert labelling.gate is None and labelling.agreement is None
    assert labelling.summary() == {"origins": {"model": 40}, "failures": {}}


def test_what_a_teacher_that_was_asked_everything_did_not_label_is_other_where_nothing_can_be_learned() -> (
    None
):
    cats = [Unlabelled(f"{number}", f"a cat with {number} mice") for number in range(40)]
    labelling = label_samples(cats, config(), seed=0, threads=1, asker=Teacher(silent=["with 7 mice"]))
    assert labelling.labels[7].name == "other"
    assert labelling.summary() == {"origins": {"model": 39, "none": 1}, "failures": {"refusal": 1}}


@pytest.mark.parametrize(
    ("labels", "learnable"),
    [
        (["a"] * 5 + ["b"] * 5, True),
        (["a"] * 5 + ["b"] * 4, False),
        (["a"] * 5 + ["b"] * 3 + ["c"] * 2, True),
        (["a"] * 9, False),
        ([], False),
    ],
    ids=["two", "one and a rare one", "one and rare ones together", "one", "none"],
)
def test_labels_can_be_learned_exactly_where_distilling_them_raises_nothing(
    labels: list[str], learnable: bool
) -> None:
    assert can_be_learned(labels, folds=5) == learnable
    vectors_NX = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    with nullcontext() if learnable else pytest.raises(ConfigError, match="nothing to tell apart"):
        distil(vectors_NX, labels, folds=5, seed=0)


def test_source_labels_are_not_asked_about_and_pictures_are_shown() -> None:
    own = [Unlabelled(f"own-{number}", "a cat", "animals") for number in range(5)]
    mapped = config().model_copy(update={"source_labels": {"animals": "nature/animals"}})
    teacher = Teacher()
    features = np.random.default_rng(0).normal(size=(125, 4)).astype(np.float32)
    labelling = label_samples(
        [*own, *samples()],
        mapped,
        seed=0,
        threads=1,
        asker=teacher,
        load_image=lambda place: b"picture %d" % place,
        features_ND=features,
    )
    assert [label.origin for label in labelling.labels[:5]] == ["source"] * 5
    assert {int(request.images[0].split()[1]) for request in teacher.requests} <= set(range(5, 125))


def test_request_offers_every_label_and_nothing_else() -> None:
    request = label_request("x" * 5000, b"", config())
    assert request.schema is not None
    assert request.schema["properties"]["label"]["enum"] == [
        "nature/animals", "nature/plants", "nature/other", "adverts", "other",
    ]  # fmt: skip
    assert "nature/plants: what lives" in request.prompt and len(request.prompt) < 2500
    assert request.images == ()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"source_labels": {"a": "nature/birds"}}, "not in the taxonomy: nature/birds"),
        ({"source_labels": {"a": "nature"}}, "not in the taxonomy: nature"),
        ({"caps": {"sports": {"max_share": 0.1}}}, "not in the taxonomy: sports"),
        ({"taxonomy": [{"name": "other"}]}, "`other` is there already"),
        ({"taxonomy": [{"name": "a", "children": ["b", "b"]}]}, "children must differ"),
        ({"taxonomy": [{"name": "a", "children": ["b/c"]}]}, "there are two levels"),
        ({"taxonomy": [{"name": "a"}, {"name": "a"}]}, "names must differ"),
    ],
)
def test_taxonomy_that_contradicts_itself_is_refused(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        DiversityConfig.model_validate({"taxonomy": TAXONOMY} | fields)
