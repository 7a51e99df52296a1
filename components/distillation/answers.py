"""Sequence-level distillation (arXiv:1606.07947): the teacher's answers take the place of the training ones.

They are asked once: an endpoint's lie in the chat client's journal, a checkpoint's in one like it, both under
`.opsin/cache/distill/<dataset>/`. What a run got is kept with the run, so that it goes on with the same
answers after a crash, also where the endpoint failed on some.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from filelock import FileLock

from components.artifacts import Dataset, write_atomic
from components.chat import ChatAnswer, ChatClient, ChatRequest
from components.config import DistillConfig, Execution
from components.config.chat import ChatConfig
from components.distillation.teacher import Teacher, load_teacher
from components.errors import ConfigError
from components.fingerprint import code_identity
from components.journal import Journal
from components.loader import SLOT, Asked, Sample, Turn, iter_samples
from components.loader.samples import FEATURES
from components.progress import console
from components.reason import Reason
from components.vlm import generate

BATCH: Final = 1024
"""Questions that are held in memory, with their pictures, at once; a killed run generates these again."""
GENERATED_AT_ONCE: Final = 32


@dataclass(frozen=True)
class Question:
    """One training question that the teacher is asked."""

    turn: int
    text: str
    asked: Asked


Ask: TypeAlias = Callable[[Sequence[Question]], list[str | Reason]]


@dataclass(frozen=True)
class Answers:
    """What the teacher said."""

    texts: Mapping[str, Mapping[int, str]]
    """Sample's key → number of the turn → answer."""
    kept: Mapping[str, int]
    """Reason code → questions that keep their own answer."""

    @property
    def digest(self) -> str:
        """SHA-256 over the answers; empty where there are none."""
        if not self.texts:
            return ""
        return hashlib.sha256(json.dumps(self.texts, sort_keys=True).encode()).hexdigest()

    @property
    def metrics(self) -> dict[str, float]:
        kept = {f"distill/kept/{code}": float(number) for code, number in self.kept.items()}
        return {"distill/answers": float(sum(map(len, self.texts.values())))} | kept

    def put(self, sample: Sample, specials: Collection[str]) -> Sample:
        """The sample with the teacher's answers.

        Args:
            specials: The student's special tokens: an answer that holds one would be read as an image or as
                an end, and does not count.
        """
        said = self.texts.get(sample.key, {})
        turns = tuple(
            Turn(turn.question, said[number])
            if number in said and not any(token in said[number] for token in specials)
            else turn
            for number, turn in enumerate(sample.turns)
        )
        return replace(sample, turns=turns)


NO_ANSWERS: Final = Answers({}, {})
"""Of a run without a teacher's text."""


def teacher_answers(
    config: DistillConfig,
    dataset: Dataset,
    *,
    categories: Collection[str],
    execution: Execution,
    seed: int,
    keep: Path,
    where: str,
) -> Answers:
    """The teacher's answers to the training questions, asked or read. One process asks, others wait.

    Args:
        categories: Those that are trained on.
        keep: File of this run that holds its answers.
        where: The config's section, for errors.

    Raises:
        ConfigError: the endpoint refuses every request, or not one question was answered.
        ServerError: the endpoint is down. What was answered is kept.
    """
    if config.text is None:
        return NO_ANSWERS
    with FileLock(keep.with_suffix(".lock")):
        if not keep.exists():
            cache = execution.cache / "distill" / dataset.digest[:16]
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / "asking.lock"):  # the journals have one writer at a time
                answers = _ask_all(config, dataset, categories, _asker(config, execution, cache, where), seed)
            if not answers.texts:
                raise ConfigError(
                    f"the teacher answered none of the questions: {dict(answers.kept)}",
                    where=f"{where}.text",
                    fix="look at its answers in the cache; raise its limit of tokens or its budget",
                )
            write_atomic(keep, json.dumps([answers.texts, answers.kept]))
    texts, kept = json.loads(keep.read_text())
    return Answers(
        {key: {int(turn): text for turn, text in said.items()} for key, said in texts.items()}, kept
    )


def _asker(config: DistillConfig, execution: Execution, cache: Path, where: str) -> Ask:
    text = config.text
    assert text is not None
    if text.chat is not None:
        return _Endpoint(text.chat, text.system, cache / "answers.jsonl")
    on_cpu = execution.device == "cpu" or not torch.cuda.is_available()
    device = torch.device("cpu" if on_cpu else "cuda")
    load = partial(load_teacher, config, execution.downloads, where, device)
    return _Checkpoint(config, load, cache / "generated.jsonl")


def _ask_all(
    config: DistillConfig, dataset: Dataset, categories: Collection[str], ask: Ask, seed: int
) -> Answers:
    assert config.text is not None
    texts: dict[str, dict[int, str]] = {}
    kept = Counter[str]()
    samples = (sample for sample in iter_samples(dataset, "train") if sample.category in categories)
    asked = 0
    questions = _choose(samples, config.text.share, seed, kept)
    while batch := list(islice(questions, BATCH)):
        for question, answer in zip(batch, ask(batch), strict=True):
            if isinstance(answer, Reason):
                kept[answer.code] += 1
            else:
                texts.setdefault(question.asked.key, {})[question.turn] = answer
        asked += len(batch)
    if kept:
        why = ", ".join(f"{code} {number:,}" for code, number in sorted(kept.items()))
        console.print(
            f"teacher: {asked:,} questions asked; these keep their own answer: {why}", style="yellow"
        )
    return Answers(texts, dict(sorted(kept.items())))


def _choose(samples: Iterable[Sample], share: float, seed: int, kept: Counter[str]) -> Iterator[Question]:
    """The questions that a hash picks, but for those of chats: an answer of the teacher would stand behind
    true ones when it is asked for, and behind the teacher's own when it is learned."""
    for sample in samples:
        for number, turn in enumerate(sample.turns):
            if _place(seed, sample.key, number) >= share:
                continue
            if sample.chat:
                kept["chat"] += 1
            elif any(image.startswith(FEATURES) for image in sample.images):
                kept["no_picture"] += 1
            else:
                yield Question(number, turn.question, sample.asked(number))


def _place(seed: int, key: str, turn: int) -> float:
    """A fixed pseudo-random number in [0, 1) for a question."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{turn}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class _Endpoint:
    """Asks an OpenAI-compatible endpoint; a request of ours has its pictures before the text."""

    def __init__(self, chat: ChatConfig, system: str, cache: Path) -> None:
        self._client, self._system = ChatClient(chat, cache=cache), system

    def __call__(self, questions: Sequence[Question]) -> list[str | Reason]:
        requests = [
            ChatRequest(question.text, images=question.asked.images, system=self._system)
            for question in questions
            if SLOT not in question.text
        ]
        answers = iter(self._client.ask_many(requests, title="ask the teacher"))
        said = [Reason("interleaved") if SLOT in each.text else next(answers) for each in questions]
        return [each.text.strip() if isinstance(each, ChatAnswer) else each for each in said]


class _Checkpoint:
    """Generates greedily with a checkpoint, which is loaded when there is something to ask."""

    def __init__(self, config: DistillConfig, load: Callable[[], Teacher], cache: Path) -> None:
        assert config.text is not None
        self._load, self._cache = load, cache
        self._limit = config.text.max_new_tokens
        code = code_identity("components.vlm")
        self._identity: list[Any] = [config.digest or config.teacher, self._limit, code]
        self._teacher: Teacher | None = None
        self._known: dict[str, str | Reason] = {}

    def __call__(self, questions: Sequence[Question]) -> list[str | Reason]:
        digests = [self._digest(question) for question in questions]
        wanted = dict(zip(digests, questions, strict=True))
        with Journal(self._cache, self._take) as journal:
            # All of them or none: an answer depends, in its last bit, on what it is padded with.
            if wanted.keys() - self._known.keys():
                for digest, answer in zip(wanted, self._generate(list(wanted.values())), strict=True):
                    said = {"code": answer.code} if isinstance(answer, Reason) else {"text": answer}
                    journal.append({"key": digest, **said})
        return [self._known[digest] for digest in digests]

    def _digest(self, question: Question) -> str:
        pictures = [hashlib.sha256(image).hexdigest() for image in question.asked.images]
        identity = [*self._identity, question.asked.messages, pictures]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _take(self, record: dict[str, Any]) -> None:
        self._known[record["key"]] = Reason(record["code"]) if "code" in record else record["text"]

    def _generate(self, questions: Sequence[Question]) -> list[str | Reason]:
        self._teacher = self._teacher or self._load()
        prompts = [question.asked.prompt() for question in questions]
        answers = generate(
            self._teacher.model,
            self._teacher.family.processor,
            prompts,
            max_new_tokens=self._limit,
            batch_size=GENERATED_AT_ONCE,
            title="the teacher answers",
        )
        return [Reason("truncated") if not each.ended else each.text or Reason("empty") for each in answers]
