"""Texts that lie beside a picture under its name → one row.

txt            a caption            → row["txt"]
cls            a class              → row["cls"]
json           an object            → its fields; a list: of messages, or of captions
question.txt   a text with a name   → row["question"]
turns.json     values with a name   → row["turns"]
jpg.txt        beside `cat.jpg`: as txt, and before it
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.curate.samples import Reason
from components.curate.sources.files.pairs import LIMITS
from components.curate.sources.files.pictures import is_picture
from components.curate.tars import parse_json

KINDS = ("txt", "json", "cls", "text", "caption")
PLAIN: Mapping[str, str] = {"text": "txt", "caption": "caption", "txt": "txt", "cls": "cls"}
"""Suffix of a plain text → the field that it is without a name of its own."""
BOM = b"\xef\xbb\xbf"
BLANK = BOM + b" \t\r\n"


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
    for suffix in sorted(texts, key=lambda each: (_parts(each) == ("", "json"), _names_picture(each))):
        content = texts[suffix]
        name, kind = _parts(suffix)
        if len(content) > LIMITS.max_json_bytes:
            return Reason("too_large", evidence=f"{suffix}: {len(content)} bytes")
        if kind == "json":
            parsed = _read_json(content, name)
            if isinstance(parsed, Reason):
                return Reason(parsed.code, evidence=f"{suffix}: {parsed.evidence}")
            row |= parsed
            continue
        try:
            row[name or PLAIN[kind]] = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            return Reason("invalid_utf8", evidence=f"{suffix}: byte {error.start}")
    return row


def _parts(suffix: str) -> tuple[str, str]:
    """Name and kind of a suffix; the suffix of the picture itself is no name."""
    name, _, kind = suffix.rpartition(".")
    return "" if _names_picture(suffix) else name, kind


def _names_picture(suffix: str) -> bool:
    return is_picture(f"_.{suffix.rpartition('.')[0]}")


def _read_json(content: bytes, name: str) -> dict[str, Any] | Reason:
    """Fields of an object; what has a name, or is a list, is one field itself."""
    if not name and not content.lstrip(BLANK).startswith(b"["):
        return parse_json(content, LIMITS)
    parsed = parse_json(b'{"it":' + content.removeprefix(BOM) + b"}", LIMITS)
    if isinstance(parsed, Reason) or name:
        return parsed if isinstance(parsed, Reason) else {name: parsed["it"]}
    several = parsed["it"]
    role = "captions" if all(isinstance(each, str) for each in several) else "messages"
    return {role: several}
