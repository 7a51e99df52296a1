"""Ray's processes end with the one who started them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

DRIVER = """
import sys, time
from pathlib import Path
from components.config import Execution
from components.curate.engines import open_engine
with open_engine(Execution(workspace=Path(sys.argv[1]), engine="ray", workers=1)) as engine:
    print(list(engine.map(abs, [-3])), flush=True)
    sys.stdin.read()
"""
AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}


def test_ray_of_a_killed_driver_ends_with_its_agents(tmp_path: Path) -> None:
    driver = start(tmp_path)
    started = processes_below(driver)
    driver.kill()
    driver.communicate()
    # By themselves the agents stay for a minute.
    _, left = psutil.wait_procs(started, timeout=20)
    assert not left


def test_ray_engine_closed_leaves_nothing(tmp_path: Path) -> None:
    driver = start(tmp_path)
    started = processes_below(driver)
    driver.communicate()
    assert driver.returncode == 0
    assert not [process for process in started if process.is_running()]


def start(workspace: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(workspace)]
    driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "[3]\n"
    return driver


def processes_below(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """All of them, once both agents are up and named."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = psutil.Process(driver.pid).children(recursive=True)
        if len([each for each in found if each.name() in AGENTS]) == len(AGENTS):
            return found
        time.sleep(0.1)
    raise AssertionError(f"agents that did not come up: {found}")
