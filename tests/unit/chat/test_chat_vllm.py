"""A real vLLM with a tiny random model: it knows nothing, and answers in the schema all the same."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from components.artifacts import Checkpoint
from components.chat import ChatAnswer, ChatClient, ChatRequest
from components.config import DeployConfig, Execution
from components.config.chat import ChatConfig
from components.curate.samples import Reason
from components.deploy.vllm import SERVED_NAME, start, wait_ready
from components.processes import free_ports
from components.progress import Bar

pytestmark = [pytest.mark.serve, pytest.mark.timeout(600)]

SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "certain": {"type": "boolean"},
    },
    "required": ["colour", "certain"],
    "additionalProperties": False,
}


def test_vllm_answers_in_the_schema_concurrently_and_is_asked_once(
    tmp_path: Path, tiny_checkpoint: Checkpoint
) -> None:
    deploy = DeployConfig(execution=Execution(workspace=tmp_path))
    (port,) = free_ports(1)
    arm = start("teacher", tiny_checkpoint.path, port, deploy, tmp_path, images=1)
    try:
        with Bar("vLLM", total=1) as bar:
            failed = wait_ready([arm], timeout_s=300, bar=bar)
        assert not failed, failed
        config = ChatConfig(
            base_url=f"http://{arm.address}/v1",
            model=SERVED_NAME,
            max_tokens=160,
            temperature=1.0,
            price_per_million_input=1.0,
            price_per_million_output=2.0,
            budget=1.0,
            concurrency=4,
        )
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(picture, "PNG")
        requests = [
            ChatRequest("What color is the shape?", images=(picture.getvalue(),), schema=SCHEMA, draw=draw)
            for draw in range(6)
        ]
        client = ChatClient(config, cache=tmp_path / "answers.jsonl")
        answers = client.ask_many(requests)
        # A random model may fill its answer with the white space that JSON allows, up to the limit.
        assert set(client.outcomes) <= {"answer", "truncated"}, answers
        values = [each.value for each in answers if isinstance(each, ChatAnswer)]
        assert values, answers
        assert all(value["colour"] in ("red", "green", "blue") for value in values)
        assert client.usage.prompt_tokens > 0 and client.usage.completion_tokens > 0
        assert 0 < client.spent <= config.budget
        assert client.spent == pytest.approx(client.usage.cost)

        too_long = ChatRequest("a " * 100_000)
        (refused,) = client.ask_many([too_long])
        assert isinstance(refused, Reason) and refused.code == "rejected" and "400" in refused.evidence
    finally:
        arm.server.stop()
    again = ChatClient(config, cache=tmp_path / "answers.jsonl")
    assert again.ask_many(requests) == answers  # the server is gone: nothing was asked
