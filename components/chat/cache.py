"""The answers that are there already, and what was spent: one append-only JSONL file.

Three kinds of line: `reserve` (written before a request that costs money is sent), `settle` (what it cost
in the end) and an answer under its request's digest. A process that is killed between the first two may
have been charged, so a reservation without a settlement stays spent: the budget holds over kills too.
Safe against SIGKILL, since what was written is the kernel's; after a power cut the last answers are asked
again.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from components.chat.types import ChatUsage
from components.errors import OpsinError


@dataclass(frozen=True)
class Entry:
    """What came back for a request: a text, and the reason where it is no answer."""

    text: str
    code: str = ""
    """Reason code; empty for an answer."""
    evidence: str = ""
    usage: ChatUsage = field(default=ChatUsage())


class AnswerCache:
    """Open it with `with`; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._settled = 0.0
        self._reserved: dict[str, float] = {}
        self._file = -1

    @property
    def spent(self) -> float:
        """What was paid, and what requests under way (or lost with their process) may cost at most."""
        return self._settled + sum(self._reserved.values())

    def __enter__(self) -> AnswerCache:
        """Read what is there, cutting off a last line that a killed process left half-written.

        Raises:
            OpsinError: another process has the file open.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise OpsinError(
                "another run is asking the same questions",
                where=str(self.path),
                fix="wait until it has ended, or stop it",
            ) from error
        self.entries, self._settled, self._reserved = {}, 0.0, {}
        whole = 0
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._take(line)
                whole += len(line)
        os.ftruncate(self._file, whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def reserve(self, ticket: str, cost: float) -> None:
        """Note, before sending, that up to `cost` may be charged."""
        if cost:
            self._append({"reserve": ticket, "cost": cost})

    def settle(self, ticket: str, cost: float) -> bool:
        """Replace a reservation by what was charged; gives whether there was one."""
        if ticket not in self._reserved:
            return False
        self._append({"settle": ticket, "cost": cost})
        return True

    def store(self, key: str, entry: Entry) -> None:
        """Keep an answer."""
        self._append({"key": key, **asdict(entry)})

    def _append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        # One write: what another process or a kill sees is the line or a part of the last one.
        written = os.write(self._file, line)
        assert written == len(line), "the disk is full"
        self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            if "reserve" in record:
                self._reserved[record["reserve"]] = float(record["cost"])
            elif "settle" in record:
                self._reserved.pop(record["settle"], None)
                self._settled += float(record["cost"])
            else:
                key, usage = record.pop("key"), ChatUsage(**record.pop("usage"))
                self.entries[key] = Entry(**record, usage=usage)
        except (ValueError, KeyError, TypeError) as error:
            raise OpsinError(
                f"a line of the answer cache is damaged: {line[:80]!r}",
                where=str(self.path),
                fix="remove the line; its question is asked again",
            ) from error
