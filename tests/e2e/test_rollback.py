"""A candidate with broken weights, through the same deploy flow, against a good champion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from smoke_project import CONFIG, Project

from components.artifacts import Record, digest_directory, write_atomic

pytestmark = [pytest.mark.e2e, pytest.mark.serve, pytest.mark.timeout(1500)]


def broken_bundle(project: Project) -> Path:
    """A copy of the released bundle whose language model's weights are noise; gives its record."""
    good = Path(project.report()["stages"]["export"]["record"]).parent
    bad = good.with_name("broken0broken0br")
    shutil.copytree(good, bad)
    for path in (bad / "output/vllm").glob("*.safetensors"):
        tensors = load_file(path)
        for name, tensor in tensors.items():
            if "text_model" in name and tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))
                tensors[name] = (noise * tensor.float().std()).to(tensor.dtype)
        save_file(tensors, path, metadata={"format": "pt"})
    record = json.loads((bad / "record.json").read_text())
    record["artifact"] |= {
        "uri": str(bad / "output"),
        "digest": digest_directory(bad / "output"),
        "record": str(bad / "record.json"),
    }
    write_atomic(bad / "record.json", Record.model_validate(record).model_dump_json())
    return bad / "record.json"


def test_broken_candidate_is_rolled_back_and_every_request_answered(finished: Project) -> None:
    champion = finished.report()["release"]["version"]
    finished.opsin("deploy", CONFIG, str(broken_bundle(finished)))
    report = finished.report()
    assert report["verdict"] == "rolled_back"
    assert report["release"]["version"] != champion
    logs = Path(report["stages"]["deploy"]["record"]).parent / "logs"
    replay = pd.read_parquet(logs / "replay.parquet")
    assert {"stable", "canary"} <= set(replay["arm"])
    # A client tries again when the gateway drops its connection; no request stays unanswered.
    assert replay.groupby(["step", "request"])["status"].max().eq(200).all()
    assert f"version {champion} " in finished.opsin("lineage", "opsin-vlm@champion")
