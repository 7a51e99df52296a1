"""One smoke lifecycle in a clean copy of the project; many tests look at it."""

from __future__ import annotations

from pathlib import Path

import pytest
from smoke_project import CONFIG, Project, make_project


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source packages, fetched once for all tests."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, downloads: Path) -> Project:
    return make_project(tmp_path_factory.mktemp("project"), downloads)


@pytest.fixture(scope="session")
def finished(project: Project) -> Project:
    """The project after one whole smoke lifecycle with real vLLM servers."""
    project.opsin("run", CONFIG)
    return project
