"""The readers of clips and of episodes: what they plan, what they draw, and what they refuse."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_clips import make_clip, make_sound
from tiny_episodes import TASKS, TOP, WRIST, Made, write_v2, write_v3
from tiny_packages import write_deb

from components.config import CurateConfig, SourceConfig
from components.config.video import EpisodeFilter, VideoFilter
from components.curate.samples import Draft, Turn
from components.curate.sources.packages import clips, episodes
from components.curate.sources.reader import Reader
from components.curate.video.clips import clip_jobs, clip_verdicts, examine_clip
from components.curate.video.episodes import episode_jobs, episode_verdicts, examine_episodes
from components.curate.video.lerobot import read_lerobot
from components.errors import ConfigError, SourceError

SRT = (
    b"1\n00:00:00,500 --> 00:00:01,500\nIt begins to move\n\n2\n00:00:02,000 --> 00:00:03,000\nand moves on\n"
)
PAGE = b"""<page><!-- <media type="video" src="figures/clip.mp4"><tt:tt xmlns:tt="t">
<tt:div begin="0s" end="2s"><tt:p>Type <input>displays</input></tt:p></tt:div></tt:tt></media> --></page>"""


def planned(reader: Reader, root: Path, **options: Any) -> list[Draft]:
    source = SourceConfig(locator="folder:data", reader="clips", category="clip", options=options)
    return reader.plan({"data": root}, source, CurateConfig(sources=(source,)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, moving: Path) -> Path:
    root = tmp_path_factory.mktemp("folder")
    for name in ("a.mp4", "b/told.mp4", "b/mute.mp4", "c.mp4"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(moving.read_bytes())
    (root / "b/told.srt").write_bytes(SRT)
    (root / "a.caption").write_text("A test card\nwith moving bars.")
    (root / "c.mp4").write_bytes(b"no clip")
    (root / "notes.txt").write_text("of nobody")
    (root / "link.mp4").symlink_to(root / "a.mp4")
    return root


def test_clips_become_frames_in_order_of_path_and_time(folder: Path) -> None:
    drafts = planned(clips.READER, folder, every_s=2.0)
    assert [draft.original_id for draft in drafts] == [
        *("a.mp4@1.000", "a.mp4@3.000"),
        *("b/mute.mp4@1.000", "b/mute.mp4@3.000"),
        *("b/told.mp4@1.000", "b/told.mp4@3.000"),
        "c.mp4",
    ]
    assert drafts == planned(clips.READER, folder, every_s=2.0)
    assert pickle.loads(pickle.dumps(drafts)) == drafts


def test_caption_is_asked_for_and_a_clip_without_text_waits_for_an_annotator(folder: Path) -> None:
    drafts = {draft.original_id: draft for draft in planned(clips.READER, folder, every_s=2.0)}
    captioned = drafts["a.mp4@1.000"]
    assert captioned.turns == (Turn(clips.QUESTION, "A test card with moving bars."),)
    assert captioned.facts == {
        "clip": "a.mp4",
        "timestamp_s": "1.000",
        "duration_s": "4.000",
        "caption": "A test card with moving bars.",
    }
    assert drafts["b/mute.mp4@1.000"].turns == ()
    assert drafts["b/mute.mp4@1.000"].payload["num_words"] == -1


def test_what_is_said_is_a_fact_and_with_cues_a_question(folder: Path) -> None:
    told = {draft.original_id: draft for draft in planned(clips.READER, folder, every_s=2.0, cues=True)}
    first, second = told["b/told.mp4@1.000"], told["b/told.mp4@3.000"]
    assert first.turns == (Turn(clips.CUE_QUESTION, "It begins to move"),)
    assert (first.facts["said"], first.facts["said_around"]) == (
        "It begins to move",
        "It begins to move and moves on",
    )
    assert second.turns == () and "said" not in second.facts
    assert first.payload["num_words"] == 7


def test_clip_that_cannot_be_opened_is_a_failed_draft(folder: Path) -> None:
    failed = planned(clips.READER, folder)[-1]
    assert (failed.original_id, failed.payload["failed"]) == ("c.mp4", "cannot_open")


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"\xff\xff", "bad_transcript"), (SRT.replace(b"00:00:03", b"00:01:03"), "wrong_transcript")],
)
def test_transcript_that_is_not_the_clips_refuses_it(
    tmp_path: Path, moving: Path, content: bytes, code: str
) -> None:
    (tmp_path / "clip.mp4").write_bytes(moving.read_bytes())
    (tmp_path / "clip.srt").write_bytes(content)
    assert [draft.payload["failed"] for draft in planned(clips.READER, tmp_path)] == [code]


def test_sound_alone_is_refused_and_a_clip_without_declared_duration_is_measured(tmp_path: Path) -> None:
    make_sound(tmp_path / "sound.mp4")
    make_clip(tmp_path / "live.webm", 3, options=("-live", "1"))
    drafts = planned(clips.READER, tmp_path, frames="spread", number=3)
    assert [draft.payload.get("failed", draft.payload.get("at_s")) for draft in drafts] == [
        0.5,
        1.5,
        2.5,
        "no_video_stream",
    ]


def test_clip_in_a_package_is_one_clip_under_all_its_names(tmp_path: Path, moving: Path) -> None:
    content = moving.read_bytes()
    deb = write_deb(
        tmp_path,
        {
            "help/C/page.page": PAGE,
            "help/C/figures/clip.mp4": content,
            "help/de/figures/clip.mp4": content,
            "help/de/figures/other.svg": b"<svg/>",
        },
    )
    drafts = planned(clips.READER, deb, frames="spread", number=2)
    assert [draft.payload.get("failed") for draft in drafts] == [None, None, "exact_duplicate"]
    assert drafts[0].facts["said"] == "Type displays"
    assert len(planned(clips.READER, deb, frames="spread", number=2, include="help/de/*")) == 2
    assert clips.render(drafts[0].payload, 32).size == (32, 24)


def test_scenes_are_a_way_to_choose_frames_and_other_words_are_not(folder: Path, moving: Path) -> None:
    drafts = planned(clips.READER, folder, frames="scenes", include="a.mp4")
    assert [draft.original_id for draft in drafts] == ["a.mp4@2.000"]
    with pytest.raises(ConfigError, match="often"):
        planned(clips.READER, folder, frames="often")


def test_whole_clips_are_held_out(tmp_path: Path, moving: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.mp4").write_bytes(moving.read_bytes())
    drafts = planned(clips.READER, tmp_path, every_s=2.0, unseen_clips=0.4, validation=0.3)
    splits = {draft.facts["clip"]: draft.split for draft in drafts}
    assert all(draft.split == splits[draft.facts["clip"]] for draft in drafts)
    assert set(splits.values()) == {"train", "validation", "test"}
    assert all((draft.group == "unseen_clips") == (draft.split == "test") for draft in drafts)


def test_planned_clips_go_through_the_funnel(folder: Path) -> None:
    drafts = planned(clips.READER, folder, every_s=2.0)
    wanted = VideoFilter(without_transcript="reject", min_words_per_s=1.7, min_change=0)
    reports = [examine_clip(job, wanted) for job in clip_jobs(drafts)]
    verdicts = clip_verdicts(drafts, reports, wanted)
    assert [verdicts[place].code if place in verdicts else "" for place in range(6)] == [
        *("no_transcript", "no_transcript"),
        *("no_transcript", "no_transcript"),
        *("", ""),
    ]


def test_episodes_become_frames_with_instruction_and_action(tmp_path: Path) -> None:
    root = write_v2(tmp_path / "robot", Made((4, 6)))
    drafts = planned(episodes.READER, root, frames_per_episode=2)
    assert [draft.original_id for draft in drafts] == [
        *("episode_000000/000001", "episode_000000/000003"),
        *("episode_000001/000001", "episode_000001/000004"),
    ]
    assert drafts[0].turns == (
        Turn(f"The robot is told: {TASKS[0]}\nWhat action does it take now?", "x 0.250, y 0.000, grip 1.000"),
    )
    assert drafts[0].facts["instruction"] == TASKS[0]
    assert drafts == planned(episodes.READER, root, frames_per_episode=2)


def test_actions_are_written_as_bins_of_the_training_episodes(tmp_path: Path) -> None:
    root = write_v2(tmp_path / "robot", Made((8, 8)))
    drafts = planned(episodes.READER, root, actions="bins", state=True, unseen_episodes=0.0, validation=0.0)
    answers = [[int(part) for part in draft.turns[0].answer.split()] for draft in drafts]
    assert all(len(answer) == 3 and all(0 <= part <= 255 for part in answer) for answer in answers)
    assert [answer[0] for answer in answers[:8]] == sorted(answer[0] for answer in answers[:8])
    assert (answers[0][0], answers[7][0]) == (0, 255)
    assert {answer[1] for answer in answers} == {0, 255}, "the number of the episode"
    assert "Its state is x 0.250, y -0.250." in drafts[2].turns[0].question


def test_frame_of_an_episode_is_that_of_its_row(tmp_path: Path) -> None:
    root = tmp_path / "robot"
    write_v3(root, Made((10, 10)))
    source = "color=black:size=64x48:rate=10,format=yuv420p,geq=lum='30+8*N':cb=128:cr=128"
    for camera in (TOP, WRIST):
        make_clip(root / "videos" / camera / "chunk-000" / "file-000.mp4", 2, source=source)
    drafts = planned(episodes.READER, root, frames_per_episode=10, camera=WRIST)
    means = [np.asarray(episodes.render(draft.payload, 64)).mean() for draft in drafts]
    assert means == pytest.approx([(14 + 8 * frame) * 255 / 219 for frame in range(20)], abs=5)


def test_bad_episodes_end_with_their_reason_and_the_rest_is_kept(tmp_path: Path) -> None:
    made = Made((4, 6, 5))
    made.rows[2] = made.rows[2].drop(columns="action")
    root = write_v2(tmp_path / "robot", made)
    (root / "videos" / "chunk-000" / WRIST / "episode_000001.mp4").unlink()
    (root / "data/chunk-000/episode_000009.parquet").write_bytes(b"")
    drafts = planned(episodes.READER, root, frames_per_episode=2)
    jobs = episode_jobs(read_lerobot(root))
    reports = [report for job in jobs for report in examine_episodes(job, EpisodeFilter(seeks=0))]
    verdicts = episode_verdicts(episodes.places_of(drafts), reports)
    ends = [
        verdicts[place].code if place in verdicts else draft.payload.get("failed", "")
        for place, draft in enumerate(drafts)
    ]
    assert Counter(ends) == {"": 2, "missing_video": 2, "missing_column": 1, "orphan_file": 1}


def test_splits_of_the_source_are_kept(tmp_path: Path) -> None:
    made = Made((3, 3, 3), info={"splits": {"train": "0:1", "val": "1:2", "test": "2:3"}})
    drafts = planned(episodes.READER, write_v2(tmp_path / "robot", made), frames_per_episode=1)
    assert [(draft.split, draft.group) for draft in drafts] == [
        ("train", ""),
        ("validation", ""),
        ("test", "official_test"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [({"camera": "observation.images.none"}, "no camera"), ({"actions": "dance"}, "write actions")],
)
def test_options_that_do_not_fit_the_episodes_are_refused(
    tmp_path: Path, options: dict[str, str], said: str
) -> None:
    root = write_v2(tmp_path / "robot", Made((3,)))
    with pytest.raises(ConfigError, match=said):
        planned(episodes.READER, root, **options)


def test_folder_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="LeRobot"):
        planned(episodes.READER, tmp_path)
