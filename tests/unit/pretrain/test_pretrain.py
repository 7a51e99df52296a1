"""The stage: checks that can fail, the same weights after a kill, the frozen parts left alone."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from components.artifacts import Checkpoint, Dataset, Mixture, Record
from components.config import Execution, ModelConfig, Phase, PretrainConfig
from components.errors import GateFailed
from components.fingerprint import ROOT
from components.loader import Collator, batches, encode, read_samples
from components.pretrain import pretrain
from components.pretrain.checks import loss_sane, packing_equivalence, validation_losses
from components.pretrain.data import prepare
from components.pretrain.schedule import FINAL_SHARE, build_optimizers, learning_rate, place, set_trainable
from components.pretrain.train import Progress, Trainer, read_state
from components.stage import Run
from components.vlm import build_model, load_model, load_processor

TINY = ModelConfig(
    vocab_size=400,
    vision_layers=1,
    vision_width=32,
    vision_heads=2,
    text_layers=1,
    text_width=64,
    text_heads=2,
    text_kv_heads=2,
    text_mlp=64,
)
ALL = ("vision", "connector", "language")


def _config(workspace: Path, **changes: object) -> PretrainConfig:
    fields: dict[str, object] = {
        "execution": Execution(workspace=workspace, threads=1, device="cpu"),
        "model": TINY,
        "phases": (
            Phase(name="connector", trainable=("connector",), steps=4, learning_rate=1e-3),
            Phase(name="all", trainable=ALL, steps=16, learning_rate=3e-3),
        ),
        "pack_tokens": 256,
        "pack_images": 8,
        "packs_per_step": 2,
        "validation_samples": 10,
        "log_every": 5,
        "min_end_token_rate": 0.0,
    }
    return PretrainConfig.model_validate(fields | changes)


@pytest.fixture
def mixture(tmp_path: Path, record_writer: Callable[..., Record]) -> Mixture:
    mixture = Mixture(
        uri=str(tmp_path),
        digest="mixture",
        record=str(tmp_path / "mixture.json"),
        name="stratified",
        weights={"vqa": 1.0, "caption": 1.0, "digits": 1.0, "chart": 1.0},
    )
    record_writer(mixture, "ablate")
    return mixture


def _weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(checkpoint.path / "model.safetensors")
    return weights


def test_pretrain_tiny_gives_a_gated_checkpoint_with_losses_per_category(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture
) -> None:
    checkpoint = pretrain(config=_config(tmp_path), dataset=tiny_dataset, mixture=mixture)
    load_model(checkpoint.path, expected_contract=checkpoint.contract)
    record = checkpoint.load_record()
    assert [gate.name for gate in record.gates] == ["packing_equivalence", "loss_sane", "generation_stops"]
    for category in mixture.weights:
        assert math.isfinite(record.metrics[f"validation_loss/{category}"])
    assert record.metrics["image_tokens"] == 16
    lines = (Path(checkpoint.record).parent / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert all('"loss/vqa"' in line and '"gradient_norm"' in line for line in lines)


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_pretrain_stopped_midway_and_started_again_gives_identical_weights(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    whole = pretrain(
        config=_config(tmp_path / "whole", optimizer=optimizer), dataset=tiny_dataset, mixture=mixture
    )
    config = _config(tmp_path / "stopped", optimizer=optimizer, checkpoint_every_s=1e-9)
    step = Trainer._step
    for stop_at in (2, 11):

        def stopping(self: Trainer, window: object, rate: float, stop_at: int = stop_at) -> object:
            if self.progress.step == stop_at:
                raise Killed
            return step(self, window, rate)  # type: ignore[arg-type]

        monkeypatch.setattr(Trainer, "_step", stopping)
        with pytest.raises(Killed):
            pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    monkeypatch.setattr(Trainer, "_step", step)
    resumed = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    assert resumed.digest == whole.digest
    lines = (Path(resumed.record).parent / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_pretrain_killed_by_the_system_and_run_again_gives_identical_weights(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture
) -> None:
    phases = (Phase(name="all", trainable=ALL, steps=60, learning_rate=3e-3),)
    whole = pretrain(config=_config(tmp_path / "whole", phases=phases), dataset=tiny_dataset, mixture=mixture)
    config = _config(tmp_path / "killed", phases=phases, checkpoint_every_s=1e-9)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    script = (
        "import sys; from pathlib import Path\n"
        "from components.artifacts import Dataset, Mixture, Record\n"
        "from components.config import PretrainConfig\n"
        "from components.pretrain import pretrain\n"
        "config = PretrainConfig.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "given = [Record.load(Path(path)).artifact for path in sys.argv[2:]]\n"
        "pretrain(config=config, dataset=Dataset.model_validate(given[0]),\n"
        "         mixture=Mixture.model_validate(given[1]))\n"
    )
    arguments = [str(tmp_path / "config.json"), tiny_dataset.record, mixture.record]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=ROOT)
    identity = pretrain.identity(config=config, dataset=tiny_dataset, mixture=mixture)
    state = pretrain.directory(identity, config) / "scratch" / "state.pt"
    while process.poll() is None and not (state.exists() and read_state(state)["progress"]["step"] >= 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert pretrain.finished(config=config, dataset=tiny_dataset, mixture=mixture) is None
    resumed = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    assert resumed.digest == whole.digest


def test_pretrain_connector_phase_leaves_the_rest_untouched(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture
) -> None:
    phases = (Phase(name="connector", trainable=("connector",), steps=4, learning_rate=1e-2),)
    config = _config(tmp_path, phases=phases)
    trained = _weights(pretrain(config=config, dataset=tiny_dataset, mixture=mixture))
    torch.manual_seed(config.seed)
    start = build_model(config.model, prepare(config, tiny_dataset).processor.tokenizer).state_dict()
    changed = {name for name in trained if not torch.equal(trained[name], start[name])}
    assert changed == {name for name in trained if "connector" in name}


def test_pretrain_model_that_never_stops_fails_the_gate(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = (Phase(name="all", trainable=ALL, steps=2, learning_rate=1e-4),)
    config = _config(tmp_path, phases=phases, min_end_token_rate=1.0)
    with pytest.raises(GateFailed, match="generation_stops"):
        pretrain(config=config, dataset=tiny_dataset, mixture=mixture)


def test_trainer_gradients_never_finite_stops_with_a_gate(tiny_dataset: Dataset, tmp_path: Path) -> None:
    config = _config(tmp_path)
    corpus = prepare(config, tiny_dataset)
    model = build_model(config.model, corpus.processor.tokenizer)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.inf)
    run = Run("pretrain", "none", tmp_path)
    run.scratch.mkdir()
    trainer = Trainer(run, config, corpus, model, {"vqa": 1.0}, Accelerator(cpu=True))
    with pytest.raises(GateFailed, match="finite_gradients"):
        trainer.fit()
    assert trainer.progress.skipped == 5


def test_packing_equivalence_right_mask_passes_and_plain_causal_mask_fails(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor, model = load_processor(tiny_checkpoint.path), load_model(tiny_checkpoint.path)
    collate = Collator(encode(read_samples(tiny_dataset, "train"), processor), processor)
    samples = list(range(8))
    assert packing_equivalence(model, collate, samples).passed
    right = batches.block_mask

    def leaking(segment_BL: torch.Tensor, turn_BL: torch.Tensor) -> torch.Tensor:
        return right(torch.zeros_like(segment_BL), torch.full_like(turn_BL, batches.PREFIX))

    monkeypatch.setattr(batches, "block_mask", leaking)
    result = packing_equivalence(model, collate, samples)
    assert not result.passed
    assert "block_mask" in result.fix


@pytest.mark.parametrize(
    ("first", "last", "passed"), [(5.0, 2.0, True), (5.0, 5.5, False), (5.0, math.nan, False)]
)
def test_loss_sane_passes_only_a_finite_fall(first: float, last: float, passed: bool) -> None:
    assert loss_sane(Progress(first_loss=first, last_loss=last)).passed is passed


def test_validation_losses_seed_and_budget_change_packs_not_losses(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint
) -> None:
    processor, model = load_processor(tiny_checkpoint.path), load_model(tiny_checkpoint.path)
    collate = Collator(encode(read_samples(tiny_dataset, "validation"), processor), processor)
    small, large = (
        validation_losses(
            model, collate, samples_per_category=4, seed=seed, pack_tokens=tokens, pack_images=8
        )
        for seed, tokens in ((0, 128), (1, 512))
    )
    assert small == pytest.approx(large, rel=1e-4)
    assert set(small) == {"vqa", "caption", "digits", "chart"}


def test_schedule_steps_fall_into_phases_and_rates_warm_up_then_fall() -> None:
    first = Phase(name="a", trainable=("connector",), steps=3, learning_rate=1e-3)
    second = Phase(name="b", trainable=ALL, steps=100, learning_rate=1e-2, warmup_share=0.1)
    assert [place((first, second), step).step for step in (0, 2, 3, 102)] == [0, 2, 0, 99]
    with pytest.raises(IndexError):
        place((first, second), 103)
    rates = [learning_rate(second, step) for step in range(100)]
    assert rates[9] == max(rates) == second.learning_rate
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < second.learning_rate * (FINAL_SHARE + 0.01)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_build_optimizers_every_parameter_is_updated_once(
    tiny_checkpoint: Checkpoint, optimizer: Literal["adamw", "muon"]
) -> None:
    model = load_model(tiny_checkpoint.path)
    phase = Phase(name="all", trainable=ALL, steps=1, learning_rate=1e-3)
    set_trainable(model, phase)
    built = build_optimizers(model, phase, optimizer, 0.1)
    updated = [id(p) for each in built for group in each.param_groups for p in group["params"]]
    assert sorted(updated) == sorted(id(p) for p in model.parameters())
    muon = {
        id(p) for each in built if isinstance(each, torch.optim.Muon) for p in each.param_groups[0]["params"]
    }
    names = {name for name, p in model.named_parameters() if id(p) in muon}
    assert bool(names) == (optimizer == "muon")
    assert not any("embed" in name or "lm_head" in name or "norm" in name for name in names)


def test_set_trainable_covers_every_parameter(tiny_checkpoint: Checkpoint) -> None:
    model = load_model(tiny_checkpoint.path)
    set_trainable(model, Phase(name="all", trainable=ALL, steps=1, learning_rate=1e-3))
    assert all(parameter.requires_grad for parameter in model.parameters())
    set_trainable(model, Phase(name="none", trainable=("vision",), steps=1, learning_rate=1e-3))
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"connector", "text_model", "weight"}
