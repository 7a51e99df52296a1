"""What goes over the wire: request bodies, replies, and what is a valid answer. Pure functions."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from PIL import Image
from pydantic import BaseModel, Field

from components.chat.types import ChatRequest, ChatUsage
from components.config.chat import ChatConfig

MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
"""Encoded pictures that endpoints take."""
MAX_EVIDENCE = 200
"""Characters of an answer or an error that are kept as evidence."""
MAX_BACKOFF_S = 30.0
MAX_RETRY_AFTER_S = 120.0
"""A server that wants us to wait longer counts as unavailable."""
TEMPLATE_TOKENS = 256
"""More than any chat template and role adds around the texts."""
FENCE = re.compile(r"\A\s*```(?:json)?\s*(.*?)\s*```\s*\Z", re.DOTALL)


class InvalidAnswer(Exception):
    """An answer, or a picture to ask about, that cannot be used."""

    def __init__(self, code: str, evidence: str) -> None:
        super().__init__(f"{code}: {evidence}")
        self.code, self.evidence = code, evidence[:MAX_EVIDENCE]


@dataclass(frozen=True)
class Reply:
    """One completion as the server gave it."""

    text: str
    finish_reason: str
    refusal: str
    usage: ChatUsage


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(0, ge=0)


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def build_body(request: ChatRequest, config: ChatConfig) -> dict[str, Any]:
    """The body of `POST /chat/completions`.

    Raises:
        InvalidAnswer: an image is none that endpoints take (`bad_image`).
    """
    prompt = _sendable(request.prompt)
    body: dict[str, Any] = {}
    if request.schema is not None:
        if config.structured == "json_schema":
            named = {"name": "answer", "schema": dict(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        else:
            schema = json.dumps(request.schema, sort_keys=True, ensure_ascii=False)
            prompt += f"\n\nAnswer with JSON only, valid under this schema:\n{schema}"
            if config.structured == "json_object":
                body["response_format"] = {"type": "json_object"}
    content: Any = prompt
    if request.images:
        content = [*map(_image_part, request.images), {"type": "text", "text": prompt}]
    system = [{"role": "system", "content": _sendable(request.system)}] if request.system else []
    return {
        "model": config.model,
        "messages": [*system, {"role": "user", "content": content}],
        "temperature": config.temperature,
        "top_p": config.top_p,
        config.max_tokens_field: config.max_tokens,
        "seed": config.seed + request.draw,
        **body,
        **config.extra_body,
    }


def repair_body(body: Mapping[str, Any], text: str, problem: InvalidAnswer) -> dict[str, Any]:
    """The same conversation, with the bad answer in it and what is wrong with it."""
    return {
        **body,
        "messages": [
            *body["messages"],
            {"role": "assistant", "content": _sendable(text)},
            {
                "role": "user",
                "content": f"That is not valid ({_sendable(problem.evidence)}). "
                "Answer again with JSON only, valid under the schema.",
            },
        ],
    }


def _sendable(text: str) -> str:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _image_part(image: bytes) -> dict[str, Any]:
    try:
        kind = Image.open(io.BytesIO(image)).format  # reads the header only
    except (OSError, Image.DecompressionBombError) as error:
        raise InvalidAnswer("bad_image", str(error)) from error
    if kind not in MEDIA:
        raise InvalidAnswer("bad_image", f"{kind} is not one of {', '.join(MEDIA)}")
    data = base64.b64encode(image).decode()
    return {"type": "image_url", "image_url": {"url": f"data:{MEDIA[kind]};base64,{data}"}}


def worst_cost(body: Mapping[str, Any], config: ChatConfig) -> float:
    """What a request can cost at most: no token is shorter than a byte."""
    num_bytes = len(json.dumps(body.get("response_format", {})))
    num_images = 0
    for message in body["messages"]:
        content = message["content"]
        texts = [content] if isinstance(content, str) else [p["text"] for p in content if "text" in p]
        num_images += 0 if isinstance(content, str) else len(content) - len(texts)
        num_bytes += sum(len(text.encode("utf-8", "replace")) for text in texts)
    prompt = num_bytes + num_images * config.max_image_tokens + TEMPLATE_TOKENS * len(body["messages"])
    return price(prompt, config.max_tokens, config)


def price(prompt_tokens: int, completion_tokens: int, config: ChatConfig) -> float:
    """The price of so many tokens."""
    spent = prompt_tokens * config.price_per_million_input
    spent += completion_tokens * config.price_per_million_output
    return spent / 1e6


def read_reply(content: bytes, config: ChatConfig, *, worst: float) -> Reply:
    """A completion's first choice; `worst` is its cost where the server counts no tokens.

    Raises:
        pydantic.ValidationError: it is not a completion.
    """
    completion = _Completion.model_validate_json(content)
    choice, counted = completion.choices[0], completion.usage
    usage = ChatUsage(0, 0, worst)
    if counted is not None:
        tokens = counted.prompt_tokens, counted.completion_tokens
        usage = ChatUsage(*tokens, price(*tokens, config))
    return Reply(
        choice.message.content or "", choice.finish_reason or "", choice.message.refusal or "", usage
    )


def judge(reply: Reply, schema: Mapping[str, Any] | None) -> InvalidAnswer | None:
    """What is wrong with a reply, or None."""
    if reply.refusal or reply.finish_reason == "content_filter":
        return InvalidAnswer("refusal", reply.refusal or "content filter")
    if reply.finish_reason == "length":
        return InvalidAnswer("truncated", f"… {reply.text[-80:]}")
    if schema is None:
        return None if reply.text.strip() else InvalidAnswer("empty", "no text")
    try:
        parse_answer(reply.text, schema)
    except InvalidAnswer as problem:
        return problem
    return None


def parse_answer(text: str, schema: Mapping[str, Any]) -> Any:
    """The JSON in `text` (a Markdown fence around it is forgiven), valid under `schema`.

    Raises:
        InvalidAnswer: `bad_json` or `schema`.
    """
    fenced = FENCE.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer("bad_json", f"{error}: {text[:80]}") from error
    mistake = best_match(Draft202012Validator(dict(schema)).iter_errors(value))
    if mistake is not None:
        raise InvalidAnswer("schema", f"{mistake.json_path}: {mistake.message}")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def retry_delay(headers: httpx.Headers, attempt: int, config: ChatConfig) -> float:
    """Seconds to wait before the attempt after `attempt` (0 is the first).

    `Retry-After`, in seconds or as a date, is a lower bound and never cut short.
    """
    asked = headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", asked):
        return float(asked) * random.uniform(1.0, 1.1)
    if asked:
        try:
            return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
        except ValueError:
            pass  # not a date: as if it were absent
    return min(MAX_BACKOFF_S, config.backoff_s * 2.0**attempt) * random.uniform(0.75, 1.0)
