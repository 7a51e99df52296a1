"""The export stage on the tiny checkpoint: both runtimes' parity, and what stops it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from components.artifacts import Bundle, Checkpoint, Dataset, Record, digest_directory
from components.config import Execution, ExportConfig, ModelConfig
from components.errors import ContractMismatch, GateFailed
from components.export import export, inputs, parity
from components.export.inputs import draw
from components.export.onnx_graphs import write
from components.export.onnx_runtime import OnnxModel
from components.loader import SLOT, Sample, Turn, read_samples
from components.vlm import build_model, build_processor, load_model, load_processor, save

FILES = ("decoder.onnx", "embed_tokens.onnx", "manifest.json", "vision_encoder.onnx")


@pytest.fixture(scope="module")
def export_config(tmp_path_factory: pytest.TempPathFactory) -> ExportConfig:
    return ExportConfig(
        execution=Execution(workspace=tmp_path_factory.mktemp("export")), parity_samples=4, tolerance=1e-4
    )


@pytest.fixture(scope="module")
def bundle(export_config: ExportConfig, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset) -> Bundle:
    return export(
        config=export_config, checkpoint=tiny_checkpoint, reference=tiny_checkpoint, dataset=tiny_dataset
    )


def test_export_tiny_checkpoint_gives_both_runtimes_and_passes(
    bundle: Bundle, tiny_checkpoint: Checkpoint
) -> None:
    record = bundle.load_record()
    assert [(gate.name, gate.passed) for gate in record.gates] == [
        ("vllm_directory_parity", True),
        ("onnx_parity", True),
    ]
    assert digest_directory(bundle.path / "vllm") == digest_directory(tiny_checkpoint.path)
    assert tuple(sorted(path.name for path in (bundle.path / "onnx").iterdir())) == FILES
    assert record.metrics["onnx_diff_decode"] < 1e-4
    assert record.metrics["onnx_token_agreement"] == 1
    assert record.metrics["bytes_onnx"] > 0


def test_export_manifest_tells_inputs_outputs_and_that_weights_are_unquantized(bundle: Bundle) -> None:
    manifest = json.loads((bundle.path / "onnx" / "manifest.json").read_text())
    assert manifest["weights"] == "unquantized, float32"
    decoder = manifest["graphs"]["decoder.onnx"]
    assert [each["name"] for each in decoder["inputs"]] == [
        "inputs_embeds",
        "attention_mask",
        "position_ids",
        "past_key_values.0.key",
        "past_key_values.0.value",
    ]
    assert decoder["inputs"][3]["shape"] == ["batch", 2, "past", 32]
    assert [each["name"] for each in decoder["outputs"]] == ["logits", "present.0.key", "present.0.value"]


def test_export_graphs_are_valid_and_hold_no_path_of_this_machine(bundle: Bundle) -> None:
    for path in (bundle.path / "onnx").glob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=True)
        assert b"site-packages" not in path.read_bytes()


def test_write_twice_gives_the_same_bytes(
    bundle: Bundle, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    write(load_model(tiny_checkpoint.path), load_processor(tiny_checkpoint.path), tmp_path / "onnx")
    assert digest_directory(tmp_path / "onnx") == digest_directory(bundle.path / "onnx")


def test_compare_onnx_other_weights_differ_and_the_gate_fails(
    bundle: Bundle, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    model = load_model(tiny_checkpoint.path)
    with torch.no_grad():
        model.model.text_model.norm.weight.mul_(1.01)
    batches = draw(tiny_dataset, load_processor(tiny_checkpoint.path), 2, seed=0)
    difference = parity.compare_onnx(model, OnnxModel(bundle.path / "onnx", threads=1), batches)
    gate = parity.onnx_close(difference, 1e-4)
    assert not gate.passed
    assert gate.blocking


def test_draw_shows_every_picture_and_the_graphs_read_them_all(
    bundle: Bundle, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (sample.images[0] for sample in read_samples(tiny_dataset, "test")[:3])
    samples = [
        Sample("a", "vqa", "", "test", (one, two), (Turn(f"Is {SLOT} like {SLOT}?", "no"),)),
        Sample("b", "vqa", "", "test", (three,), (Turn("What color is the shape?", "red"),)),
        Sample("c", "vqa", "", "test", (three,), (Turn("Hi?", "hi"), Turn(f"{SLOT}?", "red")), chat=True),
    ]
    monkeypatch.setattr(inputs, "read_samples", lambda dataset, split: samples)
    processor = load_processor(tiny_checkpoint.path)
    batches = draw(tiny_dataset, processor, 3, seed=0)
    assert batches[0].size == 2, "a first turn without a picture is not asked"
    assert len(batches[0].pixel_values) == 3
    tokens = (batches[0].input_ids == processor.image_token_id).sum(dim=1) // processor.image_seq_len
    assert sorted(tokens.tolist()) == [1, 2]
    model = load_model(tiny_checkpoint.path)
    difference = parity.compare_onnx(model, OnnxModel(bundle.path / "onnx", threads=1), batches)
    assert parity.onnx_close(difference, 1e-4).passed


@pytest.mark.parametrize(
    "prefill, decode", [(1.0, 0.0), (0.0, 1.0), (float("nan"), 0.0), (0.0, float("nan"))]
)
def test_onnx_close_any_large_or_undefined_difference_fails(prefill: float, decode: float) -> None:
    assert not parity.onnx_close(parity.Difference(prefill, decode, 1.0), 1e-3).passed


def test_same_model_changed_weights_fail(tiny_checkpoint: Checkpoint, tiny_dataset: Dataset) -> None:
    model, other = load_model(tiny_checkpoint.path), load_model(tiny_checkpoint.path)
    batches = draw(tiny_dataset, load_processor(tiny_checkpoint.path), 2, seed=0)
    assert parity.same_model(model, other, batches).passed
    with torch.no_grad():
        other.lm_head.weight[0, 0] += 1e-3
    assert not parity.same_model(model, other, batches).passed


def test_export_tolerance_missed_stops_the_stage(
    export_config: ExportConfig, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    config = export_config.model_copy(update={"tolerance": 1e-30})
    with pytest.raises(GateFailed, match="onnx_parity"):
        export(config=config, checkpoint=tiny_checkpoint, reference=tiny_checkpoint, dataset=tiny_dataset)


def test_export_changed_chat_template_is_refused(
    export_config: ExportConfig, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(tiny_checkpoint.path, changed)
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text() + "!")
    checkpoint = tiny_checkpoint.model_copy(update={"uri": str(changed), "digest": digest_directory(changed)})
    with pytest.raises(ContractMismatch, match="chat_template"):
        export(config=export_config, checkpoint=checkpoint, reference=tiny_checkpoint, dataset=tiny_dataset)


def test_export_gated_cross_attention_gives_the_directory_alone(
    export_config: ExportConfig,
    tiny_checkpoint: Checkpoint,
    tiny_dataset: Dataset,
    tmp_path: Path,
    record_writer: Callable[..., Record],
) -> None:
    config = ModelConfig(
        architecture="gated_cross_attention", text_layers=1, cross_every=1, latents=4, cross_heads=1
    )
    processor = build_processor(load_processor(tiny_checkpoint.path).tokenizer, config)
    model = build_model(config, processor.tokenizer).eval()
    for gate in (each for name, each in model.named_parameters() if name.endswith("_gate")):
        torch.nn.init.constant_(gate, 0.7)
    output = tmp_path / "output"
    agreed = save(model, processor, output)
    checkpoint = Checkpoint(
        uri=str(output),
        digest=digest_directory(output),
        record=str(tmp_path / "record.json"),
        contract=agreed,
    )
    record_writer(checkpoint, "pretrain")
    batch = draw(tiny_dataset, processor, 2, seed=0)[0]
    prompt = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    written = model.generate(**prompt, pixel_values=batch.pixel_values[:, None], max_new_tokens=4)
    traced = torch.stack(parity.trace(model, batch).tokens[:4], dim=1)
    assert torch.equal(traced, written[:, batch.input_ids.shape[1] :])
    bundle = export(config=export_config, checkpoint=checkpoint, reference=checkpoint, dataset=tiny_dataset)
    assert [path.name for path in bundle.path.iterdir()] == ["vllm"]
    assert [(gate.name, gate.passed) for gate in bundle.load_record().gates] == [
        ("vllm_directory_parity", True)
    ]
