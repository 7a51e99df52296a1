"""Training steps: the mixture ablation, pretrain, sft, preferences, align, and the evaluation of each."""

from __future__ import annotations

from components.ablate import STRATIFIED, confirm_config, num_candidates, proxy_config
from components.ablate import ablate as ablate_stage
from components.ablate import acquire as acquire_stage
from components.ablate import confirm as confirm_stage
from components.ablate import propose as propose_stage
from components.align import align as align_stage
from components.align import prefer as prefer_stage
from components.artifacts import Checkpoint, Dataset, Mixture, Scores
from components.config import LifecycleConfig
from components.evaluate import evaluate as evaluate_stage
from components.pretrain import pretrain as pretrain_stage
from components.sft import sft as sft_stage
from flows.plan import Pending
from flows.steps import step

pretrain = step(pretrain_stage, retries=1)
sft = step(sft_stage, retries=1)
prefer = step(prefer_stage)
align = step(align_stage, retries=1)
_propose, _acquire, _ablate = step(propose_stage), step(acquire_stage), step(ablate_stage)
_confirm, _evaluate = step(confirm_stage), step(evaluate_stage)


def ablation(config: LifecycleConfig, dataset: Dataset) -> Mixture:
    """Candidate mixtures → one proxy run each, through the same `pretrain` → the mixture to train on.

    Without proxy runs the first candidate is taken, the stratified mixture.
    """
    if not config.ablate.proxies:
        return _propose.named("mixture")(config=config.ablate, dataset=dataset, index="0")
    proxy = proxy_config(config.ablate, config.pretrain)
    candidates, proxies = list[Mixture](), list[Checkpoint]()
    spread_out = num_candidates(config.ablate) - config.ablate.acquired
    for index in range(num_candidates(config.ablate)):
        propose, acquire = _propose.named(f"propose-{index}"), _acquire.named(f"propose-{index}")
        train = pretrain.named(f"proxy-{index}")
        if index < spread_out:
            mixture = propose(config=config.ablate, dataset=dataset, index=str(index))
        else:
            mixture = acquire(
                config=config.ablate, dataset=dataset, candidates=[*candidates], proxies=[*proxies]
            )
        candidates.append(mixture)
        proxies.append(train(config=proxy, dataset=dataset, mixture=mixture))
    searched = _ablate(config=config.ablate, dataset=dataset, candidates=candidates, proxies=proxies)
    return _confirmed(config, dataset, searched=searched, stratified=candidates[0])


def _confirmed(
    config: LifecycleConfig, dataset: Dataset, *, searched: Mixture, stratified: Mixture
) -> Mixture:
    """What pairs of new runs say of the searched mixture. One that stratified was kept over needs none."""
    planned = isinstance(searched, Pending)  # whether a pair will be needed is not known yet
    if not config.ablate.confirm_pairs or (not planned and searched.name == STRATIFIED):
        return searched
    contenders, baselines = list[Checkpoint](), list[Checkpoint]()
    for pair in range(config.ablate.confirm_pairs):
        settings = confirm_config(config.ablate, config.pretrain, pair)
        for name, mixture, trained in (
            ("stratified", stratified, baselines),
            ("searched", searched, contenders),
        ):
            train = pretrain.named(f"confirm-{name}-{pair}")
            trained.append(train(config=settings, dataset=dataset, mixture=mixture))
    return _confirm(
        config=config.ablate,
        dataset=dataset,
        searched=searched,
        stratified=stratified,
        contenders=contenders,
        baselines=baselines,
    )


def evaluate(
    config: LifecycleConfig, label: str, checkpoint: Checkpoint, dataset: Dataset, *, baseline: Scores | None
) -> Scores:
    """Held-out scores of `checkpoint`; with `baseline`, gated by the regression budget against it."""
    return _evaluate.named(f"evaluate-{label}")(
        config=config.evaluate, checkpoint=checkpoint, dataset=dataset, label=label, baseline=baseline
    )
