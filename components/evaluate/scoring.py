"""The stage: ask the held-out questions, score the answers, compare with the stage before.

Writes `output/scores.json`, `output/predictions.parquet`, and a dozen generations per group with their
images into `logs/samples/` and `logs/samples.json`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, Final

import pandas as pd
import torch

from components.artifacts import Checkpoint, Dataset, Scores
from components.config import EvaluateConfig
from components.errors import ConfigError
from components.evaluate import measure, question_only
from components.evaluate.questions import Question, choose
from components.gates import GateResult, quality
from components.loader import read_samples
from components.stage import Fields, Run, stage
from components.vlm import Generation, assert_contract, generate, load_model, load_processor

SAMPLES_PER_GROUP: Final = 12
"""Generations shown in the report."""


@stage("evaluate", Scores)
def evaluate(
    run: Run,
    *,
    config: EvaluateConfig,
    checkpoint: Checkpoint,
    dataset: Dataset,
    label: str,
    baseline: Scores | None,
) -> Fields:
    """Score `checkpoint` on the held-out groups of `dataset`.

    Args:
        label: The stage that made the checkpoint.
        baseline: Scores of the stage before; its groups may not regress beyond the budget.

    Raises:
        ContractMismatch: the processor files are not those that the checkpoint was trained with.
        GateFailed: generations do not end, a group regressed, or a required gain was missed.
    """
    assert_contract(checkpoint.path, checkpoint.contract)
    run.gate(_contract_kept(checkpoint))
    test = read_samples(dataset, "test")
    questions = choose(test, config.samples_per_group, config.seed)
    blind = question_only.answers(dataset, test, config.execution.home / "cache" / "question-only")
    asked = [*questions, *_without_image(questions, config.without_image)]
    generations = _answer(config, checkpoint, asked, label)

    how = quality.Bootstrap(config.bootstrap, config.confidence, config.seed)
    frame = measure.predictions(questions, generations[: len(questions)], blind)
    unseen = measure.predictions(asked[len(questions) :], generations[len(questions) :], blind)
    table = measure.scores(frame, how)
    frame.to_parquet(run.output / "predictions.parquet", index=False)
    (run.output / "scores.json").write_text(json.dumps(table, indent=1, sort_keys=True))
    _keep_samples(run, questions, frame)
    run.metrics.update(_metrics(frame, table))
    if len(unseen):
        unseen.to_parquet(run.output / "without_image.parquet", index=False)
    # Those that stop the stage come last, so that every result is on record when it stops.
    blocking = not checkpoint.quantized
    gates = _gates(config, frame, baseline, label, how, blocking=blocking)
    if len(unseen):
        must_see = blocking and label in config.min_gain_blocks
        gates += quality.sees_image(frame, unseen, blocking=must_see, how=how)
    for gate in sorted(gates, key=lambda gate: gate.blocking and not gate.passed):
        run.gate(gate)
    return {"label": label}


def _without_image(questions: list[Question], names: tuple[str, ...]) -> list[Question]:
    """The questions of these categories or groups, their pictures taken away.

    Raises:
        ConfigError: a name has no question with a picture.
    """
    pictured = [question for question in questions if question.asked.images]
    groups = {question.group for question in pictured}
    known = groups | {question.category for question in pictured}
    if missing := set(names) - known:
        raise ConfigError(
            f"no held-out question about a picture in {', '.join(sorted(missing))}",
            where="evaluate.without_image",
            fix=f"name categories or groups of the test split: {', '.join(sorted(groups))}",
        )
    return [
        replace(question, asked=question.asked.blind())
        for question in pictured
        if question.category in names or question.group in names
    ]


def _answer(
    config: EvaluateConfig, checkpoint: Checkpoint, questions: list[Question], label: str
) -> list[Generation]:
    torch.set_num_threads(config.execution.threads)
    wanted = config.execution.device
    device = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    model = load_model(checkpoint.path, expected_contract=checkpoint.contract)
    model.to(torch.device(device))  # type: ignore[arg-type]  # transformers types `to` as a bound method of Module
    prompts = [question.asked.prompt() for question in questions]
    return generate(
        model,
        load_processor(checkpoint.path),
        prompts,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
        title=f"evaluate {label}",
    )


def _contract_kept(checkpoint: Checkpoint) -> GateResult:
    """Only reached when the contract held; recorded so that the report shows it was asserted."""
    return GateResult(
        name="processor_contract",
        passed=True,
        observed=checkpoint.contract[:16],
        required=checkpoint.contract[:16],
    )


def _gates(
    config: EvaluateConfig,
    frame: pd.DataFrame,
    baseline: Scores | None,
    label: str,
    how: quality.Bootstrap,
    *,
    blocking: bool,
) -> list[GateResult]:
    """A quantized checkpoint's gates do not block: the flow falls back to the unquantized one."""
    must_gain = blocking and label in config.min_gain_blocks
    gates = [quality.end_token_rate(frame, config.min_end_token_rate, blocking=blocking)]
    gates += [
        quality.beats_baseline(frame, group, gain, blocking=must_gain, how=how)
        for group, gain in sorted(config.min_gain.items())
    ]
    if baseline is not None:
        before = quality.read_predictions(baseline)
        gates += quality.regression_budget(frame, before, config.regression_budget, how, blocking=blocking)
    return gates


def _metrics(frame: pd.DataFrame, table: dict[str, dict[str, Any]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for group, row in table.items():
        metrics[f"score/{group}"] = row["value"]
        metrics[f"question_only/{group}"] = row["question_only"]["value"]
        metrics[f"gain/{group}"] = row["gain"]["value"]
    means = frame.groupby("group")[["correct", "question_only_correct"]].mean().mean()
    metrics["score/mean"] = float(means["correct"])
    metrics["question_only/mean"] = float(means["question_only_correct"])
    metrics["end_token_rate"] = float(frame["ended"].mean())
    metrics["repetition_rate"] = float(frame["repeats"].mean())
    return metrics


def _keep_samples(run: Run, questions: list[Question], frame: pd.DataFrame) -> None:
    """The first generations of each group (the choice is already random), each with its first image."""
    directory = run.logs / "samples"
    directory.mkdir(exist_ok=True)
    shown: list[dict[str, Any]] = []
    frame = frame.reset_index(drop=True)
    for group, rows in frame.groupby("group", sort=True):
        for number, (index, row) in enumerate(rows.head(SAMPLES_PER_GROUP).iterrows()):
            images = questions[int(str(index))].asked.prompt().images
            name = f"{re.sub(r'[^a-z0-9]+', '-', str(group).lower())}-{number:02d}.png"
            if images:
                images[0].save(directory / name)
            shown.append(
                {
                    "group": str(group),
                    "key": row["key"],
                    "question": row["question"],
                    "answer": row["answer"],
                    "prediction": row["prediction"],
                    "correct": bool(row["correct"]),
                    "question_only_prediction": row["question_only_prediction"],
                    "ended": bool(row["ended"]),
                    "image": f"samples/{name}" if images else None,
                }
            )
    (run.logs / "samples.json").write_text(json.dumps(shown, indent=1, ensure_ascii=False))
