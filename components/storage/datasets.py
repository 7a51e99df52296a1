"""Datasets under DVC: bring the workspace, the cache and the remote in line with what curation made."""

from __future__ import annotations

from pathlib import Path

from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo, lock_repo
from dvc.stage import PipelineStage
from dvc_data.hashfile.checkout import checkout
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs.local import LocalFileSystem

from components.artifacts import Dataset, link_files
from components.config import load
from components.errors import ArtifactMissing, ContractMismatch
from components.storage.remotes import keep_remote, known_version, remote_errors
from components.storage.repository import open_repository
from components.storage.version import dataset_version


def materialize(dataset: Dataset, *, workspace: Path, name: str = "") -> Path:
    """Make `data/<name>` hold the dataset (hard links where the file system allows).

    Args:
        dataset: What curation gave.
        workspace: Root of the DVC repository.
        name: Folder under `data/`; empty: the dataset's own name.

    Returns:
        The folder.
    """
    target = workspace.resolve() / "data" / (name or dataset.name)
    if not target.is_dir() or dataset_version(target) != dataset.version:
        link_files(dataset.path, target)
    return target


def version_dataset(dataset: Dataset, *, workspace: Path, remote: str = "") -> str:
    """Put the dataset under DVC and push it: afterwards `dvc status` is clean, and where the workspace has no
    default remote of its own, a plain `dvc pull` there or in a copy asks this one.

    A dataset that a stage of `dvc.yaml` makes from the same config is committed to `dvc.lock`; any other
    is tracked by `data/<name>.dvc`. A run whose config differs from the one that `dvc.yaml` names (an
    override, a source skipped on this machine) leaves `data/<name>` alone and goes to
    `data/<name>-<version>`.

    Returns:
        The version, `<md5>.dir`; equals `dataset.version`.

    Raises:
        OpsinError: DVC refused.
        ContractMismatch: DVC sees other bytes than curation wrote.
    """
    with open_repository(workspace, remote) as repository:
        stage = _describing_stage(repository, dataset.name)
        name = dataset.name
        if stage is not None and not _same_config(stage, dataset):
            stage, name = None, f"{dataset.name}-{dataset.version[:8]}"
        folder = materialize(dataset, workspace=workspace, name=name)
        if stage is not None:
            _commit(repository, stage)
        else:
            (stage, *_) = repository.add([str(folder)])
        found = next(str(out.hash_info.value) for out in stage.outs if Path(out.fs_path) == folder)
        if found != dataset.version:
            raise ContractMismatch(
                f"DVC gives the dataset version {found}, its record says {dataset.version}",
                where=str(folder),
                fix=f"remove {dataset.uri} and curate again",
            )
        _push(repository, stage, remote)
    return found


def push(name: str, *, workspace: Path, remote: str = "") -> None:
    """Push `data/<name>` as the workspace tracks it.

    Raises:
        ArtifactMissing: the workspace tracks no such dataset.
        OpsinError: DVC refused.
    """
    with open_repository(workspace, remote) as repository:
        tracked = _tracking_stage(repository, name)
        if tracked is None:
            raise ArtifactMissing(
                f"data/{name} is not tracked here", where=str(workspace), fix="run its config first"
            )
        _push(repository, tracked, remote)


def pull(name: str, version: str, *, workspace: Path, remote: str = "") -> Path:
    """Make `data/<name>` hold a version, fetched from the remote where the cache lacks it.

    `data/<name>.dvc` names it then. What a stage of `dvc.yaml` makes stays as `dvc.lock` has it, so that
    `dvc status` tells another version from the one that the config gives.

    Args:
        name: Folder under `data/`.
        version: `<md5>.dir`, as in `Dataset.version` and in lineage records.
        workspace: Root of the DVC repository.
        remote: Remote URL; empty: the default remote.

    Raises:
        ArtifactMissing: neither the cache nor the remote has the version.
        OpsinError: DVC refused.
    """
    root = workspace.resolve()
    folder = checkout_version(root / "data" / name, version, workspace=root, remote=remote)
    with open_repository(root, remote) as repository:
        if _describing_stage(repository, name) is None:
            repository.add([str(folder)])
        with lock_repo(repository):
            keep_remote(root, remote)
    return folder


def checkout_version(target: Path, version: str, *, workspace: Path, remote: str = "") -> Path:
    """Make the folder `target` hold a version, fetched from the remote where the cache lacks it.

    Raises:
        ArtifactMissing: neither the cache nor the remote has the version.
        OpsinError: DVC refused.
    """
    wanted = HashInfo("md5", version)
    with open_repository(workspace, remote) as repository:
        cache = repository.cache.local
        with known_version(workspace, remote, version):
            repository.cloud.pull([wanted])
            tree = Tree.load(cache, wanted)
            repository.cloud.pull([oid for _, _, oid in tree])
        target.parent.mkdir(parents=True, exist_ok=True)
        files = LocalFileSystem()  # type: ignore[no-untyped-call]
        checkout(str(target), files, tree, cache, force=True)
    return target


def _push(repository: Repo, stage: PipelineStage, remote: str) -> None:
    root = Path(repository.root_dir)
    with remote_errors(root, remote):
        repository.push([stage.addressing])
    with lock_repo(repository):
        keep_remote(root, remote)


def _commit(repository: Repo, stage: PipelineStage) -> None:
    """`dvc commit --force` without the run cache, which wants the current directory in the workspace."""
    with lock_repo(repository):
        stage.save(run_cache=False)
        stage.commit()
        stage.dump(update_pipeline=False)


def _tracking_stage(repository: Repo, name: str) -> PipelineStage | None:
    """The stage of `dvc.yaml`, or the `.dvc` file, whose output is `data/<name>`."""
    folder = Path(repository.root_dir) / "data" / name
    for stage in repository.index.stages:
        if any(Path(out.fs_path) == folder for out in stage.outs):
            return stage
    return None


def _describing_stage(repository: Repo, name: str) -> PipelineStage | None:
    stage = _tracking_stage(repository, name)
    return stage if isinstance(stage, PipelineStage) else None


def _same_config(stage: PipelineStage, dataset: Dataset) -> bool:
    """Whether the config file that the stage depends on asks for exactly this dataset."""
    files = [Path(dep.fs_path) for dep in stage.deps if isinstance(dep, ParamsDependency)]
    made_from = dataset.load_record().identity.config
    return any(load(path).curate.identity() == made_from for path in files)
