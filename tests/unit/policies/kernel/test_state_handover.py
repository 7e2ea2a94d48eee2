"""A branch takes over the state of its path: from any position on it acts as the answer itself would have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forkpoint_policies.compile.program import Action, Program
from forkpoint_policies.kernel.record_flags import RULES_SHIFT
from forkpoint_policies.kernel.state_handover import HISTORY_BINS, Past, Path, bins_of
from forkpoint_policies.kernel.stateful_actions import StatefulActions
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Record, Request, compiled, policy, random_logits, rule, step
from tests.unit.policies.vocabularies import END_THINK, SIZE, token, tokens

BRANCH = rule(branch={})
RULES: dict[str, list[dict[str, Any]]] = {
    "counts": [rule({"at_most": 5, "entropy_above": 0.3}, temperature=0.2)],
    "quantile": [rule({"entropy_quantile_above": 0.6}, suppress={"words": ["so"]})],
    "mean entropy": [rule({"mean_entropy_below": 2.6, "mean_entropy_window": 6}, truncate={"top_k": 3})],
    "confidence": [rule({"confidence_below": 14.0, "confidence_window": 6}, truncate={"top_k": 3})],
    "before": [rule({"previous": {"words": ["wait"], "endings": ["."]}, "probability": 0.7}, temperature=0.5)],
    "since": [rule({"since_connector_below": 9}, suppress={"connectors": ["reflection"], "bias": -4.0})],
    "positions": [rule(control={"like": rule({"entropy_above": 0.5}, temperature=0.3), "match": "positions"})],
    "past entropy": [rule(control={"like": rule(temperature={"base": 0.8, "exponent": 1.5}), "match": "positions"})],
    "words": [
        rule({"region": "reasoning"}, suppress={"words": ["wait", "double-check"]}),
        rule({"region": "answer"}, temperature=2.0),
    ],
    "action state": [rule({"entropy_above": 0.3}, adaptive_top_n_sigma={"sure": 1.5, "unsure": 0.5, "tokens": 5})],
    "action state of a placebo": [
        rule(
            control={
                "like": rule({"entropy_above": 0.3}, adaptive_top_n_sigma={"sure": 1.5, "unsure": 0.5}),
                "match": "positions",
            }
        )
    ],
    "texts": [rule({"at_most": 2}, force={"text": "so, wait", "instead_of": {"words": ["so"]}})],
}
LENGTH = 24


def generated(seed: int) -> list[int]:
    """An answer with words, pieces of words, an end of the reasoning, and anything."""
    random = np.random.default_rng(seed)
    parts = [tokens("so"), tokens(", wait"), tokens("."), [token("Wa")], tokens("double-"), [END_THINK]]
    answer: list[int] = []
    while len(answer) < LENGTH:
        some = (
            parts[random.integers(len(parts) - (len(answer) < LENGTH / 2))]
            if random.random() < 0.6
            else [int(random.integers(8, SIZE))]
        )
        answer += some
    return answer[:LENGTH]


def evaluate(slots: PolicySlots, slot: int, position: int, last: int, logits: Tensor) -> tuple[Record, Tensor]:
    changed = logits[None].clone()
    return step(slots, [slot], [position], [last], changed), changed


def past_of(records: list[Record], program: Program) -> Past:
    """The records of the first tokens, as the server has them."""
    rules = len(program.rules)
    flags = torch.cat([record.flags for record in records])
    extra = torch.cat([record.inherited for record in records]).numpy()
    past = Past(
        entropy=torch.cat([record.numbers[:, 0] for record in records]).numpy(),
        fired=(flags[:, None] >> torch.arange(RULES_SHIFT, RULES_SHIFT + rules) & 1).bool().numpy(),
        confidence=extra[:, 0],
        held=extra[:, 1 : 1 + rules],
        placed=extra[:, 1 + rules :],
        known=np.ones(len(records), np.bool_),
    )
    actions = StatefulActions(program)
    return replace(past, actions=actions.after(actions.first, past, 0, len(records)))


def branched(payload: PolicyPayload, program: Program, path: list[int], records: list[Record]) -> PolicyPayload:
    """The payload of a request that goes on after these tokens."""
    came = Path(program, payload.word_state, payload.region).follow(path)
    return msgspec.structs.replace(
        payload,
        handle=payload.handle + 1,
        word_state=came.word_state,
        region=came.region,
        num_shared_tokens=len(path),
        inherited=came.inherit(past_of(records, program)),
    )


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), num_shared=st.integers(1, LENGTH - 4))
def test_a_branch_continues_exactly_like_the_answer_it_forked_from(name: str, seed: int, num_shared: int) -> None:
    program = compiled(policy(*RULES[name], BRANCH))
    answer, logits = generated(seed), random_logits(LENGTH + 1, SIZE, seed=seed, scale=2.0)
    slots = PolicySlots(2, SIZE, CPU)
    first = Request(program, seed=seed).payload()
    slots.add(0, first, 1.0, [])
    records, after = [], []
    for position in range(LENGTH):
        record, changed = evaluate(slots, 0, position, answer[position - 1] if position else 0, logits[position])
        records.append(record)
        after.append(changed)
    if records[num_shared - 1].flags[0] & 4:
        return  # a text is being written: no fork there
    payload = branched(first, program, answer[:num_shared], records[:num_shared])
    slots.add(1, payload, 1.0, [])
    for position in range(num_shared, LENGTH):
        record, changed = evaluate(slots, 1, position - num_shared, answer[position - 1], logits[position])
        assert torch.equal(changed, after[position]), position
        assert int(record.flags[0]) == int(records[position].flags[0])
        assert int(record.position[0]) == position
        assert torch.equal(record.numbers, records[position].numbers)


def test_a_branch_of_a_branch_inherits_from_both() -> None:
    """The records of the trunk followed by those of the first branch are the records of one answer: nothing else is
    needed."""
    program = compiled(policy(rule({"at_most": 3}, temperature=0.5), BRANCH))
    slots, logits = PolicySlots(3, SIZE, CPU), random_logits(SIZE)
    payload = Request(program).payload()
    slots.add(0, payload, 1.0, [])
    records = [evaluate(slots, 0, position, 9, logits)[0] for position in range(2)]
    slots.add(1, branched(payload, program, [9, 10], records), 1.0, [])
    records.append(evaluate(slots, 1, 0, 10, logits)[0])
    slots.add(2, branched(payload, program, [9, 10, 11], records), 1.0, [])
    heated = RULES_SHIFT + next(index for index, one in enumerate(program.rules) if one.action == Action.TEMPERATURE)
    assert [int(record.flags[0]) >> heated & 1 for record in records] == [1, 1, 1]
    assert [int(evaluate(slots, 2, position, 12, logits)[0].flags[0]) >> heated & 1 for position in (0, 1)] == [
        0,
        0,
    ]


def test_a_missing_record_is_noticed() -> None:
    program = compiled(policy(BRANCH))
    nothing = np.zeros((1, 1), np.float32)
    past = Past(nothing[0], nothing.astype(np.bool_), nothing[0], nothing, nothing, np.ones(1, np.bool_))
    with pytest.raises(ValueError, match="2 tokens, but records of 1"):
        Path(program, 0, 1).follow([1, 2]).inherit(past)


def test_bins_are_those_of_the_device() -> None:
    from forkpoint_policies.kernel.conditions import _bin

    entropy = np.geomspace(1e-5, 30, 5000).astype(np.float32)
    assert np.array_equal(bins_of(entropy), _bin(torch.from_numpy(entropy)).numpy())
    assert bins_of(entropy).max() == HISTORY_BINS - 1
