"""What single characters and marks give away: control characters, wrong encodings, control tokens, markup."""

from __future__ import annotations

import re
from collections.abc import Collection

CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1, without tab and line ends
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible; change the direction
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\ue000-\uf8ff"  # half of a pair, non-characters, private use
    "\U000f0000-\U0010ffff]"
    # Tag characters: ASCII that no reader sees, but a tokenizer does; three flags need them.
    "|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]"
)
"""Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji are written with them."""

# UTF-8 read as Windows-1252 or Latin-1: a lead byte's letter, then letters and marks of continuation bytes.
_ODD = "\x80-\x9f€ƒ†‡ˆ‰Š‹ŒŽ˜™š›œžŸ¡-ª¬-º¼-¿"
"""What continuation bytes become and no text has after a letter."""
_ANY = f"{_ODD}\xa0«»‚„…‘’“”•–—"
"""Quotes and dashes too, which may well follow a letter: `MENÜ»`, `“AMANHÔ`."""
MOJIBAKE = re.compile(
    "\ufffd"
    f"|Ã[{_ODD}]|(?<![A-ZÀ-Þ])Ã[{_ANY}]"  # Ã© Ã¼: the letters of Western Europe
    "|(?<![A-ZÀ-Þ])Â[\xa0-\xbf]"  # Â° Â»: its marks
    f"|[ÄÅ][{_ANY}](?=[a-zà-ÿÄÅ])|(?<=[a-z])[ÄÅ][{_ANY}]"  # Å¡koda: Central Europe and Turkey
    f"|(?:[ÎÏÐÑ×ØÙ][{_ANY}]){{2}}"  # Ð¿Ñ€: two letters of Greek, Cyrillic, Hebrew or Arabic
    f"|â[{_ODD}‚„…][{_ANY}]"  # â€™: quotes, dashes, arrows
    f"|á[º»][{_ANY}]"  # Vietnamese
    f"|(?:[ãåæçèéäïàêëìí][{_ANY}]{{2}}){{2}}"  # two letters of Chinese, Japanese, Korean, Hindi, Thai
    f"|ð[\x90-\x9fŸ][{_ANY}]{{2}}"  # an emoji
    "|ï»¿"  # a byte order mark
)

SPECIAL_TOKEN = re.compile(
    r"<\|(?:[a-z][a-z0-9_]{0,40}|[A-Z][A-Z0-9_]{0,40})\|>|<｜[^<>｜]{1,40}｜>"  # ChatML, Llama, Phi; DeepSeek
    r"|</?(?:s|bos|eos|pad|unk|mask|cls|sep|image|video|img|IMG_CONTEXT|box|ref|quad|image_soft_token"
    r"|(?:start|end)_of_(?:turn|image|utterance|audio)|end_of_utterance|fake_token_around_image|global-img"
    r"|row_\d{1,3}_col_\d{1,3}|image_placeholder|tool_call|tool_response)>"
    r"|\[/?INST\]|<</?SYS>>|\[/?(?:IMG|IMG_BREAK|IMG_END|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]"
    r"|\[(?:CLS|SEP|PAD|UNK|MASK)\]"
)
"""Control tokens of the chat templates in use: in a text they would be read as such."""

MARKUP = re.compile(
    r"</?(?:a|abbr|b|blockquote|body|br|center|code|dd|div|dl|dt|em|embed|figure|font|form|h[1-6]|head|hr|html|i"
    r"|iframe|img|input|label|li|link|meta|nav|object|ol|option|p|pre|script|section|select|small|span|strong"
    r"|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul|video)(?:\s[^<>]{0,500})?/?>"
    r"|&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8});",
    re.IGNORECASE,
)
"""HTML: tags by their names (`vector<int>` is none) and entities."""
SYMBOL = re.compile(r"[#$*+<=>@\\^_`{|}~\[\]•■□▪▫▶►●○◆★☆─-▟]")
MIN_CHARS_FOR_SYMBOLS = 10
MAX_SHOWN = 30


def find_control_character(text: str) -> str:
    """The first control or invisible character, by its code point."""
    if text.isascii() and text.isprintable():
        return ""
    match = CONTROL.search(text)
    return f"U+{ord(match.group()):04X} at {match.start()}" if match else ""


def find_mojibake(text: str) -> str:
    """The first sequence that only a wrong encoding writes, with its neighbours."""
    match = None if text.isascii() else MOJIBAKE.search(text)
    return text[max(0, match.start() - 8) : match.end() + 8] if match else ""


def find_special_token(text: str, more: Collection[str] = ()) -> str:
    """The first control token of a chat template, or one of `more`."""
    if "<" in text or "[" in text:
        match = SPECIAL_TOKEN.search(text)
        if match:
            return match.group()
    return next((token for token in more if token in text), "")


def markup_share(text: str) -> float:
    """Share of the characters in HTML tags and entities."""
    if "<" not in text and "&" not in text:
        return 0.0
    return sum(len(match.group()) for match in MARKUP.finditer(text)) / len(text)


def symbol_share(text: str) -> float:
    """Share of the characters (spaces aside) that are symbols; 0 for texts too short to say."""
    num_symbols = len(SYMBOL.findall(text))
    if not num_symbols:
        return 0.0
    num_chars = len("".join(text.split()))
    return num_symbols / num_chars if num_chars >= MIN_CHARS_FOR_SYMBOLS else 0.0
