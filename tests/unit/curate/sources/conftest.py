"""Tiny sources, each made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from reader_cases import CASES, Case


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """A case by its name."""
    made: dict[str, Case] = {}

    def of(name: str) -> Case:
        if name not in made:
            made[name] = CASES[name](tmp_path_factory.mktemp("source"))
        return made[name]

    return of
