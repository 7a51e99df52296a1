"""Readers: splits by held-out group, nothing on both sides, answers that match the picture."""

from __future__ import annotations

import lzma
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.plan import Plan, plan_sources
from components.curate.sources import READERS
from components.curate.sources.packages.frames import load_frame
from components.curate.sources.packages.tables import COLOURS, render
from components.errors import ConfigError, SourceError
from components.gates.manifest import SPLITS


@pytest.fixture
def plan(curate_config: Callable[..., CurateConfig]) -> Plan:
    return plan_sources(curate_config())


def draw(reader: str, payload: dict[str, Any]) -> Image.Image:
    render = READERS[reader].render
    assert render is not None
    return render(payload, 64)


def _drafts(plan: Plan, category: str, split: str) -> list[str]:
    tasks = [t for t in plan.samples if t.candidate.category == category and t.task.draft.split == split]
    return [task.task.draft.original_id for task in tasks]


def test_every_reader_gives_all_splits_and_named_test_groups(plan: Plan) -> None:
    groups = {
        (t.candidate.category, t.task.draft.group) for t in plan.samples if t.task.draft.split == "test"
    }
    assert groups == {
        ("vqa", "official_test"),
        ("caption", "unseen_vendor"),
        ("caption", "unseen_concept"),
        ("digits", "unseen_digits"),
        ("chart", "unseen_packages"),
        ("clipart", "unseen_folders"),
    }
    for category in ("vqa", "caption", "digits", "chart", "clipart"):
        assert _drafts(plan, category, "train") and _drafts(plan, category, "validation")
    assert all(task.task.draft.group == "" for task in plan.samples if task.task.draft.split != "test")


def test_easy_vqa_collects_the_questions_of_an_image_as_turns(plan: Plan) -> None:
    task = next(task for task in plan.samples if task.candidate.category == "vqa")
    assert [turn.answer for turn in task.task.draft.turns] == ["rectangle", "no"]
    assert task.task.draft.turns[0].question == "What is the red shape?"


def test_digits_of_test_share_no_glyph_with_training(plan: Plan) -> None:
    def glyphs(split: str) -> set[str]:
        return {glyph for name in _drafts(plan, "digits", split) for glyph in name.split("/")[2].split("-")}

    assert not glyphs("train") & glyphs("test")
    assert not glyphs("train") & glyphs("validation")


def test_tables_hold_out_whole_packages(plan: Plan) -> None:
    def packages(split: str) -> set[str]:
        return {name.split("/")[2] for name in _drafts(plan, "chart", split)}

    assert packages("test") and not packages("test") & (packages("train") | packages("validation"))


def test_emoji_concepts_held_out_are_trained_with_no_vendor(plan: Plan) -> None:
    concepts = {t.task.draft.turns[0].answer for t in plan.samples if t.task.draft.group == "unseen_concept"}
    trained = {
        t.task.draft.turns[0].answer
        for t in plan.samples
        if t.candidate.category == "caption" and not t.task.draft.group
    }
    vendor = {t.task.draft.turns[0].answer for t in plan.samples if t.task.draft.group == "unseen_vendor"}
    assert concepts and not concepts & (trained | vendor)
    assert all(answer == answer.lower() for answer in trained)


def test_emoji_groups_take_only_what_they_name(curate_config: Callable[..., CurateConfig]) -> None:
    def captions(groups: list[str]) -> set[str]:
        config = curate_config()
        (emoji,) = (source for source in config.sources if source.locator == "npm:alpha==1.0.0")
        chosen = emoji.model_copy(update={"options": emoji.options | {"groups": groups}})
        tasks = plan_sources(config.model_copy(update={"sources": (chosen,)})).samples
        return {task.task.draft.turns[0].answer for task in tasks}

    assert captions(["animals"]) == {f"thing number {index}" for index in range(0, 40, 2)}
    assert len(captions(["animals", "food"])) == 40
    with pytest.raises(ConfigError, match=r"unknown group of emoji plants"):
        captions(["plants"])


def test_source_without_a_sample_is_refused(curate_config: Callable[..., CurateConfig]) -> None:
    config = curate_config()
    (emoji,) = (source for source in config.sources if source.locator == "npm:alpha==1.0.0")
    empty = emoji.model_copy(update={"options": emoji.options | {"groups": []}})
    with pytest.raises(ConfigError, match=r"reader 'emoji' finds no sample in it"):
        plan_sources(config.model_copy(update={"sources": (empty,)}))


def test_clipart_takes_the_title_of_the_work_and_holds_out_whole_folders(plan: Plan) -> None:
    tasks = [task for task in plan.samples if task.candidate.category == "clipart"]
    assert {task.task.draft.turns[0].answer for task in tasks} >= {"drawing of thing a", "", "icon set 3"}
    assert not any(task.task.draft.turns[0].answer == "me" for task in tasks)
    folders = {split: {name.split("/")[0] for name in _drafts(plan, "clipart", split)} for split in SPLITS}
    assert folders["test"] and not folders["test"] & (folders["train"] | folders["validation"])


def test_clipart_that_is_not_square_is_padded_and_whole() -> None:
    drawn = '<rect width="80" height="40"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40">{drawn}</svg>'
    image = draw("clipart", {"svg": svg})
    assert image.size == (64, 64)
    black = image.convert("L").point(lambda value: 255 * (value < 128))
    assert black.getbbox() == (0, 16, 64, 48)


def test_chart_answers_match_the_pixels(plan: Plan) -> None:
    charts = [t for t in plan.samples if t.task.draft.payload.get("kind") == "chart"]
    assert charts
    for task in charts:
        image = draw("tables", task.task.draft.payload)
        tops = {
            colour: min(
                (y for x in range(64) for y in range(60) if image.getpixel((x, y)) == COLOURS[colour]),
                default=64,
            )
            for colour in task.task.draft.payload["colours"]
        }
        answers = {turn.question: turn.answer for turn in task.task.draft.turns}
        assert answers["How many bars are there?"] == str(len(tops))
        assert answers["What colour is the tallest bar?"] == min(tops, key=lambda colour: tops[colour])
        assert answers["What colour is the shortest bar?"] == max(tops, key=lambda colour: tops[colour])


def test_table_row_answers_are_what_is_drawn(plan: Plan) -> None:
    tables = [t for t in plan.samples if t.task.draft.payload.get("kind") == "table"]
    assert tables
    for task in tables:
        texts = task.task.draft.payload["texts"]
        asked = [t.answer for t in task.task.draft.turns if t.question.startswith("What is the value")]
        assert asked == texts
        assert render(task.task.draft.payload, 64).getextrema() != Image.new("RGB", (64, 64)).getextrema()


def test_planning_twice_gives_the_same_drafts(curate_config: Callable[..., CurateConfig]) -> None:
    first, second = plan_sources(curate_config("a")), plan_sources(curate_config("b"))
    assert [(t.task.key, t.task.draft) for t in first.samples] == [
        (t.task.key, t.task.draft) for t in second.samples
    ]
    assert first.sources == second.sources


def test_limit_does_not_count_what_the_reader_refused(
    curate_config: Callable[..., CurateConfig], tmp_path: Path
) -> None:
    (tmp_path / "photos" / "train").mkdir(parents=True)
    for number in range(200):
        (tmp_path / "photos" / "train" / f"{number}.png").touch()
        if number % 2:
            (tmp_path / "photos" / "train" / f"{number}.txt").write_text(str(number))
    source = SourceConfig(
        locator=f"folder:{tmp_path / 'photos'}",
        category="photo",
        limit=30,
        options={"validation": 0.0, "test": 0.0},
    )
    samples = plan_sources(curate_config(sources=(source,))).samples
    refused = [each for each in samples if "failed" in each.task.draft.payload]
    assert len(samples) - len(refused) == 30
    assert 15 < len(refused) < 60  # as often as in the whole source, of which half is refused


def test_limit_takes_at_most_so_many_of_each_split(curate_config: Callable[..., CurateConfig]) -> None:
    config = curate_config()
    source = config.sources[0].model_copy(update={"limit": 4})
    limited = plan_sources(config.model_copy(update={"sources": (source,)}))
    for split in ("train", "validation", "test"):
        assert len(_drafts(limited, "vqa", split)) == 4


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.getcwd, ())


def test_a_table_that_calls_foreign_code_is_refused() -> None:
    with pytest.raises(SourceError, match="getcwd"):
        load_frame(lzma.compress(pickle.dumps(_Evil())))
