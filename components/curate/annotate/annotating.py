"""All of annotation in order: facts → tables → OCR → teacher → validation → consistency → review."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.artifacts import write_atomic
from components.chat import ChatClient, ChatUsage
from components.config.annotate import AnnotateConfig, TeacherConfig
from components.curate.annotate.facts import ask_facts
from components.curate.annotate.ocr import Page, ask_ocr, judge_page, read_pages
from components.curate.annotate.proposals import AnnotationInput, Proposed, RejectedTurn
from components.curate.annotate.review import choose_review, count_reviews, write_review
from components.curate.annotate.tables import ask_table
from components.curate.annotate.teacher import Taught, ask_teacher, choose_samples, find_inconsistent
from components.curate.annotate.validate import reason_counts, validate
from components.curate.samples import Reason, Turn
from components.gates.result import GateResult
from components.gates.review import review_gate
from components.progress import console


@dataclass(frozen=True)
class Annotated:
    """What annotation gave."""

    proposed: Mapping[str, tuple[Proposed, ...]]
    """Key → new turns that are good enough, with where each comes from; in the order of the samples."""
    facts: Mapping[str, Mapping[str, str]]
    """Key → facts that OCR found."""
    rejected: tuple[RejectedTurn, ...]
    skipped: Mapping[str, int]
    """`method/code` → samples (of the teacher: requests) that gave nothing."""
    usage: ChatUsage
    """Tokens and cost of every answer used, whenever it was bought."""
    spent: float
    """All that was ever charged to the cache of answers."""
    gate: GateResult
    """What the review says; `require` it where the stage judges its gates."""

    def turns(self, key: str) -> tuple[Turn, ...]:
        """The new turns of a sample."""
        return tuple(each.turn for each in self.proposed.get(key, ()))

    @property
    def counts(self) -> dict[str, int]:
        """Method → new turns."""
        counts = Counter(each.method for items in self.proposed.values() for each in items)
        return {str(method): number for method, number in sorted(counts.items())}

    def summary(self) -> dict[str, Any]:
        """For the record and the report."""
        return {
            "samples": len(self.proposed),
            "turns": self.counts,
            "rejected": reason_counts(self.rejected),
            "skipped": dict(self.skipped),
            "teacher": {**asdict(self.usage), "spent": self.spent},
        }


def annotate(
    samples: Sequence[AnnotationInput],
    config: AnnotateConfig,
    *,
    cache: Path,
    logs: Path,
    threads: int,
    seed: int = 0,
) -> Annotated:
    """New questions and answers for the samples; the same for the same samples, config, seed and cache.

    Args:
        samples: With distinct keys.
        config: What is asked, and what must hold.
        cache: Keeps OCR results and paid answers, for this run and later ones (`config.cache` in its place).
        logs: Gets `annotate.json`, `annotate_rejected.jsonl` and `review/`.
        threads: For OCR and embeddings.
        seed: Of wordings, choices and the review sample.

    Raises:
        ConfigError: the teacher's key is missing or refused; reviews are malformed.
        ServerError: the teacher is down. What it answered is kept.
    """
    store = Path(config.cache) if config.cache else cache
    skipped = Counter[str]()
    pages = _read(samples, config, store, threads, skipped)
    proposed: dict[str, list[Proposed]] = {}
    for sample in samples:
        proposed[sample.key] = _ask_what_is_known(sample, config, pages, seed, skipped)
    usage, spent = ChatUsage(), 0.0
    client = None
    if config.teacher is not None:
        client = ChatClient(config.teacher.chat, cache=store / "answers.jsonl")
        chosen = [_with_facts(each, pages) for each in choose_samples(samples, config.teacher, seed=seed)]
        taught = ask_teacher(chosen, config.teacher, client)
        skipped.update({f"teacher/{code}": number for code, number in taught.skipped.items()})
        _say_what_was_skipped(taught, len(chosen))
        for key, turns in taught.proposed.items():
            proposed[key] += turns
    kept: dict[str, list[Proposed]] = {}
    rejected: list[RejectedTurn] = []
    for sample in samples:
        good, bad = validate(_with_facts(sample, pages), proposed[sample.key], config.quality)
        rejected += bad
        if good:
            kept[sample.key] = good
    if client is not None and config.teacher is not None:
        rejected += _drop_inconsistent(samples, kept, config.teacher, client, threads)
        if client.outcomes["budget"]:
            _say_the_budget_is_spent(client.outcomes["budget"], client.spent)
        usage, spent = client.usage, client.spent
    final = {key: tuple(turns) for key, turns in kept.items() if turns}
    gate = _review(samples, final, config, logs, seed)
    facts = {key: page.facts() for key, page in pages.items()}
    result = Annotated(final, facts, tuple(rejected), dict(sorted(skipped.items())), usage, spent, gate)
    _write_logs(result, logs)
    return result


def _read(
    samples: Sequence[AnnotationInput],
    config: AnnotateConfig,
    store: Path,
    threads: int,
    skipped: Counter[str],
) -> dict[str, Page]:
    """Key → what is written in the picture, where it was read for certain."""
    if config.ocr is None:
        return {}
    categories = config.ocr.categories
    wanted = [each for each in samples if not categories or each.category in categories]
    read = read_pages(wanted, config.ocr, cache=store / "ocr.jsonl", threads=threads)
    pages: dict[str, Page] = {}
    for sample, page in zip(wanted, read, strict=True):
        reason = page if isinstance(page, Reason) else judge_page(page, config.ocr)
        if reason is not None:
            skipped[f"ocr/{reason.code}"] += 1
        if isinstance(page, Page) and (reason is None or reason.code == "long_text"):
            pages[sample.key] = page
    return pages


def _ask_what_is_known(
    sample: AnnotationInput,
    config: AnnotateConfig,
    pages: Mapping[str, Page],
    seed: int,
    skipped: Counter[str],
) -> list[Proposed]:
    """Turns from facts, tables and OCR."""
    proposed = ask_facts(sample, config.facts, most=config.max_facts_per_sample, seed=seed)
    if config.tables is not None:
        found = ask_table(sample, config.tables, seed=seed)
        if isinstance(found, Reason):
            skipped[f"tables/{found.code}"] += 1
        else:
            proposed += found
    page = pages.get(sample.key)
    if (
        config.ocr is not None
        and config.ocr.ask
        and page is not None
        and judge_page(page, config.ocr) is None
    ):
        proposed.append(ask_ocr(sample, page, config.ocr, seed=seed))
    return proposed


def _say_what_was_skipped(taught: Taught, num_chosen: int) -> None:
    """A line on the samples that the teacher gave nothing for, where there are any."""
    missing = num_chosen - len(taught.proposed)
    if missing:
        why = ", ".join(f"{code} {number}" for code, number in sorted(taught.skipped.items()))
        console.print(
            f"teacher: {missing} of {num_chosen} samples got no turns; requests that gave none: {why}",
            style="yellow",
            markup=False,
        )


def _say_the_budget_is_spent(num_requests: int, spent: float) -> None:
    console.print(
        f"teacher: {num_requests} requests were not sent, as the budget is spent ({spent:.4g}): raise "
        "curate.annotate.teacher.chat.budget, and a further run asks what is left",
        style="yellow",
        markup=False,
    )


def _drop_inconsistent(
    samples: Sequence[AnnotationInput],
    kept: dict[str, list[Proposed]],
    config: TeacherConfig,
    client: ChatClient,
    threads: int,
) -> list[RejectedTurn]:
    """Take the teacher's guesses out of `kept`; gives them with reasons."""
    if config.consistency is None:
        return []
    asked = [
        (sample, each) for sample in samples for each in kept.get(sample.key, ()) if each.method == "teacher"
    ]
    guesses = find_inconsistent(asked, config.consistency, client, max_side=config.max_side, threads=threads)
    rejected = []
    for number, reason in guesses.items():
        sample, each = asked[number]
        kept[sample.key] = [other for other in kept[sample.key] if other is not each]
        rejected.append(RejectedTurn(sample.key, each, reason))
    return rejected


def _review(
    samples: Sequence[AnnotationInput],
    proposed: Mapping[str, tuple[Proposed, ...]],
    config: AnnotateConfig,
    logs: Path,
    seed: int,
) -> GateResult:
    rows = choose_review(proposed, config.review, seed=seed)
    places = {sample.key: place for place, sample in enumerate(samples)}
    write_review(rows, logs / "review", lambda key: samples[places[key]].picture())
    population = sum(map(len, proposed.values()))
    return review_gate(
        count_reviews(rows, config.review, population=population),
        min_accepted_rate=config.review.min_accepted_rate,
        confidence=config.review.confidence,
        require_reviews=config.review.require_reviews,
    )


def _with_facts(sample: AnnotationInput, pages: Mapping[str, Page]) -> AnnotationInput:
    page = pages.get(sample.key)
    return replace(sample, facts={**sample.facts, **page.facts()}) if page is not None else sample


def _write_logs(result: Annotated, logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    write_atomic(logs / "annotate.json", json.dumps(result.summary(), indent=1))
    lines = (
        json.dumps(
            {
                "key": each.key,
                "method": each.proposed.method,
                "question": each.proposed.turn.question,
                "answer": each.proposed.turn.answer,
                "code": each.reason.code,
                "evidence": each.reason.evidence,
            },
            ensure_ascii=False,
        )
        for each in result.rejected
    )
    write_atomic(logs / "annotate_rejected.jsonl", "".join(f"{line}\n" for line in lines))
