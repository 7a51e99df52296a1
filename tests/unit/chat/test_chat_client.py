"""Asking over real HTTP: order, concurrency, resumption, retries, validation, secrets."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Said, prompt_of, serve
from PIL import Image

from components.chat import ChatAnswer, ChatClient, ChatRequest
from components.config.chat import ChatConfig
from components.curate.samples import Reason
from components.errors import ConfigError, OpsinError, ServerError

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}
GOOD = '{"colour": "red"}'


def config(server: ChatServer, **fields: Any) -> ChatConfig:
    return ChatConfig(
        **{"base_url": server.base_url, "model": "m", "backoff_s": 0.0, "timeout_s": 20.0, **fields}
    )


def echo(body: dict[str, Any]) -> Said:
    return Said(f"you said {prompt_of(body)}")


def requests(number: int) -> list[ChatRequest]:
    return [ChatRequest(f"question {n}") for n in range(number)]


def test_answers_come_in_order_each_asked_once_within_the_concurrency(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def brain(body: dict[str, Any]) -> Said:
        together.wait(timeout=20)  # passes only when four requests are under way at once
        return echo(body)

    with serve(brain) as server:
        client = ChatClient(config(server, concurrency=4), cache=tmp_path / "answers.jsonl")
        answers = client.ask_many([*requests(12), *requests(3)])
    assert [each.text for each in answers if isinstance(each, ChatAnswer)] == [
        f"you said question {n}" for n in [*range(12), *range(3)]
    ]
    assert server.most_at_once == 4
    assert Counter(server.prompts()) == Counter(f"question {n}" for n in range(12))
    assert client.usage.prompt_tokens == 12 * 100
    assert client.outcomes == {"answer": 15}


def test_second_run_asks_nothing_and_gives_the_same(tmp_path: Path) -> None:
    with serve(echo) as server:
        first = ChatClient(config(server), cache=tmp_path / "answers.jsonl").ask_many(requests(5))
        again = ChatClient(config(server), cache=tmp_path / "answers.jsonl")
        assert again.ask_many(requests(5)) == first
        assert len(server.seen) == 5
    assert again.usage.completion_tokens == 5 * 20


def test_half_written_last_line_is_asked_again_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with serve(echo) as server:
        first = ChatClient(config(server, concurrency=1), cache=path).ask_many(requests(3))
        path.write_bytes(path.read_bytes()[:-20])
        assert ChatClient(config(server), cache=path).ask_many(requests(3)) == first
        assert server.prompts()[3:] == ["question 2"]
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"{nonsense\n".join([lines[0], b"".join(lines[1:])]))
        with pytest.raises(OpsinError, match="damaged"):
            ChatClient(config(server), cache=path).ask_many(requests(3))


@pytest.mark.parametrize(
    "trouble",
    [
        Said(status=500),
        Said(status=429, headers={"retry-after": "0"}),
        Said(status=503),
        Said(raw="<html>not a completion</html>"),
        Said(raw='{"choices": []}'),
    ],
    ids=["500", "429", "503", "html", "no choice"],
)
def test_passing_trouble_is_retried(tmp_path: Path, trouble: Said) -> None:
    troubles = iter([trouble, trouble])
    with serve(lambda body: next(troubles, Said("fine"))) as server:
        client = ChatClient(config(server, max_retries=2), cache=tmp_path / "answers.jsonl")
        assert client.ask_many([ChatRequest("?")]) == [ChatAnswer("fine", usage=client.usage)]
        assert len(server.seen) == 3


def test_server_that_says_when_to_come_back_is_not_asked_before(tmp_path: Path) -> None:
    busy = iter([Said(status=429, headers={"retry-after": "0.3"})])
    with serve(lambda body: next(busy, Said("fine"))) as server:
        ChatClient(config(server, concurrency=1), cache=tmp_path / "answers.jsonl").ask_many(requests(2))
    first, *others = server.times
    assert len(others) == 2
    assert min(others) - first >= 0.3  # a lower bound: a slow machine cannot fail it


def test_trouble_without_end_is_a_reason_and_is_asked_again_next_time(tmp_path: Path) -> None:
    with serve(lambda body: Said(status=500) if "bad" in prompt_of(body) else echo(body)) as server:
        client = ChatClient(config(server, max_retries=1), cache=tmp_path / "answers.jsonl")
        bad, good = client.ask_many([ChatRequest("bad"), ChatRequest("good")])
        assert isinstance(bad, Reason) and bad.code == "unavailable" and "500" in bad.evidence
        assert isinstance(good, ChatAnswer)
        server.brain = echo
        assert isinstance(client.ask_many([ChatRequest("bad")])[0], ChatAnswer)


def test_silence_is_a_timeout(tmp_path: Path) -> None:
    with serve(lambda body: Said(silent=True)) as server:
        client = ChatClient(config(server, timeout_s=0.05, max_retries=1), cache=tmp_path / "answers.jsonl")
        (answer,) = client.ask_many([ChatRequest("?")])
        assert isinstance(answer, Reason) and answer.code == "timeout"
        assert len(server.seen) == 2


def test_refused_request_is_a_reason_and_the_others_go_on(tmp_path: Path) -> None:
    def brain(body: dict[str, Any]) -> Said:
        return Said("too long", status=400) if prompt_of(body) == "question 1" else echo(body)

    with serve(brain) as server:
        answers = ChatClient(config(server), cache=tmp_path / "answers.jsonl").ask_many(requests(3))
        assert len(server.seen) == 3
    assert [type(each) for each in answers] == [ChatAnswer, Reason, ChatAnswer]
    assert isinstance(answers[1], Reason)
    assert answers[1].code == "rejected" and "too long" in answers[1].evidence


def test_key_is_sent_and_appears_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "very-secret")
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "answers.jsonl"
    with serve(echo) as server:
        keyed = config(server, api_key_env="TEACHER_KEY")
        ChatClient(keyed, cache=path).ask_many(requests(1))
        assert server.headers[0]["authorization"] == "Bearer very-secret"
        server.brain = lambda body: Said("wrong key very-secret", status=401)
        with pytest.raises(ConfigError, match="api_key_env") as refused:
            ChatClient(keyed, cache=path).ask_many(requests(40))
        assert len(server.seen) < 40  # nobody goes on asking with a key that is refused
    for place in (str(refused.value), path.read_text(), caplog.text, repr(keyed)):
        assert "very-secret" not in place


def test_missing_key_is_named_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with serve(echo) as server:
        client = ChatClient(config(server, api_key_env="TEACHER_KEY"), cache=tmp_path / "answers.jsonl")
        with pytest.raises(ConfigError, match="TEACHER_KEY is not set"):
            client.ask_many(requests(1))
        assert not server.seen


def test_endpoint_that_is_down_ends_the_run_and_keeps_the_answers(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with serve(echo) as server:
        down = config(server, give_up_after=3, max_retries=1, concurrency=1)
        ChatClient(down, cache=path).ask_many(requests(2))
    with pytest.raises(ServerError, match="3 requests in a row"):
        ChatClient(down, cache=path).ask_many(requests(20))
    assert len(path.read_text().splitlines()) == 2


def test_schema_is_sent_checked_and_repaired_once(tmp_path: Path) -> None:
    replies = iter(['{"color": "red"}', GOOD])
    with serve(lambda body: Said(next(replies))) as server:
        client = ChatClient(config(server), cache=tmp_path / "answers.jsonl")
        (answer,) = client.ask_many([ChatRequest("Which colour?", schema=SCHEMA)])
    assert isinstance(answer, ChatAnswer)
    assert answer.value == {"colour": "red"}
    assert answer.usage.completion_tokens == 2 * 20  # both answers are paid for
    first, repair = server.seen
    assert first["response_format"]["json_schema"]["schema"] == SCHEMA
    assert [message["role"] for message in repair["messages"]] == ["user", "assistant", "user"]
    assert "colour" in prompt_of(repair)


@pytest.mark.parametrize(
    ("said", "code", "times"),
    [
        (Said("red"), "bad_json", 2),
        (Said('{"colour": NaN}'), "bad_json", 2),
        (Said("[" * 100_000), "bad_json", 2),
        (Said('{"colour": 7}'), "schema", 2),
        (Said('{"colour": "re', finish_reason="length"), "truncated", 1),
        (Said("", refusal="I will not"), "refusal", 1),
        (Said("", finish_reason="content_filter"), "refusal", 1),
    ],
)
def test_invalid_answer_is_a_reason_that_is_kept(tmp_path: Path, said: Said, code: str, times: int) -> None:
    with serve(lambda body: said) as server:
        client = ChatClient(config(server), cache=tmp_path / "answers.jsonl")
        request = ChatRequest("Which colour?", schema=SCHEMA)
        for _ in range(2):
            (answer,) = client.ask_many([request])
            assert isinstance(answer, Reason) and answer.code == code
        assert len(server.seen) == times
    assert client.usage.completion_tokens == times * 20


def test_empty_free_text_is_a_reason(tmp_path: Path) -> None:
    with serve(lambda body: Said(" ")) as server:
        (answer,) = ChatClient(config(server), cache=tmp_path / "answers.jsonl").ask_many(requests(1))
    assert isinstance(answer, Reason) and answer.code == "empty"


@pytest.mark.parametrize("structured", ["json_object", "prompt"])
def test_schema_goes_into_the_prompt_where_the_endpoint_takes_none(tmp_path: Path, structured: str) -> None:
    with serve(lambda body: Said(f"```json\n{GOOD}\n```")) as server:
        client = ChatClient(config(server, structured=structured), cache=tmp_path / "answers.jsonl")
        (answer,) = client.ask_many([ChatRequest("Which colour?", schema=SCHEMA)])
    assert isinstance(answer, ChatAnswer) and answer.value == {"colour": "red"}
    assert json.dumps(SCHEMA, sort_keys=True) in server.prompts()[0]
    assert ("response_format" in server.seen[0]) == (structured == "json_object")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_image_arrives_as_it_was(tmp_path: Path, kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, kind)
    with serve(echo) as server:
        ChatClient(config(server), cache=tmp_path / "answers.jsonl").ask_many(
            [ChatRequest("What is it?", images=(buffer.getvalue(),))]
        )
    picture, text = server.seen[0]["messages"][0]["content"]
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == f"data:image/{kind.lower()};base64"
    assert base64.b64decode(data) == buffer.getvalue()
    assert text["text"] == "What is it?"


@pytest.mark.parametrize("image", [b"", b"no image", b"<svg/>"])
def test_what_is_no_image_is_never_sent(tmp_path: Path, image: bytes) -> None:
    with serve(echo) as server:
        client = ChatClient(config(server), cache=tmp_path / "answers.jsonl")
        (answer,) = client.ask_many([ChatRequest("?", images=(image,))])
        assert not server.seen
    assert isinstance(answer, Reason) and answer.code == "bad_image"


def test_cache_of_another_run_is_not_shared(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"

    def brain(body: dict[str, Any]) -> Said:
        with pytest.raises(OpsinError, match="another run"):
            ChatClient(other, cache=path).ask_many(requests(1))
        return Said("done")

    with serve(brain) as server:
        other = config(server)
        (answer,) = ChatClient(other, cache=path).ask_many(requests(1))
    assert isinstance(answer, ChatAnswer)


def test_another_draw_is_another_question(tmp_path: Path) -> None:
    with serve(lambda body: Said(f"seed {body['seed']}")) as server:
        client = ChatClient(config(server, seed=7), cache=tmp_path / "answers.jsonl")
        answers = client.ask_many([ChatRequest("?", draw=draw) for draw in range(3)])
    assert [each.text for each in answers if isinstance(each, ChatAnswer)] == ["seed 7", "seed 8", "seed 9"]
