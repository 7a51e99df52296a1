"""Clips opened, listed and sought: what is sound, and every way of not being it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_clips import LIMITS, cut, declare_duration, make_clip, make_sound

from components.config.video import VideoLimits
from components.curate.samples import Reason
from components.curate.video.probe import Stream, check_seeks, check_stream, probe, read_stream, seek_points


def listed(path: Path, limits: VideoLimits = LIMITS) -> Stream | Reason:
    with path.open("rb") as file:
        return read_stream(file, limits)


def code_of(path: Path) -> str:
    """Of the first check that a clip fails; empty for a sound one."""
    stream = listed(path)
    if isinstance(stream, Reason):
        return stream.code
    reason = check_stream(stream, max_missing=0.05, min_duration_s=1.0)
    if reason is None:
        with path.open("rb") as file:
            reason = check_seeks(file, seek_points(stream.times, stream.end_s, 3), LIMITS)
    return reason.code if reason else ""


def test_header_says_what_was_made(moving: Path) -> None:
    with moving.open("rb") as file:
        found = probe(file, LIMITS)
    assert not isinstance(found, Reason)
    assert (found.codec, found.width, found.height, found.fps) == ("h264", 64, 48, 10.0)
    assert found.duration_s == pytest.approx(4, abs=0.11)


def test_every_packet_is_listed_at_its_time(moving: Path) -> None:
    stream = listed(moving)
    assert isinstance(stream, Stream)
    assert stream.times == pytest.approx([place / 10 for place in range(40)])
    assert stream.end_s == pytest.approx(4)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv", "avi"])
def test_sound_clip_has_no_problem_whatever_its_container(tmp_path: Path, suffix: str) -> None:
    assert code_of(make_clip(tmp_path / f"clip.{suffix}", 2)) == ""


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 5000, b"<html>404</html>", b"RIFF\xff\xff\xff\x7fAVI LIST"]
)
def test_what_is_no_clip_cannot_be_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert code_of(path) == "cannot_open"


def test_clip_whose_index_is_cut_off_cannot_be_opened(tmp_path: Path) -> None:
    assert code_of(cut(make_clip(tmp_path / "clip.mp4", 2), 0.8)) == "cannot_open"


def test_clip_that_ends_early_is_truncated(moving: Path, tmp_path: Path) -> None:
    assert code_of(cut(moving, 0.6)) == "truncated"
    assert code_of(cut(make_clip(tmp_path / "clip.mkv", 4), 0.6)) == "truncated"


def test_duration_that_is_not_the_stream_is_named(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 2)
    assert code_of(declare_duration(clip, 20)) == "truncated"
    assert code_of(declare_duration(clip, 0.2)) == "wrong_duration"


def test_sound_alone_has_no_video_stream(tmp_path: Path) -> None:
    assert code_of(make_sound(tmp_path / "sound.mp4")) == "no_video_stream"


def test_cover_picture_is_no_video_stream(tmp_path: Path) -> None:
    cover = make_clip(tmp_path / "cover.mkv", 0.1, options=("-c:v", "png", "-pix_fmt", "rgb24"))
    sound = make_sound(tmp_path / "sound.mp4")
    import subprocess

    from components.curate.video.ffmpeg import ffmpeg

    command = [
        ffmpeg(),
        "-nostdin",
        "-loglevel",
        "error",
        "-i",
        str(sound),
        "-i",
        str(cover),
        "-map",
        "0",
        "-map",
    ]
    command += ["1", "-c", "copy", "-disposition:v", "attached_pic", str(tmp_path / "song.m4a")]
    subprocess.run(command, check=True)
    assert code_of(tmp_path / "song.m4a") == "no_video_stream"


def test_tags_of_the_file_are_not_taken_for_its_header(tmp_path: Path) -> None:
    lie = "a\n  Duration: 99:00:00.00, start: 0\n  Stream #0:0: Video: h264, yuv420p, 9999x9999, 25 fps"
    clip = make_clip(tmp_path / "clip.mkv", 2, options=("-metadata", f"title={lie}"))
    stream = listed(clip)
    assert isinstance(stream, Stream)
    assert (stream.probe.width, round(stream.probe.duration_s)) == (64, 2)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (VideoLimits(max_bytes=1000), "too_large"),
        (VideoLimits(max_pixels=300), "too_many_pixels"),
        (VideoLimits(max_duration_s=1), "too_long"),
        (VideoLimits(timeout_s=1e-6), "timeout"),
    ],
)
def test_clip_over_a_limit_is_named(moving: Path, limits: VideoLimits, code: str) -> None:
    found = listed(moving, limits)
    assert isinstance(found, Reason) and found.code == code


def test_short_clip_is_named(tmp_path: Path) -> None:
    assert code_of(make_clip(tmp_path / "clip.mp4", 0.5)) == "too_short"


def test_point_without_a_frame_cannot_be_sought(moving: Path) -> None:
    with moving.open("rb") as file:
        assert check_seeks(file, (0.0, 1.95, 3.85), LIMITS) is None
        reason = check_seeks(file, (0.0, 7.0), LIMITS)
    assert reason is not None and reason.code == "cannot_seek" and "7.0 s" in reason.evidence


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50).map(sorted), st.integers(1, 9))
def test_seek_points_lie_at_frames_and_in_order(times: list[float], number: int) -> None:
    points = seek_points(times, times[-1] + 0.1, number)
    assert 1 <= len(points) <= number
    assert list(points) == sorted(points)
    assert all(any(0 <= time - point <= 0.0011 for time in times) for point in points)
