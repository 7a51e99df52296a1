"""Money: never overspent, whatever fails and whoever is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from chat_server import COMPLETION_TOKENS, PROMPT_TOKENS, ChatServer, Said, prompt_of, serve
from hypothesis import given
from hypothesis import strategies as st

from components.chat import ChatAnswer, ChatClient, ChatRequest
from components.chat.wire import build_body, worst_cost
from components.config.chat import ChatConfig
from components.curate.samples import Reason
from components.fingerprint import ROOT

PRICES = {"price_per_million_input": 1000.0, "price_per_million_output": 5000.0}
ONE = (PROMPT_TOKENS * 1000 + COMPLETION_TOKENS * 5000) / 1e6
"""What the server charges for one completion."""


def config(server: ChatServer, **fields: Any) -> ChatConfig:
    return ChatConfig(
        **{"base_url": server.base_url, "model": "m", "backoff_s": 0.0, "max_tokens": 100, **PRICES, **fields}
    )


def requests(number: int) -> list[ChatRequest]:
    return [ChatRequest(f"question {n}") for n in range(number)]


def test_budget_stops_before_it_is_overspent_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    cache = tmp_path / "answers.jsonl"
    with serve(lambda body: Said("yes")) as server:
        small = config(server, budget=4.0, concurrency=8)
        client = ChatClient(small, cache=cache)
        answers = client.ask_many(requests(40))
        num_first = server.num_completed
        assert 4.0 - 1.5 < num_first * ONE <= 4.0  # a worst case of room is left, not half of the money
        assert client.spent == pytest.approx(num_first * ONE)
        assert client.outcomes == {"answer": num_first, "budget": 40 - num_first}
        assert all(isinstance(each, ChatAnswer) or each.code == "budget" for each in answers)

        ChatClient(small, cache=cache).ask_many(requests(40))
        assert server.num_completed == num_first  # what was spent stays spent

        more = ChatClient(config(server, budget=100.0), cache=cache)
        assert all(isinstance(each, ChatAnswer) for each in more.ask_many(requests(40)))
        assert server.num_completed == 40
        assert more.spent == pytest.approx(40 * ONE)


def test_attempts_that_may_have_been_charged_count_at_their_most(tmp_path: Path) -> None:
    with serve(lambda body: Said(silent=True)) as server:
        lost = config(server, budget=5.0, timeout_s=0.05, max_retries=50)
        worst = worst_cost(build_body(ChatRequest("?"), lost), lost)
        client = ChatClient(lost, cache=tmp_path / "answers.jsonl")
        (answer,) = client.ask_many([ChatRequest("?")])
    assert isinstance(answer, Reason) and answer.code == "budget"
    assert len(server.seen) == int(5.0 / worst)
    assert client.spent == pytest.approx(len(server.seen) * worst)


def test_refusals_cost_nothing(tmp_path: Path) -> None:
    with serve(lambda body: Said(status=429)) as server:
        client = ChatClient(config(server, budget=1.0, max_retries=9), cache=tmp_path / "answers.jsonl")
        (answer,) = client.ask_many([ChatRequest("?")])
        assert len(server.seen) == 10
    assert isinstance(answer, Reason) and answer.code == "unavailable"
    assert client.spent == 0


def test_server_that_counts_no_tokens_is_charged_at_the_most(tmp_path: Path) -> None:
    uncounted = '{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'
    with serve(lambda body: Said(raw=uncounted)) as server:
        own = config(server, budget=10.0)
        client = ChatClient(own, cache=tmp_path / "answers.jsonl")
        client.ask_many([ChatRequest("?")])
    assert client.spent == worst_cost(build_body(ChatRequest("?"), own), own) > ONE


@given(st.text(max_size=200), st.text(max_size=50))
def test_worst_cost_covers_a_token_per_byte(prompt: str, system: str) -> None:
    priced = ChatConfig(base_url="http://127.0.0.1/v1", model="m", max_tokens=10, budget=1.0, **PRICES)
    worst = worst_cost(build_body(ChatRequest(prompt, system=system), priced), priced)
    num_bytes = len((prompt + system).encode("utf-8", "replace"))
    assert worst >= (num_bytes * 1000 + 10 * 5000) / 1e6


ASKER = """
import sys
from pathlib import Path
from components.chat import ChatClient, ChatRequest
from components.config.chat import ChatConfig

config = ChatConfig.model_validate_json(sys.argv[1])
ChatClient(config, cache=Path(sys.argv[2])).ask_many([ChatRequest(f"question {n}") for n in range(60)])
"""


def test_killed_ten_times_nothing_is_lost_and_the_budget_holds(tmp_path: Path) -> None:
    """SIGKILL at a random answer; the next run asks only what was under way."""
    cache, noise = tmp_path / "answers.jsonl", random.Random(0)
    left, reached = [0], threading.Event()

    def brain(body: dict[str, Any]) -> Said:
        left[0] -= 1
        if left[0] == 0:
            reached.set()
        return Said(f"you said {prompt_of(body)}", delay_s=0.002)

    with serve(brain) as server:
        own = config(server, budget=60.0, concurrency=4)

        def run() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", ASKER, own.model_dump_json(), str(cache)]
            return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)

        for _ in range(10):
            left[0] = noise.randint(1, 5)
            reached.clear()
            with run() as process:
                assert reached.wait(60)
                os.kill(process.pid, signal.SIGKILL)
        answers = ChatClient(own, cache=cache).ask_many(requests(60))
        times = Counter(server.prompts())
        client = ChatClient(own, cache=cache)
        assert client.ask_many(requests(60)) == answers
        assert Counter(server.prompts()) == times
    assert [each.text for each in answers if isinstance(each, ChatAnswer)] == [
        f"you said question {n}" for n in range(60)
    ]
    assert sum(times.values()) - 60 <= 10 * own.concurrency  # only what was under way was asked again
    assert server.num_completed * ONE <= client.spent <= own.budget
