"""The funnel of clips: each clip examined once, each frame with the verdict of its clip or segment."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tiny_clips import damage, make_frozen
from tiny_packages import write_deb

from components.config.video import VideoFilter
from components.curate.samples import Draft, Reason
from components.curate.video.clips import (
    ClipJob,
    ClipReport,
    check_words,
    clip_jobs,
    clip_verdicts,
    examine_clip,
    payload_of,
)

WANTED = VideoFilter(freeze_s=0.5, segment_s=3)


def draft(path: Path, at_s: float, num_words: int = -1) -> Draft:
    return Draft(f"{path.name}@{at_s}", "train", "", (), payload_of(path, "", at_s, num_words))


def codes(drafts: list[Draft], wanted: VideoFilter) -> dict[int, str]:
    reports = [examine_clip(job, wanted) for job in clip_jobs(drafts)]
    return {place: reason.code for place, reason in clip_verdicts(drafts, reports, wanted).items()}


def test_moving_clip_keeps_its_frames(moving: Path) -> None:
    assert codes([draft(moving, 0.5), draft(moving, 2.5)], WANTED) == {}


def test_frames_of_a_frozen_segment_are_out_and_others_stay(half_frozen: Path) -> None:
    drafts = [draft(half_frozen, at_s) for at_s in (0.5, 2.5, 3.5, 5.5)]
    assert codes(drafts, WANTED) == {2: "frozen", 3: "frozen"}


def test_clip_without_a_segment_left_is_out(tmp_path: Path) -> None:
    clip = make_frozen(tmp_path / "still.mp4", 0.5, 3)
    report = examine_clip(ClipJob(str(clip), "", (0.2,), -1), WANTED)
    assert report.code == "frozen"
    assert report.frozen[0] == pytest.approx((0.5, 3.5), abs=0.5)
    assert codes([draft(clip, 0.2)], WANTED) == {0: "frozen"}


def test_frozen_share_below_the_limit_is_kept_and_reported(half_frozen: Path) -> None:
    wanted = VideoFilter(freeze_s=0.5, max_frozen=0.6, min_change=0)
    report = examine_clip(ClipJob(str(half_frozen), "", (1.0,), -1), wanted)
    assert report.code == ""
    assert report.frozen_shares == pytest.approx((0.5,), abs=0.03)
    assert report.duration_s == pytest.approx(6)


def test_frame_that_looks_like_the_one_before_is_skipped(half_frozen: Path) -> None:
    drafts = [draft(half_frozen, at_s) for at_s in (1.0, 4.0, 5.0)]
    wanted = VideoFilter(freeze_s=0.5, max_frozen=1.0)
    assert codes(drafts, wanted) == {2: "unchanged_frame"}


def test_frame_behind_the_end_is_named(moving: Path) -> None:
    assert codes([draft(moving, 0.5), draft(moving, 4.2)], WANTED) == {1: "no_frame"}


def test_damaged_clip_is_out_whether_it_is_sought_or_watched(moving: Path) -> None:
    report = examine_clip(ClipJob(str(damage(moving, 0.4, 0.9)), "", (), -1), WANTED)
    assert report.code in ("damaged", "cannot_seek")


@pytest.mark.parametrize(
    ("words", "wanted", "code"),
    [
        (1, WANTED, "word_density"),
        (0, WANTED, "word_density"),
        (2, WANTED, ""),
        (-1, WANTED, ""),
        (-1, VideoFilter(without_transcript="reject"), "no_transcript"),
        (0, VideoFilter(min_words_per_s=0), ""),
    ],
)
def test_words_are_counted_over_the_clips_duration(
    moving: Path, words: int, wanted: VideoFilter, code: str
) -> None:
    wanted = wanted.model_copy(update={"seeks": 1})
    assert examine_clip(ClipJob(str(moving), "", (), words), wanted).code == code


def test_density_at_the_limit_is_kept() -> None:
    assert check_words(0.5, VideoFilter()) is None
    reason = check_words(0.499, VideoFilter())
    assert reason is not None and reason.code == "word_density"


def test_clip_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    assert examine_clip(ClipJob(str(tmp_path / "gone.mp4"), "", (), -1), WANTED).code == "unreadable"
    deb = write_deb(tmp_path, {"a": b"a"})
    assert examine_clip(ClipJob(str(deb), "clip.mp4", (), -1), WANTED).code == "unreadable"


def test_clip_in_a_package_is_examined_like_one_in_a_folder(tmp_path: Path, moving: Path) -> None:
    deb = write_deb(tmp_path, {"usr/share/clip.mp4": moving.read_bytes()})
    inside = examine_clip(ClipJob(str(deb), "usr/share/clip.mp4", (1.0,), -1), WANTED)
    outside = examine_clip(ClipJob(str(moving), "", (1.0,), -1), WANTED)
    assert dataclasses.replace(inside, path="", member="") == dataclasses.replace(outside, path="", member="")


def test_each_clip_is_one_job_and_other_drafts_are_passed_over(moving: Path, half_frozen: Path) -> None:
    drafts = [
        draft(half_frozen, 2.0),
        Draft("emoji", "train", "", (), {"svg": "<svg/>"}),
        draft(moving, 1.0),
        draft(half_frozen, 1.0),
    ]
    assert [(Path(job.path).name, job.times) for job in clip_jobs(drafts)] == [
        ("half.mp4", (1.0, 2.0)),
        ("moving.mp4", (1.0,)),
    ]
    reports = [ClipReport(job.path, job.member, "cannot_open", "why") for job in clip_jobs(drafts)]
    reason = Reason("cannot_open", evidence="why")
    assert clip_verdicts(drafts, reports, WANTED) == {0: reason, 2: reason, 3: reason}


def test_report_is_json(moving: Path) -> None:
    report = examine_clip(ClipJob(str(moving), "", (1.0, 1.1), 9), WANTED)
    assert json.loads(json.dumps(dataclasses.asdict(report)))["num_frames"] == 40
