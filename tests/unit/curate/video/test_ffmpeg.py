"""ffmpeg in its cage: one open file, no other, within time and output, gone with its parent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny_clips import LIMITS, make_clip

from components.config.video import VideoLimits
from components.curate.samples import Reason
from components.curate.video import ffmpeg as runner
from components.curate.video.ffmpeg import ffmpeg, run_ffmpeg
from components.curate.video.probe import probe, read_stream
from components.errors import ConfigError

PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "hls_host": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:9/secret.mp4\n#EXT-X-ENDLIST\n",
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>secret.mp4</BaseURL></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


def test_concat_list_reads_another_file_where_ffmpeg_is_not_caged(tmp_path: Path) -> None:
    """What the next test is about: without it, that one could pass for no reason."""
    make_clip(tmp_path / "secret.mp4", 1)
    (tmp_path / "clip.mp4").write_text(PLAYLISTS["concat"])
    command = [ffmpeg(), "-nostdin", "-hide_banner", "-i", str(tmp_path / "clip.mp4")]
    assert "Video: h264" in subprocess.run(command, capture_output=True, text=True).stderr


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlist_that_is_called_a_clip_opens_nothing(tmp_path: Path, kind: str) -> None:
    make_clip(tmp_path / "secret.mp4", 1)
    clip = tmp_path / "clip.mp4"
    clip.write_text(PLAYLISTS[kind])
    with clip.open("rb") as file:
        for found in (probe(file, LIMITS), read_stream(file, LIMITS)):
            assert isinstance(found, Reason) and found.code == "cannot_open"


def test_run_is_ended_at_its_time_limit(moving: Path) -> None:
    with moving.open("rb") as file:
        done = run_ffmpeg(
            file, ("-f", "null", "-"), VideoLimits(timeout_s=0.5), before=("-stream_loop", "-1", "-re")
        )
    assert done.problem == "timeout"


def test_run_is_ended_when_it_writes_too_much(moving: Path) -> None:
    with moving.open("rb") as file:
        done = run_ffmpeg(file, ("-f", "rawvideo", "pipe:1"), LIMITS, max_output=1000)
    assert done.problem == "too_much_output"


def test_run_gives_output_and_log(moving: Path) -> None:
    with moving.open("rb") as file:
        file.read(100)  # wherever the file stands, ffmpeg begins at its beginning
        done = run_ffmpeg(file, ("-frames:v", "1", "-f", "rawvideo", "pipe:1"), LIMITS)
    assert (done.status, done.problem, len(done.stdout)) == (0, "", 64 * 48 * 3 // 2)
    assert "Video: h264" in done.log


def test_run_cannot_write_a_file(moving: Path, tmp_path: Path) -> None:
    with moving.open("rb") as file:
        done = run_ffmpeg(file, ("-f", "rawvideo", str(tmp_path / "out.raw")), LIMITS)
    assert done.status != 0
    assert not (tmp_path / "out.raw").exists() or (tmp_path / "out.raw").stat().st_size == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal on a parent's death is Linux's")
def test_run_dies_with_the_process_that_started_it(moving: Path) -> None:
    script = (
        "import sys\n"
        "from components.config.video import VideoLimits\n"
        "from components.curate.video.ffmpeg import run_ffmpeg\n"
        "with open(sys.argv[1], 'rb') as file:\n"
        "    run_ffmpeg(file, ('-f', 'null', '-'), VideoLimits(), before=('-stream_loop', '-1', '-re'))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(moving)])
    found: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not found:
            found = [each for each in psutil.Process(parent.pid).children() if _loops(each)]
            time.sleep(0.02)
        assert len(found) == 1
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs(found, timeout=60)[1] == []


def _loops(process: psutil.Process) -> bool:
    try:
        return "-stream_loop" in process.cmdline()
    except psutil.NoSuchProcess:
        return False  # it only asked for the protocols


def test_last_error_is_what_was_wrong_without_addresses() -> None:
    log = "[mov @ 0x5581] moov atom not found\nError opening input file fd:.\nError opening input files: no\n"
    assert runner.Finished(1, b"", log).last_error == "moov atom not found"
    assert runner.Finished(3, b"", "").last_error == "status 3"


def test_ffmpeg_that_cannot_read_a_descriptor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "ffmpeg"
    old.write_text("#!/bin/sh\necho file pipe\n")
    old.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(old))
    ffmpeg.cache_clear()
    try:
        with pytest.raises(ConfigError, match="file descriptor"):
            ffmpeg()
    finally:
        ffmpeg.cache_clear()
