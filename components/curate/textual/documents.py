"""Whether a text reads like a document of prose: the rules of Gopher and of FineWeb."""

from __future__ import annotations

from components.config.text import DocumentRules
from components.curate.textual.repetition import WORD, duplicates

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
SENTENCE_ENDS = (".", "'", '"', "!", "?", "”", "’")
BULLETS = ("•", "‣", "-", "*", "–")
ELLIPSES = ("...", "…")
SHORT_LINE = 30
"""Characters."""


def find_document_problem(text: str, rules: DocumentRules) -> str:
    """The first rule that a document breaks, with what it measured; nothing where it breaks none."""
    words = WORD.findall(text)
    if not words or not rules.words[0] <= len(words) <= rules.words[1]:
        return f"{len(words)} words"
    return _gopher(text, words, rules) or _fineweb(text, rules)


def _gopher(text: str, words: list[str], rules: DocumentRules) -> str:
    mean = sum(map(len, words)) / len(words)
    if not rules.mean_word_chars[0] <= mean <= rules.mean_word_chars[1]:
        return f"words of {mean:.1f} characters"
    for name, count in (("hash signs", text.count("#")), ("ellipses", sum(map(text.count, ELLIPSES)))):
        if count / len(words) > rules.symbols_per_word:
            return f"{count} {name} in {len(words)} words"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    bullets = sum(line.startswith(BULLETS) for line in lines)
    if bullets / len(lines) > rules.bullet_lines:
        return f"{bullets} of {len(lines)} lines are bullets"
    open_ends = sum(line.endswith(ELLIPSES) for line in lines)
    if open_ends / len(lines) > rules.ellipsis_lines:
        return f"{open_ends} of {len(lines)} lines end with an ellipsis"
    tokens = text.split()
    alphabetic = sum(any(map(str.isalpha, token)) for token in tokens)
    if alphabetic / len(tokens) < rules.alphabetic_words:
        return f"{alphabetic} of {len(tokens)} words have a letter"
    found = STOP_WORDS & {word.lower() for word in words}
    if len(found) < rules.stop_words:
        return f"{len(found)} of the stop words"
    return ""


def _fineweb(text: str, rules: DocumentRules) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    ended = sum(line.endswith(SENTENCE_ENDS) for line in lines)
    if ended / len(lines) <= rules.punctuated_lines:
        return f"{ended} of {len(lines)} lines end a sentence"
    short = sum(len(line) <= SHORT_LINE for line in lines)
    if short / len(lines) >= rules.short_lines:
        return f"{short} of {len(lines)} lines are short"
    repeated = duplicates(lines)[1]
    if repeated / len(text) >= rules.duplicate_line_chars:
        return f"{repeated / len(text):.0%} of the characters are in repeated lines"
    return ""
