"""Phases, learning rates and optimizers."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from components.artifacts import Checkpoint
from components.config import Phase
from components.pretrain.muon import Fp32Muon, muon_of
from components.pretrain.optimizers import build_optimizers, set_rate, set_trainable
from components.pretrain.schedule import FINAL_SHARE, place, rate_share
from components.vlm import load_model, load_processor
from components.vlm.families import Family, family_of

ALL = ("vision", "connector", "language")


@pytest.fixture(scope="module")
def family(tiny_checkpoint: Checkpoint) -> Family:
    return family_of(load_processor(tiny_checkpoint.path))


def _phase(**fields: object) -> Phase:
    plain = {"name": "all", "trainable": ALL, "steps": 100, "learning_rate": 1e-2, "warmup_share": 0.1}
    return Phase.model_validate(plain | fields)


def test_place_steps_fall_into_phases() -> None:
    found = [place((3, 100), step) for step in (0, 2, 3, 102)]
    assert [(each.index, each.step) for each in found] == [(0, 0), (0, 2), (1, 0), (1, 99)]
    with pytest.raises(IndexError):
        place((3, 100), 103)


def test_rate_share_cosine_warms_up_then_falls() -> None:
    shares = [rate_share(_phase(), step, 100) for step in range(100)]
    assert shares[9] == max(shares) == 1
    assert shares[:10] == sorted(shares[:10])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] < FINAL_SHARE + 0.01


def test_rate_share_wsd_is_stable_then_decays_and_constant_stays() -> None:
    stable = [rate_share(_phase(schedule="wsd", decay_share=0.25), step, 100) for step in range(100)]
    assert set(stable[9:76]) == {1.0}
    assert stable[75:] == sorted(stable[75:], reverse=True)
    assert FINAL_SHARE <= stable[-1] <= 0.05
    assert rate_share(_phase(schedule="constant"), 99, 100) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_build_optimizers_every_parameter_is_updated_once(
    tiny_checkpoint: Checkpoint, family: Family, optimizer: Literal["adamw", "muon"]
) -> None:
    model = load_model(tiny_checkpoint.path)
    phase = _phase()
    set_trainable(model, family, phase)
    built = build_optimizers(model, family, phase, optimizer, 0.1)
    updated = [id(p) for each in built for group in each.param_groups for p in group["params"]]
    assert sorted(updated) == sorted(id(p) for p in model.parameters())
    muon = {
        id(p)
        for each in built
        if isinstance(each, torch.optim.Muon)
        for group in each.param_groups
        for p in group["params"]
    }
    names = {name for name, p in model.named_parameters() if id(p) in muon}
    assert bool(names) == (optimizer == "muon")
    assert not any("embed" in name or "lm_head" in name or "norm" in name for name in names)


def test_set_rate_each_part_follows_its_own_peak(tiny_checkpoint: Checkpoint, family: Family) -> None:
    model = load_model(tiny_checkpoint.path)
    phase = _phase(learning_rates={"vision": 1e-4})
    set_trainable(model, family, phase)
    (built,) = build_optimizers(model, family, phase, "adamw", 0.0)
    set_rate(built, 0.5)
    vision = {id(p) for module in family.parts(model)["vision"] for p in module.parameters()}
    rates = {(id(p) in vision, group["lr"]) for group in built.param_groups for p in group["params"]}
    assert rates == {(True, 0.5e-4), (False, 0.5e-2)}


def test_set_trainable_covers_every_parameter(tiny_checkpoint: Checkpoint, family: Family) -> None:
    model = load_model(tiny_checkpoint.path)
    set_trainable(model, family, _phase())
    assert all(parameter.requires_grad for parameter in model.parameters())
    set_trainable(model, family, _phase(trainable=("vision",)))
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"connector", "text_model", "weight"}


def test_phase_wants_one_length() -> None:
    with pytest.raises(ValueError, match="steps or tokens"):
        _phase(tokens=5)
    with pytest.raises(ValueError, match="steps or tokens"):
        _phase(steps=0)


def test_muon_in_fp32_steps_as_torch_does_in_bf16() -> None:
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((24, 64), (64, 24), (32, 32))]
    gradients = [[torch.randn_like(each) for each in start] for _ in range(3)]
    ended = []
    for kind in (torch.optim.Muon, Fp32Muon):
        parameters = [torch.nn.Parameter(each.clone()) for each in start]
        optimizer = kind(parameters, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for step in gradients:
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        ended.append([parameter.detach() for parameter in parameters])
    for before, theirs, ours in zip(start, *ended, strict=True):
        moved = (theirs - before).norm()
        assert (theirs - ours).norm() < 0.03 * moved  # bf16 has three digits


def test_muon_is_torchs_own_where_the_device_multiplies_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": True})
    assert muon_of(torch.device("cpu")) is torch.optim.Muon
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": False})
    assert muon_of(torch.device("cpu")) is Fp32Muon
    assert muon_of(torch.device("cuda")) is torch.optim.Muon
