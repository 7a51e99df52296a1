"""Is an answer derivable from what is known about the picture: its facts and its OCR text?

The rules, in the order in which they are tried:

1. **Yes and no.** What the question names (quoted words, numbers, capitalised names) is looked up: `yes`
   needs all of it to be known, `no` needs some of it to be absent. A comparison, or a question that names
   nothing, cannot be looked up: `quality.unverifiable` decides.
2. **Counts** (`how many`, `number of`). The number must be known, or be the length of a list among the
   facts that the question names, or count the lines or words of the OCR text where it asks for those.
3. **Spans.** The answer, up to case, punctuation and articles, stands word for word in one fact or in the
   OCR text.
4. **Short answers.** Stop words, words of the question and punctuation part an answer into runs; each run
   stands word for word in one fact or in the OCR text (`It is Berlin, Germany`), and there is one. Each
   number must be supported by a known one: units are converted, rounding is allowed as far as it shows
   (`67.4 million` for 67391582), invented precision is not.
5. **Long answers** (more than `max_span_words` words). Numbers as above, and `min_coverage` of the content
   words known or in the question, at least one of them not from the question.

Necessary, not sufficient: a grounded answer can still answer another question. Consistency and review are
for that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.answers import normalise
from components.config.annotate import QualityConfig
from components.curate.annotate.proposals import OCR_BOXES, OCR_TEXT, AnnotationInput
from components.curate.annotate.quantities import Quantity, find_quantities, without_quantities
from components.curate.samples import Reason, Turn

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "about above after all also am among and any are as at be because been before being below between "
        "both but by can could did do does doing down during each few for from had has have having he her "
        "here hers him his how i if in into is it its itself just me more most my no nor not of off on once "
        "only or other our out over own same she should shows so some such than that their them then there "
        "these they this those through to too under until up very was we were what when where which while "
        "who whom why will with would you your",
    )
)
YES_NO = re.compile(r"\s*(yes|no)\s*(?:[,.;:!–—-]|$)", re.IGNORECASE)
COUNTING = re.compile(r"\bhow many\b|\bthe number of\b", re.IGNORECASE)
COMPARING = re.compile(r"\b(?:than|same|more|less|fewer|most|least|equal)\b", re.IGNORECASE)
QUOTED = re.compile(r"[\"“„]([^\"“”„]+)[\"”“]|(?<!\w)['‘]([^'‘’]+)['’](?!\w)")
NAME = re.compile(r"(?<=\s)(?:[A-Z][\w'’-]*)(?:\s+[A-Z][\w'’-]*)*")
BREAK = re.compile(r"(?<!\d)[,;:/]|[,;:/](?!\d)|[.!?](?=\s|$)")
"""Where one thing that an answer names ends; not inside a number."""
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
"""Scripts that are written without spaces: words cannot be told, a substring is enough."""


@dataclass(frozen=True)
class Grounds:
    """What answers about one picture may rest on."""

    texts: tuple[str, ...]
    """Each known text, normalised, with a space before and after: a span is then a substring."""
    words: frozenset[str]
    quantities: tuple[Quantity, ...]
    lists: Mapping[str, int]
    """Facts that are lists → their length."""
    lines: int
    """Lines of the OCR text."""
    num_words: int
    """Words of the OCR text."""

    @classmethod
    def of(cls, sample: AnnotationInput) -> Grounds:
        """All facts, the label, and the OCR text where it is among the facts; not the boxes, and no fact
        with `no` in its name (`no colours`): it says what is not to be seen."""
        known = {
            name: value
            for name, value in sample.facts.items()
            if name != OCR_BOXES and "no" not in normalise(name.replace("_", " ")).split()
        }
        texts, lists = [sample.label] if sample.label else [], dict[str, int]()
        for name, value in known.items():
            structure = _structure(value)
            if structure is None:
                texts.append(value)
            else:
                texts += _leaves(structure)
                if isinstance(structure, list):
                    lists[normalise(name.replace("_", " "))] = len(structure)
        normal = [normalise(text) for text in texts]
        read = known.get(OCR_TEXT, "")
        return cls(
            texts=tuple(f" {text} " for text in normal if text),
            words=frozenset(word for text in normal for word in text.split()),
            quantities=tuple(quantity for text in texts for quantity in find_quantities(text)),
            lists=lists,
            lines=len([line for line in read.splitlines() if line.strip()]),
            num_words=len(read.split()),
        )

    def holds(self, phrase: str) -> bool:
        """Whether a phrase stands in one of the texts, word for word."""
        wanted = normalise(phrase)
        if UNSPACED.search(wanted):
            joined = wanted.replace(" ", "")
            return any(joined in text.replace(" ", "") for text in self.texts)
        return bool(wanted) and any(f" {wanted} " in text for text in self.texts)

    def supports(self, quantity: Quantity) -> bool:
        """Whether a number is known."""
        return any(quantity.supported_by(known) for known in self.quantities)


def grounding_problem(turn: Turn, grounds: Grounds, config: QualityConfig) -> Reason | None:
    """Why an answer is not derivable from `grounds`, or None; the rules are in the module's docstring."""
    yes_no = YES_NO.match(turn.answer)
    if yes_no:
        return _yes_no_problem(yes_no[1].casefold() == "yes", turn, grounds, config)
    numbers = find_quantities(turn.answer)
    if COUNTING.search(turn.question) and numbers:
        return _count_problem(numbers, turn, grounds)
    if grounds.holds(turn.answer):
        return None
    unknown = [str(number.value) for number in numbers if not grounds.supports(number)]
    if unknown:
        return Reason("ungrounded_number", evidence=", ".join(unknown))
    if len(normalise(turn.answer).split()) > config.max_span_words:
        return _coverage_problem(turn, grounds, config)
    runs = _runs(turn)
    missing = [run for run in runs if not grounds.holds(run)]
    if missing or not (runs or numbers):
        evidence = (
            f"not known: {', '.join(missing)}" if missing else "says nothing that the question does not"
        )
        return Reason("ungrounded", evidence=evidence[:200])
    return None


def _runs(turn: Turn) -> list[str]:
    """What an answer says beyond its numbers and the question, in runs of words."""
    skipped = STOP_WORDS | _question_words(turn)
    runs: list[str] = []
    for part in BREAK.split(without_quantities(turn.answer)):
        run: list[str] = []
        for word in [*normalise(part).split(), ""]:
            if word and word not in skipped:
                run.append(word)
            elif run:
                runs.append(" ".join(run))
                run = []
    return runs


def _coverage_problem(turn: Turn, grounds: Grounds, config: QualityConfig) -> Reason | None:
    content = _content_words(without_quantities(turn.answer))
    asked = _question_words(turn)
    missing = [word for word in content if word not in grounds.words and word not in asked]
    from_grounds = any(word in grounds.words and word not in asked for word in content)
    if not from_grounds and not find_quantities(turn.answer):
        return Reason("ungrounded", evidence="says nothing that the question does not")
    if len(missing) > (1 - config.min_coverage) * len(content):
        return Reason("ungrounded", evidence=f"not known: {', '.join(missing)}"[:200])
    return None


def _yes_no_problem(yes: bool, turn: Turn, grounds: Grounds, config: QualityConfig) -> Reason | None:
    quoted = ["".join(pair) for pair in QUOTED.findall(turn.question)]
    rest = QUOTED.sub(" ", turn.question)
    names = NAME.findall(rest)
    numbers = find_quantities(NAME.sub(" ", rest))
    if COMPARING.search(rest) or not (quoted or names or numbers):
        return None if config.unverifiable == "keep" else Reason("unverifiable", evidence=turn.question[:80])
    absent = [phrase for phrase in (*quoted, *names) if not grounds.holds(phrase)]
    absent += [str(number.value) for number in numbers if not grounds.supports(number)]
    if yes and absent:
        return Reason("ungrounded", evidence=f"yes, but not known: {', '.join(absent)}"[:200])
    if not yes and not absent:
        return Reason("ungrounded", evidence="no, but all that is named is known")
    return None


def _count_problem(numbers: list[Quantity], turn: Turn, grounds: Grounds) -> Reason | None:
    asked = {_singular(word) for word in normalise(turn.question).split()}
    counts = [
        length for name, length in grounds.lists.items() if {_singular(word) for word in name.split()} & asked
    ]
    counts += [grounds.lines] if "line" in asked and grounds.lines else []
    counts += [grounds.num_words] if "word" in asked and grounds.num_words else []
    for number in numbers:
        if number.value not in counts and not grounds.supports(number):
            return Reason("ungrounded_number", evidence=str(number.value))
    return None


def _singular(word: str) -> str:
    """Good enough to match a fact's name with a question: `countries` and `country`."""
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


def _content_words(text: str) -> list[str]:
    return [word for word in normalise(text).split() if word not in STOP_WORDS]


def _question_words(turn: Turn) -> frozenset[str]:
    return frozenset(normalise(turn.question).split())


def _structure(value: str) -> list[Any] | dict[str, Any] | None:
    """The list or object that a fact holds as JSON; None for plain text."""
    if value.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list | dict) else None


def _leaves(value: Any) -> list[str]:
    """Texts and numbers in a structure, object keys among them."""
    if isinstance(value, dict):
        return [text for name, each in value.items() for text in (str(name), *_leaves(each))]
    if isinstance(value, list):
        return [text for each in value for text in _leaves(each)]
    return [str(value)] if value is not None and not isinstance(value, bool) else []
