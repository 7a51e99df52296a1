"""Mixture search replayed on RegMix's public runs: how few proxies tell which mixture is better?

python -m benchmarks.mixture_replay [--quick]

RegMix (Liu et al. 2024, arXiv:2407.01492) published 512 runs of a 1M-parameter model on random mixtures of 17
domains of the Pile, with the validation losses of 13, to fit on; and 256 others to test on, run at 1M and at
60M parameters. Each predictor is fitted on k of the 512, many times (other k each time), and ranks the 256.
For each of the 13 losses, averaged, and for their mean: Spearman correlation with what the runs reached, and
regret (loss of the mixture predicted best minus the least, over the spread).

- `random`: the k runs are drawn at random, as RegMix's mixtures were.
- `spread out`: a first one is drawn, each next one is the farthest (`components.ablate.design`'s rule, on the
  weights alone; losses are not looked at).

The predictors know which of the 17 domains each loss is of (by its name), as a search in a lifecycle does.
`auto` chooses by cross-validation on the k runs. Nothing here was tuned on the 256.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from threadpoolctl import threadpool_limits

from benchmarks.harness import quick, report
from components.ablate.predictors import Observed, choose, fit
from components.ablate.simplex import farthest
from components.ablate.types import Matrix
from components.fingerprint import ROOT
from components.stage import hardware

DATA = Path(os.environ.get("OPSIN_REGMIX", ROOT.parent / "shared" / "data" / "regmix"))
COUNTS = (17, 32, 64, 128, 512)
ALL = 512
RESAMPLES = {17: 20, 32: 20, 64: 20, 128: 6, ALL: 1}
AIM = 32
CONTENDERS = (
    ("substitution", True),
    ("auto", True),
    ("substitution", False),
    ("lightgbm", False),
    ("lightgbm", True),
    ("log_linear", False),
    ("linear", False),
    ("gaussian", False),
)
"""Predictor, and whether its runs are spread out."""
SIZES = ("1m", "60m")


@dataclass(frozen=True)
class Split:
    """Runs of one size: weights (N, 17) and losses (N, 13)."""

    weights_NC: Matrix
    losses_NK: Matrix


def load(split: str, size: str) -> tuple[Split, list[str], list[str]]:
    """A split, its domains and its targets."""
    if not DATA.is_dir():
        sys.exit(
            f"RegMix's runs do not lie in {DATA}: put the CSV files of github.com/sail-sg/regmix there "
            "(regression_fitting/data), or name their folder in OPSIN_REGMIX"
        )
    weights = pd.read_csv(DATA / f"{split}_mixture_{size}.csv").set_index("index")
    losses = pd.read_csv(DATA / f"{split}_pile_loss_{size}.csv").set_index("index").loc[weights.index]
    shares = weights.to_numpy(np.float64)
    domains = [name.removeprefix("train_the_pile_") for name in weights.columns]
    targets = [name.removeprefix("metric/the_pile_").removesuffix("_val_loss") for name in losses.columns]
    return Split(shares / shares.sum(axis=1, keepdims=True), losses.to_numpy(np.float64)), domains, targets


def predict(name: str, seen: Observed, at_MC: Matrix) -> tuple[Matrix, str]:
    """Log losses by a predictor (`auto`: the one that cross-validation takes), and its name."""
    chosen: Any = choose(seen) if name == "auto" else name
    return fit(chosen, seen).log_losses(at_MC), chosen


def replay(job: tuple[str, bool, int, int]) -> tuple[dict[str, dict[str, float]], str]:
    """One fit on one drawing of runs, judged on both sizes."""
    name, spread, count, seed = job
    train, domains, targets = load("train", "1m")
    tests = {size: load("test", size)[0] for size in SIZES}
    assert all((test.weights_NC == tests[SIZES[0]].weights_NC).all() for test in tests.values())
    own = np.array([domains.index(each) if each in domains else -1 for each in targets])
    runs = drawn(train.weights_NC, count, seed, spread=spread)
    seen = Observed(train.weights_NC[runs], np.log(train.losses_NK[runs]), own)
    logs, used = predict(name, seen, tests[SIZES[0]].weights_NC)
    return {size: judge(np.exp(logs), test.losses_NK) for size, test in tests.items()}, used


def drawn(weights_NC: Matrix, count: int, seed: int, *, spread: bool) -> np.ndarray[Any, Any]:
    """Indices of the runs that are fitted on."""
    order = np.random.default_rng(seed).permutation(len(weights_NC))
    if not spread:
        return order[:count]
    chosen = [int(order[0])]
    while len(chosen) < count:
        next_C = farthest(weights_NC, weights_NC[chosen])
        chosen.append(int(np.flatnonzero((weights_NC == next_C).all(axis=1))[0]))
    return np.array(chosen)


def judge(predicted_NK: Matrix, true_NK: Matrix) -> dict[str, float]:
    """Spearman and regret: averaged over the targets, and of the targets' mean."""

    def both(predicted: Any, true: Any) -> tuple[float, float]:
        ranks = float(stats.spearmanr(true, predicted).statistic) if np.ptp(predicted) > 1e-12 else 0.0
        return ranks, float((true[predicted.argmin()] - true.min()) / np.ptp(true))

    each = np.array([both(p, t) for p, t in zip(predicted_NK.T, true_NK.T, strict=True)])
    mean = both(predicted_NK.mean(axis=1), true_NK.mean(axis=1))
    return {
        "spearman": float(each[:, 0].mean()),
        "regret": float(each[:, 1].mean()),
        "spearman_of_mean": mean[0],
        "regret_of_mean": mean[1],
    }


def main() -> None:
    is_quick = quick(__doc__ or "")
    load("train", "1m")  # or say what is missing
    chosen = dict[str, int]()
    table: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(
        max_workers=os.cpu_count(), initializer=threadpool_limits, initargs=(1,)
    ) as pool:
        for (name, spread), count in itertools.product(CONTENDERS, COUNTS):
            if count == ALL and spread and name != "auto":
                continue  # all runs are all runs
            begin, title = time.perf_counter(), name + ", spread out" * spread
            seeds = range(min(RESAMPLES[count], 2) if is_quick else RESAMPLES[count])
            done = list(pool.map(replay, [(name, spread, count, seed) for seed in seeds]))
            for _, used in done if name == "auto" else ():
                chosen[used] = chosen.get(used, 0) + 1
            row = {size: _summary([scores[size] for scores, _ in done]) for size in SIZES}
            table.setdefault(title, {})[str(count)] = row
            told = {size: [round(row[size][m][0], 4) for m in ("spearman", "regret")] for size in row}
            spent = time.perf_counter() - begin
            print(f"{title} k={count}: {told} {spent:.0f} s", file=sys.stderr, flush=True)
    ours, theirs = (
        table["substitution, spread out"][str(AIM)],
        table["lightgbm"][str(ALL)],
    )
    result: dict[str, Any] = {
        "name": "mixture_replay",
        "claim": f"rank correlation on unseen mixtures (1M, 13 targets) from {AIM} proxies, against 512",
        "unit": "Spearman",
        "ours": ours["1m"]["spearman"][0],
        "peers": {
            "LightGBM (RegMix) on 512 proxies, 1M": theirs["1m"]["spearman"][0],
            f"LightGBM (RegMix) on {AIM} proxies, 1M": table["lightgbm"][str(AIM)]["1m"]["spearman"][0],
        },
        "aim": {
            size: {
                measure: {"ours": ours[size][measure], "lightgbm_512": theirs[size][measure]}
                for measure in ours[size]
            }
            for size in SIZES
        },
        "auto_chose": chosen,
        "table": table,
        "machine": hardware(),
        "runs": RESAMPLES[AIM],
    }
    report(result)


def _summary(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Measure → mean over resamples, and the 2.5 and 97.5 percentiles of them."""
    return {
        measure: [
            round(float(value), 5)
            for value in (
                np.mean([row[measure] for row in rows]),
                *np.quantile([row[measure] for row in rows], [0.025, 0.975]),
            )
        ]
        for measure in rows[0]
    }


if __name__ == "__main__":
    main()
