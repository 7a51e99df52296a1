"""WordNet's nouns: what they mean, what kind of thing they are; wndb(5WN) says what the columns hold.

Only words with one meaning are asked for: of others nobody knows which is meant.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from components.curate.sources.texts.documents import Document, Exchange

WORDINGS = {
    "meaning": ("What does “{}” mean?", "Define “{}”.", "What is meant by “{}”?"),
    "kind": ("“{}” is a kind of what?", "What kind of thing is “{}”?"),
}
TOPICS = (
    *("top", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event"),
    *("feeling", "food", "group", "location", "motive", "object", "person", "phenomenon", "plant"),
    *("possession", "process", "quantity", "relation", "shape", "state", "substance", "time"),
)
"""Names of the lexicographer files 3 to 28, which hold the nouns."""
FIRST = 3
HYPERNYM = ("@", "@i")
"""Pointers to what a noun is a kind of, or an instance of."""


@dataclass(frozen=True)
class Meaning:
    """A synset: words that mean the same."""

    topic: str
    words: tuple[str, ...]
    kinds: tuple[str, ...]
    """Offsets of what it is a kind of."""
    gloss: str


def read_nouns(_name: str, content: bytes) -> Iterator[Document]:
    """One document per topic (animal, food, …); its texts are single words."""
    meanings = dict(_parse(content.decode("utf-8", "replace")))
    times = Counter(word for each in meanings.values() for word in each.words)
    exchanges: dict[str, list[Exchange]] = defaultdict(list)
    words: dict[str, dict[str, None]] = defaultdict(dict)
    for each in meanings.values():
        word = each.words[0]
        words[each.topic].update(dict.fromkeys(each.words))
        kind = next((meanings[offset].words[0] for offset in each.kinds if offset in meanings), "")
        if times[word] == 1:
            facts = (("word", word), ("meaning", each.gloss), ("kind", kind), ("topic", each.topic))
            exchanges[each.topic].append(Exchange("meaning", word, each.gloss, facts))
            if kind:
                exchanges[each.topic].append(Exchange("kind", word, kind, facts))
    for topic in sorted(words):
        yield Document(topic, tuple(exchanges[topic]), tuple(words[topic]))


def _parse(text: str) -> Iterator[tuple[str, Meaning]]:
    """Offset and meaning of every line that is one."""
    for line in text.splitlines():
        if line.startswith(" "):  # the licence
            continue
        data, _, gloss = line.partition(" | ")
        columns = data.split()
        count = int(columns[3], 16)
        pointers = columns[5 + 2 * count :]
        yield (
            columns[0],
            Meaning(
                topic=TOPICS[int(columns[1]) - FIRST],
                words=tuple(word.replace("_", " ") for word in columns[4 : 4 + 2 * count : 2]),
                kinds=tuple(
                    offset
                    for symbol, offset in zip(pointers[::4], pointers[1::4], strict=False)
                    if symbol in HYPERNYM
                ),
                gloss=gloss.partition(";")[0].partition(' "')[0].strip(),
            ),
        )
