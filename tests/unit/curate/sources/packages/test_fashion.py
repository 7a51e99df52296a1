"""Fashion-MNIST: the official split, and turns that agree with the label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_sources as tiny
from reader_cases import Case

from components.curate.sources.packages.fashion import PRODUCTS, render
from components.errors import SourceError


def test_fashion_keeps_the_official_split_and_each_photo_with_its_label(case: Callable[[str], Case]) -> None:
    drafts = case("fashion").plan()
    assert sum(draft.split == "test" for draft in drafts) == 20
    assert all((draft.split == "test") == draft.original_id.startswith("test/") for draft in drafts)
    for draft in drafts:
        number = PRODUCTS.index(draft.label)
        width = sum(value > 0 for value in draft.payload["pixels"][5 * 28 : 6 * 28])
        assert width == 3 + 2 * number  # the tiny photo's bar


def test_fashion_checks_agree_with_the_product_and_ask_for_others_too(case: Callable[[str], Case]) -> None:
    checks = {"yes": 0, "no": 0}
    for draft in case("fashion").plan():
        first, second = draft.turns
        assert first.answer == draft.facts["product"]
        if second.answer in checks:
            checks[second.answer] += 1
            named = {
                product for product in PRODUCTS if f"a {product}" in second.question.replace("an ", "a ")
            }
            named |= {"trousers"} if "trousers" in second.question else set()
            assert (draft.label in named) == (second.answer == "yes")
        else:
            assert second.answer == draft.facts["kind"]
    assert min(checks.values()) > 5


def test_fashion_render_is_the_photo_enlarged(case: Callable[[str], Case]) -> None:
    draft = next(draft for draft in case("fashion").plan() if draft.label == "ankle boot")
    picture = render(draft.payload, 56)
    assert picture.getpixel((20, 8))[0] > 140 and picture.getpixel((50, 50)) == (0, 0, 0)  # type: ignore[index]


def test_fashion_of_another_format_is_refused(tmp_path: Path) -> None:
    case = Case("fashion", {"data": tiny.fashion(tmp_path, magic=0x903)})
    with pytest.raises(SourceError, match="not the IDX file"):
        case.plan()
    with pytest.raises(SourceError, match="is not in the package"):
        Case("fashion", {"data": tiny.maps(tmp_path / "other")}).plan()
