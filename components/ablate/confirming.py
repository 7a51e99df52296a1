"""The stage `confirm`: is the searched mixture really better than the stratified one, at equal tokens?

The search predicts from short runs, and picked what looked best in them; so what it promises is too good.
Here both mixtures train anew, in pairs: the same seed (weights, validation samples) and as many tokens, other
seeds than the search's. The searched mixture goes on only where the pairs agree that it is better.
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from components.ablate.design import category_sizes
from components.ablate.lineage import assert_trained_on, pools
from components.ablate.objective import ERROR, LEAST_ERROR, objective_of
from components.ablate.recipe import write_recipe
from components.ablate.types import Gain, ProxyRun, Vector
from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import AblateConfig
from components.errors import ArtifactMissing, OpsinError
from components.gates.mixture import gain_confirmed, same_pool
from components.stage import Fields, Run, stage


@stage("confirm", Mixture)
def confirm(
    run: Run,
    *,
    config: AblateConfig,
    dataset: Dataset,
    searched: Mixture,
    stratified: Mixture,
    contenders: list[Checkpoint],
    baselines: list[Checkpoint],
) -> Fields:
    """Give the searched mixture, or the stratified one where pairs of runs do not confirm the gain.

    Args:
        contenders: Trained on `searched`, one a pair.
        baselines: Trained on `stratified`, in the same order.

    Raises:
        OpsinError: a pair is none: another mixture, seed or number of tokens.
        GateFailed: a run was trained on other data.
        ArtifactMissing: a run's validation answers are gone.
    """
    categories = sorted(category_sizes(dataset))
    for mixture, trained in ((searched, contenders), (stratified, baselines)):
        for checkpoint in trained:
            assert_trained_on(checkpoint, mixture)
    everyone = {each.digest[:8]: pools(each) for each in (*contenders, *baselines)}
    run.gate(same_pool(everyone, dataset.digest))
    for pair in zip(contenders, baselines, strict=True):
        assert_pair(*pair)
    gains = [
        paired_gain(config, categories, answers_of(contender), answers_of(baseline))
        for contender, baseline in zip(contenders, baselines, strict=True)
    ]
    gain = interval_of(np.array(gains), config.confidence)
    passed = run.gate(
        gain_confirmed(gain.value, gain.low, gain.high, pairs=len(gains), minimum=config.min_gain)
    )
    chosen = searched if passed.passed else stratified
    word = "confirmed" if passed.passed else "refused, stratified kept"
    seen = f"{gain.value:+.1%} [{gain.low:+.1%}, {gain.high:+.1%}] in {len(gains)} pairs of runs"
    verdict = f"{searched.name} {word}: gain over stratified {seen} at equal tokens"
    told: dict[str, Any] = {
        "verdict": verdict,
        "pairs": [round(float(each), 6) for each in gains],
        "gain": {name: round(float(getattr(gain, name)), 6) for name in ("value", "low", "high")},
        "tokens": [int(each.load_record().metrics["tokens"]) for each in (*contenders, *baselines)],
    }
    recipe = tomllib.loads((searched.path / "mixture.toml").read_text())
    rest = {key: value for key, value in recipe.items() if key not in ("name", "weights")}
    write_recipe(run.output, chosen.name, chosen.weights, rest | {"confirmation": told})
    (run.output / "confirmation.json").write_text(json.dumps(told | {"chosen": chosen.name}, indent=1))
    records = [each.load_record() for each in (*contenders, *baselines)]
    run.metrics.update(
        confirmed=float(passed.passed),
        confirmed_gain=gain.value,
        confirmed_gain_low=gain.low,
        confirmed_gain_high=gain.high,
        confirm_flops=sum(record.metrics.get("flops", 0.0) for record in records),
        confirm_hours=sum(record.seconds for record in records) / 3600,
    )
    return {"name": chosen.name, "weights": chosen.weights}


def paired_gain(
    config: AblateConfig, categories: list[str], contender: pd.DataFrame, baseline: pd.DataFrame
) -> float:
    """Relative improvement of the objective, on the answers that both runs were measured on.

    Losses are nats an answer, in units of the baseline's tokens: the two may have tokenizers of their own.
    """
    where = ["key", "turn", "group"]
    both = contender.merge(baseline, on=where, suffixes=("", "_baseline"))
    missing = sorted(set(categories) - set(both["group"]))
    if missing:
        raise OpsinError(
            f"a pair of runs shares no validation answer of {', '.join(missing)}",
            where="ablate.confirm_pairs",
            fix="train both on the same dataset with the same seed",
        )
    sides = []
    for suffix in ("", "_baseline"):
        sums = both.groupby("group")[[f"loss{suffix}", "tokens_baseline", f"correct{suffix}"]].sum()
        losses = sums[f"loss{suffix}"] / sums["tokens_baseline"]
        errors = 1 - sums[f"correct{suffix}"] / both.groupby("group").size()
        measured = {name: float(losses[name]) for name in categories}
        measured |= {f"{ERROR}{name}": max(float(errors[name]), LEAST_ERROR) for name in categories}
        sides.append(ProxyRun("", {}, measured))
    objective = objective_of(config, categories, sides[1])
    mine = np.array([[sides[0].losses[target] for target in objective.targets]])
    return float(1 - objective(mine)[0])


def interval_of(gains: Vector, confidence: float) -> Gain:
    """Mean over pairs with Student's interval: seeds and validation samples differ from pair to pair, so
    their spread holds what either does."""
    mean = float(gains.mean())
    reach = stats.t.ppf((1 + confidence) / 2, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return Gain(mean, mean - float(reach), mean + float(reach))


def answers_of(checkpoint: Checkpoint) -> pd.DataFrame:
    path = checkpoint.validation_answers
    if not path.is_file():
        raise ArtifactMissing(
            "a proxy's validation answers are gone", where=str(path), fix="delete its folder and run it again"
        )
    return pd.read_parquet(path)


def assert_pair(contender: Checkpoint, baseline: Checkpoint) -> None:
    """Same settings, seed and steps: all but the mixture."""
    mine, theirs = contender.load_record().identity, baseline.load_record().identity
    if mine.config != theirs.config or mine.code != theirs.code:
        raise OpsinError(
            "the two runs of a pair differ in more than their mixture",
            where=f"{contender.record}, {baseline.record}",
            fix="train both with the same settings and the same seed",
        )
