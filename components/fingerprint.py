"""Identity of a stage's code: a hash of the normalized syntax tree of the modules it really imports.

Comments, docstrings and formatting do not count: editing a comment never retrains a model, editing
the loss does. Modules that only transport (below) do not count either: what they decide shows up
in the resolved config or in the parents' digests, which are fingerprinted themselves.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "components"

TRANSPORT = frozenset(
    {
        "components",
        "components.artifacts",  # hand-over types; content is digested
        "components.errors",
        "components.fingerprint",
        "components.progress",
        "components.stage",
        "components.gates.result",
        "components.environments",  # which interpreter runs a subprocess
    }
)
TRANSPORT_PACKAGES = (
    "components.config",  # its values are the identity's `config`
    "components.storage",
    "components.tracking",
    "components.report",
)


class _Normalize(ast.NodeTransformer):
    """Strip docstrings; `ast.dump` without attributes already drops comments and layout."""

    def _strip(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        body = getattr(node, "body", None)
        first = body[0] if body else None
        value = first.value if isinstance(first, ast.Expr) else None
        if body and isinstance(value, ast.Constant) and isinstance(value.value, str):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


def code_hash(source: str) -> str:
    """SHA-256 of the syntax tree of `source`, blind to comments, docstrings and formatting."""
    tree = _Normalize().visit(ast.parse(source))
    return hashlib.sha256(ast.dump(tree, include_attributes=False).encode()).hexdigest()


def code_identity(module: str, *, root: Path = ROOT) -> dict[str, str]:
    """Hash of every project module reachable by imports from `module` (its whole package).

    Args:
        module: Dotted name, for example `components.pretrain`.
        root: Directory that holds the `components` package.

    Returns:
        Dotted module name → hash, sorted by name.
    """
    pending, found = list(_package_modules(module, root)), dict[str, str]()
    while pending:
        name = pending.pop()
        if name in found or name in TRANSPORT or name.startswith(TRANSPORT_PACKAGES):
            continue
        path = _module_path(name, root)
        if path is None:
            continue
        digest, imports = _read_module(path, name, path.stat().st_mtime_ns)
        found[name] = digest
        pending.extend(imports)
    return dict(sorted(found.items()))


@lru_cache(maxsize=1024)
def _read_module(path: Path, name: str, _mtime: int) -> tuple[str, tuple[str, ...]]:
    source = path.read_text()
    is_package = path.name == "__init__.py"
    return code_hash(source), tuple(_imports(ast.parse(source), name, is_package))


def _imports(tree: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    """Candidate project modules that a module imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name if is_package else name.rpartition(".")[0]
                base = importlib.util.resolve_name("." * node.level + base, package)
            targets = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] == PACKAGE:
                yield from (".".join(parts[:n]) for n in range(2, len(parts) + 1))


def _package_modules(module: str, root: Path) -> Iterator[str]:
    """The module and, where it is a package, every module in it but the command-line door."""
    yield module
    directory = root.joinpath(*module.split("."))
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] != "__main__":
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module_path(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None
