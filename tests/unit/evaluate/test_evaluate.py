"""The stage on a real (random) checkpoint: what it writes, and what stops it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from components.artifacts import Checkpoint, Dataset, Scores, digest_directory
from components.config import EvaluateConfig, Execution
from components.errors import ConfigError, ContractMismatch, GateFailed
from components.evaluate import evaluate, scoring
from components.gates.quality import read_predictions
from components.loader import SLOT, Sample, Turn
from components.vlm import Prompt, generate, load_model, load_processor

GROUPS = {"vqa/official_test", "caption/unseen_vendor", "digits/unseen_digits", "chart/unseen_packages"}


def configured(workspace: Path, **fields: object) -> EvaluateConfig:
    wanted = {"max_new_tokens": 6, "min_end_token_rate": 0.0, "bootstrap": 200, **fields}
    return EvaluateConfig.model_validate({"execution": Execution(workspace=workspace), **wanted})


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def perfect(directory: Path, scores: Scores) -> Scores:
    """Scores of a checkpoint that answered the same questions, all rightly."""
    shutil.copytree(scores.path, directory / "output")
    read_predictions(scores).assign(correct=1.0).to_parquet(directory / "output" / "predictions.parquet")
    better = Scores(
        uri=str(directory / "output"),
        digest=digest_directory(directory / "output"),
        record=str(directory / "record.json"),
        label="before",
    )
    record = scores.load_record().model_copy(update={"artifact": better.model_dump()})
    Path(better.record).write_text(record.model_dump_json())
    return better


def test_evaluate_writes_scores_predictions_and_samples(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    config = configured(tmp_path)
    scores = evaluate(
        config=config, checkpoint=tiny_checkpoint, dataset=tiny_dataset, label="pretrain", baseline=None
    )
    table = json.loads((scores.path / "scores.json").read_text())
    assert set(table) == GROUPS
    assert {"metric", "value", "low", "high", "n", "question_only", "gain"} <= set(table["vqa/official_test"])
    assert table["vqa/official_test"]["n"] == 8
    frame = pd.read_parquet(scores.path / "predictions.parquet")
    assert len(frame) == 24
    assert set(frame["group"]) == GROUPS
    shown = json.loads((scores.path.parent / "logs" / "samples.json").read_text())
    assert all((scores.path.parent / "logs" / row["image"]).is_file() for row in shown)
    record = scores.load_record()
    assert record.metrics["score/vqa/official_test"] == table["vqa/official_test"]["value"]
    assert {"processor_contract", "end_token_rate"} <= {gate.name for gate in record.gates}


def test_evaluate_without_image_asks_again_and_a_model_that_does_not_look_fails(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    config = configured(tmp_path, without_image=["vqa", "digits/unseen_digits"])
    scores = evaluate(
        config=config, checkpoint=tiny_checkpoint, dataset=tiny_dataset, label="pretrain", baseline=None
    )
    unseen = pd.read_parquet(scores.path / "without_image.parquet")
    assert set(unseen["group"]) == {"vqa/official_test", "digits/unseen_digits"}
    gates = {gate.name: gate for gate in scores.load_record().gates}
    assert not gates["sees_image/vqa/official_test"].passed  # random weights
    blocking = configured(tmp_path, without_image=["vqa"], min_gain_blocks=["pretrain"])
    with pytest.raises(GateFailed, match="sees_image/vqa"):
        evaluate(
            config=blocking, checkpoint=tiny_checkpoint, dataset=tiny_dataset, label="pretrain", baseline=None
        )
    unknown = configured(tmp_path, without_image=["chart/elsewhere"])
    with pytest.raises(ConfigError, match=r"no held-out question about a picture in chart/elsewhere"):
        evaluate(
            config=unknown, checkpoint=tiny_checkpoint, dataset=tiny_dataset, label="pretrain", baseline=None
        )


def test_evaluate_second_turn_of_a_chat_sees_the_first_and_its_own_picture(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = (Turn("What color is the shape?", "red"), Turn(f"And in {SLOT} and {SLOT}?", "blue"))
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    sample = Sample("chat", "vqa", "", "test", tuple(map(_png, pictures)), turns, chat=True)
    asked = list[Prompt]()

    def listening(model: Any, processor: Any, prompts: list[Prompt], **options: Any) -> Any:
        asked.extend(prompts)
        return generate(model, processor, prompts, **options)

    monkeypatch.setattr(scoring, "read_samples", lambda dataset, split: [sample])
    monkeypatch.setattr(scoring, "generate", listening)
    config = configured(tmp_path, without_image=["vqa"])
    inputs = {"checkpoint": tiny_checkpoint, "dataset": tiny_dataset, "baseline": None}
    scores = evaluate(config=config, label="pretrain", **inputs)  # type: ignore[arg-type]
    first, second = sorted(asked[:2], key=lambda prompt: prompt.length)
    (blind,) = asked[2:]
    assert first.images == () and [len(each.images) for each in (second, blind)] == [2, 0]
    assert [each.tobytes() for each in second.images] == [each.tobytes() for each in pictures]
    chat = load_processor(tiny_checkpoint.path).apply_chat_template(list(second.messages))
    before = "User: What color is the shape?<end_of_utterance>\nAssistant:red<end_of_utterance>\n"
    assert before in chat.replace("Assistant: ", "Assistant:")
    assert "User: And in <image> and <image>?<end_of_utterance>" in chat
    assert "User: And in  and ?" in load_processor(tiny_checkpoint.path).apply_chat_template(
        list(blind.messages)
    )
    frame = pd.read_parquet(scores.path / "predictions.parquet").set_index("turn")
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    (alone,) = generate(model, processor, [second], max_new_tokens=6, batch_size=1)
    assert frame["prediction"][1] == alone.text
    shown = json.loads((scores.path.parent / "logs" / "samples.json").read_text())
    assert [row["image"] is not None for row in sorted(shown, key=lambda row: row["answer"])] == [True, False]


def test_evaluate_twice_gives_the_same_content(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    digests = {
        evaluate(
            config=configured(tmp_path / place),
            checkpoint=tiny_checkpoint,
            dataset=tiny_dataset,
            label="pretrain",
            baseline=None,
        ).digest
        for place in ("a", "b")
    }
    assert len(digests) == 1


def test_evaluate_with_a_changed_chat_template_is_refused(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    copy = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint.path, copy)
    template = copy / "chat_template.jinja"
    template.write_text("Q: " + template.read_text())
    changed = tiny_checkpoint.model_copy(update={"uri": str(copy)})
    with pytest.raises(ContractMismatch, match="chat_template"):
        evaluate(
            config=configured(tmp_path), checkpoint=changed, dataset=tiny_dataset, label="sft", baseline=None
        )


def test_evaluate_after_a_regression_stops_with_every_gate_on_record(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    config = configured(tmp_path)
    inputs = {"checkpoint": tiny_checkpoint, "dataset": tiny_dataset}
    first = evaluate(config=config, label="pretrain", baseline=None, **inputs)  # type: ignore[arg-type]
    before = perfect(tmp_path / "before", first)
    with pytest.raises(GateFailed, match="regression_budget"):
        evaluate(config=config, label="sft", baseline=before, **inputs)  # type: ignore[arg-type]
    stopped = evaluate.directory(
        evaluate.identity(config=config, label="sft", baseline=before, **inputs),  # type: ignore[arg-type]
        config,
    )
    assert (stopped / "output" / "scores.json").is_file()  # nothing is lost
    assert not (stopped / "record.json").exists()


def test_evaluate_of_a_quantized_regression_reports_and_goes_on(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    config = configured(tmp_path)
    inputs = {"config": config, "dataset": tiny_dataset}
    first = evaluate(checkpoint=tiny_checkpoint, label="align", baseline=None, **inputs)  # type: ignore[arg-type]
    quantized = tiny_checkpoint.model_copy(update={"quantized": True})
    scores = evaluate(
        checkpoint=quantized,
        label="quantize",
        baseline=perfect(tmp_path / "before", first),
        **inputs,  # type: ignore[arg-type]
    )
    failed = [gate for gate in scores.load_record().gates if not gate.passed]
    assert failed
    assert not any(gate.blocking for gate in failed)


def test_evaluate_of_endless_generations_stops(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    with pytest.raises(GateFailed, match="end_token_rate"):
        evaluate(
            config=configured(tmp_path, min_end_token_rate=1.0, max_new_tokens=1),
            checkpoint=tiny_checkpoint,
            dataset=tiny_dataset,
            label="pretrain",
            baseline=None,
        )


@pytest.mark.parametrize(("label", "stops"), [("pretrain", False), ("align", True)])
def test_evaluate_with_a_missed_gain_stops_where_it_should(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset, label: str, stops: bool
) -> None:
    config = configured(tmp_path, min_gain={"vqa/official_test": 0.9})
    inputs = {"checkpoint": tiny_checkpoint, "dataset": tiny_dataset, "baseline": None}
    if stops:
        with pytest.raises(GateFailed, match="beats_question_only"):
            evaluate(config=config, label=label, **inputs)  # type: ignore[arg-type]
    else:
        scores = evaluate(config=config, label=label, **inputs)  # type: ignore[arg-type]
        gates = {gate.name: gate.passed for gate in scores.load_record().gates}
        assert gates["beats_question_only/vqa/official_test"] is False
