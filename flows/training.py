"""Training steps: pretrain, sft, preferences, align, and the evaluation of each."""

from __future__ import annotations

from components.align import align as align_stage
from components.align import prefer as prefer_stage
from components.artifacts import Checkpoint, Dataset, Scores
from components.config import LifecycleConfig
from components.evaluate import evaluate as evaluate_stage
from components.pretrain import pretrain as pretrain_stage
from components.sft import sft as sft_stage
from flows.steps import step

pretrain = step(pretrain_stage, retries=1)
sft = step(sft_stage, retries=1)
prefer = step(prefer_stage)
align = step(align_stage, retries=1)
_evaluate = step(evaluate_stage)


def evaluate(
    config: LifecycleConfig, label: str, checkpoint: Checkpoint, dataset: Dataset, *, baseline: Scores | None
) -> Scores:
    """Held-out scores of `checkpoint`; with `baseline`, gated by the regression budget against it."""
    return _evaluate.named(f"evaluate-{label}")(
        config=config.evaluate, checkpoint=checkpoint, dataset=dataset, label=label, baseline=baseline
    )
