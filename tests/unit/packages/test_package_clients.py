"""Clients: what they are asked, and when a source cannot be had on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ConfigError
from components.packages import CLIENTS, Locator

CLIPART = "deb:clip-art==1:0.18+dfsg-19"


def _programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    folder.mkdir()
    for name, body in scripts.items():
        script = folder / name.replace("_", "-")
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/nonexistent")


def test_locator_of_a_debian_version_with_an_epoch_round_trips() -> None:
    locator = Locator.parse(CLIPART)
    assert (locator.registry, locator.name, locator.version) == ("deb", "clip-art", "1:0.18+dfsg-19")
    assert str(locator) == CLIPART
    assert CLIENTS["deb"].command(locator) == ["apt-get", "download", "clip-art=1:0.18+dfsg-19"]


@pytest.mark.parametrize("text", ["deb:clip-art", "rpm:x==1", "deb:==1", "clip-art==1"])
def test_locator_of_another_form_is_refused_naming_the_forms(text: str) -> None:
    with pytest.raises(ConfigError, match="deb:NAME==VERSION"):
        Locator.parse(text)


def test_debian_version_offered_can_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = " clip-art | 1:0.18+dfsg-19 | http://mirror/debian bookworm/main amd64 Packages"
    _programs(tmp_path / "bin", monkeypatch, apt_get="exit 0", apt_cache=f"echo '{row}'")
    assert CLIENTS["deb"].unavailable(Locator.parse(CLIPART)) == ""
    other = CLIENTS["deb"].unavailable(Locator.parse("deb:clip-art==2"))
    assert "offer only 1:0.18+dfsg-19" in other


def test_debian_package_without_lists_says_what_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _programs(tmp_path / "bin", monkeypatch, apt_get="exit 0", apt_cache="exit 0")
    assert "apt-get update" in CLIENTS["deb"].unavailable(Locator.parse(CLIPART))


def test_debian_package_on_another_system_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _programs(tmp_path / "bin", monkeypatch)
    assert "no Debian" in CLIENTS["deb"].unavailable(Locator.parse(CLIPART))
