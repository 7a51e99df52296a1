"""What is asked of clips, and of episodes of robots."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.config.base import Frozen, execution_field


class VideoLimits(Frozen):
    """What a video file may cost before it counts as hostile."""

    max_bytes: int = Field(4 << 30, ge=1)
    max_pixels: int = Field(8192 * 4320, ge=256)
    """Of one frame."""
    max_duration_s: float = Field(4 * 3600, gt=0)
    timeout_s: float = execution_field(300.0, gt=0)
    """Seconds that one pass over a clip may take."""
    memory_mb: int = execution_field(3072, ge=256)
    """Address space of the decoder."""


class VideoFilter(Frozen):
    """What is asked of a clip (the funnel of FineVideo)."""

    limits: VideoLimits = VideoLimits()
    min_duration_s: float = Field(1.0, ge=0)
    seeks: int = Field(4, ge=1, le=64)
    """Points of a clip that must be found and decoded, its last second among them."""
    max_missing: float = Field(0.05, ge=0, le=1)
    """Share of the declared duration, and of the frames, that may be missing."""
    min_words_per_s: float = Field(0.5, ge=0)
    """Clips whose transcript says less are out; 0: any density is fine."""
    without_transcript: Literal["keep", "reject"] = "keep"
    segment_s: float = Field(60.0, gt=0)
    """Clips are judged in segments of this length."""
    max_frozen: float = Field(0.4, gt=0, le=1)
    """A segment that stands still for this share of its time, or longer, is out; a clip without a segment
    left is."""
    freeze_noise: float = Field(0.001, ge=0, le=1)
    """Mean difference of two frames (of full scale) up to which the picture stands still."""
    freeze_s: float = Field(2.0, gt=0)
    """Seconds from which on standing still counts."""
    min_change: float = Field(0.004, ge=0, le=1)
    """A sampled frame that differs less (mean, of full scale) from the sampled one before it is skipped;
    0 keeps all. A level of gray is 0.004."""


class EpisodeFilter(Frozen):
    """What is asked of an episode in LeRobot's layout."""

    limits: VideoLimits = VideoLimits()
    tolerance_s: float = Field(1e-4, gt=0)
    """How far a timestamp may be from its frame's number over the rate, and a video frame from its row's
    timestamp (LeRobot's own default)."""
    seeks: int = Field(2, ge=0, le=64)
    """Frames of every camera and episode that must decode; 0: streams are only counted."""
    min_frames: int = Field(2, ge=1)
    need_instruction: bool = True
    """Reject episodes without a task in words."""
