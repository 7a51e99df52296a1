"""The replay client: held-out questions through the gateway, as users would ask them.

Each request streams, so that the time to first token is seen. A request that fails is asked again, as
OpenAI clients do; every attempt is one observation of the arm that it reached.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import openai
from openai import AsyncOpenAI

from components.answers import is_correct
from components.config import DeployConfig
from components.deploy.gateway import ARM_HEADER
from components.deploy.vllm import SERVED_NAME
from components.loader import Asked, Sample

MAX_ATTEMPTS = 3
NO_ARM = "gateway"
"""Where an attempt failed before an arm could be told."""


@dataclass(frozen=True)
class Question:
    """One question about images, with the ground truth."""

    key: str
    group: str
    question: str
    answer: str
    asked: Asked
    """The question with its images and, in a chat, with what was said before it."""


@dataclass(frozen=True)
class Attempt:
    """One request as one arm saw it; a row of `replay.parquet`."""

    step: int
    request: int
    attempt: int
    arm: str
    key: str
    group: str
    status: int
    """HTTP status; 0 when the connection broke or timed out."""
    ttft_s: float | None
    """Seconds to the first token."""
    latency_s: float
    correct: bool | None
    prediction: str
    error: str

    @property
    def answered(self) -> bool:
        return self.status == 200


def choose(samples: Sequence[Sample], number: int, seed: int) -> list[Question]:
    """`number` questions in a seeded order: no sample is asked about twice before every sample was once.

    Questions about the same sample are not independent, and the canary's intervals take them as independent.
    Where there are fewer questions than asked for, they repeat. The chosen ones are shuffled, so that every
    step of the canary draws from the same mix: the canary's share rises from step to step, and a mix that
    changed with it would look like a difference between the arms.

    Raises:
        SourceError: a sample's texts have not as many places as it has images.
    """
    rng = random.Random(seed)
    rounds: list[tuple[int, float, Question]] = []
    for sample in samples:
        turns = [
            (turn, asked)
            for number, turn in enumerate(sample.turns)
            if (asked := sample.asked(number)).images
        ]
        rng.shuffle(turns)
        group = f"{sample.category}/{sample.group}" if sample.group else sample.category
        for nth, (turn, asked) in enumerate(turns):
            question = Question(sample.key, group, turn.question, turn.answer, asked)
            rounds.append((nth, rng.random(), question))
    ordered = [question for _, _, question in sorted(rounds, key=lambda item: item[:2])]
    chosen = [ordered[index % len(ordered)] for index in range(number)] if ordered else []
    rng.shuffle(chosen)
    return chosen


def most_images(samples: Sequence[Sample]) -> int:
    """The most of any sample, which is what a prompt may have to show."""
    return max(len(sample.images) for sample in samples)


def connect(endpoint: str, config: DeployConfig) -> AsyncOpenAI:
    """A client that keeps no cookies, so that each request draws its own arm, and leaves retries to us."""
    jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    return AsyncOpenAI(
        base_url=endpoint,
        api_key="none",
        max_retries=0,
        timeout=config.request_timeout_s,
        http_client=openai.DefaultAsyncHttpxClient(cookies=jar, trust_env=False),
    )


async def replay(
    client: AsyncOpenAI, questions: Sequence[Question], config: DeployConfig, *, step: int, first: int
) -> AsyncIterator[list[Attempt]]:
    """Ask all `questions`, `config.concurrency` at a time; gives each request's attempts as it ends."""
    room = asyncio.Semaphore(config.concurrency)

    async def one(number: int, question: Question) -> list[Attempt]:
        async with room:
            return await ask(client, question, config, step=step, request=number)

    tasks = [asyncio.create_task(one(first + index, each)) for index, each in enumerate(questions)]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(
    client: AsyncOpenAI, question: Question, config: DeployConfig, *, step: int = 0, request: int = 0
) -> list[Attempt]:
    """Ask until there is an answer, `MAX_ATTEMPTS` times at most."""
    attempts: list[Attempt] = []
    for number in range(1, MAX_ATTEMPTS + 1):
        attempts.append(await _attempt(client, question, config, step, request, number))
        if attempts[-1].answered:
            break
    return attempts


async def _attempt(
    client: AsyncOpenAI, question: Question, config: DeployConfig, step: int, request: int, number: int
) -> Attempt:
    arm, status, ttft, text, error = NO_ARM, 0, None, "", ""
    begin = time.perf_counter()
    try:
        raw = await client.chat.completions.with_raw_response.create(
            model=SERVED_NAME,
            messages=conversation(question.asked),
            max_tokens=config.max_new_tokens,
            temperature=0.0,
            seed=config.seed,
            stream=True,
        )
        arm = raw.headers.get(ARM_HEADER, NO_ARM)
        async for chunk in raw.parse():
            if ttft is None:
                ttft = time.perf_counter() - begin
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        status = raw.status_code if ttft is not None else 0
        error = "" if ttft is not None else "the stream ended without a token"
    except openai.APIStatusError as failure:
        arm, status, error = failure.response.headers.get(ARM_HEADER, arm), failure.status_code, str(failure)
    except (openai.APIError, OSError, openai.OpenAIError) as failure:
        status, error = 0, f"{type(failure).__name__}: {failure}"
    answered = status == 200
    return Attempt(
        step=step,
        request=request,
        attempt=number,
        arm=arm,
        key=question.key,
        group=question.group,
        status=status,
        ttft_s=ttft if answered else None,
        latency_s=time.perf_counter() - begin,
        correct=is_correct(text, question.answer) if answered else None,
        prediction=text,
        error=error[:500],
    )


def conversation(asked: Asked) -> Any:
    """Messages in the OpenAI API's shape, every image in its place as in training."""
    images = map(_image_part, asked.images)
    return [
        {
            "role": message["role"],
            "content": [next(images) if part["type"] == "image" else part for part in message["content"]],
        }
        for message in asked.messages
    ]


def _image_part(image: bytes) -> dict[str, Any]:
    data = base64.b64encode(image).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
