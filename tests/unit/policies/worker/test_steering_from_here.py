"""Rules whose vector the token before is read with: decided before a forward, and recorded alike after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.steering.hooks import Buffers
from forkpoint_policies.worker.steering.shared import STEERING, Requests
from tests.unit.policies.factories import CPU, Json, Request, fired, policy, random_logits, rule, step
from tests.unit.policies.hidden.artefact_files import VECTOR
from tests.unit.policies.vocabularies import END_THINK, SIZE, TARGET, tokens
from tests.unit.policies.worker.attached_buffers import attached

LAYER, PROMPT_LEN, MAX_TOKENS = 2, 5, 64
SERVED = replace(TARGET, artefacts={"calm": VECTOR}, hidden_layers=(LAYER, 10))
HERE: Json = {"vector": "calm", "from": "here"}
TEXT = [*tokens("so| |wait| |now| |but| |x|y| |wait|\n\n|now| |so| |so"), END_THINK, *tokens("wait| |x| |wait|y")]
_handles = count(1)
WAIT = {"previous": {"words": ["wait"]}}


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, request.param)


@pytest.fixture(autouse=True)
def buffers() -> Iterator[Buffers]:
    """Those of a model with two hooked layers."""
    with attached(MAX_TOKENS, SERVED.hidden_layers) as made:
        yield made


class Writing:
    """One request in a slot, whose model writes a given text: a forward and a step for each of its tokens."""

    def __init__(
        self, buffers: Buffers, own: Policy, text: Sequence[int] = TEXT, seed: int = 0, slot: int = 1, depth: int = 1
    ) -> None:
        self.slots, self.buffers, self.text, self.slot = PolicySlots(4, SIZE, CPU, depth), buffers, list(text), slot
        self.program = compile_policy(own, SERVED).program
        self.seed, self.handle = seed, next(_handles)
        self.scales: dict[int, float] = {}
        """What each token was read with, by its number in the answer; negative in the prompt."""
        self.fired: list[list[int]] = []
        """The rules of the program that the record says fired at each position."""
        self.enter([])

    def enter(self, generated: list[int]) -> None:
        request = Request(self.program, handle=self.handle, seed=self.seed)
        self.slots.add(self.slot, request.payload(), 1.0, generated)

    def forward(self, first: int, last: int, drafts: Sequence[int] = ()) -> None:
        """Compute the tokens from `first` to before `last`, by their numbers in the answer, beside another request. The
        last ones are these drafts."""
        whole = [*range(PROMPT_LEN), *self.text]
        whole[PROMPT_LEN + last - len(drafts) : PROMPT_LEN + last] = drafts
        own = torch.arange(first + PROMPT_LEN, last + PROMPT_LEN)
        positions = torch.cat((torch.arange(2), own))
        requests = Requests(
            np.array([-1, self.slot], np.int32), torch.tensor([2, PROMPT_LEN]), np.array([0, len(drafts)])
        )
        ids = torch.tensor([0, 0, *(whole[at] for at in own.tolist())])
        STEERING.place(requests, torch.tensor([0, 2, 2 + len(own)]), positions, ids)
        found = self.buffers.scale * self.buffers.tables[LAYER][self.buffers.row_of].norm(dim=1).sign()
        assert not found[:2].any(), "of the other request"
        for number, at in enumerate(range(first, last)):
            self.scales[at] = float(found[2 + number])

    def write(self, until: int) -> None:
        """Write the next tokens, up to so many in all."""
        for position in range(len(self.fired), until):
            self.forward(position - 1 if position else -PROMPT_LEN, position)
            last = self.text[position - 1] if position else 0
            record = step(self.slots, [self.slot], [position], [last], random_logits(1, SIZE, seed=position))
            self.fired.append(fired(record))

    def read_with(self) -> list[int]:
        """The numbers of the tokens that were read with the vector."""
        return [at for at, scale in sorted(self.scales.items()) if scale]


def written(buffers: Buffers, *rules: Json, seed: int = 0) -> Writing:
    found = Writing(buffers, parse_policy(policy(*rules)), seed=seed)
    found.write(len(TEXT))
    return found


def decided(found: Writing, rule: int = 0) -> list[int]:
    return [position for position, rules in enumerate(found.fired) if rule in rules]


def test_the_token_before_is_read_with_the_vector(buffers: Buffers) -> None:
    found = written(buffers, rule(WAIT, steer={**HERE, "scale": -2.0}))
    after = [at + 1 for at, one in enumerate(TEXT) if one == tokens("wait")[0]]
    assert decided(found) == after
    assert found.read_with() == [at - 1 for at in after]
    assert {found.scales[at] for at in found.read_with()} == {-2.0}


@pytest.mark.parametrize(
    "when",
    [
        {**WAIT, "region": "reasoning"},
        {"every": 3, "after_token": 2, "before_token": 15},
        {"probability": 0.5},
        {"probability": {"shape": "linear", "start": 1.0, "end": 0.0, "over": 20}},
        {"previous": {"words": ["wait", "so"]}, "at_most": 3},
        {"words": ["wait"], "since_connector_below": 3, "region": "answer"},
        {},
    ],
    ids=["region", "positions", "chance", "chance by position", "at most", "since a connector", "everywhere"],
)
@pytest.mark.parametrize("num_tokens", [1, 3])
def test_what_the_record_says_is_what_was_read_so(buffers: Buffers, when: Json, num_tokens: int) -> None:
    found = written(buffers, rule(when, steer={**HERE, "tokens": num_tokens}), seed=5)
    at = decided(found)
    assert at
    assert 0 not in at, "the token before is the prompt's"
    expected = {position - 1 + ahead for position in at for ahead in range(num_tokens)}
    assert found.read_with() == sorted(one for one in expected if one < len(TEXT) - 1)


def test_placebos_are_decided_before_too(buffers: Buffers) -> None:
    own = parse_policy(policy(rule(WAIT, steer=HERE)))
    elsewhere = Writing(buffers, placebo_of(own, "positions"), seed=3)
    elsewhere.write(len(TEXT))
    assert elsewhere.read_with() == [at - 1 for at in decided(elsewhere)]
    assert decided(elsewhere)
    direction = Writing(buffers, placebo_of(own, "direction"))
    direction.write(len(TEXT))
    assert direction.read_with() == written(buffers, rule(WAIT, steer=HERE)).read_with()


def test_beside_other_rules_a_text_that_is_written_does_not_take_it_back(buffers: Buffers) -> None:
    """Whether another rule forces a text is known only after the forward."""
    found = written(
        buffers,
        rule({"entropy_above": 0.0, "every": 4}, observe={}),
        rule({"every": 4, "after_token": 4}, force={"text": "so so"}),
        rule({"every": 4, "after_token": 4}, steer={"vector": "calm", "scale": 3.0}),
        rule({"every": 4}, steer={**HERE, "scale": 1.0}),
    )
    assert decided(found, rule=0) == list(range(4, len(TEXT), 4))  # of the program, in which it is the first
    assert [at for at, scale in found.scales.items() if scale == 1.0] == list(range(3, len(TEXT) - 1, 4))
    assert 3.0 not in found.scales.values(), "no other rule acts where a text is forced"


def test_of_decisions_at_one_position_that_after_the_forward_is_the_later_one(buffers: Buffers) -> None:
    found = written(
        buffers,
        rule({"every": 4}, steer={"vector": "calm", "scale": 3.0}),
        rule({"every": 4}, steer={**HERE, "scale": 1.0, "tokens": 3}),
    )
    assert [found.scales[at] for at in range(3, 8)] == [1.0, 3.0, 1.0, 0.0, 1.0]


def test_a_request_in_shadow_records_and_adds_nothing(buffers: Buffers) -> None:
    own = parse_policy(policy(rule(WAIT, steer=HERE), shadow=True))
    slots = PolicySlots(4, SIZE, CPU)
    slots.add(1, Request(compile_policy(own, SERVED).program).payload(), 1.0, [])
    assert not STEERING.changes(np.array([1]))
    last = TEXT[:3]
    assert [fired(step(slots, [1], [at], [last[at - 1] if at else 0], random_logits(1, SIZE))) for at in range(4)] == [
        [],
        [],
        [],
        [0],
    ]


@pytest.mark.parametrize("pieces", [[(-PROMPT_LEN, 12)], [(-PROMPT_LEN, -2), (-2, 1), (1, 8), (8, 12)]])
def test_a_preempted_request_is_computed_again_as_it_was(buffers: Buffers, pieces: list[tuple[int, int]]) -> None:
    """At once or in pieces; from then on it is as one that was never preempted."""
    own = parse_policy(policy(rule({"probability": 0.6, "at_most": 9}, steer={**HERE, "tokens": 2})))
    whole = Writing(buffers, own, seed=2)
    whole.write(len(TEXT))
    whole.slots.remove(whole.slot)
    found = Writing(buffers, own, seed=2)
    found.write(12)
    before = dict(found.scales)
    found.slots.remove(found.slot)
    found.slot = 3
    found.enter(TEXT[:12])
    for first, last in pieces:
        found.forward(first, last)
        record = step(found.slots, [3], [12], [TEXT[last - 1] if last > 0 else 0], random_logits(1, SIZE))
    found.fired.append(fired(record))
    assert {at: found.scales[at] for at in before} == before
    found.write(len(TEXT))
    assert found.scales == whole.scales
    assert found.fired == whole.fired


def test_it_does_not_depend_on_who_else_is_steered(buffers: Buffers) -> None:
    own: Any = policy(rule({"probability": 0.5}, steer=HERE))
    alone = Writing(buffers, parse_policy(own), seed=4)
    alone.write(len(TEXT))
    beside = Writing(buffers, parse_policy(own), seed=4, slot=2)
    other = compile_policy(parse_policy(policy(rule(WAIT, steer={**HERE, "tokens": 4}))), SERVED).program
    beside.slots.add(0, Request(other, handle=next(_handles)).payload(), 1.0, [])
    beside.write(len(TEXT))
    assert beside.scales == alone.scales
