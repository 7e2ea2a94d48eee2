"""Which of several experiments a request belongs to."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from starlette.datastructures import Headers

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_server import metrics
from forkpoint_server.calibration.profile import parse_profile
from forkpoint_server.calibration.threshold import Threshold
from forkpoint_server.experiments import service
from forkpoint_server.experiments.service import UNREACHABLE, Experiments
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.store.executor import in_thread
from forkpoint_server.store.experiments import Definitions, StoredExperiment
from tests.unit.server.experiments.factories import running

from .factories import HALVES, REGISTRY, apply, changed, compile_one, define

CHAT = "/v1/chat/completions"


async def test_precedence_and_layers() -> None:
    """Higher priority first, then the older one; requests outside of one experiment go on to the next."""
    old = define(1, name="old", unit="user", layer="l", traffic=[0, 0.5])
    new = define(2, name="new", unit="user", layer="l", traffic=[0.5, 1])
    urgent = define(3, name="urgent", unit="user", priority=1, arms=[{**arm, "weight": 0.1} for arm in HALVES])
    users = [f"user-{number}" for number in range(2000)]

    async def shares(*stored: StoredExperiment) -> dict[str, set[str]]:
        experiments = await running(*stored)
        found: dict[str, set[str]] = {}
        for user in users:
            enrolment = experiments.enrol(CHAT, {"user": user}, Headers())
            found.setdefault(enrolment.live.stored.name if enrolment else "", set()).add(user)
        return found

    both, all_three = await shares(old, new), await shares(old, new, urgent)
    assert set(both) == {"old", "new"}
    assert len(both["old"]) == pytest.approx(1000, abs=80)
    assert len(all_three["urgent"]) == pytest.approx(400, abs=60)
    assert all_three["old"] == both["old"] - all_three["urgent"]
    assert (await shares(old, new, changed(urgent, status="paused"))) == both
    overlapping = define(4, name="late", unit="user")
    assert set(await shares(overlapping, define(5, name="later", unit="user"))) == {"late"}


async def test_a_paused_arm_gets_no_requests_and_retains_its_units() -> None:
    first, second = define(1, unit="user"), define(2, name="two", unit="user")
    users = [f"user-{number}" for number in range(200)]
    before = await running(first, second)
    paused = await running(changed(first, arms=[{"name": "calm", "status": "paused"}]), second)
    again = await running(
        changed(
            changed(first, arms=[{"name": "calm", "status": "paused"}]), arms=[{"name": "calm", "status": "running"}]
        )
    )
    for user in users:
        was, now, then = (found.enrol(CHAT, {"user": user}, Headers()) for found in (before, paused, again))
        assert was is not None
        assert then is not None
        assert then.arm.name == was.arm.name
        if was.arm.name == "calm":
            assert now is None  # nor does the next experiment get them
        else:
            assert now is not None
            assert now.arm.name == was.arm.name


async def test_an_experiment_that_the_model_cannot_express_does_not_run_here() -> None:
    wrong = define(
        arms=[
            {"name": "a", "weight": 0.5},
            {"name": "b", "weight": 0.5, "policy": {"rules": [{"do": {"suppress": {"token_ids": [10**6]}}}]}},
        ]
    )
    experiments = await running(wrong, define(2, name="two"))
    assert "there is no token 1000000" in experiments.problems["one"]
    enrolment = experiments.enrol(CHAT, {}, Headers())
    assert enrolment is not None
    assert enrolment.live.stored.name == "two"


async def test_what_is_paused_or_stopped_leaves_the_traffic_while_the_compiler_is_busy() -> None:
    """An experiment's policies never change, so no change of it waits for the compiler, nor for another experiment."""
    let_go = asyncio.Event()
    let_go.set()

    async def compile_slowly(labeled: LabeledPolicy) -> CompiledPolicy:
        await let_go.wait()
        return await compile_one(labeled)

    experiments = Experiments(create_engine("sqlite://"), REGISTRY, compile_slowly, 16)
    first, second = define(1, unit="user"), define(2, name="two", unit="user")
    await apply(experiments, first, second)
    assert running_in(experiments) == ["one", "two"]
    let_go.clear()
    third = define(3, name="three", unit="user", priority=1)
    await experiments.apply(Definitions(2, (changed(first, status="paused"), second, third), {}))
    assert running_in(experiments) == ["two"]
    calm = changed(second, arms=[{"name": "calm", "status": "paused"}])
    await experiments.apply(Definitions(3, (changed(first, status="running"), calm, third), {}))
    assert running_in(experiments) == ["one", "two"]
    enrolments = [experiments.enrol(CHAT, {"user": str(number)}, Headers()) for number in range(50)]
    assert {one.live.stored.name for one in enrolments if one is not None} == {"one"}
    await experiments.apply(Definitions(4, (calm, changed(third, status="paused")), {}))
    assert running_in(experiments) == ["two"]
    assert {one.paused for one in experiments._running[0].arms} == {True, False}
    let_go.set()
    await experiments.compiled(3)
    assert running_in(experiments) == ["two"], "it was paused while it was compiled"
    await experiments.apply(Definitions(5, (calm, third), {}))
    assert running_in(experiments) == ["three", "two"]
    await experiments.stop()


async def test_a_calibration_of_another_server_is_noticed(database: Engine) -> None:
    noticed: list[float] = []
    threshold = Threshold(database, "org/model", lambda: ["m"])

    async def follow() -> None:
        if await in_thread(threshold.follow):
            noticed.append(threshold.nats)

    experiments = Experiments(database, REGISTRY, compile_one, 16)
    experiments.on_change = follow
    await experiments.refresh()
    assert noticed == []
    profile = {
        "model": "m", "fork_threshold": 0.5, "interval": [0.4, 0.6], "share_below_0_01": 0.7, "tokens": 1000,
        "prompts_digest": "ab",
    }  # fmt: skip
    Threshold(database, "org/model", lambda: ["m"]).write(parse_profile(profile))
    await experiments.refresh()
    await experiments.refresh()
    assert noticed == [0.5]
    await experiments.stop()


async def test_an_experiment_that_is_deleted_while_it_is_compiled_never_runs() -> None:
    async def never(labeled: LabeledPolicy) -> CompiledPolicy:
        await asyncio.Event().wait()
        raise AssertionError

    experiments = Experiments(create_engine("sqlite://"), REGISTRY, never, 16)
    await experiments.apply(Definitions(1, (define(1),), {}))
    (task,) = experiments._compiling.values()
    await experiments.apply(Definitions(2, (), {}))
    await asyncio.wait([task])
    assert (task.cancelled(), running_in(experiments), experiments._compiling) == (True, [], {})


async def test_only_stored_policies_that_changed_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Any] = []

    def parse(policy: Any) -> Policy:
        parsed.append(policy)
        return parse_policy(policy)

    monkeypatch.setattr(service, "parse_policy", parse)
    experiments = await running()
    first, second = ({"name": name, "rules": [{"do": {"temperature": 0.5}}]} for name in ("first", "second"))
    await apply(experiments, first=first, second=second)
    assert parsed == [first, second]
    assert {"first", "second"} <= {named.policy.name for named in REGISTRY}
    hotter = {**second, "rules": [{"do": {"temperature": 1.5}}]}
    await apply(experiments, first=dict(first), second=hotter, broken={"rules": 7})
    assert parsed == [first, second, hotter, {"rules": 7}]
    await apply(experiments)
    assert not {"first", "second"} & {named.policy.name for named in REGISTRY}


async def test_series_of_deleted_policies_and_stopped_experiments_disappear() -> None:
    stored = define(1, unit="user")
    experiments = await running(stored)
    await apply(experiments, stored, mine={"name": "mine", "rules": [{"do": {"temperature": 0.5}}]})
    for policy, arm in (("mine", ""), ("mine.placebo", ""), ("none", "one/control"), ("nowait", "one/calm")):
        metrics.REQUESTS.labels("m", policy, arm, "stop").inc()
    experiments.enrol(CHAT, {}, Headers(), "m")
    assert _shown("m") == {"mine", "mine.placebo", "none", "nowait", "one", "one/control", "one/calm"}
    await apply(experiments, changed(stored, status="paused"))
    assert _shown("m") == {"none", "nowait", "one", "one/control", "one/calm"}
    await apply(experiments, changed(stored, status="stopped"))
    assert _shown("m") == set()


def running_in(experiments: Experiments) -> list[str]:
    return list(experiments.running)


def _shown(model_name: str) -> set[str]:
    """The policies, arms and experiments of a model on the page."""
    samples = [sample for metric in metrics.ALL for family in metric.collect() for sample in family.samples]
    own = [sample.labels for sample in samples if sample.labels.get("model_name") == model_name]
    return {labels[name] for labels in own for name in ("policy", "arm", "experiment") if labels.get(name)}


async def test_a_database_that_has_not_answered_for_long_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the poll that would find that out still waits for it."""
    experiments = await running()
    experiments._task = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    assert experiments.warnings() == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + service.STALE_SECONDS + 1)
    assert experiments.warnings() == [UNREACHABLE]
    monkeypatch.undo()
    await experiments.stop()
