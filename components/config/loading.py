"""From a TOML file and `--set` overrides to a checked config, or an error that names every bad key."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from components.config.lifecycle import LifecycleConfig
from components.errors import ConfigError


def load(path: Path, overrides: Sequence[str] = ()) -> LifecycleConfig:
    """Read a TOML config and apply `section.key=value` overrides (values are TOML).

    Raises:
        ConfigError: file missing, not TOML, unknown key, value out of range; names key and allowed values.
    """
    if not path.is_file():
        near = ", ".join(sorted(str(p) for p in path.parent.glob("*.toml"))) or "none"
        raise ConfigError(f"no config file {path}", fix=f"configs beside it: {near}")
    try:
        data = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path), fix="mend the line named") from error
    for override in overrides:
        _set(data, override)
    try:
        return LifecycleConfig.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path) from error


def to_toml(config: dict[str, Any]) -> str:
    """A config (its JSON values) as TOML, which `load` reads back."""
    return tomli_w.dumps(_without_none(config))


def _without_none(tree: Any) -> Any:
    """TOML has no null: what is not set is left out."""
    if isinstance(tree, dict):
        return {key: _without_none(value) for key, value in tree.items() if value is not None}
    return [_without_none(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _set(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"--set wants section.key=value, got '{override}'", fix="for example --set align.beta=0.2"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    node: Any = data
    try:
        for part in parts[:-1]:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        node[int(parts[-1]) if isinstance(node, list) else parts[-1]] = value
    except (ValueError, IndexError, AttributeError, TypeError) as error:
        have = f"a list of {len(node)}, numbered from 0" if isinstance(node, list) else f"the value {node!r}"
        raise ConfigError(f"--set {key.strip()}: no such key; its section is {have}") from error


def _explain(error: ValidationError, path: Path) -> ConfigError:
    """One line per problem: key, what is wrong, what is allowed."""
    lines, seen = [], set()
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key, said = ".".join(location), problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "too_short" and len(problem["input"]) >= problem["ctx"]["min_length"]:
            continue  # enough of them, but bad ones: each is named by itself
        if problem["type"] == "extra_forbidden":
            text = f"{key}: unknown key; allowed here: {', '.join(_keys(location[:-1]))}"
        elif not key:  # about several sections; the message names them
            text = said
        elif problem["type"] == "value_error" and isinstance(problem["input"], dict):
            text = f"{key}: {said}"  # about several keys of a section; the message names them
        else:
            text = f"{key}: {said} (got {problem['input']!r:.80})"
        if text not in seen:
            seen.add(text)
            lines.append(text)
    return ConfigError(
        "the config cannot be run:\n  - " + "\n  - ".join(lines), where=str(path), fix="mend the keys named"
    )


def _keys(location: Sequence[str]) -> list[str]:
    """Allowed keys of the section at `location`."""
    model: Any = LifecycleConfig
    for part in location:
        if part.isdigit():
            continue
        model = model.model_fields[part].annotation
        arguments = getattr(model, "__args__", None)
        if arguments:
            model = arguments[0]
    return list(getattr(model, "model_fields", {}))
