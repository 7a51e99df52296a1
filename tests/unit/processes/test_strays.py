"""What bears the mark ends with the one who set it, wherever it has moved to; nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

import psutil

from components.processes import Sweeper

STARTER = '''
import subprocess, sys, time
from components.processes import Sweeper
orphan = """
import subprocess
sleeping = subprocess.Popen(['sleep', '300'], stdout=subprocess.DEVNULL, start_new_session=True)
print(sleeping.pid)
"""
sweeper = Sweeper()
with sweeper.marking():
    started = subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, text=True, check=True)
print(started.stdout, end="", flush=True)
time.sleep(300)
'''


def test_sweeper_ends_orphans_of_a_killed_starter() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        orphan = psutil.Process(int(starter.stdout.readline()))
        assert orphan.is_running()
        starter.kill()
    assert not psutil.wait_procs([orphan], timeout=20)[1]


def test_sweeper_close_ends_the_marked_and_nothing_else() -> None:
    environment = dict(os.environ)
    with closing(Sweeper()) as sweeper:
        before = subprocess.Popen(["sleep", "300"])
        with sweeper.marking():
            marked = subprocess.Popen(["sleep", "300"])
        after = subprocess.Popen(["sleep", "300"])
    assert marked.wait(timeout=1) == -9
    assert dict(os.environ) == environment
    for other in (before, after):
        assert other.poll() is None
        other.kill()
        other.wait()
