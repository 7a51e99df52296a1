"""The losses before a teacher, of every family."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_families import FAMILIES, tiny_family
from torch import nn

from components.config import DistillWeights
from components.distillation import Teacher, soft_losses
from components.loader import Collator, Packing, Sample, Turn, encode, pack_once
from components.pretrain.distill import DistilledLoss, Lesson, Losses

ALL = ("vision", "connector", "language")


def _samples() -> list[Sample]:
    """Two pictures and a text."""
    samples = []
    for number, (width, height) in enumerate(((64, 64), (48, 96))):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG")
        turns = (Turn("Is it red?", "no"), Turn("How many?", "three"))
        samples.append(Sample(f"picture-{number}", "c", "", "train", (png.getvalue(),), turns))
    return [*samples, Sample("text", "c", "", "train", (), (Turn("Two and two?", "four"),))]


def _taught(name: str, seed: int, weights: DistillWeights) -> tuple[DistilledLoss, Losses]:
    """A tiny model of a family, and its losses before a teacher that another seed made."""
    family, model = tiny_family(name)
    _, other = tiny_family(name, seed=seed)
    lesson = Lesson(Teacher("other", "test", other.requires_grad_(False), family), nn.ModuleDict(), 2.0)
    loss = DistilledLoss(model, family, lesson)
    loss.enter(weights)
    encoded = encode(_samples(), family)
    packs = pack_once(encoded, range(len(encoded)), Packing(4096, 4096, packs_per_step=1))
    return loss, loss(Collator(encoded, family)(packs))


def _numbers(losses: Losses) -> dict[str, float]:
    return {term: float(each) for term, each in losses.detached().distances.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_distilled_loss_of_every_family_is_zero_before_itself_and_teaches_before_another(name: str) -> None:
    weights = DistillWeights(hard=0.0, logits=1.0, connector=1.0, vision=1.0)
    _, same = _taught(name, 0, weights)
    assert all(each == pytest.approx(0, abs=1e-4) for each in _numbers(same).values())
    loss, losses = _taught(name, 1, weights)
    assert set(losses.distances) == {"logits", "connector", "vision"}
    assert all(each > 0.1 for each in _numbers(losses).values())
    losses.objective(weights, len(losses.hard_K), 2).backward()
    for part in ALL:
        gradients = [
            parameter.grad
            for module in loss.family.parts(loss.model)[part]
            for parameter in module.parameters()
        ]
        assert any(each is not None and float(each.abs().max()) > 0 for each in gradients), part


@pytest.mark.parametrize("name", FAMILIES)
def test_distilled_loss_of_features_alone_is_the_same_without_running_language_models_backwards(
    name: str,
) -> None:
    features = DistillWeights(hard=0.0, connector=1.0, vision=1.0)
    _, alone = _taught(name, 1, features)
    _, together = _taught(name, 1, DistillWeights(logits=1.0, connector=1.0, vision=1.0))
    for term in ("connector", "vision"):
        assert _numbers(alone)[term] == pytest.approx(_numbers(together)[term], rel=1e-4)
    assert torch.allclose(alone.hard_K, together.hard_K, atol=1e-4)
    assert not alone.hard_K.requires_grad
    assert together.hard_K.requires_grad


def test_soft_losses_are_hintons_at_any_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 7, generator=generator) for _ in range(2))
    for temperature in (0.5, 1.0, 4.0):
        p_KV, q_KV = (torch.softmax(each / temperature, -1) for each in (teacher, student))
        wanted = temperature**2 * (p_KV * (p_KV / q_KV).log()).sum(-1)
        assert torch.allclose(soft_losses(student, teacher, temperature), wanted, atol=1e-5)
    padded = torch.cat([teacher, torch.full((3, 2), 9.0)], dim=1)
    assert torch.equal(soft_losses(student, padded, 1.0), soft_losses(student, teacher, 1.0))


def test_objective_divides_each_sum_by_what_the_step_holds() -> None:
    losses = Losses(torch.tensor([1.0, 3.0]), {"logits": torch.tensor(6.0), "vision": torch.tensor(5.0)})
    weights = DistillWeights(hard=0.5, logits=2.0, vision=3.0)
    objective = losses.objective(weights, labelled=4, rows=10)
    assert float(objective) == pytest.approx(0.5 * 4 / 4 + 2 * 6 / 4 + 3 * 5 / 10)
    assert float(losses.objective(weights, labelled=4, rows=0)) == pytest.approx(0.5 + 3 + 15)
