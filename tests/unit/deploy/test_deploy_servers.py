"""The whole deploy stage with two real vLLM servers, a real Caddy and a real MLflow store."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from components.artifacts import Bundle, Checkpoint, Dataset, Record, Release, digest_directory
from components.config import DeployConfig, Execution
from components.deploy import deploy, serve_champion, serving, vllm
from components.deploy.arms import open_registry
from components.deploy.release import register
from components.deploy.replay import conversation
from components.loader import SLOT, Sample, Turn, read_samples
from components.processes import free_ports
from components.progress import Bar
from components.tracking.registry import incumbent, record_of
from components.vlm import load_model, load_processor, messages, prompt_inputs, save

A = TypeVar("A", Bundle, Checkpoint)

pytestmark = [pytest.mark.serve, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_checkpoint: Checkpoint,
    tiny_dataset: Dataset,
    record_writer: Callable[..., Record],
) -> Checkpoint:
    """The tiny checkpoint after it has learnt the test questions by heart: it has something to lose."""
    root = tmp_path_factory.mktemp("learned")
    model, processor = load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path)
    texts, images = [], []
    for sample in read_samples(tiny_dataset, "test"):
        picture = Image.open(io.BytesIO(sample.images[0])).convert("RGB")
        for turn in sample.turns:
            texts.append(processor.apply_chat_template(messages(turn.question, turn.answer), tokenize=False))
            images.append([picture])
    batch = processor(text=texts, images=images, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(120):
            optimizer.zero_grad()
            model(**batch, labels=labels).loss.backward()
            optimizer.step()
    contract = save(model.eval(), processor, root / "output")
    return _artifact(Checkpoint, root, record_writer, contract=contract)


def _artifact(kind: type[A], root: Path, record_writer: Callable[..., Record], **fields: Any) -> A:
    artifact = kind(
        uri=str(root / "output"),
        digest=digest_directory(root / "output"),
        record=str(root / "record.json"),
        **fields,
    )
    record_writer(artifact, "export")
    return artifact


def bundle_of(
    checkpoint: Checkpoint, root: Path, record_writer: Callable[..., Record], damage: str = ""
) -> Bundle:
    """A bundle with the checkpoint's files; `damage`: `weights` are noise, or the `config` names no model."""
    directory = root / "output" / "vllm"
    shutil.copytree(checkpoint.path, directory)
    if damage == "weights":
        path = directory / "model.safetensors"
        generator = torch.Generator().manual_seed(0)
        noisy = {
            name: torch.randn(tensor.shape, generator=generator) * tensor.std()
            if "text_model" in name
            else tensor
            for name, tensor in load_file(path).items()
        }
        save_file(noisy, path, metadata={"format": "pt"})
    if damage == "config":
        config = json.loads((directory / "config.json").read_text())
        config["text_config"]["hidden_size"] += 32
        (directory / "config.json").write_text(json.dumps(config))
    (root / "output" / "made").write_text(f"{root.name}")
    return _artifact(Bundle, root, record_writer, quantized=False, contract=checkpoint.contract)


def test_deploy_promotes_rolls_back_and_leaves_no_orphan(
    tmp_path: Path, learned: Checkpoint, tiny_dataset: Dataset, record_writer: Callable[..., Record]
) -> None:
    config = DeployConfig(
        execution=Execution(workspace=tmp_path),
        requests_per_step=150,
        max_accuracy_drop=0.2,
        max_ttft_ratio=5.0,
        max_error_rate_increase=0.05,
        keep_serving=True,
        port=0,
    )
    home = config.execution.home
    registry = open_registry(config)

    def attempt(bundle: Bundle, config: DeployConfig) -> tuple[Release, dict[str, Any], Path]:
        champion = incumbent(registry.uri, config.model_name, bundle.digest)
        release = deploy(
            config=config, bundle=bundle, baseline=learned, dataset=tiny_dataset, champion=champion
        )
        logs = Path(release.record).parent / "logs"
        return release, json.loads((logs / "canary.json").read_text()), logs

    try:
        good = bundle_of(learned, tmp_path / "good", record_writer)
        release, timeline, logs = attempt(good, config)
        assert release.verdict == "promoted", timeline["reason"]
        assert (release.alias, release.version) == ("champion", "1")
        assert timeline["unanswered"] == 0
        assert len(timeline["steps"]) == 3
        assert pd.read_parquet(logs / "replay.parquet")["correct"].mean() > 0.3
        up = serving.status(home)
        assert up is not None and up.endpoint == release.endpoint
        assert httpx.get(f"{up.endpoint}/models").status_code == 200
        assert record_of(registry.uri, config.model_name, "champion") == Path(release.record)
        again, _, _ = attempt(good, config)
        assert again == release  # promoted, it keeps its identity: nothing is deployed twice

        broken = bundle_of(learned, tmp_path / "broken", record_writer, damage="weights")
        release, timeline, logs = attempt(broken, config.model_copy(update={"keep_serving": False}))
        assert release.verdict == "rolled_back"
        assert "canary/accuracy" in str(timeline["reason"])
        assert timeline["unanswered"] == 0
        replay = pd.read_parquet(logs / "replay.parquet")
        # A client tries again when the gateway drops its connection; no request stays unanswered.
        assert replay.groupby(["step", "request"])["status"].max().eq(200).all()
        assert {"stable", "canary"} <= set(replay["arm"])
        champion = registry.at("champion")
        assert champion is not None and champion.version == "1"
        assert registry.at("canary") is None
        version = registry.find(broken.digest)
        assert version is not None and version.tags["verdict"] == "rolled_back"

        dead = bundle_of(learned, tmp_path / "dead", record_writer, damage="config")
        release, timeline, _ = attempt(dead, config.model_copy(update={"keep_serving": False}))
        assert release.verdict == "rolled_back"
        assert "does not serve" in str(timeline["reason"])
        assert serving.status(home) is not None
    finally:
        assert serving.stop(home)
    assert serving.status(home) is None
    assert not [
        each
        for each in psutil.process_iter(["cmdline"])
        if str(tmp_path) in " ".join(each.info["cmdline"] or [])
    ]


def test_server_reads_every_picture_in_its_place_as_training_does(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    one, two = (sample.images[0] for sample in read_samples(tiny_dataset, "test")[:2])
    turns = (Turn(f"Is {SLOT} red?", "yes"), Turn(f"And {SLOT}?", "no"))
    sample = Sample("chat", "vqa", "", "test", (one, two), turns, chat=True)
    config = DeployConfig(execution=Execution(workspace=tmp_path))
    arm = vllm.start("many", tiny_checkpoint.path, free_ports(1)[0], config, tmp_path, images=2)
    try:
        with Bar("vLLM", total=1) as bar:
            failed = vllm.wait_ready([arm], timeout_s=300, bar=bar)
        assert not failed, failed
        body = {"model": vllm.SERVED_NAME, "max_tokens": 1, "return_token_ids": True}
        for turn in range(2):
            asked = sample.asked(turn)
            body["messages"] = conversation(asked)
            answer = httpx.post(f"http://{arm.address}/v1/chat/completions", json=body, timeout=60).json()
            ours = prompt_inputs(load_processor(tiny_checkpoint.path), [asked.prompt()])["input_ids"][0]
            assert answer["prompt_token_ids"] == ours.tolist()
    finally:
        arm.server.stop()


def test_serve_champion_starts_it_once_and_replaces_another_version(
    tmp_path: Path, learned: Checkpoint, tiny_dataset: Dataset, record_writer: Callable[..., Record]
) -> None:
    config = DeployConfig(execution=Execution(workspace=tmp_path), keep_serving=True, port=0)
    home, registry = config.execution.home, open_registry(config)
    assert serve_champion(config, tiny_dataset) is None
    try:
        first = register(registry, bundle_of(learned, tmp_path / "first", record_writer), tiny_dataset)
        registry.move(first, "promoted")
        up = serve_champion(config, tiny_dataset)
        assert up is not None and up.version == "1"
        assert httpx.get(f"{up.endpoint}/models").status_code == 200
        assert serve_champion(config, tiny_dataset) == up

        second = register(registry, bundle_of(learned, tmp_path / "second", record_writer), tiny_dataset)
        registry.move(second, "promoted")
        newer = serve_champion(config, tiny_dataset)
        assert newer is not None and newer.version == "2"
        assert not any(handle.alive() for handle in up.processes.values())
    finally:
        serving.stop(home)
