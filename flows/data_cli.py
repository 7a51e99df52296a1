"""`opsin data`: look at datasets, publish them, bring versions back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from components.errors import ArtifactMissing, ConfigError
from components.progress import console

app = typer.Typer(
    no_args_is_help=True, help="Datasets: what was kept, what was rejected and why; publish, pull."
)
Workspace = Annotated[Path, typer.Option(help="Where .opsin/, runs/ and data/ lie.")]


@app.callback()
def data() -> None:
    """Datasets: what was kept, what was rejected and why; publish, pull."""


@app.command()
def show(
    reference: Annotated[
        str, typer.Argument(metavar="[REF]", help="A dataset's name, curate/FINGERPRINT, or a path.")
    ] = "",
    reason: Annotated[
        str, typer.Option(help="Only what was rejected for this reason, e.g. boilerplate.")
    ] = "",
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with pictures of all of it.", dir_okay=False)
    ] = None,
    num: Annotated[int, typer.Option(help="Samples shown of each category and reason.", min=1)] = 8,
    workspace: Workspace = Path("."),
) -> None:
    """Print the funnel and samples of what was kept and rejected; REF defaults to the newest curation.

    It works for a curation that a gate stopped, too.
    """
    from components.curate.gallery import build_gallery

    directory = find_curation(reference, workspace)
    gallery = build_gallery(directory, per_group=num, reason=reason)
    if reason and not gallery.rejected:
        known = sorted({code for step in gallery.funnel for code in step["reasons"]})
        raise ConfigError(f"nothing was rejected for '{reason}'", fix=f"reasons: {', '.join(known)}")
    console.print(f"[bold]{directory}[/]")
    funnel = Table("filter", "in", "rejected", "kept", "s", "samples/s", "reasons", box=None)
    for step in gallery.funnel:
        reasons = ", ".join(f"{code} {count:,}" for code, count in step["reasons"].items())
        numbers = (step["num_in"], step["num_in"] - step["num_out"], step["num_out"])
        rate = f"{step['samples_per_s']:,.0f}" if step["seconds"] >= 0.05 else ""
        funnel.add_row(
            step["name"], *(f"{each:,}" for each in numbers), f"{step['seconds']:.1f}", rate, reasons
        )
    console.print(funnel)
    for mark, groups in (("kept", gallery.kept), ("rejected", gallery.rejected)):
        for group in groups:
            table = Table("key", "split", "text", "found", box=None, title_justify="left")
            table.title = f"{mark}: {group.title} ({group.num_samples:,})"
            for each in group.samples:
                text = "; ".join(f"{question} {answer}" for question, answer in each.turns[:2])
                table.add_row(each.key, each.split, text[:90], (each.evidence or each.other)[:60])
            console.print(table)
    if html is not None:
        build_gallery(directory, per_group=max(num, 24), reason=reason).write(
            html, f"curate/{directory.name}"
        )
        console.print(f"[bold]page[/] {html}")


@app.command()
def publish(
    reference: Annotated[str, typer.Argument(metavar="REF", help="A dataset's name, or curate/FINGERPRINT.")],
    target: Annotated[Path, typer.Argument(help="Directory to write; new, or of an earlier publication.")],
    limits: Annotated[str, typer.Option(help="Known limits, for the dataset card.")] = "",
    push: Annotated[str, typer.Option(help="Also upload to this hub repository (ORG/NAME).")] = "",
    workspace: Workspace = Path("."),
) -> None:
    """Write a dataset in the hub's layout, with a dataset card: counts, licences, filters, gates, limits."""
    from components.artifacts import Dataset, Record
    from components.curate import publish as publishing

    directory = find_curation(reference, workspace)
    dataset = Dataset.model_validate(Record.load(directory / "record.json").artifact)
    card = publishing.publish(dataset, target, limits=limits)
    console.print(f"[bold]card[/] {card}")
    if push:
        console.print(f"[bold]hub[/] {publishing.push(target, push)}")


@app.command()
def download(
    config: Annotated[Path, typer.Argument(help="A TOML file with `urls:` sources.")],
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask once more for the pictures that did not come.")
    ] = False,
) -> None:
    """Download the pictures of `urls:` sources into the cache; `opsin run` does it too, but never twice."""
    from components.config import load
    from components.curate.sources.urls.scheme import resolve

    curate = load(config).curate
    lists = [source for source in curate.sources if source.locator.startswith("urls:")]
    if not lists:
        raise ConfigError("the config has no `urls:` source", where=str(config), fix="name another config")
    for source in lists:
        downloads = curate.execution.downloads
        found = resolve(source.locator, source, downloads, source.urls, retry_failed=retry_failed)
        console.print(f"[bold]{source.locator}[/] {found.path}  digest {found.sha256[:16]}")


@app.command("evaluation-set")
def evaluation_set(
    config: Annotated[Path, typer.Argument(help="A TOML file whose [[curate.sources]] are the evaluation.")],
    target: Annotated[Path, typer.Argument(help="The .parquet file to write.", dir_okay=False)],
    name: Annotated[str, typer.Option(help="Stands in reasons; default: the config's name.")] = "",
) -> None:
    """Write what an evaluation's pictures and texts are told by, to keep training data clean of them.

    Name the file in curate.duplicates.evaluation_sets: curation then removes what it holds (resized,
    recompressed, mirrored), and a gate blocks what is left.
    """
    from components.config import load
    from components.curate import preflight
    from components.curate.evaluation import make_evaluation_set

    resolved = load(config)
    written = make_evaluation_set(preflight(resolved.curate), target, name or resolved.name)
    for reason, count in written.reasons.items():
        console.print(f"[yellow]left out[/] {count:,}: {reason}")
    console.print(f"[bold]evaluation set[/] {target}: {written.num_samples:,} samples")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Folder under data/.")],
    version: Annotated[str, typer.Argument(help="<md5>.dir, as `opsin lineage` shows it.")],
    remote: Annotated[str, typer.Option(help="DVC remote URL; default: the workspace's own.")] = "",
    workspace: Workspace = Path("."),
) -> None:
    """Bring any version of a dataset back into data/NAME, from the cache or the remote."""
    from components.storage import pull as pull_version

    console.print(f"[bold]data[/] {pull_version(name, version, workspace=workspace, remote=remote)}")


def find_curation(reference: str, workspace: Path) -> Path:
    """Directory of a curation, finished or stopped by a gate.

    Args:
        reference: A path, `curate/FINGERPRINT`, a dataset's name, or nothing: the newest.

    Raises:
        ArtifactMissing: there is none.
    """
    from components.artifacts import Record

    if reference and Path(reference).is_dir():
        path = Path(reference)
        return next((each for each in (path, path.parent) if (each / "logs" / "funnel.json").is_file()), path)
    artifacts = workspace / ".opsin" / "artifacts"
    found = sorted(artifacts.glob("curate/*/logs/funnel.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(found):
        directory = path.parent.parent
        record = directory / "record.json"
        name = Record.load(record).artifact["name"] if record.is_file() else ""
        if not reference or reference == name or f"curate/{directory.name}".startswith(reference):
            return directory
    raise ArtifactMissing(
        f"no curation goes by '{reference}'" if reference else "nothing was curated here yet",
        where=str(artifacts),
        fix="run one: opsin run CONFIG --to curate",
    )
