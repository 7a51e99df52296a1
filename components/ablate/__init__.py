"""Proxy runs over mixtures → the mixture that training uses.

    num = num_candidates(config)
    candidates = [propose(config=config, dataset=dataset, index=str(i)) for i in range(num)]
    proxies = [pretrain(config=proxy_config(config, ...), dataset=dataset, mixture=m) for m in candidates]
    searched = ablate(config=config, dataset=dataset, candidates=candidates, proxies=proxies)
    pairs = [pretrain(config=confirm_config(config, ..., pair), dataset=dataset, mixture=...) for ...]
    mixture = confirm(config=config, dataset=dataset, searched=searched, stratified=candidates[0], ...)

python -m components.ablate configs/cpu.toml propose 0 --dataset R
python -m components.ablate configs/cpu.toml choose --dataset R --candidates R... --proxies R...

(R: path of a record.json)
"""

from components.ablate.choosing import ablate, acquire, propose
from components.ablate.confirming import confirm
from components.ablate.design import STRATIFIED, confirm_config, design, num_candidates, proxy_config

__all__ = [
    "STRATIFIED",
    "ablate",
    "acquire",
    "confirm",
    "confirm_config",
    "design",
    "num_candidates",
    "propose",
    "proxy_config",
]
