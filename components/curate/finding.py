"""Curations of a workspace by name, fingerprint or folder: finished, stopped by a gate, or restored."""

from __future__ import annotations

import json
from pathlib import Path

from components.artifacts import Dataset, Mixture, Record
from components.errors import ArtifactMissing

FIX = "run one: opsin run CONFIG --to curate"


def find_curation(reference: str, workspace: Path) -> Path:
    """Directory of a curation, finished or stopped by a gate; of several the newest.

    Args:
        reference: A dataset's name, `curate/FINGERPRINT` (its start is enough), a folder that holds a
            curation, or nothing: the newest of all.

    Raises:
        ArtifactMissing: there is none.
    """
    return _find_all(reference, workspace)[0]


def find_dataset(reference: str, workspace: Path) -> Dataset:
    """The newest dataset that goes by `reference` (as for `find_curation`), with its files.

    Raises:
        ArtifactMissing: there is none, a gate stopped it, or its files are gone.
    """
    found = _find_all(reference, workspace)
    directory = next((each for each in found if (each / "record.json").is_file()), None)
    if directory is None:
        raise ArtifactMissing(
            f"'{reference}' is no dataset yet: {_unfinished(found[0])}",
            where=str(found[0]),
            fix=f"see it with `opsin data show {reference}`, mend its config, and run it again",
        )
    if not (directory / "output" / "manifest.parquet").is_file():
        raise ArtifactMissing(
            f"the files of '{reference}' are gone, its record alone is here",
            where=str(directory / "output"),
            fix="run its config again, or bring them back: opsin restore MODEL@VERSION",
        )
    # A copied folder's record still names the place that it was copied from.
    here = {"uri": str(directory / "output"), "record": str(directory / "record.json")}
    return Dataset.model_validate(Record.load(directory / "record.json").artifact | here)


def find_mixture(dataset: Dataset, workspace: Path) -> Mixture | None:
    """The newest mixture that an ablation chose for exactly this dataset; None where none was searched."""
    artifacts = workspace / ".opsin" / "artifacts"
    paths = [path for stage in ("ablate", "confirm") for path in artifacts.glob(f"{stage}/*/record.json")]
    records = [record for record in map(Record.load, paths) if _has_parent(record, dataset.digest)]
    newest = max(records, key=lambda record: record.started, default=None)
    return None if newest is None else Mixture.model_validate(newest.artifact)


def _has_parent(record: Record, digest: str) -> bool:
    return any(parent.digest == digest for parent in record.parents)


def _find_all(reference: str, workspace: Path) -> list[Path]:
    """Names come first: a dataset's name may be a folder's, too."""
    artifacts = workspace / ".opsin" / "artifacts"
    known = sorted(filter(_is_curation, artifacts.glob("curate/*")), key=_changed, reverse=True)
    found = [each for each in known if _goes_by(each, reference)]
    if found:
        return found
    path = Path(reference)
    if reference and path.exists():
        for each in (path, path.parent):
            if _is_curation(each):
                return [each]
    names = ", ".join(sorted({_name(each) for each in known} - {""}))
    if not reference:
        raise ArtifactMissing("nothing was curated here yet", where=str(artifacts), fix=FIX)
    raise ArtifactMissing(
        f"no curation goes by '{reference}'" + (", and that folder holds none" if path.is_dir() else ""),
        where=str(artifacts),
        fix=f"name one of: {names}" if names else FIX,
    )


def _is_curation(directory: Path) -> bool:
    record = directory / "record.json"
    if record.is_file():
        return Record.load(record).stage == "curate"
    return (directory / "logs" / "funnel.json").is_file()


def _goes_by(directory: Path, reference: str) -> bool:
    if reference.startswith("curate/"):
        return f"curate/{directory.name}".startswith(reference)
    return not reference or reference == _name(directory)


def _name(directory: Path) -> str:
    """From the record, or, where a gate stopped it, from what it wrote before its gates."""
    record = directory / "record.json"
    if record.is_file():
        return str(Record.load(record).artifact["name"])
    return str(json.loads((directory / "logs" / "funnel.json").read_text()).get("name", ""))


def _changed(directory: Path) -> float:
    return max(
        path.stat().st_mtime
        for path in (directory / "record.json", directory / "logs" / "funnel.json")
        if path.is_file()
    )


def _unfinished(directory: Path) -> str:
    gates = directory / "gates.json"
    results = json.loads(gates.read_text()) if gates.is_file() else []
    failed = [gate["name"] for gate in results if gate["blocking"] and not gate["passed"]]
    return f"it was stopped by the gate {', '.join(failed)}" if failed else "it has not finished"
