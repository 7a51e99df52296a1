"""Text that repeats itself: Gopher's shares of repeated lines, paragraphs and n-grams (arXiv 2112.11446)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from components.config.text import RepetitionRules

WORD = re.compile(r"\w+(?:['’]\w+)*")
PARAGRAPH = re.compile(r"\n{2,}")
MIN_WORDS_FOR_SHARE = 6
"""Words from which on the share of the most frequent one says something."""


def find_repetition(text: str, rules: RepetitionRules) -> str:
    """The first rule that a text breaks, with what it measured; nothing where it breaks none."""
    run = _char_run(text, rules.char_run)
    if run:
        return run
    words = WORD.findall(text.lower())
    if len(words) >= MIN_WORDS_FOR_SHARE:
        word, times = Counter(words).most_common(1)[0]
        if times / len(words) > rules.word_share:
            return f"'{word[:20]}' is {times} of {len(words)} words"
    if not rules.min_words or len(words) < rules.min_words:
        return ""
    return _repeated_parts(text, rules) or _repeated_ngrams(words, rules)


def _char_run(text: str, limit: int) -> str:
    if not limit or len(text) <= limit:
        return ""
    match = re.search(rf"(\S)\1{{{limit}}}", text)
    return f"more than {limit} times '{match.group(1)}'" if match else ""


def _repeated_parts(text: str, rules: RepetitionRules) -> str:
    if "\n" not in text:
        return ""
    for name, parts, max_share, max_char_share in (
        ("paragraphs", PARAGRAPH.split(text), rules.duplicate_paragraphs, rules.duplicate_paragraph_chars),
        ("lines", text.splitlines(), rules.duplicate_lines, rules.duplicate_line_chars),
    ):
        num, chars = duplicates([part for part in parts if part.strip()])
        if num / len(parts) > max_share:
            return f"{num} of {len(parts)} {name} are repeats"
        if chars / len(text) > max_char_share:
            return f"{chars / len(text):.0%} of the characters are in repeated {name}"
    return ""


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many parts were seen before, and how many characters they have."""
    repeats = Counter(parts)
    extra = [(times - 1, len(part)) for part, times in repeats.items() if times > 1]
    return sum(times for times, _ in extra), sum(times * chars for times, chars in extra)


def _repeated_ngrams(words: Sequence[str], rules: RepetitionRules) -> str:
    total = sum(map(len, words))
    for size, limit in rules.top_ngrams.items():
        ngrams = Counter(zip(*(words[start:] for start in range(size)), strict=False))
        if not ngrams:
            continue
        ngram, times = max(ngrams.items(), key=lambda pair: pair[1])
        share = times * sum(map(len, ngram)) / total
        if times > 1 and share > limit:
            return f"'{' '.join(ngram)[:40]}' makes up {share:.0%} of the text"
    if len(set(words)) == len(words):
        return ""
    for size, limit in rules.duplicate_ngrams.items():
        share = _duplicate_share(words, size) / total
        if share > limit:
            return f"{share:.0%} of the text are {size}-grams seen before"
    return ""


def _duplicate_share(words: Sequence[str], size: int) -> int:
    """Characters in n-grams that were seen before, each character counted once."""
    seen: set[tuple[str, ...]] = set()
    chars = covered = 0
    for start, ngram in enumerate(zip(*(words[shift:] for shift in range(size)), strict=False)):
        if ngram in seen:
            chars += sum(map(len, words[max(start, covered) : start + size]))
            covered = start + size
        else:
            seen.add(ngram)
    return chars
