"""The stage: gates that can fail, metrics, frozen parts left alone, what is measured meanwhile."""

from __future__ import annotations

import json
import math
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from components.artifacts import Checkpoint, Dataset, Mixture, Record
from components.config import Phase, PretrainConfig
from components.errors import ConfigError, GateFailed
from components.loader import Step
from components.pretrain import pretrain
from components.pretrain import stage as pretrain_stage
from components.pretrain.data import prepare
from components.pretrain.train import Trainer
from components.pretrain.watch import Watch
from components.vlm import build_model, load_model

Config = Callable[..., PretrainConfig]
ALL = ("vision", "connector", "language")


def _weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(checkpoint.path / "model.safetensors")
    return weights


def _lines(checkpoint: Checkpoint, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    path = Path(checkpoint.record).parent / name
    return [json.loads(line) for line in path.read_text().splitlines()]


def _start(config: PretrainConfig, dataset: Dataset) -> dict[str, torch.Tensor]:
    torch.manual_seed(config.seed)
    return build_model(config.model, prepare(config, dataset).family.tokenizer).state_dict()


def test_pretrain_tiny_gives_a_gated_checkpoint_with_its_plan_and_losses_per_category(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    checkpoint = pretrain(config=tiny_config(tmp_path), dataset=tiny_dataset, mixture=mixture)
    load_model(checkpoint.path, expected_contract=checkpoint.contract)
    record = checkpoint.load_record()
    assert [gate.name for gate in record.gates] == ["packing_equivalence", "loss_sane", "generation_stops"]
    for category in mixture.weights:
        assert math.isfinite(record.metrics[f"validation_loss/{category}"])
    assert record.metrics["image_tokens"] == 16 + 3  # with its delimiters
    assert record.metrics["steps"] == 20
    lines = _lines(checkpoint)
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert all({"loss/vqa", "gradient_norm", "utilization", "samples_per_s"} <= line.keys() for line in lines)
    logs = Path(checkpoint.record).parent / "logs"
    assert "key-value cache per token" in dict(json.loads((logs / "model.json").read_text()))
    plan = pd.read_parquet(logs / "packplan.parquet")
    assert plan["pack"].nunique() == 20 * 2
    assert record.metrics["tokens"] == plan["tokens"].sum()
    strategies = {
        row["strategy"]: row for row in json.loads((logs / "packing.json").read_text())["strategies"]
    }
    assert len(strategies) == 6
    assert strategies["pooled"]["padding"] < strategies["next_fit"]["padding"]


@pytest.mark.parametrize("isolation", ["mask", "varlen"])
def test_pretrain_measured_precision_is_kept_for_the_next_run_of_its_kind(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config, isolation: str
) -> None:
    shared = {"precision": "auto", "isolation": isolation}
    first = pretrain(config=tiny_config(tmp_path, **shared), dataset=tiny_dataset, mixture=mixture)
    (kept,) = (tmp_path / ".opsin" / "cache" / "precision").glob("*.json")
    allowed = {"mask": {"bf16/sdpa_fp32", "bf16/sdpa", "fp32/sdpa"}}
    allowed["varlen"] = {"bf16/opsin_varlen", "fp32/opsin_varlen"}
    timed = json.loads(kept.read_text())["seconds"]
    assert timed.keys() == allowed[isolation]
    again = tiny_config(tmp_path, weight_decay=0.1, **shared)
    second = pretrain(config=again, dataset=tiny_dataset, mixture=mixture)
    assert first.load_record().metrics["bf16"] == second.load_record().metrics["bf16"]
    assert f"forward_backward_s/{next(iter(timed))}" in second.load_record().metrics


def test_pretrain_run_again_reads_the_same_plan_and_another_mixture_makes_another(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    config = tiny_config(tmp_path)
    pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    corpus = prepare(config, tiny_dataset)
    (path,) = (corpus.directory / "plans").glob("*.parquet")
    made = path.stat().st_mtime_ns
    pretrain(config=tiny_config(tmp_path, weight_decay=0.1), dataset=tiny_dataset, mixture=mixture)
    assert [each.stat().st_mtime_ns for each in path.parent.glob("*.parquet")] == [made]
    other = mixture.model_copy(update={"digest": "other", "weights": {"vqa": 1.0, "digits": 2.0}})
    pretrain(config=config, dataset=tiny_dataset, mixture=other)
    assert len(list(path.parent.glob("*.parquet"))) == 2


def test_pretrain_connector_phase_leaves_the_rest_untouched(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    phases = (Phase(name="connector", trainable=("connector",), steps=30, learning_rate=3e-2),)
    config = tiny_config(tmp_path, phases=phases)
    trained = _weights(pretrain(config=config, dataset=tiny_dataset, mixture=mixture))
    start = _start(config, tiny_dataset)
    changed = {name for name in trained if not torch.equal(trained[name], start[name])}
    assert changed == {name for name in trained if "connector" in name}


def test_pretrain_frozen_tower_runs_once_per_picture_and_trains_to_nearly_the_same(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    tiny_config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phases = (Phase(name="some", trainable=("connector", "language"), steps=12, learning_rate=3e-3),)
    plain = tiny_config(tmp_path / "plain", phases=phases, cache_features=False)
    slow = _weights(pretrain(config=plain, dataset=tiny_dataset, mixture=mixture))
    cached = tiny_config(tmp_path / "cached", phases=phases)
    pretrain(config=cached, dataset=tiny_dataset, mixture=mixture)  # computes the features
    again = tiny_config(tmp_path / "cached", phases=phases, weight_decay=0.06)
    runs = list[int]()
    step = Trainer._step

    def counted(self: Trainer, *arguments: Any, **options: Any) -> float:
        tower = self.model.model.vision_model
        handle = tower.register_forward_hook(lambda *_: runs.append(1))
        try:
            return step(self, *arguments, **options)
        finally:
            handle.remove()

    monkeypatch.setattr(Trainer, "_step", counted)
    fast = _weights(pretrain(config=again, dataset=tiny_dataset, mixture=mixture))
    assert not runs
    start = _start(plain, tiny_dataset)
    moved = max(float((slow[name] - start[name]).abs().max()) for name in slow)
    # Features are kept in float16.
    assert max(float((slow[name] - fast[name]).abs().max()) for name in slow) < 0.2 * moved
    assert all(torch.equal(fast[name], start[name]) for name in fast if "vision" in name)


def test_pretrain_padding_that_were_the_end_token_would_never_stop(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    tiny_config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The book's bug: with one token for both, masking the padding out of the loss masks the end token."""
    phases = (Phase(name="all", trainable=ALL, steps=150, learning_rate=3e-3),)
    config = tiny_config(tmp_path / "right", phases=phases)
    right = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    step = Trainer._step

    def masked(self: Trainer, given: Step, *arguments: Any, **options: Any) -> float:
        for batch in given.batches:
            batch.labels_BL[batch.labels_BL == self.family.tokenizer.eos_token_id] = -100
        return step(self, given, *arguments, **options)

    monkeypatch.setattr(Trainer, "_step", masked)
    assert right.load_record().metrics["end_token_rate"] > 0.9
    wrong = tiny_config(tmp_path / "wrong", phases=phases, min_end_token_rate=0.5)
    with pytest.raises(GateFailed, match=r"generation_stops.*observed 0%"):
        pretrain(config=wrong, dataset=tiny_dataset, mixture=mixture)


def test_pretrain_watched_groups_are_measured_and_a_fall_is_an_event_or_stops_the_run(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    tiny_config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare = Watch._compare

    def falling(self: Watch, step: int, group: str, answers: pd.DataFrame) -> None:
        """What a group would show that knew everything at first and nothing later."""
        compare(self, step, group, answers.assign(correct=float(step < 8)))

    watched = {"every": 4, "budget": 0.1, "samples_per_group": 16}
    quiet = pretrain(
        config=tiny_config(tmp_path / "quiet", watch=watched), dataset=tiny_dataset, mixture=mixture
    )
    measured = [line for line in _lines(quiet) if "held_out_exact/vqa/official_test" in line]
    assert [line["step"] for line in measured] == [4, 8, 12, 16, 20]
    assert not (Path(quiet.record).parent / "events.jsonl").exists()
    monkeypatch.setattr(Watch, "_compare", falling)
    told = pretrain(
        config=tiny_config(tmp_path / "told", watch=watched), dataset=tiny_dataset, mixture=mixture
    )
    events = _lines(told, "events.jsonl")
    assert {(event["event"], event["group"]) for event in events} >= {("regression", "vqa/official_test")}
    stopping = tiny_config(tmp_path / "stopped", watch=watched | {"on_regression": "stop"})
    with pytest.raises(GateFailed, match="no_regression"):
        pretrain(config=stopping, dataset=tiny_dataset, mixture=mixture)


def test_pretrain_best_weights_are_those_of_the_lowest_validation_loss(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    # So high a rate that the loss ends above where it was.
    phases = (
        Phase(name="learn", trainable=ALL, steps=20, learning_rate=3e-3, schedule="constant"),
        Phase(name="forget", trainable=ALL, steps=10, learning_rate=0.04, schedule="constant"),
    )
    config = tiny_config(tmp_path, phases=phases, validate_every=5, select="best", spike_factor=1e9)
    best = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    logged = {line["step"]: line["validation_loss"] for line in _lines(best) if "validation_loss" in line}
    metrics = best.load_record().metrics
    assert metrics["validation_loss"] == pytest.approx(min(logged.values()), rel=1e-4)
    assert logged[int(metrics["best_step"])] == min(logged.values()) < logged[30]


def test_pretrain_activation_checkpointing_and_smaller_forwards_train_alike(
    tiny_dataset: Dataset, tmp_path: Path, mixture: Mixture, tiny_config: Config
) -> None:
    plain = _weights(pretrain(config=tiny_config(tmp_path / "a"), dataset=tiny_dataset, mixture=mixture))
    changed = tiny_config(tmp_path / "b", activation_checkpointing=True, packs_per_forward=1)
    other = _weights(pretrain(config=changed, dataset=tiny_dataset, mixture=mixture))
    assert max(float((plain[name] - other[name]).abs().max()) for name in plain) < 1e-4


def test_pretrain_streamed_pictures_and_workers_give_identical_weights(
    tiny_dataset: Dataset,
    tmp_path: Path,
    mixture: Mixture,
    tiny_config: Config,
    training_process: Callable[[PretrainConfig], subprocess.Popen[bytes]],
) -> None:
    cached = pretrain(config=tiny_config(tmp_path / "a"), dataset=tiny_dataset, mixture=mixture)
    config = tiny_config(tmp_path / "b", pixels="streamed", loader_workers=2)
    # A process of its own, as a user's is: this one has been forked from, threaded and traced by other tests.
    assert training_process(config).wait() == 0
    streamed = pretrain.finished(config=config, dataset=tiny_dataset, mixture=mixture)
    assert streamed is not None
    assert streamed.digest == cached.digest


@pytest.fixture
def texts(tmp_path: Path, tiny_dataset: Dataset, record_writer: Callable[..., Record]) -> Dataset:
    """The tiny dataset without its pictures and without its test split."""
    output = tmp_path / "texts"
    (output / "shards").mkdir(parents=True)
    for split in ("train", "validation"):
        name = f"shards/{split}-00000.tar"
        with tarfile.open(tiny_dataset.path / name) as whole, tarfile.open(output / name, "w") as kept:
            for member in whole:
                if member.name.endswith(".json"):
                    kept.addfile(member, whole.extractfile(member))
    dataset = tiny_dataset.model_copy(
        update={"uri": str(output), "digest": "texts", "record": str(tmp_path / "texts.json")}
    )
    record_writer(dataset, "curate", dataset_versions={"tiny": "0" * 32})
    return dataset


def test_pretrain_phase_without_language_on_data_without_pictures_is_refused(
    tmp_path: Path, texts: Dataset, mixture: Mixture, tiny_config: Config
) -> None:
    with pytest.raises(ConfigError, match="phase 'connector' trains connector, and its data has no picture"):
        pretrain(config=tiny_config(tmp_path), dataset=texts, mixture=mixture)


def test_pretrain_texts_without_a_test_split_train_where_nothing_is_watched(
    tmp_path: Path, texts: Dataset, mixture: Mixture, tiny_config: Config
) -> None:
    config = tiny_config(tmp_path, phases=(Phase(name="all", trainable=ALL, steps=8, learning_rate=3e-3),))
    metrics = pretrain(config=config, dataset=texts, mixture=mixture).load_record().metrics
    assert metrics["steps"] == 8 and metrics["validation_loss"] > 0
    watched = tiny_config(tmp_path / "other", phases=config.phases, watch={"every": 2})
    with pytest.raises(ConfigError, match="no sample of the test split"):
        pretrain(config=watched, dataset=texts, mixture=mixture)


def test_pretrain_stage_module_is_the_one_that_is_named() -> None:
    assert pretrain.module == pretrain_stage.__name__
