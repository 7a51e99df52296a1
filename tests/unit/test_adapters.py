"""The effect gate: merged weights differ where trained and nowhere else."""

from __future__ import annotations

import pytest
import torch

from components.adapters import effect, trained_names
from components.artifacts import Checkpoint
from components.vlm import load_model

BEFORE = {"a": torch.zeros(2), "b": torch.zeros(2)}


@pytest.mark.parametrize(
    ("after", "passed"),
    [
        ({"a": torch.ones(2), "b": torch.zeros(2)}, True),
        ({"a": torch.zeros(2), "b": torch.zeros(2)}, False),
        ({"a": torch.ones(2), "b": torch.ones(2)}, False),
        ({"a": torch.full((2,), float("nan")), "b": torch.zeros(2)}, False),
    ],
)
def test_effect_passes_only_when_the_trained_weights_changed(
    after: dict[str, torch.Tensor], passed: bool
) -> None:
    assert effect(BEFORE, after, trained={"a"}).passed is passed


def test_effect_nothing_trained_fails() -> None:
    assert not effect(BEFORE, dict(BEFORE), trained=set()).passed


def test_trained_names_are_language_linears_and_the_connector(tiny_checkpoint: Checkpoint) -> None:
    weights = load_model(tiny_checkpoint.path).state_dict()
    language = trained_names(weights, connector=False)
    assert len(language) == 7  # q, k, v, o, gate, up, down of its one layer
    assert trained_names(weights, connector=True) - language == {
        "model.connector.modality_projection.proj.weight"
    }
