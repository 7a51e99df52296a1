"""Questions and answers from metadata: templates filled with what the source knows.

    [[curate.annotate.facts]]
    question = ["Which country is this?", "What country does the map show?"]
    answer = "{country}"
    when = { kind = "country|territory" }

Answers are grounded by construction: nothing is in them that is not in the facts or in the template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from components.config.annotate import FactTemplate, placeholders
from components.curate.annotate.proposals import AnnotationInput, Proposed
from components.curate.samples import Turn, share


def ask_facts(
    sample: AnnotationInput, templates: Sequence[FactTemplate], *, most: int, seed: int
) -> list[Proposed]:
    """Turns from the templates that fit a sample, `most` at most; a hash of its key chooses which."""
    fields = sample.fields()
    ranked = sorted(
        range(len(templates)), key=lambda number: share(seed, "template", sample.key, str(number))
    )
    proposed: list[Proposed] = []
    for number in ranked:
        turn = fill_template(templates[number], fields, share(seed, "wording", sample.key, str(number)))
        if turn is not None and len(proposed) < most:
            names = placeholders(templates[number].answer) or tuple(templates[number].when)
            evidence = ", ".join(f"{name} = {fields[name]}" for name in names)
            proposed.append(Proposed(turn, "facts", evidence))
    return proposed


def fill_template(template: FactTemplate, fields: Mapping[str, str], wording: float) -> Turn | None:
    """The turn that a template gives, or None where a condition does not hold or a field is missing.

    Args:
        template: Wordings, answer, conditions.
        fields: Name → value; only what is known.
        wording: In [0, 1): which wording.
    """
    for name, pattern in template.when.items():
        if not re.fullmatch(pattern, fields.get(name, "")):
            return None
    question = template.question[int(wording * len(template.question))]
    if not {*placeholders(question), *placeholders(template.answer)} <= fields.keys():
        return None
    return Turn(fill(question, fields), fill(template.answer, fields))


def fill(template: str, fields: Mapping[str, str]) -> str:
    """Replace the placeholders; all must be known. Spacing inside values is made single."""
    return template.format(**{name: " ".join(fields[name].split()) for name in placeholders(template)})
