"""Great Expectations as code: suites over tables in, gate results and Data Docs out.

Nothing of the library's project layout is needed: contexts live in memory, and the Data Docs are written
where the caller says.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from components.gates.result import GateResult

Evidence = dict[str, str | int | float | bool | None]
SITE = "opsin"
MAX_CELLS = 60
"""A table of at most so many cells is evidence as a whole."""


@dataclass(frozen=True)
class Suite:
    """Expectations over one table, and what to do when they do not hold."""

    name: str
    table: pd.DataFrame
    expectations: tuple[Any, ...]
    required: str
    fix: str
    blocking: bool = True
    show_table: bool = False
    """Whether the (small) table itself is evidence."""
    hint: str = ""
    """What may explain it when they do not hold."""


@cache
def expectations() -> Any:
    """The library's expectations, imported only where gates are judged: it takes four seconds and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its use of sre_constants
        import great_expectations.expectations

    return great_expectations.expectations


def judge(suites: Sequence[Suite], docs: Path | None = None) -> list[GateResult]:
    """Validate every suite in one silent, in-memory context.

    Args:
        docs: Directory for the Data Docs (`index.html`); None: none are written.
    """
    expectations()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("manifest")
    results = []
    for each in suites:
        title = _title(each.name)
        batch = source.add_dataframe_asset(title).add_batch_definition_whole_dataframe("whole")
        suite = context.suites.add(gx.ExpectationSuite(name=title, expectations=list(each.expectations)))
        definition = gx.ValidationDefinition(name=title, data=batch, suite=suite)
        validation = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": each.table}
        )
        results.append(_result(each, validation))
    if docs is not None:
        _write_docs(context, docs)
        _list_pages(results, docs)
    return results


def _list_pages(results: Sequence[GateResult], directory: Path) -> None:
    """Plain links at the end of the index: its own table is made by scripts from the network."""
    items = []
    for each in results:
        for page in sorted((directory / "validations" / _title(each.name)).rglob("*.html")):
            address, mark = quote(page.relative_to(directory).as_posix()), "✓" if each.passed else "✗"
            items.append(f'<li>{mark} <a href="{address}">{each.name}</a>: {escape(each.observed)}</li>')
    index = directory / "index.html"
    links = f'<section style="padding: 1rem 1rem 6rem"><h4>Suites</h4><ul>{"".join(items)}</ul></section>'
    index.write_text(index.read_text("utf-8").replace("</body>", f"{links}</body>"), "utf-8")


def _title(name: str) -> str:
    """A suite's name as Data Docs can have it."""
    return name.replace("/", " ")


def _write_docs(context: Any, directory: Path) -> None:
    for site in list(context.variables.data_docs_sites or {}):
        context.delete_data_docs_site(site)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(directory.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index}
    context.add_data_docs_site(SITE, site)
    context.build_data_docs()


def _result(suite: Suite, validation: Any) -> GateResult:
    evidence: Evidence = {}
    failing = set[int]()
    for each in validation.results:
        if each.success:
            continue
        arguments = each.expectation_config.kwargs
        columns = arguments.get("column") or "+".join(arguments.get("column_list") or ()) or "table"
        name = f"{each.expectation_config.type.removeprefix('expect_')}({columns})"
        evidence[name] = each.result.get("unexpected_count", str(each.result.get("details", "not judged")))
        rows = list(each.result.get("partial_unexpected_index_list") or ())[:5]
        failing.update(rows)
        if rows:
            label = "key" if "key" in suite.table else suite.table.columns[0]
            evidence[f"{name}: first"] = ", ".join(str(suite.table[label].iloc[row]) for row in rows)
    failed = sum(not each.success for each in validation.results)
    told = dict(evidence)
    if suite.show_table and suite.table.size <= MAX_CELLS:
        told |= _cells(suite.table.iloc[sorted(failing)])
        evidence |= _cells(suite.table)
    total = len(validation.results)
    observed = f"{total - failed} of {total} expectations hold over {len(suite.table)} rows"
    if failed:
        observed += "; " + "; ".join(f"{key}: {value}" for key, value in told.items())
        observed += f"; {suite.hint}" if suite.hint else ""
    return GateResult(
        name=suite.name,
        passed=bool(validation.success),
        observed=observed,
        required=suite.required,
        fix=suite.fix,
        blocking=suite.blocking,
        evidence={"rows": len(suite.table)} | evidence,
    )


def _cells(table: pd.DataFrame) -> Evidence:
    """A small table as evidence, named by its first text column: `train/vqa: 3800`."""
    label = next((name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])), None)
    cells: Evidence = {}
    for _, row in table.iterrows():
        for column in table.columns:
            if column != label:
                value = row[column].item() if hasattr(row[column], "item") else row[column]
                cells[f"{column}/{row[label]}" if label else str(column)] = value
    return cells
