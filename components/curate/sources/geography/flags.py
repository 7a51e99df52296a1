"""Flags (npm `world-countries` with `flag-icons`): one flag, or four in a square, with questions from facts.

What can be seen (colours, positions, how many) is asked of every flag. What must be known (country,
capital, continent) is asked of countries that are trained, from their flags four by three; the test group
`unseen_drawings` and validation ask it of the square drawings. Whole countries, with all that look the
same, are the test group `unseen_countries`: of those only what can be seen is asked, unless
`ask_unseen_names` is set, which is fair only for a model that learnt the world's flags elsewhere.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from components.config import CurateConfig, SourceConfig
from components.curate.samples import Draft, Split, Turn, share
from components.curate.sources.geography.colours import COLOURS
from components.curate.sources.geography.countries import Country, Drawing, read_countries
from components.curate.sources.planning import names, option, pick, pick_rare
from components.curate.sources.reader import Reader, Share
from components.curate.sources.vector.rasterize import rasterize
from components.errors import ConfigError

POSITIONS = ("top left", "top right", "bottom left", "bottom right")
PAGE = (190, 190, 190)
SQUARE_TEST = 0.6
"""Share of the trained countries whose square drawing is for test; the others' is for validation."""
WORDINGS = {
    "country": ("Which country's flag is this?", "Whose flag is this?", "Name the country of this flag."),
    "capital": ("What is the capital of the country with this flag?", "Name the capital of this country."),
    "continent": ("On which continent is this country?", "Which continent does this flag belong to?"),
    "check": ("Is there {} in this flag?", "Does this flag have {} in it?"),
    "main": ("Which colour covers most of this flag?", "What is the main colour of this flag?"),
    "country_at": ("Which country's flag is at the {}?", "Name the country of the flag at the {}."),
    "where": ("Where is the flag of {}?", "In which corner is the flag of {}?"),
    "check_at": ("Is there {} in the flag at the {}?", "Does the flag at the {1} have {0} in it?"),
    "count": ("How many of the flags have {} in them?", "Count the flags with {} in them."),
    "only": ("Where is the only flag with {}?", "Which corner holds the only flag with {}?"),
}
Shown: TypeAlias = tuple[Country, Drawing]
Check: TypeAlias = tuple[str, str]
"""A colour, and whether a flag has it."""


@dataclass(frozen=True)
class Known:
    """What holds for all flags together."""

    unique: frozenset[str]
    """Codes of countries whose flag looks like no other."""
    times: Mapping[Check, int]
    """How many flags would give this answer to the question for this colour."""


@dataclass(frozen=True)
class Pool:
    """Drawings that pictures of one split and group are made of."""

    split: Split
    group: str
    shown: Sequence[Shown]
    named: bool
    """Ask what must be known."""


def plan(archives: Mapping[str, Path], source: SourceConfig, config: CurateConfig) -> list[Draft]:
    """Every drawing alone, then `train`, `validation` and `test` squares of four.

    Raises:
        ConfigError: `options.regions` leaves no country, or names a region that is not known.
        SourceError: one of the packages is not what it should be.
    """
    countries = _choose(read_countries(archives["data"], archives["flags"]), source)
    times = Counter(each.looks_like for each in countries)
    known = Known(
        unique=frozenset(each.code for each in countries if times[each.looks_like] == 1),
        times=Counter(
            check for each in countries for drawing in each.drawings.values() for check in _checks(drawing)
        ),
    )
    if len({each.continent for each in countries}) == 1:
        countries = [replace(each, continent="") for each in countries]  # nothing to ask
    drafts = []
    for pool in _divide(countries, source, config.seed):
        where = f"{pool.split}/{pool.group}" if pool.group else pool.split
        for shown in pool.shown:
            drafts.append(_single(shown, pool, known, config.seed))
        generator = random.Random(f"{config.seed}/flags/{where}")
        composed = set()
        for number in range(_wanted(source, pool) if len(pool.shown) >= 4 else 0):
            chosen = generator.sample(list(pool.shown), 4)
            codes = tuple(country.code for country, _ in chosen)
            if codes not in composed:
                composed.add(codes)
                drafts.append(_square(chosen, f"{where}/{number}", pool, known, config.seed))
    return [draft for draft in drafts if draft.turns]


def _choose(countries: Sequence[Country], source: SourceConfig) -> list[Country]:
    """The countries that the options ask for."""
    regions = names(source, "regions")
    known = sorted({each.continent for each in countries})
    if not set(regions) <= set(known):
        raise ConfigError(
            f"unknown region {', '.join(sorted(set(regions) - set(known)))}",
            where=f"curate.sources, {source.locator}, options.regions",
            fix=f"regions it knows: {', '.join(known)}",
        )
    only_independent = option(source, "independent", True)
    return [
        each
        for each in countries
        if (not regions or each.continent in regions) and (each.independent or not only_independent)
    ]


def _divide(countries: Sequence[Country], source: SourceConfig, seed: int) -> Iterator[Pool]:
    unseen_share = option(source, "unseen_countries", 0.15)
    unseen = [each for each in countries if share(seed, "country", each.looks_like) < unseen_share]
    trained = [each for each in countries if each not in unseen]
    square = [each for each in trained if "1x1" in each.drawings]
    for_test = {each.code for each in square if share(seed, "square", each.looks_like) < SQUARE_TEST}

    def of(chosen: Sequence[Country], shape: str) -> list[Shown]:
        return [(each, each.drawings[shape]) for each in chosen]

    yield Pool("train", "", of(trained, "4x3"), named=True)
    yield Pool(
        "validation", "", of([each for each in square if each.code not in for_test], "1x1"), named=True
    )
    yield Pool(
        "test", "unseen_drawings", of([each for each in square if each.code in for_test], "1x1"), named=True
    )
    named = option(source, "ask_unseen_names", False)
    yield Pool("test", "unseen_countries", of(unseen, "4x3"), named=named)


def _wanted(source: SourceConfig, pool: Pool) -> int:
    """Squares of a pool; both test groups share the number."""
    count = option(source, pool.split, {"train": 1500, "validation": 100, "test": 300}[pool.split])
    return count // 2 if pool.group else count


def _single(shown: Shown, pool: Pool, known: Known, seed: int) -> Draft:
    country, drawing = shown
    shape = "square" if drawing.height == 1 else "wide"
    key = f"{country.code}/{shape}"
    turns = []
    if pool.named and country.code in known.unique:
        facts = (("country", country.name), ("capital", country.capital), ("continent", country.continent))
        turns = [Turn(pick(WORDINGS[kind], seed, kind, key), answer) for kind, answer in facts if answer]
    checks = _checks(drawing)
    if checks:
        colour, answer = pick_rare(checks, known.times, seed, key)
        turns.append(Turn(pick(WORDINGS["check"], seed, "check", key).format(colour), answer))
    if drawing.main_colour:
        turns.append(Turn(pick(WORDINGS["main"], seed, "main", key), drawing.main_colour))
    return Draft(
        original_id=key,
        split=pool.split,
        group=pool.group,
        turns=tuple(turns),
        payload={"flags": [(drawing.svg, drawing.height)]},
        label=country.name,
        facts={
            "country": country.name,
            "capital": country.capital,
            "continent": country.continent,
            "colours": ", ".join(drawing.colours),
            "no colours": ", ".join(drawing.no_colours),
            "main colour": drawing.main_colour,
        },
    )


def _checks(drawing: Drawing) -> list[Check]:
    """Colours that can be asked for, with their answers."""
    return [(each, "yes") for each in drawing.colours] + [(each, "no") for each in drawing.no_colours]


def _square(chosen: Sequence[Shown], key: str, pool: Pool, known: Known, seed: int) -> Draft:
    codes = "-".join(country.code for country, _ in chosen)
    facts = {}
    for position, (country, drawing) in zip(POSITIONS, chosen, strict=True):
        facts[position] = country.name
        facts[f"{position}, colours"] = ", ".join(drawing.colours)
        facts[f"{position}, no colours"] = ", ".join(drawing.no_colours)
    named = _known_of_square(chosen, key, known, seed) if pool.named else ()
    return Draft(
        original_id=f"{key}/{codes}",
        split=pool.split,
        group=pool.group,
        turns=(*named, *_seen_of_square(chosen, key, known, seed)),
        payload={"flags": [(drawing.svg, drawing.height) for _, drawing in chosen]},
        facts=facts,
    )


def _known_of_square(chosen: Sequence[Shown], key: str, known: Known, seed: int) -> Iterator[Turn]:
    places = [place for place in range(4) if chosen[place][0].code in known.unique]
    if places:
        place = pick(places, seed, "country_at", key)
        question = pick(WORDINGS["country_at"], seed, "country_at wording", key)
        yield Turn(question.format(POSITIONS[place]), chosen[place][0].name)
        place = pick(places, seed, "where", key)
        question = pick(WORDINGS["where"], seed, "where wording", key)
        yield Turn(question.format(chosen[place][0].name), POSITIONS[place])


def _seen_of_square(chosen: Sequence[Shown], key: str, known: Known, seed: int) -> Iterator[Turn]:
    place = pick(range(4), seed, "check_at", key)
    checks = _checks(chosen[place][1])
    if checks:
        colour, answer = pick_rare(checks, known.times, seed, key)
        question = pick(WORDINGS["check_at"], seed, "check_at wording", key)
        yield Turn(question.format(colour, POSITIONS[place]), answer)
    counts = {
        colour: sum(colour in drawing.colours for _, drawing in chosen)
        for colour in COLOURS
        if all(colour in (*drawing.colours, *drawing.no_colours) for _, drawing in chosen)
    }
    if counts:
        # The count first, then a colour that has it: else two of three answers would be 0.
        count = pick(sorted(set(counts.values())), seed, "count", key)
        colour = pick([each for each in counts if counts[each] == count], seed, "count colour", key)
        yield Turn(pick(WORDINGS["count"], seed, "count wording", key).format(colour), str(count))
    alone = [colour for colour in counts if counts[colour] == 1]
    if alone:
        colour = pick(alone, seed, "only", key)
        place = next(at for at in range(4) if colour in chosen[at][1].colours)
        yield Turn(pick(WORDINGS["only"], seed, "only wording", key).format(colour), POSITIONS[place])


def render(payload: dict[str, Any], size: int) -> Image.Image:
    """One flag over the whole picture, or one in every corner, on grey: many flags have white edges."""
    flags = payload["flags"]
    page = Image.new("RGB", (size, size), PAGE)
    gap = max(1, size // 64) if len(flags) > 1 else 0
    columns = 2 if len(flags) > 1 else 1
    side = size // columns - gap
    for place, (svg, height) in enumerate(flags):
        margin = round(side * (1 - height) / 2)
        row, column = divmod(place, columns)
        corner = (column * (side + 2 * gap), row * (side + 2 * gap) + margin)
        page.paste(_draw(svg, side).crop((0, margin, side, side - margin)), corner)
    return page


@lru_cache(maxsize=600)
def _draw(svg: str, size: int) -> Image.Image:
    """A flag occurs in some forty pictures."""
    return rasterize(svg, size)


READER = Reader(
    plan,
    render,
    options={
        "flags": str,
        "regions": list,
        "independent": bool,
        "unseen_countries": Share,
        "ask_unseen_names": bool,
        "train": int,
        "validation": int,
        "test": int,
    },
    locators=("flags",),
)
