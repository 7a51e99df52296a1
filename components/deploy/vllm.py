"""One vLLM server: its command line, its environment, its readiness.

Start-up on a CPU, two cores, a 3M-parameter Idefics3, both servers started at once: 24 s. As plainly
started it was 71 s for one. What helps: one process less (the `uni` executor, whose worker lives inside the
engine: each process spends 8 s importing), a stated key-value cache size (it is zeroed at start; stating
it also skips the profiling pass), eager mode (no compilation), and Python's byte code cache.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from components.config import DeployConfig
from components.environments import QUIET, interpreter
from components.errors import ServerError
from components.processes import Server
from components.progress import Bar

SERVED_NAME = "opsin"
"""Model name that clients send, next to the registered model's own; the same on both arms."""
CPU_CACHE_BYTES = 256 << 20
"""Key-value cache of a server on CPU."""
CPU_SEQUENCES = 16
"""Sequences that a server on CPU decodes at once."""


@dataclass(frozen=True)
class Arm:
    """One vLLM server behind the gateway."""

    name: str
    """`stable` or `canary`."""
    server: Server
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def healthy(self) -> bool:
        """Whether the server says it can serve."""
        try:
            return httpx.get(f"http://{self.address}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def on_gpu(config: DeployConfig) -> bool:
    """Whether the servers run on an NVIDIA GPU."""
    device = config.execution.device
    return device == "cuda" or (device == "auto" and shutil.which("nvidia-smi") is not None)


def command(directory: Path, port: int, config: DeployConfig, *, images: int) -> list[str]:
    """The command line that serves the Hugging Face directory `directory` on loopback `port`.

    Args:
        images: The most that a prompt may show.
    """
    arguments = [
        *(str(interpreter("serve")), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(directory)),
        *("--served-model-name", SERVED_NAME, config.model_name),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--dtype", "bfloat16"),
        *("--max-model-len", str(config.max_model_len)),
        *("--limit-mm-per-prompt", json.dumps({"image": images})),
        *("--seed", str(config.seed)),
        "--disable-uvicorn-access-log",
    ]
    if on_gpu(config):
        # Two servers share the device during the canary.
        return [*arguments, "--gpu-memory-utilization", "0.4"]
    return [
        *arguments,
        "--enforce-eager",
        "--skip-mm-profiling",
        *("--distributed-executor-backend", "uni"),
        *("--kv-cache-memory-bytes", str(CPU_CACHE_BYTES)),
        *("--max-num-seqs", str(CPU_SEQUENCES)),
    ]


def environment(config: DeployConfig) -> dict[str, str]:
    """The environment of a server: quiet, offline, and half of the threads, as two share the machine."""
    values = os.environ | QUIET | {"HF_HUB_OFFLINE": "1"}
    # Without byte code kept, every start compiles 2,800 files again: 42 s instead of 16 s for one server.
    values.pop("PYTHONDONTWRITEBYTECODE", None)
    if not on_gpu(config):
        values["OMP_NUM_THREADS"] = str(max(1, config.execution.threads // 2))
        # Lets `uni` stand; vLLM's own thread binding wants a process per worker, we bind by count.
        values["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return values


def start(name: str, directory: Path, port: int, config: DeployConfig, logs: Path, *, images: int) -> Arm:
    """Start a server; it is not ready yet (`wait_ready`).

    Args:
        images: The most that a prompt may show.
    """
    server = Server(
        f"vLLM ({name})",
        command(directory, port, config, images=images),
        log=logs / f"vllm-{name}.log",
        environment=environment(config),
    )
    return Arm(name, server, port)


def wait_ready(arms: Sequence[Arm], *, timeout_s: float, bar: Bar) -> dict[str, ServerError]:
    """Wait until each arm serves, has died, or `timeout_s` is over.

    Returns:
        Arm name → why it does not serve, for those that do not.
    """
    deadline = time.monotonic() + timeout_s
    waiting, failed = {arm.name: arm for arm in arms}, dict[str, ServerError]()
    while waiting:
        for name, arm in list(waiting.items()):
            if arm.healthy():
                del waiting[name]
                bar.advance(note=f"{name} is up")
            elif not arm.server.running() or time.monotonic() > deadline:
                died = "ended" if not arm.server.running() else f"was not ready after {timeout_s:.0f} s"
                failed[name] = ServerError(
                    f"{arm.server.name} {died}; the end of its log:\n    {arm.server.tail()}",
                    where=str(arm.server.log),
                    fix="read the whole log; raise deploy.start_timeout_s when the machine is only slow",
                )
                del waiting[name]
        bar.advance(0)
        time.sleep(0.25)
    return failed
