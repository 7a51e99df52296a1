"""Texts that lie beside a picture under its name → one row.

txt            a caption            → row["txt"]
cls            a class              → row["cls"]
json           an object            → its fields
question.txt   a text with a name   → row["question"]
turns.json     values with a name   → row["turns"]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.curate.samples import Reason
from components.curate.sources.files.pairs import LIMITS
from components.curate.tars import parse_json

KINDS = ("txt", "json", "cls", "text", "caption")
PLAIN: Mapping[str, str] = {"text": "txt", "caption": "caption", "txt": "txt", "cls": "cls"}
"""Suffix of a plain text → the field that it is without a name of its own."""


def is_sidecar(suffix: str) -> bool:
    """Whether a suffix (`txt`, `question.txt`) is one of a text."""
    return suffix.rpartition(".")[2] in KINDS


def read_sidecars(texts: Mapping[str, bytes]) -> dict[str, Any] | Reason:
    """The row that several texts make together; a field of the object wins over a text of that name.

    Reason codes: those of `parse_json`, `invalid_utf8`, `too_large`.

    Args:
        texts: Suffix without its first dot → content.
    """
    row: dict[str, Any] = {}
    for suffix in sorted(texts, key=lambda each: each == "json"):
        content = texts[suffix]
        name, _, kind = suffix.rpartition(".")
        if len(content) > LIMITS.max_json_bytes:
            return Reason("too_large", evidence=f"{suffix}: {len(content)} bytes")
        if kind == "json":
            parsed = parse_json(b'{"named":' + content + b"}" if name else content, LIMITS)
            if isinstance(parsed, Reason):
                return Reason(parsed.code, evidence=f"{suffix}: {parsed.evidence}")
            row |= {name: parsed["named"]} if name else parsed
            continue
        try:
            row[name or PLAIN[kind]] = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            return Reason("invalid_utf8", evidence=f"{suffix}: byte {error.start}")
    return row
