"""Before a run, placebos of another dose than their policy's get the strength at which they have it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.ab import run
from forkpoint_clients.ab.arms import Arm, arm
from forkpoint_clients.ab.dose_matching import DoseMatch, match_doses
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.dose_search import CLOSE
from tests.unit.clients.stub_server import StubServer, completion, error, stub_server

ITEMS = [Item(f"q{number}", ({"role": "user", "content": f"{number}?"},), number) for number in range(6)]
TOKENS = 100
POLICY_DOSE = 0.05


def dose_of(policy: Any, plain: float = 0.004) -> float:
    """Of the stub's policies: a placebo by dose saturates at 0.2 changed tokens per token."""
    if not isinstance(policy, dict) or "strength" not in policy.get("with", {}):
        name = policy["use"] if isinstance(policy, dict) else policy
        return {"nowait": POLICY_DOSE, "none": 0.0}.get(name, plain)
    strength: float = policy["with"]["strength"]
    return 0.2 * strength**2 / (strength**2 + 30.0)


class Stub:
    """A Forkpoint whose placebos have these doses."""

    def __init__(self, plain: float = 0.004, by_dose: bool = True) -> None:
        self.plain, self.by_dose = plain, by_dose

    def reply(self, body: dict[str, Any]) -> tuple[int, Any]:
        effect = TOKENS * dose_of(body["policy"], self.plain)
        return 200, completion("4", TOKENS, forkpoint={"interventions": {"suppress": {"fired": 3, "effect": effect}}})

    def route(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        if body is None:  # /policies and /models
            return 200, {"object": "list", "data": [{"id": "m"}]}
        policy = body["policy"]
        if not self.by_dose and isinstance(policy, dict) and policy.get("with", {}).get("match") == "dose":
            return 400, error("policy.with.match: must be one of count")
        return 200, {"digest": json.dumps(policy), "warnings": [], "rules": [{"action": "mask"}]}


async def matched(
    server: StubServer, folder: Path, *arms: Arm, answers: int = 8
) -> tuple[run.PreparedRun, list[DoseMatch], list[str]]:
    said: list[str] = []
    async with AsyncExitStack() as stack:
        spec = run.RunSpec(server.url, "m", "data.jsonl", ITEMS, arms)
        prepared = await run.prepare(spec, stack, retries=0)
        prepared, found = await match_doses(prepared, folder, answers, said.append)
    return prepared, found, said


NAMED = (arm("none"), arm("nowait"), arm("nowait.placebo"))


async def test_a_weak_placebo_is_matched_by_dose(tmp_path: Path) -> None:
    stub = Stub()
    with stub_server(stub.reply, stub.route) as server:
        prepared, (found,), said = await matched(server, tmp_path, *NAMED)
    assert (found.policy, found.placebo, found.answers) == ("nowait", "nowait.placebo", 8)
    assert (found.policy_dose, found.as_named) == pytest.approx((POLICY_DOSE, 0.004))
    assert found.strength == pytest.approx(10**0.5, rel=0.1), "0.2 s² / (s² + 30) is 0.05 at s² = 10"
    assert found.dose == pytest.approx(POLICY_DOSE, rel=CLOSE)
    policy = {"use": "nowait.placebo", "with": {"match": "dose", "strength": found.strength}}
    assert prepared.policies["nowait.placebo"] == prepared.run.arms[2].policy == policy
    assert prepared.configuration["arms"][2]["policy"] == policy
    assert prepared.digests["nowait.placebo"] == json.dumps(policy)
    assert prepared.policies["nowait"] == "nowait"
    assert "it is matched by dose instead" in said[-1]
    seeds = {body["seed"] for body in server.requests}
    assert len(seeds) == 8
    assert not seeds & {run.seed_of(0, item.id, sample) for item in ITEMS for sample in range(9)}, "none of the run's"


async def test_the_strength_is_stored_and_nothing_is_requested_again(tmp_path: Path) -> None:
    stub = Stub()
    with stub_server(stub.reply, stub.route) as server:
        _, first, _ = await matched(server, tmp_path, *NAMED)
        before = len(server.requests)
        assert (await matched(server, tmp_path, *NAMED))[1] == first
        (tmp_path / "doses.json").unlink()  # as if it had been stopped just before
        assert (await matched(server, tmp_path, *NAMED))[1] == first
        assert len(server.requests) == before
        other = (arm("none"), arm("a=nowait"), arm("b=nowait.placebo"))
        (renamed,) = (await matched(server, tmp_path, *other))[1]
        assert (renamed.policy, renamed.placebo, renamed.strength) == ("a", "b", first[0].strength)
        assert len(server.requests) == before, "of the same policies"


async def test_an_equal_dose_is_left_as_it_is(tmp_path: Path) -> None:
    stub = Stub(plain=0.042)
    with stub_server(stub.reply, stub.route) as server:
        prepared, (found,), _ = await matched(server, tmp_path, *NAMED)
        assert len(server.requests) == 16
    assert found.strength is None
    assert found.dose == pytest.approx(0.042)
    assert prepared.policies["nowait.placebo"] == "nowait.placebo"


async def test_a_placebo_that_cannot_be_matched_by_dose_is_left_as_it_is(tmp_path: Path) -> None:
    stub = Stub(by_dose=False)
    with stub_server(stub.reply, stub.route) as server:
        prepared, (found,), said = await matched(server, tmp_path, *NAMED)
    assert found.strength is None
    assert prepared.policies["nowait.placebo"] == "nowait.placebo"
    assert "not equal, and it cannot be matched by dose" in said[-1]


async def test_a_kind_of_match_that_was_requested_is_left_as_it_is(tmp_path: Path) -> None:
    counted = arm('nowait.placebo={"use": "nowait.placebo", "with": {"match": "count"}}')
    stub = Stub()
    with stub_server(stub.reply, stub.route) as server:
        assert not (await matched(server, tmp_path, arm("nowait"), counted))[1]
        assert not (await matched(server, tmp_path, arm("none"), arm("nowait.placebo")))[1], "without its policy"
        assert not server.requests
