"""A small synthetic run: the records and files that the stages of a whole lifecycle leave."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from components.artifacts import Identity, Parent, Record, Source
from components.gates.result import GateResult
from components.report import StageOutcome

CATEGORIES = ("caption", "chart", "digits", "vqa")
GROUPS = ("caption/unseen_vendor", "chart/unseen_packages", "digits/unseen_digits", "vqa/official_test")
HARDWARE: dict[str, str | int] = {"machine": "x86_64", "cores": 2, "memory_gib": 24}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def gate(name: str, passed: bool = True, **values: Any) -> GateResult:
    return GateResult(
        **({"name": name, "passed": passed, "observed": "0.93", "required": "at least 0.90"} | values)
    )


class Lifecycle:
    """Writes stage directories the way `components.stage` does, and keeps their outcomes."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.outcomes: list[StageOutcome] = []

    def add(
        self,
        name: str,
        kind: str,
        fields: dict[str, Any],
        *,
        parents: tuple[str, ...] = (),
        metrics: dict[str, float] | None = None,
        gates: tuple[GateResult, ...] = (),
        sources: tuple[Source, ...] = (),
        cached: bool = False,
        seconds: float = 12.5,
    ) -> Path:
        """A finished stage; gives its directory."""
        directory = self.directory(name)
        kinds = {outcome.name: outcome for outcome in self.outcomes}
        record = Record(
            stage=name.split("-")[0],
            fingerprint=sha(name),
            artifact={
                "kind": kind,
                "uri": str(directory / "output"),
                "digest": sha(f"{name} bytes"),
                "record": str(directory / "record.json"),
                **fields,
            },
            identity=Identity(stage=name, config={}, code={}, parents={}),
            config={},
            parents=tuple(
                Parent(
                    name=parent,
                    kind=Record.load(kinds[parent].record).artifact["kind"],
                    digest=sha(f"{parent} bytes"),
                    record=str(kinds[parent].record),
                )
                for parent in parents
            ),
            sources=sources,
            dataset_versions={"cpu": "9f3a7c5e"},
            git_commit="0123abcd",
            environment=sha("locks"),
            hardware=HARDWARE,
            started="2026-11-23T10:00:00+00:00",
            seconds=seconds,
            metrics=metrics or {},
            gates=gates,
        )
        (directory / "record.json").write_text(record.model_dump_json())
        self._keep(name, directory, cached, 0.2 if cached else seconds)
        return directory

    def fail(self, name: str, gates: tuple[GateResult, ...]) -> Path:
        """A stage that did not finish."""
        directory = self.directory(name)
        (directory / "gates.json").write_text(json.dumps([each.model_dump() for each in gates]))
        self._keep(name, directory, False, 3.0)
        return directory

    def directory(self, name: str) -> Path:
        directory = self.workspace / ".opsin/artifacts" / name / sha(name)[:16]
        for part in ("output", "logs"):
            (directory / part).mkdir(parents=True)
        return directory

    def _keep(self, name: str, directory: Path, cached: bool, seconds: float) -> None:
        record = directory / "record.json"
        self.outcomes.append(StageOutcome(name=name, record=record, cached=cached, seconds=seconds))


def curate(life: Lifecycle) -> None:
    source = Source(
        locator="pypi:easy-vqa==1.0", version="1.0", sha256=sha("wheel"), licence="MIT", num_samples=2400
    )
    directory = life.add(
        "curate",
        "dataset",
        {"name": "cpu", "version": "9f3a7c5e", "num_samples": 9000},
        gates=(gate("unique_keys"), gate("decontamination")),
        sources=(source,),
        cached=True,
        seconds=81.0,
    )
    steps, left = [], 10000
    for name, reason, gone in (
        ("pixels", "blank", 120),
        ("exact_duplicate", "exact_duplicate", 700),
        ("near_duplicate", "near_duplicate", 150),
        ("decontamination", "in_test", 30),
    ):
        steps.append(
            {
                "name": name,
                "num_in": left,
                "num_out": left - gone,
                "seconds": 0.4,
                "samples_per_s": left / 0.4,
                "rejected": {"caption": gone},
                "reasons": {reason: gone},
            }
        )
        left -= gone
    kept = [{"category": c, "split": "train", "group": "", "samples": 1700} for c in CATEGORIES]
    kept += [{"category": c, "split": "validation", "group": "", "samples": 200} for c in CATEGORIES]
    kept += [
        {"category": c, "split": "test", "group": group.split("/")[1], "samples": 350}
        for c, group in zip(CATEGORIES, GROUPS, strict=True)
    ]
    reasons = {"blank": 120, "exact_duplicate": 700, "near_duplicate": 150, "in_test": 30}
    (directory / "logs/funnel.json").write_text(
        json.dumps({"filters": steps, "reasons": reasons, "kept": kept})
    )
    pixels = np.random.default_rng(0).integers(0, 255, (64, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(directory / "logs/contact.png")


def ablate(life: Lifecycle) -> None:
    random = np.random.default_rng(1)
    runs = []
    for index in range(7):
        weights = dict(zip(CATEGORIES, (float(w) for w in random.dirichlet([2.0] * 4)), strict=True))
        losses = {c: 3.0 - weights[c] * 2 for c in CATEGORIES}
        predicted = {c: loss + float(random.normal(0, 0.05)) for c, loss in losses.items()}
        name = "stratified" if not index else f"dirichlet-{index}"
        run = {"name": name, "weights": weights, "losses": losses, "predicted": predicted}
        runs.append(run | {"objective": 1.0 - 0.01 * index, "predicted_objective": 1.0 - 0.008 * index})
        life.add(f"propose-{index}", "mixture", {"name": f"proxy-{index}", "weights": weights}, cached=True)
        life.add(f"proxy-{index}", "checkpoint", {"contract": "c"}, parents=("curate",), seconds=20.0)
    even = dict.fromkeys(CATEGORIES, 0.25)
    chosen = {"caption": 0.2, "chart": 0.15, "digits": 0.3, "vqa": 0.35}
    stratified = {
        "name": "stratified",
        "weights": even,
        "predicted_objective": 1.001,
        "observed_objective": 1.0,
    }
    optimum = {
        "name": "optimum",
        "weights": chosen,
        "predicted_objective": 0.97,
        "observed_objective": None,
    }
    study = {
        "categories": list(CATEGORIES),
        "targets": list(CATEGORIES),
        "runs": runs,
        "predictor": "log_linear",
        "rank_correlation": 0.74,
        "regret": 0.004,
        "regret_curve": [{"runs": float(n), "regret": 0.02 / n} for n in range(4, 8)],
        "responses": {
            c: [{"weight": w / 10, "objective": 0.97 + (w / 10 - chosen[c]) ** 2} for w in range(1, 6)]
            for c in CATEGORIES
        },
        "baselines": [stratified],
        "optimum": optimum,
        "stratified": stratified,
        "chosen": optimum,
        "gain": {"value": 0.031, "low": 0.012, "high": 0.05},
        "verdict": "the predicted optimum: gain over stratified +3.1% [+1.2%, +5.0%]",
    }
    directory = life.add(
        "ablate", "mixture", {"name": "optimum", "weights": chosen}, gates=(gate("valid_mixture"),)
    )
    (directory / "output/ablation.json").write_text(json.dumps(study))
    confirmation = {
        "chosen": "optimum",
        "pairs": [0.02, 0.028, 0.024],
        "gain": {"value": 0.024, "low": 0.014, "high": 0.034},
        "verdict": "optimum confirmed: gain over stratified +2.4% [+1.4%, +3.4%] in 3 pairs of runs",
    }
    directory = life.add("confirm", "mixture", {"name": "optimum", "weights": chosen}, parents=("ablate",))
    (directory / "output/confirmation.json").write_text(json.dumps(confirmation))


def train(
    life: Lifecycle, name: str, parents: tuple[str, ...], *, gates: tuple[GateResult, ...] = ()
) -> None:
    metrics = {"loss": 0.61, "padding": 0.04, "tokens_per_s": 3900.0}
    directory = life.add(
        name, "checkpoint", {"contract": "c"}, parents=parents, metrics=metrics, gates=gates, seconds=190
    )
    lines = []
    for step in range(10, 610, 10):
        losses = {f"loss/{c}": 4 * math.exp(-step / (150 + 40 * i)) + 0.3 for i, c in enumerate(CATEGORIES)}
        line = {
            "step": step,
            "time": 0.0,
            "loss": sum(losses.values()) / 4,
            "padding": 0.04 + 0.01 * math.sin(step),
        }
        lines.append(json.dumps(line | losses | {"tokens_per_s": 3900 + 50 * math.cos(step)}))
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    save_file({"weight": np.zeros((100, 320), np.float32)}, directory / "output/model.safetensors")


def evaluate(life: Lifecycle, label: str, better: float, gates: tuple[GateResult, ...] = ()) -> None:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.04, "high": value + 0.04}

    scores, metrics = {}, {}
    for index, group in enumerate(GROUPS):
        value, blind = 0.45 + better + 0.08 * index, 0.3 + 0.1 * index
        scores[group] = (
            interval(value)
            | {"metric": "exact_match", "n": 400}
            | {
                "question_only": interval(blind),
                "gain": interval(value - blind),
                "end_token_rate": 0.995,
                "repetition_rate": 0.003,
            }
        )
        metrics[f"question_only/{group}"] = blind
    directory = life.add(
        f"evaluate-{label}", "scores", {"label": label}, parents=(label,), metrics=metrics, gates=gates
    )
    (directory / "output/scores.json").write_text(json.dumps(scores))
    (directory / "logs/samples").mkdir()
    shown = []
    for index, group in enumerate(GROUPS):
        colour = (40 * index, 90, 200 - 30 * index)
        Image.new("RGB", (64, 64), colour).save(directory / f"logs/samples/{index}.png")
        shown.append(
            {
                "group": group,
                "key": f"k{index}",
                "question": "what <shape> is in the image?",
                "answer": "circle",
                "prediction": "circle" if better > 0.1 else "triangle & more",
                "correct": better > 0.1,
                "question_only_prediction": "square",
                "ended": True,
                "image": f"samples/{index}.png",
            }
        )
    (directory / "logs/samples.json").write_text(json.dumps(shown))


def release(life: Lifecycle, *, quantized: bool, verdict: str) -> None:
    test = gate("non_inferior", quantized, blocking=False, observed="change -0.004 [-0.012, +0.005], n=1600")
    life.add("select", "checkpoint", {"contract": "c", "quantized": quantized}, gates=(test,))
    life.add("export", "bundle", {"contract": "c", "quantized": quantized}, gates=(gate("parity/onnx"),))
    fields = {"verdict": verdict, "model": "opsin-vlm", "version": "3", "endpoint": None}
    alias = "champion" if verdict == "promoted" else None
    directory = life.add("deploy", "release", fields | {"alias": alias}, gates=(gate("canary/accuracy"),))
    steps = [
        {
            "weight": weight,
            "arms": {
                "stable": {"n": 100, "errors": 0, "accuracy": 0.71, "ttft_s": 0.21, "latency_s": 0.4},
                "canary": {
                    "n": int(100 * weight),
                    "errors": 0,
                    "accuracy": 0.72,
                    "ttft_s": None,
                    "latency_s": 0.3,
                },
            },
        }
        for weight in (0.1, 0.3, 0.6)
    ]
    timeline = {"reason": "every harm is within its budget", "requests": 300, "unanswered": 0, "steps": steps}
    (directory / "logs/canary.json").write_text(json.dumps(timeline))


def whole(workspace: Path, *, quantized: bool = True, verdict: str = "promoted") -> Lifecycle:
    """Everything from curate to deploy."""
    life = Lifecycle(workspace)
    curate(life)
    ablate(life)
    train(life, "pretrain", ("curate", "ablate"), gates=(gate("packing_equivalence"),))
    evaluate(life, "pretrain", 0.0)
    train(life, "sft", ("pretrain", "curate", "ablate"))
    evaluate(life, "sft", 0.12)
    train(life, "align", ("sft",))
    evaluate(life, "align", 0.15, gates=tuple(gate(f"regression_budget/{group}") for group in GROUPS))
    sizes = {"bytes_before": 13_300_000.0, "bytes_after": 7_100_000.0}
    fields = {"contract": "c", "quantized": True}
    life.add("quantize", "checkpoint", fields, parents=("align",), metrics=sizes)
    evaluate(life, "quantize", 0.14)
    release(life, quantized=quantized, verdict=verdict)
    return life
