"""Nasty tars, JSON sidecars and SVGs, made by code; see `nasty` for pictures."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from nasty import Nasty

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
GOOD = ("first.txt", "last.txt")
"""Members that every nasty tar holds before and after its nasty one."""


@dataclass(frozen=True)
class NastyTar:
    """A tar with the members of `GOOD` and something between them."""

    make: Callable[[], bytes]
    codes: tuple[str, ...]
    """Reason codes of its bad members, in order."""
    lost: bool = False
    """Nothing behind the damage can be found."""


def block(name: str, *, kind: bytes = tarfile.REGTYPE, size: int = 0, target: str = "") -> bytes:
    """A header block, whatever it claims."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def member(name: str, content: bytes = b"x" * 600, *, kind: bytes = tarfile.REGTYPE) -> bytes:
    return block(name, kind=kind, size=len(content)) + content + bytes(-len(content) % 512)


def tar(*parts: bytes, end: bool = True) -> bytes:
    return b"".join((member(GOOD[0]), *parts, member(GOOD[1]), bytes(1024 if end else 0)))


def pax(**records: str) -> bytes:
    """A PAX header with these records, lengths counted as POSIX has it."""
    lines = b""
    for key, value in records.items():
        body = f" {key.replace('__', '.')}={value}\n".encode("utf-8", "surrogateescape")
        length = len(body) + len(str(len(body) + len(str(len(body)))))
        lines += str(length).encode() + body
    return member("pax", lines, kind=tarfile.XHDTYPE)


def broken_checksum() -> bytes:
    return member("a").replace(b"ustar", b"usual", 1)


def old_sparse() -> bytes:
    """A GNU sparse file whose map goes on in two more blocks."""
    head = bytearray(block("sparse", kind=tarfile.GNUTYPE_SPARSE, size=512))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more, last = bytearray(512), bytes(512)
    more[504] = 1
    return bytes(head) + bytes(more) + last + bytes(512)


NASTY_TARS: dict[str, NastyTar] = {
    "good": NastyTar(lambda: tar(member("a/b.txt")), ()),
    "parent": NastyTar(lambda: tar(member("../../etc/passwd")), ("unsafe_path",)),
    "parent_inside": NastyTar(lambda: tar(member("a/../../b")), ("unsafe_path",)),
    "absolute": NastyTar(lambda: tar(member("/etc/passwd")), ("unsafe_path",)),
    "drive": NastyTar(lambda: tar(member("C:/windows/a.png")), ("unsafe_path",)),
    "backslashes": NastyTar(lambda: tar(member("..\\..\\a.png")), ("unsafe_path",)),
    "control_characters": NastyTar(lambda: tar(member("a\nb\x1b[31m.png")), ("unsafe_path",)),
    "not_utf8": NastyTar(lambda: tar(member("a\udcff.png")), ("unsafe_path",)),
    "no_name": NastyTar(lambda: tar(member("./")), ("unsafe_path",)),
    "symbolic_link": NastyTar(
        lambda: tar(block("link", kind=tarfile.SYMTYPE, target="/etc/passwd")), ("not_a_file",)
    ),
    "hard_link": NastyTar(
        lambda: tar(block("link", kind=tarfile.LNKTYPE, target="../../secret", size=999)), ("not_a_file",)
    ),
    "character_device": NastyTar(lambda: tar(block("zero", kind=tarfile.CHRTYPE)), ("not_a_file",)),
    "block_device": NastyTar(lambda: tar(block("disk", kind=tarfile.BLKTYPE)), ("not_a_file",)),
    "pipe": NastyTar(lambda: tar(block("pipe", kind=tarfile.FIFOTYPE)), ("not_a_file",)),
    "unknown_type": NastyTar(lambda: tar(member("odd", kind=b"Z")), ("not_a_file",)),
    "sparse": NastyTar(lambda: tar(old_sparse()), ("not_a_file",)),
    "sparse_pax": NastyTar(
        lambda: tar(pax(GNU__sparse__major="1", GNU__sparse__realsize="99999999999"), member("a")),
        ("not_a_file",),
    ),
    "duplicate": NastyTar(lambda: tar(member("first.txt")), ("duplicate_name",)),
    "duplicate_spelled_otherwise": NastyTar(lambda: tar(member(".//first.txt")), ("duplicate_name",)),
    "directory": NastyTar(lambda: tar(block("folder/", kind=tarfile.DIRTYPE)), ()),
    "long_name": NastyTar(
        lambda: tar(member("././@LongLink", b"d/" * 200 + b"a.txt\0", kind=b"L"), member("short")), ()
    ),
    "name_too_long": NastyTar(
        lambda: tar(member("././@LongLink", b"d" * 5000 + b"\0", kind=b"L"), member("short")),
        ("unsafe_path",),
    ),
    "long_name_bomb": NastyTar(
        lambda: tar(member("././@LongLink", bytes(8 << 20), kind=b"L"), member("a")), ("too_large",)
    ),
    "long_name_chain": NastyTar(
        lambda: tar(member("././@LongLink", b"b\0", kind=b"L") * 20_000, member("short")), ()
    ),
    "pax_path": NastyTar(lambda: tar(pax(path="/etc/shadow"), member("harmless")), ("unsafe_path",)),
    "pax_negative_size": NastyTar(lambda: tar(pax(size="-512"), member("a")), ("corrupt_archive",), True),
    "pax_not_a_size": NastyTar(lambda: tar(pax(size="many"), member("a")), ("corrupt_archive",)),
    "pax_broken": NastyTar(
        lambda: tar(member("pax", b"999999 path=x\n", kind=tarfile.XHDTYPE), member("a")),
        ("corrupt_archive",),
    ),
    "giant_member": NastyTar(
        lambda: tar(block("giant", size=1 << 40)), ("too_large", "truncated_archive"), True
    ),
    "giant_beyond_integers": NastyTar(
        lambda: tar(block("giant", size=1 << 80)), ("too_large", "truncated_archive"), True
    ),
    "negative_size": NastyTar(lambda: tar(block("below", size=-512)), ("corrupt_archive",), True),
    "cut_in_member": NastyTar(
        lambda: tar(block("cut", size=1 << 20) + b"x" * 999)[: 512 * 6], ("truncated_archive",), True
    ),
    "cut_in_header": NastyTar(lambda: tar(member("a"))[: 1536 + 99], ("truncated_archive",), True),
    "no_end_mark": NastyTar(lambda: tar(end=False), ("truncated_archive",)),
    "broken_checksum": NastyTar(lambda: tar(broken_checksum()), ("corrupt_archive",), True),
    "noise": NastyTar(lambda: tar(bytes(range(256)) * 4), ("corrupt_archive",), True),
}


NASTY_JSON: dict[str, Nasty] = {
    "good": Nasty(lambda: '{"caption": "a cat 🐈", "width": 1e3, "tags": [null, true]}'.encode(), "ok"),
    "byte_order_mark": Nasty(lambda: b'\xef\xbb\xbf{"caption": "a cat"}', "ok"),
    "brackets_in_text": Nasty(lambda: b'{"caption": "' + b"[{" * 5000 + b'"}', "ok"),
    "escaped_pair": Nasty(lambda: b'{"caption": "\\ud83d\\ude00"}', "ok"),
    "empty": Nasty(lambda: b"", "json_syntax"),
    "cut": Nasty(lambda: b'{"caption": "a c', "json_syntax"),
    "trailing": Nasty(lambda: b'{"caption": "a cat"} {}', "json_syntax"),
    "single_quotes": Nasty(lambda: b"{'caption': 'a cat'}", "json_syntax"),
    "huge_integer": Nasty(lambda: b'{"width": ' + b"9" * 100_000 + b"}", "json_syntax"),
    "nan": Nasty(lambda: b'{"score": NaN}', "json_not_finite"),
    "infinity": Nasty(lambda: b'{"score": Infinity}', "json_not_finite"),
    "minus_infinity": Nasty(lambda: b'{"score": -Infinity}', "json_not_finite"),
    "beyond_a_double": Nasty(lambda: b'{"score": 1e999}', "json_not_finite"),
    "ten_megabytes": Nasty(lambda: b'{"caption": "' + b"a" * (10 << 20) + b'"}', "json_too_large"),
    "deep": Nasty(lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "json_too_deep"),
    "deep_arrays": Nasty(lambda: b"[" * 500_000, "json_too_deep"),
    "duplicate_keys": Nasty(lambda: b'{"caption": "a cat", "caption": "a dog"}', "json_duplicate_key"),
    "duplicate_keys_inside": Nasty(lambda: b'{"a": [{"b": 1, "b": 2}]}', "json_duplicate_key"),
    "invalid_utf8": Nasty(lambda: b'{"caption": "caf\xe9"}', "invalid_utf8"),
    "utf16": Nasty(lambda: '{"caption": "a cat"}'.encode("utf-16"), "invalid_utf8"),
    "overlong_utf8": Nasty(lambda: b'{"caption": "\xc0\xae"}', "invalid_utf8"),
    "lone_surrogate": Nasty(lambda: b'{"caption": "\\ud800"}', "json_surrogate"),
    "lone_surrogate_key": Nasty(lambda: b'{"\\udfff": 1}', "json_surrogate"),
    "raw_surrogate": Nasty(lambda: b'{"caption": "\xed\xa0\x80"}', "invalid_utf8"),
    "array": Nasty(lambda: b'[{"caption": "a cat"}]', "json_not_an_object"),
    "text": Nasty(lambda: b'"a cat"', "json_not_an_object"),
}
