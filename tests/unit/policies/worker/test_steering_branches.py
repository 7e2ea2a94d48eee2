"""A branch reads the tokens that it shares as the answer that it leaves has read them, and decides on as it would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.steering.hooks import Buffers
from forkpoint_policies.worker.steering.shared import STEERING, Requests
from tests.unit.policies.factories import CPU, Json, Record, Request, policy, random_logits, rule, step
from tests.unit.policies.hidden.artefact_files import VECTOR
from tests.unit.policies.kernel.test_state_handover import branched
from tests.unit.policies.vocabularies import END_THINK, SIZE, TARGET, tokens
from tests.unit.policies.worker.attached_buffers import attached

LAYER, AGAIN, PROMPT_LEN, MAX_TOKENS = 2, 3, 5, 64
SERVED = replace(TARGET, artefacts={"calm": VECTOR}, hidden_layers=(LAYER, 10), recycle_layers=(AGAIN,))
TEXT = [*tokens("so| |wait| |now| |but| |x|y| |wait|\n\n|now| |so| |so"), END_THINK, *tokens("wait| |x| |wait|y")]
WAIT = {"previous": {"words": ["wait"]}}
CALM: Json = {"vector": "calm"}
HERE: Json = {**CALM, "from": "here"}
BRANCH = rule({"every": 6}, branch={})
LONG = rule({"every": 4}, steer={**CALM, "tokens": 3})
POLICIES: dict[str, Policy] = {
    "several tokens": parse_policy(policy(BRANCH, LONG)),
    "at most": parse_policy(policy(rule({"at_most": 3, "entropy_above": 0.1}, steer=CALM), BRANCH)),
    "a scale by entropy": parse_policy(
        policy(rule({"every": 3}, steer={**CALM, "scale": {"low": 3.0, "high": -1.0}, "tokens": 2}), BRANCH)
    ),
    "from here": parse_policy(policy(BRANCH, rule(WAIT, steer={**HERE, "tokens": 2}))),
    "from here, at most": parse_policy(policy(LONG, BRANCH, rule({**WAIT, "at_most": 2}, steer=HERE))),
    "from here, since": parse_policy(
        policy(BRANCH, rule({"words": ["wait"], "since_connector_below": 3, "region": "reasoning"}, steer=HERE))
    ),
    "from here, by chance": parse_policy(policy(rule({"probability": 0.4}, steer=HERE), BRANCH)),
    "a placebo by positions": placebo_of(parse_policy(policy(BRANCH, rule(WAIT, steer=HERE))), "positions"),
    "a layer again": parse_policy(policy(BRANCH, rule({"every": 5}, recycle={"layer": AGAIN, "tokens": 2}))),
    "both": parse_policy(policy(rule(WAIT, recycle={"layer": AGAIN, "from": "here"}), LONG, BRANCH)),
}


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, request.param)


@pytest.fixture(autouse=True)
def buffers() -> Iterator[Buffers]:
    """Those of a model with hooked layers, one of which can be run again."""
    with attached(MAX_TOKENS, SERVED.hidden_layers, [AGAIN]) as made:
        yield made


class Writing:
    """A request in a slot, after `shared` tokens of a text that its model writes on."""

    def __init__(self, slots: PolicySlots, slot: int, payload: PolicyPayload, buffers: Buffers) -> None:
        self.slots, self.slot, self.buffers, self.shared = slots, slot, buffers, payload.num_shared_tokens
        self.records: list[Record] = []
        self.read: dict[int, tuple[float, bool]] = {}
        """By the number of a token in the answer: what it was read with, and whether the layer was run again."""
        slots.add(slot, payload, 1.0, [])

    def forward(self, first: int, last: int) -> None:
        """Compute the tokens from `first` to before `last`, by their numbers in the answer; negative in the prompt."""
        whole = [*range(PROMPT_LEN), *TEXT]
        positions = torch.arange(first + PROMPT_LEN, last + PROMPT_LEN)
        requests = Requests(np.array([self.slot], np.int32), torch.tensor([PROMPT_LEN + self.shared]))
        STEERING.place(requests, torch.tensor([0, len(positions)]), positions, torch.tensor(whole)[positions])
        scale = self.buffers.scale * self.buffers.tables[LAYER][self.buffers.row_of].norm(dim=1).sign()
        for number, at in enumerate(range(first, last)):
            self.read[at] = round(float(scale[number]), 5), bool(self.buffers.again[AGAIN][number])

    def write(self, until: int, pieces: Sequence[int] = ()) -> None:
        """Write up to so many tokens. The prompt is computed in pieces, which start at these numbers, too."""
        starts = [-PROMPT_LEN, *pieces, self.shared]
        for first, last in pairwise(starts):
            self.forward(first, last)
            self.records = [self._step(last)]  # that of a piece does not count
        for position in range(self.shared + 1, until):
            self.forward(position - 1, position)
            self.records.append(self._step(position))

    def _step(self, position: int) -> Record:
        last = TEXT[position - 1] if position > 0 else 0
        logits: Tensor = random_logits(1, SIZE, seed=max(position, 0), scale=2.0)
        return step(self.slots, [self.slot], [position - self.shared], [last], logits)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("shared", [1, 13, 20])
def test_a_branch_reads_and_decides_as_the_answer_that_it_leaves(buffers: Buffers, name: str, shared: int) -> None:
    program = compile_policy(POLICIES[name], SERVED).program
    slots = PolicySlots(4, SIZE, CPU)
    payload = Request(program, seed=5).payload()
    trunk = Writing(slots, 0, payload, buffers)
    trunk.write(len(TEXT))
    assert sum(any(one) for one in trunk.read.values()) >= 2
    for slot, pieces in ((1, []), (2, [shared // 2, shared - 1] if shared > 1 else [])):
        own = branched(payload, program, TEXT[:shared], trunk.records[:shared])
        branch = Writing(slots, slot, msgspec.structs.replace(own, handle=10 + slot), buffers)
        branch.write(len(TEXT), pieces)
        assert branch.read == trunk.read
        for record, expected in zip(branch.records, trunk.records[shared:], strict=True):
            assert record.flags.tolist() == expected.flags.tolist()


def test_a_branch_that_was_preempted_reads_so_again(buffers: Buffers) -> None:
    program = compile_policy(POLICIES["several tokens"], SERVED).program
    slots, payload = PolicySlots(4, SIZE, CPU), Request(program).payload()
    trunk = Writing(slots, 0, payload, buffers)
    trunk.write(12)
    branch = Writing(slots, 1, branched(payload, program, TEXT[:9], trunk.records[:9]), buffers)
    branch.write(12)
    slots.remove(1)
    slots.add(3, branched(payload, program, TEXT[:9], trunk.records[:9]), 1.0, TEXT[9:11])
    branch.slot, branch.read = 3, {}
    branch.forward(-PROMPT_LEN, 11)
    assert branch.read == {at: one for at, one in trunk.read.items() if at < 11}


def test_in_shadow_nothing_is_taken_over(buffers: Buffers) -> None:
    program = compile_policy(POLICIES["several tokens"].in_shadow(), SERVED).program
    slots, payload = PolicySlots(4, SIZE, CPU), Request(program).payload()
    trunk = Writing(slots, 0, payload, buffers)
    trunk.write(12)
    assert any(int(record.flags[0]) >> 8 for record in trunk.records)
    inherited = branched(payload, program, TEXT[:9], trunk.records[:9]).inherited
    assert inherited is not None
    assert inherited.decisions.positions == b""
