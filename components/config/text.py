"""What is asked of a source's texts, before anything is drawn."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from components.config.base import Frozen

PersonalKind = Literal["iban", "credit_card", "ssn", "ip_address", "email", "phone"]


class RepetitionRules(Frozen):
    """Gopher's limits on repeated text (Rae et al. 2021, arXiv 2112.11446, table A1), as shares.

    They are for documents: on a text of a few words any n-gram is a large share of it, hence `min_words`
    (Gopher's own minimum). From 20 words on they would reject 0.7% of WordNet's glosses.
    """

    min_words: int = Field(50, ge=0)
    """Texts of fewer words are not judged by n-grams; 0: no text is."""
    duplicate_lines: float = Field(0.30, ge=0, le=1)
    duplicate_line_chars: float = Field(0.20, ge=0, le=1)
    duplicate_paragraphs: float = Field(0.30, ge=0, le=1)
    duplicate_paragraph_chars: float = Field(0.20, ge=0, le=1)
    top_ngrams: dict[int, float] = Field({2: 0.20, 3: 0.18, 4: 0.16})
    """Words → share of the characters that the most frequent n-gram makes up."""
    duplicate_ngrams: dict[int, float] = Field({5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10})
    """Words → share of the characters in n-grams seen before."""
    word_share: float = Field(0.5, ge=0, le=1)
    """Share of the most frequent word in a text of six words and more: `tree tree tree tree tree lake`."""
    char_run: int = Field(80, ge=0)
    """The same letter or mark more often than this in a row; 0: any run is fine."""


class DocumentRules(Frozen):
    """What Gopher (table A1) and FineWeb (Penedo et al. 2024, arXiv 2406.17557) ask of a whole document.

    For text-only sources of prose in English; captions and answers all fail them.
    """

    words: tuple[int, int] = (50, 100_000)
    mean_word_chars: tuple[float, float] = (3, 10)
    symbols_per_word: float = Field(0.1, ge=0)
    """Hash signs, and ellipses."""
    bullet_lines: float = Field(0.9, ge=0, le=1)
    ellipsis_lines: float = Field(0.3, ge=0, le=1)
    alphabetic_words: float = Field(0.8, ge=0, le=1)
    """At least this share of the words has a letter."""
    stop_words: int = Field(2, ge=0)
    """At least so many of: the, be, to, of, and, that, have, with."""
    punctuated_lines: float = Field(0.12, ge=0, le=1)
    """More than this share of lines ends a sentence (FineWeb)."""
    short_lines: float = Field(0.67, ge=0, le=1)
    """Less than this share of lines has 30 characters or fewer (FineWeb)."""
    duplicate_line_chars: float = Field(0.1, ge=0, le=1)
    """Less than this share of the characters is in lines seen before (FineWeb)."""


class TextFilter(Frozen):
    """What is asked of a source's texts: questions and answers of a sample, or a text alone."""

    min_chars: int = Field(1, ge=0)
    max_chars: int = Field(2000, ge=1)
    """Characters of an answer."""
    max_question_chars: int = Field(2000, ge=1)
    max_sample_chars: int = Field(20_000, ge=1)
    """Characters of all questions and answers of a sample."""
    max_repeats: int = Field(0, ge=0)
    """An answer that more samples of the source share (numbers aside) is boilerplate; 0: repeats are fine,
    as they are for yes and no."""
    boilerplate: bool = True
    """Reject answers that are no caption of anything: file names, `untitled`, notices of web pages."""
    boilerplate_phrases: tuple[str, ...] = ()
    """What else makes an answer boilerplate where it occurs, whatever the case."""
    personal_data: Literal["reject", "redact", "keep"] = "reject"
    """What becomes of personal data: the sample is rejected, the place is filled with a value that is
    reserved for documentation, or it stays."""
    personal_kinds: tuple[PersonalKind, ...] = ("iban", "credit_card", "ssn", "ip_address", "email", "phone")
    """What counts as personal data. Names do not: telling them from words takes a model."""
    special_tokens: bool = True
    """Reject texts with a control token of a chat template (`<image>`, `<|im_end|>`)."""
    extra_special_tokens: tuple[str, ...] = ()
    """Tokens of a model of one's own that texts must not hold either."""
    characters: bool = True
    """Reject control characters, invisible ones, and text decoded with the wrong encoding."""
    max_markup: float = Field(0.2, ge=0, le=1)
    """Share of the characters that may be HTML tags and entities."""
    max_symbols: float = Field(0.5, ge=0, le=1)
    """Share of the characters (of ten and more) that may be symbols: raise it for formulas and code."""
    profanity: bool = True
    """Reject swear words and slurs."""
    allowed_words: tuple[str, ...] = ()
    """Words that the profanity filter shall let pass."""
    profane_words: tuple[str, ...] = ()
    """Words that it shall find besides."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes that answers may be in; empty: any."""
    language_min_chars: int = Field(60, ge=1)
    """Shorter texts are not judged: on them the identifier guesses."""
    language_confidence: float = Field(0.8, ge=0, le=1)
    """Reject when the identifier is this sure that it is none of `languages`."""
    repetition: RepetitionRules = RepetitionRules()
    document: DocumentRules | None = None
    """Given (`document = {}`): each answer is judged as a document too."""

    @model_validator(mode="after")
    def _chars_in_order(self) -> TextFilter:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars ({self.min_chars}) is larger than max_chars ({self.max_chars})")
        return self
