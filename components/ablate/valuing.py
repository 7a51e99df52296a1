"""The stage `value`: what each filter or source of a curation is worth to the model that is trained on it.

Pairs of runs: with and without it, on the stratified mixture, the same seed and as many tokens. Both are
measured on the held-out answers that both have, so on those that the filter lets pass.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from components.ablate.confirming import answers_of, assert_pair, interval_of, paired_gain
from components.ablate.design import category_sizes
from components.ablate.lineage import pools
from components.artifacts import Checkpoint, Dataset, Values
from components.config import AblateConfig
from components.gates.mixture import same_pool
from components.stage import Fields, Run, stage

FILE: Final = "value.json"


@stage("value", Values)
def value(
    run: Run,
    *,
    config: AblateConfig,
    dataset: Dataset,
    units: str,
    others: list[Dataset],
    runs_with: list[Checkpoint],
    runs_without: list[Checkpoint],
) -> Fields:
    """Write `value.json`: unit → gain of having it, with Student's interval over the pairs.

    Args:
        dataset: With everything.
        units: JSON list of names.
        others: The data without each unit.
        runs_with: On `dataset`, one a pair.
        runs_without: On `others`, unit by unit, each in the order of the pairs.

    Raises:
        OpsinError: a pair is none: other settings, another seed, or no held-out answer in common.
        GateFailed: a run was trained on other data.
    """
    names: list[str] = json.loads(units)
    pairs = len(runs_with)
    run.gate(same_pool({f"with-{i}": pools(each) for i, each in enumerate(runs_with)}, dataset.digest))
    categories = sorted(category_sizes(dataset))
    rows = dict[str, dict[str, Any]]()
    for number, (name, other) in enumerate(zip(names, others, strict=True)):
        mine = runs_without[number * pairs : (number + 1) * pairs]
        run.gate(same_pool({f"{name}-{i}": pools(each) for i, each in enumerate(mine)}, other.digest))
        gains = list[float]()
        for with_it, without_it in zip(runs_with, mine, strict=True):
            assert_pair(with_it, without_it)
            gains.append(paired_gain(config, categories, answers_of(with_it), answers_of(without_it)))
        gain = interval_of(np.array(gains), config.confidence)
        word = "helps" if gain.low > 0 else "hurts" if gain.high < 0 else "not told apart"
        rows[name] = {
            "value": gain.value,
            "low": gain.low,
            "high": gain.high,
            "n": pairs,
            "verdict": word,
            "samples": dataset.num_samples - other.num_samples,
            "gains": gains,
        }
        run.metrics |= {
            f"gain/{name}": gain.value,
            f"gain_low/{name}": gain.low,
            f"gain_high/{name}": gain.high,
        }
    records = [each.load_record() for each in (*runs_with, *runs_without)]
    run.metrics |= {
        "flops": sum(record.metrics.get("flops", 0.0) for record in records),
        "hours": sum(record.seconds for record in records) / 3600,
    }
    told = {"pairs": pairs, "tokens": int(records[0].metrics.get("tokens", 0)), "units": rows}
    (run.output / FILE).write_text(json.dumps(told, indent=1))
    return {}
