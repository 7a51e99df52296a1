"""What a model is asked of a sample: the chat until a turn, and the pictures that it shows."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from components.errors import SourceError
from components.loader import SLOT, Asked, Sample, Turn

CHAT = (Turn("Hello?", "hi"), Turn(f"Is {SLOT} red?", "yes"), Turn(f"And {SLOT}?", "no"))


def _sample(*turns: Turn, chat: bool = False, images: tuple[bytes, ...] = (b"one", b"two")) -> Sample:
    return Sample("key", "vqa", "", "test", images, turns, chat=chat)


def _told(asked: Asked) -> list[tuple[str, list[str]]]:
    """Role and parts of each message; a picture is an asterisk."""

    def told(part: dict[str, Any]) -> str:
        return "*" if part["type"] == "image" else str(part["text"])

    return [(message["role"], [told(part) for part in message["content"]]) for message in asked.messages]


def test_asked_of_independent_turns_is_that_turn_alone_behind_all_pictures() -> None:
    asked = _sample(Turn("Alike?", "no"), Turn("How many?", "2")).asked(1)
    assert _told(asked) == [("user", ["*", "*", "How many?"])]
    assert asked.images == (b"one", b"two")


def test_asked_without_a_question_or_pictures_is_an_empty_text() -> None:
    assert _told(_sample(Turn("", "Once."), images=()).asked(0)) == [("user", [""])]


def test_asked_of_a_turn_with_places_has_every_picture_in_its_place() -> None:
    sample = _sample(Turn(f"Is {SLOT} like {SLOT}?", "no"), Turn("How many?", "2"))
    assert _told(sample.asked(0)) == [("user", ["Is ", "*", " like ", "*", "?"])]
    assert _told(sample.asked(1)) == [("user", ["*", "*", "How many?"])]
    assert sample.asked(0).images == sample.asked(1).images == (b"one", b"two")


def test_asked_of_a_chat_has_earlier_turns_and_only_the_pictures_until_there() -> None:
    sample = _sample(*CHAT, chat=True)
    before = [("user", ["Hello?"]), ("assistant", ["hi"]), ("user", ["Is ", "*", " red?"])]
    assert _told(sample.asked(0)) == before[:1] and sample.asked(0).images == ()
    assert _told(sample.asked(1)) == before and sample.asked(1).images == (b"one",)
    assert _told(sample.asked(2)) == [*before, ("assistant", ["yes"]), ("user", ["And ", "*", "?"])]
    assert sample.asked(2).images == (b"one", b"two")


def test_asked_of_a_chat_without_places_shows_all_pictures_in_its_first_question() -> None:
    asked = _sample(Turn("Alike?", "no"), Turn("Sure?", "yes"), chat=True).asked(1)
    assert _told(asked) == [("user", ["*", "*", "Alike?"]), ("assistant", ["no"]), ("user", ["Sure?"])]
    assert asked.images == (b"one", b"two")


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("places", [1, 3])
def test_asked_with_places_for_fewer_or_more_pictures_names_the_sample(places: int, chat: bool) -> None:
    with pytest.raises(SourceError, match=rf"{places} places for 2 pictures[\s\S]*sample key"):
        _sample(Turn(SLOT * places, "no"), chat=chat).asked(0)


def test_asked_blind_is_the_same_chat_without_pictures() -> None:
    asked = _sample(*CHAT, chat=True).asked(2).blind()
    assert [said for _, (said,) in _told(asked)] == ["Hello?", "hi", "Is  red?", "yes", "And ?"]
    assert asked.images == ()


def test_prompt_opens_pictures_in_their_order_and_refuses_features() -> None:
    images = list[bytes]()
    for kind, mode in (("PNG", "RGBA"), ("JPEG", "L")):
        file = io.BytesIO()
        Image.new(mode, (len(images) + 1, 1)).save(file, kind)
        images.append(file.getvalue())
    prompt = _sample(Turn("Alike?", "no"), images=tuple(images)).asked(0).prompt()
    assert [(image.mode, image.size) for image in prompt.images] == [("RGB", (1, 1)), ("RGB", (2, 1))]
    features = _sample(Turn("Alike?", "no"), images=(images[0], b"\x93NUMPY"))
    with pytest.raises(SourceError, match=r"no pictures to ask about[\s\S]*sample key"):
        features.asked(0).prompt()
