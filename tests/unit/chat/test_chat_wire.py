"""What is sent and what is taken: identity of a request, valid answers, waiting times."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.chat import ChatRequest
from components.chat.wire import InvalidAnswer, build_body, parse_answer, retry_delay
from components.config.chat import ChatConfig

CONFIG = ChatConfig(base_url="http://127.0.0.1:1/v1", model="m")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.booleans())
def test_parse_answer_gives_back_any_json(value: Any, fenced: bool) -> None:
    text = json.dumps(value)
    assert parse_answer(f"```json\n{text}\n```" if fenced else text, {}) == value


@given(st.text())
def test_parse_answer_of_any_text_gives_a_valid_value_or_a_code(text: str) -> None:
    try:
        assert isinstance(parse_answer(text, {"type": "integer"}), int)
    except InvalidAnswer as problem:
        assert problem.code in ("bad_json", "schema")


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"}, {"temperature": 0.5}, {"top_p": 0.5}, {"max_tokens": 7}, {"seed": 1},
        {"extra_body": {"top_k": 5}},
    ],
)  # fmt: skip
def test_digest_changes_with_all_that_decides_the_answer(other: dict[str, Any]) -> None:
    request = ChatRequest("?")
    assert request.digest(CONFIG) != request.digest(CONFIG.model_copy(update=other))


def test_digest_changes_with_the_request_and_not_with_how_it_is_sent() -> None:
    request = ChatRequest("?", schema={"type": "object"})
    others = [
        ChatRequest("!", schema={"type": "object"}),
        ChatRequest("?"),
        ChatRequest("?", schema={"type": "array"}),
        ChatRequest("?", schema={"type": "object"}, images=(b"1",)),
        ChatRequest("?", schema={"type": "object"}, system="Be brief."),
        ChatRequest("?", schema={"type": "object"}, draw=1),
    ]
    digests = {each.digest(CONFIG) for each in (request, *others)}
    assert len(digests) == 1 + len(others)
    elsewhere = CONFIG.model_copy(update={"base_url": "http://other/v1", "concurrency": 3, "timeout_s": 1.0})
    assert request.digest(elsewhere) == request.digest(CONFIG)


def test_body_has_the_limit_under_the_name_that_the_endpoint_knows() -> None:
    other = CONFIG.model_copy(
        update={"max_tokens_field": "max_completion_tokens", "extra_body": {"top_k": 5}}
    )
    body = build_body(ChatRequest("?", system="Be brief."), other)
    assert body["max_completion_tokens"] == CONFIG.max_tokens and "max_tokens" not in body
    assert body["top_k"] == 5
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_half_a_surrogate_pair_can_be_sent() -> None:
    body = build_body(ChatRequest("a\ud800b", system="\udfff"), CONFIG)
    sent = json.dumps(body, ensure_ascii=False).encode()
    assert b"a?b" in sent


def test_retry_after_is_waited_out_in_seconds_and_as_a_date() -> None:
    assert 7 <= retry_delay(httpx.Headers({"retry-after": "7"}), 0, CONFIG) <= 8
    date = formatdate(time.time() + 60, usegmt=True)
    assert 50 < retry_delay(httpx.Headers({"retry-after": date}), 0, CONFIG) <= 60
    assert retry_delay(httpx.Headers({"retry-after": formatdate(0, usegmt=True)}), 0, CONFIG) == 0
    assert retry_delay(httpx.Headers({"retry-after": "soon"}), 0, CONFIG) <= CONFIG.backoff_s


@given(st.integers(0, 40))
def test_backoff_doubles_up_to_its_cap(attempt: int) -> None:
    full = min(30.0, CONFIG.backoff_s * 2.0**attempt)
    assert 0.75 * full <= retry_delay(httpx.Headers(), attempt, CONFIG) <= full


def test_priced_model_without_a_budget_is_refused() -> None:
    with pytest.raises(ValidationError, match="budget"):
        ChatConfig(base_url="http://127.0.0.1/v1", model="m", price_per_million_output=1.0)


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "http://user:secret@host/v1"])
def test_address_that_is_none_or_holds_a_password_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        ChatConfig(base_url=url, model="m")
