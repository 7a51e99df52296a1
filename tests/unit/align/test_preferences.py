"""The prefer stage: which questions it asks, what it makes of the answers, and its gates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from components.align import prefer
from components.align.pairs import Pair, read_pairs
from components.align.preferences import choose_questions, distinct_pairs, enough_pairs, make_pairs
from components.answers import is_correct, normalise
from components.artifacts import Checkpoint, Dataset
from components.config import AlignConfig, Execution, PreferConfig
from components.errors import GateFailed
from components.loader import SLOT, Sample, Turn, read_samples
from components.vlm import Generation


def _pair(key: str, chosen: str, rejected: str) -> Pair:
    return Pair(
        key=key,
        turn=0,
        category="vqa",
        question="?",
        messages=[],
        chosen=chosen,
        rejected=rejected,
        images=(),
    )


def _config(workspace: Path, **fields: object) -> PreferConfig:
    values = {
        "prompts": 12,
        "samples_per_prompt": 4,
        "min_pairs": 2,
        "max_new_tokens": 12,
        "temperature": 2.0,
        "execution": Execution(workspace=workspace, threads=1),
    }
    return PreferConfig.model_validate(values | fields)


def test_choose_questions_takes_categories_in_turn_and_images_before_second_turns(
    tiny_dataset: Dataset,
) -> None:
    samples = read_samples(tiny_dataset, "train")
    questions = choose_questions(samples, num=40, seed=0)
    assert len(questions) == 40
    assert set(Counter(question.sample.category for question in questions).values()) == {10}
    assert len({question.sample.key for question in questions}) == 40
    assert [question.sample.key for question in questions] == [
        question.sample.key for question in choose_questions(list(reversed(samples)), num=40, seed=0)
    ]
    assert questions != choose_questions(samples, num=40, seed=1)


def test_choose_questions_more_than_there_are_gives_every_turn_once(tiny_dataset: Dataset) -> None:
    samples = read_samples(tiny_dataset, "train")
    questions = choose_questions(samples, num=10_000, seed=0)
    assert len(questions) == sum(len(sample.turns) for sample in samples)
    assert len({(question.sample.key, question.turn) for question in questions}) == len(questions)


def test_pair_of_a_chat_holds_what_was_said_and_shown_before_the_answer() -> None:
    turns = (Turn("Hello?", "hi"), Turn(f"Is {SLOT} red?", "yes"), Turn(f"And {SLOT}?", "no"))
    chat = Sample("chat", "vqa", "", "train", (b"one", b"two"), turns, chat=True)
    questions = sorted(choose_questions([chat], num=10, seed=0), key=lambda question: question.turn)
    assert [question.turn for question in questions] == [1, 2], "the first turn shows no picture"
    said = [[Generation("blue", (1,), ended=True)]] * 2
    first, second = make_pairs(questions, said)
    assert (first.images, second.images) == ((b"one",), (b"one", b"two"))
    assert second.messages == chat.asked(2).messages
    assert (second.question, second.chosen, second.rejected) == (f"And {SLOT}?", "no", "blue")


def test_prefer_random_checkpoint_too_few_pairs_fails_its_gate(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    # An untrained model hardly ever ends an answer within so few tokens.
    config = _config(tmp_path, max_new_tokens=1, min_pairs=1000)
    with pytest.raises(GateFailed, match="enough_pairs"):
        prefer(config=config, checkpoint=tiny_checkpoint, dataset=tiny_dataset)


def test_prefer_asks_only_about_the_categories_named(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    known = sorted({each.category for each in read_samples(tiny_dataset, "train") if each.images})
    for named, asked in (((), known), (tuple(known[:1]), known[:1])):
        config = _config(tmp_path, categories=named, prompts=60)
        pairs = read_pairs(prefer(config=config, checkpoint=tiny_checkpoint, dataset=tiny_dataset).path)
        assert sorted({each.category for each in pairs}) == asked


def test_prefer_twice_gives_the_same_bytes(
    tmp_path: Path, tiny_checkpoint: Checkpoint, tiny_dataset: Dataset
) -> None:
    made = [
        prefer(
            # At this temperature tokens are drawn almost evenly, and some answers happen to end.
            config=_config(
                tmp_path / name, prompts=100, samples_per_prompt=8, temperature=100.0, max_new_tokens=40
            ),
            checkpoint=tiny_checkpoint,
            dataset=tiny_dataset,
        )
        for name in ("one", "two")
    ]
    assert made[0].digest == made[1].digest
    pairs = read_pairs(made[0].path)
    assert len(pairs) == made[0].num_pairs >= 2
    truths = {
        (sample.key, turn): truth.answer
        for sample in read_samples(tiny_dataset, "train")
        for turn, truth in enumerate(sample.turns)
    }
    for pair in pairs:
        assert is_correct(pair.chosen, truths[pair.key, pair.turn])
        assert not is_correct(pair.rejected, truths[pair.key, pair.turn])
        assert normalise(pair.chosen) != normalise(pair.rejected)


@pytest.mark.parametrize(
    ("keys", "passed"), [(("a", "b"), True), (("a", "a"), False), (("a",), False), ((), False)]
)
def test_enough_pairs_wants_two_pairs_on_two_images(keys: tuple[str, ...], passed: bool) -> None:
    pairs = [_pair(key, "red", "blue") for key in keys]
    assert enough_pairs(pairs, minimum=2, num_questions=4).passed is passed


@pytest.mark.parametrize(("rejected", "passed"), [("blue", True), ("The red!", False)])
def test_distinct_pairs_refuses_an_answer_preferred_to_itself(rejected: str, passed: bool) -> None:
    assert distinct_pairs([_pair("a", "red", rejected)]).passed is passed


def test_sampling_config_ignores_what_only_training_needs() -> None:
    assert AlignConfig(beta=0.1).sampling.identity() == AlignConfig(beta=0.2).sampling.identity()
    assert AlignConfig(prompts=10).sampling.identity() != AlignConfig(prompts=20).sampling.identity()
