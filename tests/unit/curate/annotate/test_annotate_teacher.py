"""The teacher over real HTTP: what it is asked, what becomes of its answers, and when they are guesses."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Said, prompt_of, serve
from PIL import Image
from pydantic import ValidationError

from components.chat import ChatClient, ChatRequest
from components.config.annotate import TeacherConfig
from components.curate.annotate import AnnotationInput, Proposed
from components.curate.annotate.teacher import ask_teacher, build_requests, choose_samples, find_inconsistent
from components.curate.samples import Reason, Turn

PROMPTS = [
    {"name": "text", "prompt": "Text: {ocr_text}\nNot again:\n{existing}\nAsk {turns}.", "turns": 2},
    {"name": "look", "prompt": "Look at this {category}.", "grounded": False, "categories": ["photo"]},
]


def config(server: ChatServer | None = None, **fields: Any) -> TeacherConfig:
    chat = {
        "base_url": server.base_url if server else "http://127.0.0.1:1/v1",
        "model": "m",
        "temperature": 0.7,
    }
    return TeacherConfig.model_validate({"chat": chat, "prompts": PROMPTS, **fields})


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def sample(key: str = "a", **fields: Any) -> AnnotationInput:
    return AnnotationInput(key, **{"image": png, "facts": {"ocr_text": "Grand\nHotel"}, **fields})


def built(sample: AnnotationInput) -> ChatRequest | Reason:
    """The request of the first prompt."""
    return build_requests(sample, config())[0][1]


def test_teacher_is_shown_the_picture_of_the_source_once_loaded(tmp_path: Path) -> None:
    asked: list[int] = []

    def original(side: int) -> bytes:
        asked.append(side)
        return b"large"

    shown = sample(original=original, category="photo")
    requests = [request for _, request in build_requests(shown, config(max_side=900))]
    assert [each.images for each in requests if isinstance(each, ChatRequest)] == [(b"large",)] * 2
    assert asked == [900]


def test_teacher_is_not_asked_about_a_picture_that_cannot_be_had(tmp_path: Path) -> None:
    gone = sample(original=lambda side: Reason("unreadable"))
    with serve(lambda body: Said('{"answer": "red"}')) as server:
        teacher = config(server, consistency={"draws": 2})
        client = ChatClient(teacher.chat, cache=tmp_path / "answers.jsonl")
        assert ask_teacher([gone], teacher, client).skipped == {"unreadable": 1}
        assert teacher.consistency is not None
        asked = [(each, Proposed(Turn("Which colour?", "red"), "teacher")) for each in (gone, sample("b"))]
        found = find_inconsistent(asked, teacher.consistency, client, max_side=64, threads=1)
        assert len(server.seen) == 2
    assert {place: each.evidence for place, each in found.items()} == {0: "0 of 2 agree"}


def test_prompt_is_filled_with_facts_text_and_what_is_there_already() -> None:
    request = built(sample(turns=(Turn("Who?", "She"), Turn("When?", "Now"))))
    assert isinstance(request, ChatRequest)
    assert request.prompt == "Text: Grand\nHotel\nNot again:\n- Who?\n- When?\nAsk 2."
    assert request.images == (png(),)


def test_prompt_without_its_facts_is_not_asked() -> None:
    reason = built(sample(facts={}))
    assert reason == Reason("missing_fact", evidence="ocr_text")


def test_text_alone_is_asked_about_without_a_picture() -> None:
    request = built(sample(image=None))
    assert isinstance(request, ChatRequest) and request.images == ()


def test_teacher_gives_turns_per_prompt_and_says_what_gave_nothing(tmp_path: Path) -> None:
    turns = [{"question": f"Which\n{n}?", "answer": f" {n} ", "evidence": "seen"} for n in "abc"]

    def brain(body: dict[str, Any]) -> Said:
        return Said(json.dumps({"turns": turns})) if "Text" in prompt_of(body) else Said("no JSON")

    samples = [sample("a", category="photo"), sample("b", facts={}), sample("c", category="drawing")]
    with serve(brain) as server:
        teacher = config(server)
        taught = ask_teacher(samples, teacher, ChatClient(teacher.chat, cache=tmp_path / "answers.jsonl"))
    wanted = [Proposed(Turn(f"Which {n}?", n), "teacher", "seen") for n in "ab"]
    assert taught.proposed == {"a": wanted, "c": wanted}
    assert taught.skipped == Counter(missing_fact=1, bad_json=1)


def test_samples_are_chosen_by_hash_among_those_that_a_prompt_is_for() -> None:
    samples = [sample(str(n), category="photo" if n % 2 else "chart") for n in range(40)]
    only_photos = config(prompts=[PROMPTS[1]], max_samples=5)
    chosen = choose_samples(samples, only_photos, seed=0)
    assert len(chosen) == 5 and {each.category for each in chosen} == {"photo"}
    assert choose_samples(samples[::-1], only_photos, seed=0) == chosen[::-1]
    assert len(choose_samples(samples, config(), seed=0)) == 40


@pytest.mark.parametrize(
    ("answer_of", "guesses"),
    [
        (lambda seed: "red", []),
        (lambda seed: "Red." if seed % 3 else "blue", []),
        (lambda seed: f"colour {seed}", ["red"]),
    ],
    ids=["always", "two of three", "never"],
)
def test_answers_that_vary_are_guesses(
    tmp_path: Path, answer_of: Callable[[int], str], guesses: list[str]
) -> None:
    asked = [(sample("a"), Proposed(Turn("Which colour?", "red"), "teacher"))]
    with serve(lambda body: Said(json.dumps({"answer": answer_of(body["seed"])}))) as server:
        teacher = config(server, consistency={"draws": 3, "min_agreement": 0.66})
        assert teacher.consistency is not None
        client = ChatClient(teacher.chat, cache=tmp_path / "answers.jsonl")
        found = find_inconsistent(asked, teacher.consistency, client, max_side=64, threads=1)
        assert sorted(body["seed"] for body in server.seen) == [1, 2, 3]
        assert all("Which colour?" in prompt for prompt in server.prompts())
    assert [asked[place][1].turn.answer for place in found] == guesses


@pytest.mark.parametrize(("again", "guesses"), [("a couch", []), ("a lamp", ["a sofa"])])
def test_answers_that_mean_the_same_agree_by_embedding(
    tmp_path: Path, again: str, guesses: list[str]
) -> None:
    asked = [(sample("a"), Proposed(Turn("What is it?", "a sofa"), "teacher"))]
    with serve(lambda body: Said(json.dumps({"answer": again}))) as server:
        teacher = config(server, consistency={"draws": 2, "method": "embedding"})
        assert teacher.consistency is not None
        client = ChatClient(teacher.chat, cache=tmp_path / "answers.jsonl")
        found = find_inconsistent(asked, teacher.consistency, client, max_side=64, threads=1)
    assert [asked[place][1].turn.answer for place in found] == guesses


def test_failed_draws_agree_with_nothing(tmp_path: Path) -> None:
    asked = [(sample("a"), Proposed(Turn("Which colour?", "red"), "teacher"))]
    with serve(lambda body: Said('{"answer": "red"}') if body["seed"] == 1 else Said("nonsense")) as server:
        teacher = config(server, consistency={"draws": 3})
        assert teacher.consistency is not None
        client = ChatClient(teacher.chat, cache=tmp_path / "answers.jsonl")
        found = find_inconsistent(asked, teacher.consistency, client, max_side=64, threads=1)
    assert found[0].code == "inconsistent" and found[0].evidence == "1 of 3 agree"


@pytest.mark.parametrize(
    "fields",
    [
        {"prompts": []},
        {"prompts": [PROMPTS[0], PROMPTS[0]]},
        {"prompts": [{"name": "x", "prompt": "{facts.country}"}]},
        {"chat": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}, "consistency": {}},
        {"consistency": {"prompt": "Answer."}},
    ],
    ids=["none", "same name", "malformed", "draws at temperature 0", "no question"],
)
def test_teacher_that_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**fields)
