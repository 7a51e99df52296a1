"""Clips that several tests look at, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_clips import make_clip, make_frozen


@pytest.fixture(scope="session")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds that move; its index lies at the beginning of the file."""
    path = tmp_path_factory.mktemp("clips") / "moving.mp4"
    return make_clip(path, 4, options=("-movflags", "+faststart"))


@pytest.fixture(scope="session")
def half_frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds that move, and three that stand still."""
    return make_frozen(tmp_path_factory.mktemp("clips") / "half.mp4", 3, 3)
