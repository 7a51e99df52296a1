"""Command door of pretraining, for DVC and `accelerate launch`.

python -m components.pretrain CONFIG.toml --dataset RECORD.json --mixture RECORD.json
accelerate launch -m components.pretrain CONFIG.toml --dataset RECORD.json --mixture RECORD.json
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from components.artifacts import Checkpoint, Dataset, Mixture, Record
from components.config import PretrainConfig, load
from components.pretrain import pretrain
from components.stage import Run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m components.pretrain", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--dataset", type=Path, required=True, help="record.json of the dataset")
    parser.add_argument("--mixture", type=Path, required=True, help="record.json of the mixture")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    arguments = parser.parse_args()
    config = load(arguments.config, arguments.overrides).pretrain
    dataset = Dataset.model_validate(Record.load(arguments.dataset).artifact)
    mixture = Mixture.model_validate(Record.load(arguments.mixture).artifact)
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0 or pretrain.finished(config=config, dataset=dataset, mixture=mixture):
        print(_lead(config, dataset, mixture).record)
    else:
        _follow(config, dataset, mixture)


def _lead(config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> Checkpoint:
    return pretrain(config=config, dataset=dataset, mixture=mixture)


def _follow(config: PretrainConfig, dataset: Dataset, mixture: Mixture) -> None:
    """Work beside rank 0, which alone holds the stage's lock and writes its record."""
    identity = pretrain.identity(config=config, dataset=dataset, mixture=mixture)
    directory = pretrain.directory(identity, config)
    run = Run("pretrain", identity.fingerprint, directory)
    pretrain.body(run, config=config, dataset=dataset, mixture=mixture)


if __name__ == "__main__":
    main()
