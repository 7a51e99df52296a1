"""Proxy runs that never ran: the record and the validation answers, as far as the ablation reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from components.artifacts import Checkpoint, Identity, Mixture, Parent, Record

TOKENS, FLOPS = 1000.0, 1e12
ANSWERS = 40
"""Validation answers of each category."""


def finished_run(
    directory: Path, dataset: str, mixture: Mixture, losses: Mapping[str, float], *, seed: int = 0
) -> Checkpoint:
    """A run on `mixture` and the dataset with that digest, which reached `losses` (category → nats a token).

    Runs of the same seed are measured on the same answers.
    """
    (directory / "logs").mkdir(parents=True)
    artifact = Checkpoint(
        uri=str(directory), digest=directory.name, record=str(directory / "record.json"), contract="c"
    )
    random = np.random.default_rng(seed)
    answers = pd.DataFrame(
        {
            "key": [f"{name}-{index}" for name in losses for index in range(ANSWERS)],
            "turn": 0,
            "group": np.repeat(list(losses), ANSWERS),
            "tokens": 3.0,
            "correct": 0.0,
        }
    )
    of_each = random.uniform(0.5, 1.5, (len(losses), ANSWERS))
    of_each *= 3 * np.array(list(losses.values()))[:, None] / of_each.mean(axis=1, keepdims=True)
    answers["loss"] = of_each.ravel()
    answers.to_parquet(artifact.validation_answers, index=False)
    record = Record(
        stage="pretrain",
        fingerprint="f",
        artifact=artifact.model_dump(),
        identity=Identity(stage="pretrain", config={"seed": seed}, code={}, parents={}),
        config={},
        parents=(
            Parent(name="dataset", kind="dataset", digest=dataset, record="dataset/record.json"),
            Parent(name="mixture", kind="mixture", digest=mixture.digest, record=mixture.record),
        ),
        git_commit="unknown",
        environment="",
        hardware={},
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        metrics={"tokens": TOKENS, "flops": FLOPS, "parameters": 5e4, "steps": 10.0}
        | {f"validation_loss/{name}": loss for name, loss in losses.items()},
    )
    Path(artifact.record).write_text(record.model_dump_json())
    return artifact
