"""sft with a teacher: the student comes closer to it, is logged as without one, and survives a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import Said, serve
from transformers import TrainerControl

from components.artifacts import Checkpoint, Dataset, Mixture, Record, digest_directory
from components.config import Execution, ModelConfig, SftConfig
from components.distillation import cosine_distance, look, soft_losses, vectors
from components.engine import PackedLoss
from components.errors import ConfigError
from components.loader import Batch, Collator, Packing, encode, pack_once, read_samples
from components.sft import sft
from components.trainers import Watch
from components.vlm import build_model, load_model, load_processor, save
from components.vlm.families import Family, family_of

Tune = Callable[..., Checkpoint]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def parent(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, workspace: Path, record_writer: Callable[..., Record]
) -> Checkpoint:
    """The tiny checkpoint after a short training of all of it: under a random head adapters learn nothing."""
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    loss = PackedLoss(model, family_of(processor))
    encoded = encode(read_samples(tiny_dataset, "train"), loss.family)
    packs = pack_once(encoded, range(len(encoded)), Packing(256, 8, packs_per_step=1))
    collate, optimizer = Collator(encoded, loss.family), torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        first = step * 2 % (len(packs) - 1)
        loss(collate(packs[first : first + 2])).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    output = workspace / "parent" / "output"
    output.parent.mkdir()
    contract = save(model, processor, output)
    record = output.with_name("record.json")
    checkpoint = Checkpoint(
        uri=str(output), digest=digest_directory(output), record=str(record), contract=contract
    )
    record_writer(checkpoint, "pretrain")
    return checkpoint


@pytest.fixture
def tune(tiny_dataset: Dataset, parent: Checkpoint, workspace: Path) -> Tune:
    """`tune(**fields)`: the parent, tuned in fp32; found again where nothing has changed."""
    weights = dict.fromkeys(("vqa", "caption", "digits", "chart"), 0.25)
    mixture = Mixture(uri=".", digest="m", record=tiny_dataset.record, name="even", weights=weights)

    def tuned(workspace: Path = workspace, **fields: Any) -> Checkpoint:
        shared = {"steps": 60, "pack_tokens": 128, "pack_images": 4, "packs_per_step": 2}
        shared |= {"learning_rate": 1e-2, "log_every": 10, "precision": "fp32", "cache_features": False}
        execution = Execution(workspace=workspace, threads=1, device="cpu")
        config = SftConfig.model_validate({**shared, "execution": execution, **fields})
        return sft(config=config, checkpoint=parent, dataset=tiny_dataset, mixture=mixture)

    return tuned


@pytest.fixture
def teacher(tune: Tune) -> Checkpoint:
    """Another tuning of the same parent."""
    return tune(seed=1, steps=120)


@pytest.fixture
def family(tiny_checkpoint: Checkpoint) -> Family:
    return family_of(load_processor(tiny_checkpoint.path))


@pytest.fixture
def batch(tiny_dataset: Dataset, family: Family) -> Batch:
    """The validation split in packs."""
    encoded = encode(read_samples(tiny_dataset, "validation"), family)
    packs = pack_once(encoded, range(len(encoded)), Packing(512, 8, packs_per_step=1))
    return Collator(encoded, family)(packs)


def _kl(teacher: Checkpoint, student: Checkpoint, family: Family, batch: Batch) -> float:
    with torch.no_grad():
        theirs, own = (
            PackedLoss(load_model(each.path), family).logits(batch)[0] for each in (teacher, student)
        )
    return float(soft_losses(own, theirs, 1.0).mean())


def _connector(teacher: Checkpoint, student: Checkpoint, family: Family, batch: Batch) -> float:
    with torch.no_grad():
        theirs, own = (
            vectors(look(load_model(each.path), family, batch.images), "connector")
            for each in (teacher, student)
        )
    return float(cosine_distance(own, theirs))


def _curve(checkpoint: Checkpoint, name: str) -> list[float]:
    path = Path(checkpoint.record).parent / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def test_sft_taught_comes_closer_in_logits_and_connector_than_by_labels(
    tune: Tune, teacher: Checkpoint, family: Family, batch: Batch
) -> None:
    plain = tune(text_only_share=0.0)
    weights = {"logits": 4.0, "connector": 1.0, "hard": 0.1}
    taught = tune(text_only_share=0.0, distill={"teacher": str(teacher.path), "weights": weights})
    assert _kl(teacher, taught, family, batch) < 0.8 * _kl(teacher, plain, family, batch)
    assert _connector(teacher, taught, family, batch) < 0.5 * _connector(teacher, plain, family, batch)
    # The loss is the labels' cross-entropy, so that curves compare; the objective is what is minimized.
    terms = [_curve(taught, name) for name in ("loss", "distill/logits", "distill/connector", "objective")]
    for loss, logits, connector, objective in zip(*terms, strict=True):
        assert objective == pytest.approx(0.1 * loss + 4 * logits + connector, rel=1e-4)
    assert terms[0][0] == pytest.approx(_curve(plain, "loss")[0], rel=0.1)
    assert not _curve(plain, "objective")
    assert taught.load_record().metrics["loss"] == terms[0][-1]


def test_sft_killed_half_way_with_a_teacher_continues_to_the_same_bytes(
    tune: Tune, teacher: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"logits": 1.0, "connector": 1.0}
    fields: dict[str, Any] = {"steps": 6, "distill": {"teacher": str(teacher.path), "weights": weights}}
    whole = tune(tmp_path / "whole", **fields)
    end_step = Watch.on_step_end

    def crash(self: Watch, args: Any, state: Any, control: TrainerControl, **rest: Any) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt
        end_step(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_end", crash)
        with pytest.raises(KeyboardInterrupt):
            tune(tmp_path / "killed", checkpoint_every_s=1e-9, **fields)
    assert tune(tmp_path / "killed", checkpoint_every_s=1e-9, **fields).digest == whole.digest


def test_sft_teacher_is_read_only_and_pinned_by_its_content(
    tune: Tune, teacher: Checkpoint, tmp_path: Path
) -> None:
    copy = tmp_path / "teacher"
    copy.mkdir()
    for path in teacher.path.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    distill = {"teacher": str(copy), "weights": {"logits": 1.0}}
    first = tune(steps=3, distill=distill)
    assert digest_directory(copy) == teacher.digest == first.load_record().config["distill"]["digest"]
    assert tune(steps=3, distill=distill).record == first.record
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"max_length": 21}))
    assert tune(steps=3, distill=distill).record != first.record


def test_sft_teacher_whose_connector_has_another_width_is_refused_and_its_logits_are_not(
    tune: Tune, parent: Checkpoint, tmp_path: Path
) -> None:
    processor = load_processor(parent.path)
    sizes = {"vocab_size": 400, "vision_layers": 1, "vision_width": 32, "vision_heads": 2, "text_layers": 1}
    wider = ModelConfig(**sizes, text_width=96, text_heads=3, text_kv_heads=3, text_mlp=64)
    save(build_model(wider, processor.tokenizer), processor, tmp_path / "wider")
    distill: dict[str, Any] = {"teacher": str(tmp_path / "wider"), "weights": {"connector": 1.0}}
    with pytest.raises(ConfigError, match=r"vectors of 96, the student's of 64(.|\n)*sft\.distill\.teacher"):
        tune(steps=2, distill=distill)
    assert tune(steps=2, distill=distill | {"weights": {"logits": 1.0}}).contract == parent.contract


def test_sft_texts_of_an_endpoint_are_learned(tune: Tune) -> None:
    with serve(lambda body: Said("yellow")) as server:
        chat = {"base_url": server.base_url, "model": "m"}
        taught = tune(distill={"text": {"chat": chat}})
        assert len(server.seen) == 96
    assert taught.load_record().metrics["distill/answers"] == 96
    assert _curve(taught, "loss")[-1] < 0.5 < _curve(tune(), "loss")[-1]
