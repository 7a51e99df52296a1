"""Clips and episodes: what is in a video file, which of its frames are worth a sample, and what is broken."""
