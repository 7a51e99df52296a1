"""An append-only file of JSON lines that survives its writer: what is in it need not be done again.

Safe against SIGKILL, since what was written is the kernel's: only the last line can be half-written, and
it is cut off when the file is opened. After a power cut the last lines may be missing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from components.errors import OpsinError


class Journal:
    """Open it with `with`; one process at a time.

    Args:
        path: The file; made with its directory where it is missing.
        take: Called with each record, those that are there already and those appended. One that it cannot
            take (ValueError, KeyError, TypeError) is named as damaged.
    """

    def __init__(self, path: Path, take: Callable[[dict[str, Any]], None]) -> None:
        self.path, self._take = path, take
        self._file, self._end = -1, 0

    def __enter__(self) -> Journal:
        """Lock the file and replay what was not replayed yet.

        Raises:
            OpsinError: another process has it open, or a line is damaged.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            self._lock()
            with self.path.open("rb") as lines:
                lines.seek(self._end)
                for line in lines:
                    if line.endswith(b"\n"):
                        self._read(line)
            os.ftruncate(self._file, self._end)
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record, whole or not at all."""
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        written = os.write(self._file, line)
        if written != len(line):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(f"the disk is full: {self.path}")
        self._read(line)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OpsinError(
                "another run is writing the same file",
                where=str(self.path),
                fix="wait until it has ended, or stop it",
            ) from error

    def _read(self, line: bytes) -> None:
        try:
            self._take(json.loads(line))
            self._end += len(line)
        except (ValueError, KeyError, TypeError) as error:
            raise OpsinError(
                f"a line is damaged: {line[:80]!r}",
                where=str(self.path),
                fix="remove the line; what it holds is done again",
            ) from error
