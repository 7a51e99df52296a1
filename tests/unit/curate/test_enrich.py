"""What is added to samples: held-out ones keep the source's questions, and nothing is paid for twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Said, prompt_of, serve
from made import folder_config, make_text
from PIL import Image, ImageDraw, ImageFont

from components.config import CurateConfig, SourceConfig, TextFilter
from components.curate import curate
from components.curate.enrich import add_annotations, balance_labels
from components.curate.funnel import Funnel
from components.curate.plan import Planned, Task
from components.curate.samples import Candidate, Draft, Turn

SPLITS = ("train", "validation", "test")
FACTS = {"facts": [{"question": ["Which country is this?"], "answer": "{country}"}]}
ASKED = Turn("Which country is this?", "Malta")
ANIMALS, PLANTS = ("cat", "dog", "horse", "wolf", "goat"), ("oak tree", "rose", "fern", "lily", "moss")


def planned(*candidates: Candidate, **text: Any) -> dict[str, Planned]:
    """What they would have been planned as, by a source with this text filter."""
    source = SourceConfig(locator="pypi:x==1", category="text", text=TextFilter.model_validate(text))
    return {
        each.key: Planned(
            Task(each.key, "easy_vqa", Draft(each.key, "train", "", each.turns, {})), each, source, Path()
        )
        for each in candidates
    }


def config(workspace: Path, **fields: Any) -> CurateConfig:
    source = {"locator": "pypi:x==1", "reader": "easy_vqa", "category": "text"}
    return CurateConfig.model_validate(
        {"sources": [source], "execution": {"workspace": workspace}, "name": "tiny", **fields}
    )


def known(split: str, *turns: Turn) -> Candidate:
    return replace(make_text(split, split=split), facts={"country": "Malta"}, turns=turns)


def annotated(candidates: list[Candidate], tmp_path: Path, **annotate: Any) -> Funnel:
    funnel = Funnel(list(candidates))
    settings = config(tmp_path, annotate=FACTS | annotate)
    add_annotations(funnel, planned(*candidates), settings, tmp_path / "logs")
    return funnel


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_samples_keep_the_questions_of_their_source(tmp_path: Path, held_out: bool) -> None:
    own = Turn("Where is it?", "in the sea")
    funnel = annotated([known(split, own) for split in SPLITS], tmp_path, held_out=held_out)
    assert {each.split: each.turns for each in funnel.kept} == {
        "train": (own, ASKED),
        "validation": (own,),
        "test": (own,),
    }
    assert [each.annotated for each in funnel.kept] == [1, 0, 0]


def test_held_out_samples_without_a_question_go_unless_the_config_lets_them_be_asked(tmp_path: Path) -> None:
    without = [known(split) for split in SPLITS]
    funnel = annotated(without, tmp_path)
    assert [each.split for each in funnel.kept] == ["train"]
    assert {each.candidate.split: each.reason.code for each in funnel.rejected} == {
        "validation": "empty_text",
        "test": "empty_text",
    }
    asked = annotated(without, tmp_path, held_out=True)
    assert [each.turns for each in asked.kept] == [(ASKED,)] * 3 and not asked.rejected


@pytest.mark.parametrize(
    ("label", "text", "kept"),
    [
        ("animal/cat", {}, "animal/cat"),
        ("animal/cat", {"min_chars": 50, "document": {}}, "animal/cat"),
        ("ada@lovelace.org", {}, ""),
        ("cat<|im_end|>", {}, ""),
        ("ada@lovelace.org", {"personal_data": "redact"}, "email@example.com"),
        ("ada@lovelace.org", {"personal_data": "keep"}, "ada@lovelace.org"),
    ],
)
def test_label_that_the_sources_text_filter_rejects_is_taken_away(
    tmp_path: Path, label: str, text: dict[str, Any], kept: str
) -> None:
    sample = replace(make_text("a"), label=label)
    funnel = Funnel([sample])
    balance_labels(funnel, planned(sample, **text), config(tmp_path), {}, tmp_path)
    assert [each.label for each in funnel.kept] == [kept]
    assert ("labels_dropped" in funnel.notes) == (not kept)


def test_facts_that_the_sources_text_filter_rejects_become_no_turns(tmp_path: Path) -> None:
    sample = replace(known("train", Turn("Where?", "here")), facts={"country": "ada@lovelace.org"})
    funnel = Funnel([sample])
    add_annotations(funnel, planned(sample), config(tmp_path, annotate=FACTS), tmp_path / "logs")
    assert funnel.kept[0].turns == sample.turns
    assert funnel.notes["annotation"]["rejected"] == {"facts/email": 1}


def test_ocr_reads_the_picture_of_the_source_where_the_delivered_one_is_too_small(
    tmp_path: Path, curate_config: Callable[..., CurateConfig]
) -> None:
    places = {"train/a": "Harbour Gate 307", "train/b": "Grand Hotel 52", "validation/c": "-", "test/d": "+"}
    for place, text in places.items():
        path = tmp_path / "signs" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        page = Image.new("RGB", (640, 200), "white")
        ImageDraw.Draw(page).text((40, 70), text, fill="black", font=ImageFont.load_default(size=48))
        page.save(path)
        path.with_suffix(".txt").write_text(f"a sign at {place}")
    settings = folder_config(
        curate_config,
        tmp_path / "signs",
        image_size=64,
        duplicates={"same_text_only": ["*"]},
        annotate={"ocr": {}},
    )
    data = curate(config=settings)
    record = Path(data.record).parent / "logs/annotate/review/review.jsonl"
    answers = [json.loads(line)["answer"] for line in record.read_text().splitlines()]
    assert sorted(answers) == ["Grand Hotel 52", "Harbour Gate 307"]


def chat(server: ChatServer) -> dict[str, Any]:
    price = {"price_per_million_input": 1.0, "price_per_million_output": 1.0, "budget": 1.0}
    return {"base_url": server.base_url, "model": "m", **price}


def answer(body: dict[str, Any]) -> Said:
    """A teacher and a labeller: a question whose answer is known, or what a text is about."""
    prompt = prompt_of(body)
    if "Which label?" not in prompt:
        turn = {"question": "Which island is meant?", "answer": "Malta", "evidence": ""}
        return Said(json.dumps({"turns": [turn]}))
    animal = any(word in prompt.rpartition("Text of the sample:")[2] for word in ANIMALS)
    return Said(json.dumps({"label": "nature/animals" if animal else "nature/plants"}))


def test_teacher_is_not_paid_again_by_a_run_of_the_same_workspace(tmp_path: Path) -> None:
    with serve(answer) as server:
        prompts = [{"name": "fact", "prompt": "It is {country}."}]
        settings = config(tmp_path, annotate={"teacher": {"chat": chat(server), "prompts": prompts}})
        runs = []
        for name in ("first", "second"):
            runs.append(Funnel([known("train")]))
            add_annotations(runs[-1], planned(known("train")), settings, tmp_path / name)
            assert len(server.seen) == 1
        elsewhere = config(tmp_path / "other", annotate=settings.annotate)
        add_annotations(Funnel([known("train")]), planned(known("train")), elsewhere, tmp_path / "third")
        assert len(server.seen) == 2
    assert runs[0].kept == runs[1].kept
    assert runs[0].kept[0].turns == (Turn("Which island is meant?", "Malta"),)
    assert (tmp_path / ".opsin/cache/annotate/tiny/answers.jsonl").is_file()


def test_labeller_is_not_paid_again_by_a_run_of_the_same_workspace(tmp_path: Path) -> None:
    places = ("in a field", "on a hill", "by the river", "at night", "in the snow", "from above")
    texts = [f"a {thing} {place}" for thing in (*ANIMALS, *PLANTS) for place in places]
    with serve(answer) as server:
        diversity = {
            "taxonomy": [{"name": "nature", "children": ["animals", "plants"]}],
            "labeller": {"chat": chat(server), "samples": 50},
        }
        labels = []
        for _ in range(2):
            funnel = Funnel([make_text(str(n), answer=text) for n, text in enumerate(texts)])
            settings = config(tmp_path, diversity=diversity)
            balance_labels(funnel, planned(*funnel.kept), settings, {}, tmp_path)
            assert funnel.notes["labels"]["origins"]["model"] == 50
            labels.append([each.label for each in funnel.kept])
            assert len(server.seen) == 50
    assert labels[0] == labels[1] and {"nature/animals", "nature/plants"} <= set(labels[0])
    assert (tmp_path / ".opsin/cache/labels/tiny/answers.jsonl").is_file()
