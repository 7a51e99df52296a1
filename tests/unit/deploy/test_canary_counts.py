"""What the controller counts before the decision."""

from __future__ import annotations

from dataclasses import replace

from components.deploy.canary import counts, in_step_medians, summary
from components.deploy.replay import Attempt

GOOD = Attempt(
    step=1, request=0, attempt=1, arm="stable", key="k", group="g", status=200, ttft_s=0.1, latency_s=0.2,
    correct=True, prediction="red", error="",
)  # fmt: skip
FAILED = replace(GOOD, status=500, ttft_s=None, correct=None, error="boom")


def test_counts_failed_attempts_are_errors_and_not_wrong_answers() -> None:
    own = counts([GOOD, replace(GOOD, correct=False), FAILED])
    assert (own.requests, own.errors, own.answers, own.correct) == (3, 1, 2, 1)
    assert summary([GOOD, FAILED])["accuracy"] == 1.0
    assert summary([FAILED])["ttft_s"] is None


def test_in_step_medians_busy_step_is_no_difference_between_arms() -> None:
    quiet = [replace(GOOD, arm=arm) for arm in ["stable"] * 9 + ["canary"]]
    busy = [replace(GOOD, step=2, ttft_s=0.4, arm=arm) for arm in ["stable"] + ["canary"] * 9]
    assert {each.ttft_s for each in in_step_medians([*quiet, *busy, FAILED])} == {1.0, None}
