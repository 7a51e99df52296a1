"""The report: right figures, every verdict, nothing external, nothing unescaped."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import CATEGORIES, GROUPS, Lifecycle, curate, evaluate, gate, release, sha, train, whole

from components.errors import ArtifactMissing
from components.report import RunSummary, build_summary, write_report
from components.report.__main__ import rewrite
from components.report.files import MAX_PICTURE_BYTES, picture
from components.report.wording import count, duration, size

CONFIG: dict[str, Any] = {"name": "cpu", "evaluate": {"min_gain": {"vqa/official_test": 0.08}}}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest; keeps references and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "a":
            self.links += [value or "" for name, value in attrs if name == "href"]
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(life: Lifecycle, error: str | None = None) -> tuple[Page, dict[str, Any]]:
    summary = build_summary("cpu-20261123-100000", CONFIG, life.outcomes, wall_s=1003.2, error=error)
    page = write_report(summary, life.outcomes, life.workspace / "runs" / "cpu")
    return Page(page.read_text()), json.loads(page.with_name("report.json").read_text())


def headings(page: Page) -> set[str]:
    """Sections that the page links to at its top."""
    return {link.removeprefix("#") for link in page.links}


@dataclass(frozen=True)
class Written:
    """A run with its page and JSON."""

    life: Lifecycle
    page: Page
    report: dict[str, Any]
    text: str


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A whole run that was promoted; rendered once, for reading only."""
    life = whole(tmp_path_factory.mktemp("promoted"))
    page, report = written(life)
    return Written(life, page, report, (life.workspace / "runs/cpu/report.html").read_text())


def test_summary_of_a_whole_run_holds_exactly_the_agreed_keys(promoted: Written) -> None:
    life, report = promoted.life, promoted.report
    assert list(report) == ["run_id", "config", "wall_s", "verdict", "stages", "gates", "scores", "release"]
    assert report["verdict"] == "promoted" and report["wall_s"] == 1003.2 and report["config"] == CONFIG
    assert report["stages"]["curate"] == {
        "seconds": 0.2,
        "cached": True,
        "fingerprint": sha("curate"),
        "record": str(life.outcomes[0].record),
    }
    assert list(report["stages"]) == [outcome.name for outcome in life.outcomes]
    assert {frozenset(each) for each in report["gates"]} == {
        frozenset({"name", "stage", "passed", "observed", "required"})
    }
    assert list(report["scores"]) == ["pretrain", "sft", "align", "quantize"]
    assert set(report["scores"]["sft"]) == set(GROUPS)
    assert set(report["scores"]["sft"]["vqa/official_test"]) == {"metric", "value", "low", "high", "n"}
    assert report["release"] == {"model": "opsin-vlm", "version": "3", "alias": "champion", "endpoint": None}


def test_report_json_read_again_gives_the_same_summary(promoted: Written) -> None:
    report = promoted.report
    assert RunSummary.model_validate(report).model_dump(mode="json") == report


def test_page_of_a_whole_run_has_every_section_and_stands_alone(promoted: Written) -> None:
    page = promoted.page
    wanted = "data mixture training scores samples quantization canary gates time lineage config"
    assert headings(page) == set(wanted.split())
    assert all(reference.startswith(("data:image/", "#")) for reference in page.references)
    assert not {"script", "link", "iframe"} & page.tags
    for text in (
        "Promoted",
        "9,000",
        "67.",
        "pypi:easy-vqa==1.0",
        "MIT",
        "exact_duplicate",
        "1.87× smaller",
        "Optimum confirmed",
        "gain in 3 new pairs",
        *CATEGORIES,
    ):
        assert text in page.text


def test_page_escapes_what_models_and_data_say(promoted: Written) -> None:
    assert "what &lt;shape&gt; is" in promoted.text and "<shape>" not in promoted.text
    assert "triangle &amp; more" in promoted.text


def test_failed_gate_is_on_top_with_what_to_do(tmp_path: Path) -> None:
    life = Lifecycle(tmp_path)
    curate(life)
    failed = gate(
        "loss_is_sane", False, observed="nan", required="finite", fix="lower pretrain.learning_rate"
    )
    directory = life.fail("pretrain", (gate("packing_equivalence"), failed))
    page, report = written(life, error="gate 'loss_is_sane' failed")
    assert report["verdict"] == "stopped" and report["release"] is None
    assert report["stages"]["pretrain"]["fingerprint"] is None
    assert [(each["name"], each["passed"]) for each in report["gates"]][-1] == ("loss_is_sane", False)
    top = page.text[: page.text.index("wall time")]
    for text in (
        "Stopped in pretrain",
        "loss_is_sane",
        "nan",
        "lower pretrain.learning_rate",
        str(directory),
    ):
        assert text in top
    gates = page.text[page.text.index("observed", page.text.index("Samples per category")) :]
    assert gates.index("loss_is_sane") < gates.index("unique_keys")


def test_error_that_is_no_gate_is_shown_whole(tmp_path: Path) -> None:
    life = Lifecycle(tmp_path)
    curate(life)
    life.fail("pretrain", ())
    page, _ = written(life, error="the quantize environment is not installed\n  to do: run `make setup`")
    assert "run `make setup`" in page.text and "Stopped in pretrain" in page.text


def test_run_that_failed_before_any_stage_still_has_a_report(tmp_path: Path) -> None:
    life = Lifecycle(tmp_path)
    page, report = written(life, error="no such source <x>")
    assert report["stages"] == {} and report["verdict"] == "stopped"
    assert "no such source <x>" in page.text
    assert headings(page) == {"config"}


def test_run_asked_to_end_early_leaves_later_sections_out(tmp_path: Path) -> None:
    life = Lifecycle(tmp_path)
    curate(life)
    train(life, "pretrain", ("curate",))
    evaluate(life, "pretrain", 0.0)
    page, report = written(life)
    assert report["verdict"] == "partial"
    assert headings(page) == {"data", "training", "scores", "samples", "gates", "time", "lineage", "config"}
    assert "after pretrain" in page.text and "32,000" in page.text


@pytest.mark.parametrize(
    ("verdict", "title"),
    [("rolled_back", "Rolled back"), ("inconclusive", "Inconclusive"), ("promoted", "Promoted")],
)
def test_verdict_of_the_canary_is_the_headline(tmp_path: Path, verdict: str, title: str) -> None:
    life = Lifecycle(tmp_path)
    release(life, quantized=False, verdict=verdict)
    page, report = written(life)
    assert report["verdict"] == verdict
    assert page.text.index(title) < page.text.index("wall time")


def test_fallback_to_unquantized_says_so_and_shows_its_scores_as_released(
    tmp_path: Path,
) -> None:
    page, _ = written(whole(tmp_path, quantized=False))
    assert "fell back" in page.text and "missed" in page.text
    assert re.search(r"vqa/official_test, released\s*84\.0%", page.text)
    assert "question-only 60.0%" in page.text


def test_quantized_release_shows_the_quantized_scores(promoted: Written) -> None:
    page = promoted.page
    assert re.search(r"vqa/official_test, released\s*83\.0%", page.text)


def test_lineage_names_parents_as_this_run_calls_them(promoted: Written) -> None:
    page = promoted.page
    assert "pretrain, curate, ablate" in page.text


def test_report_written_again_from_its_json_is_the_same_and_small(promoted: Written, tmp_path: Path) -> None:
    again = rewrite(promoted.life.workspace / "runs/cpu/report.json", tmp_path / "again")
    assert again.read_text() == promoted.text
    assert len(promoted.text) < 5_000_000


def test_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="no such report"):
        rewrite(tmp_path / "report.json", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "components.report", str(tmp_path / "report.json")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "no such report" in done.stderr and "Traceback" not in done.stderr


def test_picture_that_is_large_is_made_smaller(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > MAX_PICTURE_BYTES
    uri = picture(tmp_path / "large.png")
    assert uri is not None and uri.startswith("data:image/jpeg;base64,")
    assert picture(tmp_path / "none.png") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (725, "12 min 05 s"),
        (7385, "2 h 03 min"),
    ],
)
def test_duration_reads_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_sizes_read_well() -> None:
    assert [count(n) for n in (12, 48123, 3_200_000)] == ["12", "48,123", "3.20M"]
    assert [size(n) for n in (640, 12_300_000)] == ["640 B", "12.3 MB"]


def test_report_links_the_balance_of_labels_where_there_is_one(tmp_path: Path) -> None:
    life = whole(tmp_path)
    page, _ = written(life)
    assert not any("balance" in link for link in page.links)
    (funnel,) = tmp_path.rglob("logs/funnel.json")
    for name in ("balance.png", "balance.json"):
        funnel.with_name(name).write_text("")
    page, _ = written(life)
    assert {link.rpartition("/")[2] for link in page.links if "balance" in link} == {
        "balance.png",
        "balance.json",
    }
