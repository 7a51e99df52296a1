"""The `opsin` command.

opsin run configs/cpu.toml            the whole lifecycle
opsin run configs/cpu.toml --dry-run  what would run, and why
opsin value configs/cpu.toml          what each filter and source is worth
opsin data show                       what curation kept and rejected, and why
opsin lineage latest                  from the release back to every source
opsin restore opsin-vlm@champion      the data, config and records that made a registered model
opsin status                          what is up, and the last runs
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from components.config import LifecycleConfig, load
from components.environments import QUIET
from components.errors import OpsinError
from components.progress import console
from flows import data_cli
from flows.server import start_prefect_server

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="From raw image-text sources to a canaried vision-language endpoint.",
)
app.add_typer(data_cli.app, name="data")
Config = Annotated[Path, typer.Argument(help="A TOML file, for example configs/cpu.toml.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override one key, e.g. [bold]align.beta=0.2[/]; repeatable.", metavar="KEY=VALUE"
    ),
]
Workspace = Annotated[Path, typer.Option(help="Where .opsin/, runs/ and data/ lie.")]


@app.command()
def run(
    config: Config,
    overrides: Set = None,
    to: Annotated[str | None, typer.Option(help="Last stage to run: curate, ablate, pretrain, …")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and why (fetches sources).")
    ] = False,
) -> None:
    """Run the lifecycle. What is already done is not done again; a crashed run continues."""
    resolved = load(config, overrides or ())
    prepare(resolved)
    from flows.session import STAGES, assert_reachable

    if to is not None and to not in STAGES:
        raise OpsinError(f"no stage '{to}'", where="--to", fix=f"one of: {', '.join(STAGES)}")
    assert_reachable(resolved, to)
    from components.ablate import read_recipe
    from components.curate import preflight

    if resolved.ablate.recipe:
        read_recipe(resolved.ablate)  # rather now than behind the curation

    # What a source holds, and which ones this machine can have, is part of the data's identity.
    available = resolved.with_data(preflight(resolved.curate))
    if dry_run:
        from flows.lifecycle import story

        console.print(_plan(available, to, lambda: story(available)))
        return
    server = start_prefect_server(resolved.execution.home)
    from flows.lifecycle import lifecycle

    server.wait()
    console.print(f"[dim]watch in Prefect's UI: {server.url.removesuffix('/api')}[/]")
    lifecycle(available, to)


def _plan(config: LifecycleConfig, to: str | None, story: Callable[[], object]) -> Table:
    from flows.session import planning

    with planning(config, to) as session:
        story()
    table = Table("step", "stage", "", "why", box=None, header_style="bold")
    for line in session.planned:
        mark = "[green]cached[/]" if line.cached else "[yellow]to run[/]"
        table.add_row(line.name, line.stage, mark, line.why)
    return table


@app.command()
def value(
    config: Config,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="What is left out in turn: safety, text.languages, source:LOCATOR, …; repeatable. "
            "Default: all that the config itself asks for.",
            metavar="PART",
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(help="Pairs of proxy runs for each, of other seeds.", min=2)] = 3,
    overrides: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and why.")] = False,
) -> None:
    """What each filter and source is worth: proxies on the data with and without it, compared in pairs.

    A proxy is what [bold][ablate][/] says; --set ablate.steps=… makes it longer, and smaller effects seen.
    """
    resolved = load(config, overrides or ())
    prepare(resolved)
    from components.ablate import units_of
    from components.ablate import without as leave_out
    from components.curate import preflight
    from flows.session import assert_reachable

    assert_reachable(resolved, "ablate")
    available = resolved.with_data(preflight(resolved.curate))
    units = without or units_of(available.curate)
    if not units:
        raise OpsinError(
            "the config has nothing that could be left out",
            where=str(config),
            fix="name a part: --without PART",
        )
    for unit in units:
        leave_out(available.curate, unit)
    if dry_run:
        from flows.value import story

        console.print(_plan(available, "ablate", lambda: story(available, units, pairs)))
        return
    server = start_prefect_server(resolved.execution.home)
    from flows.value import value as compare

    server.wait()
    console.print(f"[dim]watch in Prefect's UI: {server.url.removesuffix('/api')}[/]")
    values = compare(available, units, pairs)
    rows = json.loads((values.path / "value.json").read_text())["units"]
    table = Table("part", "its gain", "interval", "samples", "", box=None, header_style="bold")
    for name, row in rows.items():
        interval = f"[{row['low']:+.1%}, {row['high']:+.1%}]"
        table.add_row(name, f"{row['value']:+.1%}", interval, f"{row['samples']:+,}", row["verdict"])
    console.print(table)


@app.command()
def deploy(
    config: Config,
    bundle: Annotated[str, typer.Argument(help="A bundle: STAGE/FINGERPRINT, a run id, or a path.")],
    overrides: Set = None,
) -> None:
    """Canary one finished bundle against the champion, without training anything."""
    resolved = load(config, overrides or ())
    prepare(resolved)
    from components.artifacts import Bundle, Checkpoint, Dataset, Record
    from components.lineage import find_record

    path = find_record(bundle, resolved.execution.workspace)
    record = Record.load(path)
    parents = {parent.name: Record.load(Path(parent.record)).artifact for parent in record.parents}
    if record.artifact["kind"] != "bundle":
        raise OpsinError(
            f"'{bundle}' is a {record.artifact['kind']}, not a bundle",
            where=str(path),
            fix="name the output of the export stage, for example export/3fa9",
        )
    server = start_prefect_server(resolved.execution.home)
    from flows.promotion import promote

    server.wait()
    promote(
        resolved,
        Bundle.model_validate(record.artifact),
        Checkpoint.model_validate(parents["reference"]),
        Dataset.model_validate(parents["dataset"]),
    )


@app.command()
def lineage(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF", help="A run id or `latest`, MODEL@VERSION, STAGE/FINGERPRINT, or a path."
        ),
    ],
    workspace: Workspace = Path("."),
    tracking_uri: Annotated[str, typer.Option(help="MLflow; default: SQLite in the workspace.")] = "",
) -> None:
    """Walk a release, model version, checkpoint or dataset back to its sources."""
    from components.lineage import find_record, tree

    if "@" in reference:
        from components.config import Execution, TrackingConfig
        from components.tracking.registry import record_of
        from components.tracking.runs import tracking_uri as default_uri

        uri = tracking_uri or default_uri(TrackingConfig(), Execution(workspace=workspace))
        path = record_of(uri, *reference.split("@", 1))
    else:
        path = find_record(reference, workspace)
    console.print(tree(path))


@app.command()
def status(workspace: Workspace = Path(".")) -> None:
    """What is up, and the last runs."""
    from components.deploy import serving

    up = serving.status(workspace.resolve() / ".opsin")
    console.print(
        f"serving: {up}"
        if up
        else "serving: nothing ([dim]deploy.keep_serving=true keeps the champion up[/])"
    )
    table = Table("run", "verdict", "wall", "ran / cached", "report", box=None, header_style="bold")
    reports = sorted((workspace / "runs").glob("*-*/report.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(reports[-8:]):
        report = json.loads(path.read_text())
        cached = sum(stage["cached"] for stage in report["stages"].values())
        ran = f"{len(report['stages']) - cached} / {cached}"
        page = str(path.with_suffix(".html"))
        table.add_row(report["run_id"], report["verdict"], f"{report['wall_s']:.0f} s", ran, page)
    console.print(table if table.row_count else "no runs yet: opsin run configs/cpu.toml")


@app.command()
def restore(
    reference: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="A version number or an alias.")],
    tracking_uri: Annotated[str, typer.Option(help="MLflow; default: SQLite in the workspace.")] = "",
    remote: Annotated[str, typer.Option(help="DVC remote URL; default: the one of the record.")] = "",
    workspace: Workspace = Path("."),
) -> None:
    """Bring back exactly the data, the config and the records that made a registered model."""
    from components.config import Execution, TrackingConfig
    from components.restore import as_lines
    from components.restore import restore as bring_back
    from components.tracking.runs import tracking_uri as default_uri

    model, _, version = reference.partition("@")
    uri = tracking_uri or default_uri(TrackingConfig(), Execution(workspace=workspace))
    restored = bring_back(uri, model, version or "champion", workspace=workspace, remote=remote)
    for line in as_lines(restored, reference=reference):
        console.print(line, highlight=False)


@app.command()
def stop(workspace: Workspace = Path(".")) -> None:
    """Stop a champion that `deploy.keep_serving` left running."""
    from components.deploy import serving

    stopped = serving.stop(workspace.resolve() / ".opsin")
    console.print("stopped" if stopped else "nothing was running")


def prepare(config: LifecycleConfig) -> None:
    """Set what Prefect and the others read at import: no analytics, state in the workspace."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    config.execution.home.mkdir(parents=True, exist_ok=True)  # Prefect warns where it is missing
    if "PREFECT_API_URL" not in os.environ:
        os.environ.setdefault("PREFECT_HOME", str(config.execution.home / "prefect"))
    # Steps print their own lines; Prefect's go to its UI. A user's mistake shows no traceback.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("OMP_NUM_THREADS", str(config.execution.threads))


def main() -> None:
    """Entry point: a user's mistake ends with a message and status 1, never a traceback."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except OpsinError as error:
        console.print(f"[bold red]error[/] {error}", markup=True, highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; the same command continues where this one stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
