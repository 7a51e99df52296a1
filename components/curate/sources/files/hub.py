"""`hub:ORG/NAME@REVISION[:CONFIG]`, `hub:/local/dir[:CONFIG]`: datasets as the Hugging Face hub holds them.

The dataset card says which files belong to which config and split, and under which licence they are; where
it does not, the `datasets` library's own rules do (`data/train-00000-of-00002.parquet`, `test/…`). Parquet
files with pictures in them, tars of the WebDataset layout, and folders of pictures with a table are read.
No code of a dataset is ever run. A revision is resolved to its commit, which is the version; what was
fetched of a commit stays in the downloads folder and needs no hub any more. Of a dataset that is too large,
`options = { files = "data/train-0000*" }` takes a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from components.config import CurateConfig, SourceConfig
from components.curate.fetch import Fetched, Scheme
from components.curate.samples import Draft
from components.curate.sources.files import hub_files
from components.curate.sources.files.card import licence_of, read_card
from components.curate.sources.files.drafts import Found, Refused, draft_all
from components.curate.sources.files.folder import Place, find_samples
from components.curate.sources.files.listing import (
    Listing,
    Selection,
    digest_content,
    existing_folder,
    state_file,
)
from components.curate.sources.files.pairs import COLUMN_OPTIONS, Layout
from components.curate.sources.files.pictures import is_picture, load
from components.curate.sources.files.rows import SUFFIXES
from components.curate.sources.files.webdataset import read_shard
from components.curate.sources.reader import Reader


def check(locator: str) -> None:
    """
    Raises:
        ConfigError: it is not a locator of a dataset.
    """
    hub_files.HubLocator.parse(locator)


def unavailable(_locator: str, _downloads: Path) -> str:
    """Never: without a hub and without what it gave before, `fetch_hub` says what to do."""
    return ""


def fetch_hub(locator: str, source: SourceConfig, downloads: Path) -> Fetched:
    """The data files of one config, listed in a file.

    Raises:
        ConfigError: the dataset, the revision or the config does not exist, or only its own code could read
            it.
        SourceError: the hub did not answer, or wants its terms accepted first.
    """
    parsed = hub_files.HubLocator.parse(locator)
    where, wanted = f"curate.sources, {locator}", str(source.options.get("files", "*"))
    if parsed.repo:
        snapshot = hub_files.fetch_snapshot(parsed, wanted, downloads, where=where)
        root, version, path = snapshot.root, snapshot.commit, snapshot.selection
        selection = Selection.load(path)
    else:
        root = existing_folder(parsed.folder, where=where)
        selection = hub_files.choose_files(root, parsed.config, wanted, where=where)
    files = {each.name: each.path for each in selection.files}
    splits = [f"{each.name}\0{each.split}" for each in selection.files]
    sha256 = digest_content(files, state=state_file(downloads, locator), besides=splits)
    if not parsed.repo:
        version, path = sha256[:16], downloads / "hub" / "local" / f"{sha256[:16]}.json"
        selection.save(path)
    return Fetched(locator, version, path, sha256, licence_of(read_card(root)))


SCHEME = Scheme(check, unavailable, fetch_hub, versioned=False)


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """A draft for every row with a picture, and one with a reason for everything that is no sample.

    Only text columns are read.

    Raises:
        ConfigError: an option names a column that is not there.
    """
    layout = Layout.of(source)
    selection = Selection.load(archives["data"])
    shards = [each for each in selection.files if each.name.endswith(".tar")]
    found: list[Found | Refused] = [sample for shard in shards for sample in read_shard(shard, layout)]
    rest = {each.name: each for each in selection.files if not each.name.endswith(".tar")}
    if rest:
        listing = Listing({name: each.path for name, each in rest.items()}, {})
        splits = {name: each.split for name, each in rest.items()}
        found += find_samples(Place(_root(selection), listing, "", splits), layout, _tables(listing))
    return draft_all(found, layout, source, config)


READER = Reader(plan, load=load, options={**COLUMN_OPTIONS, "files": str})


def _root(selection: Selection) -> Path:
    """The folder that the names are relative to."""
    first = selection.files[0]
    return first.path.parents[len(PurePosixPath(first.name).parts) - 1]


def _tables(listing: Listing) -> list[str]:
    """Tables among the files; a `.json` named like a picture is that picture's sidecar."""
    pictures = [name for name in listing.files if is_picture(name)]
    stems = {*pictures, *(str(PurePosixPath(name).with_suffix("")) for name in pictures)}
    return [
        name
        for name in listing.files
        if PurePosixPath(name).suffix.lower() in (".parquet", *SUFFIXES)
        and str(PurePosixPath(name).with_suffix("")) not in stems
    ]
