"""All of annotation on a small corpus, with the packaged OCR and a teacher over real HTTP."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Said, prompt_of, serve
from PIL import Image, ImageDraw, ImageFont

from components.config.annotate import AnnotateConfig
from components.curate.annotate import Annotated, AnnotationInput, annotate
from components.curate.samples import Turn
from components.errors import GateFailed
from components.fingerprint import ROOT
from components.gates import require

TABLE = '{"columns": ["name", "size"], "rows": [["a", 1], ["b", 2]]}'


def picture(text: str) -> bytes:
    page = Image.new("RGB", (260, 60), "white")
    ImageDraw.Draw(page).text((16, 14), text, fill="black", font=ImageFont.load_default(size=24))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def corpus() -> list[AnnotationInput]:
    return [
        AnnotationInput("flag", None, facts={"country": "Malta"}, category="map"),
        AnnotationInput("chart", None, facts={"table": TABLE}, category="chart"),
        AnnotationInput("sign", picture("Grand Hotel"), category="photo"),
        AnnotationInput("blank", picture(""), turns=(Turn("Is it empty?", "yes"),), category="photo"),
    ]


def config(server: ChatServer, **fields: Any) -> AnnotateConfig:
    return AnnotateConfig.model_validate(
        {
            "facts": [{"question": ["Which country is this?"], "answer": "{country}"}],
            "tables": {"per_sample": 2},
            "ocr": {"categories": ["photo"]},
            "teacher": {
                "chat": {
                    "base_url": server.base_url,
                    "model": "m",
                    "temperature": 0.7,
                    "price_per_million_input": 1.0,
                    "price_per_million_output": 1.0,
                    "budget": 1.0,
                },
                "prompts": [{"name": "text", "prompt": "Text: {ocr_text}", "turns": 5}],
                "consistency": {"draws": 2},
            },
            **fields,
        }
    )


def teach(body: dict[str, Any]) -> Said:
    """A teacher that knows the sign, makes one thing up, refuses once, and guesses once."""
    if "Text:" in prompt_of(body):
        said = {
            "What kind of house is it?": "Hotel",
            "Where is it?": "in Paris",
            "Who owns it?": "I cannot tell",
            "What is the first word?": "Grand",
        }
        turns = [{"question": q, "answer": a, "evidence": ""} for q, a in said.items()]
        return Said(json.dumps({"turns": turns}))
    again = "Hotel" if "house" in prompt_of(body) else f"word {body['seed']}"
    return Said(json.dumps({"answer": again}))


def run(config: AnnotateConfig, tmp_path: Path) -> Annotated:
    return annotate(corpus(), config, cache=tmp_path / "cache", logs=tmp_path / "logs", threads=2, seed=0)


def test_annotate_gives_good_turns_reasons_for_the_others_costs_and_a_review(tmp_path: Path) -> None:
    with serve(teach) as server:
        result = run(config(server), tmp_path)
        assert len(server.seen) == 1 + 2 * 2  # refused and ungrounded answers are not asked again
    assert result.turns("flag") == (Turn("Which country is this?", "Malta"),)
    assert len(result.turns("chart")) == 2
    assert {turn.answer for turn in result.turns("sign")} == {"Grand Hotel", "Hotel"}
    assert result.turns("blank") == ()
    assert result.facts["sign"]["ocr_text"] == "Grand Hotel"
    assert {(each.proposed.turn.answer, each.reason.code) for each in result.rejected} == {
        ("in Paris", "ungrounded"),
        ("I cannot tell", "refusal"),
        ("Grand", "inconsistent"),
    }
    assert result.counts == {"facts": 1, "ocr": 1, "tables": 2, "teacher": 1}
    assert result.skipped == {"ocr/no_text": 1, "teacher/missing_fact": 3}
    assert result.spent == pytest.approx(result.usage.cost) == pytest.approx(5 * 120e-6)
    logs = tmp_path / "logs"
    assert json.loads((logs / "annotate.json").read_text())["teacher"]["prompt_tokens"] == 500
    assert len((logs / "annotate_rejected.jsonl").read_text().splitlines()) == 3
    assert len((logs / "review" / "review.jsonl").read_text().splitlines()) == 5
    assert not result.gate.passed and not result.gate.blocking


def test_annotate_again_asks_nothing_and_gives_the_same(tmp_path: Path) -> None:
    with serve(teach) as server:
        first = run(config(server), tmp_path)
        logs = {path.name: path.read_bytes() for path in (tmp_path / "logs" / "review").iterdir()}
        asked = len(server.seen)
        again = run(config(server), tmp_path)
        assert len(server.seen) == asked
    assert again == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "logs" / "review").iterdir()} == logs


def test_cache_is_the_folder_that_the_config_names(tmp_path: Path) -> None:
    with serve(teach) as server:
        kept = config(server, cache=str(tmp_path / "shared"))
        first = run(kept, tmp_path / "one")
        asked = len(server.seen)
        assert run(kept, tmp_path / "two") == first
        assert len(server.seen) == asked
    assert {each.name for each in (tmp_path / "shared").iterdir()} == {"answers.jsonl", "ocr.jsonl"}


def test_budget_that_runs_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(teach) as server:
        settings = config(server, ocr=None)
        assert settings.teacher is not None
        chat = settings.teacher.chat.model_copy(update={"budget": 1e-9})
        prompts = (settings.teacher.prompts[0].model_copy(update={"prompt": "Text of a {category}"}),)
        teacher = settings.teacher.model_copy(update={"chat": chat, "prompts": prompts})
        run(settings.model_copy(update={"teacher": teacher}), tmp_path)
        assert not server.seen
        said = " ".join(capsys.readouterr().err.split())
        assert "4 of 4 samples got no turns; requests that gave none: budget 4" in said
        assert "raise curate.annotate.teacher.chat.budget" in said
        run(config(server), tmp_path / "paid")
        assert "budget" not in capsys.readouterr().err


def test_reviews_decide_the_gate(tmp_path: Path) -> None:
    reviews = tmp_path / "reviews.jsonl"
    with serve(teach) as server:
        run(config(server), tmp_path)
        rows = [json.loads(line) for line in (tmp_path / "logs/review/review.jsonl").read_text().splitlines()]
        judged = config(server, review={"file": str(reviews), "require_reviews": True})
        reviews.write_text("".join(json.dumps({**row, "accepted": "yes"}) + "\n" for row in rows))
        assert run(judged, tmp_path).gate.passed
        reviews.write_text("".join(json.dumps({**row, "accepted": "no"}) + "\n" for row in rows))
        with pytest.raises(GateFailed, match="data/review"):
            require(run(judged, tmp_path).gate, where="curate")


def test_nothing_configured_gives_nothing(tmp_path: Path) -> None:
    result = annotate(corpus(), AnnotateConfig(), cache=tmp_path, logs=tmp_path, threads=1)
    assert not result.proposed and not result.rejected and result.gate.passed


ANNOTATOR = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_annotate import corpus
from components.config.annotate import AnnotateConfig
from components.curate.annotate import annotate

config = AnnotateConfig.model_validate_json(sys.argv[1])
home = Path(sys.argv[2])
annotate(corpus(), config, cache=home / "cache", logs=home / "logs", threads=1, seed=0)
"""


def test_annotate_killed_while_it_asks_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    reached = threading.Event()
    let_in = iter(range(2))

    def brain(body: dict[str, Any]) -> Said:
        if next(let_in, None) is None and not reached.is_set():
            reached.set()
            return Said(silent=True)
        return teach(body)

    with serve(brain) as server:
        wanted = config(server)
        command = [sys.executable, "-c", ANNOTATOR, wanted.model_dump_json(), str(tmp_path / "killed")]
        command.append(str(Path(__file__).parent))
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}) as process:
            assert reached.wait(60)
            os.kill(process.pid, signal.SIGKILL)
        resumed = run(wanted, tmp_path / "killed")
        whole = run(wanted, tmp_path / "whole")
    assert resumed.proposed == whole.proposed and resumed.rejected == whole.rejected
    assert resumed.usage == whole.usage
    assert whole.spent < resumed.spent <= 1.0  # what the kill lost counts at its most
