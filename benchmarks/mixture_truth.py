"""Mixture search where the truth is known: a whole simplex of mixtures, trained at three seeds.

python -m benchmarks.mixture_truth [--quick]

Three categories (shapes, digits, charts) of real data; all 28 mixtures of a grid with a floor of 5% are
trained from scratch by the `pretrain` stage as the ablation's proxies are: a small model at three seeds, a
larger one at two. So every strategy can be replayed: it sees the runs of one seed of the small model, as many
as it pays for, and what it picks is judged by the mean of the two other seeds, and by the large model's runs.

Regret is how much worse the picked mixture's objective is than that of the grid's best, in percent; its noise
floor is what choosing by all 28 runs of one seed costs. The gain is over the stratified mixture.

- stratified: no proxies.    - random: any mixture.    - best of n: the best of n spread-out runs.
- RegMix: n random runs, LightGBM, the mean of the mixtures predicted best (Liu et al. 2024), to the grid.
- ours: n spread-out runs, `auto`, and stratified unless rank correlation and the gain's interval allow.
- ours, ungated: the predicted optimum whatever its uncertainty.

Everything that was trained is kept in `.opsin/benchmarks`, so an interrupted run goes on.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import quick, report
from components.ablate import candidates_of, propose, proxy_config
from components.ablate.design import STRATIFIED
from components.ablate.objective import objective_of
from components.ablate.predictors import Observed, fit
from components.ablate.simplex import farthest
from components.ablate.study import study_runs
from components.ablate.types import Matrix, ProxyRun, Vector
from components.artifacts import Dataset, Mixture
from components.config import AblateConfig, Execution, LifecycleConfig, load
from components.curate import curate, preflight
from components.fingerprint import ROOT
from components.pretrain import pretrain
from components.processes.workers import die_with_parent
from components.progress import Bar, hush
from components.stage import hardware

CATEGORIES = ("chart", "digits", "vqa")
DIVISIONS = 6
FLOOR = 0.05
SEEDS = {"small": (0, 1, 2), "large": (0, 1)}
COUNTS = (7, 13)
DRAWS = 40
"""Random designs (and random first runs of spread-out ones) of each strategy, seed and count."""
BEST_SHARE = 0.1
"""Of the mixtures predicted best, whose mean RegMix takes."""
MODELS: dict[str, dict[str, int | str]] = {
    "small": {"text_layers": 2, "vision_layers": 2, "text_width": 96, "text_heads": 3, "text_kv_heads": 3,
              "text_mlp": 256, "vision_width": 64},
    "large": {},
}  # fmt: skip
STEPS = {"small": 60, "large": 60}
PLACE = Path(".opsin") / "benchmarks" / "mixture_truth"


@dataclass(frozen=True)
class Truth:
    """What every mixture of the grid reached: losses (S, M, K) of S seeds."""

    weights_MC: Matrix
    losses_SMK: np.ndarray[Any, np.dtype[np.float64]]
    flops: float
    """Of one run, on the average."""

    def objective(self, config: AblateConfig, seeds: list[int]) -> Vector:
        """Mean objective of each mixture over `seeds`, each relative to its seed's stratified run."""
        values = []
        for seed in seeds:
            runs = runs_of(self, seed)
            values.append(objective_of(config, CATEGORIES, runs[stratified(self)])(self.losses_SMK[seed]))
        return np.asarray(np.mean(values, axis=0))


def grid() -> Matrix:
    """All mixtures whose shares above the floor are multiples of a sixth."""
    steps = [each for each in itertools.product(range(DIVISIONS + 1), repeat=3) if sum(each) == DIVISIONS]
    return np.array(steps) / DIVISIONS * (1 - FLOOR * len(CATEGORIES)) + FLOOR


def stratified(truth: Truth) -> int:
    return int(np.abs(truth.weights_MC - 1 / 3).sum(axis=1).argmin())


def runs_of(truth: Truth, seed: int) -> list[ProxyRun]:
    """The grid's runs of a seed; the stratified one has its name."""
    middle = stratified(truth)
    return [
        ProxyRun(
            STRATIFIED if number == middle else f"grid-{number}",
            dict(zip(CATEGORIES, weights.tolist(), strict=True)),
            dict(zip(CATEGORIES, truth.losses_SMK[seed, number].tolist(), strict=True)),
        )
        for number, weights in enumerate(truth.weights_MC)
    ]


Strategy = Callable[[AblateConfig, Truth, int, list[int]], int]
"""Config, truth, seed whose runs are seen, which runs → the mixture picked."""


def best_of(config: AblateConfig, truth: Truth, seed: int, chosen: list[int]) -> int:
    return chosen[int(truth.objective(config, [seed])[chosen].argmin())]


def regmix(config: AblateConfig, truth: Truth, seed: int, chosen: list[int]) -> int:
    losses_NK = truth.losses_SMK[seed][chosen]
    observed = Observed(truth.weights_MC[chosen], np.log(losses_NK), np.arange(len(CATEGORIES)))
    reference = truth.losses_SMK[seed][stratified(truth)]
    predicted = (np.exp(fit("lightgbm", observed).log_losses(truth.weights_MC)) / reference).mean(axis=1)
    best = np.argsort(predicted, kind="stable")[: max(1, round(BEST_SHARE * len(predicted)))]
    return nearest(truth, truth.weights_MC[best].mean(axis=0))


def ours(config: AblateConfig, truth: Truth, seed: int, chosen: list[int], *, gated: bool = True) -> int:
    runs = runs_of(truth, seed)
    study = study_runs(config, [*CATEGORIES], [runs[number] for number in chosen])
    trusted = study.rank_correlation >= config.min_rank_correlation and study.gain.low > config.min_gain
    if gated and not trusted:
        return stratified(truth)
    return nearest(truth, np.array([study.optimum.weights[name] for name in CATEGORIES]))


def ungated(config: AblateConfig, truth: Truth, seed: int, chosen: list[int]) -> int:
    return ours(config, truth, seed, chosen, gated=False)


def nearest(truth: Truth, weights_C: Vector) -> int:
    return int(np.abs(truth.weights_MC - weights_C).sum(axis=1).argmin())


STRATEGIES: dict[str, tuple[Strategy, bool]] = {
    "best of n": (best_of, True),
    "RegMix": (regmix, False),
    "ours": (ours, True),
    "ours, ungated": (ungated, True),
}
"""Strategy, and whether its runs are spread out (the stratified one is always among them)."""


def drawn(truth: Truth, count: int, draw: int, *, spread: bool) -> list[int]:
    order = [int(each) for each in np.random.default_rng(draw).permutation(len(truth.weights_MC))]
    chosen = [stratified(truth)]
    order.remove(chosen[0])
    if not spread:
        return chosen + order[: count - 1]
    chosen.append(order[0])
    while len(chosen) < count:
        chosen.append(nearest(truth, farthest(truth.weights_MC, truth.weights_MC[chosen])))
    return chosen


def train_grid(config: LifecycleConfig, dataset: Dataset, size: str, seeds: tuple[int, ...]) -> Truth:
    """All runs of a size, two at a time, each on one thread."""
    weights_MC = grid()
    named = {
        f"grid-{number}": dict(zip(CATEGORIES, row.tolist(), strict=True))
        for number, row in enumerate(weights_MC)
    }
    settings = config.ablate.model_copy(
        update={"proxies": len(named) + 2, "candidates": named, "model": MODELS[size], "steps": STEPS[size]}
    )
    candidates = candidates_of(settings, dataset)
    mixtures = {
        each.name: propose(config=settings, dataset=dataset, index=str(index))
        for index, each in enumerate(candidates)
        if each.name in named
    }
    jobs = [(settings, config, dataset, mixtures[name], seed) for seed in seeds for name in named]
    done = []
    with (
        Bar(f"{size} model", total=len(jobs), unit="run") as bar,
        ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_in_a_worker) as pool,
    ):
        for each in pool.map(_train, jobs):
            done.append(each)
            bar.advance()
    losses = np.array([[row[name] for name in CATEGORIES] for row in done])
    flops = float(np.mean([row["flops"] for row in done]))
    return Truth(weights_MC, losses.reshape(len(seeds), len(named), -1), flops)


def _train(job: tuple[AblateConfig, LifecycleConfig, Dataset, Mixture, int]) -> dict[str, float]:
    settings, config, dataset, mixture, seed = job
    proxy = proxy_config(settings, config.pretrain).model_copy(update={"seed": seed})
    metrics = pretrain(config=proxy, dataset=dataset, mixture=mixture).load_record().metrics
    return {name: metrics[f"validation_loss/{name}"] for name in CATEGORIES} | {"flops": metrics["flops"]}


def _in_a_worker() -> None:
    die_with_parent()
    hush()


def data() -> tuple[LifecycleConfig, Dataset]:
    """The three categories of `configs/cpu.toml`, curated."""
    config = load(ROOT / "configs" / "cpu.toml")
    execution = Execution(workspace=PLACE, threads=1, workers=1, download_cache=str(Path(".opsin/downloads")))
    sources = tuple(each for each in config.curate.sources if each.category in CATEGORIES)
    settings = config.curate.of_sources(sources).model_copy(
        update={"name": "truth", "execution": execution, "safety": None, "digests": {}}
    )
    dataset = curate(config=preflight(settings))
    keep = {name: share for name, share in config.pretrain.max_shift.items() if name in CATEGORIES}
    trained = config.pretrain.model_copy(
        update={"execution": execution, "max_epochs": {}, "max_shift": keep, "text_only_share": 0.0}
        | {"precision": "fp32"}  # the same on every machine
    )
    searched = AblateConfig(
        execution=execution, packs_per_step=2, min_share=FLOOR, validation_samples=200, bootstrap=400
    )
    return config.model_copy(update={"ablate": searched, "pretrain": trained}), dataset


def judge(config: AblateConfig, small: Truth, large: Truth | None, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Strategy → count → regret (percent) on both sizes, gain over stratified, and what it was charged."""
    table: dict[str, Any] = {}

    def told(picks: list[tuple[int, int]], count: int) -> dict[str, Any]:
        row: dict[str, Any] = {"charged_tflop": round(count * small.flops / 1e12, 3)}
        for name, truth in (("small", small), ("large", large)):
            if truth is None:
                continue
            regret, gain = [], []
            for seed, pick in picks:
                others = [each for each in seeds if each != seed]
                others = others if name == "small" else [*range(len(truth.losses_SMK))]
                value = truth.objective(config, others)
                regret.append(100 * (value[pick] / value.min() - 1))
                gain.append(100 * (1 - value[pick] / value[stratified(truth)]))
            row[f"regret_{name}"] = _interval(regret, [seed for seed, _ in picks])
            row[f"gain_{name}"] = _interval(gain, [seed for seed, _ in picks])
            row[f"worse_than_stratified_{name}"] = round(float(np.mean(np.array(gain) < 0)), 3)
        return row

    everything = len(small.weights_MC)
    table["stratified"] = {"0": told([(seed, stratified(small)) for seed in seeds], 0)}
    table["random"] = {"0": told([(seed, pick) for seed in seeds for pick in range(everything)], 0)}
    table["all runs of one seed (noise floor)"] = {
        str(everything): told(
            [(seed, int(small.objective(config, [seed]).argmin())) for seed in seeds], everything
        )
    }
    for name, (strategy, spread) in STRATEGIES.items():
        for count in COUNTS:
            begin = time.perf_counter()
            picks = [
                (seed, strategy(config, small, seed, drawn(small, count, draw, spread=spread)))
                for seed in seeds
                for draw in range(DRAWS)
            ]
            table.setdefault(name, {})[str(count)] = told(picks, count)
            spent = time.perf_counter() - begin
            print(f"{name} n={count}: {table[name][str(count)]} {spent:.0f} s", file=sys.stderr, flush=True)
    return table


def _interval(values: list[float], seeds: list[int]) -> list[float]:
    """Mean, and the least and most of the seeds' means: three seeds make no narrower claim."""
    means = [
        np.mean([v for v, s in zip(values, seeds, strict=True) if s == seed]) for seed in sorted(set(seeds))
    ]
    return [round(float(each), 3) for each in (np.mean(values), min(means), max(means))]


def main() -> None:
    is_quick = quick(__doc__ or "")
    config, dataset = data()
    seeds = SEEDS["small"][:2] if is_quick else SEEDS["small"]
    small = train_grid(config, dataset, "small", seeds)
    large = None if is_quick else train_grid(config, dataset, "large", SEEDS["large"])
    table = judge(config.ablate, small, large, seeds)
    count = str(COUNTS[-1])
    where = "regret_small" if large is None else "regret_large"
    noise = [small.objective(config.ablate, [seed]) for seed in seeds]
    result: dict[str, Any] = {
        "name": "mixture_truth",
        "claim": f"regret of the mixture found with {count} proxies, on a larger model, known truth",
        "unit": "% (less is better)",
        "ours": table["ours"][count][where][0],
        "peers": {
            "stratified": table["stratified"]["0"][where][0],
            "random": table["random"]["0"][where][0],
            f"best of {count}": table["best of n"][count][where][0],
            f"RegMix (LightGBM), {count} runs": table["RegMix"][count][where][0],
        },
        "table": table,
        "seed_noise_percent": round(100 * float(np.std(noise, axis=0, ddof=1).mean()), 3),
        "objective_spread_percent": round(100 * float(np.ptp(np.mean(noise, axis=0))), 3),
        "best_mixture": dict(
            zip(
                CATEGORIES,
                small.weights_MC[int(np.mean(noise, axis=0).argmin())].round(3).tolist(),
                strict=True,
            )
        ),
        "machine": hardware(),
        "runs": len(seeds) * len(small.weights_MC),
    }
    report(result)


if __name__ == "__main__":
    main()
