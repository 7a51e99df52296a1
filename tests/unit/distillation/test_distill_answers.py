"""The teacher's answers: asked once, kept with the run, counted where they fail; training questions only."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Said, prompt_of, serve
from PIL import Image

from components.artifacts import Checkpoint, Dataset
from components.config import DistillConfig, Execution
from components.distillation import Answers, teacher_answers
from components.distillation import answers as answering
from components.errors import ConfigError, ServerError
from components.loader import SLOT, Sample, Turn, read_samples
from components.vlm import Generation, Prompt

CATEGORIES = ("vqa", "caption", "digits", "chart")
Ask = Callable[..., Answers]


@pytest.fixture
def ask(tiny_dataset: Dataset, tmp_path: Path) -> Ask:
    """`ask(text, run="a", categories=…, **config)`: the answers that a run gets."""

    def asked(
        text: dict[str, Any],
        *,
        run: str = "a",
        categories: Collection[str] = CATEGORIES,
        seed: int = 0,
        **config: Any,
    ) -> Answers:
        return teacher_answers(
            DistillConfig.model_validate({"text": text, **config}),
            tiny_dataset,
            categories=categories,
            execution=Execution(workspace=tmp_path, threads=1, device="cpu"),
            seed=seed,
            keep=tmp_path / f"{run}.json",
            where="pretrain.distill",
        )

    return asked


def _chat(server: ChatServer, **fields: Any) -> dict[str, Any]:
    return {"base_url": server.base_url, "model": "m", "backoff_s": 0.0, "max_retries": 0, **fields}


def _questions(dataset: Dataset) -> set[tuple[str, int]]:
    samples = read_samples(dataset, "train")
    return {(sample.key, number) for sample in samples for number in range(len(sample.turns))}


def _asked(answers: Answers) -> set[tuple[str, int]]:
    return {(key, turn) for key, said in answers.texts.items() for turn in said}


def test_endpoint_answers_every_training_question_with_its_picture(ask: Ask, tiny_dataset: Dataset) -> None:
    with serve(lambda body: Said(f" on {prompt_of(body)}\n")) as server:
        answers = ask({"chat": _chat(server), "system": "Be short."})
    samples = read_samples(tiny_dataset, "train")
    assert _asked(answers) == _questions(tiny_dataset)
    assert not answers.kept
    assert answers.metrics == {"distill/answers": 96.0}
    for sample in samples:
        taught = answers.put(sample, ())
        assert [turn.answer for turn in taught.turns] == [f"on {turn.question}" for turn in sample.turns]
        assert [turn.question for turn in taught.turns] == [turn.question for turn in sample.turns]
        assert taught.images == sample.images
    body = server.seen[0]
    assert body["messages"][0] == {"role": "system", "content": "Be short."}
    assert body["messages"][1]["content"][0]["type"] == "image_url"
    held_out = read_samples(tiny_dataset, "validation") + read_samples(tiny_dataset, "test")
    assert [answers.put(sample, ()) for sample in held_out] == held_out


def test_endpoint_that_fails_on_some_leaves_their_own_answers_and_counts_them(
    ask: Ask, tiny_dataset: Dataset
) -> None:
    def brain(body: dict[str, Any]) -> Said:
        if "digits" in prompt_of(body):
            return Said(status=400)
        return Said("red" if "color" in prompt_of(body) else "", finish_reason="stop")

    with serve(brain) as server:
        answers = ask({"chat": _chat(server)})
    assert answers.kept == {"empty": 48, "rejected": 16}
    assert answers.metrics["distill/kept/rejected"] == 16
    for sample in read_samples(tiny_dataset, "train"):
        for before, after in zip(sample.turns, answers.put(sample, ()).turns, strict=True):
            assert after.answer == ("red" if "color" in before.question else before.answer)


def test_another_run_asks_nothing_and_this_one_goes_on_with_what_it_had(ask: Ask) -> None:
    replies = {"first": True}

    def brain(body: dict[str, Any]) -> Said:
        return Said(status=400) if replies["first"] and "digits" in prompt_of(body) else Said("yes")

    with serve(brain) as server:
        text = {"chat": _chat(server)}
        first = ask(text)
        asked = len(server.seen)
        replies["first"] = False
        second = ask(text, run="b")
        assert len(server.seen) == asked + 16, "only what failed was asked again"
        assert len(_asked(second)) == 96
        assert ask(text) == first, "a run that goes on has the answers that it began with"
        assert len(server.seen) == asked + 16
    assert ask({"chat": _chat(server)}) == first, "without its endpoint, too"
    assert second.digest != first.digest


def test_share_of_questions_is_fixed_by_seed_and_grows_by_keeping(ask: Ask, tiny_dataset: Dataset) -> None:
    with serve(lambda body: Said("yes")) as server:
        chat = _chat(server)
        few = _asked(ask({"chat": chat, "share": 0.25}, run="few"))
        more = _asked(ask({"chat": chat, "share": 0.5}, run="more"))
        other = _asked(ask({"chat": chat, "share": 0.5}, run="other", seed=1))
        one = ask({"chat": chat}, run="one", categories=("vqa",))
    assert few < more < _questions(tiny_dataset)
    assert 12 < len(few) < 36 < len(more) < 60
    assert other != more
    assert {key.split("-")[0] for key in one.texts} == {"vqa"}


def test_endpoint_that_answers_nothing_stops_with_the_reasons(ask: Ask) -> None:
    with serve(lambda body: Said("")) as server:
        silent = {"chat": _chat(server)}
        with pytest.raises(ConfigError, match=r"none of the questions: \{'empty': 96\}") as error:
            ask(silent)
    assert "pretrain.distill.text" in str(error.value)
    with serve(lambda body: Said(status=500)) as server, pytest.raises(ServerError, match="is down"):
        ask({"chat": _chat(server, model="n", give_up_after=3)})


def test_answer_with_a_special_token_does_not_count() -> None:
    sample = Sample("a", "c", "", "train", (), (Turn("one?", "1"), Turn("two?", "2"), Turn("three?", "3")))
    answers = Answers({"a": {0: "uno", 1: "see <image>"}}, {})
    assert [turn.answer for turn in answers.put(sample, ("<image>",)).turns] == ["uno", "2", "3"]


def test_chats_and_texts_with_pictures_inside_keep_their_answers(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, png = Turn("What?", "own"), (b"\x89PNG",)
    samples = [
        Sample("chat", "vqa", "", "train", png, (plain, plain), chat=True),
        Sample("inside", "vqa", "", "train", png, (Turn(f"Here {SLOT}?", "own"), Turn(f"{SLOT}?", "own"))),
        Sample("features", "vqa", "", "train", (b"\x93NUMPY",), (plain,)),
        Sample("text", "vqa", "", "train", (), (plain,)),
    ]
    monkeypatch.setattr(answering, "iter_samples", lambda dataset, split: iter(samples))
    with serve(lambda body: Said("taught")) as server:
        answers = ask({"chat": _chat(server)})
    assert answers.texts == {"text": {0: "taught"}}
    assert answers.kept == {"chat": 2, "interleaved": 2, "no_picture": 1}


def test_checkpoint_is_asked_with_every_picture_in_its_place(
    ask: Ask, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tuple(sample.images[0] for sample in read_samples(tiny_dataset, "train")[:2])
    turns = (Turn(f"Is {SLOT} like {SLOT}?", "own"), Turn("How many?", "own"))
    sample = Sample("two", "vqa", "", "train", pictures, turns)
    asked = list[Prompt]()

    def generate(model: Any, processor: Any, prompts: Any, **options: Any) -> list[Generation]:
        asked.extend(prompts)
        return [Generation(str(number), (1,), ended=True) for number in range(len(prompts))]

    monkeypatch.setattr(answering, "iter_samples", lambda dataset, split: iter([sample]))
    monkeypatch.setattr(answering, "generate", generate)
    answers = ask({"max_new_tokens": 7}, teacher=str(tiny_checkpoint.path))
    assert answers.texts == {"two": {0: "0", 1: "1"}} and not answers.kept
    for turn, prompt in enumerate(asked):
        assert prompt.messages == sample.asked(turn).messages
        assert [image.tobytes() for image in prompt.images] == [
            Image.open(io.BytesIO(picture)).convert("RGB").tobytes() for picture in pictures
        ]


def test_checkpoint_answers_once_and_only_what_it_ends_counts(
    ask: Ask, tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    def generate(model: Any, processor: Any, prompts: Any, **options: Any) -> list[Generation]:
        questions = [str(prompt.messages) for prompt in prompts]
        asked.extend(questions)
        assert all([image.mode for image in prompt.images] == ["RGB"] for prompt in prompts)
        assert options["max_new_tokens"] == 7
        return [
            Generation("" if "red" in each else "seen", (1,), ended="digits" not in each)
            for each in questions
        ]

    monkeypatch.setattr(answering, "generate", generate)
    text, teacher = {"max_new_tokens": 7}, {"teacher": str(tiny_checkpoint.path)}
    first = ask(text, **teacher)
    assert first.kept == {"empty": 16, "truncated": 16}
    assert len(asked) == 96
    assert ask(text, run="b", **teacher) == first
    assert len(asked) == 96
    ask({"max_new_tokens": 7, "share": 0.5}, run="c", **teacher)
    assert len(asked) == 96, "a part of what is known is known"


def test_checkpoint_that_never_ends_an_answer_is_an_error(ask: Ask, tiny_checkpoint: Checkpoint) -> None:
    """A random model, really asked."""
    with pytest.raises(ConfigError, match="'truncated': 96"):
        ask({"max_new_tokens": 2}, teacher=str(tiny_checkpoint.path))
