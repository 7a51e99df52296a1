"""A request, its answer, and what they cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.config.chat import ChatConfig


@dataclass(frozen=True)
class ChatRequest:
    """One question to the model; a conversation of its own."""

    prompt: str
    images: tuple[bytes, ...] = ()
    """Encoded PNG, JPEG, WebP or GIF; they come before the prompt."""
    system: str = ""
    schema: Mapping[str, Any] | None = None
    """JSON schema that the answer must satisfy; None: free text."""
    draw: int = 0
    """Which draw of the same question this is: another draw is asked again, with another seed."""

    def digest(self, config: ChatConfig) -> str:
        """SHA-256 of all that decides the answer: model, prompt, images, schema, sampling."""
        identity = {
            "model": config.model,
            "system": self.system,
            "prompt": self.prompt,
            "images": [hashlib.sha256(image).hexdigest() for image in self.images],
            "schema": self.schema,
            "structured": config.structured if self.schema is not None else "",
            "temperature": config.temperature,
            "top_p": config.top_p,
            "max_tokens": config.max_tokens,
            "seed": config.seed + self.draw,
            "draw": self.draw,
            "extra_body": config.extra_body,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ChatUsage:
    """Tokens as the endpoint counted them, and their price."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: ChatUsage) -> ChatUsage:
        return ChatUsage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
        )


@dataclass(frozen=True)
class ChatAnswer:
    """What the model said."""

    text: str
    value: Any = None
    """The parsed JSON, valid under the request's schema; None without one."""
    usage: ChatUsage = field(default=ChatUsage())
    """Everything this answer took, the repair included."""
    cached: bool = field(default=False, compare=False)
    """Whether it was there before this call."""
