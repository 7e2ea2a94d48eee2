"""Drafts of requests whose hidden states are changed: every token of the answer is read as without drafts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from forkpoint_policies.kernel.native.columns import NONE, R_POSITION
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.steering.hooks import Buffers
from forkpoint_policies.worker.steering.shared import STEERING, Requests
from tests.unit.policies.factories import Json, fired, policy, random_logits, rule, step
from tests.unit.policies.vocabularies import SIZE, tokens
from tests.unit.policies.worker.attached_buffers import attached

from .test_steering_from_here import HERE, MAX_TOKENS, SERVED, TEXT, WAIT, Writing

DEPTH = 4
NEXT: Json = {"vector": "calm"}
WRONG = tokens("y")[0]
RULES = {
    "next": [rule({"entropy_above": 1.5}, steer={**NEXT, "tokens": 2})],
    "by entropy": [rule({"entropy_above": 1.5}, steer={**NEXT, "scale": {"low": 1.0, "high": -3.0}})],
    "here": [rule(WAIT, steer={**HERE, "tokens": 2})],
    "chance": [rule({"probability": 0.5, "at_most": 6}, steer=HERE)],
    "both": [rule({"entropy_above": 1.5, "at_most": 5}, steer=NEXT), rule({"every": 3}, steer={**HERE, "scale": 2.0})],
    "always": [rule({}, steer={**NEXT, "scale": {"shape": "linear", "start": 0.0, "end": 4.0, "over": 20}})],
}


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, request.param)


@pytest.fixture(autouse=True)
def buffers() -> Iterator[Buffers]:
    with attached(MAX_TOKENS, SERVED.hidden_layers) as made:
        yield made


def logits_at(position: int) -> torch.Tensor:
    return random_logits(1, SIZE, seed=position, scale=1.0 + position % 5)


def write_with_drafts(found: Writing, random: np.random.Generator, rejecting: bool = True) -> tuple[int, int]:
    """Write the whole text, at each step with up to three drafts, some of them wrong; how many drafts were right, and
    how many of these were rejected."""
    right = lost = committed = 0
    while committed < len(TEXT):
        count = int(random.integers(0, DEPTH)) if committed else 0
        drafts = [one if random.random() < 0.8 else WRONG for one in TEXT[committed : committed + count]]
        found.forward(committed - 1 if committed else -5, committed + len(drafts), drafts)
        read = {at: found.scales[at] for at in range(committed, committed + len(drafts))}
        text = [*TEXT[:committed], *drafts]
        positions = range(committed, len(text) + 1)
        last = [text[at - 1] if at else 0 for at in positions]
        verified = torch.tensor(last)
        STEERING.drafts = verified if rejecting else None
        logits = torch.cat([logits_at(at) for at in positions])
        record = step(found.slots, [found.slot] * len(last), list(positions), last, logits)
        STEERING.drafts = None
        rejected = verified < 0
        assert (record.position < 0).tolist() == rejected.tolist()
        is_right = np.cumprod([one == own for one, own in zip(drafts, TEXT[committed:], strict=False)])
        taken = is_right * np.cumprod(~rejected[1:].numpy())
        right, lost = right + int(is_right.sum()), lost + int(is_right.sum() - taken.sum())
        accepted = int(taken.sum())
        found.fired += [fired(record, row) for row in range(accepted + 1)]
        found.scales = {at: scale for at, scale in found.scales.items() if at < committed + accepted}
        assert all(found.scales[at] == read[at] for at in range(committed, committed + accepted))
        committed += accepted + 1
    return right, lost


def without_drafts(buffers: Buffers, own: list[Json]) -> Writing:
    found = Writing(buffers, parse_policy(policy(*own)), seed=3, depth=DEPTH)
    for position in range(len(TEXT)):
        found.forward(position - 1 if position else -5, position)
        last = TEXT[position - 1] if position else 0
        found.fired.append(fired(step(found.slots, [found.slot], [position], [last], logits_at(position))))
    return found


@pytest.mark.parametrize("own", RULES.values(), ids=RULES)
def test_every_token_is_read_as_without_drafts(buffers: Buffers, own: list[Json]) -> None:
    expected = without_drafts(buffers, own)
    assert any(expected.scales.values())
    right = lost = 0
    for seed in range(8):
        found = Writing(buffers, parse_policy(policy(*own)), seed=3, depth=DEPTH)
        counts = write_with_drafts(found, np.random.default_rng(seed))
        right, lost = right + counts[0], lost + counts[1]
        found.scales.pop(len(TEXT) - 1, None)  # a draft of the last token
        assert found.scales == {at: expected.scales[at] for at in found.scales}
        assert found.fired[: len(TEXT)] == expected.fired
    assert right > lost
    if all(one["do"]["steer"].get("from") == "here" for one in own):
        assert lost == 0, "what the text decides is known before the drafts are read"


def test_without_the_rejection_drafts_are_read_otherwise(buffers: Buffers) -> None:
    own = RULES["next"]
    found = Writing(buffers, parse_policy(policy(*own)), seed=3, depth=DEPTH)
    write_with_drafts(found, np.random.default_rng(0), rejecting=False)
    expected = without_drafts(buffers, own).scales
    assert found.scales != {at: expected[at] for at in found.scales}


def test_only_the_rows_after_a_wrong_draft_of_the_same_request_are_rejected(buffers: Buffers) -> None:
    """In a batch: a request that is not steered, the steered one, and another one, each with drafts."""
    found = Writing(buffers, parse_policy(policy(rule({"every": 5}, steer=NEXT))), depth=DEPTH)
    slots = np.array([0, 0, 1, 1, 1, 1, 2, 2], np.int32)
    positions = torch.tensor([3, 4, 4, 5, 6, 7, 5, 6])  # of the tokens; the rule fires after token 4, at 5
    verified = torch.arange(10, 18)
    batch = Batch(torch.from_numpy(slots), positions, verified.clone(), torch.zeros(4, dtype=torch.int32))
    STEERING.drafts = verified
    record = found.slots.step(batch, random_logits(8, SIZE))
    STEERING.drafts = None
    assert verified.tolist() == [10, 11, 12, NONE, NONE, NONE, 16, 17]
    assert record.rows[2:6, R_POSITION].tolist() == [5, NONE, NONE, NONE]


def test_a_row_of_the_logits_is_after_the_last_token_or_a_draft() -> None:
    requests = Requests(np.array([3, -1, 5], np.int32), torch.zeros(3), np.array([2, 0, 1]))
    owner, before_end = requests.sampled_from
    assert owner.tolist() == [0, 0, 0, 1, 2, 2]
    assert before_end.tolist() == [2, 1, 0, 0, 1, 0]
