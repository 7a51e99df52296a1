"""What a worker process of a pool does at its start, whoever made the pool."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process


def die_with_parent() -> None:
    """A killed parent leaves idle workers behind, which would wait for work for ever."""
    parent = parent_process()
    assert parent is not None, "only a process that multiprocessing started has a parent to watch"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
