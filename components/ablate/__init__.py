"""Proxy runs over mixtures → the mixture that training uses.

    num = num_candidates(config)
    candidates = [propose(config=config, dataset=dataset, index=str(i)) for i in range(num)]
    proxies = [pretrain(config=proxy_config(config, ...), dataset=dataset, mixture=m) for m in candidates]
    mixture = ablate(config=config, dataset=dataset, candidates=candidates, proxies=proxies)

python -m components.ablate configs/cpu.toml propose 0 --dataset R
python -m components.ablate configs/cpu.toml choose --dataset R --candidates R... --proxies R...

(R: path of a record.json)
"""

from components.ablate.choosing import ablate, acquire, propose
from components.ablate.design import design, num_candidates, proxy_config

__all__ = ["ablate", "acquire", "design", "num_candidates", "propose", "proxy_config"]
