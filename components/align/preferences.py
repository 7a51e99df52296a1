"""The `prefer` stage: ask the model training questions, check its answers, keep what it got wrong.

preferences = prefer(config=config.align.sampling, checkpoint=checkpoint, dataset=dataset)
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
import torch

from components.align.pairs import Pair, judge, write_pairs
from components.answers import is_correct, normalise
from components.artifacts import Checkpoint, Dataset, Preferences
from components.config import PreferConfig
from components.gates import GateResult
from components.loader import Asked, Sample, read_samples
from components.stage import Fields, Run, stage
from components.vlm import Generation, generate, load_model, load_processor


@dataclass(frozen=True)
class Question:
    """One turn of a training sample."""

    sample: Sample
    turn: int

    @property
    def text(self) -> str:
        return self.sample.turns[self.turn].question

    @property
    def answer(self) -> str:
        return self.sample.turns[self.turn].answer

    @property
    def asked(self) -> Asked:
        return self.sample.asked(self.turn)


@stage("prefer", Preferences)
def prefer(run: Run, *, config: PreferConfig, checkpoint: Checkpoint, dataset: Dataset) -> Fields:
    """Sample the checkpoint on training questions and pair its wrong answers with right ones.

    Raises:
        GateFailed: fewer pairs than `config.min_pairs`, or a pair with one answer on both sides.
        ContractMismatch: the checkpoint's processor is not the one it was trained with.
    """
    torch.set_num_threads(config.execution.threads)
    samples = read_samples(dataset, "train", categories=config.categories or None)
    questions = choose_questions(samples, num=config.prompts, seed=config.seed)
    answers = _sample(checkpoint, questions, config)
    pairs = make_pairs(questions, answers)
    # A run killed half-way may have left its output.
    shutil.rmtree(run.output)
    run.output.mkdir()
    write_pairs(pairs, run.output)
    run.metrics |= _metrics(questions, answers, pairs)
    run.gate(enough_pairs(pairs, minimum=config.min_pairs, num_questions=len(questions)))
    run.gate(distinct_pairs(pairs))
    return {"num_pairs": len(pairs)}


def choose_questions(samples: Sequence[Sample], *, num: int, seed: int) -> list[Question]:
    """Up to `num` questions about images: categories in turn, one of every sample before a second of any.

    Raises:
        SourceError: a sample's texts have not as many places as it has images.
    """
    generator = np.random.default_rng(seed)
    ranked: dict[str, list[tuple[int, int, Question]]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: sample.key):
        turns = [turn for turn in range(len(sample.turns)) if sample.asked(turn).images]
        if not turns:
            continue
        place = int(generator.integers(2**62))
        for rank, turn in enumerate(generator.permutation(turns)):
            ranked[sample.category].append((rank, place, Question(sample, int(turn))))
    columns = []
    for _, entries in sorted(ranked.items()):
        entries.sort(key=lambda entry: entry[:2])
        columns.append([question for _, _, question in entries])
    in_turn = [question for question in chain.from_iterable(zip_longest(*columns)) if question is not None]
    return in_turn[:num]


def make_pairs(questions: Sequence[Question], answers: Sequence[Sequence[Generation]]) -> list[Pair]:
    """One pair of every question that the model got wrong at least once."""
    pairs = []
    for question, said in zip(questions, answers, strict=True):
        judged = judge(said, question.answer)
        if judged is None:
            continue
        asked = question.asked
        pairs.append(
            Pair(
                key=question.sample.key,
                turn=question.turn,
                category=question.sample.category,
                question=question.text,
                messages=asked.messages,
                chosen=judged[0],
                rejected=judged[1],
                images=asked.images,
            )
        )
    return pairs


def enough_pairs(pairs: Sequence[Pair], *, minimum: int, num_questions: int) -> GateResult:
    """Gate: alignment has enough to learn from, on at least two samples (one to hold out)."""
    num_samples = len({pair.key for pair in pairs})
    return GateResult(
        name="enough_pairs",
        passed=len(pairs) >= minimum and num_samples >= 2,
        observed=f"{len(pairs)} pairs on {num_samples} samples, from {num_questions} questions",
        required=f"at least {minimum} pairs on at least 2 samples",
        fix="raise align.prompts, align.samples_per_prompt or align.temperature, or lower align.min_pairs",
        evidence={"pairs": len(pairs), "samples": num_samples, "questions": num_questions},
    )


def distinct_pairs(pairs: Sequence[Pair]) -> GateResult:
    """Gate: no pair prefers an answer to itself."""
    same = [pair.key for pair in pairs if normalise(pair.chosen) == normalise(pair.rejected)]
    return GateResult(
        name="distinct_pairs",
        passed=not same,
        observed=f"{len(same)} pairs whose chosen and rejected answers say the same",
        required="none",
        fix="check the ground truth of the samples named",
        evidence={"keys": ", ".join(same[:5]) or None},
    )


def _sample(
    checkpoint: Checkpoint, questions: Sequence[Question], config: PreferConfig
) -> list[list[Generation]]:
    """`config.samples_per_prompt` answers to each question."""
    model = load_model(checkpoint.path, expected_contract=checkpoint.contract)
    prompts = [
        prompt for question in questions for prompt in [question.asked.prompt()] * config.samples_per_prompt
    ]
    answers = generate(
        model,
        load_processor(checkpoint.path),
        prompts,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.sampling_batch,
        temperature=config.temperature,
        seed=config.seed,
        title="prefer",
    )
    step = config.samples_per_prompt
    return [answers[start : start + step] for start in range(0, len(answers), step)]


def _metrics(
    questions: Sequence[Question], answers: Sequence[Sequence[Generation]], pairs: Sequence[Pair]
) -> dict[str, float]:
    verdicts = [
        is_correct(answer.text, question.answer)
        for question, said in zip(questions, answers, strict=True)
        for answer in said
    ]
    counts = Counter(pair.category for pair in pairs)
    return {
        "pairs": float(len(pairs)),
        "sampled_accuracy": float(np.mean(verdicts)) if verdicts else 0.0,
        **{f"pairs/{category}": float(count) for category, count in sorted(counts.items())},
    }
