"""Pretraining with a teacher: the student comes closer to it in every term, and everything else holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chat_server import Said, serve
from PIL import Image
from safetensors.torch import load_file

from components.artifacts import Checkpoint, Dataset, Mixture
from components.config import ModelConfig, PretrainConfig
from components.distillation import Answers, cosine_distance, look, soft_losses, vectors
from components.distillation import answers as answering
from components.engine.loss import PackedLoss
from components.errors import ConfigError
from components.fingerprint import ROOT
from components.loader import Batch, Collator, Packing, encode, pack_once, read_samples
from components.pretrain import pretrain
from components.pretrain import stage as pretrain_stage
from components.pretrain.data import Corpus, prepare
from components.pretrain.distill import Lesson
from components.pretrain.launch import Job
from components.pretrain.train import Trainer
from components.vlm import Prompt, generate, load_model, load_processor, messages
from components.vlm.families import family_of

Config = Callable[..., PretrainConfig]
ALL = ("vision", "connector", "language")
BEFORE = ("vision", "connector")
LARGER = ModelConfig(
    vocab_size=400,
    vision_layers=2,
    vision_width=48,
    vision_heads=2,
    text_layers=2,
    text_width=96,
    text_heads=3,
    text_kv_heads=3,
    text_mlp=128,
)
ALIGN = {
    "name": "align",
    "trainable": BEFORE,
    "steps": 30,
    "learning_rate": 3e-3,
    "distill": {"hard": 0.0, "vision": 1.0, "connector": 1.0},
}
IMITATE = {
    "name": "imitate",
    "trainable": ALL,
    "steps": 120,
    "learning_rate": 3e-3,
    "distill": {"logits": 1.0},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the module: teacher and corpus are made once and found by their fingerprints."""
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture
def teacher(tiny_dataset: Dataset, mixture: Mixture, tiny_config: Config, workspace: Path) -> Checkpoint:
    """A larger model that has learned the training questions."""
    phases = ({"name": "all", "trainable": ALL, "steps": 150, "learning_rate": 3e-3},)
    config = tiny_config(workspace, model=LARGER, phases=phases, seed=1)
    return pretrain(config=config, dataset=tiny_dataset, mixture=mixture)


@pytest.fixture
def student(
    teacher: Checkpoint, tiny_dataset: Dataset, mixture: Mixture, tiny_config: Config, workspace: Path
) -> Callable[..., Checkpoint]:
    """`student(*phases, **changes)`: trained, taught by `teacher` where a phase says so."""

    def train(*phases: dict[str, Any], **changes: Any) -> Checkpoint:
        taught = any(set(phase.get("distill", {})) - {"hard"} for phase in phases)
        distill = {"teacher": str(teacher.path)} if taught else None
        fields = {"phases": phases, "distill": distill, "seed": 2} | changes
        config = tiny_config(fields.pop("workspace", workspace), **fields)
        return pretrain(config=config, dataset=tiny_dataset, mixture=mixture)

    return train


def _batch(checkpoint: Checkpoint, dataset: Dataset) -> Batch:
    """The validation split in packs."""
    family = family_of(load_processor(checkpoint.path))
    encoded = encode(read_samples(dataset, "validation"), family)
    packs = pack_once(encoded, range(len(encoded)), Packing(512, 8, packs_per_step=1))
    return Collator(encoded, family)(packs)


def _kl(teacher: Checkpoint, student: Checkpoint, dataset: Dataset) -> float:
    """KL(teacher ‖ student) per labelled token, in nats."""
    batch = _batch(student, dataset)
    with torch.no_grad():
        theirs, own = (
            PackedLoss(load_model(each.path), family_of(load_processor(each.path))).logits(batch)[0]
            for each in (teacher, student)
        )
    return float(soft_losses(own, theirs, 1.0).mean())


def _lines(checkpoint: Checkpoint) -> list[dict[str, float]]:
    path = Path(checkpoint.record).parent / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def _curve(checkpoint: Checkpoint, name: str) -> list[float]:
    return [line[name] for line in _lines(checkpoint) if name in line]


def test_pretrain_taught_logits_bring_the_student_closer_than_labels_alone(
    student: Callable[..., Checkpoint], teacher: Checkpoint, tiny_dataset: Dataset
) -> None:
    plain = student(IMITATE | {"distill": {}})
    both = student(IMITATE)
    soft = student(IMITATE | {"distill": {"logits": 1.0, "hard": 0.0}})
    far, near, nearer = (_kl(teacher, each, tiny_dataset) for each in (plain, both, soft))
    # Of far, over seeds 0 to 3: near is 0.79 to 0.93, nearer is 0.76 to 0.95.
    assert near < 0.9 * far
    assert nearer < 0.9 * far
    assert _validation(soft) < _validation(plain)
    # What is logged as the loss is the cross-entropy of the labels, whatever is minimized.
    assert _curve(soft, "loss")[0] == pytest.approx(_curve(plain, "loss")[0], abs=0.3)
    assert _curve(soft, "distill/logits")[-1] < 0.5 * _curve(soft, "distill/logits")[0]
    assert not _curve(plain, "distill/logits")


def test_pretrain_two_stages_align_features_first_and_release_no_map(
    student: Callable[..., Checkpoint], tiny_dataset: Dataset, tiny_config: Config, workspace: Path
) -> None:
    short = IMITATE | {"steps": 6}
    aligned = student(ALIGN, short)
    for term in ("vision", "connector"):
        curve = _curve(aligned, f"distill/{term}")
        assert len(curve) == 6, "logged in the first stage only"
        assert curve[-1] < 0.5 * curve[0]
    names = set(load_file(aligned.path / "model.safetensors"))
    assert names == set(load_file(student(short | {"distill": {}}).path / "model.safetensors"))


def test_pretrain_aligned_features_of_one_width_are_the_teachers_without_a_map(
    tiny_dataset: Dataset, tiny_checkpoint: Checkpoint, student: Callable[..., Checkpoint]
) -> None:
    """The teacher has the student's sizes, so the released student itself can be held against it."""
    distill = {"teacher": str(tiny_checkpoint.path)}
    language = {"name": "language", "trainable": ("language",), "steps": 5, "learning_rate": 1e-3}
    alike, other = student(ALIGN, language, distill=distill), student(language)
    batch = _batch(alike, tiny_dataset)

    def distances(checkpoint: Checkpoint) -> list[float]:
        models = [load_model(each.path) for each in (checkpoint, tiny_checkpoint)]
        family = family_of(load_processor(checkpoint.path))
        with torch.inference_mode():
            own, taught = (look(model, family, batch.images) for model in models)
        return [
            float(cosine_distance(vectors(own, term), vectors(taught, term)))
            for term in ("vision", "connector")
        ]

    for near, far in zip(distances(alike), distances(other), strict=True):
        assert near < 0.5 * far


def test_pretrain_first_stage_leaves_the_language_model_and_the_teacher_untouched(
    student: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[Lesson, dict[str, torch.Tensor]]]()
    prepare = pretrain_stage.prepare_lesson

    def remembered(*arguments: Any, **options: Any) -> Lesson | None:
        lesson = prepare(*arguments, **options)
        if lesson is not None:
            weights = lesson.teacher.model.state_dict()
            seen.append((lesson, {name: each.clone() for name, each in weights.items()}))
        return lesson

    monkeypatch.setattr(pretrain_stage, "prepare_lesson", remembered)
    last = {"name": "last", "trainable": ("connector",), "steps": 30, "learning_rate": 3e-2}
    trained = load_file(student(ALIGN, last, workspace=tmp_path).path / "model.safetensors")
    ((lesson, before),) = seen
    after = lesson.teacher.model.state_dict()
    assert all(torch.equal(after[name], each) for name, each in before.items())
    assert not any(parameter.grad is not None for parameter in lesson.teacher.model.parameters())
    start = load_file(student(last, workspace=tmp_path).path / "model.safetensors")
    changed = {name for name in trained if not torch.equal(trained[name], start[name])}
    assert changed == {name for name in trained if "vision" in name or "connector" in name}


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_pretrain_taught_stopped_in_each_stage_and_started_again_gives_identical_weights(
    student: Callable[..., Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    phases = (
        ALIGN | {"steps": 8},
        IMITATE | {"steps": 8, "distill": {"logits": 1.0, "vision": 0.5, "connector": 0.5}},
    )
    shared = {"optimizer": optimizer, "log_every": 3}
    whole = student(*phases, workspace=tmp_path / "whole", **shared)
    stopped = shared | {"workspace": tmp_path / "stopped", "checkpoint_every_s": 1e-9}
    step = Trainer._step
    for stop_at in (4, 13):

        def stopping(self: Trainer, *arguments: Any, stop_at: int = stop_at, **options: Any) -> float:
            if self.progress.step == stop_at:
                raise Killed
            return step(self, *arguments, **options)

        monkeypatch.setattr(Trainer, "_step", stopping)
        with pytest.raises(Killed):
            student(*phases, **stopped)
    monkeypatch.setattr(Trainer, "_step", step)
    resumed = student(*phases, **stopped)
    assert resumed.digest == whole.digest
    for name in ("loss", "gradient_norm", "distill/vision", "distill/connector", "distill/logits"):
        assert _curve(resumed, name) == _curve(whole, name), name
    assert len(_curve(whole, "distill/vision")) == 6


@pytest.mark.parametrize(
    "changes", [{"packs_per_forward": 1}, {"processes": 2}], ids=["forwards", "processes"]
)
def test_pretrain_taught_in_smaller_forwards_or_more_processes_trains_alike(
    student: Callable[..., Checkpoint], tmp_path: Path, changes: dict[str, int]
) -> None:
    """Many samples are blind, so forwards differ in how many images they hold, and some hold none."""
    phases = (
        ALIGN | {"steps": 5},
        IMITATE | {"steps": 5, "distill": {"logits": 1.0, "vision": 0.5, "connector": 0.5}},
    )
    shared = {"text_only_share": 0.7, "log_every": 1}
    one = student(*phases, workspace=tmp_path / "one", **shared)
    other = student(*phases, workspace=tmp_path / "other", **shared, **changes)
    for name in ("loss", "distill/vision", "distill/connector", "distill/logits"):
        assert _curve(other, name) == pytest.approx(_curve(one, name), abs=1e-4), name
    before, after = (load_file(each.path / "model.safetensors") for each in (one, other))
    assert max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-3


def test_trainer_taught_and_sharded_over_two_processes_trains_as_one_and_goes_on_with_one(
    teacher: Checkpoint, tiny_dataset: Dataset, mixture: Mixture, tiny_config: Config, tmp_path: Path
) -> None:
    """FSDP2 shards the maps with the student, and not the teacher."""
    phases = (
        ALIGN | {"steps": 5},
        IMITATE | {"steps": 7, "distill": {"logits": 1.0, "vision": 0.5, "connector": 0.5}},
    )
    shared = {"phases": phases, "log_every": 1, "seed": 2, "distill": {"teacher": str(teacher.path)}}
    one = pretrain(config=tiny_config(tmp_path / "one", **shared), dataset=tiny_dataset, mixture=mixture)
    config = tiny_config(tmp_path / "sharded", checkpoint_every_s=1e-9, **shared)
    identity = pretrain.identity(config=config, dataset=tiny_dataset, mixture=mixture)
    directory = pretrain.directory(identity, config)
    (directory / "scratch").mkdir(parents=True)
    job = Job(
        fingerprint="sharded", directory=directory, config=config, dataset=tiny_dataset, mixture=mixture
    )
    (tmp_path / "job.json").write_text(job.model_dump_json())
    for until in ("3", "8"):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        worker = [str(Path(__file__).with_name("fsdp_worker.py")), str(tmp_path / "job.json"), until]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run([*launcher, *worker], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
    rest = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    for name in ("loss", "distill/vision", "distill/connector", "distill/logits"):
        assert _curve(rest, name) == pytest.approx(_curve(one, name), abs=1e-4), name


def test_pretrain_texts_of_a_teacher_are_learned_and_measured_against_the_labels(
    tiny_dataset: Dataset, mixture: Mixture, tiny_config: Config, tmp_path: Path
) -> None:
    """A teacher that says one thing to all: the student learns to say it, and validation does not know it."""
    phases = ({"name": "all", "trainable": ALL, "steps": 40, "learning_rate": 3e-3},)
    with serve(lambda body: Said("yellow")) as server:
        chat = {"base_url": server.base_url, "model": "m"}
        config = tiny_config(tmp_path, phases=phases, distill={"text": {"chat": chat}})
        taught = pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
        assert len(server.seen) == 96
    metrics = taught.load_record().metrics
    assert metrics["distill/answers"] == 96
    assert _curve(taught, "loss")[-1] < 0.3
    assert metrics["validation_loss"] > 1.5
    picture = Image.new("RGB", (64, 64))
    prompts = [Prompt((picture,), messages(question)) for question in ("What color is it?", "Why?")]
    processor = load_processor(taught.path)
    said = generate(load_model(taught.path), processor, prompts, max_new_tokens=8, batch_size=2)
    assert [each.text for each in said] == ["yellow", "yellow"]


def test_pretrain_texts_of_a_checkpoint_are_generated_once(
    teacher: Checkpoint,
    tiny_dataset: Dataset,
    mixture: Mixture,
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    phases = ({"name": "all", "trainable": ALL, "steps": 8, "learning_rate": 3e-3},)
    distill = {"teacher": str(teacher.path), "text": {"max_new_tokens": 12}}
    shared = {"phases": phases, "distill": distill}
    first = pretrain(config=tiny_config(tmp_path, **shared), dataset=tiny_dataset, mixture=mixture)
    answers = first.load_record().metrics["distill/answers"]
    assert answers > 80
    # What is known is not generated again.
    monkeypatch.setattr(answering, "load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    again = tiny_config(tmp_path, weight_decay=0.01, **shared)
    record = pretrain(config=again, dataset=tiny_dataset, mixture=mixture).load_record()
    assert record.metrics["distill/answers"] == answers


def test_prepare_answers_stand_in_the_training_split_alone(
    tiny_dataset: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    sample, *others = (read_samples(tiny_dataset, split)[0] for split in ("train", "validation", "test"))
    said = Answers({each.key: {0: "the teacher says blue"} for each in (sample, *others)}, {})
    for pixels in ("cached", "streamed"):
        config = tiny_config(tmp_path, pixels=pixels)
        plain, taught = prepare(config, tiny_dataset), prepare(config, tiny_dataset, said)
        mine, own = (_turns(corpus, 0) for corpus in (taught, plain))
        assert mine == own.replace(sample.turns[0].answer, "the teacher says blue", 1)
        assert [_turns(taught, each) for each in (1, 2, 3)] == [_turns(plain, each) for each in (1, 2, 3)]
        for split in ("validation", "held_out"):
            tokens = [getattr(corpus, split).with_image.tokens_N for corpus in (taught, plain)]
            assert np.array_equal(*tokens)


def _turns(corpus: Corpus, sample: int) -> str:
    """The turns of a training sample as they are learned."""
    encoded = corpus.train
    start, end = encoded.with_image.start_T[encoded.turn_S[[sample, sample + 1]]]
    return str(corpus.family.tokenizer.decode(encoded.with_image.tokens_N[start:end]))


def test_pretrain_teacher_of_another_content_is_another_fingerprint(
    tiny_dataset: Dataset, mixture: Mixture, tiny_config: Config, teacher: Checkpoint, tmp_path: Path
) -> None:
    copy = tmp_path / "teacher"
    copy.mkdir()
    for path in teacher.path.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = tiny_config(tmp_path, phases=(IMITATE,), distill={"teacher": str(copy)})

    def fingerprint() -> str:
        return pretrain.identity(config=config, dataset=tiny_dataset, mixture=mixture).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"max_length": 21}))
    assert fingerprint() != first
    distill = {"teacher": str(copy), "digest": "0" * 64}
    with pytest.raises(ConfigError, match="is not the one that the config names"):
        pretrain(
            config=tiny_config(tmp_path, phases=(IMITATE,), distill=distill),
            dataset=tiny_dataset,
            mixture=mixture,
        )


def test_pretrain_teacher_with_another_tokenizer_is_refused_before_training(
    tiny_dataset: Dataset, mixture: Mixture, tiny_config: Config, tmp_path: Path
) -> None:
    phases = ({"name": "all", "trainable": ALL, "steps": 2, "learning_rate": 1e-3},)
    model = LARGER.model_copy(update={"vocab_size": 320})
    other = pretrain(
        config=tiny_config(tmp_path, model=model, phases=phases), dataset=tiny_dataset, mixture=mixture
    )
    config = tiny_config(tmp_path, phases=(IMITATE,), distill={"teacher": str(other.path)})
    with pytest.raises(ConfigError, match=r"tokenizer is not the student's: 320 tokens against") as error:
        pretrain(config=config, dataset=tiny_dataset, mixture=mixture)
    assert str(other.path) in str(error.value)


def _validation(checkpoint: Checkpoint) -> float:
    return checkpoint.load_record().metrics["validation_loss"]
