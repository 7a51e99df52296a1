"""What distillation can be asked for: a teacher with work to do, and terms that reach what is trained."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.ablate.design import proxy_config
from components.config import AblateConfig, DistillConfig, DistillWeights, Phase, PretrainConfig, SftConfig

CHAT = {"base_url": "http://localhost:1/v1", "model": "m"}


def _phase(
    trainable: tuple[str, ...] = ("vision", "connector", "language"), **weights: float
) -> dict[str, Any]:
    return {"name": "p", "trainable": trainable, "steps": 10, "learning_rate": 1e-3, "distill": weights}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phases": [_phase(logits=1)]}, "names no teacher"),
        ({"phases": [_phase()], "distill": {"teacher": "x"}}, "teaches nothing"),
        ({"phases": [_phase(hard=0)], "distill": {"teacher": "x"}}, "hard = 0 leaves nothing"),
        ({"phases": [_phase()], "distill": {}}, "name a `teacher`"),
        ({"phases": [_phase(logits=1)], "distill": {"text": {"chat": CHAT}}}, "want a `teacher`"),
        ({"phases": [_phase(("language",), vision=1)], "distill": {"teacher": "x"}}, "without the tower"),
        ({"phases": [_phase(("language",), connector=1)], "distill": {"teacher": "x"}}, "without tower or"),
        ({"phases": [_phase(hard=0, vision=1)], "distill": {"teacher": "x"}}, "`hard` or `logits` only"),
        (
            {"phases": [_phase(("vision", "connector"), hard=0, vision=1)], "distill": {"teacher": "x"}},
            "nothing reaches the connector",
        ),
        (
            {"phases": [_phase(("vision",), hard=0, vision=1)], "distill": {"teacher": "x"}},
            "no phase learns what to write",
        ),
        ({"distill": {"teacher": "npm:x", "text": {}}}, "models come out of wheels"),
        ({"distill": {"teacher": "x", "text": {"system": "Be short."}}}, "is for an endpoint"),
        ({"distill": {"digest": "0", "text": {"chat": CHAT}}}, "digest is the teacher's"),
    ],
)
def test_pretrain_config_with_a_teacher_in_vain_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PretrainConfig.model_validate(fields)


def test_pretrain_config_of_two_stages_is_accepted_and_proxies_do_without() -> None:
    phases = [_phase(("vision", "connector"), hard=0, vision=1, connector=1), _phase(logits=1)]
    config = PretrainConfig.model_validate({"phases": phases, "distill": {"teacher": "x"}})
    assert config.phases[0].distill == DistillWeights(hard=0, vision=1, connector=1)
    proxy = proxy_config(AblateConfig(steps=20), config)
    assert proxy.distill is None
    assert not any(phase.distill.taught for phase in proxy.phases)


@pytest.mark.parametrize(
    ("distill", "message"),
    [
        ({"teacher": "x", "weights": {"vision": 1}}, "does not train the vision tower"),
        ({"teacher": "x", "weights": {"hard": 0, "connector": 1}}, "want `hard` or `logits`"),
        ({"teacher": "x"}, "teaches nothing"),
    ],
)
def test_sft_config_with_a_teacher_in_vain_is_refused(distill: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SftConfig.model_validate({"distill": distill})


def test_distillation_is_identity_and_where_an_endpoint_lies_is_not() -> None:
    def identity(**chat: str) -> Any:
        config = DistillConfig.model_validate({"text": {"chat": CHAT | chat}})
        return PretrainConfig(distill=config).identity()["distill"]

    assert identity() == identity(base_url="http://elsewhere/v1")
    assert identity() != identity(model="n")
    assert Phase.model_validate(_phase()).distill == DistillWeights()
