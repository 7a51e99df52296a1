"""Conversations as datasets write them → turns.

Known forms of one message: LLaVA's `{from, value}`, OpenAI's `{role, content}` with text or parts,
FineVision's `{user, assistant}`, and `{question, answer}`. System messages are not kept: they say how to
answer, not what.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.curate.samples import Reason, Turn

PLACEHOLDER = re.compile(r"<\|?image(?:[ _]?\d+)?\|?>")
"""Where a picture stands in a text; ours always stands first."""
ASKING = ("human", "user")
ANSWERING = ("gpt", "assistant", "model", "chatgpt", "bot")
PAIRS = (("user", "assistant"), ("question", "answer"))


@dataclass(frozen=True)
class Conversation:
    """What a list of messages says."""

    turns: tuple[Turn, ...]
    images: tuple[Any, ...]
    """Pictures that the messages themselves name, in order."""


class _Unknown(ValueError):
    """A message of no known form."""


def read_conversation(messages: Any, *, prompt: str) -> Conversation | Reason:
    """Questions with their answers, or `bad_turns` with what is wrong.

    Args:
        messages: As the source has them.
        prompt: Question where a message shows a picture and asks nothing.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return Reason("bad_turns", evidence=f"not a list of messages: {type(messages).__name__}")
    turns: list[Turn] = []
    images: list[Any] = []
    asked: list[str] = []
    try:
        for role, content in _parts(messages):
            text, shown = _read_content(content)
            images += shown
            if role == "ask":
                asked.append(text)
            elif asked:
                turns.append(Turn(_join(asked) or prompt, text))
                asked = []
            elif turns:  # the answer goes on
                turns[-1] = Turn(turns[-1].question, _join((turns[-1].answer, text)))
            else:
                return Reason("bad_turns", evidence=f"an answer without its question: {text[:80]}")
    except _Unknown as unknown:
        return Reason("bad_turns", evidence=str(unknown)[:200])
    if asked:
        return Reason("bad_turns", evidence=f"a question without its answer: {_join(asked)[:80]}")
    return Conversation(tuple(dict.fromkeys(turns)), tuple(images))


def _parts(messages: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Role (`ask` or `answer`) and content of every message but the system's."""
    for message in messages:
        if not isinstance(message, Mapping):
            raise _Unknown(f"a message is {type(message).__name__}")
        pair = next((each for each in PAIRS if message.keys() >= set(each)), None)
        if pair:
            yield "ask", message[pair[0]]
            yield "answer", message[pair[1]]
            continue
        role = message.get("from", message.get("role"))
        if role in ASKING:
            yield "ask", message.get("value", message.get("content"))
        elif role in ANSWERING:
            yield "answer", message.get("value", message.get("content"))
        elif role != "system":
            raise _Unknown(f"a message of role {role!r} with {', '.join(map(str, message))}")


def as_text(value: Any) -> str:
    """A single value as text: yes and no for booleans, whole numbers without a point; empty for none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.15g}"
    if value is None or isinstance(value, bytes | Mapping | list | tuple):
        return ""
    return str(value).strip()


def _read_content(content: Any) -> tuple[str, list[Any]]:
    """Text without its placeholders, and the pictures, of one message."""
    if isinstance(content, str | int | float):
        return PLACEHOLDER.sub("", as_text(content)).strip(), []
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise _Unknown(f"content is {type(content).__name__}")
    texts: list[str] = []
    images: list[Any] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            url = part.get("image_url")
            images.append(url.get("url") if isinstance(url, Mapping) else url)
        elif kind == "image":  # a path, or only the place of a picture that the row holds
            images += [part[name] for name in ("image", "path", "url") if part.get(name)]
        else:
            raise _Unknown(f"a part of type {kind!r}")
    return PLACEHOLDER.sub("", _join(texts)).strip(), images


def _join(texts: Sequence[str]) -> str:
    return "\n".join(text for text in texts if text)
