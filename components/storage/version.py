"""The version of a dataset: the md5 that DVC gives its directory, computed with DVC's own functions."""

from __future__ import annotations

from pathlib import Path

from dvc_data.hashfile.hash import hash_file
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs.local import LocalFileSystem


def dataset_version(directory: Path) -> str:
    """`<md5>.dir` as `dvc add` would write it; needs no DVC repository and writes nothing."""
    files = LocalFileSystem()  # type: ignore[no-untyped-call]
    tree = Tree()  # type: ignore[no-untyped-call]
    for path in sorted(each for each in directory.rglob("*") if each.is_file()):
        _, info = hash_file(str(path), files, "md5")
        tree.add(path.relative_to(directory).parts, Meta(size=path.stat().st_size), info)
    tree.digest()
    return str(tree.hash_info.value)
