"""The sft stage: TRL gets the loader's batches unchanged, trains what it should, and survives a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerControl

from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import Execution, SftConfig
from components.engine import Precision
from components.sft import sft
from components.sft.training import pack_feed, sft_trainer
from components.stage import Run
from components.trainers import Watch, last_checkpoint, trainer_directory
from components.vlm import load_model, load_processor


@pytest.fixture
def mixture(tiny_dataset: Dataset) -> Mixture:
    """Even weights."""
    weights = dict.fromkeys(("vqa", "caption", "digits", "chart"), 0.25)
    return Mixture(uri=".", digest="m", record=tiny_dataset.record, name="even", weights=weights)


def _config(workspace: Path, **fields: Any) -> SftConfig:
    return SftConfig.model_validate(
        {
            "steps": 6,
            "pack_tokens": 128,
            "pack_images": 4,
            "packs_per_step": 2,
            "learning_rate": 1e-2,
            "log_every": 1,
            "execution": Execution(workspace=workspace, threads=1),
            **fields,
        }
    )


def _run(directory: Path) -> Run:
    run = Run("sft", "test", directory)
    for path in (run.output, run.scratch, run.logs):
        path.mkdir(parents=True, exist_ok=True)
    return run


FP32 = Precision("fp32", "sdpa")


def test_sft_frozen_tower_runs_once_a_picture_and_trains_to_nearly_the_same(
    tmp_path: Path, tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, mixture: Mixture
) -> None:
    weights = []
    for cached in (False, True):
        short = {"steps": 25, "learning_rate": 1e-3}
        config = _config(tmp_path / str(cached), precision="fp32", cache_features=cached, **short)
        tuned = sft(config=config, checkpoint=tiny_checkpoint, dataset=tiny_dataset, mixture=mixture)
        weights.append(load_model(tuned.path).state_dict())
    slow, fast = weights
    start = load_model(tiny_checkpoint.path).state_dict()
    moved = max(float((slow[name] - start[name]).abs().max()) for name in slow)
    assert not all(torch.equal(slow[name], fast[name]) for name in slow)  # features are float16
    assert max(float((slow[name] - fast[name]).abs().max()) for name in slow) < 0.2 * moved


def test_sft_batches_reach_the_model_as_the_loader_made_them(
    tmp_path: Path,
    tiny_dataset: Dataset,
    tiny_checkpoint: Checkpoint,
    mixture: Mixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, processor = _config(tmp_path, steps=2), load_processor(tiny_checkpoint.path)
    wanted_feed = pack_feed(config, processor, tiny_dataset, mixture)
    wanted = [wanted_feed([{"pack": 2 * step}, {"pack": 2 * step + 1}]) for step in range(2)]
    feed = pack_feed(config, processor, tiny_dataset, mixture)
    model = load_model(tiny_checkpoint.path)
    trainer = sft_trainer(_run(tmp_path / "run"), config, model, processor, feed, FP32)
    seen: list[dict[str, torch.Tensor]] = []
    forward = trainer.model.forward

    def watched(*args: Any, **inputs: Any) -> Any:
        seen.append({key: value for key, value in inputs.items() if isinstance(value, torch.Tensor)})
        return forward(*args, **inputs)

    monkeypatch.setattr(trainer.model, "forward", watched)
    trainer.train()

    assert len(seen) == 2
    for got, batch in zip(seen, wanted, strict=True):
        for name, tensor in batch.items():
            assert torch.equal(got[name], tensor), name
    labelled = seen[0]["labels"] != -100
    assert 0 < int(labelled.sum()) < int((seen[0]["input_ids"] != processor.tokenizer.pad_token_id).sum())


def test_sft_loss_is_the_models_own_over_labelled_tokens(
    tmp_path: Path, tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, mixture: Mixture
) -> None:
    config, processor = _config(tmp_path), load_processor(tiny_checkpoint.path)
    feed = pack_feed(config, processor, tiny_dataset, mixture)
    model = load_model(tiny_checkpoint.path)
    trainer = sft_trainer(_run(tmp_path / "run"), config, model, processor, feed, FP32)
    batch = pack_feed(config, processor, tiny_dataset, mixture)([{"pack": 0}, {"pack": 1}])
    model = load_model(tiny_checkpoint.path)
    with torch.no_grad():
        # A fresh adapter adds nothing, so the trainer's loss must be the plain model's.
        ours = model(**batch).loss
        theirs = trainer.compute_loss(trainer.model, dict(batch))
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def test_sft_trains_language_and_connector_and_nothing_else(
    tmp_path: Path, tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, mixture: Mixture
) -> None:
    tuned = sft(config=_config(tmp_path), checkpoint=tiny_checkpoint, dataset=tiny_dataset, mixture=mixture)

    assert tuned.contract == tiny_checkpoint.contract
    before, after = (load_model(item.path).state_dict() for item in (tiny_checkpoint, tuned))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("text_model.layers" in name for name in changed)
    assert any("connector" in name for name in changed)
    assert not any(
        "vision" in name or "embed" in name or "norm" in name or "lm_head" in name for name in changed
    )
    record = tuned.load_record()
    assert [gate.name for gate in record.gates] == ["finite_loss", "adapters_merged"]
    lines = (Path(tuned.record).parent / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6


def test_sft_killed_half_way_continues_to_the_same_bytes(
    tmp_path: Path,
    tiny_dataset: Dataset,
    tiny_checkpoint: Checkpoint,
    mixture: Mixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = {"checkpoint": tiny_checkpoint, "dataset": tiny_dataset, "mixture": mixture}
    whole = sft(config=_config(tmp_path / "whole"), **inputs)
    config = _config(tmp_path / "killed", checkpoint_every_s=1e-9)
    end_step = Watch.on_step_end

    def crash(self: Watch, args: Any, state: Any, control: TrainerControl, **rest: Any) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt
        end_step(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_end", crash)
        with pytest.raises(KeyboardInterrupt):
            sft(config=config, **inputs)
    directory = sft.directory(sft.identity(config=config, **inputs), config)
    left = last_checkpoint(trainer_directory(_run(directory)))
    assert left is not None and left.name == "checkpoint-3"

    resumed = sft(config=config, **inputs)

    assert resumed.digest == whole.digest
    lines = (Path(resumed.record).parent / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
