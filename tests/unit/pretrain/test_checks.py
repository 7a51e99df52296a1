"""Checks around training, and the guard within it: each is given something that it must refuse."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from components.artifacts import Checkpoint, Dataset
from components.config import PretrainConfig
from components.engine import Precision, Speed
from components.engine.loss import PackedLoss
from components.errors import GateFailed
from components.loader import Collator, Feed, Packing, batches, encode, read_samples
from components.pretrain.checks import loss_sane, packing_equivalence
from components.pretrain.data import plan_for, prepare
from components.pretrain.measure import HeldOut
from components.pretrain.meter import Progress
from components.pretrain.train import Machine, Trainer
from components.stage import Run
from components.vlm import build_model, generate, load_model, load_processor
from components.vlm.families import Family, family_of

HOW = Packing(pack_tokens=512, pack_images=8, packs_per_step=1)


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Checkpoint) -> Family:
    return family_of(load_processor(tiny_checkpoint.path))


def _trainer(config: PretrainConfig, dataset: Dataset, directory: Path) -> Trainer:
    corpus = prepare(config, dataset)
    plan, _ = plan_for(config, corpus, {"vqa": 1.0})
    model = build_model(config.model, corpus.family.tokenizer)
    machine = Machine(Accelerator(cpu=True), Precision("fp32", "sdpa"), Speed(1.0, 1.0))
    run = Run("pretrain", "none", directory)
    run.scratch.mkdir()
    feed = Feed(plan, Collator(corpus.train, corpus.family))
    return Trainer(run, config, model, corpus.family, feed, corpus.train.categories, machine)


def test_trainer_gradients_never_finite_stops_with_a_gate(
    tiny_dataset: Dataset, tmp_path: Path, tiny_config: Callable[..., PretrainConfig]
) -> None:
    trainer = _trainer(tiny_config(tmp_path), tiny_dataset, tmp_path)
    with torch.no_grad():
        trainer.model.lm_head.weight.fill_(math.inf)
    with pytest.raises(GateFailed, match="finite_gradients"):
        trainer.fit()
    assert trainer.progress.skipped == 5


def test_trainer_single_spike_is_skipped_told_and_leaves_no_trace(
    tiny_dataset: Dataset,
    tmp_path: Path,
    tiny_config: Callable[..., PretrainConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phases = ({"name": "all", "trainable": ("language",), "steps": 40, "learning_rate": 1e-3},)
    trainer = _trainer(tiny_config(tmp_path, phases=phases, clip_norm=1e9), tiny_dataset, tmp_path)
    forward, count = PackedLoss.forward, itertools.count()

    def spiking(self: PackedLoss, batch: batches.Batch) -> torch.Tensor:
        return forward(self, batch) * (1e4 if next(count) == 30 else 1)

    monkeypatch.setattr(PackedLoss, "forward", spiking)
    weights = list[torch.Tensor]()
    step = trainer._step

    def remembering(*arguments: object, **options: object) -> float:
        weights.append(trainer.model.lm_head.weight.detach().clone())
        return step(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer, "_step", remembering)
    progress = trainer.fit()
    assert progress.skipped == 1
    assert progress.last_loss < 100
    assert torch.equal(weights[30], weights[31])
    assert not torch.equal(weights[29], weights[30])
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (event["event"], event["step"]) == ("step_skipped", 30)


def test_packing_equivalence_right_mask_passes_and_plain_causal_mask_fails(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_checkpoint.path)
    collate = Collator(encode(read_samples(tiny_dataset, "train"), family), family)
    samples = list(range(8))
    assert packing_equivalence(model, collate, samples, HOW).passed
    right = batches.block_mask

    def leaking(segment_BL: torch.Tensor, turn_BL: torch.Tensor) -> torch.Tensor:
        return right(torch.zeros_like(segment_BL), torch.full_like(turn_BL, batches.TRUNK))

    monkeypatch.setattr(batches, "block_mask", leaking)
    result = packing_equivalence(model, collate, samples, HOW)
    assert not result.passed
    assert "block_mask" in result.fix


@pytest.mark.parametrize(
    ("first", "last", "passed"), [(5.0, 2.0, True), (5.0, 5.5, False), (5.0, math.nan, False)]
)
def test_loss_sane_passes_only_a_finite_fall(first: float, last: float, passed: bool) -> None:
    assert loss_sane(Progress(first_loss=first, last_loss=last), from_scratch=True).passed is passed


def test_loss_sane_of_a_model_that_could_write_may_rise_a_little_and_not_far() -> None:
    assert loss_sane(Progress(first_loss=0.28, last_loss=0.35), from_scratch=False).passed
    assert not loss_sane(Progress(first_loss=0.28, last_loss=2.0), from_scratch=False).passed


def test_held_out_budget_changes_packs_not_losses(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, family: Family
) -> None:
    module = PackedLoss(load_model(tiny_checkpoint.path), family)
    collate = Collator(encode(read_samples(tiny_dataset, "validation"), family), family)
    small, large = (
        HeldOut(collate, range(16), Packing(pack_tokens=tokens, pack_images=8, packs_per_step=1))
        .measure(module, torch.device("cpu"))
        .frame.sort_values(["key", "turn"])
        for tokens in (128, 512)
    )
    assert small["key"].tolist() == large["key"].tolist()
    assert small["loss"].to_numpy() == pytest.approx(large["loss"].to_numpy(), rel=1e-4)
    assert set(small["group"]) == {"vqa", "caption", "digits", "chart"}


def test_held_out_exact_match_is_what_greedy_generation_writes(
    tiny_dataset: Dataset, tmp_path: Path, tiny_config: Callable[..., PretrainConfig]
) -> None:
    """Trained until some answers are right: teacher forcing and generation agree on each."""
    phases = (
        {
            "name": "all",
            "trainable": ("vision", "connector", "language"),
            "steps": 120,
            "learning_rate": 3e-3,
        },
    )
    trainer = _trainer(tiny_config(tmp_path, phases=phases), tiny_dataset, tmp_path)
    trainer.fit()
    samples = read_samples(tiny_dataset, "train", categories={"vqa"})
    encoded = encode(samples, trainer.family)
    measured = HeldOut(Collator(encoded, trainer.family), range(len(samples)), HOW).measure(
        PackedLoss(trainer.model, trainer.family), torch.device("cpu")
    )
    right = dict(
        zip(
            measured.frame[["key", "turn"]].itertuples(index=False, name=None),
            measured.frame["correct"],
            strict=True,
        )
    )
    asked = [(sample, turn) for sample in samples for turn in range(len(sample.turns))]
    prompts = [sample.asked(turn).prompt() for sample, turn in asked]
    answers = generate(trainer.model, trainer.family.processor, prompts, max_new_tokens=8, batch_size=16)
    generated = {
        (sample.key, turn): float(answer.ended and answer.text == sample.turns[turn].answer)
        for (sample, turn), answer in zip(asked, answers, strict=True)
    }
    assert right == generated
    assert sum(right.values()) > 0
