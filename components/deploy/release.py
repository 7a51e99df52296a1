"""The deploy stage: register the candidate, try it against the champion, move the aliases by the verdict."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import pandas as pd

from components.artifacts import Bundle, Checkpoint, Dataset, Release, write_atomic
from components.config import DeployConfig
from components.deploy import serving, vllm
from components.deploy.arms import CONTRACT, Side, make_ready, open_registry, registered_side, stable_side
from components.deploy.canary import CANARY, STABLE, Canary, Outcome
from components.deploy.gateway import Gateway, Upstream
from components.deploy.replay import Question, choose, most_images
from components.errors import ServerError, SourceError
from components.gates.result import GateResult
from components.loader import read_samples
from components.processes import Server, free_ports, stop_all
from components.stage import Fields, Run, stage
from components.tracking.registry import RECORD, RELEASE, Registry, Version
from components.vlm import assert_contract


@stage("deploy", Release)
def deploy(
    run: Run, *, config: DeployConfig, bundle: Bundle, baseline: Checkpoint, dataset: Dataset, champion: str
) -> Fields:
    """Try a bundle against the champion behind the gateway, and release it or not.

    Args:
        bundle: The candidate.
        baseline: The checkpoint that stands in for the champion at the first release.
        dataset: Its test split is what both arms are asked.
        champion: Digest of the champion (`components.tracking.registry.incumbent`), "" at the first release.

    Raises:
        ContractMismatch: an arm's processor is not the one that was trained with.
        ServerError: the champion's server or the gateway does not come up. (A candidate that does not come
            up is rolled back instead.)
        ConfigError: `deploy.port` is taken.
    """
    serving.check_port(config)
    registry = open_registry(config)
    stable = stable_side(registry, champion, baseline, run.scratch)
    assert_contract(bundle.path / "vllm", bundle.contract)
    assert_contract(stable.directory, stable.contract)
    version = register(registry, bundle, dataset)
    candidate = Side(bundle.path / "vllm", bundle.contract, version.version)
    number = len(config.weights) * config.requests_per_step
    samples = read_samples(dataset, "test")
    questions = choose(samples, number, config.seed)
    if not questions:
        raise SourceError("the test split has no question about an image", where=str(dataset.path))

    registry.move(version, "canary")
    try:
        outcome, endpoint = roll_out(run, config, stable, candidate, questions, images=most_images(samples))
    except BaseException:
        registry.move(version, "inconclusive")  # nothing serves it any more
        raise
    version = registry.move(version, outcome.verdict)
    registry.tag(version, "verdict", outcome.verdict)
    registry.tag(version, "verdict.reason", outcome.reason)
    registry.tag(version, RELEASE, str(run.directory / "record.json"))
    _report(run, outcome)
    aliases = registry.aliases(version)
    alias = next((name for name in ("champion", "canary", "candidate") if name in aliases), None)
    fields: Fields = {
        "verdict": outcome.verdict,
        "model": config.model_name,
        "version": version.version,
        "alias": alias,
    }
    facts = fields | {"candidate": bundle.digest, "champion": champion}
    write_atomic(run.output / "release.json", json.dumps(facts, indent=1, sort_keys=True))
    return fields | {"endpoint": endpoint}


def register(registry: Registry, bundle: Bundle, dataset: Dataset) -> Version:
    """The bundle as a model version, with tags that lead back to its sources."""
    return registry.register(
        bundle.path / "vllm",
        digest=bundle.digest,
        tags={
            RECORD: bundle.record,
            "opsin.fingerprint": bundle.load_record().fingerprint,
            "opsin.dataset_version": f"{dataset.name}@{dataset.version}",
            "opsin.quantized": str(bundle.quantized).lower(),
            CONTRACT: bundle.contract,
        },
    )


def roll_out(
    run: Run,
    config: DeployConfig,
    stable: Side,
    candidate: Side,
    questions: list[Question],
    *,
    images: int,
) -> tuple[Outcome, str | None]:
    """Start both servers and the gateway, run the canary, stop or hand over.

    Args:
        images: The most that a prompt may show.

    Returns:
        The outcome, and the endpoint that lives on (None unless `deploy.keep_serving`).
    """
    servers: list[Server] = []
    try:
        ports = free_ports(2)
        arms: dict[str, vllm.Arm] = {}
        for name, side, port in ((STABLE, stable, ports[0]), (CANARY, candidate, ports[1])):
            arms[name] = vllm.start(name, side.directory, port, config, run.logs, images=images)
            servers.append(arms[name].server)
        failed = make_ready(arms, config, questions[0])
        if STABLE in failed:
            raise failed[STABLE]
        upstreams = [Upstream(name, arm.address) for name, arm in arms.items() if name not in failed]
        gateway = Gateway(upstreams, run.logs)
        servers.append(gateway.server)
        if CANARY in failed:
            outcome = _never_came_up(failed[CANARY])
        else:
            outcome = asyncio.run(Canary(gateway, arms[CANARY], questions, config).run())
        endpoint = None
        if config.keep_serving:
            name, side = (CANARY, candidate) if outcome.verdict == "promoted" else (STABLE, stable)
            gateway.split({name: 1.0})
            endpoint = serving.hand_over(config, gateway, arms[name], side.version).endpoint
            servers = [each for each in servers if each not in (arms[name].server, gateway.server)]
        return outcome, endpoint
    finally:
        stop_all(servers)


def serve_champion(config: DeployConfig, dataset: Dataset) -> serving.Serving | None:
    """Serve the registry's champion from this workspace, unless it is up already; None where there is none.

    A release that was deployed by an earlier run is not deployed again; `deploy.keep_serving` still holds.
    Another version that is being served is replaced once the champion is up.

    Raises:
        ContractMismatch: the champion's processor is not the one that was trained with.
        ServerError: its server or the gateway does not come up.
        ConfigError: `deploy.port` is taken.
    """
    home = config.execution.home
    up = serving.status(home)
    registry = open_registry(config)
    champion = registry.at("champion")
    if champion is None:
        return None
    if up is not None and up.version == champion.version:
        return up
    serving.check_port(config)
    side = registered_side(registry, champion, home / "serving")
    assert_contract(side.directory, side.contract)
    samples = read_samples(dataset, "test")
    question = choose(samples, 1, config.seed)[0]
    logs = home / "serving" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    servers: list[Server] = []
    try:
        port, images = free_ports(1)[0], most_images(samples)
        arm = vllm.start(STABLE, side.directory, port, config, logs, images=images)
        servers.append(arm.server)
        failed = make_ready({STABLE: arm}, config, question)
        if failed:
            raise failed[STABLE]
        gateway = Gateway([Upstream(STABLE, arm.address)], logs)
        servers.append(gateway.server)
        standing = serving.hand_over(config, gateway, arm, side.version)
        servers.clear()
        return standing
    finally:
        stop_all(servers)


def _never_came_up(error: ServerError) -> Outcome:
    gate = GateResult(
        name="canary/starts",
        passed=False,
        observed=error.what,
        required="the candidate's server comes up and answers a question about an image",
        blocking=False,
        fix=f"read {error.where}; the champion stays in place",
    )
    return Outcome(verdict="rolled_back", reason=f"the candidate does not serve: {error.what}", gates=(gate,))


def _report(run: Run, outcome: Outcome) -> None:
    """Leave the evidence: gates, metrics, every attempt, the timeline."""
    for gate in outcome.gates:
        run.gate(gate)
    run.metrics["requests"] = float(outcome.requests)
    run.metrics["unanswered"] = float(outcome.unanswered)
    for step, entry in enumerate(outcome.steps, 1):
        values = {f"{arm}/{key}": value for arm, own in entry["arms"].items() for key, value in own.items()}
        run.log(step, weight=entry["weight"], **{k: v for k, v in values.items() if v is not None})
    if outcome.attempts:
        pd.DataFrame([asdict(each) for each in outcome.attempts]).to_parquet(run.logs / "replay.parquet")
    write_atomic(run.logs / "canary.json", json.dumps(outcome.timeline(), indent=1))
