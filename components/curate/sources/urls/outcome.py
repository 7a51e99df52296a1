"""How one URL ended: a picture, or a reason."""

from __future__ import annotations

from dataclasses import dataclass


class Failed(Exception):
    """A picture that did not come; never an error of the run.

    Args:
        code: Reason code.
        evidence: What was seen, for a person.
        status: HTTP status, where there was an answer.
        transient: Whether another attempt may succeed.
        retry_after: Seconds that the server asks to wait.
    """

    def __init__(
        self,
        code: str,
        evidence: str = "",
        *,
        status: int = 0,
        transient: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(code, evidence)
        self.code, self.evidence, self.status = code, evidence, status
        self.transient, self.retry_after = transient, retry_after


@dataclass(frozen=True)
class Outcome:
    """The end of one URL."""

    url: str
    code: str = ""
    """Reason code of the failure; empty when the picture came."""
    evidence: str = ""
    http_status: int = 0
    """Of the last answer; 0 where there was none."""
    attempts: int = 1
    final_url: str = ""
    """Where the picture came from, after redirects."""
    etag: str = ""
    format: str = ""
    content: bytes = b""
