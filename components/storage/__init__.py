"""Storage of datasets: the only importer of dvc and boto3.

A dataset's version is the md5 that DVC gives its directory; `data/<name>` in the workspace, `dvc.lock` or
`data/<name>.dvc`, DVC's cache and the remote are kept in line with it.
"""

from components.storage.datasets import checkout_version, materialize, pull, push, version_dataset
from components.storage.streaming import RemoteDataset, open_version
from components.storage.version import dataset_version

__all__ = [
    "RemoteDataset",
    "checkout_version",
    "dataset_version",
    "materialize",
    "open_version",
    "pull",
    "push",
    "version_dataset",
]
