"""One round of questions: workers, attempts, the shared pause and the budget.

Retries are our own, not a library's: each attempt is charged against the budget before it is sent, and a
server that says when to come back holds back all requests, not only the one it said it to.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
from pydantic import ValidationError

from components.chat.cache import AnswerCache, Entry
from components.chat.types import ChatRequest, ChatUsage
from components.chat.wire import (
    MAX_EVIDENCE,
    MAX_RETRY_AFTER_S,
    InvalidAnswer,
    Reply,
    build_body,
    judge,
    read_reply,
    repair_body,
    retry_delay,
    worst_cost,
)
from components.config.chat import ChatConfig
from components.errors import ConfigError, OpsinError, ServerError
from components.progress import Bar

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may be answered."""
MISCONFIGURED = frozenset({401, 403, 404})
"""Statuses that every request will get."""
MAYBE_CHARGED = frozenset({502, 504})
"""A gateway's own statuses: what stands behind it may have answered, and be paid for it."""
REPAIRABLE = frozenset({"bad_json", "schema"})
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
MIN_PAUSE_S = 0.001


class _Failed(Exception):
    """A request that got no completion."""

    def __init__(self, code: str, evidence: str) -> None:
        super().__init__(f"{code}: {evidence}")
        self.code, self.evidence = code, evidence[:MAX_EVIDENCE]


class _TryAgain(Exception):
    """An attempt that failed, and may not fail again."""

    def __init__(self, code: str, evidence: str, headers: httpx.Headers, *, cost: float) -> None:
        super().__init__(f"{code}: {evidence}")
        self.code, self.evidence, self.headers, self.cost = code, evidence, headers, cost


class Asking:
    """Asks what the cache does not know yet."""

    def __init__(self, config: ChatConfig, cache: AnswerCache, title: str) -> None:
        self.config, self.cache, self.title = config, cache, title
        self._key = _api_key(config)
        self._failed: dict[str, Entry] = {}
        self._paused_until = 0.0
        self._failures_in_a_row = 0
        self._under_way = 0
        self._exhausted = False
        self._settled = asyncio.Condition()

    async def ask_all(self, wanted: Mapping[str, ChatRequest]) -> dict[str, Entry]:
        """Ask every request, by digest; gives the failures, which the cache does not keep."""
        queue = iter(wanted.items())
        authorization = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        async with httpx.AsyncClient(
            headers=authorization,
            timeout=None,  # each attempt has its own, over all of it
            limits=httpx.Limits(max_connections=self.config.concurrency),
            trust_env=httpx.URL(self.config.base_url).host not in LOCAL,  # no proxy before this machine
        ) as http:
            with Bar(self.title, total=len(wanted), unit="answer") as bar:

                async def work() -> None:
                    for key, request in queue:
                        await self._ask(http, key, request)
                        bar.advance(note=self._note())

                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(min(self.config.concurrency, len(wanted))):
                            group.create_task(work())
                except* OpsinError as errors:
                    raise _first(errors.exceptions) from None
        return self._failed

    async def _ask(self, http: httpx.AsyncClient, key: str, request: ChatRequest) -> None:
        """Ask, judge, let the model repair its answer once, keep what came of it."""
        usage = ChatUsage()
        try:
            body = build_body(request, self.config)
            reply = await self._send(http, key, body)
            usage += reply.usage
            problem = judge(reply, request.schema)
            if problem is not None and problem.code in REPAIRABLE:
                reply = await self._send(http, key, repair_body(body, reply.text, problem))
                usage += reply.usage
                problem = judge(reply, request.schema)
        except (InvalidAnswer, _Failed) as failure:
            self._failed[key] = Entry("", failure.code, failure.evidence, usage)
            return
        code, evidence = (problem.code, problem.evidence) if problem is not None else ("", "")
        self.cache.store(key, Entry(reply.text, code, evidence, usage))

    async def _send(self, http: httpx.AsyncClient, key: str, body: Mapping[str, Any]) -> Reply:
        """One request, attempted until it is answered, refused for good, or out of retries or budget."""
        worst = worst_cost(body, self.config)
        for attempt in range(self.config.max_retries + 1):
            ticket = f"{key[:16]}/{time.time_ns()}"
            await self._reserve(ticket, worst)
            cost = worst  # what is not known to be free may have been charged
            try:
                await self._wait_out_pause()
                reply = await self._attempt(http, body, worst)
                cost, self._failures_in_a_row = reply.usage.cost, 0
                return reply
            except _Failed:
                cost, self._failures_in_a_row = 0.0, 0
                raise
            except _TryAgain as failure:
                cost, last = failure.cost, failure
            finally:
                await self._settle(ticket, cost)
            delay = retry_delay(last.headers, attempt, self.config)
            if attempt == self.config.max_retries or delay > MAX_RETRY_AFTER_S:
                break
            if "retry-after" in last.headers:
                self._paused_until = max(self._paused_until, time.monotonic() + delay)
            else:
                await asyncio.sleep(delay)
        self._count_failure(last)
        raise _Failed(last.code, f"{last.evidence} (attempt {attempt + 1})")

    async def _attempt(self, http: httpx.AsyncClient, body: Mapping[str, Any], worst: float) -> Reply:
        url = f"{self.config.base_url.rstrip('/')}/chat/completions"
        try:
            async with asyncio.timeout(self.config.timeout_s):
                response = await http.post(url, json=body)
        except TimeoutError:
            raise _TryAgain(
                "timeout", f"no answer in {self.config.timeout_s} s", httpx.Headers(), cost=worst
            ) from None
        except httpx.TransportError as error:
            unsent = isinstance(error, httpx.ConnectError)
            evidence = f"{type(error).__name__}: {error}"
            raise _TryAgain("unavailable", evidence, httpx.Headers(), cost=0.0 if unsent else worst) from None
        if response.status_code == 200:
            try:
                return read_reply(response.content, self.config, worst=worst)
            except ValidationError as error:
                evidence = f"not a completion: {error.errors()[0]['msg']}"
                raise _TryAgain("unavailable", evidence, response.headers, cost=worst) from None
        evidence = self._redacted(f"status {response.status_code}: {response.text}")
        if response.status_code in RETRIED:
            cost = worst if response.status_code in MAYBE_CHARGED else 0.0
            raise _TryAgain("unavailable", evidence, response.headers, cost=cost)
        if response.status_code in MISCONFIGURED:
            raise ConfigError(
                f"the chat endpoint refuses every request: {evidence[:MAX_EVIDENCE]}",
                where=f"{url}, model {self.config.model}",
                fix="check base_url, model, and the key in the variable that api_key_env names",
            )
        raise _Failed("rejected", evidence)

    async def _reserve(self, ticket: str, worst: float) -> None:
        """Set `worst` aside; wait for requests under way where they may leave room for it."""
        if not worst:
            return
        async with self._settled:
            while not self._exhausted and self.cache.spent + worst > self.config.budget:
                if not self._under_way:
                    self._exhausted = True
                    self._settled.notify_all()
                else:
                    await self._settled.wait()
            if self._exhausted:
                raise _Failed("budget", f"{self.cache.spent:.6g} of {self.config.budget:.6g} spent")
            self._under_way += 1
            self.cache.reserve(ticket, worst)

    async def _settle(self, ticket: str, cost: float) -> None:
        if self.cache.settle(ticket, cost):
            async with self._settled:
                self._under_way -= 1
                self._settled.notify_all()

    async def _wait_out_pause(self) -> None:
        while (left := self._paused_until - time.monotonic()) > 0:
            await asyncio.sleep(max(left, MIN_PAUSE_S))

    def _count_failure(self, last: _TryAgain) -> None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self.config.give_up_after:
            raise ServerError(
                f"the chat endpoint is down: {self._failures_in_a_row} requests in a row failed; "
                f"the last: {last.evidence[:MAX_EVIDENCE]}",
                where=self.config.base_url,
                fix="bring it up and run again: what was answered is kept",
            )

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _note(self) -> str:
        failed = f"{len(self._failed)} failed" if self._failed else ""
        spent = f"{self.cache.spent:.4g} of {self.config.budget:.4g} spent" if self.config.budget else ""
        return ", ".join(filter(None, (failed, spent)))


def _api_key(config: ChatConfig) -> str:
    key = os.environ.get(config.api_key_env, "") if config.api_key_env else ""
    if config.api_key_env and not key.strip():
        raise ConfigError(
            f"the key of the chat endpoint is missing: {config.api_key_env} is not set",
            where=config.base_url,
            fix=f"export {config.api_key_env}=…, or clear api_key_env where none is wanted",
        )
    return key.strip()


def _first(errors: Iterable[BaseException]) -> BaseException:
    """One error of a group: they all say the same."""
    for error in errors:
        return _first(error.exceptions) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an empty group")
