"""Frames: at which times they are taken, and that they are the right ones in the right size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_clips import LIMITS, make_clip

from components.config.video import VideoLimits
from components.curate.samples import Reason
from components.curate.video.frames import decode_frame, times_every, times_of_scenes, times_spread


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n is gray with luminance 20 + 5n, ten a second."""
    path = tmp_path_factory.mktemp("clips") / "counting.mkv"
    source = "color=black:size=64x48:rate=10,format=yuv420p,geq=lum='20+5*N':cb=128:cr=128"
    return make_clip(path, 4, source=source, options=("-qp", "0"))


@pytest.mark.parametrize(("at_s", "number"), [(0.0, 0), (1.0, 10), (1.05, 11), (2.51, 26), (3.9, 39)])
def test_frame_is_the_first_at_or_after_its_time(counting: Path, at_s: float, number: int) -> None:
    with counting.open("rb") as file:
        image = decode_frame(file, at_s, 64, LIMITS)
    assert image.size == (64, 48)
    assert np.asarray(image).mean() == pytest.approx((4 + 5 * number) * 255 / 219, abs=2)


@pytest.mark.parametrize(
    ("side", "sar", "size"),
    [
        (32, "1/1", (32, 24)),
        (64, "1/1", (64, 48)),
        (500, "1/1", (64, 48)),
        (500, "2/1", (128, 48)),
        (16, "2/1", (16, 6)),
    ],
)
def test_frame_comes_in_the_wanted_size_with_square_pixels(
    tmp_path: Path, side: int, sar: str, size: tuple[int, int]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 1, graph=f"setsar={sar}")
    with clip.open("rb") as file:
        assert decode_frame(file, 0.3, side, LIMITS).size == size


def test_frame_is_the_same_every_time(moving: Path) -> None:
    with moving.open("rb") as file:
        first, second = (decode_frame(file, 1.5, 40, LIMITS).tobytes() for _ in range(2))
    assert first == second


def test_frame_behind_the_end_is_refused(counting: Path) -> None:
    with counting.open("rb") as file, pytest.raises(ValueError, match="no frame at 9"):
        decode_frame(file, 9.0, 64, LIMITS)


def test_frame_of_a_file_without_an_index_is_found(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "live.webm", 4, options=("-live", "1", "-f", "webm"))
    with clip.open("rb") as file:
        assert decode_frame(file, 3.5, 64, LIMITS).size == (64, 48)


def test_scenes_are_found_at_their_cuts(tmp_path: Path) -> None:
    colours = ("red", "white", "blue")
    source = ";".join(f"color={name}:size=64x48:rate=10:duration=2[{name}]" for name in colours)
    source += ";" + "".join(f"[{name}]" for name in colours) + "concat=n=3:v=1"
    clip = make_clip(tmp_path / "scenes.mp4", 6, source=source)
    with clip.open("rb") as file:
        found = times_of_scenes(file, 6, LIMITS, threshold=10, limit=9)
        assert found == pytest.approx([1, 3, 5], abs=0.11)
        assert times_of_scenes(file, 6, LIMITS, threshold=10, limit=2) == found[:2]
        stopped = times_of_scenes(file, 6, VideoLimits(timeout_s=1e-6), threshold=10, limit=2)
    assert isinstance(stopped, Reason) and stopped.code == "timeout"


@given(st.floats(0.05, 5000), st.floats(0.1, 60), st.integers(1, 100))
def test_times_lie_inside_the_clip_in_order(duration_s: float, step_s: float, limit: int) -> None:
    for times in (times_every(duration_s, step_s, limit), times_spread(duration_s, limit)):
        assert 1 <= len(times) <= limit
        assert times == sorted(times)
        assert times[0] >= 0 and times[-1] <= duration_s


def test_times_are_the_middle_of_every_step() -> None:
    assert times_every(10, 5, 60) == [2.5, 7.5]
    assert times_every(3, 5, 60) == [1.5]
    assert times_spread(4, 2) == [1.0, 3.0]
