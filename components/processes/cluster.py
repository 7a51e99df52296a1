"""A Ray cluster, joined or started: what `execution.engine = "ray"` means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from components.environments import QUIET
from components.processes.strays import Sweeper


@contextmanager
def ray_cluster(address: str, workers: int) -> Iterator[Any]:
    """The module `ray`, connected; every node must see the workspace (a shared file system).

    Args:
        address: Of a running cluster (`auto`, `ray://HOST:PORT`); empty: one is started on this machine.
        workers: Processors of one that is started.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name.startswith("RAY")})
    import ray  # a second and a half, and only here

    with ExitStack() as stack:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:
            # After a `kill -9` Ray's two agents (185 MB) stay for a minute: each wants to tell Ray's server,
            # which is dead as well, and how long it tries is no setting.
            sweeper = stack.enter_context(closing(Sweeper()))
            with sweeper.marking():
                ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
        stack.callback(ray.shutdown)
        yield ray
