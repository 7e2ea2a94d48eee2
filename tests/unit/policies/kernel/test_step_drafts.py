"""Draft tokens: each row is evaluated on its own prefix, and state follows the committed tokens only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.catalog import library
from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.record_flags import DRAFT
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Record, Request, compiled, policy, random_logits, rule, step
from tests.unit.policies.vocabularies import END_THINK, SIZE, token

DEPTH = 4
EVERYTHING = compiled(
    policy(
        rule({"entropy_quantile_above": 0.5, "at_most": 6}, suppress={"words": ["wait", "so"]}),
        rule({"previous": {"words": ["so"], "endings": ["\n\n"]}, "probability": 0.7}, force={"text": "Wait but"}),
        rule({"since_connector_below": 3}, amplify={"connectors": ["reflection"], "bias": 1.0}),
        rule({"confidence_below": 6.0, "confidence_window": 3}, temperature=1.5),
        rule({"mean_entropy_below": 3.0, "mean_entropy_window": 3}, temperature=0.9),
        rule({"region": "reasoning"}, force={"text": "Hmm", "instead_of": "end_of_reasoning"}),
        rule(control={"like": rule({"entropy_above": 4.0}, temperature=0.5), "match": "positions"}),
    )
)
DECLARED = [
    compiled(policy(rule({"entropy_above": 1.5}, **{name: example})))
    for name, action in ACTIONS.items()
    for example in action.examples
]
PROGRAMS = [EVERYTHING, compiled(policy(rule({"at_most": 2}, observe={}))), *DECLARED, *(
    compiled(named.policy.model_dump(mode="json", exclude_unset=True))
    for named in library()
    if "count" not in named.match[:1]
)]  # fmt: skip


def logits_after(prefix: list[int], seed: int) -> Tensor:
    """A model: its logits are a function of the text alone."""
    last = (0, *prefix)[-3:]
    made = random_logits(SIZE, seed=seed + sum(one * (index + 7) for index, one in enumerate(last)), scale=2.0)
    made[END_THINK] += 2.0
    return made


def one_by_one(program: Program, stream: list[int], seed: int) -> list[tuple[Tensor, Record]]:
    """The logits and the record of each position of a text without speculation."""
    slots = PolicySlots(1, SIZE, CPU)
    slots.add(0, Request(program, seed=seed).payload(), 1.0, [])
    found = []
    for position in range(len(stream) + 1):
        after = logits_after(stream[:position], seed)[None]
        found.append((after, step(slots, [0], [position], stream[position - 1 : position] or [0], after)))
    return found


@pytest.mark.parametrize("program", range(len(PROGRAMS)))
def test_any_drafts_and_any_acceptance_give_the_result_of_single_steps(program: int) -> None:
    random, seed = np.random.default_rng(program), program
    likely = [token(one) for one in ("so", " so", "wait", " wait", "\n\n", "x", " but", "Wait", ".")]
    stream = [int(random.choice(likely)) for _ in range(24)]
    expected = one_by_one(PROGRAMS[program], stream, seed)
    slots = PolicySlots(3, SIZE, CPU, DEPTH)
    slots.add(1, Request(PROGRAMS[program], seed=seed).payload(), 1.0, [])
    committed = 0
    while committed <= len(stream) - DEPTH:
        drafts = int(random.integers(0, DEPTH))
        right = int(random.integers(0, drafts + 1))  # the number of drafts that the text continues with
        text = stream[: committed + right] + [token("y")] * (drafts - right)
        prefixes = [text[: committed + offset] for offset in range(drafts + 1)]
        after = torch.stack([logits_after(prefix, seed) for prefix in prefixes])
        last = [(prefix or [0])[-1] for prefix in prefixes]
        record = step(slots, [1] * (drafts + 1), [len(prefix) for prefix in prefixes], last, after)
        for offset in range(right + 1):
            wanted, recorded = expected[committed + offset]
            assert torch.equal(after[offset], wanted[0]), (committed, offset)
            assert torch.equal(record.numbers[offset], recorded.numbers[0])
            assert int(record.flags[offset]) == int(recorded.flags[0]) | (DRAFT if offset else 0)
        if random.random() < 0.2:
            continue  # evaluated again, as after a step that was not committed
        committed += right + 1
