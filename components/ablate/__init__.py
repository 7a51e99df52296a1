"""Proxy runs over mixtures → the mixture that training uses.

    num = num_candidates(config)
    candidates = [propose(config=config, dataset=dataset, index=str(i)) for i in range(num)]
    proxies = [pretrain(config=proxy_config(config, ...), dataset=dataset, mixture=m) for m in candidates]
    searched = ablate(config=config, dataset=dataset, candidates=candidates, proxies=proxies)
    longer = [pretrain(config=shortlist_config(config, ...), ...) for shortlist(config=config, ...) ...]
    searched = settle(config=config, dataset=dataset, searched=searched, candidates=..., proxies=longer)
    pairs = [pretrain(config=confirm_config(config, ..., pair), dataset=dataset, mixture=...) for ...]
    mixture = confirm(config=config, dataset=dataset, searched=searched, stratified=candidates[0], ...)

`adopt` takes a recipe of an earlier search instead; `value` tells what a filter or a source is worth.

python -m components.ablate configs/cpu.toml propose 0 --dataset R
python -m components.ablate configs/cpu.toml choose --dataset R --candidates R... --proxies R...

(R: path of a record.json; --help has the other doors)
"""

from components.ablate.choosing import ablate, acquire, candidates_of, propose
from components.ablate.confirming import confirm
from components.ablate.design import (
    STRATIFIED,
    confirm_config,
    design,
    num_candidates,
    proxy_config,
    shortlist_config,
)
from components.ablate.reuse import adopt, read_recipe
from components.ablate.shortlist import settle, shortlist
from components.ablate.units import units_of, without
from components.ablate.valuing import value

__all__ = [
    "STRATIFIED",
    "ablate",
    "acquire",
    "adopt",
    "candidates_of",
    "confirm",
    "confirm_config",
    "design",
    "num_candidates",
    "propose",
    "proxy_config",
    "read_recipe",
    "settle",
    "shortlist",
    "shortlist_config",
    "units_of",
    "value",
    "without",
]
