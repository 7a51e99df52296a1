"""Tiny packages in the layout of the real ones."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pyarrow as pa

COMPRESS = {
    "xz": lzma.compress,
    "gz": gzip.compress,
    "zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


def write_deb(
    folder: Path,
    files: dict[str, bytes],
    *,
    links: dict[str, str] | None = None,
    compression: str = "xz",
) -> Path:
    """A Debian package (an `ar` archive of two tarballs) with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(b""),
        f"data.tar.{compression}": COMPRESS[compression](buffer.getvalue()),
    }
    path = folder / "package_1.0_all.deb"
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in parts.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path
