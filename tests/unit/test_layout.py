"""The tree: what may not shadow, hide, or be left out of the distribution."""

import ast
import importlib.util
import tomllib
from pathlib import Path

import pytest

from components.fingerprint import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted(path for top in ("components", "flows") for path in (ROOT / top).rglob("*.py"))
ONLY_IMPORTER = {"prefect": "flows", "mlflow": "components/tracking", "dvc": "components/storage"}


def test_mlflow_is_the_real_library() -> None:
    found = importlib.util.find_spec("mlflow")
    assert found is not None and found.origin is not None
    assert Path(found.origin).is_file()
    assert ROOT / "mlflow" not in Path(found.origin).parents


def test_mlflow_folder_holds_no_python() -> None:
    assert not list((ROOT / "mlflow").rglob("*.py"))


def test_every_package_is_listed_in_pyproject_and_every_listed_one_exists() -> None:
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES}
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_every_listed_package_can_be_imported_as_a_package() -> None:
    for name in PROJECT["tool"]["setuptools"]["packages"]:
        assert (ROOT.joinpath(*name.split(".")) / "__init__.py").is_file(), name


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_a_docstring_a_good_name_and_one_place_per_vendor(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "a module docstring is missing"
    assert path.stem not in {"utils", "helpers", "common"}
    place = path.parent.relative_to(ROOT).as_posix()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for vendor in {name.split(".")[0] for name in names} & ONLY_IMPORTER.keys():
            assert place.startswith(ONLY_IMPORTER[vendor]), f"{vendor} is imported outside its one place"


def test_lifecycle_is_under_a_hundred_lines() -> None:
    path = ROOT / "flows" / "lifecycle.py"
    if not path.exists():
        pytest.skip("the flow is not written yet")
    assert len(path.read_text().splitlines()) < 100
