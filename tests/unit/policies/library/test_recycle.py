"""`recycle` lets half of the thinking words in the reasoning take a second pass of its layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import matches_of
from forkpoint_policies.spec import Policy
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Record, Request, fired, random_logits
from tests.unit.policies.vocabularies import SIZE, TARGET, token

ENTRY = LIBRARY["recycle"]
SURE = ENTRY.use({"probability": 1.0})


def chosen(policy: Policy, text: str, region: int, seed: int = 0) -> list[int]:
    """The rules that fire where the token before is this."""
    slots = PolicySlots(1, SIZE, CPU)
    slots.add(0, Request(compile_policy(policy, TARGET).program, region=region, seed=seed).payload(), 1.0, [])
    for position, before in enumerate([[0], [token(text)]]):
        logits = random_logits(1, SIZE, seed=position)
        batch = Batch(
            torch.zeros(1, dtype=torch.int32), torch.tensor([position - 1]), torch.tensor(before), torch.zeros(1).int()
        )
        record = slots.step(batch, logits)
    return fired(Record.of(record, [0], 1))


@pytest.mark.parametrize(
    ("text", "is_thinking"), [("Wait", True), (" Wait", True), ("So", True), ("wait", False), ("x", False)]
)
@pytest.mark.parametrize("region", [Region.REASONING, Region.ANSWER])
def test_the_authors_words_in_the_reasoning(text: str, is_thinking: bool, region: int) -> None:
    assert chosen(SURE, text, region) == ([0] if is_thinking and region == Region.REASONING else [])


def test_half_of_them_by_chance() -> None:
    share = np.mean([chosen(ENTRY.policy, "Wait", Region.REASONING, seed) == [0] for seed in range(400)])
    assert 0.4 < share < 0.6


def test_the_authors_layer_and_one_pass_more_for_the_word() -> None:
    (rule,) = ENTRY.policy.rules
    (action,) = rule.do.model_dump(by_alias=True, exclude_none=True).values()
    assert action == {"layer": 23, "tokens": 1, "from": "here"}
    assert matches_of(ENTRY.policy) == ("positions",)
    assert ENTRY.use({"layer": 2}).rules[0].do.recycle.layer == 2  # type: ignore[union-attr]
