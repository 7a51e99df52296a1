"""The client that everything else calls: what is known is not asked, what fails has a reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from components.chat.asking import Asking
from components.chat.cache import AnswerCache, Entry
from components.chat.types import ChatAnswer, ChatRequest, ChatUsage
from components.chat.wire import parse_answer
from components.config.chat import ChatConfig
from components.reason import Reason


class ChatClient:
    """Asks one model; `cache` holds its answers and what they cost.

    Example:
        client = ChatClient(config, cache=scratch / "answers.jsonl")
        for answer in client.ask_many(requests): ...
        client.usage, client.spent, client.outcomes
    """

    def __init__(self, config: ChatConfig, *, cache: Path) -> None:
        self.config = config
        self.usage = ChatUsage()
        """What the answers given so far took, those from the cache included."""
        self.outcomes = Counter[str]()
        """`answer` or a reason code → requests, so far."""
        self.spent = 0.0
        """All that was ever charged to this cache, lost requests at their most."""
        self._cache = AnswerCache(cache)
        self._counted = set[str]()

    def ask_many(
        self, requests: Sequence[ChatRequest], title: str = "ask the model"
    ) -> list[ChatAnswer | Reason]:
        """Answers in the order of the requests; equal requests are asked once, and known ones not again.

        A request that gets no valid answer ends with a Reason: `bad_image`, `bad_json`, `schema`,
        `truncated`, `refusal`, `empty` (all kept: asking again would give the same), `budget`, `rejected`
        (a 4xx status), `timeout`, `unavailable` (not kept: asked again next time).

        Raises:
            ConfigError: the key is missing or refused, or the endpoint does not know the model.
            ServerError: the endpoint is down. What was answered is kept.
            OpsinError: another process uses the same cache.
        """
        keys = [request.digest(self.config) for request in requests]
        with self._cache as cache:
            known = set(cache.entries)
            wanted = {key: each for key, each in zip(keys, requests, strict=True) if key not in known}
            failed = asyncio.run(Asking(self.config, cache, title).ask_all(wanted)) if wanted else {}
            self.spent = cache.spent
            entries = [cache.entries.get(key) or failed[key] for key in keys]
        results = [
            _result(entry, request, cached=key in known)
            for entry, request, key in zip(entries, requests, keys, strict=True)
        ]
        for key, entry in zip(keys, entries, strict=True):
            if key not in self._counted:
                self._counted.add(key)
                self.usage += entry.usage
        self.outcomes.update(entry.code or "answer" for entry in entries)
        return results


def _result(entry: Entry, request: ChatRequest, *, cached: bool) -> ChatAnswer | Reason:
    if entry.code:
        return Reason(entry.code, evidence=entry.evidence)
    value = parse_answer(entry.text, request.schema) if request.schema is not None else None
    return ChatAnswer(entry.text, value, entry.usage, cached)
