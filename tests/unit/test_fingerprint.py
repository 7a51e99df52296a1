"""The code part of a fingerprint: blind to what cannot change a result, sensitive to what can."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.fingerprint import ROOT, code_hash, code_identity

LOSS = '''"""Module docstring."""

def loss(logits, target):
    """Mean squared error."""
    # squared, not absolute: issue 7
    return ((logits - target) ** 2).mean()


class Head:
    """A head."""

    scale = 2.0
'''


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "components" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(root).parents:
            if parent != Path("."):
                (root / parent / "__init__.py").touch()
    return root


@pytest.mark.parametrize(
    "edited",
    [
        LOSS.replace("# squared, not absolute: issue 7", "# another remark"),
        LOSS.replace("    # squared, not absolute: issue 7\n", ""),
        LOSS.replace("Mean squared error.", "Another docstring."),
        LOSS.replace('    """Mean squared error."""\n', ""),
        LOSS.replace('"""Module docstring."""\n', ""),
        LOSS.replace("(logits - target) ** 2", "(logits-target)**2"),
        LOSS.replace("2.0", "2.00"),
        ast.unparse(ast.parse(LOSS)),
    ],
)
def test_code_hash_comment_docstring_or_layout_edited_unchanged(edited: str) -> None:
    assert edited != LOSS
    assert code_hash(edited) == code_hash(LOSS)


@pytest.mark.parametrize(
    "edited",
    [
        LOSS.replace("** 2", "** 3"),
        LOSS.replace("mean()", "sum()"),
        LOSS.replace("scale = 2.0", "scale = 2.5"),
        LOSS.replace("target", "wanted"),
        LOSS + "\nTEXT = 'not a docstring'\n",
    ],
)
def test_code_hash_behaviour_edited_changes(edited: str) -> None:
    assert code_hash(edited) != code_hash(LOSS)


def test_code_hash_string_that_is_data_counts() -> None:
    assert code_hash("x = 1\n'a'") != code_hash("x = 1\n'b'")


comments = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\f\0\v\x1c\x1d\x1e\x85\u2028\u2029"))


@given(comment=comments, docstring=st.text(), blank=st.integers(0, 5))
def test_code_hash_any_comment_docstring_and_blank_lines_unchanged(
    comment: str, docstring: str, blank: int
) -> None:
    source = (
        f"# {comment}\n" + "\n" * blank + f"def f(x):\n    {docstring!r}\n    return x + 1  # {comment}\n"
    )
    assert code_hash(source) == code_hash("def f(x):\n    return x + 1\n")


@given(first=st.integers(), second=st.integers())
def test_code_hash_differs_exactly_when_a_constant_differs(first: int, second: int) -> None:
    same = code_hash(f"def f():\n    return {first}") == code_hash(f"def f():\n    return {second}")
    assert same == (first == second)


def test_identity_imported_module_edited_changes(tmp_path: Path) -> None:
    root = write(tmp_path, {"train/loop.py": "from components.losses import loss\n", "losses.py": LOSS})
    before = code_identity("components.train", root=root)
    write(root, {"losses.py": LOSS.replace("** 2", "** 4")})
    after = code_identity("components.train", root=root)
    assert set(before) == set(after) == {"components.train", "components.train.loop", "components.losses"}
    assert {name for name in before if before[name] != after[name]} == {"components.losses"}


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    from components import losses\n    return losses\n",
        "def f():\n    import components.losses\n",
        "from ..losses import loss\n",
        "from .. import losses\n",
        "from components.losses import loss as renamed\n",
        "if True:\n    import components.losses as other\n",
        "try:\n    from components.losses import *\nexcept ImportError:\n    raise\n",
    ],
)
def test_identity_import_in_any_form_is_followed(tmp_path: Path, text: str) -> None:
    root = write(tmp_path, {"train/loop.py": text, "losses.py": LOSS})
    assert "components.losses" in code_identity("components.train", root=root)


def test_identity_imports_of_imports_and_their_packages_are_followed(tmp_path: Path) -> None:
    files = {
        "train/loop.py": "import components.nets.tower\n",
        "nets/__init__.py": "from components import far\n",
        "nets/tower.py": "from .blocks import Block\n",
        "nets/blocks.py": "Block = 1\n",
        "far.py": "x = 1\n",
    }
    found = code_identity("components.train", root=write(tmp_path, files))
    assert {"components.nets", "components.nets.tower", "components.nets.blocks", "components.far"} <= set(
        found
    )


def test_identity_circular_import_ends(tmp_path: Path) -> None:
    files = {
        "train/a.py": "from components.train import b\n",
        "train/b.py": "from components.train import a\n",
    }
    found = code_identity("components.train", root=write(tmp_path, files))
    assert set(found) == {"components.train", "components.train.a", "components.train.b"}


def test_identity_unrelated_transport_and_command_modules_do_not_count(tmp_path: Path) -> None:
    files = {
        "train/loop.py": "from components.progress import Bar\nfrom components.tracking import log\n",
        "train/__main__.py": "print('door')\n",
        "progress.py": "class Bar: ...\n",
        "tracking/__init__.py": "def log(): ...\n",
        "unrelated.py": "x = 1\n",
    }
    found = code_identity("components.train", root=write(tmp_path, files))
    assert set(found) == {"components.train", "components.train.loop"}


def test_identity_of_the_real_modules_parses_and_names_only_project_modules() -> None:
    packages = [path.parent.name for path in (ROOT / "components").glob("*/__init__.py")]
    for package in packages:
        for name, digest in code_identity(f"components.{package}").items():
            assert name.startswith("components.") and len(digest) == 64
