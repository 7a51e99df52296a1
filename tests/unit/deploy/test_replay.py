"""Which questions the canary asks, and in which order."""

from __future__ import annotations

from collections import Counter

from components.artifacts import Dataset
from components.deploy.replay import choose, content
from components.loader import read_samples


def test_choose_asks_every_image_once_before_any_twice(tiny_dataset: Dataset) -> None:
    samples = read_samples(tiny_dataset, "test")
    assert max(Counter(each.key for each in choose(samples, len(samples), seed=0)).values()) == 1


def test_choose_more_than_there_are_repeats_evenly_and_is_seeded(tiny_dataset: Dataset) -> None:
    samples = read_samples(tiny_dataset, "test")
    distinct = sum(len(sample.turns) for sample in samples)
    chosen = choose(samples, 3 * distinct, seed=1)
    assert set(Counter((each.key, each.question) for each in chosen).values()) == {3}
    assert chosen == choose(samples, 3 * distinct, seed=1)
    assert chosen != choose(samples, 3 * distinct, seed=2)


def test_choose_mix_does_not_drift_over_the_steps(tiny_dataset: Dataset) -> None:
    chosen = choose(read_samples(tiny_dataset, "test"), 3000, seed=0)
    shares = [sum(each.group.startswith("vqa") for each in chosen[at : at + 1000]) for at in (0, 1000, 2000)]
    assert max(shares) - min(shares) < 80


def test_choose_without_images_gives_nothing() -> None:
    assert choose([], 10, seed=0) == []


def test_content_puts_the_image_first(tiny_dataset: Dataset) -> None:
    question = choose(read_samples(tiny_dataset, "test"), 1, seed=0)[0]
    image, text = content(question)
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": question.question}
