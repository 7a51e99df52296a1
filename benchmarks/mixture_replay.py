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

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.harness import quick, report
from components.ablate.predictors import Observed, choose, fit
from components.ablate.simplex import farthest
from components.ablate.types import Matrix
from components.fingerprint import ROOT
from components.stage import hardware

DATA = Path(os.environ.get("OPSIN_REGMIX", ROOT.parent / "shared" / "data" / "regmix"))
COUNTS = (17, 32, 64, 128, 512)
RESAMPLES = {17: 20, 32: 20, 64: 20, 128: 10, 512: 1}
AIM = 32
SIZES = ("1m", "60m")


@dataclass(frozen=True)
class Split:
    """Runs of one size: weights (N, 17) and losses (N, 13)."""

    weights_NC: Matrix
    losses_NK: Matrix


Predict = Callable[[Observed, Matrix], Matrix]


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


def told_by(name: Any) -> Predict:
    return lambda seen, at_MC: fit(name, seen).log_losses(at_MC)


def auto(chosen: dict[str, int], seen: Observed, at_MC: Matrix) -> Matrix:
    name = choose(seen)
    chosen[name] = chosen.get(name, 0) + 1
    return fit(name, seen).log_losses(at_MC)


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
    train, domains, targets = load("train", "1m")
    tests = {size: load("test", size)[0] for size in SIZES}
    assert all((test.weights_NC == tests[SIZES[0]].weights_NC).all() for test in tests.values())
    own = np.array([domains.index(name) if name in domains else -1 for name in targets])
    chosen = dict[str, int]()
    contenders: dict[str, tuple[Predict, bool]] = {
        "substitution, spread out": (told_by("substitution"), True),
        "auto, spread out": (partial(auto, chosen), True),
        "substitution": (told_by("substitution"), False),
        "gaussian": (told_by("gaussian"), False),
        "log_linear": (told_by("log_linear"), False),
        "linear": (told_by("linear"), False),
        "lightgbm": (told_by("lightgbm"), False),
        "lightgbm, spread out": (told_by("lightgbm"), True),
    }
    table: dict[str, dict[str, Any]] = {}
    for name, (predict, spread) in contenders.items():
        for count in COUNTS:
            if count == len(train.weights_NC) and spread and not name.startswith("auto"):
                continue  # all runs are all runs
            begin, scores = time.perf_counter(), dict[str, list[dict[str, float]]]()
            for seed in range(min(RESAMPLES[count], 2) if is_quick else RESAMPLES[count]):
                runs = drawn(train.weights_NC, count, seed, spread=spread)
                seen = Observed(train.weights_NC[runs], np.log(train.losses_NK[runs]), own)
                predicted = np.exp(predict(seen, tests[SIZES[0]].weights_NC))
                for size, test in tests.items():
                    scores.setdefault(size, []).append(judge(predicted, test.losses_NK))
            row = {size: _summary(rows) for size, rows in scores.items()}
            table.setdefault(name, {})[str(count)] = row
            spent = time.perf_counter() - begin
            told = {size: [round(row[size][m][0], 4) for m in ("spearman", "regret")] for size in row}
            print(f"{name} k={count}: {told} {spent:.0f} s", file=sys.stderr, flush=True)
    ours, theirs = (
        table["substitution, spread out"][str(AIM)],
        table["lightgbm"][str(len(train.weights_NC))],
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
