"""Where clips stand still, by segments; pictures that did not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config.video import VideoFilter, VideoLimits
from components.curate.samples import Reason
from components.curate.video.motion import Motion, frozen_shares, segment_of, unchanged, watch

WANTED = VideoFilter(freeze_s=0.5)


def watched(path: Path, end_s: float) -> Motion:
    with path.open("rb") as file:
        motion = watch(file, end_s, WANTED)
    assert isinstance(motion, Motion)
    return motion


def test_moving_clip_is_never_frozen(moving: Path) -> None:
    motion = watched(moving, 4)
    assert motion.frozen == ()
    assert motion.num_decoded == 40
    assert motion.thumbs_THW.shape == (8, 16, 16)


def test_clip_that_ends_standing_still_is_frozen_to_its_end(half_frozen: Path) -> None:
    motion = watched(half_frozen, 6)
    assert len(motion.frozen) == 1
    assert motion.frozen[0] == pytest.approx((3, 6), abs=0.11)


def test_decoding_is_ended_at_its_time_limit(moving: Path) -> None:
    with moving.open("rb") as file:
        found = watch(file, 4, VideoFilter(limits=VideoLimits(timeout_s=1e-6)))
    assert isinstance(found, Reason) and found.code == "timeout"


@pytest.mark.parametrize(
    ("frozen", "end_s", "shares"),
    [
        ((), 60, (0.0,)),
        (((0, 24),), 60, (0.4,)),
        (((50, 90),), 120, (10 / 60, 0.5)),
        (((0, 200),), 180, (1.0, 1.0, 1.0)),
        (((0, 10), (20, 30)), 30, (20 / 30,)),
        (((60, 65),), 65, (5 / 65,)),  # a rest of five seconds is no segment of its own
        (((60, 70),), 70, (0.0, 1.0)),
    ],
)
def test_frozen_share_is_counted_by_segment(
    frozen: tuple[tuple[float, float], ...], end_s: float, shares: tuple[float, ...]
) -> None:
    assert frozen_shares(frozen, end_s, 60) == pytest.approx(shares)


@given(st.lists(st.floats(0, 500), max_size=12), st.floats(1, 500))
def test_frozen_time_of_segments_adds_up_to_that_of_the_clip(edges: list[float], end_s: float) -> None:
    ordered = sorted(set(edges))
    frozen = tuple(zip(ordered[::2], ordered[1::2], strict=False))
    shares = frozen_shares(frozen, end_s, 60)
    lengths = [60.0] * (len(shares) - 1) + [end_s - 60 * (len(shares) - 1)]
    total = sum(max(0.0, min(stop, end_s) - start) for start, stop in frozen)
    assert sum(share * length for share, length in zip(shares, lengths, strict=True)) == pytest.approx(total)


def test_time_lies_in_one_of_the_segments() -> None:
    assert [segment_of(at_s, 2, 60) for at_s in (0, 59.9, 60, 125)] == [0, 0, 1, 1]


def test_frame_like_the_kept_one_before_is_unchanged() -> None:
    thumbs = np.zeros((8, 16, 16), np.uint8)
    thumbs[4:] = 200
    motion = Motion((), 8, thumbs)
    assert unchanged(motion, (0.0, 1.0, 2.0, 3.0), 0.01) == {1: 0.0, 3: 2.0}
    assert unchanged(motion, (0.0, 1.0), 0.0) == {}
    assert unchanged(Motion((), 0, thumbs[:0]), (0.0, 1.0), 0.01) == {}
