"""The answers that are there already, and what was spent: one journal.

Three kinds of record: `reserve` (written before a request that costs money is sent), `settle` (what it
cost in the end) and an answer under its request's digest. A process that is killed between the first two
may have been charged, so a reservation without a settlement stays spent: the budget holds over kills too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from components.chat.types import ChatUsage
from components.journal import Journal


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
        self.entries: dict[str, Entry] = {}
        self._settled = 0.0
        self._reserved: dict[str, float] = {}
        self._journal = Journal(path, self._take)

    @property
    def spent(self) -> float:
        """What was paid, and what requests under way (or lost with their process) may cost at most."""
        return self._settled + sum(self._reserved.values())

    def __enter__(self) -> AnswerCache:
        self._journal.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.__exit__(kind, error, trace)

    def reserve(self, ticket: str, cost: float) -> None:
        """Note, before sending, that up to `cost` may be charged."""
        self._journal.append({"reserve": ticket, "cost": cost})

    def settle(self, ticket: str, cost: float) -> bool:
        """Replace a reservation by what was charged; gives whether there was one."""
        if ticket not in self._reserved:
            return False
        self._journal.append({"settle": ticket, "cost": cost})
        return True

    def store(self, key: str, entry: Entry) -> None:
        """Keep an answer."""
        self._journal.append({"key": key, **asdict(entry)})

    def _take(self, record: dict[str, Any]) -> None:
        if "reserve" in record:
            self._reserved[record["reserve"]] = float(record["cost"])
        elif "settle" in record:
            self._reserved.pop(record["settle"], None)
            self._settled += float(record["cost"])
        else:
            key, usage = record.pop("key"), ChatUsage(**record.pop("usage"))
            self.entries[key] = Entry(**record, usage=usage)
