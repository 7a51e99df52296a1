"""How the mixture is found: proxy runs → the search → a shortlist trained longer → pairs that confirm."""

from __future__ import annotations

from components.ablate import (
    STRATIFIED,
    candidates_of,
    confirm_config,
    num_candidates,
    proxy_config,
    shortlist_config,
)
from components.ablate import ablate as ablate_stage
from components.ablate import acquire as acquire_stage
from components.ablate import adopt as adopt_stage
from components.ablate import confirm as confirm_stage
from components.ablate import propose as propose_stage
from components.ablate import settle as settle_stage
from components.ablate import shortlist as shortlist_stage
from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import AblateConfig, LifecycleConfig, PretrainConfig
from components.pretrain import pretrain as pretrain_stage
from flows.parallel import SideBySide, places
from flows.plan import Pending
from flows.steps import Call, step

_train = step(pretrain_stage, retries=1)
_propose, _acquire, _ablate = step(propose_stage), step(acquire_stage), step(ablate_stage)
_adopt, _shortlist, _settle = step(adopt_stage), step(shortlist_stage), step(settle_stage)
_confirm = step(confirm_stage)


def search(config: LifecycleConfig, dataset: Dataset) -> Mixture:
    """The mixture to train on: a recipe's, or the best that proxy runs find and pairs of runs confirm.

    Without either the first candidate is taken, the stratified mixture.
    """
    settings, pretrain = config.ablate, config.pretrain
    first = _planned(settings, dataset)
    if settings.recipe and not first:
        return _adopt(config=settings, dataset=dataset)
    if not settings.proxies:
        return _propose.named("mixture")(config=settings, dataset=dataset, index="0")
    with SideBySide(settings.execution, places(settings.execution, settings.at_once)) as side_by_side:
        candidates = [
            _propose.named(f"propose-{index}")(config=settings, dataset=dataset, index=str(index))
            for index in range(first)
        ]
        proxy = proxy_config(settings, pretrain)
        calls = [_call(f"proxy-{index}", proxy, dataset, each) for index, each in enumerate(candidates)]
        proxies = side_by_side("proxy runs", calls)
        for index in range(first, first if settings.recipe else num_candidates(settings)):
            mixture = _acquire.named(f"propose-{index}")(
                config=settings, dataset=dataset, candidates=[*candidates], proxies=[*proxies]
            )
            candidates.append(mixture)
            proxies += side_by_side(f"proxy-{index}", [_call(f"proxy-{index}", proxy, dataset, mixture)])
        searched = _ablate(config=settings, dataset=dataset, candidates=candidates, proxies=proxies)
        stratified = candidates[0]
        best = _best_of_shortlist(settings, pretrain, dataset, searched, stratified, side_by_side)
        return _confirmed(settings, pretrain, dataset, best, stratified, side_by_side)


def _planned(settings: AblateConfig, dataset: Dataset) -> int:
    """Runs that are known before any: all but the acquired; 0 where a recipe is taken as it is."""
    if settings.recipe:
        return 0 if isinstance(dataset, Pending) else len(candidates_of(settings, dataset))
    return num_candidates(settings) - settings.acquired


def _call(name: str, config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Call[Checkpoint]:
    return _train.named(name).call(config=config, dataset=dataset, mixture=mixture)


def _kept(searched: Mixture) -> bool:
    """Whether stratified was kept, as far as is known: a plan does not know."""
    return not isinstance(searched, Pending) and searched.name == STRATIFIED


def _best_of_shortlist(
    settings: AblateConfig,
    pretrain: PretrainConfig,
    dataset: Dataset,
    searched: Mixture,
    stratified: Mixture,
    side_by_side: SideBySide,
) -> Mixture:
    """The best of the search's first few after longer runs; nothing is run where stratified was kept."""
    if not settings.shortlist or _kept(searched):
        return searched
    listed = [
        _shortlist.named(f"shortlist-{index}")(config=settings, searched=searched, index=str(index))
        for index in range(settings.shortlist)
    ]
    candidates = [stratified, *listed]
    longer = shortlist_config(settings, pretrain)
    names = ["stratified", *(str(index) for index in range(settings.shortlist))]
    calls = [
        _call(f"longer-{name}", longer, dataset, each) for name, each in zip(names, candidates, strict=True)
    ]
    return _settle(
        config=settings,
        dataset=dataset,
        searched=searched,
        candidates=candidates,
        proxies=side_by_side("shortlist", calls),
    )


def _confirmed(
    settings: AblateConfig,
    pretrain: PretrainConfig,
    dataset: Dataset,
    searched: Mixture,
    stratified: Mixture,
    side_by_side: SideBySide,
) -> Mixture:
    """What pairs of new runs say of the searched mixture. One that stratified was kept over needs none."""
    if not settings.confirm_pairs or _kept(searched):
        return searched
    pairs = range(settings.confirm_pairs)
    calls = [
        _call(f"confirm-{name}-{pair}", confirm_config(settings, pretrain, pair), dataset, mixture)
        for pair in pairs
        for name, mixture in (("searched", searched), ("stratified", stratified))
    ]
    trained = side_by_side("confirmation", calls)
    return _confirm(
        config=settings,
        dataset=dataset,
        searched=searched,
        stratified=stratified,
        contenders=trained[::2],
        baselines=trained[1::2],
    )
