"""Any OpenAI-compatible chat endpoint: which model, how it is sampled, what it may cost."""

from __future__ import annotations

from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from components.config.base import Frozen, execution_field


class ChatConfig(Frozen):
    """An endpoint and how it is asked. The model and its sampling decide the answers; the rest does not."""

    base_url: str = execution_field(..., pattern=r"^https?://[^\s]+$")
    """Base URL as OpenAI clients take it, usually ending in /v1."""
    model: str = Field(min_length=1)
    api_key_env: str = execution_field("", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    """NAME of the environment variable that holds the key; empty: the endpoint wants none."""

    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)
    """Tokens of one answer at most; an answer cut off there is rejected."""
    seed: int = 0
    """Sent with each request; the n-th draw of the same question sends `seed + n`."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the limit (OpenAI's reasoning models know only the second)."""
    structured: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    """How a schema is asked for: `response_format` with the schema, JSON mode with the schema in the
    prompt, or only in the prompt. The answer is validated in every case."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, for what one server has and others have not."""

    price_per_million_input: float = Field(0.0, ge=0)
    """Price of a million prompt tokens, in the currency of `budget`."""
    price_per_million_output: float = Field(0.0, ge=0)
    budget: float = Field(0.0, ge=0)
    """What all requests of one cache may cost together; a priced model needs one. A request that could
    overspend it is not sent."""
    max_image_tokens: int = Field(4096, ge=0)
    """Upper bound of what one image costs in prompt tokens, for the reservation made before sending."""

    concurrency: int = execution_field(16, ge=1, le=1024)
    """Requests under way at once."""
    timeout_s: float = execution_field(120.0, gt=0)
    """Seconds that one attempt may take in all."""
    max_retries: int = execution_field(5, ge=0)
    """Further attempts after a timeout, a broken connection, or status 408, 409, 429 or 5xx."""
    backoff_s: float = execution_field(0.5, ge=0)
    """First wait; doubled at each further attempt up to 30 s, with jitter. Retry-After overrides it."""
    give_up_after: int = execution_field(20, ge=1)
    """Requests in a row that failed for good after which the endpoint counts as down."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.price_per_million_input or self.price_per_million_output) and not self.budget:
            raise ValueError("a priced model needs a budget: set budget to what all answers may cost")
        if urlsplit(self.base_url).password is not None:
            raise ValueError("base_url must not hold a password; name a variable in api_key_env instead")
        return self
