"""The command doors of the ablation; each writes a mixture and prints its recipe.

propose     a candidate           acquire   the next one worth a run
choose      from finished runs    shortlist one of the best, to train longer
settle      after longer runs     confirm   by pairs of runs
adopt       a recipe as it is
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from components import config
from components.ablate import ablate, acquire, adopt, candidates_of, confirm, propose, settle, shortlist
from components.artifacts import ArtifactT, Checkpoint, Dataset, Mixture, Record
from components.config import AblateConfig
from components.errors import OpsinError

MANY: Final = ("candidates", "proxies", "contenders", "baselines")
DOORS: Final[dict[str, tuple[Any, str, tuple[str, ...]]]] = {
    "propose": (propose, "write a candidate mixture", ("index", "dataset")),
    "acquire": (acquire, "write the next mixture worth a run", ("dataset", "candidates", "proxies")),
    "choose": (ablate, "fit the finished proxies and choose", ("dataset", "candidates", "proxies")),
    "shortlist": (shortlist, "write a mixture of the shortlist", ("index", "searched")),
    "settle": (
        settle,
        "keep the best of the shortlist's longer runs",
        ("dataset", "searched", "candidates", "proxies"),
    ),
    "confirm": (
        confirm,
        "decide by pairs of runs",
        ("dataset", "searched", "stratified", "contenders", "baselines"),
    ),
    "adopt": (adopt, "take the mixture of ablate.recipe as it is", ("dataset",)),
}
"""Door → stage, help, inputs."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m components.ablate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    doors = parser.add_subparsers(dest="door", required=True)
    for name, (_, told, inputs) in DOORS.items():
        door = doors.add_parser(name, help=told, description=told)
        for each in inputs:
            if each == "index":
                door.add_argument("index", type=int, help="the first is 0")
            else:
                number = "+" if each in MANY else None
                door.add_argument(f"--{each}", type=Path, nargs=number, required=True, metavar="RECORD")
    try:
        print((_run(parser.parse_args()).path / "mixture.toml").read_text())
    except OpsinError as error:
        raise SystemExit(str(error)) from None


def _run(arguments: argparse.Namespace) -> Mixture:
    section = config.load(arguments.config, arguments.set).ablate
    stage, _, names = DOORS[arguments.door]
    inputs = {name: _input(name, getattr(arguments, name)) for name in names}
    if arguments.door == "propose":
        _assert_candidate(section, inputs["dataset"], arguments.index)
    made: Mixture = stage(config=section, **inputs)
    return made


def _input(name: str, given: Any) -> Any:
    if name == "index":
        return str(given)
    kind: Any = {"dataset": Dataset, "proxies": Checkpoint, "contenders": Checkpoint, "baselines": Checkpoint}
    kind = kind.get(name, Mixture)
    return [_read(kind, path) for path in given] if name in MANY else _read(kind, given)


def _read(kind: type[ArtifactT], path: Path) -> ArtifactT:
    artifact = Record.load(path).artifact
    wanted = kind.model_fields["kind"].default
    if artifact["kind"] != wanted:
        raise OpsinError(
            f"this is a {artifact['kind']}, not a {wanted}", where=str(path), fix="name another record"
        )
    return kind.model_validate(artifact)


def _assert_candidate(section: AblateConfig, dataset: Dataset, index: int) -> None:
    number = len(candidates_of(section, dataset))
    if index not in range(number):
        raise OpsinError(
            f"there is no candidate {index}",
            fix=f"give 0 to {number - 1} (ablate.proxies is {section.proxies}, the acquired ones come later)",
        )


if __name__ == "__main__":
    main()
