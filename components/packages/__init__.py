"""Packages of registries (`pypi:`, `npm:`, `deb:`) by exact version: downloaded once, never executed."""

from components.packages.clients import CLIENTS, Client, Locator
from components.packages.downloads import cached, fetch_package
from components.packages.unpacking import unpack_package

__all__ = ["CLIENTS", "Client", "Locator", "cached", "fetch_package", "unpack_package"]
