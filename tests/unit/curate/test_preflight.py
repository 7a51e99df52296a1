"""Locators, licences and the check before anything runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.config import CurateConfig, SourceConfig
from components.config.text import TextFilter
from components.curate import preflight
from components.curate.archives import licence
from components.curate.packages import fetch
from components.curate.plan import plan_sources
from components.curate.schemes import locators, source_keys
from components.errors import ConfigError, SourceError
from components.packages import Locator


def _client(folder: Path, monkeypatch: pytest.MonkeyPatch, *, says: str, status: int) -> None:
    """An npm that says what the real one says in that situation."""
    folder.mkdir()
    script = folder / "npm"
    script.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {status}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def source(locator: str = "npm:some-vendor==1.0.0") -> SourceConfig:
    return SourceConfig(locator=locator, reader="emoji", category="caption")


def test_locator_round_trips() -> None:
    locator = Locator.parse("npm:@iconify-json/noto==1.2.9")
    assert (locator.registry, locator.name, locator.version) == ("npm", "@iconify-json/noto", "1.2.9")
    assert str(locator) == "npm:@iconify-json/noto==1.2.9"


def test_licence_is_what_the_package_declares(download_cache: Path) -> None:
    assert licence(next((download_cache / "pypi/easy-vqa-1.0").iterdir())) == "MIT License"
    assert licence(next((download_cache / "npm/alpha-1.0.0").iterdir())) == "Apache-2.0"


def test_preflight_of_cached_sources_keeps_all(curate_config: Callable[..., CurateConfig]) -> None:
    config = curate_config()
    assert preflight(config) == config


def test_preflight_names_a_source_that_does_not_exist(
    curate_config: Callable[..., CurateConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _client(tmp_path / "bin", monkeypatch, says="npm error code E404", status=1)
    config = curate_config()
    absent = config.sources[1].model_copy(update={"locator": "npm:no-such-vendor==9.9.9"})
    with pytest.raises(ConfigError, match="does not exist: npm:no-such-vendor"):
        preflight(config.model_copy(update={"sources": (absent,)}))


def test_fetch_with_a_failing_network_is_not_a_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _client(tmp_path / "bin", monkeypatch, says="npm error code EAI_AGAIN", status=1)
    with pytest.raises(SourceError, match="EAI_AGAIN"):
        fetch("npm:some-vendor==1.0.0", source(), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.tgz"))


def test_preflight_without_the_client_skips_the_source_and_says_so(
    curate_config: Callable[..., CurateConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    config = curate_config()
    absent = config.sources[1].model_copy(update={"locator": "npm:uncached==1.0.0"})
    left = preflight(config.model_copy(update={"sources": (config.sources[0], absent)}))
    assert left.sources == (config.sources[0],)
    assert "npm is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "npm:emojibase-data==1.0.0", "vendour": True}, "unknown option 'vendour'"),
        ({"labels": "npm:emojibase-data==1.0.0", "held_out": "yes"}, "must be of type bool"),
        ({"labels": "npm:emojibase-data==1.0.0", "validation": 1}, "must be a share, from 0 to less than 1"),
        ({"labels": "npm:emojibase-data==1.0.0", "unseen_concepts": -0.1}, "must be a share"),
        ({}, "needs the option 'labels'"),
        ({"labels": "emojibase"}, "not a source locator"),
    ],
)
def test_preflight_refuses_wrong_options(
    curate_config: Callable[..., CurateConfig], options: dict[str, object], message: str
) -> None:
    source = SourceConfig.model_validate(
        {"locator": "npm:alpha==1.0.0", "reader": "emoji", "category": "caption", "options": options}
    )
    with pytest.raises(ConfigError, match=message):
        preflight(curate_config(sources=(source,)))


@pytest.mark.parametrize("scheme", ["folder:x", "hub:./x", "webdataset:x.tar"])
@pytest.mark.parametrize("option", ["validation", "test"])
@pytest.mark.parametrize("value", [5.0, -1.0, 1])
def test_preflight_refuses_a_share_out_of_range(
    curate_config: Callable[..., CurateConfig], scheme: str, option: str, value: float
) -> None:
    source = SourceConfig(locator=scheme, category="caption", options={option: value})
    with pytest.raises(ConfigError, match=f"option '{option}' must be a share, from 0 to less than 1"):
        preflight(curate_config(sources=(source,)))
    assert locators(source.model_copy(update={"options": {option: 0}})) == {"data": scheme}


def test_preflight_refuses_a_language_that_nothing_is_in(curate_config: Callable[..., CurateConfig]) -> None:
    config = curate_config()
    wrong = config.sources[0].model_copy(update={"text": TextFilter(languages=("de", "english"))})
    with pytest.raises(ConfigError, match="no language 'english'") as caught:
        preflight(curate_config(sources=(wrong,)))
    assert " en, " in caught.value.fix
    right = config.sources[0].model_copy(update={"text": TextFilter(languages=("de", "en"))})
    assert preflight(curate_config(sources=(right,))).sources == (right,)


@pytest.mark.parametrize("change", [{}, {"limit": 5}, {"licence": "CC0-1.0"}])
def test_preflight_refuses_a_source_listed_twice(
    curate_config: Callable[..., CurateConfig], change: dict[str, object]
) -> None:
    once = curate_config().sources[0]
    with pytest.raises(ConfigError, match="listed twice with the same reader, category and options"):
        preflight(curate_config(sources=(once, once.model_copy(update=change))))


@pytest.mark.parametrize(("name", "told"), [("emojis", "unknown reader 'emojis'"), ("", "needs a reader")])
def test_preflight_of_an_unknown_reader_names_those_there_are(
    curate_config: Callable[..., CurateConfig], name: str, told: str
) -> None:
    wrong = SourceConfig(locator="npm:alpha==1.0.0", reader=name, category="caption")
    with pytest.raises(ConfigError, match=told) as caught:
        preflight(curate_config(sources=(wrong,)))
    assert "easy_vqa" in caught.value.fix


def test_a_package_may_be_read_by_two_readers_under_keys_of_their_own(
    curate_config: Callable[..., CurateConfig],
) -> None:
    one = curate_config().sources[1]
    other = one.model_copy(update={"reader": "counting"})
    keys = source_keys(curate_config(sources=(one, other)))
    assert sorted(keys.values()) == ["alpha", "alpha-counting"]


def test_a_package_may_be_read_by_one_reader_in_several_ways(
    curate_config: Callable[..., CurateConfig],
) -> None:
    one = curate_config().sources[1]
    category = one.model_copy(update={"category": "icon"})
    options = one.model_copy(update={"options": {**one.options, "groups": ["food"]}})
    more = one.model_copy(update={"options": {**one.options, "groups": ["animals"]}})
    keys = list(source_keys(curate_config(sources=(one, category, options, more))).values())
    assert keys[:3] == ["alpha", "alpha-emoji", "alpha-emoji-caption"]
    assert re.fullmatch("alpha-emoji-caption-[0-9a-f]{8}", keys[3])
    # One that is added at the end renames no sample of the others.
    assert list(source_keys(curate_config(sources=(one, category))).values()) == keys[:2]


def test_sources_of_one_package_are_planned_apart(curate_config: Callable[..., CurateConfig]) -> None:
    one = curate_config().sources[1]
    groups = [
        one.model_copy(update={"category": name, "options": {**one.options, "groups": [name]}})
        for name in ("animals", "food")
    ]
    plan = plan_sources(preflight(curate_config(sources=tuple(groups))))
    assert len({each.candidate.key for each in plan.samples}) == len(plan.samples) == 40
    assert [(each.locator, each.num_samples) for each in plan.sources][:1] == [("npm:alpha==1.0.0", 40)]
    answers = {each.candidate.category: set[str]() for each in plan.samples}
    for each in plan.samples:
        answers[each.candidate.category].add(each.candidate.turns[0].answer)
    assert answers["animals"] == {f"thing number {index}" for index in range(0, 40, 2)}
    assert not answers["animals"] & answers["food"]
