"""The select stage: the paired test decides, and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from components.artifacts import Checkpoint, Record, Scores, digest_directory
from components.config import Execution, QuantizeConfig
from components.errors import ContractMismatch
from components.quantize import select

GROUPS = ("vqa/official_test", "digits/unseen_digits")


@pytest.fixture
def checkpoint(tmp_path: Path, record_writer: Callable[..., Record]) -> Callable[[bool], Checkpoint]:
    def make(quantized: bool) -> Checkpoint:
        root = tmp_path / f"checkpoint-{quantized}"
        (root / "output").mkdir(parents=True)
        (root / "output" / "model.safetensors").write_text(f"weights, quantized: {quantized}")
        made = Checkpoint(
            uri=str(root / "output"),
            digest=digest_directory(root / "output"),
            record=str(root / "record.json"),
            quantized=quantized,
            contract="c" * 64,
        )
        record_writer(made, "quantize")
        return made

    return make


@pytest.fixture
def scores(tmp_path: Path, record_writer: Callable[..., Record]) -> Callable[[str, int], Scores]:
    """200 questions a group; every `wrong_every`-th is answered wrongly."""

    def make(label: str, wrong_every: int) -> Scores:
        made = _scores(label, wrong_every, tmp_path)
        record_writer(made, "evaluate")
        return made

    return make


def _scores(label: str, wrong_every: int, root: Path) -> Scores:
    output = root / f"scores-{label}"
    output.mkdir()
    rows = [
        {
            "key": f"{group}-{i}",
            "turn": 0,
            "group": group,
            "correct": float(i % wrong_every != 0),
            "ended": True,
        }
        for group in GROUPS
        for i in range(200)
    ]
    pd.DataFrame(rows).to_parquet(output / "predictions.parquet")
    return Scores(
        uri=str(output), digest=digest_directory(output), record=str(root / f"{label}.json"), label=label
    )


def test_select_equal_scores_takes_the_quantized_checkpoint(
    checkpoint: Callable[[bool], Checkpoint], scores: Callable[[str, int], Scores], tmp_path: Path
) -> None:
    quantized = checkpoint(True)
    chosen = select(
        config=QuantizeConfig(execution=Execution(workspace=tmp_path)),
        unquantized=checkpoint(False),
        quantized=quantized,
        unquantized_scores=scores("before", 10),
        quantized_scores=scores("after", 10),
    )
    assert chosen.quantized
    assert chosen.digest == quantized.digest
    assert chosen.load_record().metrics["fell_back"] == 0


def test_select_broken_quantization_falls_back_and_says_so(
    checkpoint: Callable[[bool], Checkpoint],
    scores: Callable[[str, int], Scores],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unquantized = checkpoint(False)
    chosen = select(
        config=QuantizeConfig(execution=Execution(workspace=tmp_path)),
        unquantized=unquantized,
        quantized=checkpoint(True),
        unquantized_scores=scores("before", 10),
        quantized_scores=scores("after", 2),
    )
    record = chosen.load_record()
    assert not chosen.quantized
    assert chosen.digest == unquantized.digest
    assert record.metrics["fell_back"] == 1
    assert [(gate.name, gate.passed, gate.blocking) for gate in record.gates] == [
        ("non_inferior", False, False)
    ]
    assert "falls back to the unquantized checkpoint" in " ".join(capsys.readouterr().err.split())


def test_select_checkpoints_with_different_processors_are_refused(
    checkpoint: Callable[[bool], Checkpoint], scores: Callable[[str, int], Scores], tmp_path: Path
) -> None:
    other = checkpoint(True).model_copy(update={"contract": "d" * 64})
    with pytest.raises(ContractMismatch, match="d" * 64):
        select(
            config=QuantizeConfig(execution=Execution(workspace=tmp_path)),
            unquantized=checkpoint(False),
            quantized=other,
            unquantized_scores=scores("before", 10),
            quantized_scores=scores("after", 10),
        )
