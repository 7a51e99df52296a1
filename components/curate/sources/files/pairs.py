"""One row, or one sidecar, of a source → its pictures and texts.

Which field is what is found by its usual names, or said in the source's options:

    options = { image = "img", question = "query", answer = "label", group_by = "document" }

Texts are looked for as conversations, then as a question with its answer, then as a caption, and the first
kind that is there is taken; named in the options, all that are named are taken.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from components.config import SourceConfig
from components.config.tars import TarLimits
from components.curate.samples import Reason, Turn
from components.curate.sources.files.conversations import as_text, read_conversation
from components.curate.sources.reader import Share
from components.errors import ConfigError

USUAL: Mapping[str, tuple[str, ...]] = {
    "image": (
        "image", "images", "file_name", "image_path", "image_file", "img", "jpg", "jpeg", "png", "webp",
    ),
    "messages": ("messages", "conversations", "texts", "turns", "conversation"),
    "question": ("question", "questions", "query", "instruction"),
    "answer": ("answer", "answers", "multiple_choice_answer", "response", "output"),
    "caption": ("caption", "captions", "text", "txt", "description"),
    "label": ("label", "cls", "class"),
    "licence": ("licence", "license"),
    "split": ("split",),
}  # fmt: skip
"""What a field is → the names that it usually has, likeliest first."""
TEXTS = ("messages", "question", "answer", "caption")
CHOICES = ("choices", "options")
"""Lists that an answer may be a position in."""
UNITS = ("image", "folder", "shard")
"""What readers themselves keep together."""
METADATA = "metadata"
MAX_FACTS = 100
MAX_SHAPES = 1000
MAX_NAMES = 100
"""Names of fields that are remembered for an error to list; those that an option names always are."""
COLUMN_OPTIONS: Mapping[str, type] = {
    **dict.fromkeys(USUAL, str),
    "group_by": str,
    "facts": list,
    "prompt": str,
    "label_question": str,
    "text_only": bool,
    "splits": dict,
    "validation": Share,
    "test": Share,
}
"""Options of every reader that reads rows."""
LIMITS = TarLimits()


@dataclass(frozen=True)
class Pair:
    """What a row says."""

    turns: tuple[Turn, ...]
    images: tuple[Any, ...]
    """The row's pictures as the source names them: a path, or what a reader put in the picture's place."""
    label: str
    licence: str
    split: str
    group: str
    """Value of the field that samples are kept together by; empty without one."""
    facts: dict[str, str]


@dataclass(frozen=True)
class Layout:
    """Where in a row its picture and its texts stand."""

    chosen: Mapping[str, str]
    """What a field is → its name, for those that the options name."""
    group_by: str
    """Field whose samples are kept on one side of a split, or one of `UNITS`."""
    facts: tuple[str, ...]
    prompt: str
    label_question: str
    text_only: bool
    _roles: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict, compare=False, repr=False)
    """Names of a row's fields → what is found where in such a row."""
    _seen: dict[str, None] = field(default_factory=dict, compare=False, repr=False)
    """Fields that any row had."""

    @classmethod
    def of(cls, source: SourceConfig) -> Layout:
        """What a source's options say.

        Raises:
            ConfigError: a question is named without its answer, or the other way round.
        """
        options = source.options
        chosen = {role: str(options[role]) for role in USUAL if role in options}
        if ("question" in chosen) != ("answer" in chosen):
            raise ConfigError(
                "options must name both `question` and `answer`, or neither",
                where=f"curate.sources, {source.locator}",
                fix="name the other one too",
            )
        facts = options.get("facts", [])
        assert isinstance(facts, list), "options are checked before anything is read"
        return cls(
            chosen=chosen,
            group_by=str(options.get("group_by", "image")),
            facts=tuple(facts),
            prompt=str(options.get("prompt", "Describe the image.")),
            label_question=str(options.get("label_question", "")),
            text_only=bool(options.get("text_only", False)),
        )

    @property
    def named(self) -> tuple[str, ...]:
        """The fields that the options name."""
        group_by = () if self.group_by in UNITS else (self.group_by,)
        return (*self.chosen.values(), *self.facts, *group_by)

    def saw(self, names: Iterable[str]) -> None:
        """Remember that a row has fields of these names."""
        for name in names:
            if len(self._seen) < MAX_NAMES or name in self.named:
                self._seen[name] = None

    def check_named(self, *, where: str) -> None:
        """Asked when all rows are read: of a misspelt name, each row alone only shows that it lacks it.

        Raises:
            ConfigError: an option names a field that no row has.
        """
        missing = [name for name in self.named if name not in self._seen]
        if missing and self._seen:
            raise ConfigError(
                f"no row has the field '{missing[0]}'", where=where, fix=f"fields: {', '.join(self._seen)}"
            )

    def name(self, role: str, names: Iterable[str]) -> str:
        """The field that has a role among `names`; empty where there is none."""
        known = (self.chosen[role],) if role in self.chosen else USUAL[role]
        return next((name for name in known if name in names), "")

    def columns(self, names: Sequence[str], *, where: str) -> dict[str, str]:
        """Role → column of a table; `group_by`, facts, choices and `metadata` stand for themselves.

        Raises:
            ConfigError: an option names a column that is not there, or none holds texts.
        """
        missing = [name for name in self.named if name not in names]
        if missing:
            raise ConfigError(
                f"there is no column '{missing[0]}'", where=where, fix=f"columns: {', '.join(names)}"
            )
        found = self._find_roles(tuple(names))
        if not any(found[role] for role in (*TEXTS, *(["label"] if self.label_question else []))):
            raise ConfigError(
                "no column is known to hold texts",
                where=where,
                fix=f"name one: options = {{ caption = '…' }}; columns: {', '.join(names)}",
            )
        found |= {name: name for name in (*self.named, *CHOICES, METADATA) if name in names}
        return {role: name for role, name in found.items() if name}

    def _find_roles(self, names: tuple[str, ...]) -> dict[str, str]:
        if names not in self._roles:
            if len(self._roles) > MAX_SHAPES:
                self._roles.clear()
            self._roles[names] = {role: self.name(role, names) for role in USUAL}
            self.saw(names)
        return self._roles[names]

    def read(self, row: Mapping[str, Any]) -> Pair | Reason:
        """What a row says, or why it cannot be read (`bad_turns`, `invalid_utf8`).

        Args:
            row: Its fields by name; none of them without a name.
        """
        roles = self._find_roles(tuple(row))
        images = _as_images(row.get(roles["image"]))
        turns: list[Turn] = []
        for role in ("messages", "question", "caption"):
            if self._wanted(role, turns):
                found = self._read_texts(role, row, roles)
                if isinstance(found, Reason):
                    return found
                turns += found.turns
                images = images or found.images
        label = as_text(row.get(roles["label"]))
        if self.label_question and label and not turns:
            turns.append(Turn(self.label_question, label))
        pair = Pair(
            turns=tuple(dict.fromkeys(turns)),
            images=images,
            label=label,
            licence=as_text(row.get(roles["licence"])),
            split=as_text(row.get(roles["split"])),
            group=as_text(row.get(self.group_by)),
            facts=dict(islice(self._read_facts(row), MAX_FACTS)),
        )
        return _find_odd(pair) or pair

    def _wanted(self, role: str, turns: Sequence[Turn]) -> bool:
        if any(text in self.chosen for text in TEXTS):
            return role in self.chosen
        return not turns

    def _read_texts(self, role: str, row: Mapping[str, Any], roles: Mapping[str, str]) -> _Texts | Reason:
        value = row.get(roles[role])
        if value is None or value == []:
            return _Texts()
        if role == "messages":
            parsed = _parse(value)
            read = parsed if isinstance(parsed, Reason) else read_conversation(parsed, prompt=self.prompt)
            return read if isinstance(read, Reason) else _Texts(read.turns, read.images)
        if role == "question":
            answer = row.get(roles["answer"])
            choices = next((row[name] for name in CHOICES if isinstance(row.get(name), list)), None)
            return _Texts(tuple(_read_questions(value, answer, choices)))
        caption = _first(value)
        return _Texts((Turn(self.prompt, caption),) if caption else ())

    def _read_facts(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        metadata = row.get(METADATA)
        if isinstance(metadata, Mapping):
            yield from _flatten(metadata, "")
        for name in self.facts:
            yield from _flatten({name: row.get(name)}, "")


@dataclass(frozen=True)
class _Texts:
    turns: tuple[Turn, ...] = ()
    images: tuple[Any, ...] = field(default=())


def _as_images(value: Any) -> tuple[Any, ...]:
    """The pictures of a row: one, several, or none."""
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(each for each in several if each is not None and each != "")


def _read_questions(question: Any, answer: Any, choices: list[Any] | None) -> list[Turn]:
    """One question with its answer, or lists of both that go together."""
    if isinstance(question, list):
        answers = answer if isinstance(answer, list) else [answer]
        pairs = zip(question, answers, strict=False) if len(question) == len(answers) else ()
        return [Turn(as_text(each), _agreed(its)) for each, its in pairs if as_text(each)]
    if choices and isinstance(answer, int) and not isinstance(answer, bool):
        answer = choices[answer] if 0 <= answer < len(choices) else None
    asked, answered = as_text(question), _agreed(answer)
    return [Turn(asked, answered)] if asked and answered else []


def _agreed(answer: Any) -> str:
    """One answer, or the one that most of several annotators gave (of equals the first)."""
    several = answer if isinstance(answer, list) else [answer]
    texts = [as_text(each.get("answer") if isinstance(each, Mapping) else each) for each in several]
    counted = Counter(text for text in texts if text)
    return counted.most_common(1)[0][0] if counted else ""


def _first(value: Any) -> str:
    """A caption; of several the first that says anything."""
    several = value if isinstance(value, list) else [value]
    return next((text for text in map(as_text, several) if text), "")


def _parse(messages: Any) -> Any:
    """Messages that a table without nesting (CSV) holds as JSON."""
    if not isinstance(messages, str):
        return messages
    try:
        return json.loads(messages) if len(messages) <= LIMITS.max_json_bytes else Reason("json_too_large")
    except (ValueError, RecursionError) as error:
        return Reason("bad_turns", evidence=f"no JSON: {error}"[:200])


def _flatten(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Single values under their dotted names; lists of single values joined."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flatten(each, f"{prefix}{name}.")
            continue
        text = ", ".join(filter(None, map(as_text, each))) if isinstance(each, list) else as_text(each)
        if text:
            yield f"{prefix}{name}", text


def _find_odd(pair: Pair) -> Reason | None:
    """Text that no UTF-8 file can hold: what was not UTF-8 in the source was read as surrogates."""
    texts = [text for turn in pair.turns for text in (turn.question, turn.answer)]
    whole = "\n".join(
        (*texts, pair.label, pair.licence, pair.split, pair.group, *pair.facts, *pair.facts.values())
    )
    try:
        whole.encode()
    except UnicodeEncodeError as error:
        return Reason("invalid_utf8", evidence=ascii(whole[max(error.start - 20, 0) : error.end + 20]))
    return None
