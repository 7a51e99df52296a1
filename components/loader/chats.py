"""Chats as text: what the processor's template makes of turns, and which parts of it are learned.

Letters in array names: S samples, T turns, G trunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.errors import SourceError
from components.loader.samples import SLOT, Sample
from components.vlm.families import Family, Grid

Span = tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """A turn (or a whole chat) as text, with the characters that the model learns to write."""

    text: str
    learned: tuple[Span, ...]
    """From the assistant's header to the end token, which is learned too."""


@dataclass(frozen=True)
class Chat:
    """A sample as text: what all of its units share, and the units."""

    trunk: str
    units: tuple[Unit, ...]


class Writer:
    """Writes samples as the family's chat template does.

    Args:
        family: Its template is asked once for turns of the same shape.
    """

    def __init__(self, family: Family) -> None:
        self.family, self.end = family, str(family.tokenizer.eos_token)
        self._shapes: dict[int, tuple[str, str, str, str]] = {}

    def write(self, sample: Sample, grids: Sequence[Grid]) -> Chat:
        """The sample with its pictures, cut as `grids` say.

        Raises:
            SourceError: a text holds a special token, or as many places of pictures as it has none of.
        """
        self._assert_plain(sample)
        if sample.chat:
            return Chat("", (self._chat(sample, 0, grids),))
        if slotted(sample):
            return Chat("", tuple(self._chat(sample, turn, grids) for turn in range(len(sample.turns))))
        return self._turns(sample, grids)

    def without(self, sample: Sample) -> Chat:
        """The sample's turns without its pictures (of a chat that needs them: nothing)."""
        if sample.images and (sample.chat or slotted(sample)):
            return Chat("", (Unit("", ()),) * num_units(sample))
        return self.write(sample, ())

    def _turns(self, sample: Sample, grids: Sequence[Grid]) -> Chat:
        """Independent turns behind a trunk."""
        header, before, middle, end = self._shape(len(grids))
        units = []
        for turn in sample.turns:
            asked = before + turn.question + middle
            learned = (len(asked.rstrip(" ")), len(asked) + len(turn.answer) + len(end))
            units.append(Unit(asked + turn.answer + end, (learned,)))
        return Chat(self._shown(header, grids), tuple(units))

    def _shape(self, images: int) -> tuple[str, str, str, str]:
        """What the template writes before all turns, before a question, behind it, and behind the answer."""
        if images not in self._shapes:
            asked, answered = "\x00question\x00", "\x00answer\x00"
            shown = [{"type": "image"}] * images
            chat = self.family.chat(
                [
                    {"role": "user", "content": [*shown, {"type": "text", "text": asked}]},
                    {"role": "assistant", "content": [{"type": "text", "text": answered}]},
                ]
            )
            head, _, rest = chat.partition(asked)
            middle, _, tail = rest.partition(answered)
            header = head.rstrip(" ")
            self._shapes[images] = (header, head[len(header) :], middle, self._until_end(tail))
        return self._shapes[images]

    def _until_end(self, text: str) -> str:
        return text[: text.index(self.end) + len(self.end)]

    def _chat(self, sample: Sample, turn: int, grids: Sequence[Grid]) -> Unit:
        """Turns that follow one another, or one with places for pictures."""
        messages = sample.messages(turn)
        whole, learned = self.family.chat(messages), list[Span]()
        until = 0
        for number in range(0, len(messages), 2):
            prompt = self._prompt(whole, self.family.chat(messages[: number + 1], generate=True))
            until = whole.index(self.end, len(prompt)) + len(self.end)
            seen = prompt.count(self.family.marker)
            longer = len(self._shown(prompt, grids[:seen])) - len(prompt)
            learned.append((len(prompt) + longer, until + longer))
        return Unit(self._shown(whole[:until], grids), tuple(learned))

    def _prompt(self, whole: str, prompt: str) -> str:
        """What stands before an answer in the whole chat; the template may space it otherwise."""
        pairs = zip(whole, prompt, strict=False)
        same = next((place for place, (ours, theirs) in enumerate(pairs) if ours != theirs), len(prompt))
        assert not prompt[same:].strip(), "a chat template writes an earlier turn anew for a later one"
        return whole[:same].rstrip(" ")

    def _shown(self, text: str, grids: Sequence[Grid]) -> str:
        """The text with every marker replaced by the image's tokens."""
        pieces = text.split(self.family.marker)
        shown = [pieces[0]]
        for grid, piece in zip(grids, pieces[1:], strict=True):
            shown += [self.family.text(grid), piece]
        return "".join(shown)

    def _assert_plain(self, sample: Sample) -> None:
        for turn in sample.turns:
            text = turn.question + turn.answer
            found = [token for token in self.family.specials if token in text] if "<" in text else []
            if found:
                raise SourceError(
                    f"a text holds the special token {found[0]}",
                    where=f"sample {sample.key}",
                    fix="remove it in curation; it would be read as an image or as an end",
                )


def slotted(sample: Sample) -> bool:
    """Whether the texts say where pictures stand."""
    return any(SLOT in turn.question for turn in sample.turns)


def num_units(sample: Sample) -> int:
    """Turns that are packed by themselves: a chat is one."""
    return 1 if sample.chat else len(sample.turns)
