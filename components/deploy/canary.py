"""The canary controller: rising weights, looks at both arms, the rollback while requests run."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from components.config import DeployConfig
from components.deploy.gateway import Gateway
from components.deploy.replay import Attempt, Question, connect, replay
from components.deploy.vllm import Arm
from components.gates.canary import ArmCounts, Budget, Decision, Verdict, decide
from components.gates.result import GateResult
from components.progress import Bar

STABLE, CANARY = "stable", "canary"


@dataclass
class Outcome:
    """What the canary came to, with its evidence."""

    verdict: Verdict = "inconclusive"
    reason: str = ""
    gates: tuple[GateResult, ...] = ()
    attempts: list[Attempt] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Per step: weight, what each arm did, the looks."""
    requests: int = 0
    unanswered: int = 0

    def timeline(self) -> dict[str, Any]:
        """JSON for the report."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "requests": self.requests,
            "unanswered": self.unanswered,
            "steps": self.steps,
        }


class Canary:
    """One candidate on trial behind the gateway."""

    def __init__(
        self, gateway: Gateway, candidate: Arm, questions: Sequence[Question], config: DeployConfig
    ) -> None:
        self._gateway, self._candidate, self._questions, self._config = (
            gateway,
            candidate,
            questions,
            config,
        )
        self._looks = len(config.weights) * config.looks_per_step
        self._budget = Budget(
            error_rate_increase=config.max_error_rate_increase,
            accuracy_drop=config.max_accuracy_drop,
            ttft_ratio=config.max_ttft_ratio,
            alpha=config.alpha,
        )
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Walk through the weights; ends early when the candidate is rolled back."""
        config, outcome = self._config, self.outcome
        total = len(config.weights) * config.requests_per_step
        async with connect(self._gateway.endpoint, config) as client:
            with Bar("canary", total=total, unit="req") as bar:
                for step, weight in enumerate(config.weights, 1):
                    await self._split({STABLE: 1 - weight, CANARY: weight})
                    outcome.steps.append({"weight": weight, "arms": {}, "looks": []})
                    first = (step - 1) * config.requests_per_step
                    asked = self._questions[first : first + config.requests_per_step]
                    done = 0
                    async for attempts in replay(client, asked, config, step=step, first=first):
                        done += 1
                        self._count(attempts)
                        await self._look(step, done, len(asked))
                        bar.advance(note=f"canary {weight:.0%}, {outcome.verdict}")
                    self._summarize(step)
                    if outcome.verdict == "rolled_back":
                        break
        self._close()
        return outcome

    async def _look(self, step: int, done: int, asked: int) -> None:
        """Compare the arms when a look is due; take the candidate out when it must go."""
        outcome, config = self.outcome, self._config
        if outcome.verdict == "rolled_back":
            return
        if not self._candidate.server.running():
            await self._roll_back("the candidate's server ended during the canary")
            return
        due = {asked * number // config.looks_per_step for number in range(1, config.looks_per_step + 1)}
        if done not in due:
            return
        last = step == len(config.weights) and done == asked
        decision = self._decide(last)
        outcome.steps[-1]["looks"].append(_look_entry(done, decision))
        outcome.verdict, outcome.reason, outcome.gates = decision.verdict, decision.reason, decision.gates
        if decision.verdict == "rolled_back":
            await self._roll_back(decision.reason)

    def _decide(self, last: bool) -> Decision:
        attempts = in_step_medians(self.outcome.attempts)
        stable = counts([each for each in attempts if each.arm == STABLE])
        canary = counts([each for each in attempts if each.arm == CANARY])
        return decide(stable, canary, self._budget, looks=self._looks, last=last)

    async def _roll_back(self, reason: str) -> None:
        """Out of traffic at once; the step's other requests are answered by the champion."""
        self.outcome.verdict, self.outcome.reason = "rolled_back", reason
        await self._split({STABLE: 1.0})

    async def _split(self, shares: dict[str, float]) -> None:
        await asyncio.to_thread(self._gateway.split, shares)

    def _count(self, attempts: list[Attempt]) -> None:
        self.outcome.attempts += attempts
        self.outcome.requests += 1
        self.outcome.unanswered += not attempts[-1].answered

    def _summarize(self, step: int) -> None:
        for arm in (STABLE, CANARY):
            own = [each for each in self.outcome.attempts if each.step == step and each.arm == arm]
            if own:
                self.outcome.steps[-1]["arms"][arm] = summary(own)

    def _close(self) -> None:
        outcome = self.outcome
        answered = GateResult(
            name="canary/every_request_answered",
            passed=outcome.unanswered == 0,
            observed=f"{outcome.unanswered} of {outcome.requests} requests without an answer",
            required="0",
            blocking=False,
            fix="read replay.parquet in the stage's logs and the servers' logs beside it",
        )
        outcome.gates = (*outcome.gates, answered)
        if outcome.verdict == "promoted" and not answered.passed:
            outcome.verdict, outcome.reason = "inconclusive", f"{answered.name}: {answered.observed}"


def counts(attempts: Sequence[Attempt]) -> ArmCounts:
    """What one arm did, for the decision."""
    answered = [each for each in attempts if each.answered]
    return ArmCounts(
        requests=len(attempts),
        errors=len(attempts) - len(answered),
        answers=len(answered),
        correct=sum(bool(each.correct) for each in answered),
        ttft_s=tuple(each.ttft_s for each in answered if each.ttft_s is not None),
    )


def in_step_medians(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts with times to first token in multiples of their step's median over both arms.

    The champion answers most in the first step and the canary in the last: were the machine busier in one
    of them, plain seconds would show it as a difference between the arms.
    """
    times: dict[int, list[float]] = {}
    for each in attempts:
        if each.ttft_s is not None:
            times.setdefault(each.step, []).append(each.ttft_s)
    medians = {step: statistics.median(values) for step, values in times.items()}
    return [
        each if each.ttft_s is None else replace(each, ttft_s=each.ttft_s / medians[each.step])
        for each in attempts
    ]


def summary(attempts: Sequence[Attempt]) -> dict[str, float | None]:
    """What one arm did, for the report: requests, errors, share of right answers, seconds."""
    own = counts(attempts)
    latencies = [each.latency_s for each in attempts if each.answered]
    return {
        "n": own.requests,
        "errors": own.errors,
        "accuracy": own.correct / own.answers if own.answers else None,
        "ttft_s": statistics.median(own.ttft_s) if own.ttft_s else None,
        "latency_s": statistics.median(latencies) if latencies else None,
    }


def _look_entry(done: int, decision: Decision) -> dict[str, Any]:
    return {
        "requests": done,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "gates": {gate.name: gate.evidence for gate in decision.gates},
    }
