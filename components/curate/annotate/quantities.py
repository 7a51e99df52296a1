"""Numbers as people write them: scales, units, number words, rounding.

`67.4 million`, `1,234 km`, `45 %` and `three` are quantities. One quantity supports another when they are
equal after conversion, up to the rounding that the supported one shows: `67.4 million` is supported by
67391582, and not the other way round.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

MAX_ROUNDING = Decimal("0.05")
"""A rounding that moves a number by more than this share says something else: 1 is not 1.4 rounded."""
SCALES = {
    "hundred": 100, "k": 10**3, "thousand": 10**3, "million": 10**6, "mn": 10**6, "billion": 10**9,
    "bn": 10**9, "trillion": 10**12,
}  # fmt: skip
UNITS: dict[str, tuple[str, Decimal]] = {
    spelling: (dimension, Decimal(factor))
    for dimension, units in {
        "length": {
            "mm millimetre millimetres millimeter millimeters": "0.001",
            "cm centimetre centimetres centimeter centimeters": "0.01",
            "m metre metres meter meters": "1",
            "km kilometre kilometres kilometer kilometers": "1000",
            "inch inches": "0.0254", "ft foot feet": "0.3048", "mile miles": "1609.344",
        },
        "area": {"m² m2": "1", "km² km2": "1000000", "ha hectare hectares": "10000"},
        "mass": {
            "mg": "0.000001", "g gram grams gramme grammes": "0.001", "kg kilogram kilograms": "1",
            "t tonne tonnes": "1000", "lb lbs pound pounds": "0.45359237",
            "oz ounce ounces": "0.028349523125",
        },
        "time": {
            "ms millisecond milliseconds": "0.001", "s sec secs second seconds": "1",
            "min mins minute minutes": "60", "h hr hrs hour hours": "3600", "day days": "86400",
        },
        "share": {"% percent": "0.01"},
        "°c": {"°c": "1"}, "°f": {"°f": "1"},
    }.items()
    for names, factor in units.items()
    for spelling in names.split()
}  # fmt: skip
"""Spelling → dimension and factor to the dimension's own unit. Pound the currency is not told apart."""
ONES = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
)
TENS = re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety")
WORDS = {word: number for number, word in enumerate(ONES)} | {
    f"{tens}-{ones}" if ones else tens: 20 + 10 * place + unit
    for place, tens in enumerate(TENS)
    for unit, ones in enumerate(["", *ONES[1:10]])
}
SQUARE = re.compile(r"\b(?:square|sq\.?)\s+(km|m|kilomet(?:er|re)s?|met(?:er|re)s?)\b", re.IGNORECASE)
WORD = re.compile(r"(?<![\w-])[a-z]+(?:-[a-z]+)?(?![\w-])", re.IGNORECASE)
QUANTITY = re.compile(
    r"(?:(?P<about>\b(?:about|around|approximately|roughly|nearly|almost|over)\b|[~≈])\s*)?"
    r"(?P<currency>[$€£¥])?"
    r"(?<![\w.,])(?P<sign>[-−])?(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
    r"(?![,.]?\d)(?:(?:st|nd|rd|th)(?!\w))?"
    r"(?:\s?(?P<scale>hundred|thousand|million|billion|trillion|k|mn|bn)(?!\w))?"
    r"(?:\s?(?P<unit>%|°[cf]|[a-zµ]+[²2]?)(?!\w))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Quantity:
    """A number, how finely it is stated, and in which unit."""

    value: Decimal
    step: Decimal
    """What its last digit counts: 100000 in `67.4 million`."""
    dimension: str = ""
    """Empty for a plain number."""
    factor: Decimal = Decimal(1)
    """To the dimension's own unit."""

    def supported_by(self, other: Quantity) -> bool:
        """Whether `other` says this, at least as exactly.

        A plain number supports one with a unit as it is written: facts often carry their unit in their
        name. A plain share supports percent and is supported by it.
        """
        value, known = self.value, other.value
        if self.dimension and other.dimension:
            if self.dimension != other.dimension:
                return False
            known = known * other.factor / self.factor
        candidates = [known]
        if "share" in (self.dimension, other.dimension) and self.dimension != other.dimension:
            candidates.append(known * other.factor / self.factor)
        return any(
            abs(value - each) <= self.step / 2 and abs(value - each) <= MAX_ROUNDING * abs(each)
            for each in candidates
        )


def find_quantities(text: str) -> list[Quantity]:
    """All numbers of a text in order, number words below a hundred among them.

    `one` counts only where it is the whole text: elsewhere it is seldom a number.
    """
    quantities = (_quantity(match) for match in QUANTITY.finditer(_spell_in_digits(text)))
    return [quantity for quantity in quantities if quantity is not None]


def without_quantities(text: str) -> str:
    """The text with a comma for each number with its scale and, where it is a known one, its unit."""
    return QUANTITY.sub(
        lambda match: " , " if _takes_unit(match) else f" , {match['unit']} ", _spell_in_digits(text)
    )


def _spell_in_digits(text: str) -> str:
    """The text with its number words as digits, and square units as one word."""
    text = SQUARE.sub(lambda match: f"{'km' if match[1][0] in 'kK' else 'm'}²", text)
    if text.strip(" .").casefold() == "one":
        return "1"

    def digits(match: re.Match[str]) -> str:
        number = WORDS.get(match.group().casefold(), 1)
        return match.group() if number == 1 else str(number)

    return WORD.sub(digits, text)


def _takes_unit(match: re.Match[str]) -> bool:
    return not match["unit"] or match["unit"].casefold() in UNITS


def _quantity(match: re.Match[str]) -> Quantity | None:
    digits = match["digits"].replace(",", "")
    try:
        number = Decimal(digits)
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or not -30 <= exponent <= 30 or len(digits) > 40:
        return None
    step = Decimal(1).scaleb(min(exponent, 0))
    if match["about"] and exponent == 0 and number:
        step = Decimal(1).scaleb(len(digits) - len(digits.rstrip("0")))
    scale = SCALES.get((match["scale"] or "").casefold(), 1)
    unit = (match["unit"] or "").casefold()
    dimension, factor = UNITS.get(unit, ("", Decimal(1)))
    if match["currency"]:
        dimension, factor = match["currency"], Decimal(1)
    sign = -1 if match["sign"] else 1
    return Quantity(sign * number * scale, step * scale, dimension, factor)
