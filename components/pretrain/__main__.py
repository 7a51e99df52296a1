"""Command door of pretraining, for DVC and for a run by hand.

python -m components.pretrain CONFIG.toml --dataset RECORD.json --mixture RECORD.json
python -m components.pretrain CONFIG.toml … --set pretrain.processes=2    (by `accelerate launch`)
"""

from __future__ import annotations

import argparse
from pathlib import Path

from components.artifacts import Dataset, Mixture, Record
from components.config import load
from components.pretrain import pretrain


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m components.pretrain", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--dataset", type=Path, required=True, help="record.json of the dataset")
    parser.add_argument("--mixture", type=Path, required=True, help="record.json of the mixture")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    arguments = parser.parse_args()
    trained = pretrain(
        config=load(arguments.config, arguments.overrides).pretrain,
        dataset=Dataset.model_validate(Record.load(arguments.dataset).artifact),
        mixture=Mixture.model_validate(Record.load(arguments.mixture).artifact),
    )
    print(trained.record)


if __name__ == "__main__":
    main()
