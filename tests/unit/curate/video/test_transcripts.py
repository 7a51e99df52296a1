"""Transcripts in every format that they come in, and broken ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.samples import Reason
from components.curate.video.transcripts import FORMATS, Transcript, captions_of_page, read_transcript

SRT = """1
00:00:01,000 --> 00:00:03,500
Hello <i>there</i>,
two lines

2
00:01:02,000 --> 00:01:04,000
{\\an8}and more
"""
VTT = """WEBVTT - a title

NOTE nothing

intro
00:01.000 --> 00:03.500 align:start
<v Speaker>Hello there,
two lines

00:01:02.000 --> 00:01:04.000
and <c.red>more</c>
"""
TTML = """<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml"><body><div>
<p begin="1s" end="3500ms">Hello there,<br/> two lines</p>
<p begin="00:01:02" end="00:01:04">and more</p></div></body></tt>"""
SEGMENTS = [
    {"start": 1, "end": 3.5, "text": " Hello there, two lines"},
    {"start": "00:01:02.000", "end": "00:01:04.000", "text": "and more"},
]
PAGE = """<page xmlns="http://projectmallard.org/1.0/" xmlns:its="http://www.w3.org/2005/11/its"><!--
<media its:translate="no" type="video" mime="video/webm" src="figures/clip.webm"><p>Demo</p>
<tt:tt its:translate="yes" xmlns:tt="http://www.w3.org/ns/ttml"><tt:body>
<tt:div begin="1s" end="3.5s"><tt:p>Hello <input>there</input>, two <gui>lines</gui></tt:p></tt:div>
<tt:div begin="62s" end="64s"><tt:p>and more</tt:p></tt:div></tt:body></tt:tt></media>--></page>"""


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (SRT, "srt"),
        (SRT.replace("\n", "\r\n"), "srt"),
        ("\ufeff" + SRT, "srt"),
        (VTT, "vtt"),
        (TTML, "ttml"),
        (json.dumps({"language": "en", "segments": SEGMENTS}), "json"),
        (json.dumps({"timecoded_text_to_speech": SEGMENTS}), "json"),
        (json.dumps(SEGMENTS), "json"),
        (json.dumps([{"start": 1, "duration": 2.5, "text": "Hello there, two lines"}, SEGMENTS[1]]), "json"),
    ],
)
def test_subtitles_are_read_from_every_format(content: str, suffix: str) -> None:
    found = read_transcript(content.encode(), suffix)
    assert isinstance(found, Transcript)
    assert [(cue.start_s, cue.end_s, cue.text) for cue in found.cues] == [
        (1, 3.5, "Hello there, two lines"),
        (62, 64, "and more"),
    ]
    assert found.num_words == 6


def test_subtitles_are_found_in_a_page_that_shows_the_clip() -> None:
    found = captions_of_page(PAGE)
    assert list(found) == ["figures/clip.webm"]
    assert found["figures/clip.webm"].around(2) == "Hello there, two lines"
    assert captions_of_page(PAGE.replace("<tt:p>", "<tt:p><broken>")) == {}
    assert captions_of_page("<page>no clip</page>") == {}


@pytest.mark.parametrize(
    ("content", "suffix", "words"),
    [
        ("Just what is said,\nwithout times.", "txt", 6),
        (json.dumps({"transcript": "Just this."}), "json", 2),
        (json.dumps({"text": "don't stop, it's fine"}), "json", 4),
        ("今日は良い天気です", "txt", 5),
        ("", "txt", 0),
    ],
)
def test_words_are_counted_where_there_are_no_times(content: str, suffix: str, words: int) -> None:
    found = read_transcript(content.encode(), suffix)
    assert isinstance(found, Transcript)
    assert (found.cues, found.num_words) == ((), words)


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"\xff\xfe\x00", "txt"),
        (b"no arrow in it", "srt"),
        (b"00:00:05,000 --> 00:00:01,000\nbackwards\n", "srt"),
        (b"00:0x:05,000 --> 00:00:07,000\nbackwards\n", "vtt"),
        (b"<tt><p begin='1s' end='2s'>", "ttml"),
        (b'<!DOCTYPE tt [<!ENTITY a "aaaa">]><tt><p begin="1s" end="2s">&a;</p></tt>', "ttml"),
        (b'{"segments": [{"text": "no time"}]}', "json"),
        (b'{"segments": [1, 2]}', "json"),
        (b'{"segments": [{"start": NaN, "end": 1, "text": "a"}]}', "json"),
        (b"{" * 100, "json"),
        (b"x" * ((4 << 20) + 1), "txt"),
    ],
)
def test_broken_transcript_is_named(content: bytes, suffix: str) -> None:
    found = read_transcript(content, suffix)
    assert isinstance(found, Reason) and found.code == "bad_transcript"


@given(st.binary(max_size=300), st.sampled_from(FORMATS))
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str) -> None:
    assert isinstance(read_transcript(content, suffix), Transcript | Reason)


def test_words_around_a_time_are_those_said_then() -> None:
    found = read_transcript(json.dumps(SEGMENTS).encode(), "json")
    assert isinstance(found, Transcript)
    assert found.around(3.5) == ""
    assert found.around(4, 1) == "Hello there, two lines"
    assert found.around(30, 40) == "Hello there, two lines and more"
