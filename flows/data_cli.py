"""`opsin data`: look at datasets, publish them, bring versions back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from components.errors import ConfigError
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
        str, typer.Argument(metavar="[REF]", help="A dataset's name, curate/FINGERPRINT, or its folder.")
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
    from components.curate.finding import find_curation
    from components.curate.gallery import build_gallery

    directory = find_curation(reference, workspace)
    gallery = build_gallery(directory, per_group=num, reason=reason)
    if reason and not gallery.rejected:
        known = sorted({code for step in gallery.funnel for code in step["reasons"]})
        raise ConfigError(
            f"nothing is known to be rejected for '{reason}'",
            where=str(directory),
            fix=f"reasons: {', '.join(known)}" if known else "name another curation: this one has no logs",
        )
    console.print(f"[bold]{directory}[/]")
    if not gallery.funnel:
        console.print("no logs here, as of a restored dataset: what was rejected is not known")
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
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="A dataset's name, curate/FINGERPRINT, or its folder.")
    ],
    target: Annotated[Path, typer.Argument(help="Directory to write; new, or of an earlier publication.")],
    limits: Annotated[str, typer.Option(help="Known limits, for the dataset card.")] = "",
    push: Annotated[str, typer.Option(help="Also upload to this hub repository (ORG/NAME).")] = "",
    workspace: Workspace = Path("."),
) -> None:
    """Write a dataset in the hub's layout, with a card: counts, mixture, licences, filters, gates, limits."""
    from components.curate import publish as publishing
    from components.curate.finding import find_dataset, find_mixture

    dataset = find_dataset(reference, workspace)
    mixture = find_mixture(dataset, workspace)
    card = publishing.publish(dataset, target, limits=limits, weights=mixture.weights if mixture else {})
    console.print(f"[bold]dataset[/] {dataset.name}, version {dataset.version}")
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
