"""The arm of a request in one experiment, and what its arms observe."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from starlette.datastructures import Headers

from forkpoint_policies.spec import InputError
from forkpoint_server.experiments.assignment import hash_of, point_of, salt_of
from forkpoint_server.experiments.live import Enrolment
from tests.unit.server.experiments.factories import running

from .factories import define, fired, live, three

CHAT = "/v1/chat/completions"
NO_HEADERS = Headers()
BRANCH: dict[str, Any] = {"rules": [{"do": {"branch": {}}}]}


async def test_a_unit_keeps_its_arm_and_has_that_of_the_published_hash() -> None:
    experiments = await running(define(unit="user"))
    for user in (f"user-{number}" for number in range(300)):
        enrolments = [experiments.enrol(CHAT, {"user": user}, NO_HEADERS) for _ in range(2)]
        point = point_of(hash_of(salt_of("one", "s"), user))
        assert [enrolment and enrolment.arm.name for enrolment in enrolments] == [
            "control" if point < 0.5 else "calm"
        ] * 2


async def test_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its unit a request is in no experiment."""
    by_user, by_header = await running(define(unit="user")), await running(define(unit="X-Account"))
    assert by_user.enrol(CHAT, {}, NO_HEADERS) is None
    assert by_user.enrol(CHAT, {"user": ""}, NO_HEADERS) is None
    assert by_user.enrol(CHAT, {"user": 7}, NO_HEADERS) is None
    assert by_user.enrol("/v1/messages", {"metadata": {"user_id": "a"}}, NO_HEADERS) is not None
    assert by_header.enrol(CHAT, {"user": "a"}, NO_HEADERS) is None
    assert by_header.enrol(CHAT, {}, Headers({"x-account": "a"})) is not None
    by_request = await running(define())
    arms = Counter(
        enrolment.arm.name for _ in range(400) if (enrolment := by_request.enrol(CHAT, {}, NO_HEADERS)) is not None
    )
    assert min(arms["control"], arms["calm"]) > 140
    by_slice = await running(define(unit="slice", slice_seconds=60))
    found = []
    for now in range(0, 60 * 60, 20):
        monkeypatch.setattr(time, "time", lambda now=now: 1_000_000_020.0 + now)
        enrolment = by_slice.enrol(CHAT, {}, NO_HEADERS)
        assert enrolment is not None
        found.append(enrolment.arm.name)
    assert found[::3] == found[1::3] == found[2::3]
    assert set(found) == {"control", "calm"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", NO_HEADERS),
        (CHAT, {"n": 17}),
        (CHAT, {"use_beam_search": True}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/responses", {"background": True}),
    ],
)
async def test_a_request_that_some_arm_cannot_apply_to_is_in_no_arm(path: str, body: dict[str, Any]) -> None:
    """Regardless of the arm that it would have been in; a paused arm does not matter."""
    arms = [{"name": "control", "weight": 0.5}, {"name": "branching", "policy": BRANCH, "weight": 0.5}]
    branching = await running(define(arms=arms))
    assert all(branching.enrol(path, body, NO_HEADERS) is None for _ in range(20))
    assert branching.enrol(CHAT, {"n": 4}, NO_HEADERS) is not None
    paused = await running(define(arms=[arms[0], {**arms[1], "status": "paused"}]))
    alone = "use_beam_search" in body or "background" in body
    assert any(paused.enrol(path, body, NO_HEADERS) for _ in range(40)) is not alone
    shadow = await running(define(arms=[arms[0], {**arms[1], "shadow": True}]))
    assert any(shadow.enrol(path, body, NO_HEADERS) for _ in range(40)) is not alone


async def test_an_acting_control_shows_no_triggers() -> None:
    found = await live(define(arms=three(placebo="nowait.placebo", nowait="nowait")))
    assert list(found.untriggered) == ["nowait"]
    shadow = [
        {"name": "shadow", "policy": "nowait", "shadow": True, "weight": 0.4},
        {"name": "nowait", "policy": "nowait", "weight": 0.4},
    ]
    same = await live(define(arms=shadow))
    assert same.untriggered == {}
    assert set(same.arms[0].detectors[0].rules) == {0, 1}
    assert set(same.arms[1].detectors[0].rules) == {1}


async def test_arms_without_policies() -> None:
    found = await live(define(arms=three(a=None, b=None)))
    assert any(isinstance(found.enrol(CHAT, {}, NO_HEADERS, 16), Enrolment) for _ in range(20))
    assert found.arms[0].detectors[0].triggered([fired()]) == 0


async def test_an_arms_policy_that_cannot_be_compiled_is_rejected() -> None:
    with pytest.raises(InputError, match="there is no token"):
        await live(define(arms=three(a=None, b={"rules": [{"do": {"suppress": {"token_ids": [10**6]}}}]})))
