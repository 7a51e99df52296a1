"""The ordinary package clients (pip, npm, apt-get) that fetch a source by its exact version.

Each only downloads: nothing is installed, unpacked or executed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.errors import ConfigError


@dataclass(frozen=True)
class Locator:
    """`registry:name==version`, taken apart."""

    registry: str
    name: str
    version: str

    @classmethod
    def parse(cls, text: str) -> Locator:
        """
        Raises:
            ConfigError: it is not a locator.
        """
        registry, _, rest = text.partition(":")
        name, _, version = rest.partition("==")
        if registry not in CLIENTS or not name or not version:
            forms = ", ".join(f"{known}:NAME==VERSION" for known in CLIENTS)
            raise ConfigError(f"'{text}' is not a source locator", fix=f"write one of {forms}")
        return cls(registry, name, version)

    def __str__(self) -> str:
        return f"{self.registry}:{self.name}=={self.version}"

    @property
    def client(self) -> Client:
        return CLIENTS[self.registry]


@dataclass(frozen=True)
class Client:
    """The program that downloads from one registry."""

    program: str
    unavailable: Callable[[Locator], str]
    """Why this machine cannot fetch a package at all; empty when it can."""
    command: Callable[[Locator], Sequence[str]]
    """What downloads one archive into the current directory."""
    missing: re.Pattern[str]
    """What the program prints when the package or the version does not exist (not when a network fails)."""


def _pip_unavailable(_locator: Locator) -> str:
    return "" if pip_command() else "pip is not installed on this machine"


def _npm_unavailable(_locator: Locator) -> str:
    return "" if shutil.which("npm") else "npm is not installed on this machine"


def _apt_unavailable(locator: Locator) -> str:
    """A Debian release offers one version of a package, and only after `apt-get update`."""
    if not shutil.which("apt-get"):
        return "apt-get is not installed on this machine (no Debian)"
    versions = _apt_versions(locator.name)
    if locator.version in versions:
        return ""
    offered = f"only {', '.join(versions)}" if versions else "no version of it (is `apt-get update` due?)"
    return f"this machine's package lists offer {offered}"


def _apt_versions(name: str) -> tuple[str, ...]:
    done = subprocess.run(["apt-cache", "madison", name], capture_output=True, text=True)
    rows = [line.split("|") for line in done.stdout.splitlines()]
    return tuple(dict.fromkeys(row[1].strip() for row in rows if len(row) == 3))


def _pip_download(locator: Locator) -> Sequence[str]:
    # Wheels only: building a source distribution would run its code.
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    return [*pip_command(), "download", *options, f"{locator.name}=={locator.version}"]


def _npm_download(locator: Locator) -> Sequence[str]:
    return ["npm", "pack", "--silent", f"{locator.name}@{locator.version}"]


def _apt_download(locator: Locator) -> Sequence[str]:
    return ["apt-get", "download", f"{locator.name}={locator.version}"]


@cache
def pip_command() -> tuple[str, ...]:
    """`python -m pip` of the first interpreter that has pip: a uv environment has none of its own."""
    base = str(Path(sys.base_prefix) / "bin" / "python3")
    for python in (sys.executable, base, shutil.which("python3"), shutil.which("python")):
        if python is None or not Path(python).exists():
            continue
        command = (python, "-m", "pip")
        if subprocess.run([*command, "--version"], capture_output=True).returncode == 0:
            return command
    return ()


CLIENTS = {
    "pypi": Client(
        "pip", _pip_unavailable, _pip_download, re.compile(r"No matching distribution|404 Not Found", re.I)
    ),
    "npm": Client(
        "npm", _npm_unavailable, _npm_download, re.compile(r"E404|ETARGET|notarget|404 Not Found", re.I)
    ),
    "deb": Client(
        "apt-get",
        _apt_unavailable,
        _apt_download,
        re.compile(r"Unable to locate|was not found|404  ?Not Found", re.I),
    ),
}
"""Registry → its client."""
