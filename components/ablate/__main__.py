"""The command doors of the ablation: `propose` a candidate, `choose` from finished proxies."""

from __future__ import annotations

import argparse
from pathlib import Path

from components import config
from components.ablate import ablate, num_candidates, propose
from components.artifacts import Checkpoint, Dataset, Mixture, Record
from components.errors import OpsinError


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m components.ablate", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    doors = parser.add_subparsers(dest="door", required=True)
    one = doors.add_parser("propose", help="write a candidate mixture")
    one.add_argument("index", type=int, help="0 is the stratified mixture")
    one.add_argument("--dataset", type=Path, required=True, metavar="RECORD")
    whole = doors.add_parser("choose", help="fit the finished proxies and choose the mixture")
    whole.add_argument("--dataset", type=Path, required=True, metavar="RECORD")
    whole.add_argument("--candidates", type=Path, nargs="+", required=True, metavar="RECORD")
    whole.add_argument("--proxies", type=Path, nargs="+", required=True, metavar="RECORD")
    try:
        print((_run(parser.parse_args()).path / "mixture.toml").read_text())
    except OpsinError as error:
        raise SystemExit(str(error)) from None


def _run(arguments: argparse.Namespace) -> Mixture:
    section = config.load(arguments.config, arguments.set).ablate
    dataset = Dataset.model_validate(Record.load(arguments.dataset).artifact)
    if arguments.door == "propose":
        if arguments.index not in range(num_candidates(section)):
            raise OpsinError(
                f"there is no candidate {arguments.index}",
                fix=f"give 0 to {num_candidates(section) - 1} (ablate.proxies is {section.proxies})",
            )
        return propose(config=section, dataset=dataset, index=str(arguments.index))
    if len(arguments.candidates) != len(arguments.proxies):
        raise OpsinError(
            f"{len(arguments.candidates)} candidates but {len(arguments.proxies)} proxies",
            fix="give one proxy for each candidate, in the same order",
        )
    return ablate(
        config=section,
        dataset=dataset,
        candidates=[Mixture.model_validate(Record.load(path).artifact) for path in arguments.candidates],
        proxies=[Checkpoint.model_validate(Record.load(path).artifact) for path in arguments.proxies],
    )


if __name__ == "__main__":
    main()
