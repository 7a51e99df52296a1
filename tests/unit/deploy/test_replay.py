"""Which questions the canary asks, and in which order."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chat_server import Said, serve

from components.artifacts import Dataset
from components.config import DeployConfig
from components.deploy import vllm
from components.deploy.replay import Question, ask, choose, connect, most_images
from components.loader import SLOT, Sample, Turn, read_samples

TURNS = (Turn("Hello?", "hi"), Turn(f"Is {SLOT} like {SLOT}?", "no"), Turn("Sure?", "yes"))


def test_choose_asks_every_image_once_before_any_twice(tiny_dataset: Dataset) -> None:
    samples = read_samples(tiny_dataset, "test")
    assert max(Counter(each.key for each in choose(samples, len(samples), seed=0)).values()) == 1


def test_choose_more_than_there_are_repeats_evenly_and_is_seeded(tiny_dataset: Dataset) -> None:
    samples = read_samples(tiny_dataset, "test")
    distinct = sum(len(sample.turns) for sample in samples)
    chosen = choose(samples, 3 * distinct, seed=1)
    assert set(Counter((each.key, each.question) for each in chosen).values()) == {3}
    assert chosen == choose(samples, 3 * distinct, seed=1)
    assert chosen != choose(samples, 3 * distinct, seed=2)


def test_choose_mix_does_not_drift_over_the_steps(tiny_dataset: Dataset) -> None:
    chosen = choose(read_samples(tiny_dataset, "test"), 3000, seed=0)
    shares = [sum(each.group.startswith("vqa") for each in chosen[at : at + 1000]) for at in (0, 1000, 2000)]
    assert max(shares) - min(shares) < 80


def test_choose_without_images_gives_nothing() -> None:
    assert choose([], 10, seed=0) == []


def test_choose_from_a_chat_asks_only_turns_that_show_an_image() -> None:
    chat = Sample("chat", "vqa", "", "test", (b"one", b"two"), TURNS, chat=True)
    assert {each.question for each in choose([chat], 10, seed=0)} == {TURNS[1].question, "Sure?"}
    assert most_images([chat, Sample("text", "vqa", "", "test", (), TURNS[:1])]) == 2


def _sent(question: Question) -> list[dict[str, Any]]:
    """The messages that reach a server when the question is asked."""
    chunk = {
        "id": "x",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": "no"}}],
    }
    stream = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"

    async def asked(endpoint: str) -> None:
        async with connect(endpoint, DeployConfig()) as client:
            (attempt,) = await ask(client, question, DeployConfig())
        assert attempt.answered and attempt.prediction == "no"

    reply = Said(raw=stream, headers={"content-type": "text/event-stream"})
    with serve(lambda body: reply) as server:
        asyncio.run(asked(server.base_url))
    (body,) = server.seen
    messages: list[dict[str, Any]] = body["messages"]
    return messages


def _shown(message: dict[str, Any]) -> list[str]:
    """Its texts, and the bytes of its images."""
    return [
        part["text"]
        if part["type"] == "text"
        else base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,")).decode()
        for part in message["content"]
    ]


def test_ask_sends_the_image_before_a_plain_question(tiny_dataset: Dataset) -> None:
    question = choose(read_samples(tiny_dataset, "test"), 1, seed=0)[0]
    (message,) = _sent(question)
    image, text = message["content"]
    assert message["role"] == "user"
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": question.question}


def test_ask_sends_every_image_in_its_place_behind_the_chat_so_far() -> None:
    chat = Sample("chat", "vqa", "", "test", (b"one", b"two"), TURNS, chat=True)
    (question,) = {
        each.question: each for each in choose([chat], 9, seed=0) if each.question == "Sure?"
    }.values()
    sent = _sent(question)
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert [_shown(message) for message in sent] == [
        ["Hello?"],
        ["hi"],
        ["Is ", "one", " like ", "two", "?"],
        ["no"],
        ["Sure?"],
    ]


def test_server_takes_as_many_images_as_a_prompt_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "interpreter", lambda environment: Path("python"))
    command = vllm.command(tmp_path, 80, DeployConfig(), images=3)
    assert json.loads(command[command.index("--limit-mm-per-prompt") + 1]) == {"image": 3}
